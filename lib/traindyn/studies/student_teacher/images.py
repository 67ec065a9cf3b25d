"""Convolutional students of a convolutional teacher on images (Figure 8), with the baselines a maximum needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from traindyn.compute import generator
from traindyn.evidence import checked
from traindyn.layers import Activation, Conv, Linear, activations
from traindyn.learn import data
from traindyn.learn.data import Dataset
from traindyn.learn.models import Network
from traindyn.learn.train import Probe, State, fit
from traindyn.measure import teacher as measure

SUBSETS = 20  # random sub-samples of a wide student's nodes


class ConvNet(Network):
    """3x3 convolutions without padding, a ReLU after each, and a linear top on all positions; torch's initial law.

    Args:
        side: of the square images.
        channels_in: of the images.
        channels: of each convolution.
        out_dim: number of outputs.
    """

    def __init__(self, side: int, channels_in: int, channels: Sequence[int], out_dim: int) -> None:
        super().__init__()
        common = {"parameterization": "standard", "init": "torch", "bias": "torch"}
        layers: list[nn.Module] = []
        for before, after in zip([channels_in, *channels], channels, strict=False):
            layers += [Conv(before, after, 3, padding=0, **common), Activation("relu")]
        positions = (side - 2 * len(channels)) ** 2
        self.layers = nn.Sequential(*layers, nn.Flatten(), Linear(positions * channels[-1], out_dim, **common))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, side, side) to (n, out_dim)."""
        return self.layers(x)


class Standardized(nn.Module):
    """A network whose outputs are shifted and scaled to mean 0 and variance 1 on given inputs."""

    def __init__(self, net: nn.Module, X: Tensor) -> None:
        super().__init__()
        self.net = net
        with torch.no_grad():
            out = net(X)
        self.shift, self.scale = out.mean(0), out.std(0)

    def forward(self, x: Tensor) -> Tensor:
        """Return the standardised outputs."""
        return (self.net(x) - self.shift) / self.scale


def train_teachers(seeds: Sequence[int], sets: Mapping[int, Dataset], size: Any) -> list[tuple[nn.Module, float]]:
    """Train a teacher on the labels of each set; return it with standardised outputs, and its test accuracy.

    Args:
        seeds: of the teachers, which start from a stream of their own: a 1x student's start is another one.
        sets: one per seed.
        size: channels, batch, teacher_steps.
    """
    shape = sets[seeds[0]]
    classes = int(shape.y_train.max()) + 1

    def start(seed: int) -> nn.Module:
        net = ConvNet(shape.X_train.shape[-1], shape.X_train.shape[1], size.channels, classes)
        net.to(shape.X_train.dtype).reset(generator(seed, "teacher"))
        return net

    run = fit(
        start, lambda seed: (sets[seed].X_train, sets[seed].y_train), loss="cross_entropy", optimizer="adam",
        lr=2e-3, batch_size=size.batch, steps=size.teacher_steps, seeds=seeds, progress=False,
    )  # fmt: skip
    found = []
    for seed, net in zip(seeds, run.models, strict=True):
        with torch.no_grad():
            right = net(sets[seed].X_test).argmax(1) == sets[seed].y_test
        found.append((Standardized(net, sets[seed].X_train), float(right.double().mean())))
    return found


