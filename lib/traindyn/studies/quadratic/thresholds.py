"""Where one example rests or diverges, and the kernel and Hessian that its thresholds are counted in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from traindyn import evidence
from traindyn.compute import generator
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.quadratic import scalar


def equilibria(m: int = 10_000, y: float = 1.0) -> dict[str, float]:
    """Look for stable equilibria of eqs. (3.11), (3.12), in r and v = lr lambda with lr = 1, c = 1/m.

    Returns:
        `eigen_gap`: of the Jacobian at r = 0 from {1 - v, 1}, by finite differences; `inside`, `edges`, `outside`:
        shares of tried v that return after r = 1e-3, in [eps, 2 - eps], in (0, eps) and (2 - eps, 2), and outside
        [0, 2]; `origin`: largest modulus of the Jacobian at g = lambda = 0, minus 1; `flip`: how far the point with
        factor -1 (branch 2.1) is from being mapped to itself, over r; `u_flip`, `v_flip`: its u m / C^2 and its
        distance from v = 2 + u + w.
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
    eps = scalar.narrow(m)
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
        "flip": float(np.abs(image(r, v)[0] - r) / abs(r)),
        "u_flip": float(u * m),
        "v_flip": float(abs(u * (4 - v) + 4 * w)),
    }


def ends(seeds: Sequence[int], m: int, count: int) -> pd.DataFrame:
    """Return per seed how many of `count` runs across the catapult window end with lr lambda outside (0, 2)."""
    at, rates = scalar.start(seeds, [m]), np.linspace(2 + scalar.narrow(m), 4 - scalar.narrow(m), count)
    runs = scalar.run(at, rates[:, None, None])
    v = rates[:, None] * runs.lam[:, 0] / at.lam
    return evidence.table(pd.DataFrame({"seed": list(seeds), "ends_outside": (~((v > 0) & (v < 2))).sum(0)}))


def divergence(seeds: Sequence[int], widths: Sequence[int]) -> pd.DataFrame:
    """Return per seed, width and target 0 and 1: whether it diverges at 4 + eps (`above`) and at 4 - eps (`below`)."""
    at, rows = scalar.start(seeds, widths, purpose="divergence"), []
    eps = np.array([scalar.narrow(m) for m in widths])[:, None]
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
    u, v, _ = scalar.weights(seed, m, d)
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
