"""Statements on one example: the dynamics against gradient descent on the weights, and its regimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from traindyn import evidence
from traindyn.compute import generator
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.quadratic import scalar


def narrow(m: float) -> float:
    """Return log m / sqrt m, as which Theta(log m / sqrt m) is read here."""
    return float(np.log(m) / np.sqrt(m))


def _weights(seed: int, m: int, d: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = generator(seed, "one example")
    draw = {"generator": rng, "dtype": torch.float64}
    u, x = torch.randn(m, d, **draw), torch.randn(d, **draw)
    return u, torch.where(torch.rand(m, **draw) < 0.5, -1.0, 1.0).double(), x * d**0.5 / x.norm()


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
        u0, v0, x = _weights(seed, size.m, size.d)
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
    """Return per seed the slopes in the width of u(0) and |w(0)| at twice the critical rate over two, y = 1."""
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
        kept = [k for k, width in enumerate(widths) if delta >= narrow(width)]
        for j, seed in enumerate(seeds):
            change = m[kept] * delta * runs.change[i, kept, j]
            excess = m[kept] * delta * np.abs(runs.factor[i, kept, j] - (1 - delta))
            slopes = [loglog_slope(m[kept], part).value if len(kept) > 1 else np.nan for part in (change, excess)]
            rows.append((seed, rate, runs.rises[i, kept, j].sum(), *slopes))
    return evidence.table(pd.DataFrame(rows, columns=["seed", "rate", "rises", "change", "excess"]), "rate")


def catapults(seeds: Sequence[int], widths: Sequence[int], deltas: Sequence[float]) -> pd.DataFrame:
    """Check Theorem 3.3.1 on the points (m, delta) that its hypothesis admits.

    Returns:
        Per seed and delta: `lost`, runs that do not end; `final`, their largest last loss; `grows`, runs whose peak
        exceeds their start; `peak` and `plain`, slopes in m of peak log m / (m delta^2) and of the peak itself;
        `u_peak`, u at the peak over delta^2 / 2, and `v_end`, the last lr lambda minus 2 - delta, at the largest m.
    """
    at, m = scalar.start(seeds, widths), np.asarray(widths, float)
    runs = scalar.run(at, 2 + np.asarray(deltas)[:, None, None], steps=8000)
    rows = []
    for i, delta in enumerate(deltas):
        kept = [k for k, width in enumerate(widths) if narrow(width) <= delta <= 2 - narrow(width)]
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
                if m < least or end == 0 or not narrow(m) <= delta <= 2 - narrow(m):
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
    rates = np.linspace(2 + narrow(m), 4 - narrow(m), count)
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


def equilibria(m: int = 10_000, y: float = 1.0) -> dict[str, float]:
    """Look for stable equilibria of eqs. (3.11), (3.12), in r and v = lr lambda with lr = 1, c = 1/m.

    Returns:
        `eigen_gap`: of the Jacobian at r = 0 from {1 - v, 1}, by finite differences; `inside`, `edges`, `outside`:
        shares of tried v that return after r = 1e-3, in [eps, 2 - eps], in (0, eps) and (2 - eps, 2), and outside
        [0, 2]; `origin`: largest modulus of the Jacobian at g = lambda = 0, minus 1; `flip`: how far the point with
        factor -1 (branch 2.1) is from being mapped to itself, over r; `u_flip`, `v_flip`: its u m / C^2 and its
        distance from v = 2 + u + w; `u_origin`: u m / C^2 at the origin.
    """
    c = 1 / m

    def image(r: float, v: float) -> np.ndarray:
        return np.array([float(part) for part in scalar.step(r, v, c, y, 1.0)[:2]])

    def jacobian(r: float, v: float, h: float = 1e-6) -> np.ndarray:
        moves = (image(r + h, v) - image(r - h, v), image(r, v + h) - image(r, v - h))
        return np.stack(moves, axis=1) / (2 * h)

    gaps = []
    for v in np.linspace(0.1, 3.9, 39):
        found = np.sort(np.linalg.eigvals(jacobian(0.0, v)).real)
        gaps.append(np.abs(found - np.sort([1 - v, 1])).max())
    eps = narrow(m)
    tried = {
        "inside": np.linspace(eps, 2 - eps, 20),
        "edges": np.concatenate([np.linspace(eps / 20, eps * 0.95, 10), 2 - np.linspace(eps / 20, eps * 0.95, 10)]),
        "outside": np.linspace(2.05, 3.95, 20),
    }
    shares = {}
    for name, values in tried.items():
        r, v = np.full(len(values), 1e-3), values.copy()
        far = np.zeros(len(values))
        for _ in range(20_000):
            r, v, _ = scalar.step(r, v, c, y, 1.0)
            far = np.maximum(far, np.maximum(np.abs(r), np.abs(v - values)))
        shares[name] = float(((far <= 2e-3) & (np.abs(r) < 1e-6)).mean())
    # branch 2.1: 1 - v + u + w = -1 and u (4 - v) + 4 w = 0, w = -C sqrt(u/m) < 0, for C = |y| lr = 1
    root = np.roots(
        [1.0, 1.0 / np.sqrt(m), -2.0, 4.0 / np.sqrt(m)]
    )  # s^3 + k s^2 - 2 s + 4 k = 0 with u = s^2, w = -k s
    s = min(x.real for x in root if abs(x.imag) < 1e-12 and x.real > 0)
    u, w = s**2, -s / np.sqrt(m)
    r, v = -s * np.sqrt(m), 2 + u + w
    return {
        "eigen_gap": max(gaps),
        **shares,
        "origin": float(np.abs(np.linalg.eigvals(jacobian(-y, 0.0))).max() - 1),
        "u_origin": c * y**2 * m / y**2,
        "flip": float(np.abs(image(r, v)[0] - r) / abs(r)),
        "u_flip": float(u * m),
        "v_flip": float(abs(u * (4 - v) + 4 * w)),
    }


def ends(seeds: Sequence[int], m: int, count: int) -> pd.DataFrame:
    """Return per seed how many of `count` runs across the catapult window end with lr lambda outside (0, 2)."""
    at, rates = scalar.start(seeds, [m]), np.linspace(2 + narrow(m), 4 - narrow(m), count)
    runs = scalar.run(at, rates[:, None, None])
    v = rates[:, None] * runs.lam[:, 0] / at.lam
    return evidence.table(pd.DataFrame({"seed": list(seeds), "ends_outside": (~((v > 0) & (v < 2))).sum(0)}))


def divergence(seeds: Sequence[int], widths: Sequence[int]) -> pd.DataFrame:
    """Return per seed, width and target 0 and 1: whether it diverges at 4 + eps (`above`) and at 4 - eps (`below`)."""
    at, rows = scalar.start(seeds, widths, purpose="divergence"), []
    eps = np.array([narrow(m) for m in widths])[:, None]
    for y in (0.0, 1.0):
        above, below = (np.isinf(scalar.run(at, 4 + sign * eps, y).final) for sign in (1, -1))
        rows += [
            (seed, f"{m}/{y:g}", above[i, j], below[i, j]) for i, m in enumerate(widths) for j, seed in enumerate(seeds)
        ]
    return evidence.table(pd.DataFrame(rows, columns=["seed", "at", "above", "below"]), "at")


def window(seeds: Sequence[int], widths: Sequence[int]) -> pd.DataFrame:
    """Return per seed and width the thresholds of growth and divergence by bisection, in units of 1/lambda(0)."""
    at = scalar.start(seeds, widths)
    rises, diverges = (
        scalar.bisect(at, 1.0, low, high, question, rounds=14, steps=1000)
        for low, high, question in ((1.0, 3.0, "rises"), (3.0, 6.0, "diverges"))
    )
    rows = [(s, m, rises[i, j], diverges[i, j]) for i, m in enumerate(widths) for j, s in enumerate(seeds)]
    frame = pd.DataFrame(rows, columns=["seed", "width", "rises_from", "diverges_from"])
    return evidence.table(frame.assign(domain=frame["diverges_from"] - frame["rises_from"]), "width")


def scale_bound(share: float = 0.5) -> float:
    """Return the Chernoff rate I, P(|lambda d / |x|^2 - 1| >= share) <= 2 exp(-m I), for Proposition B.9.1.

    One neuron contributes 1(z >= 0) (1 + z^2), with moment generating function 1/2 + exp(s) / (2 sqrt(1 - 2 s)).
    """
    s = np.concatenate([-np.geomspace(1e-4, 60, 20_000), np.linspace(1e-5, 0.4999, 20_000)])
    mgf = np.log(0.5 + np.exp(s) / (2 * np.sqrt(1 - 2 * s)))
    return float(min((s * (1 + sign * share) - mgf).max() for sign in (-1, 1)))


def kernel_scale(seeds: Sequence[int], widths: Sequence[int], draws: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return how often lambda(0) leaves [1/2, 3/2] |x|^2/d, one example and one-dimensional inputs with p = (3, 2).

    Returns:
        Per seed and width: `failures` (share of draws), `several` (the same for lambda_max and M of Proposition
        B.11.2), `average` of lambda d / |x|^2; and per width: `bound`, 4 exp(-m I).
    """
    rows = []
    for seed in seeds:
        for m in widths:
            rng = scalar.rng(seed, f"scale/{m}")
            active = rng.binomial(m, 0.5, draws)
            lam = [(k + 2 * rng.standard_gamma(k / 2)) / m for k in (active, m - active)]
            both = np.maximum(3 * lam[0], 2 * lam[1]) / 3
            out = [((part < 0.5) | (part > 1.5)).mean() for part in (lam[0], both)]
            rows.append((seed, m, *out, lam[0].mean()))
    table = evidence.table(pd.DataFrame(rows, columns=["seed", "width", "failures", "several", "average"]), "width")
    bound = pd.DataFrame({"width": widths, "bound": 4 * np.exp(-np.asarray(widths) * scale_bound())})
    return table, evidence.table(bound, "width")


