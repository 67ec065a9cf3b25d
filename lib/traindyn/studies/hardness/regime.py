"""The kernel regime: Lemma 12, Theorems 10 and 13, how far weights move, what linearisation leaves out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import normal
from traindyn.evidence import table
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.hardness import wide

POINTS = {"orthogonal": (0.0, 90.0), "antipodal": (0.0, 180.0), "three": (0.0, 120.0, 240.0)}


def trajectories(seeds: Sequence[int], size: SimpleNamespace, delta: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Follow the flow (0.20) of networks of several widths and of their random-feature models on n random points.

    Every seed has its own points, labels +-1 and, per width, inner weights; the flow runs until m lambda_n(K) t is
    `size.horizon`. The flow of (0.19) is the same path, n times slower.

    Returns:
        Per seed and width: `counted` (whether the smallest eigenvalue at the start is at least half of K's),
        `lemma12`, `lemma12_slow` (times inside the neighbourhood, of counted starts, with the risk above Lemma 12's
        bound, for the flow of (0.20) and that of (0.19)), `thm10`, `thm10_slow` (largest risk over Theorem 10's bound),
        `late` (rate at the end over 2 m lambda_n(K)), `outer`, `inner`, `total` (mean |a_j|, mean |b_j - b_j(0)|,
        norm of the displacement at the end), `closeness` (largest |network - random features| over times and points
        of the sphere), `closeness_bound` (over Theorem 13's right side), `curvature` (what the linearisation misses
        at the end, over the output's change, root mean squares), `change` (that change).
        For a figure, tidy: run, width, t (m lambda_n(K) t), risk, curve.
    """
    X, y = wide.sphere(seeds, "points", size.n, size.d), normal(seeds, "labels", size.n).sign()
    Z = wide.sphere(seeds, "unseen", size.unseen, size.d)
    K = wide.limit(X)
    low = wide.smallest(K)
    frames, shown = [], []
    for m in size.widths:
        b = wide.sphere(seeds, f"weights {m}", m, size.d)
        step = (size.horizon / (m * low * size.records * size.steps))[:, None, None]
        run = dict(step=step, steps=size.steps, records=size.records)
        start = wide.at_zero(b)
        first = wide.gram(start, X)
        counted = wide.smallest(first) >= m * low / 2
        inside, closest = torch.ones(len(low), dtype=torch.bool), torch.zeros(len(low), dtype=torch.float64)
        log_risk, moved = [], []
        features = wide.Features(b, X, y, Z)
        for t, w in wide.flow(start, X, y, **run):
            log_risk.append((wide.output(w, X) - y).square().mean(-1).log())
            inside &= (wide.gram(w, X) - first).flatten(1).norm(dim=1) <= m * low / 4
            moved.append(inside.clone())
            closest = torch.maximum(closest, (wide.output(w, Z) - features.at(t[..., 0])).abs().amax(-1))
        log_risk = torch.stack(log_risk) - log_risk[0]
        tau = size.horizon * torch.arange(size.records + 1, dtype=torch.float64)[:, None] / size.records
        used = torch.stack(moved) & counted
        tangent = torch.cat((w[..., :1], b), -1)
        change = wide.output(w, Z).square().mean(-1).sqrt()
        bound = (1 + math.sqrt(math.log(1 / delta))) / (low * math.sqrt(m))
        columns = {
            "counted": counted,
            "lemma12": ((log_risk > -tau / 2 + 1e-9) & used).sum(0),
            "lemma12_slow": ((log_risk > -tau * size.n / 2 + 1e-9) & used).sum(0),
            "thm10": (log_risk + tau).amax(0).exp(),
            "thm10_slow": (log_risk + tau * size.n).amax(0).exp(),
            "late": (log_risk[-6] - log_risk[-1]) / (2 * (tau[-1] - tau[-6])),
            "outer": w[..., 0].abs().mean(-1),
            "inner": (w - start)[..., 1:].norm(dim=-1).mean(-1),
            "total": (w - start).flatten(1).norm(dim=1),
            "closeness": closest,
            "closeness_bound": closest / bound,
            "curvature": (wide.output(w, Z) - wide.output(tangent, Z)).square().mean(-1).sqrt() / change,
            "change": change,
        }
        frames.append(pd.DataFrame({"seed": list(seeds), "width": m, **{k: np.asarray(v) for k, v in columns.items()}}))
        shown += [
            pd.DataFrame({"run": i, "width": m, "t": tau[:, 0], "risk": log_risk[:, i].exp(), "curve": f"width {m}"})
            for i in range(len(seeds))
        ]
    return table(pd.concat(frames), "width"), pd.concat(shown, ignore_index=True)


def slopes(found: pd.DataFrame, names: Sequence[str], least: float = 0) -> pd.DataFrame:
    """Return per seed the log-log slopes over widths of some columns of `trajectories`, as `<name>_slope`.

    Args:
        found: evidence by seed and width.
        names: columns.
        least: the smallest width that counts.
    """
    part = found.reset_index().query("width >= @least")
    columns = {f"{name}_slope": loglog_slope(part["width"], part[name], by=part["seed"]).value for name in names}
    return table(pd.DataFrame(columns).reset_index())


def widths(n: int, low: float, delta: float) -> tuple[int, int]:
    """Return the widths that Theorem 10 asks for, 10 n log(2 n^2/delta) / lambda^2, and Theorem 13 with constant 1."""
    return (
        math.ceil(10 * n * math.log(2 * n * n / delta) / low**2),
        math.ceil(n**4 * math.log(n * n / delta) / low**2),
    )


