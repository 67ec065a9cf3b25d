"""One step of (stochastic) gradient descent against Eq. 4.3 and 4.4: the linear part, the remainder, the threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call, jvp

from traindyn.compute import generator, normal
from traindyn.learn.models import FCN, TwoLayer, drawn
from traindyn.measure.ntk import empirical_ntk


def flow(seeds: Sequence[int], width: int, n: int) -> pd.DataFrame:
    """Check df/dt = -(2 eta/n) K (f - y) by one Euler step of a tanh network, at two step sizes, in float64.

    Returns:
        One row per seed: error (relative, at eta = 1e-4), ratio (of the errors at 5e-5 and 1e-4).
    """
    rows = []
    for seed in seeds:
        errors = []
        for eta in (1e-4, 5e-5):
            model, X, y = _smooth(seed, width, n, "tanh")
            K, before = empirical_ntk(model, X), model(X).detach()
            _step(model, X, y, eta)
            predicted = -2 * eta / n * K @ (before - y)
            errors.append(((model(X).detach() - before - predicted).norm() / predicted.norm()).item())
        rows.append({"seed": seed, "error": errors[0], "ratio": errors[1] / errors[0]})
    return pd.DataFrame(rows)


def _smooth(seed: int, width: int, n: int, activation: str, train: str = "both") -> tuple[TwoLayer, Tensor, Tensor]:
    X, y = normal([seed], "data", n, 5)[0], normal([seed], "labels", n)[0]
    model = drawn(TwoLayer(5, width, activation=activation, train=train), seed, torch.float64)
    return model, X, y


def _step(model: torch.nn.Module, X: Tensor, y: Tensor, eta: float) -> dict[str, Tensor]:
    """Make one gradient step on (1/n) sum (f - y)^2 in place; return the change of the weights."""
    leaves = {name: p for name, p in model.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad((model(X) - y).square().mean(), list(leaves.values()))
    change = {name: -eta * g for name, g in zip(leaves, grads, strict=True)}
    with torch.no_grad():
        for name, p in leaves.items():
            p += change[name]
    return change


def second_order(seeds: Sequence[int], width: int, n: int) -> pd.DataFrame:
    """Divide the exact remainder of Eq. 4.3 by the printed <dw, Hess f dw>: Taylor says 1/2.

    Returns:
        One row per seed: quadratic (largest |ratio - 1/2| over outputs for a network that is exactly quadratic in its
        trained weights), tanh (the same for a tanh network at a small rate), spread (range over outputs of the tau
        that makes the mean-value form with the factor 1/2 exact).
    """
    rows = []
    for seed in seeds:
        row = {"seed": seed}
        for name, activation, train, eta in (("quadratic", "quadratic", "first", 1.0), ("tanh", "tanh", "both", 1e-6)):
            model, X, y = _smooth(seed, width, n, activation, train)
            start = {k: p.detach().clone() for k, p in model.named_parameters()}
            K, before = empirical_ntk(model, X), model(X).detach()
            change = _step(model, X, y, eta)
            # the trapezoid below cancels the rounding that f(w + dw) - f(w) - J dw would leave at a small step
            form = _bent(model, X, start, change, 0.0)
            if name == "quadratic":
                remainder = model(X).detach() - before + 2 * eta / n * K @ (before - y)
            else:
                remainder = _remainder(model, X, start, change)
                row["spread"] = _mean_value_spread(seed, width, n)
            row[name] = (remainder / form - 0.5).abs().max().item()
        rows.append(row)
    return pd.DataFrame(rows)


def _bent(model: torch.nn.Module, X: Tensor, at: dict[str, Tensor], change: dict[str, Tensor], tau: float) -> Tensor:
    """Return <dw, Hess f(w + tau dw) dw> for every output, by forward mode twice."""
    point = {k: v + tau * change[k] if k in change else v for k, v in at.items()}
    leaves = {k: point[k] for k in change}
    fixed = {k: v for k, v in point.items() if k not in change}

    def slope_of(p: dict[str, Tensor]) -> Tensor:
        return jvp(lambda q: functional_call(model, {**fixed, **q}, (X,)), (p,), (change,))[1]

    return jvp(slope_of, (leaves,), (change,))[1].detach()


def _remainder(model: torch.nn.Module, X: Tensor, start: dict[str, Tensor], change: dict[str, Tensor]) -> Tensor:
    """Return f(w + dw) - f(w) - J dw = int_0^1 (1 - t) <dw, Hess f(w + t dw) dw> dt by Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(6)
    parts = [
        w / 2 * (1 - (t + 1) / 2) * _bent(model, X, start, change, (t + 1) / 2)
        for t, w in zip(nodes, weights, strict=True)
    ]
    return torch.stack(parts).sum(0)


