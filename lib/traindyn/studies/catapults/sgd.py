"""What the figures on stochastic gradient descent are read by: rises, spikes, excursions, and the kernel around them.

A row of a run holds the state before update t: the loss L^t on the whole training set, and rate and batch of that
update. So the rise that update t causes is L^{t+1} - L^t, and it is compared with that batch's critical rate.

`read` is what the chapter calls a spike (a one-step rise by more than this share of the loss), an excursion (its peak
exceeds the loss before it by more than this factor), a window (steps after a spike over which the kernel's change is
taken): the sizes of its experiment "readings".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from traindyn.compute import generator
from traindyn.learn.train import Probe, State
from traindyn.measure.curves import excursions
from traindyn.measure.ntk import empirical_ntk
from traindyn.measure.spectrum import critical_lr, hessian_top_eig
from traindyn.measure.statistics import bootstrap
from traindyn.studies.catapults import tasks
from traindyn.studies.catapults.gd import diverged

MATCH = ["match", "base", "gain", "recall", "large", "excursions", "windows"]
COUNTS = ["count_rises", "count_large", "count_excursions", "steps"]
AROUND = ["spikes", "drop", "drop_high", "elsewhere", "each", "inside", "outside", "rest_rises", "rest_strict"]


def match(frame: pd.DataFrame, read: Any) -> pd.DataFrame:
    """Read Table 4.2 off every seed's run, with what its number has to be compared with.

    Returns:
        One row per seed: match (share of the rises whose batch had a super-critical rate), base (share of all steps
        with one), gain (their difference), recall (share of super-critical steps that raise the loss), large (match
        among the spikes), excursions (share of the excursions with a super-critical step), windows (the same
        share among all stretches of the run as long as its excursions), count_rises, count_large, count_excursions,
        steps, final (loss at the end over the initial one).
    """
    rows = []
    for seed, run in frame.groupby("seed"):
        loss = run["loss"].to_numpy()
        over = (run["rate"] > run["batch_critical"]).to_numpy()[:-1]
        change = np.diff(loss) / loss[:-1]
        rise, large = change > 0, change > read.spike
        found = excursions(loss, read.excursion)
        hit = [bool(over[first:last].any()) for first, last in found]
        rows.append(
            {
                "seed": seed,
                "match": _mean(over[rise]),
                "base": _mean(over),
                "gain": _mean(over[rise]) - _mean(over),
                "recall": _mean(rise[over]),
                "large": _mean(over[large]),
                "excursions": _mean(np.asarray(hit)),
                "windows": _mean(np.asarray([_windows(over, last - first) for first, last in found])),
                "count_rises": int(rise.sum()),
                "count_large": int(large.sum()),
                "count_excursions": len(found),
                "steps": len(over),
                "final": loss[-1] / loss[0],
            }
        )
    return tasks.rows_of(rows, *MATCH, *COUNTS, "final")


def match_means(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the means over seeds of several tables of `match`, a row for each."""
    both = pd.concat([table.assign(run=name) for name, table in tables.items() if len(table)])
    means = both.groupby("run", sort=False)[[*MATCH, "count_rises", "steps"]].mean().reset_index()
    return means.rename(columns={"count_rises": "rises"}).round({"rises": 0, "steps": 0})


def _windows(over: np.ndarray, length: int) -> float:
    """Return the share of all stretches of `length` steps that hold a super-critical one."""
    return float(np.lib.stride_tricks.sliding_window_view(over, length).any(1).mean())


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def around_spikes(frame: pd.DataFrame, read: Any) -> pd.DataFrame:
    """Read what the kernel's norm does at spikes, and where in the spectrum these are.

    Returns:
        One row per seed: spikes, drop (mean relative change of ||K|| over the window from a spike), drop_high (upper
        end of its 95 % bootstrap interval), elsewhere (the same mean over windows without a spike), each (share of
        the spikes after which ||K|| is lower), inside and outside (sums of d log ||K|| over excursions and over all
        other steps), top_1 and top_5 (mean share of a spike's rise in the leading directions, each counted at most
        1), rest_rises (share of steps in which L_{>1} has a spike), rest_strict (share in which it rises).
        Where a run diverged, ||K|| ends at infinity; the steps in which it did so have no split and are left out of
        top_1 and top_5.
    """
    rows = []
    for seed, run in frame.groupby("seed"):
        norm = run["norm"].fillna(math.inf) if diverged(run) else run["norm"]
        loss, norm = run["loss"].to_numpy(), norm.to_numpy()
        change = np.diff(loss)
        spike = change > read.spike * loss[:-1]
        steps = np.flatnonzero(spike)
        ahead = np.minimum(np.arange(len(change)) + read.window, len(norm) - 1)
        moved = norm[ahead] / norm[:-1] - 1
        calm = np.asarray([not spike[t : t + read.window].any() for t in range(len(spike))])
        inside = np.zeros(len(change), bool)
        for first, last in excursions(loss, read.excursion):
            inside[first:last] = True
        log = np.diff(np.log(norm))
        rest = run["rest_1"].to_numpy()
        row = {
            "seed": seed,
            "spikes": len(steps),
            "drop": _mean(moved[steps]),
            "drop_high": _high(moved[steps]),
            "elsewhere": _mean(moved[calm]),
            "each": _mean(moved[steps] < 0),
            "inside": float(log[inside].sum()),
            "outside": float(log[~inside].sum()),
            "rest_rises": _mean(np.diff(rest) > read.spike * rest[:-1]),
            "rest_strict": _mean(np.diff(rest) > 0),
        }
        for s in (1, 5):
            part = np.diff(run[f"lead_{s}"].to_numpy())[steps] / change[steps]
            row[f"top_{s}"] = _mean(np.minimum(part[~np.isnan(part)], 1.0))
        rows.append(row)
    return tasks.rows_of(rows, *AROUND, "top_1", "top_5")


