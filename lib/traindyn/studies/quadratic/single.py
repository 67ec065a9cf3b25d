"""Statements on one example: the dynamics against gradient descent on the weights, and its phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from traindyn import evidence
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.quadratic import scalar


def _descend(u: torch.Tensor, v: torch.Tensor, x: torch.Tensor, rate: float, steps: int) -> tuple[Any, ...]:
    """Train the quadratic model on its weights, y = 1; return r and lambda of every step, and the learning rate."""
    gate, root, found = (u @ x >= 0).double(), (u.shape[0] * u.shape[1]) ** 0.5, []
    lr = None
    for _ in range(steps + 1):
        z = gate * (u @ x)
        r, lam = float(v @ z) / root - 1, float(z @ z + x @ x * (v * gate) @ (v * gate)) / root**2
        lr = rate / lam if lr is None else lr
        found.append((r, lam))
        u, v = u - lr * r * (v * gate)[:, None] * x / root, v - lr * r * z / root
    return (*np.array(found).T, lr)


def dynamics(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Compare eqs. (3.11) to (3.14) with gradient descent on the weights, each step from the weights' own state.

    Args:
        seeds: one network and input each.
        size: attributes m, d, steps, rates (learning rate times lambda(0)).

    Returns:
        Per seed and rate: largest errors of r, lambda, u, v, and of |w| = C sqrt(u/m), relative to the larger of the
        number and its size at r = y (r goes to 0); `turned`: the same of r and lambda, the lesser of both, when the
        sign of R_g or of the term 4 g is turned.
    """
    rows = []
    for seed in seeds:
        u0, v0, x = scalar.weights(seed, size.m, size.d)
        c = float(x @ x) / (size.m * size.d)
        for rate in size.rates:
            r, lam, lr = _descend(u0, v0, x, rate, size.steps)
            u, v, w = c * lr**2 * r**2, lr * lam, c * lr**2 * r
            one, old, unit = c * lr**2, r[:-1], lam[:-1]
            kappa = (1 - v + u + w) ** 2
            said = {
                "g_error": (scalar.step(old, unit, c, 1.0, lr)[0], r[1:], 1.0),
                "lambda_error": (scalar.step(old, unit, c, 1.0, lr)[1], lam[1:], 0.0),
                "u_error": ((kappa * u)[:-1], u[1:], one),
                "v_error": ((v - u * (4 - v) - 4 * w)[:-1], v[1:], 0.0),
                "w_error": (lr * np.sqrt(float(x @ x) / size.d) * np.sqrt(u / size.m), np.abs(w), one),
                "g_turned": ((1 - lr * unit - one * old * (old + 1)) * old, r[1:], 1.0),
                "lambda_turned": (unit + lr * c * old * (4 * (old + 1) + lr * unit * old), lam[1:], 0.0),
            }
            gaps = {name: (np.abs(a - b) / np.maximum(np.abs(b), least)).max() for name, (a, b, least) in said.items()}
            turned = min(gaps.pop("g_turned"), gaps.pop("lambda_turned"))
            rows.append({"seed": seed, "rate": rate, **gaps, "turned": turned})
    return evidence.table(pd.DataFrame(rows), "rate")


def first_order(seeds: Sequence[int], widths: Sequence[int]) -> pd.DataFrame:
    """Return per seed the slopes in the width of u(0) and |w(0)| at the rate 2.7 / lambda(0), y = 1."""
    at = scalar.start(seeds, widths)
    r, lr = at.g - 1, 2.7 / at.lam
    return _slopes(seeds, widths, {"u_start": at.c * lr**2 * r**2, "w_start": at.c * lr**2 * np.abs(r)})


