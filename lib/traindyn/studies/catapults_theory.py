"""The statements behind the catapult chapter that can be checked exactly: steps, thresholds, remainders, the layer sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call, jvp
from torch.nn import functional as F

from traindyn.compute import generator, normal
from traindyn.learn.models import FCN, TwoLayer
from traindyn.measure.ntk import empirical_ntk
from traindyn.measure.spectrum import hessian_top_eig, split_loss, top_eigs


def splitting(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Check Eq. 4.2 and the structured kernel on small networks with and without biases, in float64.

    Args:
        seeds: one network and data set each.
        size: attributes n, dim, width, depth.

    Returns:
        One row per seed: defect (|L - L_{<=5} - L_{>5}|/L, the complement from its own eigenvectors), kernel (largest
        relative error of the structured kernel against the Jacobian's Gram matrix), dropped (the defect if one
        eigenvector is left out), ascending (share of the loss in the 5 "leading" vectors if these are taken in
        ascending order).
    """
    rows = []
    for seed in seeds:
        X, y = normal([seed], "data", size.n, size.dim)[0], normal([seed], "labels", size.n)[0]
        row = {"seed": seed, "defect": 0.0, "kernel": 0.0, "dropped": math.inf, "ascending": 0.0}
        for bias in (False, "normal"):
            model = FCN(size.dim, size.width, size.depth, bias=bias, output_bias=bias).double()
            model.reset(generator(seed, "init"))
            K = empirical_ntk(model, X, method="structured")
            direct = empirical_ntk(model, X, method="jacobian")
            residual = (model(X) - y).detach()
            # a residual that leans to the leading directions, as during a catapult
            eigs = top_eigs(K, size.n)
            residual = residual + 10 * eigs.vectors[:, 0]
            loss = residual.square().mean()
            lead = split_loss(eigs, residual, (5,))[0, 0]
            rest = (eigs.vectors[:, 5:].T @ residual).square().sum() / size.n
            less = rest - (eigs.vectors[:, 5:].T @ residual).square().max() / size.n
            last = (eigs.vectors[:, -5:].T @ residual).square().sum() / size.n
            row["defect"] = max(row["defect"], ((loss - lead - rest).abs() / loss).item())
            row["kernel"] = max(row["kernel"], ((K - direct).abs().max() / direct.abs().max()).item())
            row["dropped"] = min(row["dropped"], ((loss - lead - less).abs() / loss).item())
            row["ascending"] = max(row["ascending"], (last / loss).item())
        rows.append(row)
    return pd.DataFrame(rows)


