"""Evidence of the figures in closed form: what is read off the curves of Figures 10 to 12 (Section 5.1)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from traindyn.evidence import table
from traindyn.studies.elasticity import closed_form_flows as flows
from traindyn.studies.elasticity import example


def figure10(line: pd.DataFrame) -> pd.DataFrame:
    """Return what Figure 10 claims of a table of `example.ray`: by time, without seeds.

    Columns: steps_up (steps from z to z + 1, from z = 1 on, at which S does not decrease), far_over_near (S at the last
    z over S at z = 1).
    """
    s = line[line["z"] >= 1].pivot(index="z", columns="time", values="s_rel")
    columns = {"steps_up": (s.diff().iloc[1:] >= 0).sum(), "far_over_near": s.iloc[-1] / s.loc[1]}
    return table(pd.DataFrame(columns).reset_index(), "time")


def figure11(curves: pd.DataFrame, t_star: float, late_from: float) -> pd.DataFrame:
    """Return what Figure 11 claims of a table of `example.over_time`: by panel, without seeds.

    Args:
        curves: columns panel, t, s_rel.
        t_star: where the late phase of Conjecture 1.2 starts;  late_from: from here on S should not decrease.

    Returns:
        Columns: window (length of the longest interval before t_star on which S lies below all its values from t_star
        on; 0 if there is none), window_from and window_to (its ends), low_parts (into how many intervals all such times
        fall), steps_down (steps from late_from
        on at which S decreases by more than 1e-12), start, top and end of S, end_error (largest distance of Eq. 14 at
        t = 0 and infinity from the exact values).
    """
    ends = example.exact_ends()
    ends = (ends["formula"] - ends["exact"]).abs().groupby(ends["panel"]).max()
    rows = []
    for panel, curve in curves.groupby("panel"):
        t, s = curve["t"].to_numpy(), curve["s_rel"].to_numpy()
        low = (s < s[t >= t_star].min()) & (t < t_star)
        first, last = longest_interval(t, low)
        rows.append(
            {
                "panel": panel,
                "window": last - first if low.any() else 0.0,
                "window_from": first,
                "window_to": last,
                "low_parts": int((np.diff(low.astype(int), prepend=0) == 1).sum()),
                "steps_down": (np.diff(s[t >= late_from]) < -1e-12).sum(),
                "start": s[0],
                "top": s.max(),
                "end": s[-1],
                "end_error": ends[panel],
            }
        )
    return table(pd.DataFrame(rows), "panel")


def longest_interval(t: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Return the first and last time of the longest run of neighbouring times that are inside; inf, -inf if none."""
    best, first = (np.inf, -np.inf), None
    for time, here in zip(t, inside, strict=True):
        first = (time if first is None else first) if here else None
        if here and time - first > best[1] - best[0]:
            best = (float(first), float(time))
    return best


def common_window(theta: float) -> dict[str, float]:
    """Return "common_points": the most grid points that a window for both pairs of Figure 11 has, over all t*."""
    return {"common_points": float(example.common_window(theta=theta)["both"].max())}


def counterexample(theta: float) -> dict[str, float]:
    """Return Eq. 14 for x = (1, 0, 1), x' = (0, 0, 1): steps_up (times up to 3000 where it rises), both ends."""
    t = torch.tensor([200.0, 500.0, 1000.0, 2000.0, 3000.0], dtype=torch.float64)
    x, x_prime = (torch.tensor(point, dtype=torch.float64) for point in ((1.0, 0.0, 1.0), (0.0, 0.0, 1.0)))
    s = flows.s_rel_example(t, x_prime, x, theta)
    return {"steps_up": float((s.diff() >= 0).sum()), "at_200": float(s[0]), "at_3000": float(s[-1])}


def special_pairs(theta: float) -> dict[str, float]:
    """Return S of Eq. 14 at times up to 6000 for pairs that no statement about all pairs can serve.

    "orthogonal_most" is the largest S of x = (1, 0, 0), x' = (0, 1, 0), whose every product x_q x'_q is 0;
    "proportional_spread" the largest distance from 2 of S for x' = 2 x.
    """
    t = torch.linspace(0, 6000, 601, dtype=torch.float64)
    x, other = (torch.tensor(point, dtype=torch.float64) for point in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))
    point = torch.tensor((1.0, -2.0, 0.5), dtype=torch.float64)
    return {
        "orthogonal_most": float(flows.s_rel_example(t, other, x, theta).max()),
        "proportional_spread": float((flows.s_rel_example(t, 2 * point, point, theta) - 2).abs().max()),
    }


def figure12(curves: pd.DataFrame) -> pd.DataFrame:
    """Compare a table of `example.sgd_s_rel` with Eq. 14: by seed and panel.

    Columns: gap (largest relative distance of the run mean from Eq. 14 over time) and correlation (with it over time)
    by Definition 1; gap_limit and correlation_limit by the limit of small steps.
    """
    rows = []
    for (seed, panel), group in curves.groupby(["seed", "panel"]):
        s = group.pivot(index="step", columns="measure", values="s_rel")
        row = {"seed": seed, "panel": panel}
        for suffix, measure in (("", "definition 1"), ("_limit", "limit")):
            row[f"gap{suffix}"] = (s[measure] / s["eq. 14"] - 1).abs().max()
            row[f"correlation{suffix}"] = s[measure].corr(s["eq. 14"])
        rows.append(row)
    return table(pd.DataFrame(rows), "panel")
