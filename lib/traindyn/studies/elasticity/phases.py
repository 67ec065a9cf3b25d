"""Reading the two phases of the regression network off its runs (Figures 4 and 5, Conjecture 1.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd

from traindyn.evidence import stacked, table
from traindyn.learn.train import Run
from traindyn.studies.elasticity.tables import per_seed


def recorded(run: Run, seeds: Sequence[int]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the recorded times (T,), and near, far, population and loss over them, each (seeds, T)."""
    frame = run.frame.dropna(subset=["near"])
    t = np.sort(frame["step"].unique())
    names = ("near", "far", "population", "loss")
    return t, {
        name: frame.pivot(index="seed", columns="step", values=name).loc[list(seeds), t].to_numpy() for name in names
    }


def phases(run: Run, seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Read Figures 4 and 5 and Conjecture 1.2 off a run: the numbers that the criteria ask for, one row per seed.

    Args:
        run: of `regression.regression`;  seeds: its seeds.
        size: steps, and the definitions: early (first share of the training, and the shortest window), late (share
            after which it is late), dropped (share of the drop of the risk after which it has fallen: t90), fall (a
            relative fall of S that counts).

    Returns:
        `near_above` (share of recorded times with the near pair above the far one), `rise_share` (share of the net rise
        of mean S done when 90 % of the drop of the population risk is), `rise_at_t90` (S there minus S at the start),
        `net_rise`, `risk_correlation`, `late_minimum` (smallest S of any pool point over the last two thirds),
        `falling` (share of pool points whose S falls there by more than 1 %), `window_share` (largest share of pool
        points whose maximum over a common early window lies below their late minimum), `final_risk`, and `dip` (the
        lowest window's maximum over the late minimum, the larger of the two pairs), and `t90` (the time by which
        the share `dropped` of the drop of the risk is done).
    """
    t, curves = recorded(run, seeds)
    late, thirds, length = t >= size.late * size.steps, t >= size.steps / 3, size.early * size.steps
    mean_s, risk = (curves["near"] + curves["far"]) / 2, curves["population"]
    dropped = risk[:, :1] - risk >= size.dropped * (risk[:, :1] - risk.min(axis=1, keepdims=True))
    rise_at_t90 = mean_s[np.arange(len(mean_s)), dropped.argmax(axis=1)] - mean_s[:, 0]
    net_rise = mean_s[:, -1] - mean_s[:, 0]
    pool = run.arrays["pool"]
    falls = pool[:, thirds][:, 1:] < (1 - size.fall) * np.maximum.accumulate(pool[:, thirds], axis=1)[:, :-1]
    pairs = np.stack([curves["near"], curves["far"]], axis=1)  # (seed, pair, time)
    dips = [[lowest_window(t, s, length, late) / s[late].min() for s in two] for two in pairs]
    with np.errstate(divide="ignore", invalid="ignore"):
        rise_share = rise_at_t90 / net_rise
    columns = {
        "near_above": (curves["near"] > curves["far"]).mean(axis=1),
        "rise_share": rise_share,
        "rise_at_t90": rise_at_t90,
        "net_rise": net_rise,
        "risk_correlation": [np.corrcoef(a, b)[0, 1] for a, b in zip(curves["loss"], risk, strict=True)],
        "late_minimum": pool[:, thirds].min(axis=(1, 2)),
        "falling": falls.any(axis=1).mean(axis=1),
        "window_share": [window_share(t, p.T, late, length) for p in pool],
        "t90": t[dropped.argmax(axis=1)].astype(float),
        "final_risk": risk[:, -1],
        "dip": np.max(dips, axis=1),
    }
    return per_seed(seeds, columns)


def by_law(runs: Mapping[str, Run], seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Return `phases` of every initial law as one table; case: the law."""
    return stacked({law: phases(run, seeds, size) for law, run in runs.items()}, "law")


def rise(runs: Mapping[str, Run], seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Return S of both pairs of Figure 4 early and late; cases: pair ("near", "far") and late time.

    Columns, for every initial law: early_<law> (mean over the first 2 % of the training) and late_<law> (at that time).
    """
    tables = []
    for law, run in runs.items():
        t, curves = recorded(run, seeds)
        late, early = t >= size.late * size.steps, t <= size.early * size.steps
        rows = [
            pd.DataFrame(
                {"seed": seed, "pair": pair, "time": t[late], f"early_{law}": s[early].mean(), f"late_{law}": s[late]}
            )
            for pair in ("near", "far")
            for seed, s in zip(seeds, curves[pair], strict=True)
        ]
        tables.append(table(pd.concat(rows, ignore_index=True), ["pair", "time"]))
    return pd.concat(tables, axis=1)


def window_share(t: np.ndarray, s: np.ndarray, late: np.ndarray, length: float) -> float:
    """Return the largest share of pairs, over all common windows of at least `length`, below their late minimum.

    Args:
        t: recorded times, shape (T,), ascending.
        s: S of each pair over time, shape (pairs, T).
        late: which times are late, shape (T,); windows lie before them.
        length: shortest window allowed, in steps.
    """
    # a longer window only raises the maximum, so the shortest admissible window from each start is enough
    floor = s[:, late].min(axis=1)
    shares = [np.mean(s[:, first : last + 1].max(axis=1) < floor) for first, last in _windows(t, late, length)]
    return float(max(shares, default=0.0))


def lowest_window(t: np.ndarray, s: np.ndarray, length: float, late: np.ndarray) -> float:
    """Return the smallest maximum of one curve s, shape (T,), over the windows of `window_share`."""
    return float(min((s[first : last + 1].max() for first, last in _windows(t, late, length)), default=np.inf))


def _windows(t: np.ndarray, late: np.ndarray, length: float) -> list[tuple[int, int]]:
    lasts = np.searchsorted(t, t + length)
    return [(first, last) for first, last in enumerate(lasts) if last < len(t) and not late[last]]


def risk_frame(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Return Figures 4 and 5 as a table: init, seed, t, quantity (elasticity or risk), curve, value."""
    frames = []
    for law, run in runs.items():
        rows = run.frame.dropna(subset=["near"]).rename(columns={"step": "t", "loss": "empirical risk"})
        rows = rows.rename(columns={"population": "population risk", "near": "near pair", "far": "far pair"})
        curves = ["near pair", "far pair", "empirical risk", "population risk"]
        long = rows.melt(["seed", "t"], curves, "curve", "value")
        is_s = long["curve"].str.endswith("pair")
        frames.append(long.assign(init=law, quantity=np.where(is_s, "local elasticity", "risk")))
    return pd.concat(frames, ignore_index=True)
