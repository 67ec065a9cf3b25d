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
    return rk4_path(lambda t, w: rhs(w), w, time / _at_least_one(steps), steps, keep=False)


def rk4_path(
    field: Callable[[float, Tensor], Tensor], w: Tensor, step: float, steps: int, *, keep: bool = True
) -> Tensor:
    """Integrate dw/dt = field(t, w) from time 0 by the classical fourth-order Runge-Kutta method, and keep the path.

    Args:
        field: maps time and state to the state's time derivative.
        w: initial state, any shape.
        step: length of a step, in the flow's own units.
        steps: number of steps, >= 1.
        keep: return every state; False: the last one alone.

    Returns:
        The states at 0, step, ..., steps * step, shape (steps + 1, ...); the last of them if not `keep`.

    Raises:
        InputError: steps < 1.
    """
    path = [w]
    for index in range(_at_least_one(steps)):
        t = index * step
        k1 = field(t, w)
        k2 = field(t + step / 2, w + step / 2 * k1)
        k3 = field(t + step / 2, w + step / 2 * k2)
        k4 = field(t + step, w + step * k3)
        w = w + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        if keep:
            path.append(w)
    return torch.stack(path) if keep else w


def _at_least_one(steps: int) -> int:
    if steps < 1:
        raise InputError(f"steps: expected at least 1 Runge-Kutta step, got {steps}")
    return steps


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
