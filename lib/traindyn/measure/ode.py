"""Gradient flows: a fourth-order integrator, and the closed form of a linear flow by one eigendecomposition."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from traindyn.errors import InputError


def rk4(rhs: Callable[[Tensor], Tensor], w: Tensor, time: float, steps: int) -> Tensor:
    """Integrate dw/dt = rhs(w) from 0 to `time` with the classical fourth-order Runge-Kutta method.

    Args:
        rhs: maps a state to its time derivative, of the same shape.
        w: initial state, any shape.
        time: length of the interval, in the flow's own units.
        steps: number of equal steps, >= 1; the error falls as steps^-4.

    Returns:
        The state at `time`.

    Raises:
        InputError: steps < 1.
    """
    if steps < 1:
        raise InputError(f"steps: expected at least 1 Runge-Kutta step, got {steps}")
    h = time / steps
    for _ in range(steps):
        k1 = rhs(w)
        k2 = rhs(w + h / 2 * k1)
        k3 = rhs(w + h / 2 * k2)
        k4 = rhs(w + h * k3)
        w = w + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return w


def relax(M: Tensor, rate: float, start: Tensor, times: Tensor) -> Tensor:
    """Return exp(-rate M t) start for every time: what a linear flow dw/dt = rate M (w_inf - w) does to w(0) - w_inf.

    One symmetric eigendecomposition serves all times and all starts.

    Args:
        M: symmetric matrices, shape (..., p, p).
        rate: factor of the flow, >= 0.
        start: shape (..., k, p): k vectors for each matrix.
        times: shape (T,).

    Returns:
        Shape (..., T, k, p). Cost O(p^3 + T k p^2).

    Raises:
        InputError: the last sizes of `M` and `start` differ.
    """
    if M.shape[-1] != start.shape[-1]:
        raise InputError(f"start: expected vectors of size {M.shape[-1]} like the matrix, got {start.shape[-1]}")
    values, vectors = torch.linalg.eigh(M)
    decay = torch.exp(-rate * times[:, None] * values[..., None, :])  # (..., T, p)
    modes = (start @ vectors)[..., None, :, :] * decay[..., :, None, :]
    return modes @ vectors.mT[..., None, :, :]
