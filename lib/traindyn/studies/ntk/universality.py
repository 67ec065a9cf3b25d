r"""Which functions the tangent kernel reaches: everything on a slice of the sphere, not everything on the sphere.

On the slice {|x| = 1, x_d = 1/sqrt d} two points at an angle phi of their first d - 1 coordinates have the inner
product u = (1 - 1/d) cos phi + 1/d; without a fixed coordinate, on the circle, u = cos phi. The kernel is
kappa(u) = u (pi - arccos u)/(2 pi) = u/4 + u arcsin(u)/(2 pi).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import normal, uniform
from traindyn.evidence import table
from traindyn.measure.kernels import two_layer_relu
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.ntk.kernels import circle

DOMAINS = ("slice", "circle")


def points(angles: Tensor, domain: str) -> Tensor:
    """Return points of the slice in R^3 or of the circle in R^2 at given angles, (..., 2 or 3)."""
    if domain == "circle":
        return circle(angles)
    flat = math.sqrt(2 / 3) * circle(angles)
    return torch.cat([flat, torch.full_like(flat[..., :1], 1 / math.sqrt(3))], -1)


def kernel_on(angles: Tensor, others: Tensor, domain: str) -> Tensor:
    """Return the tangent kernel between points at given angles, (n, n2)."""
    return two_layer_relu(points(angles, domain), points(others, domain), train="first")


def coefficients(size: Any) -> pd.DataFrame:
    """Return the Fourier coefficients of the kernel as a function of phi on both domains: frequency, value, domain."""
    phi = 2 * math.pi * torch.arange(size.grid, dtype=torch.float64) / size.grid
    parts = []
    for domain in DOMAINS:
        row = kernel_on(torch.zeros(1, dtype=torch.float64), phi, domain)[0]
        values = torch.fft.rfft(row).real[: size.highest + 1] / size.grid
        parts.append(pd.DataFrame({"frequency": range(size.highest + 1), "coefficient": values, "domain": domain}))
    return pd.concat(parts)


def fourier(found: pd.DataFrame) -> dict[str, float]:
    """Read off the coefficients what Theorem 8 rests on.

    Returns:
        `lowest`: the smallest coefficient on the slice, times the square of its frequency plus one (they fall as k^-2),
        `decay`: their log-log slope from frequency 100 on, `odd_free`: the largest odd coefficient from 3 on without a
        fixed coordinate, `even_free`: the smallest even one there, scaled as above.
    """
    both = {name: part.set_index("frequency")["coefficient"] for name, part in found.groupby("domain")}
    inside, free = both["slice"], both["circle"]
    scaled = inside * (inside.index + 1) ** 2
    late = inside[inside.index >= 100]
    odd, even = free[(free.index % 2 == 1) & (free.index >= 3)], free[free.index % 2 == 0]
    return {
        "lowest": float(scaled.min()),
        "decay": loglog_slope(late.index, late.clip(lower=0)).value,
        "odd_free": float(odd.abs().max()),
        "even_free": float((even * (even.index + 1) ** 2).min()),
    }


def kinked(seed: int) -> tuple[Tensor, Tensor]:
    """Return places and heights of the three kinks of a random target on the circle."""
    return 2 * math.pi * uniform([seed], "kinks", 3)[0], normal([seed], "heights", 3)[0]


def interpolate(seeds: Sequence[int], size: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""Interpolate a random target with three kinks, and cos(3 phi), by kernel sums with equispaced centres.

    The target is sum_j c_j |sin((phi - phi_j)/2)|. The functional (1/6) sum_{j<6} (-1)^j h(j pi/3) has norm one, is 1
    at cos(3 phi) and 0 at every even function and at first harmonics: at every kernel sum on the circle.

    Returns:
        Per seed: `fall` (largest error with the second number of centres over that with the last), `functional` (its
        largest value on kernels centred anywhere on the circle), `distance` (largest error of the best fit of
        cos(3 phi) on the circle with `size.free` random centres), `distance_slice` (the same on the slice). A tidy
        table of errors.
    """
    grid = 2 * math.pi * torch.arange(size.grid, dtype=torch.float64) / size.grid
    hexagon = math.pi / 3 * torch.arange(6, dtype=torch.float64)
    alternating = torch.tensor([1.0, -1.0] * 3, dtype=torch.float64) / 6
    third, n = torch.cos(3 * grid), size.free
    rows, curves = [], []
    for seed in seeds:
        places, heights = kinked(seed)

        def target(phi: Tensor, places=places, heights=heights) -> Tensor:
            return torch.sin((phi[:, None] - places) / 2).abs() @ heights

        errors = []
        for count in size.centres:
            at = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
            weights = torch.linalg.solve(kernel_on(at, at, "slice"), target(at))
            errors.append((kernel_on(grid, at, "slice") @ weights - target(grid)).abs().max().item())
            curves.append((seed, count, errors[-1]))
        free = 2 * math.pi * uniform([seed], "centres", n)[0]
        functional = (alternating @ kernel_on(hexagon, free, "circle")).abs().max().item()
        left = [_best(grid, free, third, domain) for domain in ("circle", "slice")]
        rows.append((seed, errors[1] / errors[-1], functional, *left))
    found = pd.DataFrame(rows, columns=["seed", "fall", "functional", "distance", "distance_slice"])
    return table(found), pd.DataFrame(curves, columns=["seed", "centres", "error"])


