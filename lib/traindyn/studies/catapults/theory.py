"""The statements behind the catapult chapter that can be checked exactly: split, thresholds, layer sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from traindyn.compute import generator, normal
from traindyn.learn.models import FCN, drawn
from traindyn.measure.ntk import empirical_ntk
from traindyn.measure.spectrum import hessian_top_eig, split_loss, top_eigs


def splitting(seeds: Sequence[int], size: Any) -> pd.DataFrame:
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
            model = drawn(FCN(size.dim, size.width, size.depth, bias=bias, output_bias=bias), seed, torch.float64)
            K = empirical_ntk(model, X, method="structured")
            direct = empirical_ntk(model, X, method="jacobian")
            residual = (model(X) - y).detach()
            # a residual that leans to the leading directions, as during a catapult
            eigs = top_eigs(K, size.n)
            residual = residual + 2 * residual.norm() * eigs.vectors[:, 0]
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


def descent_lemma(seeds: Sequence[int], size: Any) -> pd.DataFrame:
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


def critical_gap(seeds: Sequence[int], size: Any) -> pd.DataFrame:
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
                model = drawn(FCN(size.dim, width, depth), seed, torch.float64)
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
        printed formula), taps ("s: printed" pairs).
    """
    printed, corrected, fully = [], [], []
    for seed in seeds:
        a, W = normal([seed], "image", 2, 6, 6)[0], normal([seed], "filters", 3, 3, 2, 3)[0]
        scale = 1 / math.sqrt(2 * 9)
        exact = F.conv2d(a[None], W.permute(3, 2, 0, 1), padding=1)[0] * scale
        printed.append((printed_convolution(a, W) * scale - exact).abs().max().item())
        corrected.append((corrected_convolution(a, W) * scale - exact).abs().max().item())
        model = drawn(FCN(6, 400, 2, bias="normal"), seed, torch.float64)
        first = model.layers[0]
        x = a[0, :1]
        by_hand = torch.relu(x @ first.weight.T / math.sqrt(6) + first.bias)
        fully.append((model.layers[1](first(x)) - by_hand).abs().max().item())
    taps = {s: math.ceil((s + 1) / 2) + 1 for s in (1, 3, 5, 7)}
    return {"printed": printed, "corrected": corrected, "fully": fully, "taps": taps}
