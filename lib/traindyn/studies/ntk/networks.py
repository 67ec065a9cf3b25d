r"""Two-layer networks of the lecture, many seeds at once: f(x; W) = (1/sqrt m) sum_j a_j sigma(w_j . x), a_j fixed.

Tensors carry a leading axis for seeds: weights W (S, m, d), signs a (S, m), inputs X (n, d) or (S, n, d). Float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from traindyn.compute import normal, uniform
from traindyn.layers import starts

# sigma and sigma'; the ReLU's derivative at 0 is 0
SIGMA: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "relu": (torch.relu, lambda z: (z > 0).to(z)),
    "tanh": (torch.tanh, lambda z: 1 - torch.tanh(z).square()),
    "identity": (lambda z: z, torch.ones_like),
}
TANH_CURVATURE = 4 / (3 * math.sqrt(3))  # largest |tanh''|, at artanh(1/sqrt 3)


def weights(seeds: Sequence[int], m: int, d: int, purpose: str = "inner") -> Tensor:
    """Return rows w_j ~ N(0, I), shape (S, m, d)."""
    return starts(seeds, f"{purpose}-{m}", m, d)


def signs(seeds: Sequence[int], m: int, purpose: str = "outer") -> Tensor:
    """Return fair signs a_j, shape (S, m)."""
    return torch.where(uniform(seeds, f"{purpose}-{m}", m) < 0.5, 1.0, -1.0).double()


def sphere(seeds: Sequence[int], n: int, d: int, purpose: str = "inputs") -> Tensor:
    """Return n points, uniform on the unit sphere, per seed: (S, n, d)."""
    X = normal(seeds, f"{purpose}-{n}", n, d)
    return X / X.norm(dim=-1, keepdim=True)


def mirrored(seeds: Sequence[int], m: int, d: int) -> tuple[Tensor, Tensor]:
    """Return W and a whose second halves copy the first with opposite signs, so that f starts at zero."""
    W, a = weights(seeds, m // 2, d, "mirrored"), signs(seeds, m // 2, "mirrored-outer")
    return torch.cat([W, W], 1), torch.cat([a, -a], 1)


def output(W: Tensor, a: Tensor, X: Tensor, sigma: str) -> Tensor:
    """Return f(x; W) on all inputs, (S, n)."""
    value, _ = SIGMA[sigma]
    return (value(X @ W.mT) @ a[..., None])[..., 0] / math.sqrt(a.shape[-1])


def jacobian(W: Tensor, a: Tensor, X: Tensor, sigma: str) -> Tensor:
    r"""Return the gradients a_j sigma'(w_j . x) x / sqrt m of every output, shape (S, n, m, d)."""
    _, slope = SIGMA[sigma]
    gates = slope(X @ W.mT) * a[..., None, :] / math.sqrt(a.shape[-1])
    return gates[..., None] * X[..., :, None, :]


def tangent(W: Tensor, W0: Tensor, a: Tensor, X: Tensor, sigma: str) -> Tensor:
    """Return f(x; W0) + <grad f(x; W0), W - W0>, (S, n), without forming the gradient."""
    value, slope = SIGMA[sigma]
    z = X @ W0.mT
    terms = value(z) + slope(z) * (X @ (W - W0).mT)
    return (terms @ a[..., None])[..., 0] / math.sqrt(a.shape[-1])


def kernel(W: Tensor, a: Tensor, X: Tensor, sigma: str) -> Tensor:
    """Return the tangent kernel x . x' (1/m) sum_j a_j^2 sigma'(w_j . x) sigma'(w_j . x'), (S, n, n)."""
    _, slope = SIGMA[sigma]
    gates = slope(X @ W.mT) * a[..., None, :]
    return (X @ X.mT) * (gates @ gates.mT) / a.shape[-1]


def second_difference(values: Callable[[Tensor], Tensor], X: Tensor, H: Tensor) -> Tensor:
    """Return the largest |f(x + h) - 2 f(x) + f(x - h)| over inputs, per seed: zero for an affine f."""
    return (values(X + H) - 2 * values(X) + values(X - H)).abs().amax(-1)
