"""What needs no training: the definition, the targets' EGOPs, and what knowing one is worth to a kernel machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn import evidence
from traindyn.compute import generator
from traindyn.learn import data
from traindyn.learn.data.targets import target
from traindyn.measure.agop import agop, alignment, baselines
from traindyn.measure.kernels import relu_ntk
from traindyn.studies.agop import tasks
from traindyn.studies.agop.relu import network


def definition(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Check Eqs. (4.5) and (4.6) on a random network and the rank-2 target, in float64.

    Args:
        seeds: network, inputs, rotation.
        size: attributes d, n, width, depth.

    Returns:
        One row per seed: gradient (largest difference of the passes written out and automatic differentiation, over
        the largest gradient), library (the same of both AGOPs), scale (change of the alignment when f is multiplied by
        7), rotation (when inputs and EGOP are rotated together), one_sided (when the inputs alone are: a control),
        identity (alignment of the identity matrix against Tr G* / (sqrt(d) |G*|)).
    """
    rows = []
    G = target(2).egop(size.d, dtype=torch.float64)
    for seed in seeds:
        net = network(seed, size.d, size, torch.float64)
        X = torch.randn(size.n, size.d, dtype=torch.float64, generator=generator(seed, "train"))
        Q = torch.linalg.qr(torch.randn(size.d, size.d, dtype=torch.float64, generator=generator(seed, "rotation")))[0]
        with torch.enable_grad():
            x = X.clone().requires_grad_(True)
            (slopes,) = torch.autograd.grad(net.model(x).sum(), x)
        ours = net.agop(X)
        turned = agop(lambda z, Q=Q, f=net.model: f(z @ Q), X @ Q.T)  # z = Q x
        cos = float(alignment(ours, G))
        rows.append(
            {
                "seed": seed,
                "gradient": float((net.slopes(X) - slopes).abs().max() / slopes.abs().max()),
                "library": float((ours - agop(net.model, X)).abs().max() / ours.abs().max()),
                "scale": abs(float(alignment(49 * ours, G)) - cos),
                "rotation": abs(float(alignment(turned, Q @ G @ Q.T)) - cos),
                "one_sided": abs(float(alignment(turned, G)) - cos),
                "identity": abs(baselines(G)["isotropic"] - float(G.trace() / (math.sqrt(size.d) * G.norm()))),
            }
        )
    return evidence.table(pd.DataFrame(rows))


def egops(seeds: Sequence[int], size: Any) -> tuple[pd.DataFrame, dict[str, float]]:
    """Compare the closed-form EGOPs with averages over random inputs, gradients by automatic differentiation.

    Args:
        seeds: of the inputs.
        size: attributes d, samples.

    Returns:
        Per seed and target: z (largest deviation of an entry in units of its standard error), error (the same, plain,
        over the largest entry), cosine, trace (relative error); and seedless: the EGOPs' ranks and eigenvalues, and
        the identity's alignment in 100 dimensions.
    """
    rows, exact = [], {}
    for name, rank in (("rank2", 2), ("rank3", 3), ("rank4", 4), ("full", "full")):
        f = target(rank)
        G = f.egop(size.d, dtype=torch.float64)
        for seed in seeds:
            X = torch.randn(size.samples, size.d, dtype=torch.float64, generator=generator(seed, f"egop-{name}"))
            with torch.enable_grad():
                x = X.requires_grad_(True)
                (slopes,) = torch.autograd.grad(f(x).sum(), x)
            found = slopes.T @ slopes / len(X)
            spread = (slopes.square().T @ slopes.square() / len(X) - found.square()).clamp(min=0).sqrt()
            z = (found - G).abs() / (spread / math.sqrt(len(X))).clamp(min=1e-12)
            rows.append(
                {
                    "seed": seed,
                    "target": name,
                    "z": float(z.max()),
                    "error": float((found - G).abs().max() / G.abs().max()),
                    "cosine": float(alignment(found, G)),
                    "trace": abs(float(found.trace() / G.trace()) - 1),
                }
            )
        values = torch.linalg.eigvalsh(G).flip(0)
        exact |= {f"directions_{name}": int((values > 1e-12 * values[0]).sum())}
        exact |= {f"isotropic_{name}": baselines(f.egop(100, dtype=torch.float64))["isotropic"]}
        exact |= {f"eigen_{name}_{k}": float(values[k]) for k in range(min(4, size.d))}
    return evidence.table(pd.DataFrame(rows), "target"), exact


def multi_index(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Fit a target on a few directions by kernel ridge regression, with inputs as they are and mapped by G*^(1/2).

    The kernel is the tangent kernel of an infinitely wide two-layer ReLU network; ridges are chosen on validation data.

    Args:
        seeds: of the samples.
        size: attributes rank, n, d, noise, n_val, n_test, ridges, leak (multiple of the identity that the map adds).

    Returns:
        One row per seed: plain, mapped (test losses), ratio (log of the second over the first), random (the same
        log-ratio for a map with the same eigenvalues in random directions: a control).
    """
    rows = []
    for seed in seeds:
        task = tasks.synthetic(seed, size, torch.float64)
        values, vectors = torch.linalg.eigh(task.G)
        root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
        Q = torch.linalg.qr(torch.randn(size.d, size.d, dtype=torch.float64, generator=generator(seed, "rotation")))[0]
        eye = size.leak * torch.eye(size.d, dtype=torch.float64)
        plain = _ridge(task, torch.eye(size.d, dtype=torch.float64), size.ridges)
        mapped = _ridge(task, root + eye, size.ridges)
        random = _ridge(task, Q @ root @ Q.T + eye, size.ridges)
        ratios = {"ratio": math.log(mapped / plain), "random": math.log(random / plain)}
        rows.append({"seed": seed, "plain": plain, "mapped": mapped, **ratios})
    return evidence.table(pd.DataFrame(rows))


def _ridge(task: Any, M: Tensor, ridges: Sequence[float]) -> float:
    """Return the test loss of kernel ridge regression on inputs M x, its ridge chosen on validation data."""
    X = [part @ M for part in (task.X, task.X_val, task.X_test)]
    values, vectors = torch.linalg.eigh(relu_ntk(X[0], depth=2))
    weights = vectors.T @ task.y
    across = [relu_ntk(part, X[0], depth=2) @ vectors for part in X[1:]]
    found = []
    for ridge in ridges:
        fit = weights / (values.clamp(min=0) + ridge * float(values.mean()))
        losses = [float((K @ fit - y).square().mean()) for K, y in zip(across, (task.y_val, task.y_test), strict=True)]
        found.append(losses)
    return min(found)[1]


def by_hand(seed: int, size: Any) -> dict[str, Any]:
    """Return what the chapter's first cells need: samples of the rank-2 task and weights of a two-layer network.

    Args:
        seed: of both.
        size: attributes n, d, noise, width.

    Returns:
        X, y, W (width, d), v (width,).
    """
    X, y, _ = data.polynomial(2, size.n, size.d, size.noise, seed=generator(seed, "train"), dtype=torch.float64)
    net = network(seed, size.d, size, torch.float64)
    return {"X": X, "y": y, "W": net.weights[0].clone(), "v": net.weights[1][0].clone()}


def largest_entry(G: Tensor, size: int = 10) -> np.ndarray:
    """Return the leading block of a matrix over its largest entry, as Figure C.15 draws it."""
    block = G[:size, :size]
    return (block / block.abs().max()).double().numpy()
