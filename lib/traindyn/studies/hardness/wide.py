"""The two-layer network of (0.18) near its start: gradient flow, Gram matrices, the random-feature model beside it.

State of a network: rows (a_j, b_j), shape (..., m, 1 + d). The flow is (0.20), without 1/n; the gradient flow of the
risk (0.19) is the same path, n times slower. With a = 0 at the start the natural time is m t, in which the residuals
move at rate K.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from traindyn.layers import starts
from traindyn.measure.kernels import two_layer_relu
from traindyn.measure.ode import rk4_path


def sphere(seeds: Sequence[int], purpose: str, n: int, d: int) -> Tensor:
    """Return n uniform points of the unit sphere per seed, (seeds, n, d), float64."""
    x = starts(seeds, purpose, n, d)
    return x / x.norm(dim=-1, keepdim=True)


def at_zero(b: Tensor) -> Tensor:
    """Return the state with these inner weights (..., m, d) and a = 0."""
    return torch.cat((torch.zeros_like(b[..., :1]), b), -1)


def output(w: Tensor, X: Tensor) -> Tensor:
    """Return f_m(x; a, B) = sum_j a_j relu(b_j^T x): states (..., m, 1 + d), inputs (..., n, d) -> (..., n)."""
    return (torch.relu(X @ w[..., 1:].mT) @ w[..., :1])[..., 0]


def velocity(w: Tensor, X: Tensor, y: Tensor) -> Tensor:
    """Return (0.20): da_j/dt = - sum_i e_i relu(b_j^T x_i), db_j/dt = - sum_i e_i a_j 1(b_j^T x_i > 0) x_i.

    Args:
        w: states, (..., m, 1 + d).
        X, y: (..., n, d) and (..., n).
    """
    a, b = w[..., 0], w[..., 1:]
    hidden = torch.relu(X @ b.mT)  # (..., n, m)
    e = (hidden @ a[..., None])[..., 0] - y
    slope = (e[..., None, :] @ hidden)[..., 0, :]
    gated = ((hidden > 0) * e[..., None]).mT @ X
    return -torch.cat((slope[..., None], a[..., None] * gated), -1)


def flow(
    w: Tensor, X: Tensor, y: Tensor, *, step: Tensor | float, steps: int, records: int
) -> Iterator[tuple[Tensor | float, Tensor]]:
    """Integrate the flow and yield (t, state) at `records` + 1 equally spaced times, the start first.

    Args:
        w, X, y: as in `velocity`.
        step, steps: of the Runge-Kutta method between two records; a step per network has shape (..., 1, 1).
        records: how many.
    """
    yield 0 * step, w
    for index in range(records):
        w = rk4_path(lambda _t, state: velocity(state, X, y), w, step, steps, keep=False)
        yield (index + 1) * step * steps, w


class Features:
    """The random-feature model of inner weights b (..., m, d) that starts from a = 0, in closed form.

    Its flow on the training points is de/dt = -Phi Phi^T e, so one eigendecomposition gives its output everywhere.
    """

    def __init__(self, b: Tensor, X: Tensor, y: Tensor, Z: Tensor) -> None:
        features = torch.relu(X @ b.mT)
        self.values, self.vectors = torch.linalg.eigh(features @ features.mT)
        self.cross = torch.relu(Z @ b.mT) @ features.mT
        self.modes = (self.vectors.mT @ y[..., None])[..., 0]

    def __call__(self, weight: Tensor) -> Tensor:
        """Return the output at Z if every eigen-direction has been learned by the share values * weight, (..., k)."""
        return (self.cross @ (self.vectors @ (weight * self.modes)[..., None]))[..., 0]

    def at(self, t: Tensor | float) -> Tensor:
        """Return the flow's output at Z at time t (a number, or one per network of shape (..., 1))."""
        return self(-torch.expm1(-t * self.values) / self.values.clamp(min=1e-300))


def gram(w: Tensor, X: Tensor) -> Tensor:
    """Return G with G_ik = <grad f(x_i), grad f(x_k)>, (..., n, n); it is m times the K-hat of the lecture."""
    a, b = w[..., 0], w[..., 1:]
    z = X @ b.mT
    hidden, gated = torch.relu(z), (z > 0) * a[..., None, :]
    return hidden @ hidden.mT + (gated @ gated.mT) * (X @ X.mT)


def limit(X: Tensor) -> Tensor:
    """Return K of eq. (0.25) for inputs (..., n, d): b uniform on the sphere, a = 0."""
    flat = X.reshape(-1, *X.shape[-2:])
    return torch.stack([two_layer_relu(x, train="second", directions="sphere") for x in flat]).reshape(
        *X.shape[:-1], X.shape[-2]
    )


def smallest(K: Tensor) -> Tensor:
    """Return the smallest eigenvalue of symmetric matrices (..., n, n)."""
    return torch.linalg.eigvalsh(K)[..., 0]
