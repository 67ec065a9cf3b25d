"""What a gradient says about its target: all 2^d parities at once, by one Walsh-Hadamard transform (Theorem 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import normal
from traindyn.evidence import table
from traindyn.layers import starts
from traindyn.studies.hardness.parities import cube, walsh


class Net(NamedTuple):
    """h(x) = sum_j a_j relu(w_j^T x + c_j) with a (m,), w (m, d), c (m,); all of them are parameters."""

    a: Tensor
    w: Tensor
    c: Tensor


def net(seed: int, m: int, d: int) -> Net:
    """Return a random network: a ~ N(0, 1/m), w ~ N(0, 1/d), c ~ N(0, 1)."""
    parts = starts([seed], f"net {d}", m, d + 2)[0]
    return Net(parts[:, 0] / math.sqrt(m), parts[:, 2:] / math.sqrt(d), parts[:, 1])


def values_and_gradients(h: Net, X: Tensor, bounded: bool = False) -> tuple[Tensor, Tensor]:
    """Return h(x), (n,), and the gradient in all parameters, (n, m (d + 2)); of tanh h if `bounded`."""
    z = X @ h.w.T + h.c
    value = torch.relu(z) @ h.a
    gate = (z > 0) * h.a
    slopes = torch.cat((torch.relu(z), (gate[:, :, None] * X[:, None]).flatten(1), gate), dim=1)
    if bounded:
        value = torch.tanh(value)
        slopes = (1 - value**2)[:, None] * slopes
    return value, slopes


def of_squared_risk(h: Net, d: int) -> tuple[Tensor, Tensor]:
    """Return the gradients of E (h - f)^2 for every parity f, (2^d, P), and E ||grad h||^2, uniform law on {0, 1}^d."""
    value, slopes = values_and_gradients(h, cube(d))
    common = 2 * (value[:, None] * slopes).mean(0)
    return common - 2 * walsh(slopes) / 2**d, slopes.square().sum(1).mean()


def variance(seeds: Sequence[int], size: SimpleNamespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the variance of the gradient over a random parity, against the bound of Theorem 7.

    Returns:
        Per seed and d: `over_printed` (variance over E ||grad h||^2 / 2^d), `over_right` (over four times that),
        `half_risk` (variance of the gradient of half the squared risk over the printed bound), `identity` (relative
        distance of variance plus centring to four times the printed bound: Parseval).
        Per seed: `slope` of log2 variance on d.
    """
    rows, slopes = [], []
    for seed in seeds:
        logs = []
        for d in size.dims:
            gradients, square = of_squared_risk(net(seed, size.m, d), d)
            spread = float((gradients - gradients.mean(0)).square().sum(1).mean())
            bound = float(square) / 2**d
            # the mean of all parities is 1 at x = 0 and 0 elsewhere, so the centring is the gradient of h there
            at_zero = values_and_gradients(net(seed, size.m, d), cube(d)[:1])[1].square().sum() / 4**d
            exact = abs((spread + 4 * float(at_zero)) / (4 * bound) - 1)
            rows.append((seed, d, spread / bound, spread / bound / 4, spread / 4 / bound, exact))
            logs.append(math.log2(spread))
        slopes.append((seed, float(np.polyfit(size.dims, logs, 1)[0])))
    columns = ["seed", "d", "over_printed", "over_right", "half_risk", "identity"]
    return table(pd.DataFrame(rows, columns=columns), "d"), table(pd.DataFrame(slopes, columns=["seed", "slope"]))


def hinge(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Compare the hinge risk's gradient with -E[f grad h] where |h| <= 1, and average its square over all parities.

    Returns:
        Per seed and d: `clipped` (points and parities where 1 - h f < 0), `gap` (largest difference of the automatic
        gradient, for three parities), `parseval` (relative distance of the average to G / 2^d).
    """
    rows = []
    for seed in seeds:
        for d in size.dims:
            h, X = net(seed, size.m, d), cube(d)
            value, slopes = values_and_gradients(h, X, bounded=True)
            products = walsh(slopes) / 2**d
            G = slopes.square().sum(1).mean()
            gap = 0.0
            for v in (1, 2**d // 2 + 1, 2**d - 1):
                f = 1 - 2 * ((X @ X[v]) % 2)
                parts = Net(*(part.clone().requires_grad_() for part in h))
                out = torch.tanh(torch.relu(X @ parts.w.T + parts.c) @ parts.a)
                loss = torch.relu(1 - out * f).mean()
                a, w, c = torch.autograd.grad(loss, parts)
                gap = max(gap, float((torch.cat((a, w.flatten(), c)) + products[v]).abs().max()))
            average = products.square().sum(1).mean()
            rows.append((seed, d, int((value.abs() > 1).sum()), gap, float((average / (G / 2**d) - 1).abs())))
    return table(pd.DataFrame(rows, columns=["seed", "d", "clipped", "gap", "parseval"]), "d")


def cloud(seed: int, size: SimpleNamespace) -> pd.DataFrame:
    """Return two coordinates of the centred gradient for every parity but the constant: d, order, first, second.

    The coordinates belong to two random orthonormal directions of parameter space, times sqrt(P/2), so that their
    squares add up to the squared norm in the mean; `order` is the number of bits of a parity.
    """
    parts = []
    for d in size.shown:
        gradients, _ = of_squared_risk(net(seed, size.m, d), d)
        count = gradients.shape[1]
        plane = torch.linalg.qr(normal([seed], f"directions {d}", count, 2)[0]).Q * math.sqrt(count / 2)
        two = (gradients - gradients.mean(0))[1:] @ plane
        order = cube(d)[1:].sum(1).int()
        parts.append(pd.DataFrame({"d": d, "order": order, "first": two[:, 0], "second": two[:, 1]}))
    return pd.concat(parts, ignore_index=True)
