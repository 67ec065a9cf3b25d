"""What the figures on stochastic gradient descent are judged by: tables of numbers per seed, read off the runs.

`read` is always what the chapter calls a spike, an excursion, a window: the sizes of its experiment "readings".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from traindyn.evidence import stacked, table
from traindyn.studies.catapults import planted, sgd
from traindyn.studies.catapults.tasks import rows_of


def shallow(runs: Mapping[str, pd.DataFrame], read: Any) -> pd.DataFrame:
    """Figure 4.6a: rises, spikes (their counts) and largest (relative one-step rise), per seed and run."""
    return stacked({name: _rises(run, read) for name, run in runs.items()}, "rate")


def _rises(run: pd.DataFrame, read: Any) -> pd.DataFrame:
    rows = []
    for seed, part in run.groupby("seed"):
        loss = part["loss"].to_numpy()
        change = np.diff(loss) / loss[:-1]
        counts = {"rises": int((change > 0).sum()), "spikes": int((change > read.spike).sum())}
        rows.append({"seed": seed, **counts, "largest": change.max()})
    return table(pd.DataFrame(rows))


def spikes(run: pd.DataFrame, read: Any) -> pd.DataFrame:
    """Figures 4.6b, 4.7, C.8 to C.11: all columns of `sgd.around_spikes`, per seed."""
    return table(sgd.around_spikes(run, read))


def beside(runs: Mapping[str, pd.DataFrame], read: Any) -> list[pd.DataFrame]:
    """Return `spikes` of several runs, told apart by the ends of the names: top_1, top_1_rank2.

    Args:
        runs: suffix ("" for the run that decides) -> run.
        read: definitions.
    """
    return [spikes(run, read).add_suffix(f"_{name}" * bool(name)) for name, run in runs.items()]


def networks(runs: Mapping[str, pd.DataFrame], read: Any) -> pd.DataFrame:
    """Figure C.8: `spikes` with `_nets`, per seed and network."""
    return stacked({name: spikes(run, read) for name, run in runs.items()}, "network").add_suffix("_nets")


def match(runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Table 4.2: all columns of tables of `sgd.match`, per seed and run."""
    return stacked({name: table(found) for name, found in runs.items()}, "run")


def thresholds(gaps: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Figure C.1, from tables of `sgd.hessian_against_kernel`.

    Returns:
        Per seed and network: median_gap, gap_90 (90th percentile), correlation (of both thresholds).
    """
    found = {}
    for name, frame in gaps.items():
        rows = []
        for seed, part in frame.groupby("seed"):
            row = {"seed": seed, "median_gap": part["gap"].median(), "gap_90": part["gap"].quantile(0.9)}
            rows.append(row | {"correlation": part["exact"].corr(part["kernel"])})
        found[name] = table(rows_of(rows, "median_gap", "gap_90", "correlation"))
    return stacked(found, "network")


def cyclic(run: pd.DataFrame, read: Any) -> pd.DataFrame:
    """Figure C.12: `spikes`, and where in the cycle they fall (`sgd.in_cycle`), per seed."""
    return spikes(run, read).join(table(sgd.in_cycle(run, read)))


def planted_sample(steep: pd.DataFrame, read: Any) -> list[pd.DataFrame]:
    """Figure 4.5, from `planted.planted`.

    Returns:
        Per seed: low (critical rate of the planted sample over the others' mean); per seed and place of the rate:
        over, strays, crosstalk, mismatches, telling, silent; per seed, place and threshold in per cent: spikes,
        precision, recall, unmatched. All counts and shares of `planted.readings` and `planted.thresholds`.
    """
    low = steep.groupby("seed", as_index=False)["low"].first()
    counts, rises = planted.readings(steep, read), planted.thresholds(steep, read)
    return [table(low), table(counts, "place"), table(rises, ["place", "percent"])]


def batch_variance(norms: pd.DataFrame, trained: pd.DataFrame) -> list[pd.DataFrame]:
    """Section 4.1, from `planted.explained` at the start, and `planted.supercritical_steps` in training.

    Returns:
        Per seed and batch size: centre and spread (of ||K_b||/b), probability, by_spread; per_epoch.
    """
    at_start = norms.rename(columns={"mean": "centre", "std": "spread"})
    at_start = at_start[["seed", "b", "centre", "spread", "probability", "by_spread"]]
    return [table(at_start, "b"), table(trained[["seed", "b", "per_epoch"]], "b")]
