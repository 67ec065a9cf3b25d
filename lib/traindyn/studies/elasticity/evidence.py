"""Evidence of the image figures: what is read off their runs (Figures 1, 2 and 13, Section 6, Appendix C.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from traindyn.evidence import table
from traindyn.learn.train import Run
from traindyn.measure.curves import first_time
from traindyn.measure.elasticity import STATISTICS
from traindyn.studies.elasticity.tables import per_seed


def images(run: Run, seeds: Sequence[int], burn_in: float) -> pd.DataFrame:
    """Return what Figures 1, 2 and 13 claim of a run of `images.smoothed`: evidence by seed and statistic.

    Args:
        run: its record;  seeds: its seeds;  burn_in: comparisons count after this share of the training.

    Returns:
        `wins` (smallest share, over sampled classes, of (time, other class) comparisons that the same class wins),
        `fall` (smallest relative fall of an other-class value from start to end), `flatness` (largest ratio of maximum
        to minimum over time of a same-class value).
    """
    rows = []
    for name in (name for name in STATISTICS if name in run.arrays):
        same, other, sampled = _split(run.arrays[name])
        times = np.asarray(run.times[name])
        settled = times >= burn_in * times[-1]
        won = same[:, settled][:, :, sampled] > other[:, settled]
        found = {
            "wins": _per_class(won, sampled).mean(axis=1).min(axis=-1),
            "fall": (1 - other[:, -1] / other[:, 0]).min(axis=1),
            "flatness": (same.max(axis=1) / same.min(axis=1)).max(axis=1),
        }
        rows.append(pd.DataFrame({"seed": list(seeds), "statistic": name, **found}))
    return table(pd.concat(rows, ignore_index=True), "statistic")


def onset(run: Run, seeds: Sequence[int], ahead: float, arrived: float) -> pd.DataFrame:
    """Return, per seed, when the preference by the block median sets in and when the test accuracy is nearly final.

    Args:
        run: of `images.smoothed`;  seeds: its seeds.
        ahead: a class leads once its own value is this multiple of the mean of the others.
        arrived: as `share` of `accuracy_time`.

    Returns:
        `factor_time` (first step at which every sampled class leads, infinite if never), `accuracy_time`, and
        `factor_at_start` (the smallest, over sampled classes, of the same-class over the mean other-class value at
        step 0).
    """
    same, other, sampled = _split(run.arrays["median"])
    lead = (same / _per_class(other, sampled)).min(axis=-1)  # (seed, time)
    columns = {
        "factor_time": first_time(run.times["median"], lead, np.nextafter(ahead, 0)),
        "accuracy_time": accuracy_time(run, seeds, arrived),
        "factor_at_start": lead[:, 0],
    }
    return per_seed(seeds, columns)


def accuracy_time(run: Run, seeds: Sequence[int], share: float) -> np.ndarray:
    """Return, per seed, the first recorded step at which test accuracy reaches `share` of its final value."""
    curves = run.frame.dropna(subset=["test_accuracy"]).pivot(index="seed", columns="step", values="test_accuracy")
    curves = curves.loc[list(seeds)]
    return first_time(curves.columns, curves.div(curves.iloc[:, -1], axis=0), np.nextafter(share, 0))


def accuracies(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracies of `images.accuracies` (per cent) as evidence by seed and set.

    Columns: accuracy_three (on three classes), accuracy_all (on all).
    """
    rows = [
        {"seed": seed, "set": name, **{f"accuracy_{of}": value for of, value in group.itertuples(index=False)}}
        for (seed, name), group in frame.set_index(["seed", "data"])[["classes", "accuracy"]].groupby(level=[0, 1])
    ]
    columns = ["seed", "set", "accuracy_three", "accuracy_all"]
    numbers = dict.fromkeys(columns[2:], "float64")
    return table(pd.DataFrame(rows, columns=columns).astype(numbers), "set")


def _split(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return same-class values (seed, time, class), others (seed, time, pair), and the sampled class of every pair.

    Args:
        values: (seed, time, class of x', sampled class).
    """
    off = ~np.eye(values.shape[-1], dtype=bool)
    return np.diagonal(values, axis1=2, axis2=3), values[:, :, off], np.nonzero(off)[1]


def _per_class(pairs: np.ndarray, sampled: np.ndarray) -> np.ndarray:
    """Return means over the pairs of each sampled class: (seed, time, pair) -> (seed, time, class)."""
    return np.stack([pairs[:, :, sampled == c].mean(-1) for c in np.unique(sampled)], axis=-1)
