r"""The tangent kernel of a two-layer network at finite width, its limit, and the norm that belongs to it (4.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import normal
from traindyn.evidence import table
from traindyn.layers import starts
from traindyn.measure.kernels import two_layer_relu
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.ntk import networks


def circle(angles: Tensor) -> Tensor:
    """Return points (cos, sin) of the unit circle, (..., 2)."""
    return torch.stack([angles.cos(), angles.sin()], -1)


def relu_limit(angles: Tensor) -> Tensor:
    """Return the limit of the tangent kernel at angles between unit inputs: cos(theta) (pi - theta)/(2 pi)."""
    return two_layer_relu(circle(torch.zeros_like(angles)), circle(angles), train="first").diagonal()


def expected_slopes(angles: Tensor, sigma: str, nodes: int = 80) -> Tensor:
    """Return E[sigma'(w . x) sigma'(w . x')] for unit inputs at each angle: closed form, or Gauss-Hermite nodes."""
    if sigma == "relu":
        return (math.pi - angles) / (2 * math.pi)
    at, weight = np.polynomial.hermite_e.hermegauss(nodes)
    at, weight = torch.from_numpy(at), torch.from_numpy(weight / math.sqrt(2 * math.pi))
    u, v = at[:, None, None], angles.cos() * at[:, None, None] + angles.sin() * at[None, :, None]
    slope = networks.SIGMA[sigma][1]
    return (weight[:, None, None] * weight[None, :, None] * slope(u) * slope(v)).sum((0, 1))


def shapes(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Return k_m over the angle between two unit inputs for networks of growing width, and the limit: tidy."""
    angles = torch.linspace(0, math.pi, size.angles, dtype=torch.float64)
    X = circle(angles)
    parts = []
    for m in size.widths:
        W = networks.weights(seeds, m, 2, "shape")
        K = networks.kernel(W, torch.ones(len(seeds), m, dtype=torch.float64), X, "relu")[:, 0]
        parts += [
            pd.DataFrame({"seed": s, "width": m, "angle": angles, "kernel": row, "limit": relu_limit(angles)})
            for s, row in zip(seeds, K, strict=True)
        ]
    return pd.concat(parts)


def limit(seeds: Sequence[int], size: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""Measure (1/m) sum_j sigma'(w_j . x) sigma'(w_j . x') - E over many networks, widths and angles.

    For the ReLU the sum is binomial, so m times the mean square is q (1 - q), q = (pi - theta)/(2 pi).

    Returns:
        Per seed: `z`, the mean over widths and angles of (mean square over its expectation - 1), divided by what a
        normal error of that many draws would give; by seed and activation: `slope` of the root mean square in m, and
        `fall` from the smallest to the largest width.
    """
    angles = torch.tensor(size.angles, dtype=torch.float64)
    expected = {sigma: expected_slopes(angles, sigma) for sigma in ("relu", "tanh")}
    seeds, q = list(seeds), expected["relu"]
    excess, squares = np.zeros((len(seeds), len(size.widths), len(angles))), {sigma: {} for sigma in expected}
    for i, seed in enumerate(seeds):
        for k, m in enumerate(size.widths):
            found = {sigma: [] for sigma in expected}
            for j, angle in enumerate(angles):
                g = starts([seed], f"pair-{m}-{j}", size.draws, m, 2)[0]
                u, v = g[..., 0], g @ circle(angle)
                for sigma, values in found.items():
                    slope = networks.SIGMA[sigma][1]
                    share = (slope(u) * slope(v)).mean(-1)
                    values.append((share - expected[sigma][j]).square().mean().item())
                excess[i, k, j] = m * found["relu"][-1] / float(q[j] * (1 - q[j])) - 1
            for sigma, values in found.items():
                squares[sigma][seed, m] = math.sqrt(float(np.mean(values)))
    rows = []
    for sigma, roots in squares.items():
        for seed in seeds:
            root = [roots[seed, m] for m in size.widths]
            rows.append((seed, sigma, loglog_slope(size.widths, root).value, root[0] / root[-1]))
    z = excess.mean((1, 2)) * math.sqrt(size.draws / 2 * excess[0].size)
    slopes = pd.DataFrame(rows, columns=["seed", "activation", "slope", "fall"])
    return table(pd.DataFrame({"seed": seeds, "z": z})), table(slopes, "activation")


def closed_form(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    r"""Compare the closed form on the sphere with the kernel of one very wide network.

    Returns:
        Per seed: `z` (largest deviation over angles, in standard errors of a binomial share), `z_norms` (the same for
        inputs of norms 2 and 1/2, with the cosine of their angle), `z_wrong` (with (pi - theta)/pi instead), and
        `eigenvalue`, the smallest of the closed form's Gram matrix on random points of a sphere.
    """
    angles = torch.linspace(0.05, math.pi - 0.05, size.angles, dtype=torch.float64)
    q = (math.pi - angles) / (2 * math.pi)
    X = networks.sphere(seeds, size.points, size.d, "gram")
    rows = []
    for i, seed in enumerate(seeds):
        W = networks.weights([seed], size.m, 2, "wide")
        a = torch.ones(1, size.m, dtype=torch.float64)
        unit = circle(torch.cat([torch.zeros(1), angles]))
        scaled = torch.cat([2 * unit[:1], unit[1:] / 2])
        found = [networks.kernel(W, a, Z, "relu")[0, 0, 1:] for Z in (unit, scaled)]
        formula = [two_layer_relu(Z[:1], Z[1:], train="first")[0] for Z in (unit, scaled)]
        error = angles.cos().abs() * (q * (1 - q) / size.m).sqrt()
        z, z_norms = (((k - f) / error).abs().max().item() for k, f in zip(found, formula, strict=True))
        wrong = ((found[0] - 2 * formula[0]) / error).abs().max().item()
        eigenvalue = torch.linalg.eigvalsh(two_layer_relu(X[i], train="first"))[0].item()
        rows.append((seed, z, z_norms, wrong, eigenvalue))
    return table(pd.DataFrame(rows, columns=["seed", "z", "z_norms", "z_wrong", "eigenvalue"]))


def least_norm(seeds: Sequence[int], size: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""Measure the shortest move |W - W_0| that interpolates, sqrt(y^T K_m^-1 y), against sqrt(y^T K^-1 y).

    Returns:
        Per seed: `slope` of the root mean square (over draws) of the squares' relative gap in m, `fall` of it from the
        smallest to the largest width, and `move_gap`: the relative difference of |J^+ y|^2 and y^T K_m^-1 y, from the
        Jacobian itself at the smallest width. A tidy table of the gaps.
    """
    X, y = networks.sphere(seeds, size.n, size.d), normal(seeds, "labels", size.n)
    K = torch.stack([two_layer_relu(points, train="first") for points in X])
    target = (y * torch.linalg.solve(K, y)).sum(-1)
    rows, moves = [], None
    for m in size.widths:
        gaps = []
        for draw in range(size.draws):
            W, a = networks.weights(seeds, m, size.d, f"draw-{draw}"), networks.signs(seeds, m)
            square = (y * torch.linalg.solve(networks.kernel(W, a, X, "relu"), y)).sum(-1)
            gaps.append(square / target - 1)
            if moves is None:
                J = networks.jacobian(W, a, X, "relu").flatten(2)
                shortest = (torch.linalg.pinv(J) @ y[..., None])[..., 0]
                moves = (shortest.square().sum(-1) / square - 1).abs().tolist()
        root = torch.stack(gaps).square().mean(0).sqrt()
        rows += [(seed, m, gap) for seed, gap in zip(seeds, root.tolist(), strict=True)]
    frame = pd.DataFrame(rows, columns=["seed", "width", "gap"])
    slope = loglog_slope(frame["width"], frame["gap"], by=frame["seed"]).value
    ends = frame.pivot(index="seed", columns="width", values="gap")
    found = pd.DataFrame({"slope": slope, "fall": ends[size.widths[0]] / ends[size.widths[-1]]})
    found["move_gap"] = pd.Series(moves, index=list(seeds))
    return table(found.rename_axis("seed").reset_index()), frame