def premises(seeds: Sequence[int], size: SimpleNamespace, delta: float) -> pd.DataFrame:
    """Run the flow where the printed widths can be met: two or three points on the circle, as `POINTS` in degrees.

    Every seed draws `size.starts` starts with labels +-1, at the width of Theorem 10, and at twice that width or, if
    it is larger, that of Theorem 13.

    Returns:
        Per seed and case: `failed10`, `failed10_wide` (share of starts whose risk exceeds exp(-m lambda_n t) R_0
        somewhere, at either width), `failed_slow` (the same at the first width for the flow of (0.19)), `failed13`
        (share with a distance to random features above the bound, wide), `closeness` (the largest over that bound),
        `width`, `wider`.
    """
    rows = []
    for case, degrees in POINTS.items():
        angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
        X = torch.stack((angle.cos(), angle.sin()), 1)
        n, low = len(X), float(wide.smallest(wide.limit(X)))
        m10, m13 = widths(n, low, delta)
        around = torch.linspace(0, 2 * math.pi, size.unseen + 1, dtype=torch.float64)[:-1]
        Z = torch.stack((around.cos(), around.sin()), 1)
        for seed in seeds:
            y = normal([seed], f"labels {case}", size.starts, n)[0].sign()
            row = {"seed": seed, "points": case, "width": m10, "wider": max(m13, 2 * m10)}
            for m, suffix in ((m10, ""), (row["wider"], "_wide")):
                b = wide.sphere([seed], f"weights {case}{suffix}", size.starts * m, 2)[0].reshape(size.starts, m, 2)
                ratio, slow, apart = _one(wide.at_zero(b), X, y, Z, low, size)
                row[f"failed10{suffix}"] = float((ratio > 1 + 1e-9).double().mean())
                if not suffix:
                    row["failed_slow"] = float((slow > 1 + 1e-9).double().mean())
            bound = (1 + math.sqrt(math.log(1 / delta))) / (low * math.sqrt(m))
            row["failed13"] = float((apart > bound).double().mean())
            row["closeness"] = float(apart.max() / bound)
            rows.append(row)
    return table(pd.DataFrame(rows), "points")


def _one(
    start: Tensor, X: Tensor, y: Tensor, Z: Tensor, low: float, size: SimpleNamespace
) -> tuple[Tensor, Tensor, Tensor]:
    """Return per start the largest risk over Theorem 10's bound for both flows, and the distance to random features."""
    run = dict(
        step=size.horizon / (start.shape[-2] * low * size.records * size.steps), steps=size.steps, records=size.records
    )
    ratio, slow, apart = (torch.zeros(len(start), dtype=torch.float64) for _ in range(3))
    first, features = None, wide.Features(start[..., 1:], X, y, Z)
    for index, (t, w) in enumerate(wide.flow(start, X, y, **run)):
        risk, tau = (wide.output(w, X) - y).square().mean(-1), size.horizon * index / size.records
        first = risk if first is None else first
        ratio = torch.maximum(ratio, risk / (math.exp(-tau) * first))
        slow = torch.maximum(slow, risk / (math.exp(-tau * len(X)) * first))
        apart = torch.maximum(apart, (wide.output(w, Z) - features.at(t)).abs().amax(-1))
    return ratio, slow, apart


def slips() -> dict[str, float]:
    """Return what shows two slips in the proof of Theorem 10.

    `gradient`: |grad R|^2 over |theta|^2 R for n = m = 1, b = x, |x| = 1 and a = 1 (printed: at most 1). `root`:
    log-log slope in lambda of the gamma that solves gamma = (gamma + sqrt m) / (m lambda) (printed: -1/2).
    """
    x, y, a = torch.ones(1, 1, dtype=torch.float64), torch.tensor([3.0], dtype=torch.float64), 1.0
    w = torch.tensor([[a, 1.0]], dtype=torch.float64)
    risk = float((wide.output(w, x) - y).square().mean() / 2)
    gradient = float(wide.velocity(w, x, y).square().sum() / (w.square().sum() * risk))
    lows, m = np.array([0.2, 0.1, 0.05]), 1e6
    return {"gradient": gradient, "root": float(loglog_slope(lows, math.sqrt(m) / (m * lows - 1)).value)}


def shifts(seeds: Sequence[int], size: SimpleNamespace, widths: Sequence[int] = (100, 400, 1600)) -> pd.DataFrame:
    """Shift all b_j by one vector such that gamma = |theta - theta_0| = 1, and compare with the printed display.

    Returns:
        Per seed: `stability`, the log-log slope in m of |K(theta) - K(theta_0)|_F^2 over (n^2/m^2)(gamma + gamma^2).
    """
    rows = []
    for seed in seeds:
        X, ratios = wide.sphere([seed], "points", size.n, size.d)[0], []
        for m in widths:
            b = wide.sphere([seed], f"weights {m}", m, size.d)[0]
            shift = torch.zeros(size.d, dtype=torch.float64)
            shift[0] = 1 / math.sqrt(m)
            change = wide.gram(wide.at_zero(b + shift), X) - wide.gram(wide.at_zero(b), X)
            ratios.append(float((change / m).square().sum()) / (2 * size.n**2 / m**2))
        rows.append((seed, float(loglog_slope(widths, ratios).value)))
    return table(pd.DataFrame(rows, columns=["seed", "stability"]))