def _mean_value_spread(seed: int, width: int, n: int) -> float:
    """Return the range over outputs of tau in remainder = 1/2 <dw, Hess f(w + tau dw) dw>, at a large rate."""
    model, X, y = _smooth(seed, width, n, "tanh")
    start = {k: p.detach().clone() for k, p in model.named_parameters()}
    change = _step(model, X, y, 1.0)
    target = _remainder(model, X, start, change)
    taus = np.linspace(0, 1, 41)
    gaps = torch.stack([_bent(model, X, start, change, tau) / 2 - target for tau in taus]).numpy()
    crossed = [np.flatnonzero(np.sign(gaps[:-1, i]) != np.sign(gaps[1:, i])) for i in range(n)]
    first = [taus[c[0]] for c in crossed if len(c)]
    return float(max(first) - min(first)) if first else math.nan


def remainder_by_width(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Return the remainder of Eq. 4.3, relative to its first term, for ReLU networks at half the critical rate.

    Args:
        seeds: one network and data set each.
        size: attributes n, dim, depth, widths.
    """
    rows = []
    for width in size.widths:
        for seed in seeds:
            X, y = normal([seed], "data", size.n, size.dim)[0], normal([seed], "labels", size.n)[0]
            model = drawn(FCN(size.dim, width, size.depth), seed, torch.float64)
            K, before = empirical_ntk(model, X), (model(X) - y).detach()
            eta = 0.5 * size.n / torch.linalg.eigvalsh(K)[-1].item()
            first = before - 2 * eta / size.n * K @ before
            _step(model, X, y, eta)
            gap = ((model(X) - y).detach() - first).norm() / first.norm()
            rows.append({"width": width, "seed": seed, "remainder": gap.item()})
    return pd.DataFrame(rows)


def batch_steps(seeds: Sequence[int], size: Any, near: float) -> pd.DataFrame:
    """Take single SGD steps on random batches and see which way the top direction of the batch goes (Eq. 4.4).

    The rate of each step is drawn log-uniformly between 1/2 and 2 times the batch's threshold b/||K_b||.

    Args:
        seeds: one two-layer network and data set each.
        size: attributes n, dim, width, batches, sizes (of the batches).
        near: a rate this close to the threshold, relative to it, counts as near.

    Returns:
        One row per step: over (rate above the threshold), grows (the projection on the batch's top direction grows),
        near (the threshold), remainder (relative, at the threshold itself).
    """
    rows = []
    for seed in seeds:
        X, y = normal([seed], "data", size.n, size.dim)[0], normal([seed], "labels", size.n)[0]
        model = drawn(FCN(size.dim, size.width, 2), seed, torch.float64)
        start = {k: p.detach().clone() for k, p in model.named_parameters()}
        K, residual = empirical_ntk(model, X), (model(X) - y).detach()
        rng = generator(seed, "batches")
        for index in range(size.batches):
            b = size.sizes[index % len(size.sizes)]
            pick = torch.randperm(size.n, generator=rng)[:b]
            values, vectors = torch.linalg.eigh(K[pick][:, pick])
            threshold = b / values[-1].item()
            factor = 2 ** (2 * torch.rand(1, generator=rng, dtype=torch.float64).item() - 1)
            row = {"seed": seed, "b": b, "over": factor > 1, "near": abs(factor - 1) < near}
            for eta in (threshold, factor * threshold):
                _step(model, X[pick], y[pick], eta)
                after = (model(X[pick]) - y[pick]).detach()
                first = residual[pick] - 2 * eta / b * K[pick][:, pick] @ residual[pick]
                if eta == threshold:
                    row["remainder"] = ((after - first).norm() / first.norm()).item()
                grown = (vectors[:, -1] @ after).abs() > (vectors[:, -1] @ residual[pick]).abs()
                row["grows"] = bool(grown)
                with torch.no_grad():
                    for name, p in model.named_parameters():
                        p.copy_(start[name])
            rows.append(row)
    return pd.DataFrame(rows)
