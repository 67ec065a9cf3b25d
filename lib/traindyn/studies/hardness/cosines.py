"""Cosine families: how many there are, their inner products, the path norm of their integral representation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from scipy.integrate import quad
from torch import Tensor

from traindyn.compute import generator
from traindyn.evidence import table


def frequencies(d: int) -> Tensor:
    """Return all w of {0, 1, ...}^d with sum at most d, one per row, float64."""
    found = [()]
    for _ in range(d):
        found = [(*w, i) for w in found for i in range(d - sum(w) + 1)]
    return torch.tensor(found, dtype=torch.float64)


def counted(d: int) -> int:
    """Return the number of these w by counting sums, one coordinate after the other (no formula is used)."""
    ways = [1] + [0] * d  # ways[s]: vectors of the coordinates so far with sum s
    for _ in range(d):
        ways = [sum(ways[: s + 1]) for s in range(d + 1)]
    return sum(ways)


def counts(dims: Sequence[int]) -> pd.DataFrame:
    """Return per d: `wrong` (count minus C(2d, d)), `sharp` (over 4^d / sqrt(pi d)), `printed` (over 2^d / sqrt d)."""
    rows = []
    for d in dims:
        n = counted(d)
        rows.append((d, n - math.comb(2 * d, d), n / (4**d / math.sqrt(math.pi * d)), n / (2**d / math.sqrt(d))))
    return table(pd.DataFrame(rows, columns=["d", "wrong", "sharp", "printed"]), "d")


def growth(found: pd.DataFrame) -> dict[str, float]:
    """Return the smallest factor by which the printed ratio of `counts` grows per dimension.

    And `positive_members`, how many there are for d = 4 if every frequency is at least 1.
    """
    d, log = found.index.to_numpy(), np.log(found["printed"].to_numpy())
    members = int((frequencies(4) >= 1).all(1).sum())
    return {"grows": float(np.exp(np.diff(log) / np.diff(d)).min()), "positive_members": members}


def gram(d: int) -> Tensor:
    """Return the exact inner products of cos(w^T x) over [0, 2 pi]^d, uniform law, by a trapezoidal rule per axis.

    A product of two of them has frequencies of at most 2d per axis, which 2d + 1 points integrate without error.
    """
    line = 2 * math.pi * torch.arange(2 * d + 1, dtype=torch.float64) / (2 * d + 1)
    points = torch.cartesian_prod(*[line] * d).reshape(-1, d)
    values = torch.cos(points @ frequencies(d).T)
    return values.T @ values / len(points)


def orthogonal(d: int) -> dict[str, float]:
    """Return how far the family is from orthonormal: off the diagonal, on it (but w = 0), and on it after sqrt 2."""
    G = gram(d)
    norms = G.diagonal()[1:]
    off = G - torch.diag(G.diagonal())
    return {
        "off": float(off.abs().max()),
        "norm_gap": float((norms - 1).abs().max()),
        "scaled_gap": float((2 * norms - 1).abs().max()),
    }


def path_norms(dims: Sequence[int]) -> pd.DataFrame:
    r"""Return per d the path norm of cos z = 1 - \int_0^Z cos(b) relu(z - b) db for ||w||_1 = d, Z = 2 pi d, over d^2.

    A neuron relu(w^T x - b) costs |cos b| (||w||_1 + b), the constant costs 1. The integral is split at the zeros of
    the cosine, so that the quadrature sees smooth functions.
    """
    rows = []
    for d in dims:
        cuts = [0.0, *(math.pi * (k + 0.5) for k in range(2 * d)), 2 * math.pi * d]
        pieces = (
            quad(lambda b, d=d: abs(math.cos(b)) * (d + b), low, high)[0]
            for low, high in zip(cuts[:-1], cuts[1:], strict=True)
        )
        rows.append((d, (1 + sum(pieces)) / d**2))
    return table(pd.DataFrame(rows, columns=["d", "norm_per_square"]), "d")


def norm_spread(found: pd.DataFrame) -> dict[str, float]:
    """Return by how much the numbers of `path_norms` differ over the dimensions, relative to the least."""
    norms = found["norm_per_square"]
    return {"norm_spread": float(norms.max() / norms.min() - 1)}


def shamir(seeds: Sequence[int], size: SimpleNamespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw 2^(rate d) vectors of norm sqrt d and take the inner products of cos(w^T x) under x ~ N(0, I).

    Their closed form is e^(-d) cosh(w^T w').

    Returns:
        Per seed and d: `largest` and `smallest` inner product off the diagonal, over the diagonal's, `members`.
        Per seed: `slope` of log `largest` on d, `closed_gap` (largest distance, in standard errors, of the closed form
        to a Monte Carlo mean at the smallest d).
    """
    rows, per_seed = [], []
    for seed in seeds:
        logs = []
        for d in size.dims:
            g = generator(seed, f"frequencies {d}")
            w = torch.randn(math.ceil(2 ** (size.rate * d)), d, dtype=torch.float64, generator=g)
            w = math.sqrt(d) * w / w.norm(dim=1, keepdim=True)
            inner = torch.cosh((w @ w.T)[*torch.triu_indices(len(w), len(w), 1)]) / math.cosh(d)
            logs.append(math.log(float(inner.max())))
            rows.append((seed, d, float(inner.max()), float(inner.min()), len(w)))
            if d == size.dims[0]:
                x = torch.randn(size.samples, d, dtype=torch.float64, generator=generator(seed, "inputs"))
                products = torch.cos(x @ w[:1].T) * torch.cos(x @ w[1:].T)
                exact = math.exp(-d) * torch.cosh(w[1:] @ w[0])
                gap = (products.mean(0) - exact).abs() / (products.std(0) / math.sqrt(size.samples))
        slope = np.polyfit(size.dims, logs, 1)[0]
        per_seed.append((seed, float(slope), float(gap.max())))
    columns = ["seed", "d", "largest", "smallest", "members"]
    return (
        table(pd.DataFrame(rows, columns=columns), "d"),
        table(pd.DataFrame(per_seed, columns=["seed", "slope", "closed_gap"])),
    )