def descent_lemma(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Check the descent lemma on a linear model f = Z w, where beta = 2 lambda_max(Z Z^T)/n.

    Args:
        seeds: one model each.
        size: attributes n, dim, draws.

    Returns:
        One row per seed: violation (largest relative violation over random w and rates in (0, 3/beta)), edge (relative
        change of the top component's loss in a step at 2/beta), beyond (the same at 2.02/beta), exact (relative gap of
        2/lambda_max(Hessian) and n/lambda_max(K)).
    """
    rows = []
    for seed in seeds:
        Z, y = normal([seed], "features", size.n, size.dim)[0], normal([seed], "labels", size.n)[0]
        H = 2 / size.n * Z.T @ Z
        beta = torch.linalg.eigvalsh(H)[-1]
        W = normal([seed], "points", size.dim, size.draws)[0]
        eta = 3 / beta * torch.rand(size.draws, generator=generator(seed, "rates"), dtype=torch.float64)

        def loss(W: Tensor, Z: Tensor = Z, y: Tensor = y) -> Tensor:
            return (Z @ W - y[:, None]).square().mean(0)

        gradient = 2 / size.n * Z.T @ (Z @ W - y[:, None])
        bound = loss(W) - eta * (1 - eta * beta / 2) * gradient.square().sum(0)
        U, _, _ = torch.linalg.svd(Z)
        component = [
            U[:, 0] @ (Z @ w - y) for w in (W[:, 0], *(W[:, 0] - r / beta * gradient[:, 0] for r in (2, 2.02)))
        ]
        kernel = size.n / torch.linalg.eigvalsh(Z @ Z.T)[-1]
        rows.append(
            {
                "seed": seed,
                "violation": ((loss(W - eta * gradient) - bound) / loss(W)).max().item(),
                "edge": (component[1] ** 2 / component[0] ** 2 - 1).abs().item(),
                "beyond": (component[2] ** 2 / component[0] ** 2 - 1).item(),
                "exact": (2 / beta / kernel - 1).abs().item(),
            }
        )
    return pd.DataFrame(rows)


def critical_gap(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Compare 2/lambda_max(Hessian) with n/||K|| at the start of two- and three-layer ReLU networks.

    Args:
        seeds: one network and data set each.
        size: attributes n, dim, nets: [[depth, [widths]], ...].

    Returns:
        One row per depth, width, seed: gap (relative), half (the gap to n/(2 ||K||), a control).
    """
    rows = []
    for depth, widths in size.nets:
        for width in widths:
            for seed in seeds:
                X, y = normal([seed], "data", size.n, size.dim)[0], normal([seed], "labels", size.n)[0]
                model = FCN(size.dim, width, depth).double()
                model.reset(generator(seed, "init"))
                exact = 2 / hessian_top_eig(model, X, y, tol=1e-5, seed=seed).value
                kernel = size.n / torch.linalg.eigvalsh(empirical_ntk(model, X))[-1]
                rows.append(
                    {
                        "depth": depth,
                        "width": width,
                        "seed": seed,
                        "gap": (kernel / exact - 1).abs().item(),
                        "half": (kernel / 2 / exact - 1).abs().item(),
                    }
                )
    return pd.DataFrame(rows)


def slope(table: pd.DataFrame, y: str) -> float:
    """Return the least-squares slope of log mean(y) against log width."""
    means = table.groupby("width")[y].mean()
    return float(np.polyfit(np.log(means.index), np.log(means), 1)[0])


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
    model = TwoLayer(5, width, activation=activation, train=train).double()
    model.reset(generator(seed, "init"))
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
        for name, activation, train, eta in (("quadratic", "quadratic", "first", 1e-2), ("tanh", "tanh", "both", 1e-6)):
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
    parts = [w / 2 * (1 - (t + 1) / 2) * _bent(model, X, start, change, (t + 1) / 2) for t, w in zip(nodes, weights)]
    return torch.stack(parts).sum(0)


def _mean_value_spread(seed: int, width: int, n: int) -> float:
    """Return the range over outputs of tau in remainder = 1/2 <dw, Hess f(w + tau dw) dw>, at a large rate."""
    model, X, y = _smooth(seed, width, n, "tanh")
    start = {k: p.detach().clone() for k, p in model.named_parameters()}
    change = _step(model, X, y, 1.0)
    target = _remainder(model, X, start, change)
    taus = np.linspace(0, 1, 201)
    gaps = torch.stack([_bent(model, X, start, change, tau) / 2 - target for tau in taus]).numpy()
    crossed = [np.flatnonzero(np.sign(gaps[:-1, i]) != np.sign(gaps[1:, i])) for i in range(n)]
    first = [taus[c[0]] for c in crossed if len(c)]
    return float(max(first) - min(first)) if first else math.nan


def remainder_by_width(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Return the remainder of Eq. 4.3, relative to its first term, for ReLU networks at half the critical rate.

    Args:
        seeds: one network and data set each.
        size: attributes n, dim, depth, widths.
    """
    rows = []
    for width in size.widths:
        for seed in seeds:
            X, y = normal([seed], "data", size.n, size.dim)[0], normal([seed], "labels", size.n)[0]
            model = FCN(size.dim, width, size.depth).double()
            model.reset(generator(seed, "init"))
            K, before = empirical_ntk(model, X), (model(X) - y).detach()
            eta = 0.5 * size.n / torch.linalg.eigvalsh(K)[-1].item()
            first = before - 2 * eta / size.n * K @ before
            _step(model, X, y, eta)
            gap = ((model(X) - y).detach() - first).norm() / first.norm()
            rows.append({"width": width, "seed": seed, "remainder": gap.item()})
    return pd.DataFrame(rows)


def batch_steps(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Take single SGD steps on random batches and see which way the top direction of the batch goes (Eq. 4.4).

    The rate of each step is drawn log-uniformly between 1/2 and 2 times the batch's threshold b/||K_b||.

    Args:
        seeds: one two-layer network and data set each.
        size: attributes n, dim, width, batches, sizes (of the batches).

    Returns:
        One row per step: over (rate above the threshold), grows (the projection on the batch's top direction grows),
        near (within 2 % of the threshold), remainder (relative, at the threshold itself).
    """
    rows = []
    for seed in seeds:
        X, y = normal([seed], "data", size.n, size.dim)[0], normal([seed], "labels", size.n)[0]
        model = FCN(size.dim, size.width, 2).double()
        model.reset(generator(seed, "init"))
        start = {k: p.detach().clone() for k, p in model.named_parameters()}
        K, residual = empirical_ntk(model, X), (model(X) - y).detach()
        rng = generator(seed, "batches")
        for index in range(size.batches):
            b = size.sizes[index % len(size.sizes)]
            pick = torch.randperm(size.n, generator=rng)[:b]
            values, vectors = torch.linalg.eigh(K[pick][:, pick])
            threshold = b / values[-1].item()
            factor = 2 ** (2 * torch.rand(1, generator=rng, dtype=torch.float64).item() - 1)
            row = {"seed": seed, "b": b, "over": factor > 1, "near": abs(factor - 1) < 0.02}
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


def printed_convolution(a: Tensor, W: Tensor) -> Tensor:
    """Return the convolution sum of appendix C.6 as it is printed, without bias and activation.

    Every tap reads the pixel (i - ceil((s-1)/2), j - ceil((s-1)/2)), and p, q run from 0 to ceil((s+1)/2).

    Args:
        a: image (channels, h, w).
        W: weights (taps, taps, channels, out) with taps = ceil((s+1)/2) + 1 >= the printed upper limit + 1.

    Returns:
        Tensor (out, h, w) without the factor 1/sqrt(m s^2).
    """
    taps = W.shape[0]
    s = 2 * (taps - 1) - 1
    shift = math.ceil((s - 1) / 2)
    read = F.pad(a, (shift, 0, shift, 0))[:, : a.shape[1], : a.shape[2]]
    return torch.einsum("chw,pqco->ohw", read, W)


def corrected_convolution(a: Tensor, W: Tensor) -> Tensor:
    """Return the sum with p, q = 0..s-1 and the input index i + p - (s-1)/2, j + q - (s-1)/2, zero padding all round.

    Args:
        a: image (channels, h, w).
        W: weights (s, s, channels, out), s odd.
    """
    s = W.shape[0]
    half = (s - 1) // 2
    padded = F.pad(a, (half, half, half, half))
    h, w = a.shape[1:]
    taps = [torch.einsum("chw,co->ohw", padded[:, p : p + h, q : q + w], W[p, q]) for p in range(s) for q in range(s)]
    return torch.stack(taps).sum(0)


def layer_sums(seeds: Sequence[int]) -> dict[str, Any]:
    """Compare both sums with torch's convolution for s = 3, and count the printed taps for s = 1, 3, 5, 7.

    Returns:
        printed, corrected (largest error, per seed), fully (largest error of the library's linear layer against the
        printed formula), taps ("s: printed" pairs), std (largest gap of a drawn layer's standard deviation to 1).
    """
    printed, corrected, fully, std = [], [], [], []
    for seed in seeds:
        a, W = normal([seed], "image", 2, 6, 6)[0], normal([seed], "filters", 3, 3, 2, 3)[0]
        scale = 1 / math.sqrt(2 * 9)
        exact = F.conv2d(a[None], W.permute(3, 2, 0, 1), padding=1)[0] * scale
        printed.append((printed_convolution(a, W) * scale - exact).abs().max().item())
        corrected.append((corrected_convolution(a, W) * scale - exact).abs().max().item())
        model = FCN(6, 400, 2, bias="normal").double()
        model.reset(generator(seed, "init"))
        first = model.layers[0]
        x = a[0, :1]
        by_hand = torch.relu(x @ first.weight.T / math.sqrt(6) + first.bias)
        fully.append((model.layers[1](first(x)) - by_hand).abs().max().item())
        std.append(abs(first.weight.std().item() - 1))
    taps = {s: math.ceil((s + 1) / 2) + 1 for s in (1, 3, 5, 7)}
    return {"printed": printed, "corrected": corrected, "fully": fully, "std": std, "taps": taps}
