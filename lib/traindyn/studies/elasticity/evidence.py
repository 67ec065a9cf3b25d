"""Reading the criteria of the image figures off their runs (Figures 1, 2 and 13, Appendix C.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from traindyn.learn.train import Run
from traindyn.measure.elasticity import STATISTICS


def criteria(run: Run, statistic: str) -> dict[str, np.ndarray]:
    """Return criteria A, B and C of Figures 1, 2 and 13, one boolean per seed, and `all`, by one statistic."""
    read = readings(run, statistic)
    a, b, c = read["wins"] >= 0.9, read["fall"] >= 0.5, read["flatness"] < 2
    return {"A": a, "B": b, "C": c, "all": a & b & c}


def readings(run: Run, statistic: str) -> dict[str, np.ndarray]:
    """Read the criteria of Figures 1, 2 and 13 off a run, one number per seed.

    Args:
        run: what `smoothed` returned.
        statistic: one of `STATISTICS`.

    Returns:
        `wins`: smallest share, over sampled classes, of (time after the first 10 %, other class) comparisons that the
        same class wins; `fall`: smallest relative fall of an other-class value from start to end; `flatness`: largest
        ratio of maximum to minimum over time of a same-class value; `factor_time`: first step at which the same-class
        value is at least twice the mean other-class value for every sampled class (infinite if never).
    """
    values = run.arrays[statistic]  # (seed, time, class of x', sampled class)
    times = np.asarray(run.times[statistic])
    off = ~np.eye(values.shape[-1], dtype=bool)
    sampled = np.nonzero(off)[1]
    same = np.diagonal(values, axis1=2, axis2=3)  # (seed, time, sampled class)
    other = values[:, :, off]  # (seed, time, pair of classes)
    settled = times >= 0.1 * times[-1]
    won = same[:, settled][:, :, sampled] > other[:, settled]

    def per_class(pairs: np.ndarray) -> np.ndarray:
        return np.stack([pairs[:, :, sampled == c].mean(-1) for c in range(values.shape[-1])], axis=-1)

    ahead = (same >= 2 * per_class(other)).all(-1)
    return {
        "wins": per_class(won).mean(axis=1).min(axis=-1),
        "fall": (1 - other[:, -1] / other[:, 0]).min(axis=1),
        "flatness": (same.max(axis=1) / same.min(axis=1)).max(axis=1),
        "factor_time": np.where(ahead.any(1), times[ahead.argmax(1)], np.inf),
    }


def accuracy_time(run: Run, seeds: list[int], share: float = 0.95) -> np.ndarray:
    """Return, per seed, the first recorded step at which test accuracy reaches `share` of its final value."""
    table = run.frame.dropna(subset=["test_accuracy"]).pivot(index="seed", columns="step", values="test_accuracy")
    table = table.loc[seeds]
    reached = table.to_numpy() >= share * table.iloc[:, -1:].to_numpy()
    return table.columns.to_numpy()[reached.argmax(axis=1)]


def evidence(run: Run, statistic: str, only: str = "all") -> dict[str, Any]:
    """Return the parts and numbers of Figures 1, 2 and 13 (`only` criterion A there)."""
    by = {name: criteria(run, name) for name in STATISTICS}
    read = readings(run, statistic)
    parts = {"same-above-other": by[statistic]["A"]}
    if only == "all":
        parts |= {"other-falls": by[statistic]["B"], "same-flat": by[statistic]["C"]}
    parts |= {name.replace("_", "-"): by[name][only] for name in ("median", "ratio_of_means")}
    names = ("wins", "fall", "flatness") if only == "all" else ("wins",)
    return {"parts": parts, "measured": {name: read[name] for name in names}}


def informal_conjecture(first: Run, slow: Run, statistic: str) -> dict[str, Any]:
    """Return the parts and numbers of the informal conjecture of Section 1.3: criteria A and C together."""
    both = {name: criteria(first, name) for name in STATISTICS}
    slowly, read = criteria(slow, statistic), readings(first, statistic)
    return {
        "parts": {
            "same-above-other": both[statistic]["A"],
            "same-constant": both[statistic]["C"],
            **{name.replace("_", "-"): both[name]["A"] & both[name]["C"] for name in ("median", "ratio_of_means")},
            "slow-training": slowly["A"] & slowly["C"],
        },
        "measured": {"wins": read["wins"], "flatness": read["flatness"]},
    }


def onset(run: Run, seeds: list[int]) -> dict[str, np.ndarray]:
    """Return, per seed, when the median preference reaches a factor 2 and when test accuracy is nearly final.

    Also the factor at step 0: the smallest, over sampled classes, of the same-class over the mean other-class median.
    """
    values = run.arrays["median"][:, 0]  # (seed, class of x', sampled class)
    same = np.diagonal(values, axis1=1, axis2=2)
    others = (values.sum(axis=1) - same) / (values.shape[-1] - 1)
    return {
        "factor_time": readings(run, "median")["factor_time"],
        "accuracy_time": accuracy_time(run, seeds),
        "factor_at_start": (same / others).min(axis=1),
    }


def compare_accuracies(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the parts and numbers of Appendix C.2 from `accuracies`; None where the three sets were not run."""
    names, printed = ["svhn", "cifar10", "cifar100"], np.array([87.0, 78.0, 94.0])
    if set(frame["data"]) != set(names):
        return {"parts": {"three-classes": None, "all-classes": None}, "measured": {}}
    table = frame.pivot_table(index="seed", columns=["classes", "data"], values="accuracy")
    within = {label: (abs(table[label][names] - printed) <= 5).all(axis=1) for label in ("three", "all")}
    measured = {f"{label}_{name}": table[label][name] for label in ("three", "all") for name in names}
    return {"parts": {"three-classes": within["three"], "all-classes": within["all"]}, "measured": measured}
