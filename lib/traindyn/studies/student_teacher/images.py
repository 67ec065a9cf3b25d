"""Convolutional students of a convolutional teacher on images (Figure 8), with the baselines a maximum needs."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from traindyn.compute import generator
from traindyn.layers import Activation, Conv, Linear, activations
from traindyn.learn import data
from traindyn.learn.data import Dataset
from traindyn.learn.models import Network
from traindyn.learn.train import Probe, State, fit
from traindyn.measure import teacher as measure

APART = (
    50_000  # between a student's seed and its teacher's: the same seed would start a 1x student at the teacher's start
)
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


def images(size: SimpleNamespace, dtype: torch.dtype, device: torch.device | str) -> Dataset:
    """Load the images of one experiment."""
    return data.load(size.data, n_train=size.n_train, n_test=size.n_test, dtype=dtype, device=device)


def train_teacher(seed: int, found: Dataset, size: SimpleNamespace) -> tuple[nn.Module, float]:
    """Train a teacher on the labels; return it with standardised outputs, and its test accuracy."""
    side, channels_in = found.X_train.shape[-1], found.X_train.shape[1]
    classes = int(found.y_train.max()) + 1
    run = fit(
        ConvNet(side, channels_in, size.channels, classes),
        found.X_train,
        found.y_train,
        loss="cross_entropy",
        optimizer="adam",
        lr=2e-3,
        batch_size=size.batch,
        steps=size.teacher_steps,
        seeds=[seed + APART],
        progress=False,
    )
    net = run.models[0]
    with torch.no_grad():
        accuracy = float((net(found.X_test).argmax(1) == found.y_test).double().mean())
    return Standardized(net, found.X_train), accuracy


def experiment(
    seeds: Sequence[int], size: SimpleNamespace, dtype: torch.dtype, device: torch.device | str
) -> tuple[pd.DataFrame, Dataset, list[float]]:
    """Train students of several widths on the teacher's standardised outputs, one teacher per seed.

    Args:
        seeds: one teacher and one student of each width per seed.
        size: data, n_train, n_test, channels (of the teacher), factors, batch, lr, steps, teacher_steps, every.
        dtype, device: of the training.

    Returns:
        A tidy frame: seed, width, step, layer, `rho` (mean over teacher channels of the best student correlation),
        `thinned` (the same with random sub-samples of the student's channels down to the teacher's number), `mse`,
        `accuracy` (test); the images; the teachers' accuracies.
    """
    found = images(size, dtype, device)
    side, channels_in = found.X_train.shape[-1], found.X_train.shape[1]
    rows, accuracies = [], []
    for seed in seeds:
        teacher, accuracy = train_teacher(seed, found, size)
        accuracies.append(accuracy)
        with torch.no_grad():
            y, y_test = teacher(found.X_train), teacher(found.X_test)
        hidden = [_columns(f) for f in _hidden(teacher, found.X_test)]
        for factor in size.factors:
            widths = [factor * c for c in size.channels]
            model = ConvNet(side, channels_in, widths, y.shape[1])

            def look(state: State, hidden: list[Tensor] = hidden, y_test: Tensor = y_test, seed: int = seed) -> dict:
                out = state.predict(found.X_test)
                f = [_columns(part) for part in _hidden(state.model, found.X_test)]
                numbers = {"mse": (out - y_test).square().mean()}
                raw = out * teacher.scale + teacher.shift  # noqa: B023  the teacher of this seed
                numbers["accuracy"] = (raw.argmax(1) == found.y_test).double().mean()
                for depth, (ours, theirs) in enumerate(zip(f, hidden, strict=True), 1):
                    rho = measure.correlate(ours, theirs)
                    numbers[f"rho_{depth}"] = rho.amax(0).mean()
                    numbers[f"thinned_{depth}"] = thinned(rho, seed)
                return numbers

            run = fit(
                model, found.X_train, y, loss="mse_entries", optimizer={"name": "momentum"}, lr=size.lr,
                batch_size=size.batch, steps=size.steps, seeds=[seed], progress=False,
                probes={"look": Probe(look, every=size.every)},
            )  # fmt: skip
            table = run.frame.dropna(subset=["mse"])
            for depth in range(1, len(widths) + 1):
                rows.append(
                    pd.DataFrame(
                        {
                            "seed": seed, "width": f"{factor}x", "step": table["step"], "layer": depth,
                            "rho": table[f"rho_{depth}"], "thinned": table[f"thinned_{depth}"],
                            "mse": table["mse"], "accuracy": table["accuracy"],
                        }
                    )
                )  # fmt: skip
    return pd.concat(rows, ignore_index=True), found, accuracies


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


def contrasts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return per seed the widest student against the 1x one.

    Returns:
        Columns: seed; `layer_<l>`: final rho, widest minus 1x; `start_<l>`: the same at step 0; `gain_<l>`: trained
        gain (end minus start) of the thinned widest student minus that of 1x; `mse`, `accuracy`: differences at the
        end; `rises`: smallest trained gain of rho over layers and widths.
    """
    wide = frame["width"].iloc[-1]
    rows = []
    for seed, part in frame.groupby("seed"):
        ends = part[part["step"].isin([0, part["step"].max()])].set_index(["width", "layer", "step"])
        last = part["step"].max()
        row = {"seed": seed}
        for depth in part["layer"].unique():
            big, small = ends.loc[(wide, depth)], ends.loc[("1x", depth)]
            row[f"layer_{depth}"] = big.loc[last, "rho"] - small.loc[last, "rho"]
            row[f"start_{depth}"] = big.loc[0, "rho"] - small.loc[0, "rho"]
            gains = [side.loc[last, "thinned"] - side.loc[0, "thinned"] for side in (big, small)]
            row[f"gain_{depth}"] = gains[0] - gains[1]
        for name in ("mse", "accuracy"):
            row[name] = ends.loc[(wide, 1, last), name] - ends.loc[("1x", 1, last), name]
        final, first = (ends.xs(step, level="step")["rho"] for step in (last, 0))
        row["rises"] = float((final - first).min())
        rows.append(row)
    return pd.DataFrame(rows)


def quorum(passed: np.ndarray) -> list[bool]:
    """Return booleans over seeds from a boolean table (seeds, layers): every layer has to pass."""
    return passed.all(axis=1).tolist()
