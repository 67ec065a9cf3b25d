r"""The risk of one periodic neuron, :math:`R_L(w) = E (\sin L w^T x - \sin L w_*^T x)^2`, x ~ N(0, I), and its twin.

With independent normal inputs E sin(a^T x) sin(b^T x) = (e^{-|a-b|^2/2} - e^{-|a+b|^2/2}) / 2, which gives the closed
form.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import generator, normal, uniform
from traindyn.evidence import table


def population(w: Tensor, target: Tensor, L: float, cosine: bool = False) -> Tensor:
    """Return R_L(w) in closed form, for w of shape (..., d); with the cosine in place of the sine if asked."""
    sign = -1.0 if cosine else 1.0
    alone = 1 - sign * (torch.exp(-2 * L**2 * w.square().sum(-1)) + torch.exp(-2 * L**2 * target.square().sum(-1))) / 2
    near = torch.exp(-(L**2) * (w - target).square().sum(-1) / 2)
    return alone - near + sign * torch.exp(-(L**2) * (w + target).square().sum(-1) / 2)


def population_gradient(w: Tensor, target: Tensor, L: float) -> Tensor:
    """Return the gradient of R_L, for w of shape (..., d)."""
    minus, plus = w - target, w + target
    return L**2 * (
        2 * w * torch.exp(-2 * L**2 * w.square().sum(-1, keepdim=True))
        + minus * torch.exp(-(L**2) * minus.square().sum(-1, keepdim=True) / 2)
        - plus * torch.exp(-(L**2) * plus.square().sum(-1, keepdim=True) / 2)
    )


def empirical(w: Tensor, x: Tensor, target: Tensor, L: float) -> Tensor:
    """Return the mean over samples of (sin L w^T x - sin L target^T x)^2, for w (k, d) and x (n, d)."""
    y = torch.sin(L * (x @ target))
    return torch.cat([(torch.sin(L * (rows @ x.T)) - y).square().mean(1) for rows in w.split(20000)])


def grid(size: SimpleNamespace) -> Tensor:
    """Return size.points^2 points of the square [-size.side, size.side]^2 as rows, the second coordinate fastest."""
    line = torch.linspace(-size.side, size.side, size.points, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


def minima(values: Tensor, tolerance: float = 1e-9) -> int:
    """Count inner grid points below all of their eight neighbours by more than `tolerance` (a plateau has none)."""
    inner = values[1:-1, 1:-1]
    n, m = values.shape
    lower = torch.ones_like(inner, dtype=torch.bool)
    for i in (0, 1, 2):
        for j in (0, 1, 2):
            if (i, j) != (1, 1):
                lower &= inner < values[i : n - 2 + i, j : m - 2 + j] - tolerance
    return int(lower.sum())


def wells(target: Tensor, size: SimpleNamespace) -> dict[str, float]:
    """Return the risk at the target, opposite and at 0 for the largest L, of sine and cosine; the plateau is 1."""
    L = max(size.L)
    points = torch.stack((target, -target, 0 * target))
    sine, cosine = (population(points, target, L, kind).tolist() for kind in (False, True))
    return {
        "sine_opposite": sine[1],
        "sine_zero": sine[2],
        "cosine_opposite": cosine[1],
        "at_target": max(sine[0], cosine[0]),
    }


def experiment(seeds: Sequence[int], size: SimpleNamespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare the population's landscape with that of n samples, for every L.

    Returns:
        Per L: `flat` (largest gradient norm on the grid farther than `size.away` from 0 and +-target),
        `population_minima`.
        Per seed and L: `minima` (of the risk of the seed's `size.n` samples), `excess` (those beyond the population's),
        `success` (share of GD starts on that risk that end within `size.near` of the target), `success_population` (the
        same on the population's), `closed_gap` (largest distance of the closed form to a Monte Carlo mean, 20 points
        w).
    """
    target = torch.tensor(size.target, dtype=torch.float64)
    points = grid(size)
    shape = (size.points, size.points)
    away = (
        torch.stack([(points - spot).norm(dim=1) for spot in (0 * target, target, -target)]).min(0).values > size.away
    )
    exact, rows = [], []
    for L in size.L:
        flat = float(population_gradient(points[away], target, L).norm(dim=1).max())
        exact.append((L, flat, minima(population(points, target, L).reshape(shape))))
    counts = {L: count for L, _, count in exact}
    for seed in seeds:
        x = normal([seed], "samples", size.n, 2)[0]
        many = torch.randn(size.draws, 2, dtype=torch.float64, generator=generator(seed, "draws"))
        begin = uniform([seed], "starts", size.starts, 2, low=-size.side, high=size.side)[0]
        spots = begin[:20]
        for L in size.L:
            count = minima(empirical(points, x, target, L).reshape(shape))
            gap = (empirical(spots, many, target, L) - population(spots, target, L)).abs().max()
            on_data, on_law = descend(begin, x, target, L, size), descend(begin, None, target, L, size)
            reached = [float(((end - target).norm(dim=1) < size.near).double().mean()) for end in (on_data, on_law)]
            rows.append((seed, L, count, count - counts[L], *reached, float(gap)))
    columns = ["seed", "L", "minima", "excess", "success", "success_population", "closed_gap"]
    return (
        table(pd.DataFrame(exact, columns=["L", "flat", "population_minima"]), "L"),
        table(pd.DataFrame(rows, columns=columns), "L"),
    )


def descend(w: Tensor, x: Tensor | None, target: Tensor, L: float, size: SimpleNamespace) -> Tensor:
    """Return where GD ends from the rows of w: on the empirical risk of the samples x, or on the population's if None.

    The step is `size.lr` / L^2, since the curvature at the target is about L^2.
    """
    w = w.clone()
    for _ in range(size.steps):
        if x is None:
            slope = population_gradient(w, target, L)
        else:
            z = L * (w @ x.T)
            slope = 2 * L * ((torch.sin(z) - torch.sin(L * (x @ target))) * torch.cos(z)) @ x / len(x)
        w -= size.lr / L**2 * slope
    return w


def trends(found: pd.DataFrame) -> pd.DataFrame:
    """Return per seed the slopes of `minima` and of both success shares on L."""
    rows = []
    for seed, part in found.reset_index().groupby("seed"):
        slopes = (
            float(np.polyfit(part["L"], part[name], 1)[0]) for name in ("minima", "success", "success_population")
        )
        rows.append((seed, *slopes))
    columns = ["seed", "minima_slope", "success_slope", "population_slope"]
    return table(pd.DataFrame(rows, columns=columns))


def surfaces(seed: int, size: SimpleNamespace) -> pd.DataFrame:
    """Return both landscapes at `size.shown` on a coarser grid, tidy: u, v, population, empirical."""
    target = torch.tensor(size.target, dtype=torch.float64)
    coarse = SimpleNamespace(side=size.side, points=size.drawn)
    w, x = grid(coarse), normal([seed], "samples", size.n, 2)[0]
    L = size.shown
    values = {"population": population(w, target, L), "empirical": empirical(w, x, target, L)}
    return pd.DataFrame({"u": w[:, 0], "v": w[:, 1], **{name: value.numpy() for name, value in values.items()}})
