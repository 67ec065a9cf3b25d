r"""General quadratic models g = w^T phi + (gamma/2) w^T Sigma w: eqs. (3.3), (3.15), (3.16), B.13, Figure B.4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from traindyn import evidence
from traindyn.studies.quadratic.scalar import rng


def identities(seeds: Sequence[int], n: int = 6, p: int = 40, steps: int = 15) -> pd.DataFrame:
    """Compare (3.15) and (3.16) with gradient descent on the weights of a random quadratic model of n examples.

    Returns:
        Per seed, largest over steps: `f_error` and `k_error` (corrected (3.16)), relative; `k_printed`: error of the
        printed (3.16) over |K' - K|, least over steps; `asymmetry` of G J^T, relative, least over steps.
    """
    rows = []
    for seed in seeds:
        draws = rng(seed, "general")
        phi, H = draws.standard_normal((n, p)) / p**0.5, draws.standard_normal((n, p, p)) * 0.1 / p**0.5
        H, w, y = H + H.transpose(0, 2, 1), draws.standard_normal(p), draws.standard_normal(n)
        worst, least, lr, old = np.zeros(2), np.full(2, np.inf), None, None
        for _ in range(steps + 1):
            Hw = H @ w
            J, f = phi + Hw, phi @ w + Hw @ w / 2
            K, r = J @ J.T, f - y
            lr = 0.8 / np.linalg.eigvalsh(K)[-1] if lr is None else lr
            if old is not None:
                K0, r0, G, J0 = old
                GJ = G @ J0.T
                said = (np.eye(n) - lr * K0 + lr**2 / 2 * GJ) @ r0
                moved = K0 - lr * (GJ + GJ.T) + lr**2 * G @ G.T
                printed = K0 - lr / 4 * (4 * GJ - lr * G @ G.T)
                gaps = np.linalg.norm(said - r) / np.linalg.norm(r), np.linalg.norm(moved - K) / np.linalg.norm(K)
                worst = np.maximum(worst, gaps)
                own = np.linalg.norm(printed - K) / np.linalg.norm(K - K0), np.linalg.norm(GJ - GJ.T)
                least = np.minimum(least, (own[0], own[1] / np.linalg.norm(GJ)))
            old = K, r, (r @ J) @ H, J
            w = w - lr * r @ J
        rows.append((seed, *worst, *least))
    return evidence.table(pd.DataFrame(rows, columns=["seed", "f_error", "k_error", "k_printed", "asymmetry"]))


def without_features(seeds: Sequence[int], p: int = 50, gamma: float = 0.1, steps: int = 8) -> pd.DataFrame:
    """Compare the two formulas of Proposition B.13.1 (phi = 0, y = 0, Sigma^2 = q I) with gradient descent on w.

    Returns:
        Per seed, largest over steps and relative: `right`, with gamma^2 in both and the missing eta in the second;
        `printed`, as printed.
    """
    rows, q = [], 4.0
    for seed in seeds:
        draws = rng(seed, "no features")
        sign = np.where(draws.random(p) < 0.5, -1.0, 1.0) * q**0.5
        w = draws.standard_normal(p)
        right = printed = 0.0
        lr, old = None, None
        for _ in range(steps + 1):
            g, lam = gamma / 2 * (sign * w) @ w, gamma**2 * q * w @ w
            lr = 2.8 / lam if lr is None else lr
            if old is not None:
                g0, l0 = old
                for square, eta, where in ((gamma**2, lr, "right"), (gamma, 1.0, "printed")):
                    said = (
                        (1 - lr * l0 + square * lr**2 * q * g0**2) * g0,
                        l0 - square * eta * q * g0**2 * (4 - lr * l0),
                    )
                    gap = max(abs(said[0] - g) / max(abs(g), 1e-3), abs(said[1] - lam) / lam)
                    right, printed = (max(right, gap), printed) if where == "right" else (right, max(printed, gap))
            old = g, lam
            w = w - lr * g * gamma * sign * w
        rows.append((seed, right, printed))
    return evidence.table(pd.DataFrame(rows, columns=["seed", "right", "printed"]))


def catapults_without_features(seeds: Sequence[int], rates: Sequence[float], gamma: float, p: int = 50) -> pd.DataFrame:
    """Run the model with phi = 0, y = 0, Sigma^2 = 4 I, from lambda(0) = 1 and g(0) ~ N(0, 1).

    Args:
        seeds: one start each.
        rates: learning rate times lambda(0).
        gamma: below 1/4 over the largest |g(0)|; |gamma g(0)| has to be small for the loss to grow first.
        p: even number of weights.

    Returns:
        Per seed and rate: `peak` and `final`, largest and last loss over the first.
    """
    rows = []
    for seed in seeds:
        draws = rng(seed, "no features")
        sign, w0, g = np.where(np.arange(p) % 2, -2.0, 2.0), draws.standard_normal(p), draws.standard_normal()
        for part, total in ((sign > 0, 0.25 / gamma**2 + g / gamma), (sign < 0, 0.25 / gamma**2 - g / gamma)):
            w0[part] *= (total / 2) ** 0.5 / np.linalg.norm(w0[part])
        for rate in rates:
            w, losses, lr = w0.copy(), [], None
            for _ in range(600):
                g = gamma / 2 * (sign * w) @ w
                lr = rate / (gamma**2 * 4 * w @ w) if lr is None else lr
                losses.append(g**2 / 2)
                if not losses[-1] < 1e12:
                    break
                w = w - lr * g * gamma * sign * w
            final = losses[-1] if losses[-1] < 1e12 else np.inf
            rows.append((seed, rate, max(losses) / losses[0], final / losses[0]))
    return evidence.table(pd.DataFrame(rows, columns=["seed", "rate", "peak", "final"]), "rate")


def linear_network(m: int, d: int) -> dict[str, float]:
    """Check that v^T U x / sqrt(m) is the case phi = 0, gamma = 1/sqrt(m) with the printed Sigma.

    Returns:
        `form`: relative difference of both at random weights; `square`: of Sigma^2 from |x|^2 I, `square_line`: the
        same in one dimension; `cube`: of Sigma^3 from |x|^2 Sigma; `size`: rows of Sigma minus (m d + m).
    """
    out = {}
    for dim, suffix in ((d, ""), (1, "_line")):
        draws = rng(0, f"linear network/{dim}")
        x, U, v = draws.standard_normal(dim), draws.standard_normal((m, dim)), draws.standard_normal(m)
        block = np.kron(np.eye(m), x[:, None])
        sigma = np.block([[np.zeros((m * dim, m * dim)), block], [block.T, np.zeros((m, m))]])
        w, q = np.concatenate([U.ravel(), v]), x @ x
        f = v @ U @ x / m**0.5
        out[f"square{suffix}"] = np.linalg.norm(sigma @ sigma - q * np.eye(len(w))) / (q * len(w) ** 0.5)
        if not suffix:
            out["form"] = abs(w @ sigma @ w / (2 * m**0.5) - f) / abs(f)
            out["cube"] = np.linalg.norm(sigma @ sigma @ sigma - q * sigma) / np.linalg.norm(q * sigma)
            out["size"] = float(len(sigma) - (m * dim + m))
    return {name: float(value) for name, value in out.items()}


def run(
    seeds: Sequence[int], gammas: Sequence[float], rates: Sequence[float], size: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Train the model of Figure B.4(a): phi = x/|x|, Sigma = diag(+-1), w ~ N(0, I), one example, label +-1.

    Args:
        seeds: one model each, the same for all gammas and rates.
        gammas, rates: pairs are the cases; a rate is the learning rate itself (lambda(0) is 1 + gamma^2 d + ...).
        size: attributes d, steps.

    Returns:
        Peak loss, last kernel over the first, whether it diverged, and the floor |phi^T Sigma phi + 2 gamma y| over the
        first kernel; each (cases, seeds).
    """
    d, shape = size.d, (len(gammas), len(seeds))
    phi, sign, w = (np.empty((len(seeds), d)) for _ in range(3))
    y = np.empty(len(seeds))
    for j, seed in enumerate(seeds):
        draws = rng(seed, "figure B.4")
        phi[j] = draws.standard_normal(d)
        phi[j] /= np.linalg.norm(phi[j])
        sign[j], w[j], y[j] = draws.choice([-1.0, 1.0], d), draws.standard_normal(d), draws.choice([-1.0, 1.0])
    gamma, lr = np.asarray(gammas)[:, None], np.asarray(rates)[:, None]
    w = np.broadcast_to(w, (*shape, d)).copy()
    peak, gone, first = np.zeros(shape), np.zeros(shape, bool), None
    for _ in range(size.steps + 1):
        J = phi + gamma[..., None] * sign * w
        r = (phi * w).sum(-1) + gamma / 2 * (sign * w * w).sum(-1) - y
        lam = (J * J).sum(-1)
        first = lam if first is None else first
        peak = np.where(gone, peak, np.maximum(peak, r**2 / 2))
        gone |= ~(np.abs(r) < 1e8)
        w = np.where(gone[..., None], w, w - (lr * r)[..., None] * J)
    floor = np.abs((phi * phi * sign).sum(-1) + 2 * gamma * y) / first
    return np.where(gone, np.inf, peak), np.where(gone, np.nan, lam / first), gone, floor


