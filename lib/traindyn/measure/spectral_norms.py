"""Spectral norms of many symmetric operators at once, each known by its products only, by Lanczos iteration."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from traindyn.errors import InputError, NotFiniteError


class Norms(NamedTuple):
    """Spectral norms and how far they can be trusted.

    Attributes:
        value: max |eigenvalue|, shape (s,).
        sign: of the eigenvalue that has it, shape (s,); 0 for the zero operator.
        vector: its unit Ritz vector, shape (s, p).
        residual: norm of A v - (sign value) v, shape (s,): an eigenvalue lies within it.
        products: how many products each operator took, shape (s,).
        converged: whether it ended because the value is known to its tolerance, shape (s,).
    """

    value: Tensor
    sign: Tensor
    vector: Tensor
    residual: Tensor
    products: Tensor
    converged: Tensor


def spectral_norms(
    product: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    metric: Callable[[Tensor], Tensor] | None = None,
    tol: float = 1e-3,
    most: int = 60,
) -> Norms:
    r"""Return the spectral norms of s operators of dimension p that are symmetric in an inner product <u, v> = u^T G v.

    Lanczos iteration with full reorthogonalisation, both ends of the spectrum at once. G may be singular: vectors in
    its kernel count as zero. So an operator whose range has few dimensions can be given in coordinates of that range,
    which need not be unique. With the residual r of the leading Ritz pair and its distance g to the next one, the error
    of the value is about min(r, r^2 / g); an operator ends once that, and a tenth of its value's last change, are below
    tol * value. An operator's numbers do not depend on the others beside it.

    Args:
        product: function (v, G v) -> A v, all of shape (s, p).
        start: first vectors, shape (s, p), not zero.
        metric: function v -> G v on shape (s, p); None: the identity.
        tol: relative error of a value, estimated as above.
        most: products after which the best values so far are returned, with a warning.

    Raises:
        InputError: a start vector has no length.
        NotFiniteError: a product is not finite.

    Cost: `most` products at most, and 8 s p `most` bytes for the basis.

    Source: Parlett, The Symmetric Eigenvalue Problem (1998), sections 13 and 15.11 (the generalised problem).
    """
    metric = metric or (lambda v: v)
    s, p = start.shape
    if p < 1:
        raise InputError("start: expected vectors with at least one entry")
    lifted = metric(start)
    length = (start * lifted).sum(1).clamp_min(0).sqrt()
    if not (length > 0).all():
        raise InputError("start: a start vector has no length in this inner product")
    basis, duals = [start / length[:, None]], [lifted / length[:, None]]
    T = start.new_zeros(s, most, most, dtype=torch.float64)
    value, sign, residual = (start.new_zeros(s, dtype=torch.float64) for _ in range(3))
    weights = start.new_zeros(s, most, dtype=torch.float64)
    products = start.new_zeros(s, dtype=torch.long)
    done = start.new_zeros(s, dtype=torch.bool)
    scale = start.new_zeros(s, dtype=torch.float64)
    for step in range(most):
        w = product(basis[-1], duals[-1])
        if not torch.isfinite(w).all():
            raise NotFiniteError("a curvature product holds NaN or infinity; has training diverged?")
        T[:, step, step] = (w * duals[-1]).sum(1)
        for _ in range(2):  # once is not enough in floating point
            for q, dual in zip(basis, duals, strict=True):
                w = w - (w * dual).sum(1, keepdim=True) * q
        lifted = metric(w)
        beta = (w * lifted).sum(1).clamp_min(0).sqrt()
        values, vectors = torch.linalg.eigh(T[:, : step + 1, : step + 1])
        low = values[:, 0].abs() > values[:, -1].abs()
        size, vector = (
            torch.where(low, values[:, 0], values[:, -1]),
            torch.where(low[:, None], vectors[..., 0], vectors[..., -1]),
        )
        gap = torch.where(low, values[:, min(1, step)] - values[:, 0], values[:, -1] - values[:, max(-2, -step - 1)])
        rest = beta.double() * vector[:, -1].abs()
        moved = (size.abs() - value).abs() / 10  # a second Ritz value that lags behind makes r^2 / g too hopeful
        error = torch.where(gap > 0, torch.minimum(rest, rest**2 / gap.clamp_min(1e-300)), rest).maximum(moved)
        scale = torch.maximum(scale, values.abs().amax(1))
        exhausted = beta <= 1e-13 * scale.clamp_min(1e-290)
        ends = ~done & (exhausted | ((step > 1) & (error <= tol * size.abs())))
        now = ~done
        value = torch.where(now, size.abs(), value)
        sign = torch.where(now, size.sign(), sign)
        residual = torch.where(now, rest, residual)
        weights[now, : step + 1] = vector[now]
        products[now] += 1
        done |= ends
        if done.all() or step + 1 == most:
            break
        T[:, step, step + 1] = T[:, step + 1, step] = beta.double()
        # an operator that has ended goes on with zeros, so that it costs no attention
        stays = (~done & (beta > 0)).to(w)[:, None]
        safe = torch.where(beta > 0, beta, torch.ones_like(beta))[:, None]
        basis.append(stays * w / safe)
        duals.append(stays * lifted / safe)
    if not done.all():
        worst = int((residual / value.clamp_min(1e-300)).argmax())
        warnings.warn(
            f"spectral norms: {most} products do not settle {int((~done).sum())} of {s} to {tol:g}; the worst has a "
            f"residual of {float(residual[worst]):.1g} beside {float(value[worst]):.4g}; look at `converged`",
            stacklevel=2,
        )
    vector = sum(weights[:, k, None].to(start) * q for k, q in enumerate(basis))
    return Norms(value, sign, vector, residual, products, done)
