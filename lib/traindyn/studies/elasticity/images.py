"""Smoothed local elasticity of residual networks on images (Figures 1, 2 and 13), by five readings of Definition 2."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn import files
from traindyn.compute import generator
from traindyn.learn import data
from traindyn.learn.data import Dataset
from traindyn.learn.models import ResNet
from traindyn.learn.train import Probe, State, fit
from traindyn.measure import elasticity
from traindyn.measure.curves import log_steps
from traindyn.studies.elasticity import variants

STATISTICS = ("off_diagonal", "median", "ratio_of_means")
COLUMNS = ["seed", "step", "variant", "statistic", "class of x'", "sampled class", "value", "kind"]


@dataclass(frozen=True)
class Experiment:
    """A figure's training runs.

    Attributes:
        frame: smoothed elasticity: columns `COLUMNS`; empty if the data set is not here.
        curves: columns `CURVES`: test accuracy, and what `spread` returns.
        seeds: of the runs.
        samples: number of training images, 0 if the set is not here.
    """

    frame: pd.DataFrame
    curves: pd.DataFrame
    seeds: list[int]
    samples: int


def experiment(
    seeds: list[int],
    size: SimpleNamespace,
    dtype: torch.dtype,
    device: torch.device,
    keep: str | Path | None = None,
) -> Experiment:
    """Run one of Figures 1, 2 and 13: train on three classes and follow the smoothed elasticity of Definition 3.

    Args:
        seeds: one training run each, on an own draw of images, with own weights, batches and points.
        size: data (name of the set), optional (go on without it), classes, side (images are resized to side x side),
            per_class and n_test (images, None: all), width, blocks, stem, init, k, lr, weight_decay, batch, steps,
            looks (intervals of the logarithmic grid of times), stride (every how many looks all variants are taken),
            sampled (points of each class that the variants step on).
        dtype, device: of the training.
        keep: a folder in which a seed that is done, and a training under way, outlive the process; None: nowhere.
    """
    if getattr(size, "optional", False) and not data.present(size.data):
        return Experiment(pd.DataFrame(columns=COLUMNS), pd.DataFrame(columns=CURVES), seeds, 0)
    pieces, samples = [], 0
    for seed in seeds:
        images = draw(size, seed, dtype, device)
        samples = len(images.y_train)
        pieces.append(kept(seed, size, images, dtype, None if keep is None else Path(keep)))
    frame = pd.concat([frame for frame, _ in pieces], ignore_index=True)
    return Experiment(frame, pd.concat([curve for _, curve in pieces], ignore_index=True), seeds, samples)


CURVES = ["seed", "step", "test_accuracy", "own_median", "own_least", "other_median", "largest"]


def kept(
    seed: int, size: SimpleNamespace, images: Dataset, dtype: torch.dtype, keep: Path | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of one seed, from `keep` if it was finished there, else from `followed`, kept when done."""
    if keep is None:
        return followed(seed, size, images, dtype, None)
    name = files.content_key({}, vars(size), str(dtype), seed)[:16]  # two figures may share a data set
    place, under_way = keep / f"{size.data}-{name}.json", keep / f"{size.data}-{name}"
    if place.is_file():
        found = files.read_json(place)
        return tuple(pd.DataFrame(table).replace("inf", np.inf) for table in (found["frame"], found["curves"]))
    frame, curves = followed(seed, size, images, dtype, under_way)
    files.write_json(place, {"frame": frame.to_dict("list"), "curves": curves.to_dict("list")})
    shutil.rmtree(under_way, ignore_errors=True)
    return frame, curves


def draw(size: SimpleNamespace, seed: int, dtype: torch.dtype, device: torch.device) -> Dataset:
    """Return the images of one seed: attributes data, classes, side of `size`, and per_class and n_test if given."""
    per_class = getattr(size, "per_class", None)
    return data.load(
        size.data,
        classes=size.classes,
        n_train=None if per_class is None else per_class * len(size.classes),
        n_test=getattr(size, "n_test", None),
        size=size.side,
        seed=seed,
        dtype=dtype,
        device=device,
    )


