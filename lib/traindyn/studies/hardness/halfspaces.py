"""Intersections of integer halfspaces as two-layer ReLU networks, exactly, on the hypercube {-1, 1}^d (Theorem 5)."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import generator
from traindyn.evidence import table
from traindyn.studies.hardness.parities import cube


def step(z: Tensor) -> Tensor:
    """Return 1 where z >= 0, else 0."""
    return (z >= 0).double()


def ramp(z: Tensor, a: float = 2.0) -> Tensor:
    """Return relu(a z) - relu(a z - 1), which is the step for z < 0 and for z >= 1/a."""
    return torch.relu(a * z) - torch.relu(a * z - 1)


def draw(g: torch.Generator, k: int, d: int, largest: int) -> tuple[Tensor, Tensor]:
    """Return k integer halfspaces w^T x - b - 1/2: weights (k, d) up to `largest` and thresholds (k,), natural numbers.

    A weight that is zero in all its entries gets a one; b < ||w||_1, so that x = (1, ..., 1) lies in all of them.
    """
    w = torch.randint(largest + 1, (k, d), generator=g).double()
    w[w.sum(1) == 0, 0] = 1
    b = (torch.rand(k, generator=g, dtype=torch.float64) * w.sum(1).clamp(max=2 * largest)).floor()
    return w, b


def margins(w: Tensor, b: Tensor) -> Tensor:
    """Return c_i(x) = w_i^T x - b_i - 1/2 for every x of {-1, 1}^d, shape (2^d, k)."""
    return (2 * cube(w.shape[1]) - 1) @ w.T - b - 0.5


def network(c: Tensor, inside: bool = False) -> Tensor:
    """Return g(x) = (1/2k) (sum_i (relu(2 c_i) - relu(2 c_i - 1)) - k + 1/3), shape (2^d,).

    Args:
        c: margins, (2^d, k).
        inside: take -k + 1/3 into the sum instead, a reading that the slide's brackets do not allow.
    """
    k = c.shape[1]
    return (ramp(c).sum(1) + (k if inside else 1) * (1 / 3 - k)) / (2 * k)


def path_norms(w: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the path norm of g neuron by neuron, the slide's bound, and the bound with its bracket set right.

    A bias counts as the weight of a constant input 1; a constant is a neuron of outer weight k - 1/3 and bias 1.
    """
    k, l1 = len(w), w.abs().sum(1)
    exact = (k - 1 / 3 + (2 * l1 + (2 * b + 1).abs() + 2 * l1 + (2 * b + 2).abs()).sum()) / (2 * k)
    printed = (k + 1 / 3 + (2 * (2 * l1 + b.abs() + 0.5) + 1).sum()) / (2 * k)
    right = (k + 1 / 3 + (2 * 2 * (l1 + b.abs() + 0.5) + 1).sum()) / (2 * k)
    return exact, printed, right


def intersections(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Draw intersections of `size.least` to `size.most` halfspaces; compare them with their networks everywhere.

    Returns:
        Per seed: `draws`; `closest` (least |c|); `step_wrong` (points where the two ReLUs are not the step);
        `both` (intersections that take both values); `wrong` (those of them whose network has a wrong sign anywhere),
        `wrong_inside` (the same of the other reading); `above_printed`, `above_right` (path norms above either bound).
    """
    rows = []
    for seed in seeds:
        g = generator(seed, "halfspaces")
        count = dict.fromkeys(("both", "wrong", "wrong_inside", "above_printed", "above_right", "step_wrong"), 0)
        closest = float("inf")
        for _ in range(size.draws):
            k = int(torch.randint(size.least, size.most + 1, (1,), generator=g))
            w, b = draw(g, k, size.d, size.largest)
            c = margins(w, b)
            closest = min(closest, float(c.abs().min()))
            count["step_wrong"] += int((ramp(c) != step(c)).sum())
            meets = (c >= 0).all(1)
            exact, printed, right = path_norms(w, b)
            count["above_printed"] += int(exact > printed)
            count["above_right"] += int(exact > right)
            if meets.any() and not meets.all():
                count["both"] += 1
                count["wrong"] += int(((network(c) > 0) != meets).any())
                count["wrong_inside"] += int(((network(c, inside=True) > 0) != meets).any())
        rows.append({"seed": seed, "draws": size.draws, "closest": closest, **count})
    return table(pd.DataFrame(rows))


def limit(factors: Sequence[float] = (10.0, 1e3, 1e6)) -> dict[str, float]:
    """Follow relu(a z) - relu(a z - 1) as a grows: at 0, away from 0, and at a = 2 where |z| < 1/2."""
    z = torch.tensor([-1.0, -1e-5, 1e-5, 1.0], dtype=torch.float64)
    zero, quarter = torch.zeros(1, dtype=torch.float64), torch.tensor([0.25], dtype=torch.float64)
    return {
        "at_zero": float(max(ramp(zero, a) for a in factors)),
        "away": float((ramp(z, factors[-1]) - step(z)).abs().max()),
        "quarter": float((ramp(quarter) - step(quarter)).abs()),
    }
