"""Local elasticity of one ReLU gate trained by the linear flow of Dan et al. (2021), Section 4.

With exact labels max(0, <w*, x>) the flow dw/dt = beta E[1{<w*,x> > 0} (max(0, <w*,x>) - <w,x>) x] (Eq. 5) is
beta (z - M w) with M = E[1 x x^T], z = M w*, so w(t) = w* + exp(-beta M t)(w(0) - w*) (Theorem 4.1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from traindyn.errors import choose
from traindyn.measure.ode import relax


def gate_moments(X: Tensor, w_star: Tensor) -> tuple[Tensor, Tensor]:
    """Return M = E[1 x x^T] and z = E[1 max(0, <w*,x>) x] (Theorem 4.1, Eq. 6) of a sample taken as the law.

    Args:
        X: shape (..., m, n);  w_star: shape (..., n).

    Returns:
        M of shape (..., n, n) and z of shape (..., n).
    """
    label = torch.relu(X @ w_star[..., None])
    active = X * (label > 0)
    return active.mT @ X / X.shape[-2], (label * active).mean(-2)


def gate_rate(w: Tensor, X: Tensor, w_star: Tensor, beta: float = 1.0) -> Tensor:
    """Return the right-hand side of Eq. 5 as an average over the sample, shape (..., n).

    Args:
        w: shape (..., n);  X: shape (..., m, n);  w_star: shape (..., n);  beta: time scale, > 0.
    """
    label = torch.relu(X @ w_star[..., None])
    residual = (label > 0) * (label - X @ w[..., None])
    return beta * (residual * X).mean(-2)


def gate_flow(w0: Tensor, w_star: Tensor, M: Tensor, beta: float, times: Tensor) -> Tensor:
    """Return w(t) = w* + exp(-beta M t)(w(0) - w*) (Theorem 4.1), shape (..., T, k, n).

    Args:
        w0: starts, shape (..., k, n);  w_star: shape (..., n);  M: shape (..., n, n).
        beta: time scale;  times: shape (T,).
    """
    return w_star[..., None, None, :] + relax(M, beta, w0 - w_star[..., None, :], times)


def gate_step(w: Tensor, x: Tensor, w_star: Tensor, step: float) -> Tensor:
    """Return w+ of Eq. 9: w + step 1{<w*,x> > 0} [<w*,x> - <w,x>] x, with step = eta beta.

    Args:
        w, x, w_star: shapes that broadcast to (..., n);  step: eta beta.
    """
    target = (w_star * x).sum(-1, keepdim=True)
    residual = (target - (w * x).sum(-1, keepdim=True)) * (target > 0)
    return w + step * residual * x


def gate_change(w: Tensor, w_new: Tensor, x: Tensor) -> Tensor:
    """Return |max(0, <w+, x>) - max(0, <w, x>)|, the numerator or denominator of Definition 1, shape (...)."""
    return (torch.relu((w_new * x).sum(-1)) - torch.relu((w * x).sum(-1))).abs()


def change_bound(error: Tensor, x_prime: Tensor, x: Tensor, w_star: Tensor, step: float, form: str) -> Tensor:
    """Return the bound of Lemma 4.2 on the change at x' caused by a step at x.

    Args:
        error: exp(-beta M t)(w(0) - w*) = w(t) - w*, shape (..., n).
        x_prime, x, w_star: shapes that broadcast to (..., n);  step: eta beta.
        form: "printed" (step |<x,x'>| |error|), "projection" (step |<x,x'>| |<error, x>|, where the proof ends) or
            "norm" (step |<x,x'>| |x| |error|).

    Raises:
        InputError: unknown form.
    """
    choose("form", form, ("printed", "projection", "norm"))
    size = error.norm(dim=-1)
    if form == "norm":
        size = size * x.norm(dim=-1)
    elif form == "projection":
        size = (error * x).sum(-1).abs()
    return step * (x * x_prime).sum(-1).abs() * size * ((w_star * x).sum(-1) > 0)


def late_bound(x_prime: Tensor, x: Tensor) -> Tensor:
    """Return |<x, x'>| / |x|^2, the late-time lower bound of Theorem 4.3, shape (...)."""
    return (x * x_prime).sum(-1).abs() / (x**2).sum(-1)


def exact_change(error: Tensor, point: Tensor, x: Tensor, w_star: Tensor, step: float, alpha: str) -> Tensor:
    """Return |max(0, alpha_1 + alpha_2) - max(0, alpha_1)| at `point` (Eqs. 18 and 19).

    alpha_2 = -step 1{<w*,x> > 0} <error, x> <x, point>; alpha_1 = <w(t), point> = <w*, point> + <error, point>. As
    printed, alpha_1 = <w(t), point> - <error, point> + <w*, point>, which is 2 <w*, point> whatever the time.

    Args:
        error: w(t) - w*, shape (..., n);  point, x, w_star: shapes that broadcast to (..., n).
        step: eta beta;  alpha: "right" or "printed".

    Raises:
        InputError: unknown alpha.
    """
    choose("alpha", alpha, ("right", "printed"))
    first = (w_star * point).sum(-1)
    first = 2 * first if alpha == "printed" else first + (error * point).sum(-1)
    second = -step * (error * x).sum(-1) * (x * point).sum(-1) * ((w_star * x).sum(-1) > 0)
    return (torch.relu(first + second) - torch.relu(first)).abs()
