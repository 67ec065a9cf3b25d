"""Reading the two phases of the regression network off its runs (Figures 4 and 5, Conjecture 1.2)."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from traindyn.learn.train import Run

EARLY = 50 / 2500  # the first share of the training, and the shortest window of Conjecture 1.2
LATE = 800 / 2500  # the late phase starts at this share of the training


def phases(run: Run, seeds: list[int], size: SimpleNamespace) -> dict[str, Any]:
    """Read Figures 4 and 5 and Conjecture 1.2 off a run: the numbers that the criteria ask for.

    Returns:
        Over seeds: `near_above` (share of recorded times with the near pair above the far one), `rise_share` (share of
        the net rise of mean S done when 90 % of the drop of the population risk is), `rise_at_t90` (S there minus S at
        the start), `net_rise`, `risk_correlation`, `late_minimum` (smallest S of any pool point over the last two
        thirds), `nondecreasing` (share of pool points whose S never falls there by more than 1 %), `window_share`
        (largest share of pool points whose maximum over a common early window lies below their late minimum),
        `final_population`.
        Of the mean over seeds, the larger of the two pairs: `early_over_late` (mean over t <= 2 % of the training over
        the late minimum) and `dip_over_late` (the lowest interior window's maximum over the late minimum).
    """
    frame = run.frame.dropna(subset=["near"])
    t = np.sort(frame["step"].unique())
    table = {
        name: frame.pivot(index="seed", columns="step", values=name).loc[seeds, t].to_numpy()
        for name in ("near", "far", "population", "loss")
    }
    late = t >= LATE * size.steps
    early = t <= EARLY * size.steps
    thirds = t >= size.steps / 3
    mean_s = (table["near"] + table["far"]) / 2
    risk = table["population"]
    drop = (risk[:, :1] - risk) >= 0.9 * (risk[:, :1] - risk.min(axis=1, keepdims=True))
    t90 = drop.argmax(axis=1)
    at90 = mean_s[np.arange(len(seeds)), t90] - mean_s[:, 0]
    net = mean_s[:, -1] - mean_s[:, 0]
    pool = run.arrays["pool"]
    falls = pool[:, thirds][:, 1:] < 0.99 * np.maximum.accumulate(pool[:, thirds], axis=1)[:, :-1]
    two = np.stack([table["near"].mean(0), table["far"].mean(0)])
    late_floor = two[:, late].min(axis=1)
    return {
        "near_above": (table["near"] > table["far"]).mean(axis=1),
        "rise_share": at90 / net,
        "rise_at_t90": at90,
        "net_rise": net,
        "risk_correlation": [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(table["loss"], risk, strict=True)],
        "late_minimum": pool[:, thirds].min(axis=(1, 2)),
        "nondecreasing": 1 - falls.any(axis=1).mean(axis=1),
        "window_share": np.array([window_share(t, p.T, late, EARLY * size.steps) for p in pool]),
        "final_population": risk[:, -1],
        "early_over_late": float((two[:, early].mean(axis=1) / late_floor).max()),
        "dip_over_late": max(
            lowest_window(t, s, EARLY * size.steps, late) / floor for s, floor in zip(two, late_floor, strict=True)
        ),
    }


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


def two_phases(read: Mapping[str, dict[str, Any]], init: str) -> dict[str, Any]:
    """Return the parts and numbers of Figure 4 from `phases` of every initial law; `init` decides."""
    own = read[init]
    return {
        "parts": {
            "closer-above": own["near_above"] >= 0.95,
            "rise-from-start": own["early_over_late"] <= 0.9,
            "dip": own["dip_over_late"] < 1,
            **{law: read[law]["early_over_late"] <= 0.9 for law in ("he", "xavier")},
            **{f"{law}-dip": read[law]["dip_over_late"] < 1 for law in ("he", "xavier")},
        },
        "measured": {
            "near_above": own["near_above"],
            **{f"early_over_late_{law}": values["early_over_late"] for law, values in read.items()},
            **{f"dip_over_late_{law}": values["dip_over_late"] for law, values in read.items()},
        },
    }


def rise_and_risk(read: Mapping[str, dict[str, Any]], init: str) -> dict[str, Any]:
    """Return the parts and numbers of Figure 5 from `phases` of every initial law; `init` decides."""

    def rises(values: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        share = (values["net_rise"] > 0) & (values["rise_share"] >= 0.7) & (values["rise_share"] <= 1.2)
        return share, values["rise_at_t90"] >= 0

    share, not_lower = rises(read[init])
    return {
        "parts": {
            "rise-share": share,
            "not-lower": not_lower,
            "risks-agree": np.array(read[init]["risk_correlation"]) > 0.99,
            **{law: np.logical_and(*rises(read[law])) for law in ("he", "xavier")},
        },
        "measured": {
            "risk_correlation": read[init]["risk_correlation"],
            **{f"net_rise_{law}": values["net_rise"] for law, values in read.items()},
            **{f"rise_at_t90_{law}": values["rise_at_t90"] for law, values in read.items()},
        },
    }


def phase_frame(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Return Figure 4 as a table: init, seed, t, pair, srel."""
    frames = [
        run.frame.dropna(subset=["near"])
        .rename(columns={"step": "t"})
        .melt(["seed", "t"], ["near", "far"], var_name="pair", value_name="srel")
        .assign(init=law)
        for law, run in runs.items()
    ]
    return pd.concat(frames, ignore_index=True)


def risk_frame(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Return Figure 5 as a table: init, seed, t, quantity (elasticity or risk), curve, value."""
    frames = []
    for law, run in runs.items():
        rows = run.frame.dropna(subset=["near"]).rename(columns={"step": "t"})
        rows = rows.assign(**{"mean of near and far": (rows["near"] + rows["far"]) / 2, "empirical": rows["loss"]})
        long = rows.melt(["seed", "t"], ["mean of near and far", "empirical", "population"], "curve", "value")
        is_s = long["curve"] == "mean of near and far"
        frames.append(long.assign(init=law, quantity=np.where(is_s, "local elasticity", "risk")))
    return pd.concat(frames, ignore_index=True)
