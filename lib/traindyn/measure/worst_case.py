r"""The largest error of a ReLU network's linearisation over a ball of weights, exactly.

Take f(x; W) = (1/sqrt m) sum_j a_j relu(w_j . x) with fixed outer weights and f_lin its expansion at W_0. Only the
pre-activations p_j = w_{0,j} . x and their shifts s_j = (w_j - w_{0,j}) . x matter, and |s_j| <= |x| |w_j - w_{0,j}|.
A neuron adds nothing to f - f_lin until its shift has carried p_j through zero, and then what lies beyond:

    relu(p + s) - relu(p) - relu'(p) s = max(|s| - |p|, 0)     for s with the sign opposite to p's, else 0.

So a ball of radius B is a budget sum_j s_j^2 <= B^2 that is spent like water on the neurons nearest to their kink.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from traindyn.errors import InputError

DENSITY = 1 / math.sqrt(2 * math.pi)  # of a standard normal number at 0


class Gap(NamedTuple):
    """The largest sum of |f - f_lin| over a ball, and how many neurons it moves through zero."""

    value: Tensor
    moved: Tensor


def _checked(preactivations: Tensor, radius: float | Tensor) -> Tensor:
    """Return the radius as a tensor; an InputError says what does not fit."""
    if not preactivations.is_floating_point() or preactivations.dim() < 1 or not preactivations.shape[-1]:
        raise InputError(
            f"preactivations: expected floating-point numbers of shape (..., m) with m >= 1, got "
            f"{preactivations.dtype} of shape {tuple(preactivations.shape)}"
        )
    if not preactivations.isfinite().all():
        raise InputError("preactivations: expected finite numbers, got NaN or infinity")
    found = torch.as_tensor(radius, dtype=preactivations.dtype, device=preactivations.device)
    if not (found.isfinite() & (found >= 0)).all():
        raise InputError("radius: expected finite numbers, at least 0")
    return found


def relu_gap(preactivations: Tensor, radius: float | Tensor) -> Gap:
    r"""Return the maximum of sum_j (relu(p_j + s_j) - relu(p_j) - relu'(p_j) s_j) over all shifts of norm <= radius.

    .. math:: \max_{\|s\|_2 \le B} \sum_j (|s_j| - |p_j|)_+ = \max_{0 \le K \le m} B \sqrt K - \sum_{j \le K} |p|_{(j)}

    with |p|_(1) <= |p|_(2) <= ... sorted. For a set of K neurons that are moved, equal shifts B/sqrt(K) are best
    (Cauchy-Schwarz), and the K smallest |p_j| cost least. As K grows, B (sqrt K - sqrt(K-1)) falls and |p|_(K) rises,
    so the best K is the last one that gains; there |p|_(K) is about half a shift.

    With f = (1/sqrt m) sum_j a_j relu(w_j . x) and all a_j = 1, the supremum of |f - f_lin| over |W - W_0|_F <= R is
    `relu_gap(p, R * x.norm()).value / sqrt(m)`. With signs a_j = +-1 the two signs work against one another: it is the
    larger of the values of the neurons with a_j = 1 and of those with a_j = -1. Outer weights of several sizes:
    `relu_gap_bounds`.

    Args:
        preactivations: p_j = w_{0,j} . x, shape (..., m).
        radius: B = R |x|, a number or of a shape that broadcasts with (...).

    Returns:
        Gap(value, moved), each of the broadcast shape (...): the maximum, and its K.

    Raises:
        InputError: pre-activations that are not finite floating-point numbers, or a negative radius.

    Cost O(m log m) per row.

    >>> relu_gap(torch.tensor([0.5, -3.0]), 2.0).value.item()
    1.5
    """
    radius = _checked(preactivations, radius)
    near = preactivations.abs().sort(dim=-1).values
    counts = torch.arange(1, near.shape[-1] + 1, dtype=near.dtype, device=near.device)
    value, index = (radius[..., None] * counts.sqrt() - near.cumsum(-1)).max(dim=-1)
    gains = value > 0
    return Gap(torch.where(gains, value, 0), torch.where(gains, index + 1, 0))


def relu_shift(preactivations: Tensor, radius: float | Tensor) -> Tensor:
    """Return shifts s_j of norm `radius` (or less, where none gains) that reach the maximum of `relu_gap`.

    Rows w_j = w_{0,j} + s_j x / |x|^2 have them; a pre-activation of exactly 0, where relu' is 0, is pushed upwards.

    Args:
        preactivations, radius: as in `relu_gap`.

    Returns:
        The shape (..., m), broadcast with the radius.

    Raises:
        InputError: as `relu_gap`.
    """
    radius = _checked(preactivations, radius)
    moved = relu_gap(preactivations, radius).moved[..., None]
    p = preactivations.expand(*torch.broadcast_shapes(preactivations.shape[:-1], radius.shape), -1)
    rank = p.abs().argsort(dim=-1, stable=True).argsort(dim=-1)
    size = radius[..., None] / moved.clamp_min(1).to(p.dtype).sqrt()
    return torch.where(rank < moved, torch.where(p > 0, -size, size), torch.zeros_like(p))


def relu_gap_limit(radius: float, width: float = 1.0) -> float:
    r"""Return what `relu_gap / sqrt(m)` tends to for standard normal pre-activations.

    .. math:: \tfrac34 \varphi(0)^{1/3} B^{4/3} m^{-1/6}, \qquad \varphi(0) = 1/\sqrt{2 \pi}

    In the limit |p|_(j) = j / (2 phi(0) m), so B sqrt K - K^2 / (4 phi(0) m) is maximal at K = (B phi(0) m)^(2/3).
    For B fixed and m to infinity; other laws of p scale phi(0).

    Args:
        radius: B.
        width: m; 1 returns the constant.
    """
    return 0.75 * DENSITY ** (1 / 3) * radius ** (4 / 3) * width ** (-1 / 6)


def relu_gap_bounds(preactivations: Tensor, radius: float | Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return bounds from below and above of the maximum of sum_j a_j (|s_j| - |p_j|)_+ over shifts of norm <= B.

    A set S of moved neurons is worth B |a_S| - sum_S a_j |p_j|, which for unequal a is a knapsack. From below: the best
    prefix in the order of |p_j| / a_j, whose move is feasible. From above: B |a_S| <= c |a_S|^2 / 2 + B^2 / (2 c) for
    every c, so the maximum is at most sum_j a_j (c a_j / 2 - |p_j|)_+ + B^2 / (2 c). At the best c the two differ by
    about one neuron's share, and for equal a by nothing but the choice of c.

    Args:
        preactivations: p_j, shape (..., m).
        radius: B, a number or of a shape that broadcasts with (...).
        outer: a_j, shape (..., m). Negative ones work against positive ones: the larger of the two signs counts.

    Returns:
        (low, high), each of the broadcast shape (...).

    Raises:
        InputError: as `relu_gap`, or outer weights of another width.

    Cost O(m log m) per row.
    """
    radius = _checked(preactivations, radius)[..., None]
    if outer.shape[-1] != preactivations.shape[-1]:
        raise InputError(f"outer: expected {preactivations.shape[-1]} weights, got {outer.shape[-1]}")
    near, found = preactivations.abs(), []
    for a in (outer.clamp_min(0), (-outer).clamp_min(0)):
        a, p = torch.broadcast_tensors(a, near)
        order = torch.where(a > 0, p / a, torch.inf).argsort(dim=-1)
        a, p = a.gather(-1, order), p.gather(-1, order)
        square, cost = (a**2).cumsum(-1), (a * p).cumsum(-1)
        low = (radius * square.sqrt() - cost).amax(-1).clamp_min(0)
        # every prefix with its own c = B / |a_S|, and the bound of that c over all sets, which is again a prefix
        c = radius / square.sqrt().clamp_min(torch.finfo(a.dtype).tiny)
        ratio = torch.where(a > 0, p / a, torch.inf)
        last = torch.searchsorted(ratio.contiguous(), (c / 2).contiguous(), right=True)
        padded = [torch.cat([torch.zeros_like(part[..., :1]), part], -1) for part in (square, cost)]
        inside = [part.expand(*last.shape[:-1], -1).gather(-1, last) for part in padded]
        high = (c * inside[0] / 2 - inside[1] + radius * square.sqrt() / 2).amin(-1)
        found.append((low, torch.where(a[..., 0] > 0, high, 0)))
    (low, high), (low_minus, high_minus) = found
    return torch.maximum(low, low_minus), torch.maximum(high, high_minus)
