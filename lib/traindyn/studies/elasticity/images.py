"""Smoothed local elasticity of small residual networks on images (Figures 1, 2 and 13)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from traindyn import losses
from traindyn.compute import float64_device, generator
from traindyn.evidence import table
from traindyn.learn import data
from traindyn.learn.data import Dataset
from traindyn.learn.models import ResNet, ResNet18, drawn
from traindyn.learn.train import Probe, Run, State, fit
from traindyn.measure import elasticity
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.elasticity.tables import per_seed


@dataclass(frozen=True)
class Experiment:
    """A figure's training runs: the data of every seed, the runs, and the smoothed elasticity as a tidy table."""

    images: dict[int, Dataset]
    run: Run
    frame: pd.DataFrame
    seeds: list[int]


def experiment(seeds: list[int], size: SimpleNamespace, dtype: torch.dtype, device: torch.device) -> Experiment:
    """Run one of Figures 1, 2 and 13.

    Args:
        seeds: one training run each, on an own draw of the images.
        size: data (name of the set), classes, side (images are resized to side x side), width, blocks, k, lr, batch,
            steps, every.
        dtype, device: of the training.
    """
    images = {seed: draw(size, seed, dtype, device) for seed in seeds}
    run = smoothed(seeds, size, images, dtype)
    return Experiment(images, run, tidy(run, seeds, size.classes), seeds)


def draw(size: SimpleNamespace, seed: int, dtype: torch.dtype, device: torch.device) -> Dataset:
    """Return the images of one seed: attributes data, classes and side of `size`."""
    return data.load(size.data, classes=size.classes, size=size.side, seed=seed, dtype=dtype, device=device)


def chosen_points(images: Dataset, k: int, seed: int, purpose: str = "chosen") -> tuple[Tensor, Tensor]:
    """Return k random training images of each class, sorted by class: shapes (C k, ...) and (C k,)."""
    shuffled = torch.randperm(len(images.y_train), generator=generator(seed, purpose)).to(images.y_train.device)
    classes = int(images.y_train.max()) + 1
    picked = torch.cat([shuffled[images.y_train[shuffled] == c][:k] for c in range(classes)])
    return images.X_train[picked], images.y_train[picked]


def network(size: SimpleNamespace, images: Dataset, out_dim: int = 3) -> ResNet:
    """Return the residual network without normalisation at this size: attributes `width` and `blocks`."""
    return ResNet(tuple(images.X_train.shape[1:]), out_dim, size.width, tuple(size.blocks))


def smoothed(seeds: list[int], size: SimpleNamespace, images: dict[int, Dataset], dtype: torch.dtype) -> Run:
    """Train on three classes and follow the smoothed elasticity of Definition 3 (limit of a small step).

    Args:
        seeds: one run each; a seed fixes images, initial weights, order and the k points of each class.
        size: width, blocks, k, lr, batch, steps, every.
        images: the data of every seed.
        dtype: precision of the training.

    Returns:
        The run; its arrays hold, for each of `elasticity.STATISTICS`, (run, time, C, C): row = class of x', column =
        sampled class. Its frame has `loss` and `test_accuracy`.
    """
    points = {seed: chosen_points(images[seed], size.k, seed) for seed in seeds}

    def watch(state: State) -> dict[str, Tensor]:
        x, y = points[state.seed]
        found = elasticity.s_rel_smoothed(*elasticity.kl_limit(state.model, x, x, y), classes=3)
        with torch.no_grad():
            own = images[state.seed]
            accuracy = (state.model(own.X_test).argmax(-1) == own.y_test).to(dtype).mean()
        return {"test_accuracy": accuracy} | {name: getattr(found, name) for name in elasticity.STATISTICS}

    return fit(
        network(size, images[seeds[0]]),
        lambda seed: (images[seed].X_train, images[seed].y_train),
        loss="cross_entropy",
        optimizer="adam",
        lr=size.lr,
        batch_size=size.batch,
        steps=size.steps,
        seeds=seeds,
        dtype=dtype,
        probes={"watch": Probe(watch, every=size.every)},
    )