def _high(values: np.ndarray) -> float:
    """Return the upper end of the mean's 95 % bootstrap interval; infinity if a value is infinite."""
    if np.isinf(values).any():
        return math.inf
    return bootstrap(values).high if len(values) else math.nan


def batch_thresholds(seed: int, size: Any, bias: str, count: int, dtype: torch.dtype) -> tuple[np.ndarray, float]:
    """Return b/||K_batch|| at the initial weights for `count` random batches of size.batch samples, and n/||K||."""
    model, X, _ = tasks.start(seed, size, bias, dtype)
    K = empirical_ntk(model, X).double()
    rng = generator(seed, "thresholds")
    picks = torch.stack([torch.randperm(len(X), generator=rng)[: size.batch] for _ in range(count)])
    blocks = K[picks[:, :, None], picks[:, None, :]]
    return (size.batch / torch.linalg.eigvalsh(blocks)[:, -1]).numpy(), critical_lr(K).item()


def between(size: Any, seeds: Sequence[int], bias: str, dtype: torch.dtype) -> dict[int, float]:
    """Return per seed a rate in the middle between the lowest and the median batch threshold, over eta_crit(w_0)."""
    found = {}
    for seed in seeds:
        rates, whole = batch_thresholds(seed, size, bias, 200, dtype)
        found[seed] = float((rates.min() + np.median(rates)) / 2 / whole)
    return found


def hessian_against_kernel(size: Any, rates: Any, follow: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Compare the batch's exact threshold 2/lambda_max(Hessian) with b/||K_batch|| along SGD (Figure C.1).

    Args:
        size: attributes of `tasks.follow`, and every (steps between two looks).
        rates: as in `tasks.follow`.
        follow: of `tasks.follower`.

    Returns:
        One row per seed and look: step, exact, kernel, gap (|kernel - exact| / exact).
    """

    def look(state: State) -> dict[str, torch.Tensor]:
        if not bool(state.loss <= tasks.DIVERGED):
            nothing = torch.tensor(math.nan, dtype=torch.float64)
            return {"exact": nothing, "kernel": nothing}
        X, y = state.X[state.batch], state.y[state.batch]
        with torch.no_grad():
            norm = torch.linalg.eigvalsh(empirical_ntk(state.model, X).double())[-1]
        top = hessian_top_eig(state.model, X, y).value.double()
        return {"exact": 2 / top, "kernel": len(X) / norm}

    run = follow(size, rates, look=Probe(look, size.every), record=size.every)
    if run.empty:
        return tasks.rows_of([], "step", "exact", "kernel", "gap")
    found = run[["seed", "step", "exact", "kernel"]].dropna().reset_index(drop=True)
    found["gap"] = (found["kernel"] / found["exact"] - 1).abs()
    return found


def swing(frame: pd.DataFrame) -> float:
    """Return by how much ||K|| leaves its start at most, relative to it, over all seeds and steps."""
    return float((frame["norm"] / frame.groupby("seed")["norm"].transform("first") - 1).abs().max())


def in_cycle(frame: pd.DataFrame, read: Any) -> pd.DataFrame:
    """Say where in the cycle of the rate the spikes fall.

    Returns:
        One row per seed: rising (share of the spikes whose update is followed by one at a higher rate: the cycle's
        rising half), high (share of them at a rate above the cycle's mean), halves (share of the rising halves that
        hold a spike).
    """
    rows = []
    for seed, run in frame.groupby("seed"):
        loss, rate = run["loss"].to_numpy(), run["rate"].to_numpy()
        spike = np.diff(loss) > read.spike * loss[:-1]
        rising, high = np.diff(rate) > 0, rate[:-1] > (rate.min() + rate.max()) / 2
        starts = np.flatnonzero(np.diff(rising.astype(int), prepend=0) == 1)
        ends = np.flatnonzero(np.diff(rising.astype(int), append=0) == -1) + 1
        held = [bool(spike[first:last].any()) for first, last in zip(starts, ends, strict=True)]
        row = {"seed": seed, "rising": _mean(rising[spike]), "high": _mean(high[spike])}
        rows.append(row | {"halves": _mean(np.asarray(held))})
    return tasks.rows_of(rows, "rising", "high", "halves")
