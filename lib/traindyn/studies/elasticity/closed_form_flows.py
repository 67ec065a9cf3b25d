"""Local elasticity of predictors that are linear in powers of their weights (Dan et al. 2021, Section 5, Appendix B).

f(W, x) = alpha(x) + sum_r <beta_r(x), w_r^d> (Definition 6), trained on the loss (1/2)(y - f)^2 (Eq. 10). Powers are
taken entry by entry. Where the source prints something else than what its own steps give, both forms are here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from traindyn.errors import choose

EXAMPLE_A = (1.0, 4.0, 9.0)  # a_q of the example of Section 5.1; b_q = 1
EXAMPLE_START = (0.5, 2.0, 4.0)  # its w_q(0)^2


def predict(W: Tensor, beta: Tensor, d: int) -> Tensor:
    """Return sum_r <beta_r(x), w_r^d>, the part of f that depends on W (Definition 6).

    Args:
        W, beta: weights and features beta_r(x)_i, shapes that broadcast to (..., w, n);  d: degree, >= 1.

    Returns:
        Shape (...).
    """
    return (beta * W**d).sum((-2, -1))


def step(W: Tensor, beta: Tensor, residual: Tensor, eta: float, d: int) -> Tensor:
    """Return W after one SGD step on one sample: W + eta d residual beta * W^(d-1) (Eq. 23).

    Args:
        W, beta: shape (..., w, n);  residual: y - f(W, x), shape (...);  eta: step size;  d: degree.
    """
    return W + eta * d * residual[..., None, None] * beta * W ** (d - 1)


def expanded_change(W: Tensor, beta_prime: Tensor, beta: Tensor, residual: Tensor, eta: float, d: int) -> Tensor:
    """Return f(W+, x') - f(W, x') as the finite sum over k = 1..d of Eq. 25.

    The k-th term is binom(d, k) (eta d residual)^k sum_r <beta_r(x') beta_r(x)^k, w_r^(d(k+1) - 2k)>.

    Args:
        W, beta_prime, beta: shape (..., w, n);  residual: y - f(W, x), shape (...);  eta: step size;  d: degree.
    """
    terms = [
        math.comb(d, k) * (eta * d * residual) ** k * (beta_prime * beta**k * W ** (d * (k + 1) - 2 * k)).sum((-2, -1))
        for k in range(1, d + 1)
    ]
    return torch.stack(terms).sum(0)


def s_rel_limit(W: Tensor, beta_prime: Tensor, beta: Tensor, d: int) -> Tensor:
    """Return lim_{eta -> 0} S_rel = |sum <beta(x') beta(x), W^(2(d-1))>| / sum <beta(x)^2, W^(2(d-1))> (Eq. 30).

    Args:
        W, beta_prime, beta: shapes that broadcast to (..., w, n);  d: degree.
    """
    weight = W ** (2 * (d - 1))
    return (beta_prime * beta * weight).sum((-2, -1)).abs() / (beta**2 * weight).sum((-2, -1))


def proximity(beta_prime: Tensor, beta: Tensor) -> Tensor:
    """Return P(x, x') = max_r |beta_r(x') * beta_r(x)|, Euclidean norm over entries (Theorem 5.1), shape (...)."""
    return (beta_prime * beta).norm(dim=-1).amax(-1)


def bound_factor(W: Tensor, beta: Tensor, d: int) -> Tensor:
    """Return sum_r |w_r^(2(d-1))| / sum_r <beta_r(x)^2, w_r^(2(d-1))>, the second factor of Theorem 5.1, shape (...).

    It depends on W, hence on time, and on x; S_rel <= P(x, x') times it.
    """
    weight = W ** (2 * (d - 1))
    return weight.norm(dim=-1).sum(-1) / (beta**2 * weight).sum((-2, -1))


def flow_rate(W: Tensor, beta: Tensor, target: Tensor, theta: float, d: int) -> Tensor:
    """Return the right-hand side of Eq. 12, theta d E[(y - alpha - f_W) beta * W^(d-1)], over a sample as the law.

    Args:
        W: shape (w, n);  beta: features of m samples, shape (m, w, n);  target: y - alpha(x), shape (m,).
        theta: time scale, > 0;  d: degree.
    """
    residual = target - predict(W, beta, d)
    return theta * d * (residual[:, None, None] * beta).mean(0) * W ** (d - 1)


def squared_weights(times: Tensor, a: Tensor, b: Tensor, start: Tensor, theta: float) -> Tensor:
    """Return w_q(t)^2 = a_q / (b_q + (a_q / w_q(0)^2 - b_q) exp(-4 theta a_q t)) (Eq. 35).

    Args:
        times: shape (T,);  a, b, start: a_q, b_q, w_q(0)^2, shape (..., n);  theta: time scale.

    Returns:
        Shape (..., T, n). Holds for start above a/b as well, where the integral in the proof is not written.
    """
    a, b, start = a[..., None, :], b[..., None, :], start[..., None, :]
    return a / (b + (a / start - b) * torch.exp(-4 * theta * a * times[:, None]))


def s_rel_diagonal(squared: Tensor, x_prime: Tensor, x: Tensor) -> Tensor:
    """Return Eq. 13, |sum_r v_r beta_r(x') beta_r(x)| / sum_r v_r beta_r(x)^2 with v_r = w_r(t)^2.

    Args:
        squared: v, shape (..., T, n);  x_prime, x: diagonal features beta_rr, shape (..., n).

    Returns:
        Shape (..., T).
    """
    return (squared * (x_prime * x)[..., None, :]).sum(-1).abs() / (squared * (x**2)[..., None, :]).sum(-1)


def s_rel_example(times: Tensor, x_prime: Tensor, x: Tensor, theta: float = 0.001) -> Tensor:
    """Return Eq. 14 with its denominators as printed.

    They are 1 + e^(-4 theta t), 1/4 + e^(-16 theta t)/4 and 1/9 + 5/36 e^(-36 theta t).

    Args:
        times: shape (T,), infinity allowed;  x_prime, x: points, shape (..., 3);  theta: time scale, > 0.

    Returns:
        Shape (..., T).
    """
    terms = [
        1 + torch.exp(-4 * theta * times),
        1 / 4 + torch.exp(-16 * theta * times) / 4,
        1 / 9 + 5 / 36 * torch.exp(-36 * theta * times),
    ]
    weight = 1 / torch.stack(terms, -1)
    return s_rel_diagonal(weight.to(x), x_prime, x)


def s_rel_step_diagonal(squared: Tensor, residual: Tensor, x_prime: Tensor, x: Tensor, eta: float) -> Tensor:
    """Return S_rel of Definition 1 at a finite step for d = 2 and diagonal W.

    w+^2 - w^2 = 4 eta r beta v (1 + eta r beta) with r = y - f(x), so the common factor 4 eta r cancels and nothing is
    lost to rounding when r is small: S = |sum x'_q x_q v_q (1 + eta r x_q)| / |sum x_q^2 v_q (1 + eta r x_q)|.

    Args:
        squared: v = w^2, shape (..., n);  residual: r, shape (...).
        x_prime, x: diagonal features, shapes that broadcast to (..., n);  eta: step size.
    """
    weight = squared * (1 + eta * residual[..., None] * x) * x
    return (weight * x_prime).sum(-1).abs() / (weight * x).sum(-1).abs()


class Symmetric(NamedTuple):
    """An instance of Theorem 5.3: two features at two points, and the constants that make the case symmetric.

    All have shape (...) except the features f_prime = beta_ii(x') and f = beta_ii(x), of shape (..., 2), and a,
    the two a_i, of shape (..., 2). alpha2 = alpha^2 = b_i/a_i and beta2 = beta^2 = 1/w_i(0)^2 - b_i/a_i.
    """

    f_prime: Tensor
    f: Tensor
    a: Tensor
    alpha2: Tensor
    beta2: Tensor


def s_rel_symmetric(case: Symmetric, times: Tensor, theta: float = 1.0) -> Tensor:
    """Return Eq. 36 (Eq. 13) for the symmetric case, shape (..., T); times of shape (T,), theta the time scale."""
    b = case.alpha2[..., None] * case.a
    start = (1 / (case.alpha2 + case.beta2))[..., None].expand_as(case.a)
    return s_rel_diagonal(squared_weights(times, case.a, b, start, theta), case.f_prime, case.f)


def symmetric_parts(case: Symmetric, form: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the prefactor and the mixing weights k1, k2 of Eq. 37, each of shape (...).

    Args:
        case: the instance.
        form: "printed" (beta_22(x')^2 in the prefactor and in k2) or "corrected" (beta_22(x)^2).

    Raises:
        InputError: unknown form.
    """
    choose("form", form, ("printed", "corrected"))
    cross, own = case.f_prime * case.f, case.f**2
    second = case.f_prime[..., 1] ** 2 if form == "printed" else own[..., 1]
    total = own[..., 0] + second
    return cross.sum(-1).abs() / total, cross[..., 0] / cross.sum(-1), own[..., 0] / total


def s_rel_factorised(case: Symmetric, times: Tensor, form: str, theta: float = 1.0) -> Tensor:
    """Return Eq. 37: prefactor times |alpha^2 + beta^2 (k1 e2 + (1-k1) e1)| / |alpha^2 + beta^2 (k2 e2 + (1-k2) e1)|.

    Here e_i = exp(-4 a_i theta t). Args as for `s_rel_symmetric`; form as for `symmetric_parts`. Shape (..., T).
    """
    front, k1, k2 = (part[..., None] for part in symmetric_parts(case, form))
    e1, e2 = torch.exp(-4 * theta * case.a[..., None] * times).unbind(-2)
    alpha2, beta2 = case.alpha2[..., None], case.beta2[..., None]
    above = alpha2 + beta2 * (k1 * e2 + (1 - k1) * e1)
    return front * above.abs() / (alpha2 + beta2 * (k2 * e2 + (1 - k2) * e1)).abs()


def lemma_bound(
    alpha2: Tensor, b1: Tensor, b2: Tensor, beta2: Tensor, p2: Tensor, q2: Tensor, t2: Tensor, times: Tensor
) -> Tensor:
    """Return the lower bound of Lemma B.1.

    (alpha^2 - |b1| e^(-q^2 t2)) / (alpha^2 + |b2| e^(-p^2 t) + beta^2 e^(-q^2 t)).

    Args:
        alpha2, b1, b2, beta2, p2, q2, t2: alpha^2, b1, b2, beta^2, p^2, q^2, t2*, shape (...);  times: shape (T,).

    Returns:
        Shape (..., T).
    """
    alpha2, b1, b2, beta2, p2, q2, t2 = (v[..., None] for v in (alpha2, b1, b2, beta2, p2, q2, t2))
    above = alpha2 - b1.abs() * torch.exp(-q2 * t2)
    return above / (alpha2 + b2.abs() * torch.exp(-p2 * times) + beta2 * torch.exp(-q2 * times))


def symmetric_bound(case: Symmetric, times: Tensor, form: str, theta: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the lower bound of Eq. 38 and the time t* from which it is claimed.

    If k1 >= 0, Lemma B.1 is used with b1 = beta^2 k1, p^2 = 4 a_2 theta, q^2 = 4 a_1 theta; else with
    b1 = beta^2 (1-k1) and the exponents swapped. b2 must be swapped with them (beta^2 (1-k2)); the proof prints
    beta^2 k2 for both.
    t2* is taken where alpha^2 = 2 b1 e^(-q^2 t2*), or 0; t1* is 0 because k2 lies in [0, 1].

    Args:
        case, times, form, theta: as for `s_rel_factorised`.

    Returns:
        The bound of shape (..., T) and t2* of shape (...).
    """
    front, k1, k2 = symmetric_parts(case, form)
    swap = k1 < 0
    a1, a2 = case.a.unbind(-1)
    b1 = case.beta2 * torch.where(swap, 1 - k1, k1)
    b2 = case.beta2 * (torch.where(swap, 1 - k2, k2) if form == "corrected" else k2)
    p2, q2 = 4 * theta * torch.where(swap, a1, a2), 4 * theta * torch.where(swap, a2, a1)
    t2 = torch.clamp(torch.log(2 * b1 / case.alpha2) / q2, min=0)
    return front[..., None] * lemma_bound(case.alpha2, b1, b2, case.beta2, p2, q2, t2, times), t2