def tidy(run: Run, seeds: list[int], classes: list[Any]) -> pd.DataFrame:
    """Return the smoothed elasticity as a table: seed, step, sampled class, class of x', kind, statistic, value."""
    rows = []
    times = np.asarray(run.times["off_diagonal"])
    for name in elasticity.STATISTICS:
        values = run.arrays[name]
        index = pd.MultiIndex.from_product(
            [seeds, times, classes, classes], names=["seed", "step", "class of x'", "sampled class"]
        )
        rows.append(pd.DataFrame({"statistic": name, "value": values.reshape(-1)}, index=index).reset_index())
    frame = pd.concat(rows, ignore_index=True)
    same = frame["class of x'"] == frame["sampled class"]
    return frame.assign(kind=np.where(same, "same class", "other class"))


def own_and_other(frame: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """Return one statistic of `tidy` as means over the same and over the other classes, by seed and step."""
    chosen = frame[frame["statistic"] == statistic]
    return chosen.groupby(["kind", "seed", "step"], sort=False, as_index=False)["value"].mean()


def joined(experiments: Mapping[str, Experiment]) -> pd.DataFrame:
    """Return the tables of several experiments as one, with a column `run` that names them."""
    return pd.concat([found.frame.assign(run=name) for name, found in experiments.items()], ignore_index=True)


def caption(what: str, size: SimpleNamespace, found: Experiment, statistic: str) -> str:
    """Return what one of the image figures draws, from the run itself."""
    names = ", ".join(str(c) for c in size.classes)
    return (
        f"{what}, here on {size.data} classes {names} at {size.side}x{size.side}: smoothed elasticity "
        f"({statistic.replace('_', ' ')} of the block, k = {size.k}) over training, one panel per sampled class. "
        f"Residual network of width {size.width} without normalisation, Adam at {size.lr:g}, batch {size.batch}; mean "
        f"and range over {len(found.seeds)} seeds, logarithmic scale."
    )


def printed_setup(batch: int, size: SimpleNamespace) -> dict[str, float]:
    """Build the network of the paper's tables and push one batch through it.

    Args:
        batch: its images;  size: their side and the network's outputs.

    Returns:
        `images_lost` (images of the batch without an output), `outputs` of each, number of `weights`, and of
        `normalisations` among its modules.
    """
    model = ResNet18((3, size.side, size.side), size.outputs, generator=generator(0, "printed setup"))
    with torch.no_grad():
        images, outputs = model(torch.zeros(batch, 3, size.side, size.side)).shape
    return {
        "images_lost": batch - images,
        "outputs": outputs,
        "weights": sum(p.numel() for p in model.parameters()),
        "normalisations": sum("Norm" in type(module).__name__ for module in model.modules()),
    }


def definition2_over_seeds(seeds: list[int], size: SimpleNamespace, device: torch.device) -> pd.DataFrame:
    """Return the readings of `definition2` and of Definition 3's identity at initial weights: evidence by seed.

    The networks, points and images are drawn for this purpose alone: no other run of a seed shares them.

    Args:
        seeds: one network and one choice of points each.
        size: data, classes, side, width, blocks, k, lr.
        device: where to compute.
    """
    device = float64_device(device)
    rows = []
    for seed in seeds:
        images = draw(size, seed, torch.float64, device)
        model = network(size, images).to(torch.float64)
        model.reset(generator(seed, "definition 2/init"))
        model = model.to(device)
        x, y = chosen_points(images, size.k, seed, "definition 2/chosen")
        blocks = elasticity.kl_limit(model, x, x, y)
        found = elasticity.s_rel_smoothed(*blocks, classes=3)
        block = {
            "identity_gap": diagonal_share(*blocks, classes=3),
            "mean_of_block": float(found.mean.diagonal().mean()),
            "without_diagonal": float(found.off_diagonal.diagonal().mean()),
        }
        rows.append({"seed": seed} | definition2(model, x, y, size.lr) | block)
    return table(pd.DataFrame(rows))


def gradient_independence(seeds: list[int], size: SimpleNamespace, device: torch.device) -> pd.DataFrame:
    """Return how far a sample's gradient depends on the rest of its batch, in float64: evidence by seed.

    Column `gradient_change`: `single_gradients_are_independent` of the chapter's network on its own images.
    """
    device = float64_device(device)
    changes = []
    for seed in seeds:
        images = draw(size, seed, torch.float64, device)
        model = drawn(network(size, images), seed, torch.float64, device)
        changes.append(single_gradients_are_independent(model, images.X_train[:8]))
    return per_seed(seeds, {"gradient_change": changes})


def definition2(model: nn.Module, x: Tensor, y: Tensor, lr: float) -> dict[str, float]:
    """Compare Definition 2 with its limit at one network, in float64.

    Returns:
        `gap`: median relative gap between S at step `lr` and its limit; `slope`: log-log slope of that gap over the
        steps lr/10, lr/100, lr/1000 (at lr itself ReLU gates flip); `self_gap`: largest |S(x, x) - 1|; `lowest_kl`:
        smallest divergence; `error32`: median relative error of the textbook sum of KL in float32.
    """
    limit = elasticity.s_rel_kl_limit(model, x, x, y)

    def gap(step: float) -> float:
        return float(((elasticity.s_rel_kl(model, x, x, y, step) - limit).abs() / limit).median())

    steps = [lr / 10**i for i in (1, 2, 3)]
    exact, own = elasticity.fictitious_kl(model, x, x, y, lr)
    return {
        "gap": gap(lr),
        "slope": loglog_slope(steps, [gap(step) for step in steps]).value,
        "self_gap": float((exact.diagonal() / own - 1).abs().max()),
        "lowest_kl": float(exact.min()),
        "error32": float(((textbook_kl(model, x, y, lr, torch.float32) - exact).abs() / exact).median()),
    }


def textbook_kl(model: nn.Module, x: Tensor, y: Tensor, lr: float, dtype: torch.dtype) -> Tensor:
    """Return KL(new, old) at every x after a step on every x by the textbook sum of p log(p/q), in precision `dtype`.

    Shape (k, k) as `elasticity.fictitious_kl`; one sample after the other, for comparison only.
    """
    low = copy.deepcopy(model).to(dtype)
    x = x.to(dtype)
    with torch.no_grad():
        old = low(x).log_softmax(-1)
    columns = []
    for point, label in zip(x, y, strict=True):
        moved = copy.deepcopy(low)
        losses.value("cross_entropy", moved(point[None]), label[None]).backward()
        with torch.no_grad():
            for p in moved.parameters():
                p -= lr * p.grad
            new = moved(x).log_softmax(-1)
        columns.append((new.exp() * (new - old)).sum(-1))
    return torch.stack(columns, 1)


def diagonal_share(at_points: Tensor, own: Tensor, classes: int) -> float:
    """Return how far a same-class block mean minus its off-diagonal mean is from (1 - off-diagonal mean) / k."""
    found = elasticity.s_rel_smoothed(at_points, own, classes)
    k = len(own) // classes
    gap = found.mean - found.off_diagonal - (1 - found.off_diagonal) / k
    return float(gap.diagonal().abs().max())


def single_gradients_are_independent(model: nn.Module, x: Tensor) -> float:
    """Return the largest change of one sample's gradient when the rest of its batch is replaced."""

    def first_gradient(batch: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(model(batch)[0].sum(), list(model.parameters())))

    changed = first_gradient(torch.cat([x[:1], 3 * x[1:].flip(0)]))
    return max(float((a - b).abs().max()) for a, b in zip(first_gradient(x), changed, strict=True))


def accuracies(seeds: list[int], size: SimpleNamespace, dtype: torch.dtype, device: torch.device) -> pd.DataFrame:
    """Train on all classes and on three classes of each set; return test accuracies (Appendix C.2).

    Args:
        seeds: one run each.
        size: `data` (names of sets), `classes` (three of each set), side, width, blocks, lr, batch, epochs.
        dtype, device: of the training.

    Returns:
        Columns: data, classes ("all" or "three"), seed, accuracy (in percent).
    """
    rows = []
    for name, three in zip(size.data, size.classes, strict=True):
        for label, classes in (("all", None), ("three", three)):
            images = {
                seed: data.load(name, classes=classes, size=size.side, seed=seed, dtype=dtype, device=device)
                for seed in seeds
            }
            first = images[seeds[0]]
            run = fit(
                network(size, first, int(first.y_train.max()) + 1),
                lambda seed, images=images: (images[seed].X_train, images[seed].y_train),
                loss="cross_entropy",
                optimizer="adam",
                lr=size.lr,
                batch_size=size.batch,
                steps=size.epochs * (len(first.y_train) // size.batch),
                seeds=seeds,
                dtype=dtype,
            )
            for seed, model in zip(seeds, run.models, strict=True):
                with torch.no_grad():
                    hits = (model(images[seed].X_test).argmax(-1) == images[seed].y_test).double().mean()
                rows.append({"data": name, "classes": label, "seed": seed, "accuracy": 100 * float(hits)})
    return pd.DataFrame(rows, columns=["data", "classes", "seed", "accuracy"])