def _slopes(seeds: Sequence[int], widths: Sequence[int], values: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return per seed the log-log slope in the width of arrays (widths, seeds)."""
    found = {"seed": list(seeds)}
    for name, table in values.items():
        found[name] = [loglog_slope(widths, column).value for column in table.T]
    return evidence.table(pd.DataFrame(found))


def subcritical(seeds: Sequence[int], widths: Sequence[int], rates: Sequence[float]) -> pd.DataFrame:
    """Check Theorem B.3.1 on the points (m, rate) that its hypothesis admits.

    Returns:
        Per seed and rate: `rises`, steps on which the loss rose; slopes in m of m delta sup|lambda - lambda_0|
        (`change`) and of m delta times the distance of the largest factor |mu| from 1 - delta (`excess`).
    """
    at, m = scalar.start(seeds, widths), np.asarray(widths, float)
    runs = scalar.run(at, np.asarray(rates)[:, None, None])
    rows = []
    for i, rate in enumerate(rates):
        delta = min(rate, 2 - rate)
        kept = [k for k, width in enumerate(widths) if delta >= scalar.narrow(width)]
        for j, seed in enumerate(seeds):
            change = m[kept] * delta * runs.change[i, kept, j]
            excess = m[kept] * delta * np.abs(runs.factor[i, kept, j] - (1 - delta))
            slopes = [loglog_slope(m[kept], part).value if len(kept) > 1 else np.nan for part in (change, excess)]
            rows.append((seed, rate, runs.rises[i, kept, j].sum(), *slopes))
    return evidence.table(pd.DataFrame(rows, columns=["seed", "rate", "rises", "change", "excess"]), "rate")


def catapults(seeds: Sequence[int], widths: Sequence[int], deltas: Sequence[float]) -> pd.DataFrame:
    """Check Theorem 3.3.1 on the points (m, delta) that its hypothesis admits.

    Returns:
        Per seed and delta: `lost`, runs that do not end; `final`, their largest last loss; `flat`, runs whose peak
        does not exceed their start; `peak` and `plain`, slopes in m of peak log m / (m delta^2) and of the peak itself;
        `u_peak`, u at the peak over delta^2 / 2, and `v_end`, the last lr lambda minus 2 - delta, at the largest m.
    """
    at, m = scalar.start(seeds, widths), np.asarray(widths, float)
    runs = scalar.run(at, 2 + np.asarray(deltas)[:, None, None], steps=8000)
    rows = []
    for i, delta in enumerate(deltas):
        kept = [k for k, width in enumerate(widths) if scalar.narrow(width) <= delta <= 2 - scalar.narrow(width)]
        for j, seed in enumerate(seeds):
            peak, final = runs.peak[i, kept, j], runs.final[i, kept, j]
            scaled = peak * np.log(m[kept]) / (m[kept] * delta**2)
            lr = (2 + delta) / at.lam[kept[-1], j]
            rows.append(
                (
                    seed,
                    delta,
                    np.isinf(final).sum(),
                    final.max(),
                    (peak <= runs.start[i, kept, j]).sum(),
                    loglog_slope(m[kept], scaled).value if len(kept) > 1 else np.nan,
                    loglog_slope(m[kept], peak).value if len(kept) > 1 else np.nan,
                    2 * at.c[kept[-1], j] * lr**2 * peak[-1] / (delta**2 / 2),
                    lr * runs.lam[i, kept[-1], j] - (2 - delta),
                )
            )
    names = ["seed", "delta", "lost", "final", "flat", "peak", "plain", "u_peak", "v_end"]
    return evidence.table(pd.DataFrame(rows, columns=names), "delta")


def increasing(seeds: Sequence[int], widths: Sequence[int], deltas: Sequence[float]) -> pd.DataFrame:
    """Check the formal Lemma 3.3.2 (Appendix B.4) with its own constants, wherever (m, delta) meets its conditions.

    C'_u = 0.02, y = 0.1, C_eps = 1; C_u = m u(0), C_kappa and C_v are the least that it allows.

    Returns:
        Per seed: `points` that meet the conditions, `slow` and `drift`, steps that break the two bounds.
    """
    y, cu, rows = 0.1, 0.02, []
    for seed in seeds:
        points = slow = drift = 0
        at = scalar.start([seed], widths)
        u, v, w = scalar.trace(at, 2 + np.asarray(deltas)[:, None, None], y, 400)
        for i, delta in enumerate(deltas):
            for k, m in enumerate(widths):
                big_c = (2 + delta) / at.lam[k, 0] * y
                kappa_c = 28 * cu + cu * delta + big_c * cu**0.5
                start = m * u[0, i, k, 0]
                least = max(
                    kappa_c * delta / (start * (big_c + 1)),
                    ((2 * start + 4 * big_c * start**0.5) / kappa_c) ** 2,
                    576 * big_c**2 / (cu * delta**2),
                    np.exp(28 * cu * delta),
                    np.exp(4 * kappa_c),
                )
                above = np.flatnonzero(u[:, i, k, 0] > cu * delta**2 / np.log(m))
                end = above[0] if len(above) else len(u)
                if m < least or end == 0 or not scalar.narrow(m) <= delta <= 2 - scalar.narrow(m):
                    continue
                points += 1
                uu, vv, ww = (part[:end, i, k, 0] for part in (u, v, w))
                slow += int(((1 - vv + uu + ww) ** 2 < (1 + delta - kappa_c * delta / np.log(m)) ** 2).sum())
                drift += int((np.abs(vv - vv[0]) > 28 * cu * delta / np.log(m)).sum())
        rows.append((seed, points, slow, drift))
    return evidence.table(pd.DataFrame(rows, columns=["seed", "points", "slow", "drift"]))


def decreasing(seeds: Sequence[int], m: int, count: int) -> pd.DataFrame:
    """Check Lemma 3.3.3 and Propositions B.5.1 and B.5.4 at rates across the catapult window, y = 1.

    Returns:
        Per seed: `stuck`, runs that never come back to u(0); `early` and `later`, runs in which v reaches 4 while u is
        below 0.02 delta^2 / log m and at any time; `rises`, steps on which v rises after its first value up to 3 while
        u exceeds 16 C^2 / m.
    """
    rates = np.linspace(2 + scalar.narrow(m), 4 - scalar.narrow(m), count)
    at = scalar.start(seeds, [m])
    u, v, _ = scalar.trace(at, rates[:, None, None], 1.0, 1500)
    u, v = u[:, :, 0], v[:, :, 0]  # (steps, rates, seeds)
    peak = u.argmax(0)
    after = np.arange(len(u))[:, None, None] >= peak
    early = np.logical_and.accumulate(u <= 0.02 * (rates[:, None] - 2) ** 2 / np.log(m), axis=0)
    seen = np.logical_or.accumulate(v <= 3, axis=0)
    big_c = rates[:, None] / at.lam
    rising = (v[1:] - v[:-1] > 1e-12) & seen[:-1] & (u[:-1] > 16 * big_c**2 / m)
    found = {
        "seed": list(seeds),
        "stuck": (~((u <= u[0]) & after).any(0)).sum(0),
        "early": ((v >= 4) & early).any(0).sum(0),
        "later": (v >= 4).any(0).sum(0),
        "rises": rising.sum((0, 1)),
    }
    return evidence.table(pd.DataFrame(found))


def monotone(seeds: Sequence[int], samples: int, m: float = 1e4) -> pd.DataFrame:
    """Try Proposition B.5.2 just above its threshold, with the printed one and with 16 C^2 / (m (4 - v)^2).

    Returns:
        Per seed: share of samples (v uniform on (0, 4), C on (0, 4), w = -C sqrt(u/m)) in which v does not decrease:
        `printed`, `squared`, and `small`, the printed threshold with C below 1/4.
    """
    rows = []
    for seed in seeds:
        v, big_c = scalar.rng(seed, "triples").uniform(0, 4, (2, samples))

        def kept(u: np.ndarray, v: np.ndarray = v, big_c: np.ndarray = big_c) -> np.ndarray:
            return -u * (4 - v) + 4 * big_c * np.sqrt(u / m) >= 0

        printed = kept(1.0001 * 4 * big_c / (m * (4 - v) ** 2))
        squared = kept(1.0001 * 16 * big_c**2 / (m * (4 - v) ** 2))
        rows.append((seed, printed.mean(), squared.mean(), printed[big_c < 0.25].mean()))
    return evidence.table(pd.DataFrame(rows, columns=["seed", "printed", "squared", "small"]))
