r"""Kernel regime and mean field: f = (alpha/m) sum_j a_j sigma(w_j . x) with alpha = sqrt m and alpha = 1, under GD.

Loss (1/n) sum_i (f(x_i) - y_i)^2, both layers trained unless said otherwise; all seeds of a width advance together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.evidence import table
from traindyn.layers import starts
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.ntk import networks

SCALINGS = {"ntk": lambda m: math.sqrt(m), "mean_field": lambda m: 1.0}


class State(NamedTuple):
    """Weights W (S, m, d) and a (S, m) of one network per seed."""

    W: Tensor
    a: Tensor


def data(seeds: Sequence[int], n: int, d: int) -> tuple[Tensor, Tensor]:
    """Return n points on the sphere, (S, n, d), and targets d x_1 x_2 + sqrt(d) x_3 of mean square one, (S, n)."""
    X = networks.sphere(seeds, n, d)
    y = d * X[..., 0] * X[..., 1] + math.sqrt(d) * X[..., 2]
    return X, y / y.square().mean(-1, keepdim=True).sqrt()


def _outputs(s: State, X: Tensor, alpha: float, sigma: str) -> tuple[Tensor, Tensor, Tensor]:
    value, slope = networks.SIGMA[sigma]
    z = X @ s.W.mT
    hidden = value(z)
    return alpha / s.a.shape[-1] * (hidden @ s.a[..., None])[..., 0], hidden, slope(z)


def step(s: State, X: Tensor, y: Tensor, alpha: float, lr: float, sigma: str, outer: bool) -> tuple[State, Tensor]:
    """Return the weights after one step of gradient descent, and the loss before it, (S,)."""
    f, hidden, gate = _outputs(s, X, alpha, sigma)
    pull = 2 * lr * alpha / s.a.shape[-1] / X.shape[-2] * (y - f)[..., None]
    W = s.W + s.a[..., None] * ((gate * pull).mT @ X)
    a = s.a + (hidden * pull).sum(-2) if outer else s.a
    return State(W, a), (f - y).square().mean(-1)


def kernel(s: State, X: Tensor, sigma: str, outer: bool) -> Tensor:
    """Return the tangent kernel per neuron, (S, n, n): m / alpha^2 times that of f."""
    _, hidden, gate = _outputs(s, X, 1.0, sigma)
    weighted = gate * s.a[..., None, :]
    K = (X @ X.mT) * (weighted @ weighted.mT)
    return (K + hidden @ hidden.mT if outer else K) / s.a.shape[-1]


def train(seeds: Sequence[int], m: int, scaling: str, sigma: str, outer: bool, size: Any, lr: float) -> pd.DataFrame:
    """Train from a mirrored start, step lr m / alpha^2, until the loss is a quarter of mean(y^2) = 1.

    Returns:
        One row per seed: `moved` (root mean square movement of a row of W), `drift` (relative change of the tangent
        kernel), `steps` taken; NaN where the loss never came down that far.
    """
    X, y = data(seeds, size.n, size.d)
    alpha = SCALINGS[scaling](m)
    start = s = State(*networks.mirrored(seeds, m, size.d))
    K0 = kernel(start, X, sigma, outer)
    moved, drift, taken = (torch.full((len(seeds),), torch.nan, dtype=torch.float64) for _ in range(3))
    for count in range(size.steps + 1):
        after, loss = step(s, X, y, alpha, lr * m / alpha**2, sigma, outer)
        if (new := (loss <= size.stop) & taken.isnan()).any():
            change = (s.W - start.W).square().sum((1, 2)) / m
            K = kernel(s, X, sigma, outer)
            relative = (K - K0).norm(dim=(1, 2)) / K0.norm(dim=(1, 2))
            moved, drift = torch.where(new, change.sqrt(), moved), torch.where(new, relative, drift)
            taken = torch.where(new, float(count), taken)
        if not taken.isnan().any():
            break
        s = after
    return pd.DataFrame({"seed": list(seeds), "moved": moved, "drift": drift, "steps": taken})


def compare(seeds: Sequence[int], size: Any, lr: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train both scalings at growing width, with the outer layer trained and fixed, tanh and ReLU.

    Returns:
        By seed, activation and outer layer ("trained", "fixed"): `slope_ntk`, `slope_mf` (log-log slopes of a row's
        movement in m), `drift_ntk`, `drift_mf` (relative kernel change at the largest width); and the tidy table.
    """
    parts = [
        train(seeds, m, scaling, sigma, outer == "trained", size, lr).assign(
            width=m, scaling=scaling, activation=sigma, outer=outer
        )
        for outer in ("trained", "fixed")
        for sigma in ("tanh", "relu")
        for scaling in SCALINGS
        for m in size.widths
    ]
    frame, rows = pd.concat(parts), []
    for (seed, sigma, outer), one in frame.groupby(["seed", "activation", "outer"]):
        found = [seed, sigma, outer]
        for scaling in SCALINGS:
            part = one[one["scaling"] == scaling].sort_values("width")
            found += [loglog_slope(part["width"], part["moved"]).value, part["drift"].iloc[-1]]
        rows.append(found)
    columns = ["seed", "activation", "outer", "slope_ntk", "drift_ntk", "slope_mf", "drift_mf"]
    return table(pd.DataFrame(rows, columns=columns), ["activation", "outer"]), frame


