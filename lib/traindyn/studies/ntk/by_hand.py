"""The chapter's first example: kernel regression with the tangent kernel, and the network it describes, trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import uniform
from traindyn.learn.models import TwoLayer
from traindyn.measure.kernels import two_layer_relu
from traindyn.studies.ntk import networks
from traindyn.studies.ntk.universality import points


class Task(NamedTuple):
    """A few samples of a function of one angle, on the slice of the sphere in R^3, and a grid: X (n, 3), y (n,)."""

    X: Tensor
    y: Tensor
    grid: Tensor
    angles: Tensor


def task(seed: int, size: Any) -> Task:
    """Return `size.n` samples of sin(2 phi) + cos(3 phi)/2, one at random in each of n equal arcs, and a grid."""
    n = size.n
    phi = 2 * math.pi * (torch.arange(n, dtype=torch.float64) + 0.2 + 0.6 * uniform([seed], "angles", n)[0]) / n
    angles = 2 * math.pi * torch.arange(size.grid, dtype=torch.float64) / size.grid
    y = torch.sin(2 * phi) + torch.cos(3 * phi) / 2
    return Task(points(phi, "slice"), y, points(angles, "slice"), angles)


def network(W: Tensor, a: Tensor) -> TwoLayer:
    """Return the library's two-layer network with rows W (m, d) and fixed outer weights a (m,)."""
    m, d = W.shape
    net = TwoLayer(d, m, train="first", scaling="lecture").double()
    with torch.no_grad():
        net.first.weight.copy_(W)
        net.second.weight.copy_(a[None])
    return net


def fitted(seed: int, m: int, found: Task, steps: int) -> Tensor:
    """Train the first layer of a mirrored network by gradient descent on (1/2) sum of squares; return f on the grid.

    The step is 1/lambda_max of the tangent kernel at the start.
    """
    W, a = networks.mirrored([seed], m, found.X.shape[1])
    rate = 1 / torch.linalg.eigvalsh(networks.kernel(W, a, found.X, "relu")[0])[-1]
    for _ in range(steps):
        z = found.X @ W.mT
        residual = (z.relu() @ a[..., None])[..., 0] / math.sqrt(m) - found.y
        W = W - rate * a[..., None] / math.sqrt(m) * (((z > 0) * residual[..., None]).mT @ found.X)
    return networks.output(W, a, found.grid, "relu")[0]


def regression(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Predict between the samples: by the limit kernel, by k_m, and by the trained network of the same width.

    Returns:
        Tidy: seed, width, angle, value, model ("limit kernel", "its own kernel", "trained network").
    """
    parts = []
    for seed in seeds:
        found = task(seed, size)
        K, across = (two_layer_relu(Z, found.X, train="first") for Z in (found.X, found.grid))
        curves = {(m, "limit kernel"): across @ torch.linalg.solve(K, found.y) for m in size.widths}
        for m in size.widths:
            W, a = networks.mirrored([seed], m, 3)
            both = networks.kernel(W, a, torch.cat([found.X, found.grid]), "relu")[0]
            n = len(found.y)
            curves[m, "its own kernel"] = both[n:, :n] @ torch.linalg.solve(both[:n, :n], found.y)
            curves[m, "trained network"] = fitted(seed, m, found, size.steps)
        for (m, model), value in curves.items():
            frame = {"seed": seed, "width": m, "angle": found.angles, "value": value, "model": model}
            parts.append(pd.DataFrame(frame))
    return pd.concat(parts)


def samples(seed: int, size: Any) -> pd.DataFrame:
    """Return the samples of the task, for the drawing: angle, value."""
    found = task(seed, size)
    phi = torch.atan2(found.X[:, 1], found.X[:, 0]) % (2 * math.pi)
    return pd.DataFrame({"angle": phi, "value": found.y})


def farthest(found: pd.DataFrame) -> pd.DataFrame:
    """Return by seed, width and model the largest distance of a prediction from that of the limit kernel."""
    wide = found.pivot(index=["seed", "width", "angle"], columns="model", values="value")
    others = [name for name in wide.columns if name != "limit kernel"]
    gaps = wide[others].sub(wide["limit kernel"], axis=0).abs().groupby(["seed", "width"]).max()
    return gaps.reset_index().melt(["seed", "width"], var_name="model", value_name="distance")
