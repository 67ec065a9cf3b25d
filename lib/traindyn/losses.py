"""One vocabulary of losses for training and for measuring; outputs f and targets y never broadcast.

With f of shape (n,) or (n, k):

    mse          = (1/n)     sum_i |f_i - y_i|^2
    mse_entries  = (1/(n k)) sum_i |f_i - y_i|^2        (torch's MSELoss)
    half_mse     = (1/(2n))  sum_i |f_i - y_i|^2
    half_sum     = (1/2)     sum_i |f_i - y_i|^2
    cross_entropy = (1/n) sum_i [ log sum_j exp f_ij - f_{i, y_i} ]       f (n, c), y int64 (n,)
    hinge        = (1/n) sum_i sum_j max(0, 1 - y_ij f_ij)                y in {-1, +1}, of f's shape

A callable loss(f, y) -> scalar tensor stands wherever a name does.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from traindyn.errors import InputError, choose

SQUARED = ("mse", "mse_entries", "half_mse", "half_sum")
LOSSES = (*SQUARED, "cross_entropy", "hinge")

Loss = str | Callable[[Tensor, Tensor], Tensor]


def check(loss: Loss) -> Loss:
    """Return `loss` if it is a known name or a callable.

    Raises:
        InputError: it is neither.
    """
    return loss if callable(loss) else choose("loss", loss, LOSSES)


def check_shapes(loss: Loss, f: Tensor, y: Tensor) -> None:
    """Refuse outputs and targets that do not fit the loss.

    Args:
        loss: a name of `LOSSES` (a callable checks for itself).
        f: outputs, shape (n,) or (n, k).
        y: targets; f's shape, or (n,) integer class indices for cross_entropy.

    Raises:
        InputError: the shapes (or, for cross_entropy, the integer type) do not fit.
    """
    if callable(loss):
        return
    if loss == "cross_entropy":
        if f.ndim != 2 or y.shape != f.shape[:1] or y.is_floating_point() or y.dtype == torch.bool:
            raise InputError(
                "cross_entropy: expected outputs (n, c) and integer class indices (n,), got "
                f"{tuple(f.shape)} and {tuple(y.shape)} {y.dtype}; load the data with labels='index'"
            )
    elif f.shape != y.shape:
        raise InputError(
            f"{loss}: outputs have shape {tuple(f.shape)} and targets {tuple(y.shape)}; expected the same shape, "
            "nothing is broadcast (a network with out_dim=1 returns (n,))"
        )
    elif y.dtype == torch.bool or y.is_complex() or f.is_complex():
        raise InputError(f"{loss}: expected real numbers as targets, got {y.dtype}; convert them with y.to(f.dtype)")


def check_targets(loss: Loss, y: Tensor, classes: int | None = None) -> None:
    """Refuse targets whose values do not fit the loss; it reads them, so ask once and not in a loop.

    Args:
        loss: a name of `LOSSES` (a callable checks for itself).
        y: targets of any leading shape.
        classes: number of outputs, for cross_entropy.

    Raises:
        InputError: class indices out of range, labels of the hinge loss other than -1 and +1, or NaN.
    """
    if callable(loss) or not y.numel() or y.device.type == "meta":
        return
    if y.is_floating_point() and bool(y.isnan().any()):
        raise InputError(f"{loss}: the targets hold NaN; remove those samples")
    if loss == "cross_entropy" and not y.is_floating_point() and classes is not None:
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= classes:
            raise InputError(
                f"cross_entropy: class indices run from {low} to {high}; expected 0 to {classes - 1} for {classes} "
                "outputs (no value is ignored)"
            )
    if loss == "hinge" and not bool((y.abs() == 1).all()):
        raise InputError("hinge: expected targets -1 and +1, got other values; load the data with labels='pm1'")


def total(loss: str, f: Tensor, y: Tensor) -> Tensor:
    """Return the named loss times its `divisor`: a sum over samples, so that parts of a set add up.

    Args:
        loss: a name of `LOSSES`.
        f: outputs, shape (n,) or (n, k).
        y: targets as in `check_shapes`.

    Returns:
        a scalar tensor of f's dtype.
    """
    check_shapes(loss, f, y)
    if loss in SQUARED:
        return (f - y).square().sum()
    if loss == "cross_entropy":
        return (torch.logsumexp(f, 1) - f.gather(1, y[:, None].long()).squeeze(1)).sum()
    return (1 - y * f).clamp(min=0).sum()


def divisor(loss: str, n: int, k: int = 1) -> int:
    """Return what `total` is divided by: n, n k, 2n or 2, from the number of samples n and of outputs k."""
    return {"mse_entries": n * k, "half_mse": 2 * n, "half_sum": 2}.get(loss, n)


def value(loss: Loss, f: Tensor, y: Tensor) -> Tensor:
    """Return the loss of outputs f against targets y.

    Args:
        loss: a name of `LOSSES`, or a callable (f, y) -> scalar tensor.
        f: outputs, shape (n,) or (n, k).
        y: targets as in `check_shapes`.

    Returns:
        a scalar tensor of f's dtype.

    Raises:
        InputError: the loss is unknown, or the shapes do not fit.
    """
    if callable(loss):
        found = loss(f, y)
        if not isinstance(found, Tensor) or found.dim():
            got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise InputError(f"loss: expected a function (f, y) -> scalar tensor, got {got}; average over the samples")
        return found
    return total(check(loss), f, y) / divisor(loss, f.shape[0], f[0].numel() if f.ndim > 1 else 1)


def residual_factor(loss: Loss, n: int, k: int = 1) -> float:
    """Return the factor s of a squared loss in dL/df_i = s (f_i - y_i).

    Under gradient flow the residual r = f - y obeys dr/dt = -s K r with the tangent kernel K summed over samples, so
    gradient descent on a constant kernel converges for rates below 2 / (s lambda_max(K)).

    Args:
        loss: one of `SQUARED`.
        n: number of samples.
        k: number of outputs.

    Returns:
        2/n for mse, 2/(n k) for mse_entries, 1/n for half_mse, 1 for half_sum.

    Raises:
        InputError: the loss is not a squared one: its residual does not evolve linearly.
    """
    if callable(loss) or loss not in SQUARED:
        raise InputError(
            f"loss {loss!r} has no constant factor between residual and gradient; expected one of {', '.join(SQUARED)}"
        )
    return 2 / divisor(loss, n, k)


def error_rate(f: Tensor, y: Tensor) -> Tensor:
    """Return the fraction of samples that the outputs misclassify.

    Args:
        f: outputs, shape (n,) or (n, 1) (the sign decides) or (n, c) (the largest decides); NaN is wrong.
        y: class indices (n,) integer; or +-1 of f's shape; or one-hot rows (n, c).

    Returns:
        a scalar tensor in [0, 1], of f's dtype.

    Raises:
        InputError: the shapes do not fit.
    """
    column = f.ndim == 2 and f.shape[1] == 1
    if f.ndim == 2 and not column and y.shape == f.shape[:1] and not y.is_floating_point():
        wrong = f.argmax(1) != y
    elif f.shape == y.shape and f.ndim in (1, 2):
        wrong = f.argmax(1) != y.argmax(1) if f.ndim == 2 and not column else (f > 0).flatten() != (y > 0).flatten()
    else:
        raise InputError(f"error rate: outputs {tuple(f.shape)} do not fit targets {tuple(y.shape)} {y.dtype}")
    wrong = wrong | f.isnan().reshape(len(f), -1).any(1)  # a network that has diverged classifies nothing
    return wrong.to(f.dtype).mean()
