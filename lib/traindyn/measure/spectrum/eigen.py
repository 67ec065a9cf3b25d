"""Leading eigenpairs of a kernel, and the loss by eigenspace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from traindyn import losses
from traindyn.errors import InputError, NotFiniteError


class Eigs(NamedTuple):
    """Leading eigenpairs: values descending, shape (k,); vectors as columns, shape (n, k)."""

    values: Tensor
    vectors: Tensor


def check_square(K: Tensor) -> None:
    if K.dim() < 2 or K.shape[-1] != K.shape[-2] or not K.is_floating_point():
        raise InputError(f"K: expected a square matrix of floating point numbers, got {tuple(K.shape)} {K.dtype}")
    if not torch.isfinite(K).all():
        raise NotFiniteError("K: holds NaN or infinity; has training diverged?")
    # a kernel computed in single precision and cast is as symmetric as single precision makes it
    if K.numel() and (K - K.mT).abs().max() > torch.finfo(torch.float32).eps ** 0.5 * K.abs().max():
        raise InputError("K: is not symmetric; expected the kernel of one set of samples with itself")


def symmetric_values(K: Tensor) -> Tensor:
    """Eigenvalues of symmetric matrices, ascending, also where single precision is too little for the solver.

    In float32 the solver can fail on entries that span nearly its whole range, as those of a kernel do just before
    training overflows. Such a matrix is scaled to entries of at most 1 and solved in double precision.

    Args:
        K: symmetric matrices of finite numbers, shape (..., n, n).

    Returns:
        Values (..., n), of K's dtype and device.

    Raises:
        NotFiniteError: no solution in double precision either.
    """
    return _solved(torch.linalg.eigvalsh, lambda values, scale: (values * scale).to(K), K)


def _solved(solver: Callable[[Tensor], Any], rescaled: Callable[[Any, Tensor], Any], K: Tensor) -> Any:
    """Return what the solver says of K, or what it says, scaled back, of K over its largest entry in float64."""
    try:
        return solver(K)
    except torch.linalg.LinAlgError:
        scale = K.abs().amax().double().cpu().clamp_min(torch.finfo(torch.float64).tiny)
    try:
        return rescaled(solver(K.double().cpu() / scale), scale)
    except torch.linalg.LinAlgError as error:
        raise NotFiniteError(f"K: its eigenvalues cannot be computed ({error}); has training diverged?") from error


def top_eigs(K: Tensor, k: int) -> Eigs:
    """Leading eigenpairs of a symmetric matrix, largest first.

    Args:
        K: symmetric matrix, shape (n, n).
        k: how many, 1 <= k <= n.

    Returns:
        Eigs with values (k,) descending and orthonormal vectors (n, k).

    Raises:
        InputError: K is not square or not finite, or k is out of range.
    """
    check_square(K)
    if not 1 <= k <= len(K):
        raise InputError(f"k: expected 1 to {len(K)} eigenpairs of a kernel of {len(K)} rows, got {k}")
    values, vectors = _solved(torch.linalg.eigh, lambda eigs, scale: ((eigs[0] * scale).to(K), eigs[1].to(K)), K)
    return Eigs(values.flip(-1)[:k], vectors.flip(-1)[:, :k])


def split_loss(eigs: Eigs, residual: Tensor, s: Sequence[int] = (1, 5, 10), loss: losses.Loss = "mse") -> Tensor:
    """Share of a squared loss in the span of the s leading eigenvectors, and in the rest: L = L_{<=s} + L_{>s}.

    For mse, L_{<=s} = (1/n) sum_{j<=s} <f - y, u_j>^2 (Zhu, Liu, Radhakrishnan, Belkin 2024, Eq. 4.2 of the thesis).

    Args:
        eigs: leading eigenpairs of the kernel, at least max(s) of them.
        residual: f - y, shape (n,) or (n, c). Vectors of length n act on every output alike; vectors of length n*c
            (of a kernel with outputs="full") act on the sample-major flattened residual.
        s: numbers of leading directions.
        loss: a squared loss of `losses.SQUARED`.

    Returns:
        Tensor of shape (len(s), 2): the leading part and the rest, in units of the loss.

    Raises:
        InputError: too few eigenvectors, or a residual that does not fit them.
    """
    n, c = len(residual), residual[0].numel()
    U = eigs.vectors
    if len(U) not in (n, n * c):
        raise InputError(
            f"residual: shape {tuple(residual.shape)} does not fit eigenvectors of length {len(U)}; expected "
            f"({len(U)},), ({len(U)}, c), or (n, c) with n*c = {len(U)}"
        )
    if max(s) > U.shape[1] or min(s) < 1:
        raise InputError(f"s: expected numbers from 1 to {U.shape[1]}, the eigenvectors given, got {tuple(s)}")
    R = residual.reshape(len(U), -1).to(U)
    factor = losses.residual_factor(loss, n, c) / 2
    parts = []
    for count in s:
        inside = U[:, :count].T @ R
        outside = R - U[:, :count] @ inside
        parts.append(torch.stack([inside.square().sum(), outside.square().sum()]))
    return factor * torch.stack(parts)