def fixed_step(seeds: Sequence[int], size: Any, lr: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train alpha = 1 with a step that does not grow with m, and with the step lr m, for `size.short` steps.

    Returns:
        By seed and width `stalled`: the loss with the fixed step over its start; a tidy table of both losses.
    """
    X, y = data(seeds, size.n, size.d)
    rows = []
    for m in size.widths:
        for law, rate in (("fixed", lr), ("scaled with m", lr * m)):
            s = State(*networks.mirrored(seeds, m, size.d))
            for _ in range(size.short + 1):
                s, loss = step(s, X, y, 1.0, rate, "tanh", True)
            rows += [(seed, m, law, value) for seed, value in zip(seeds, loss.tolist(), strict=True)]
    frame = pd.DataFrame(rows, columns=["seed", "width", "step", "loss"])
    fixed = frame[frame["step"] == "fixed"].drop(columns="step").rename(columns={"loss": "stalled"})
    return table(fixed, "width"), frame


def narrow(seeds: Sequence[int], size: Any, lr: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""Compare the losses of alpha = sqrt m and alpha = 1 from one start, under equal steps and in equal units of time.

    The difference is |log(loss_1 / loss_2)|, the largest while the slower run is above half its own start.

    Returns:
        By seed and width: `effect` (equal steps), `effect_scaled` (steps lr m / alpha^2); and the tidy table.
    """
    X, y = data(seeds, size.n, size.d)
    rows = []
    for m in size.widths:
        start = State(networks.weights(seeds, m, size.d), networks.signs(seeds, m))
        found = {}
        for name in ("effect", "effect_scaled"):
            paths = []
            for scaling in SCALINGS:
                alpha, s, losses = SCALINGS[scaling](m), start, []
                rate = lr * (m / alpha**2 if name == "effect_scaled" else 1)
                for _ in range(size.steps + 1):
                    s, loss = step(s, X, y, alpha, rate, "tanh", True)
                    losses.append(loss)
                paths.append(torch.stack(losses))
            slower = torch.maximum(paths[0] / paths[0][0], paths[1] / paths[1][0])
            early = (slower > 0.5).double().cummin(0).values > 0
            # what differs at the start is the scale of f(0), not the dynamics: each loss in units of its own start
            ratio = (paths[0] / paths[0][0] / (paths[1] / paths[1][0])).log().abs()
            found[name] = torch.where(early, ratio, 0.0).amax(0)
        rows += [(s, m, a, b) for s, a, b in zip(seeds, *(v.tolist() for v in found.values()), strict=True)]
    frame = pd.DataFrame(rows, columns=["seed", "width", "effect", "effect_scaled"])
    return table(frame, "width"), frame


def features(seed: int, size: Any, lr: float) -> pd.DataFrame:
    """Train both scalings in the plane and return every row w_j before and after: scaling, before/after, x, y.

    The target depends on the angle alone: sin(2 phi) on `size.n` points of the circle.
    """
    angles = 2 * math.pi * torch.arange(size.n, dtype=torch.float64) / size.n
    X = torch.stack([angles.cos(), angles.sin()], -1)[None]
    y, parts = math.sqrt(2) * torch.sin(2 * angles)[None], []
    for scaling, law in SCALINGS.items():
        alpha = law(size.m)
        start = s = State(*networks.mirrored([seed], size.m, 2))
        for _ in range(size.steps):
            s, loss = step(s, X, y, alpha, lr * size.m / alpha**2, "relu", True)
            if loss.item() < size.stop:
                break
        for name, state in (("before", start), ("after", s)):
            x1, x2 = state.W[0].T
            parts.append(pd.DataFrame({"x1": x1, "x2": x2, "when": name, "scaling": scaling}))
    return pd.concat(parts)


def near_start(seeds: Sequence[int], size: Any, lr: float, images: tuple[Tensor, Tensor] | None = None) -> pd.DataFrame:
    r"""Take two steps of gradient descent and measure what the proofs ask for: |W - W_0|_F, share of flipped ReLUs.

    Args:
        images: None: the lecture's scaling, a = +-1 fixed, mean square loss, sphere data of this module. Else inputs
            (n, d) and labels (n,): real images, a ReLU network in the standard parameterisation (He's normal start,
            both layers trained, ten outputs, cross-entropy), the plain reading of "in practice".

    Returns:
        By seed, width and step: `moved` = |W - W_0|_F, `flips` = sqrt(m) times the share of (input, neuron) pairs whose
        pre-activation has another sign than at the start.
    """
    rows = []
    for m in size.widths:
        for seed in seeds:
            path = _lecture(seed, m, size, lr) if images is None else _standard(seed, m, lr, size.looks[-1], *images)
            W0, X = path[0], path.X
            gates = X @ W0.T > 0
            for look in size.looks:
                W = path[look]
                share = ((X @ W.T > 0) != gates).double().mean().item()
                rows.append((seed, m, look, (W - W0).norm().item(), math.sqrt(m) * share))
    return pd.DataFrame(rows, columns=["seed", "width", "step", "moved", "flips"])


class _Path(list):
    """First-layer weights after 0, 1, 2, ... steps, and the inputs that they see."""

    X: Tensor


def _lecture(seed: int, m: int, size: Any, lr: float) -> _Path:
    X, y = data([seed], size.n, size.d)
    s, path = State(*networks.mirrored([seed], m, size.d)), _Path()
    path.X = X[0]
    for _ in range(size.looks[-1] + 1):
        path.append(s.W[0])
        s, _ = step(s, X, y, math.sqrt(m), lr, "relu", False)
    return path


def _standard(seed: int, m: int, lr: float, steps: int, X: Tensor, labels: Tensor) -> _Path:
    """Descend on the cross-entropy of a standard two-layer network; gradients by hand."""
    n, d = X.shape
    W = starts([seed], f"standard-{m}", m, d)[0] * math.sqrt(2 / d)
    A = starts([seed], f"standard-outer-{m}", 10, m)[0] * math.sqrt(2 / m)
    path, wanted = _Path([W]), torch.nn.functional.one_hot(labels, 10).double()
    path.X = X
    for _ in range(steps):
        z = X @ W.T
        hidden = torch.relu(z)
        error = (torch.softmax(hidden @ A.T, 1) - wanted) / n
        back = (error @ A) * (z > 0)
        W, A = W - lr * back.T @ X, A - lr * error.T @ hidden
        path.append(W)
    return path


def growth(frame: pd.DataFrame) -> pd.DataFrame:
    """Return by seed and step the log-log slopes of `near_start`'s columns in the width: `slope_moved`, `slope_flips`.

    Also `moved_most`, `flips_most`: both at the largest width.
    """
    rows = []
    for (seed, look), part in frame.groupby(["seed", "step"]):
        last = part.loc[part["width"].idxmax()]
        slopes = (loglog_slope(part["width"], part[name]).value for name in ("moved", "flips"))
        rows.append((seed, look, *slopes, last["moved"], last["flips"]))
    columns = ["seed", "step", "slope_moved", "slope_flips", "moved_most", "flips_most"]
    return table(pd.DataFrame(rows, columns=columns).replace([np.inf], np.nan), "step")


def named(runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return several tables of `near_start` as one, with the name of the network in a column `network`."""
    return pd.concat([found.assign(network=name) for name, found in runs.items()])