def experiment(
    seeds: Sequence[int], size: Any, dtype: torch.dtype, device: torch.device | str
) -> tuple[pd.DataFrame, list[float]]:
    """Train students of several widths on the teacher's standardised outputs; images and teacher are the seed's own.

    Args:
        seeds: one set of images, one teacher and one student of each width per seed.
        size: data, n_train, n_test, channels (of the teacher), factors, batch, lr, steps, teacher_steps, every.
        dtype, device: of the training.

    Returns:
        A tidy frame: seed, width, step, layer, `rho` (mean over teacher channels of the best student correlation),
        `thinned` (the same with random sub-samples of the student's channels down to the teacher's number), `mse`,
        `accuracy` (test); the teachers' accuracies.
    """
    common = {"n_train": size.n_train, "n_test": size.n_test, "dtype": dtype, "device": device}
    sets = {seed: data.load(size.data, seed=seed, **common) for seed in seeds}
    trained = train_teachers(seeds, sets, size)
    teachers = {seed: net for seed, (net, _) in zip(seeds, trained, strict=True)}
    with torch.no_grad():
        y = {seed: net(sets[seed].X_train) for seed, net in teachers.items()}
        y_test = {seed: net(sets[seed].X_test) for seed, net in teachers.items()}
    hidden = {seed: [_columns(f) for f in _hidden(net, sets[seed].X_test)] for seed, net in teachers.items()}

    def look(state: State) -> dict[str, Tensor]:
        found, teacher = sets[state.seed], teachers[state.seed]
        out = state.predict(found.X_test)
        raw = out * teacher.scale + teacher.shift
        numbers = {
            "mse": (out - y_test[state.seed]).square().mean(),
            "accuracy": (raw.argmax(1) == found.y_test).double().mean(),
        }
        f = [_columns(part) for part in _hidden(state.model, found.X_test)]
        for depth, (ours, theirs) in enumerate(zip(f, hidden[state.seed], strict=True), 1):
            rho = measure.correlate(ours, theirs)
            numbers |= {f"rho_{depth}": rho.amax(0).mean(), f"thinned_{depth}": thinned(rho, state.seed)}
        return numbers

    shape, outputs, rows = sets[seeds[0]].X_train.shape, y[seeds[0]].shape[1], []
    for factor in size.factors:
        run = fit(
            ConvNet(shape[-1], shape[1], [factor * c for c in size.channels], outputs),
            lambda seed: (sets[seed].X_train, y[seed]), loss="mse_entries", optimizer="momentum", lr=size.lr,
            batch_size=size.batch, steps=size.steps, seeds=seeds, progress=False,
            probes={"look": Probe(look, every=size.every)},
        )  # fmt: skip
        table = run.frame.dropna(subset=["mse"])
        for depth in range(1, len(size.channels) + 1):
            named = {f"rho_{depth}": "rho", f"thinned_{depth}": "thinned"}
            part = table[["seed", "step", *named, "mse", "accuracy"]].rename(columns=named)
            rows.append(part.assign(width=f"{factor}x", layer=depth))
    return pd.concat(rows, ignore_index=True), [accuracy for _, accuracy in trained]


def _hidden(model: nn.Module, X: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return activations(model, X)


def _columns(f: Tensor) -> Tensor:
    """Return (samples * positions, channels)."""
    return f.movedim(1, -1).flatten(0, -2)


def thinned(rho: Tensor, seed: int) -> Tensor:
    """Return the mean best correlation over random subsets of as many students as there are teachers, averaged."""
    k, m = rho.shape
    draw = generator(seed, "subsets")
    sets = torch.stack([torch.randperm(k, generator=draw)[:m] for _ in range(SUBSETS)]).to(rho.device)
    return rho[sets].amax(1).mean()


def contrasts(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """Return how much students have gained, and the widest against the 1x one.

    Args:
        frame: of `experiment`.

    Returns:
        Per seed, width and layer: `rho_start`, `rho_end`; per seed and layer, widest minus 1x: `gain` (of the trained
        gain of `thinned`), `start`, `final` (of rho before and after training); per seed, widest minus 1x after
        training: `mse`, `accuracy`.
    """
    frame = frame.assign(width=frame["width"].str.rstrip("x").astype(int))
    rows = frame.set_index(["seed", "width", "layer"])
    first, last = (rows[rows["step"] == step].drop(columns="step") for step in (0, frame["step"].max()))
    wide, narrow = frame["width"].max(), 1

    def contrast(column: pd.Series) -> pd.Series:
        return column.xs(wide, level="width") - column.xs(narrow, level="width")

    by_layer = {
        "gain": contrast(last["thinned"] - first["thinned"]),
        "start": contrast(first["rho"]),
        "final": contrast(last["rho"]),
    }
    top = last.xs(1, level="layer")
    ends = {name: contrast(top[name]) for name in ("mse", "accuracy")}
    grown = pd.DataFrame({"rho_start": first["rho"], "rho_end": last["rho"]})
    return [checked(grown), checked(pd.DataFrame(by_layer)), checked(pd.DataFrame(ends))]
