"""From tidy tables of the studies to evidence: one slope per seed and case, counts of exceptions, extremes."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd

from traindyn.evidence import table
from traindyn.studies.linearity.lemmas import BLOCKS
from traindyn.studies.linearity.orders import slopes


def bottlenecks(found: pd.DataFrame) -> pd.DataFrame:
    """Return one slope per seed, kind of parents and number of bottlenecks."""
    return slopes(found, ["parents", "b"])


def preactivations(found: pd.DataFrame) -> list[pd.DataFrame]:
    """Return slopes for layer 2, and per seed the largest norm met in layer 1."""
    flat = found.groupby("seed")["layer 1"].max().rename("flat").to_frame()
    return [slopes(found, y="layer 2"), flat]


def nonlinear(found: pd.DataFrame) -> pd.DataFrame:
    """Return slopes per seed and kind of output."""
    tidy = pd.concat([found.assign(norm=found[name], output=name) for name in ("linear", "tanh")])
    return slopes(tidy, ["output"])


def bent_training(found: pd.DataFrame) -> pd.DataFrame:
    """Return the final loss over its start per seed and width."""
    return table(found[["seed", "width", "final"]].rename(columns={"final": "trained"}), ["width"])


def outputs(found: pd.DataFrame, outputs: int) -> list[pd.DataFrame]:
    """Return slopes of the tensor's norm, and per seed its extremes over the largest single norm."""
    grouped = found.groupby("seed")["over"]
    extremes = pd.DataFrame({"lowest": grouped.min(), "highest": grouped.max()})
    extremes["sharper"] = extremes["highest"] / outputs**0.5
    extremes["printed"] = extremes["highest"] / outputs
    return [slopes(found), extremes]


def remainders(found: pd.DataFrame, radii: Sequence[float]) -> list[pd.DataFrame]:
    """Return slopes of the worst remainder per radius, of the random one, and the largest error of the identity."""
    tidy = pd.concat([found.assign(norm=found[f"worst {r:g}"], radius=float(r)) for r in radii])
    chance = slopes(found, y=f"random {radii[0]:g}", name="chance")
    return [slopes(tidy, ["radius"]), chance, found.groupby("seed")[["identity"]].max()]


def derivatives(found: pd.DataFrame) -> pd.DataFrame:
    """Return slopes of the spectral and Frobenius norms per layer."""
    return slopes(found, ["layer"], "spectral", name="spectral").join(
        slopes(found, ["layer"], "frobenius", name="frobenius")
    )


def curvature_blocks(found: pd.DataFrame) -> list[pd.DataFrame]:
    """Return slopes of the blocks' norms and of the matrix variances, and the largest norm of the last block."""
    tidy = [found.assign(norm=found[f"block {a} {b}"], block=f"{a}{b}") for a, b in BLOCKS[:-1]]
    variances = [name for name in found if name.startswith("variance")]
    other = [found.assign(norm=found[name], of=name.removeprefix("variance ").replace(" ", "")) for name in variances]
    last = found.groupby("seed")["block 3 3"].max().rename("last").to_frame()
    return [slopes(pd.concat(tidy), ["block"]), slopes(pd.concat(other), ["of"], name="variance"), last]


def sizes_of_neurons(found: pd.DataFrame) -> list[pd.DataFrame]:
    """Return slopes of the quotients of pre-activations per layer, and of those of |f_S| beyond the first layer."""
    start, ball = (slopes(found, ["layer"], name, name=name) for name in ("start", "ball"))
    return [start.join(ball), slopes(found[found["layer"] > 1], ["layer"], "length", name="length")]


def kernel_change(rows: pd.DataFrame, start: int) -> pd.DataFrame:
    """Return the slope of the kernel's change from a width on, per seed."""
    return slopes(rows[rows["width"] >= start], y="change", name="change")


def variants(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the slope of the kernel's change per seed and setting."""
    return slopes(rows, ["setting"], "change", name="variant")


def reached(rows: pd.DataFrame, scan: pd.DataFrame) -> pd.DataFrame:
    """Return per seed and width whether some rate took the loss to the stop (`reached`), narrow and wide networks."""
    narrow = scan.groupby(["seed", "width"])["steps"].min()
    wide = rows[rows["seed"].isin(scan["seed"])].groupby(["seed", "width"])["steps"].min()
    steps = pd.concat([narrow, wide])
    return table(np.isfinite(steps).rename("reached").reset_index(), ["width"])


def ball(rows: pd.DataFrame, start: int) -> list[pd.DataFrame]:
    """Return the slope of the distance from the start, and per seed and width the stop and the contraction bound."""
    distance = slopes(rows[rows["width"] >= start], y="moved", name="distance")
    names = {"final": "ended", "least": "eigenvalue", "pl": "quotient"}
    kept = rows[["seed", "width", "bound", *names]].rename(columns=names)
    return [distance, table(kept.assign(bound=np.exp(kept["bound"])), ["width"])]


def eigenvalue(found: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the slope of the least eigenvalue's change, and the lowest one at the largest width, per seed."""
    last = found[found["width"] == found["width"].max()].set_index("seed")[["lowest"]]
    return [slopes(found, y="moved"), last]


def merged(size: SimpleNamespace, other: SimpleNamespace) -> SimpleNamespace:
    """Return the sizes of one experiment with those of another on top."""
    return SimpleNamespace(**{**dict(size), **dict(other)})


def kinks(found: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the slope of ReLU's largest remainder, and per seed its least value over the widths."""
    return [slopes(found, y="relu"), found.groupby("seed")[["relu"]].min().rename(columns={"relu": "gap"})]


def worst(found: pd.DataFrame) -> pd.DataFrame:
    """Return the slope of the kernel's change in the worst direction found, per seed."""
    return slopes(found, y="change", name="worst")


def over_widths(rows: pd.DataFrame, scan: pd.DataFrame) -> pd.DataFrame:
    """Return the kernel's change of the runs that reached the stop: wide ones, narrow ones at their fastest rate."""
    done = scan[np.isfinite(scan["steps"])].sort_values("steps").drop_duplicates(["seed", "width"])
    wide = rows[np.isfinite(rows["steps"])]
    return pd.concat([done[["seed", "width", "change"]], wide[["seed", "width", "change"]]], ignore_index=True)


def headline(curved: pd.DataFrame, skips: pd.DataFrame, convs: pd.DataFrame, waist: pd.DataFrame) -> pd.DataFrame:
    """Return the norms at the start of six kinds of network as one tidy table: seed, width, norm, network."""
    fcn, half = (curved[curved["net"] == net] for net in ("fcn", "half"))
    parts = {
        "FCN": fcn.assign(norm=fcn["norm 0"]),
        "half-dropped DenseNet": half.assign(norm=half["norm 0"]),
        "residual": skips,
        "convolutional": convs[convs["positions"] == "fixed"],
        "tanh output": half.assign(norm=half["bent 0"]),
        "narrow layer": waist[waist["net"] == "narrow"],
    }
    columns = ["seed", "width", "norm", "network"]
    return pd.concat([part.assign(network=name)[columns] for name, part in parts.items()], ignore_index=True)
