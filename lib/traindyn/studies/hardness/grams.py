"""Gram matrices at the start: their limits, their smallest eigenvalue, and three identities of the flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import pandas as pd
import torch
from scipy.stats import binom
from torch import Tensor

from traindyn.compute import generator, normal
from traindyn.evidence import table
from traindyn.measure.kernels import two_layer_relu
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.hardness import wide


def scaling(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Compare (0.20), (0.19) and (0.22) by automatic differentiation and by finite differences in time.

    Returns:
        Per seed, relative: `printed` (gradient of (0.19) against minus (0.20)), `mended` (n times that gradient),
        `residual` (difference quotient of e against -G e along (0.20)), `residual_slow` (against -G e/n along (0.19)).
    """
    rows = []
    for seed in seeds:
        X, y = wide.sphere([seed], "points", size.n, size.d)[0], normal([seed], "labels", size.n)[0]
        w = normal([seed], "weights", size.m, 1 + size.d)[0].requires_grad_()
        risk = (wide.output(w, X) - y).square().sum() / (2 * size.n)
        (slope,) = torch.autograd.grad(risk, w)
        w = w.detach()
        speed, G = wide.velocity(w, X, y), wide.gram(w, X)
        h = 1e-7 / float(speed.abs().max())
        e = wide.output(w, X) - y

        def quotient(scale: float, w: Tensor = w, speed: Tensor = speed, h: float = h, X: Tensor = X) -> Tensor:
            ahead, back = (wide.output(w + sign * scale * h * speed, X) for sign in (1, -1))
            return (ahead - back) / (2 * h)

        pairs = (
            (slope, -speed),
            (size.n * slope, -speed),
            (quotient(1.0), -G @ e),
            (quotient(1 / size.n), -G @ e / size.n),
        )
        rows.append((seed, *(float((a - b).norm() / b.norm()) for a, b in pairs)))
    return table(pd.DataFrame(rows, columns=["seed", "printed", "mended", "residual", "residual_slow"]))


def convergence(
    seeds: Sequence[int], size: SimpleNamespace, balanced: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare the Gram matrix at the start with its limit, over widths.

    Args:
        seeds: random seeds.
        size: n, d, widths.
        balanced: a ~ N(0, 1/m), b ~ N(0, I/(m d)), where G itself converges; else a = 0, b on the sphere, where G/m
            does.

    Returns:
        Per seed and width: `error` (relative, Frobenius), `trace` (of the Gram matrix, unscaled).
        Per seed: `slope` of the error, `trace_slope`, both log-log.
    """
    rows = []
    for seed in seeds:
        X = wide.sphere([seed], "points", size.n, size.d)[0]
        K = two_layer_relu(X, weight_std=1 / math.sqrt(size.d)) if balanced else wide.limit(X)
        for m in size.widths:
            if balanced:
                w = normal([seed], f"balanced {m}", m, 1 + size.d)[0] / math.sqrt(m)
                w[:, 1:] /= math.sqrt(size.d)
            else:
                w = wide.at_zero(wide.sphere([seed], f"weights {m}", m, size.d)[0])
            G = wide.gram(w, X)
            error = (G / (1 if balanced else m) - K).norm() / K.norm()
            rows.append((seed, m, float(error), float(G.trace())))
    found = pd.DataFrame(rows, columns=["seed", "width", "error", "trace"])
    fits = {
        name: loglog_slope(found["width"], found[column], by=found["seed"]).value
        for name, column in (("slope", "error"), ("trace_slope", "trace"))
    }
    return table(found, "width"), table(pd.DataFrame(fits).reset_index())


def positivity(deltas: Sequence[float]) -> pd.DataFrame:
    """Return the exact failure probability of Lemma 11 for one point in one dimension, K = 1/2, at two widths.

    There the ReLU features of b = +-1 are a fair coin, so m times the Gram matrix's share is binomial.

    Returns:
        Per -log10 delta: `printed` (failure over delta at the printed width), `right` (at 2 n^2 log(2 n^2/delta) /
        lambda^2), `m_printed`, `m_right`.
    """
    rows, low = [], 0.5
    for delta in deltas:
        m = math.ceil(math.log(1 / delta) / (2 * low**2)), math.ceil(2 * math.log(2 / delta) / low**2)
        fails = [float(binom.cdf(math.ceil(k * low / 2) - 1, k, 0.5)) / delta for k in m]
        rows.append((-math.log10(delta), *fails, *m))
    return table(pd.DataFrame(rows, columns=["digits", "printed", "right", "m_printed", "m_right"]), "digits")


def positivity_share(seeds: Sequence[int], size: SimpleNamespace, delta: float) -> pd.DataFrame:
    """Return how often a random start fails Lemma 11 at its printed width, per seed and n orthonormal points in R^n."""
    rows = []
    for seed in seeds:
        for n in size.points:
            X = torch.eye(n, dtype=torch.float64)
            low = float(wide.smallest(wide.limit(X)))
            m = math.ceil(math.log(n * n / delta) / (2 * low**2))
            b = torch.randn(size.draws, m, n, dtype=torch.float64, generator=generator(seed, f"positivity {n}"))
            w = wide.at_zero(b / b.norm(dim=-1, keepdim=True))
            share = (wide.smallest(wide.gram(w, X)) < m * low / 2).double().mean()
            rows.append((seed, n, float(share) / delta))
    return table(pd.DataFrame(rows, columns=["seed", "n", "share_over_delta"]), "n")


def representer(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Train the random-feature model by GD and express it by the kernel k_m at the training points (Lemma 14).

    The update is (0.20), a -= step sum_i e_i relu(b^T x_i); the weights are w_i = -m step sum_t e_i(t).

    Returns:
        Per seed, relative to the output's norm on unseen points: `gap` (output minus sum_i w_i k_m(x_i, x)),
        `gap_slow` (the same with the gradient of (0.19) and the weights divided by n), `unscaled` (with them not
        divided), `outside` (what the best combination leaves of an output that started from random a).
    """
    rows = []
    for seed in seeds:
        X, Z = wide.sphere([seed], "points", size.n, size.d)[0], wide.sphere([seed], "unseen", size.unseen, size.d)[0]
        b, y = wide.sphere([seed], "weights", size.m, size.d)[0], normal([seed], "labels", size.n)[0]
        features, unseen = torch.relu(X @ b.T), torch.relu(Z @ b.T)
        kernel = unseen @ features.T / size.m
        random = normal([seed], "outer", size.m)[0] / math.sqrt(size.m)
        top = float(torch.linalg.eigvalsh(features @ features.T)[-1])
        ends = []
        for start, scale in ((torch.zeros_like(random), 1.0), (torch.zeros_like(random), 1 / size.n), (random, 1.0)):
            a, total, step = start.clone(), torch.zeros_like(y), 1 / (top * scale)
            for _ in range(size.steps):
                e = features @ a - y
                a -= step * scale * (e @ features)
                total += step * e
            ends.append((unseen @ a, -size.m * total))
        (f, w), (slow, w_slow), (other, _) = ends
        best = kernel @ torch.linalg.lstsq(kernel, other[:, None]).solution[:, 0]
        gaps = (
            (f - kernel @ w).norm() / f.norm(),
            (slow - kernel @ w_slow / size.n).norm() / slow.norm(),
            (slow - kernel @ w_slow).norm() / slow.norm(),
            (other - best).norm() / other.norm(),
        )
        rows.append((seed, *map(float, gaps)))
    return table(pd.DataFrame(rows, columns=["seed", "gap", "gap_slow", "unscaled", "outside"]))
