"""What the figures on gradient descent are judged by: tables of numbers per seed, read off the runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from traindyn.evidence import stacked, table
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.catapults import gd, tasks


def catapult(run: pd.DataFrame) -> pd.DataFrame:
    """Return `gd.single` of a run as evidence: peak, final, norm, edge, share, steps_up, worst, per seed."""
    return table(gd.single(run).drop(columns="defect"))


def extremes(found: pd.DataFrame, *columns: str) -> dict[str, float]:
    """Return least and most of some columns over all rows, for the prose: {"peak_least": ..., "peak_most": ...}."""
    return {
        f"{name}_{word}": float(how(found[name])) for name in columns for word, how in (("least", min), ("most", max))
    }


def fcn_single(run: pd.DataFrame, biased: pd.DataFrame, half: pd.DataFrame, width: int) -> list[pd.DataFrame]:
    """Figures 4.2, 4.3a, C.2a.

    Args:
        run, biased: without biases, and with hidden biases that start at zero.
        half: of `gd.drift`, at half the critical rate.
        width: of the network of `run`, which is the one looked up in `half`.

    Returns:
        Per seed: those of `catapult`, the same with `_zero`, and peak_at_half.
    """
    same = half[(half["depth"] == 5) & (half["width"] == width)]
    below = table(same[["seed", "peak"]].rename(columns={"peak": "peak_at_half"}))
    return [catapult(run), catapult(biased).add_suffix("_zero"), below]


def rank2(run: pd.DataFrame, bare: pd.DataFrame, scan: pd.DataFrame) -> list[pd.DataFrame]:
    """Figure C.4 (a, b), with the critical rates at the start, which say whether the setting can be the printed one.

    Args:
        run, bare: with the bias law that decides, and without biases.
        scan: of `gd.scan`.

    Returns:
        Per seed: those of `catapult`; the same with `_bare`; start (critical rate of `run`); start_bare (that
        of five layers without biases, from the scan).
    """
    plain = scan[(scan["depth"] == 5) & (scan["hidden bias"] == "none") & (scan["input factor"] == 1.0)]
    plain = plain.loc[plain["output bias"] == "none", ["seed", "critical"]]
    first = run.loc[run["step"] == 0, ["seed", "start"]]
    return [
        catapult(run),
        catapult(bare).add_suffix("_bare"),
        table(first),
        table(plain.rename(columns={"critical": "start_bare"})),
    ]


def climbing(runs: Mapping[str, pd.DataFrame], fallen: float) -> pd.DataFrame:
    """Figures C.3 and C.5: those of `catapult` and climb (see `gd.climb`), per seed and network."""
    return stacked({net: catapult(run).join(table(gd.climb(run, fallen))) for net, run in runs.items()}, "network")


def over_scalar(ratios: pd.Series) -> pd.DataFrame:
    """Figure C.5: over_scalar, of `tasks.over_scalar`, per seed."""
    return table(ratios.rename("over_scalar").rename_axis("seed").reset_index())


def eta_max(survivals: Mapping[str, pd.DataFrame], run: pd.DataFrame, trained: float) -> list[pd.DataFrame]:
    """Remark 4.3.1.

    Args:
        survivals: name of a model -> table of `gd.survival`.
        run: of `tasks.follow`; its start tells how many eigenvalues are large.
        trained: see `gd.limits`.

    Returns:
        Per seed and model: diverges_from, usable, highest; per seed: within (eigenvalues above a sixth of the largest).
    """
    limits = {name: table(gd.limits(found, trained)) for name, found in survivals.items()}
    return [stacked(limits, "model"), table(run.loc[run["step"] == 0, ["seed", "within"]])]


def subcritical(drift: pd.DataFrame) -> list[pd.DataFrame]:
    """Text after Lemma 4.2.2, from `gd.drift`.

    Returns:
        Per seed, depth and width: drift, rises; per seed and depth: drift_widest and rises_widest (at the largest
        width), slope (of log drift against log width; NaN with one width).
    """
    last = drift[drift["width"] == drift.groupby("depth")["width"].transform("max")]
    widest = last.set_index(["seed", "depth"])[["drift", "rises"]].add_suffix("_widest")
    slopes = {
        key: loglog_slope(part["width"], part["drift"]).value if len(part) > 1 else math.nan
        for key, part in drift.groupby(["seed", "depth"])
    }
    widest["slope"] = pd.Series(slopes)
    return [
        table(drift[["seed", "depth", "width", "drift", "rises"]], ["depth", "width"]),
        table(widest.reset_index(), "depth"),
    ]


def claim1(single: Mapping[str, pd.DataFrame], three: Mapping[str, pd.DataFrame]) -> list[pd.DataFrame]:
    """Claim 1: what the complement of s directions does.

    Args:
        single, three: name of a task -> its run at one rate, and at three rates.

    Returns:
        Per seed and task: steps_up_s, worst_s and share_s (as in `gd.single`) for s = 1, 2, 5, 10; and with `_three`.
    """
    return [
        stacked({name: by_space(run) for name, run in single.items()}, "task"),
        stacked({name: by_space(run) for name, run in three.items()}, "task").add_suffix("_three"),
    ]


def by_space(run: pd.DataFrame, spaces: Sequence[int] = tasks.SPACES) -> pd.DataFrame:
    """Return steps_up, worst and share of `gd.single` for every s that a run recorded, named by it, per seed."""
    kept = [s for s in spaces if f"rest_{s}" in run]
    read = [table(gd.single(run, s)[["seed", "steps_up", "worst", "share"]]).add_suffix(f"_{s}") for s in kept]
    return pd.concat(read, axis=1)


def phases(runs: Mapping[str, pd.DataFrame]) -> list[pd.DataFrame]:
    """Figures 4.4 and C.6.

    Args:
        runs: suffix of the names ("" for the run that decides) -> table of `gd.phases`.

    Returns:
        Per seed and phase: peak, norm, loss, share, worst, each with its suffix.
    """
    columns = ["seed", "phase", "peak", "norm", "loss", "share", "worst"]
    return [table(found[columns], "phase").add_suffix(f"_{name}" * bool(name)) for name, found in runs.items()]


def raised(run: pd.DataFrame, unraised: pd.DataFrame, second: int, third: int) -> pd.DataFrame:
    """Control of Figure 4.4: what the raise does beyond what happens at one rate.

    Args:
        run, unraised: the scheduled run, and the run from the same start that keeps its first rate.
        second, third: first steps of the second and third phase.

    Returns:
        Per seed: raised (largest loss between these steps, over that of the other run; NaN where a run had diverged)
        and kept (||K|| of the other run at its end, over its start).
    """
    highest = [frame[frame["step"].between(second, third)].groupby("seed")["loss"].max() for frame in (run, unraised)]
    kept = gd.single(unraised, 10).set_index("seed")["norm"].rename("kept")
    found = (highest[0] / highest[1]).reindex(kept.index).rename("raised")
    return table(pd.concat([found, kept], axis=1).reset_index())


def ends(scheduled: Mapping[float, pd.DataFrame], start: Mapping[float, pd.DataFrame], cnn: pd.DataFrame) -> Any:
    """Figure C.7: how runs end that reach a rate by a schedule, and runs that use it from the start.

    Args:
        scheduled, start: ratio of the last rate -> run.
        cnn: a run of a CNN from the start.

    Returns:
        Per seed, way and ratio: final, peak, norm (as in `gd.single`); per seed: the same with `_cnn`.
    """
    ways = {
        "scheduled": stacked({ratio: end(run) for ratio, run in scheduled.items()}, "ratio"),
        "start": stacked({ratio: end(run) for ratio, run in start.items()}, "ratio"),
    }
    both = stacked(ways, "way").reorder_levels(["seed", "way", "ratio"])
    return [both, end(cnn).add_suffix("_cnn")]


def end(run: pd.DataFrame) -> pd.DataFrame:
    """Return peak, final and norm of `gd.single` per seed, of a run that looked at the kernel at its ends only."""
    rows = []
    for seed, part in run.groupby("seed"):
        gone, loss, norm = gd.diverged(part), part["loss"].to_numpy(), part["norm"].dropna().to_numpy()
        found = (math.inf,) * 3 if gone else (loss.max() / loss[0], loss[-1] / loss[0], norm[-1] / norm[0])
        rows.append(dict(zip(("seed", "peak", "final", "norm"), (seed, *found), strict=True)))
    return table(tasks.rows_of(rows, "peak", "final", "norm"))