def chosen_points(images: Dataset, k: int, seed: int, purpose: str = "chosen") -> tuple[Tensor, Tensor]:
    """Return k random training images of each class, sorted by class: shapes (C k, ...) and (C k,)."""
    shuffled = torch.randperm(len(images.y_train), generator=generator(seed, purpose)).to(images.y_train.device)
    classes = int(images.y_train.max()) + 1
    picked = torch.cat([shuffled[images.y_train[shuffled] == c][:k] for c in range(classes)])
    return images.X_train[picked], images.y_train[picked]


def network(size: SimpleNamespace, images: Dataset, out_dim: int = 3) -> ResNet:
    """Return the residual network without normalisation at this size: width, blocks, stem and init."""
    init = getattr(size, "init", "torch")
    return ResNet(
        tuple(images.X_train.shape[1:]),
        out_dim,
        size.width,
        tuple(size.blocks),
        stem=getattr(size, "stem", "3x3"),
        init=init,
        output_init="torch",
    )


def followed(
    seed: int, size: SimpleNamespace, images: Dataset, dtype: torch.dtype, checkpoint: Path | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train one seed and return its smoothed elasticity (columns `COLUMNS`) and its accuracy (`CURVES`).

    Args:
        seed: it fixes weights, order of batches and the k points of each class.
        size: as in `experiment`;  images: of this seed;  dtype: of the training.
        checkpoint: folder of `fit`.
    """
    x, y = chosen_points(images, size.k, seed)
    count = len(size.classes)
    sampled = torch.cat([torch.arange(c * size.k, c * size.k + min(size.sampled, size.k)) for c in range(count)])
    times = log_steps(size.steps, size.looks)

    def limit(state: State) -> dict[str, Tensor]:
        found = variants.limits(state.model, x, y)
        blocks = {name: elasticity.s_rel_smoothed(*forms, classes=count) for name, forms in found.items()}
        with torch.no_grad():
            accuracy = (state.model(images.X_test).argmax(-1) == images.y_test).to(dtype).mean()
        scalars = {"test_accuracy": accuracy, **spread(*found["limit"], y)}
        wanted = [("limit", name) for name in STATISTICS] + [(name, STATISTICS[0]) for name in variants.WITHOUT_LABEL]
        return scalars | {f"{name}/{statistic}": getattr(blocks[name], statistic) for name, statistic in wanted}

    def steps(state: State) -> dict[str, Tensor]:
        found = variants.ratios(*variants.stepped(state.model, x, y, sampled, size.lr))
        return {
            f"{name}/{statistic}": block
            for name, ratio in found.items()
            for statistic, block in variants.class_blocks(ratio, y, sampled, count).items()
        }

    run = fit(
        network(size, images, count),
        images.X_train,
        images.y_train,
        loss="cross_entropy",
        optimizer={"name": "adam", "weight_decay": getattr(size, "weight_decay", 0.0)},
        lr=size.lr,
        batch_size=size.batch,
        steps=size.steps,
        seeds=[seed],
        dtype=dtype,
        probes={
            "limit": Probe(limit, every=0, at=times),
            "steps": Probe(steps, every=0, at=times[:: size.stride]),
        },
        record=0,
        checkpoint=checkpoint,
    )
    curves = run.frame.dropna(subset=["test_accuracy"])[CURVES].reset_index(drop=True)
    return tidy(run.arrays, run.times, seed, size.classes), curves


def spread(at_points: Tensor, own: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return how large the two sides of the ratio S are: divergences in units of half the squared step.

    Args:
        at_points: at point i after a step on point j, (n, n);  own: at the sampled point itself, (n,);  y: classes.

    Returns:
        `own_median` and `own_least` (over the sampled points), `other_median` (over pairs of different classes) and
        `largest` (S over all pairs).
    """
    other = y[:, None] != y[None, :]
    return {
        "own_median": own.median(),
        "own_least": own.min(),
        "other_median": at_points[other.to(at_points.device)].median(),
        "largest": (at_points / own).max(),
    }


def tidy(
    arrays: Mapping[str, np.ndarray], times: Mapping[str, np.ndarray], seed: int, classes: list[Any]
) -> pd.DataFrame:
    """Return the blocks of one run, named "variant/statistic", (1, time, C, C) each, as a table of `COLUMNS`."""
    rows = []
    for name, values in sorted(arrays.items()):  # a training that goes on may have them in another order
        variant, statistic = name.split("/")
        index = pd.MultiIndex.from_product(
            [[seed], np.asarray(times[name]), classes, classes], names=["seed", "step", "class of x'", "sampled class"]
        )
        values = values.reshape(-1).astype(np.float64)
        rows.append(
            pd.DataFrame({"value": values}, index=index).reset_index().assign(variant=variant, statistic=statistic)
        )
    frame = pd.concat(rows, ignore_index=True)
    same = frame["class of x'"] == frame["sampled class"]
    return frame.assign(kind=np.where(same, "same class", "other class"))[COLUMNS]


def own_and_other(frame: pd.DataFrame, statistic: str, variant: str = "limit") -> pd.DataFrame:
    """Return one statistic as geometric means over the same and over the other classes, by seed and step."""
    chosen = frame[(frame["statistic"] == statistic) & (frame["variant"] == variant)]
    grouped = np.log(chosen.set_index(["kind", "seed", "step"])["value"]).groupby(level=[0, 1, 2], sort=False)
    return np.exp(grouped.mean()).reset_index()


def by_variant(frame: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """Return `own_and_other` of every variant, with a column that names it."""
    known = [name for name in variants.VARIANTS if (frame["variant"] == name).any()]
    parts = [own_and_other(frame, statistic, name).assign(variant=name) for name in known]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["variant", "kind", "seed", "step"])


def of_limit(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the deciding variant, the limit of a small step."""
    return frame[frame["variant"] == "limit"]


def joined(experiments: Mapping[str, Experiment]) -> pd.DataFrame:
    """Return the tables of several experiments as one, with a column `run` that names them."""
    return pd.concat([found.frame.assign(run=name) for name, found in experiments.items()], ignore_index=True)


def caption(what: str, size: SimpleNamespace, found: Experiment, statistic: str) -> str:
    """Return what one of the image figures draws, from the run itself."""
    return (
        f"{what}, here on {_told(size, found)}: smoothed elasticity of Definition 2 in its small-step limit "
        f"({statistic.replace('_', ' ')} of the block, k = {size.k}) over training, one panel per sampled class. "
        f"Adam at {size.lr:g}, batch {size.batch}; geometric mean and range over {len(found.seeds)} seeds, logarithmic "
        "scales."
    )


def variants_caption(size: SimpleNamespace, found: Experiment) -> str:
    """Return what a figure of the five readings draws, from the run itself."""
    return (
        f"Same-class and other-class elasticity by five readings of Definition 2 on {_told(size, found)}; geometric "
        f"mean and range over {len(found.seeds)} seeds. (c) to (e) after one step of a fresh Adam of size {size.lr:g}, "
        f"(b) to (e) on {size.sampled} sampled points of each class; dotted: 1."
    )


def archived_caption(size: SimpleNamespace, table: pd.DataFrame) -> str:
    """Return what `variants_caption` says, of an archived run: its sizes and its table of `by_variant`."""
    classes = ", ".join(map(str, size.classes))
    return (
        f"The archived run: {size.data}, classes {classes}, ResNet-18 without normalisation ({size.stem} stem), "
        f"{size.steps} steps of batch {size.batch}; geometric mean and range over {table['seed'].nunique()} seeds. "
        f"(c) to (e) after one step of a fresh Adam of size {size.lr:g}; dotted: 1."
    )


def _told(size: SimpleNamespace, found: Experiment) -> str:
    """Return data and network of an experiment in words."""
    names = ", ".join(str(c) for c in size.classes)
    if not found.samples:
        return f"{size.data}, which is not here"
    return (
        f"{size.data} classes {names} at {size.side}x{size.side} ({found.samples} training images), a residual network "
        f"of width {size.width} without normalisation"
    )
