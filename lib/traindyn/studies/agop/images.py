"""Classes of images: the target's EGOP is not known, so the AGOP of a stronger model stands in its place.

The reference model is trained once, on all images of the classes that a set has for training and without flipped
labels, from a fixed seed: like the data it is no random draw of a run. A second one, of another kind, tells how much an
alignment depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from traindyn.compute import generator
from traindyn.learn import data
from traindyn.learn.models import FCN, Myrtle5
from traindyn.learn.train import fit
from traindyn.measure.agop import agop, alignment, baselines
from traindyn.studies.agop.training import Task, wrong

SHOWN = 1000  # images at which a reference's AGOP is taken


class Reference(NamedTuple):
    """A strong model's AGOP (d, d) and its accuracy on the test images."""

    G: Tensor
    accuracy: float


@lru_cache(maxsize=16)
def reference(name: str, classes: tuple[int, ...], side: int, kind: str, epochs: int, channels: int) -> Reference:
    """Train a strong model on all training images of some classes.

    Args:
        name, classes, side: of the images, as in `data.load`.
        kind: "myrtle5" (convolutional) or "fcn" (four layers of 256).
        epochs: of training, Adam at 2e-3, batches of 50.
        channels: of the convolutions.
    """
    images = data.load(
        name, classes=list(classes), labels=_labels(classes), size=side or None, dtype=torch.float32,
        flatten=kind == "fcn",
    )  # fmt: skip
    shape, outputs = images.X_train.shape[1:], 1 if len(classes) == 2 else len(classes)
    options = {"parameterization": "standard", "init": "he", "bias": "zero", "output_bias": "zero"}
    rng = generator(0, "init")
    if kind == "fcn":
        model = FCN(shape[0], 256, 4, outputs, generator=rng, **options)
    else:
        model = Myrtle5(tuple(shape), outputs, channels, generator=rng, **options)
    with torch.enable_grad():
        run = fit(
            model, images.X_train, images.y_train, optimizer="adam", lr=2e-3, batch_size=50,
            steps=epochs * (len(images.y_train) // 50), seeds=[0], progress=False,
        )  # fmt: skip
    best = run.models[0].eval()
    with torch.no_grad():
        missed = wrong(torch.cat([best(part) for part in images.X_test.split(500)]), images.y_test)
    return Reference(agop(best, images.X_train[:SHOWN]).double(), 1 - float(missed.double().mean()))


def _labels(classes: Sequence[int]) -> str:
    return "pm1" if len(classes) == 2 else "onehot"


def task(seed: int, size: Any, dtype: torch.dtype, scale: float = 1.0) -> Task:
    """Draw the samples of one seed; validation and test values are shares of wrong signs or classes.

    Args:
        seed: of the draw and of the flipped labels.
        size: attributes data, classes (two, or more: labels are then one of them in 1), side, n, n_val, n_test, flip
            (share of the training labels of two classes that are turned over), epochs, channels (of the reference).
        dtype: of everything.
        scale: of the labels -1 and 1.
    """
    found = data.load(
        size.data, classes=list(size.classes), n_train=size.n + size.n_val, n_test=size.n_test, seed=seed,
        labels=_labels(size.classes), size=size.side or None, flatten=True, dtype=dtype,
    )  # fmt: skip
    y = found.y_train[: size.n].clone()
    flips = torch.randperm(size.n, generator=generator(seed, "flips"))[: round(size.flip * size.n)]
    y[flips] *= -1
    first, second = (
        reference(size.data, tuple(size.classes), size.side, kind, size.epochs, size.channels)
        for kind in ("myrtle5", "fcn")
    )
    return Task(
        found.X_train[: size.n], scale * y, found.X_train[size.n :], scale * found.y_train[size.n :],
        found.X_test, scale * found.y_test, first.G.to(dtype), True, second.G.to(dtype),
    )  # fmt: skip


def references(size: Any) -> dict[str, float]:
    """Return what the strong models of a set are: accuracies, alignment with one another and of the identity matrix."""
    first, second = (
        reference(size.data, tuple(size.classes), size.side, kind, size.epochs, size.channels)
        for kind in ("myrtle5", "fcn")
    )
    return {
        "accuracy": first.accuracy,
        "accuracy_other": second.accuracy,
        "between": float(alignment(first.G, second.G)),
        "identity": baselines(first.G)["isotropic"],
    }