def over_gamma(seeds: Sequence[int], size: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return per seed and gamma: peak, last over first kernel, their excess over the floor; and the tidy table."""
    peak, ends, gone, floor = run(seeds, size.gammas, [size.lr] * len(size.gammas), size)
    rows = [
        (seed, gamma, peak[i, j], ends[i, j], ends[i, j] - floor[i, j], gone[i, j])
        for i, gamma in enumerate(size.gammas)
        for j, seed in enumerate(seeds)
    ]
    frame = pd.DataFrame(rows, columns=["seed", "gamma", "peak", "end", "above_floor", "diverged"])
    small = [g for g in size.gammas if g <= 1.001e-3]
    wide = frame[frame["gamma"].isin(small)].pivot(index="seed", columns="gamma", values="end")
    slope = [(seed, np.polyfit(np.log10(small), row.to_numpy(), 1)[0]) for seed, row in wide.iterrows()]
    return evidence.table(frame, "gamma"), evidence.table(pd.DataFrame(slope, columns=["seed", "end_slope"]))


def over_rates(seeds: Sequence[int], size: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return per seed: smallest log ratio of neighbouring peaks and largest difference of neighbouring last kernels.

    Returns:
        Evidence per seed and rate (`peak`, `end`, `diverged`), and the differences between neighbouring rates below 4
        per seed and rate (`rise` of log10 of the peak, `fall` of the last kernel).
    """
    peak, ends, gone, _ = run(seeds, [size.gamma] * len(size.rates), size.rates, size)
    rows = [
        (seed, rate, peak[i, j], ends[i, j], gone[i, j])
        for i, rate in enumerate(size.rates)
        for j, seed in enumerate(seeds)
    ]
    steps = [
        (seed, size.rates[i + 1], np.log10(peak[i + 1, j] / peak[i, j]), ends[i, j] - ends[i + 1, j])
        for i in range(len(size.rates) - 1)
        if size.rates[i + 1] < 4
        for j, seed in enumerate(seeds)
    ]
    table = evidence.table(pd.DataFrame(rows, columns=["seed", "rate", "peak", "end", "diverged"]), "rate")
    return table, evidence.table(pd.DataFrame(steps, columns=["seed", "rate", "rise", "fall"]), "rate")


def released(seed: int, size: Any) -> pd.DataFrame:
    """Train the general quadratic model at the sizes of the code released with the paper.

    n inputs on the sphere in d dimensions, random labels +-1, diagonal Sigma_i of random signs, w(0) = 0, mean square.

    Args:
        seed: of everything.
        size: attributes d, n, gamma, lr, steps.

    Returns:
        One row per step: step, loss (mean square), top eigenvalue of the kernel over its first value.
    """
    draws = rng(seed, "released")
    phi = draws.standard_normal((size.n, size.d))
    phi /= np.linalg.norm(phi, axis=1, keepdims=True)
    sign, y = draws.choice([-1.0, 1.0], (size.n, size.d)), draws.choice([-1.0, 1.0], size.n)
    w, rows = np.zeros(size.d), []
    for t in range(size.steps + 1):
        J, r = phi + size.gamma * sign * w, phi @ w + size.gamma / 2 * sign @ w**2 - y
        rows.append((t, (r**2).mean(), np.linalg.eigvalsh(J @ J.T)[-1]))
        if not rows[-1][1] < 1e12:
            break
        w = w - 2 * size.lr / size.n * r @ J
    frame = pd.DataFrame(rows, columns=["step", "loss", "kernel"])
    return frame.assign(
        rate=2 * size.lr * frame["kernel"].iloc[0] / size.n, kernel=frame["kernel"] / frame["kernel"].iloc[0]
    )


def losses(seed: int, gamma: float, rate: float, steps: int, d: int = 100) -> list[float]:
    """Return the loss of the general model on one example, label +-1, until it exceeds 1e8 times its start.

    Args:
        seed: of phi = x/|x|, Sigma = diag(+-1), w ~ N(0, I) and the label.
        gamma: strength of the quadratic term.
        rate: learning rate times lambda(0).
        steps: updates.
        d: number of weights.
    """
    draws = rng(seed, "figure B.4")
    phi = draws.standard_normal(d)
    phi /= np.linalg.norm(phi)
    sign, w, y = draws.choice([-1.0, 1.0], d), draws.standard_normal(d), draws.choice([-1.0, 1.0])
    found, lr = [], None
    for _ in range(steps + 1):
        J, r = phi + gamma * sign * w, phi @ w + gamma / 2 * sign @ w**2 - y
        lr = rate / (J @ J) if lr is None else lr
        found.append(float(r**2 / 2))
        if not found[-1] < 1e8 * (found[0] + 0.5):
            break
        w = w - lr * r * J
    return found


def reverses(steps: pd.DataFrame) -> float:
    """Return the first rate of `over_rates` whose mean last kernel is above that of the rate before; NaN if none."""
    mean = steps["fall"].groupby(level="rate").mean()
    return float(next((rate for rate, fall in mean.items() if fall < 0), np.nan))