def critical_rates(seeds: Sequence[int], size: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare lambda_max of the loss' Hessian with that of the kernel: Definition 3.2.2 against eq. (3.8).

    Args:
        seeds: one network and training set each.
        size: attributes widths, n (numbers of examples), d.

    Returns:
        Per seed and n: `gap`, slope in the width of the relative difference for the quadratic model, and `linear`, the
        largest one for the linear model; and the differences themselves.
    """
    rows = []
    for seed in seeds:
        for n in size.n:
            X = torch.randn(n, size.d, generator=generator(seed, f"inputs/{n}"), dtype=torch.float64)
            X = X * size.d**0.5 / X.norm(dim=1, keepdim=True)
            for m in size.widths:
                rows.append((seed, n, m, *_hessian_gaps(seed, X, m)))
    gaps = pd.DataFrame(rows, columns=["seed", "examples", "width", "gap", "linear"])
    slopes = [
        (seed, n, loglog_slope(part["width"], part["gap"]).value, part["linear"].max())
        for (seed, n), part in gaps.groupby(["seed", "examples"])
    ]
    return evidence.table(pd.DataFrame(slopes, columns=["seed", "examples", "gap", "linear"]), "examples"), gaps


def _hessian_gaps(seed: int, X: torch.Tensor, m: int) -> tuple[float, float]:
    """Return |lambda_max(H_L) / lambda_max(K) - 1| of the quadratic and of the linear model, labels +1, -1, +1, ..."""
    n, d = X.shape
    u, v, _ = _weights(seed, m, d)
    X, root = X.numpy(), (m * d) ** 0.5
    u, v = u.numpy(), v.numpy()
    gate = (u @ X.T >= 0).astype(float)
    z = gate * (u @ X.T)
    r = v @ z / root - np.where(np.arange(n) % 2, -1.0, 1.0)
    K = ((v[:, None] * gate).T @ (v[:, None] * gate) * (X @ X.T) + z.T @ z) / root**2
    tops = []
    for weight in (r, 0 * r):  # H_L = J^T J + sum_i r_i H_i, applied to a step of both layers

        def image(step: np.ndarray, weight: np.ndarray = weight) -> np.ndarray:
            a, b = step[: m * d].reshape(m, d), step[m * d :]
            df = ((v[:, None] * gate * (a @ X.T)).sum(0) + b @ z) / root
            mixed = gate * weight
            da = (v[:, None] * gate * df + mixed * b[:, None]) @ X / root
            return np.concatenate([da.ravel(), (z @ df + (mixed * (a @ X.T)).sum(1)) / root])

        operator = LinearOperator((m * d + m,) * 2, matvec=image, dtype=float)
        first = scalar.rng(seed, "lanczos").standard_normal(m * d + m)
        tops.append(eigsh(operator, k=1, which="LA", tol=1e-13, v0=first, return_eigenvectors=False)[0])
    quadratic, linear = np.abs(np.array(tops) / np.linalg.eigvalsh(K)[-1] - 1)
    return float(quadratic), float(linear)