def _best(grid: Tensor, centres: Tensor, values: Tensor, domain: str) -> float:
    """Return the largest error of the least-squares fit of values on a grid by kernels at some centres."""
    A = kernel_on(grid, centres, domain)
    fit = torch.linalg.lstsq(A, values[:, None], rcond=1e-10, driver="gelsd").solution
    return (A @ fit - values[:, None]).abs().max().item()


def fits(seed: int, size: Any) -> pd.DataFrame:
    """Return cos(3 phi) and its best kernel sum on both domains with few random centres, tidy: angle, value, curve."""
    grid = 2 * math.pi * torch.arange(400, dtype=torch.float64) / 400
    centres, third = 2 * math.pi * uniform([seed], "few", size.shown)[0], torch.cos(3 * grid)
    curves = {"target": third}
    for domain in DOMAINS:
        A = kernel_on(grid, centres, domain)
        curves[domain] = (A @ torch.linalg.lstsq(A, third[:, None], rcond=1e-10, driver="gelsd").solution)[:, 0]
    return pd.concat([pd.DataFrame({"angle": grid, "value": v, "curve": name}) for name, v in curves.items()])


def many_dimensions(seeds: Sequence[int], size: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Interpolate |s_1| + s_2 s_3 on the slice in R^d from random points; s are the first coordinates, scaled.

    Returns:
        Per seed `rmse_fall`: test root mean square with the fewest points over that with the most; a tidy table.
    """
    d, most = size.d, size.points[-1]
    rows = []
    for seed in seeds:
        S = normal([seed], "slice", most + size.test, d - 1)[0]
        S = S / S.norm(dim=1, keepdim=True)
        X = torch.cat([math.sqrt(1 - 1 / d) * S, torch.full((len(S), 1), 1 / math.sqrt(d), dtype=torch.float64)], 1)
        y = math.sqrt(d) * S[:, 0].abs() + d * S[:, 1] * S[:, 2]
        K = two_layer_relu(X, X[:most], train="first")
        for n in size.points:
            weights = torch.linalg.solve(K[:n, :n], y[:n])
            rows.append((seed, n, (K[most:, :n] @ weights - y[most:]).square().mean().sqrt().item()))
    frame = pd.DataFrame(rows, columns=["seed", "points", "rmse"])
    ends = frame.pivot(index="seed", columns="points", values="rmse")
    fall = (ends[size.points[0]] / ends[size.points[-1]]).rename("rmse_fall")
    return table(fall.reset_index()), frame
