"""A wide network of three layers trained by gradient descent: exponential convergence, small moves (lazy training)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import normal
from traindyn.evidence import table
from traindyn.layers import starts
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.hardness import wide

Weights = tuple[Tensor, Tensor, Tensor]


def start(seeds: Sequence[int], m: int, d: int) -> Weights:
    """Return standard normal weights (seeds, m, d), (seeds, m, m), (seeds, 1, m) of the NTK scaling."""
    return tuple(starts(seeds, f"layer {i} {m}", *shape) for i, shape in enumerate(((m, d), (m, m), (1, m))))


def passed(weights: Weights, X: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return outputs (S, n), per layer its inputs and the outputs' slopes in its pre-activations, multipliers included.

    f(x) = (1/sqrt m) w_3 relu((1/sqrt m) W_2 relu((1/sqrt d) W_1 x)), so the gradient in W_l is slope_l inputs_l^T,
    whose inputs carry the multiplier 1/sqrt(fan-in).
    """
    W1, W2, W3 = weights
    m, d = W1.shape[-2:]
    x = X / math.sqrt(d)
    z1 = x @ W1.mT
    h1 = torch.relu(z1) / math.sqrt(m)
    z2 = h1 @ W2.mT
    h2 = torch.relu(z2) / math.sqrt(m)
    f = (h2 @ W3.mT)[..., 0]
    s2 = (z2 > 0) * W3 / math.sqrt(m)
    s1 = (z1 > 0) * (s2 @ W2) / math.sqrt(m)
    return f, [x, h1, h2], [s1, s2, torch.ones_like(f)[..., None]]


def gram(weights: Weights, X: Tensor) -> Tensor:
    """Return the tangent kernel at the training points, (S, n, n): a sum over layers of products of Gram matrices."""
    _, inputs, slopes = passed(weights, X)
    return sum((a @ a.mT) * (s @ s.mT) for a, s in zip(inputs, slopes, strict=True))


def experiment(seeds: Sequence[int], size: SimpleNamespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train on n random points with labels +-1 by GD on half the sum of squares until m-independent time runs out.

    The step is `size.rate` over the largest eigenvalue of the initial kernel.

    Returns:
        Per seed and width: `first`, `middle`, `last` (displacement of a layer over its initial norm), `kernel`
        (change of the tangent kernel over its initial norm), `total` (norm of the whole displacement), `over_bound`
        (largest over t of R_t / (exp(-lambda_n(K_0) t) R_0), which is the slide's bound with c = 1), `end` (R_T/R_0).
        Per seed: the log-log slopes on width of the first five, `<name>_slope`.
    """
    X, y = wide.sphere(seeds, "points", size.n, size.d), normal(seeds, "labels", size.n).sign()
    frames = []
    for m in size.widths:
        weights = begin = start(seeds, m, size.d)
        first = gram(begin, X)
        values = torch.linalg.eigvalsh(first)
        step = (size.rate / values[:, -1])[:, None, None]
        initial = over = None
        for index in range(size.steps + 1):
            f, inputs, slopes = passed(weights, X)
            e = f - y
            risk = e.square().sum(1)
            initial = risk if initial is None else initial
            ratio = risk / initial * torch.exp(values[:, 0] * step[:, 0, 0] * index)
            over = ratio if over is None else torch.maximum(over, ratio)
            if index < size.steps:
                moves = [(s * e[..., None]).mT @ a for a, s in zip(inputs, slopes, strict=True)]
                weights = tuple(W - step * move for W, move in zip(weights, moves, strict=True))
        shifts = [(W - B).flatten(1).norm(dim=1) for W, B in zip(weights, begin, strict=True)]
        sizes = [B.flatten(1).norm(dim=1) for B in begin]
        change = (gram(weights, X) - first).flatten(1).norm(dim=1) / first.flatten(1).norm(dim=1)
        columns = {name: a / b for name, a, b in zip(("first", "middle", "last"), shifts, sizes, strict=True)}
        columns |= {
            "kernel": change,
            "total": torch.stack(shifts).norm(dim=0),
            "over_bound": over,
            "end": risk / initial,
        }
        frames.append(pd.DataFrame({"seed": list(seeds), "width": m, **columns}))
    found = pd.concat(frames, ignore_index=True)
    names = ("first", "middle", "last", "kernel", "total")
    fits = {f"{name}_slope": loglog_slope(found["width"], found[name], by=found["seed"]).value for name in names}
    return table(found, "width"), table(pd.DataFrame(fits).reset_index())
