"""The largest eigenvalue of a symmetric operator that is known only by its products, by Lanczos iteration."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from traindyn.errors import NotFiniteError


class _Pair(NamedTuple):
    value: Tensor
    residual: Tensor


class TopEig(_Pair):
    """A largest eigenvalue and how far it can be trusted; unpacks into (value, residual).

    Attributes:
        value: the Ritz value, 0-dimensional.
        residual: |A v - value v| for its unit vector v, so that an eigenvalue of A lies within `residual` of `value`.
        products: how many products with A were spent.
        error: the estimated error of the value, as in `top_eig`; below tol |value| if it converged.
        converged: whether the iteration ended because the value is known to its tolerance, not for want of products.
    """

    products: int
    error: float
    converged: bool

    def __new__(cls, value: Tensor, residual: Tensor, products: int, error: float, converged: bool) -> TopEig:
        pair = super().__new__(cls, value, residual)
        pair.products, pair.error, pair.converged = products, error, converged
        return pair


def top_eig(product: Callable[[Tensor], Tensor], start: Tensor, tol: float = 1e-3, most: int = 100) -> TopEig:
    """Return the largest (most positive) eigenvalue of a symmetric matrix A.

    Lanczos iteration with full reorthogonalisation. With the residual r of the leading Ritz pair and its distance g to
    the second Ritz value, the error of the value is about min(r, r^2 / g); the iteration stops once that, and a tenth
    of the value's last change, are below tol |value|.

    Args:
        product: function v -> A v on vectors of shape (p,).
        start: first vector, shape (p,), not zero; must not be orthogonal to the sought eigenvector.
        tol: relative error of the eigenvalue, estimated as above.
        most: products after which the best value so far is returned, with its residual and a warning.

    Returns:
        (value, residual), with the attributes of `TopEig`. If it did not converge, a warning says so.

    Raises:
        NotFiniteError: a product is not finite.

    Source: Parlett, The Symmetric Eigenvalue Problem (1998), sections 11.7 and 13.
    """
    most = min(most, start.numel())
    basis = start.new_empty(min(most, 8), start.numel())
    basis[0] = start / start.norm()
    T = torch.zeros(most, most, dtype=torch.float64)
    previous = 0.0
    for step in range(most):
        w = product(basis[step])
        if not torch.isfinite(w).all():
            raise NotFiniteError("model: a curvature product holds NaN or infinity; has training diverged?")
        T[step, step] = w @ basis[step]
        for _ in range(2):  # once is not enough in floating point
            w = w - basis[: step + 1].T @ (basis[: step + 1] @ w)
        beta = w.norm()
        values, vectors = torch.linalg.eigh(T[: step + 1, : step + 1])
        residual = beta.item() * abs(vectors[-1, -1].item())
        gap = (values[-1] - values[-2]).item() if step else 0.0
        moved = abs(values[-1].item() - previous)  # a second Ritz value that lags behind makes r^2 / g too hopeful
        previous = values[-1].item()
        error = max(min(residual, residual**2 / gap) if gap > 0 else residual, moved / 10)
        scale = values.abs().max().item()
        # an invariant subspace, the whole space at the latest: nothing is left to find
        exhausted = beta.item() <= 1e-12 * scale or step + 1 == start.numel()
        converged = exhausted or (step > 0 and error <= tol * abs(values[-1].item()))
        if converged or step + 1 == most:
            break
        T[step, step + 1] = T[step + 1, step] = beta.item()
        if step + 1 == len(basis):
            basis = torch.cat([basis, torch.empty_like(basis)])
        basis[step + 1] = w / beta
    if not converged:
        warnings.warn(
            f"top eigenvalue: {most} products give {values[-1].item():.6g} with an error of about {error:.1g} "
            f"(residual {residual:.1g}), above the tolerance {tol:g}; look at `converged`, or allow more products",
            stacklevel=2,
        )
    return TopEig(values[-1].to(start), torch.tensor(residual).to(start), step + 1, error, converged)
