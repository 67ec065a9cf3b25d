"""What every measure asks of a network before it looks: no chance, no coupling of samples where there must be none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from traindyn.compute import seeded
from traindyn.errors import InputError


def plain(X: Tensor) -> Tensor:
    """Return X without history, and outside of inference mode."""
    return X.detach().clone() if X.is_inference() else X.detach()


def usable(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a network whose weights autograd may use: itself, or with copies of weights made in inference mode."""
    if not isinstance(model, nn.Module):
        return model
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if not any(t.is_inference() for t in tensors.values()):
        return model
    with torch.inference_mode(False):
        copies = {name: t.clone() for name, t in tensors.items()}
    return lambda X: functional_call(model, copies, (X,))


def outputs(model: Callable[[Tensor], Tensor], X: Tensor, *, alone: bool = True) -> Tensor:
    """Return a network's outputs on X, or refuse it; its buffers and torch's generators are left as they were.

    Args:
        model: maps (n, ...) to (n,) or (n, c).
        X: inputs (n, ...).
        alone: whether each sample's output must not depend on the others.

    Raises:
        InputError: X is empty or does not fit the weights; the outputs are no such tensor, are drawn by chance, or
            depend on the other samples.
    """
    if not isinstance(X, Tensor) or X.dim() < 1 or not len(X):
        raise InputError(f"X: expected a tensor of shape (n, ...) with n >= 1, got {getattr(X, 'shape', type(X))}")
    if isinstance(model, nn.Module):
        for p in model.parameters():
            if p.is_floating_point() and X.is_floating_point() and p.dtype != X.dtype:
                raise InputError(f"X: has dtype {X.dtype}, the model {p.dtype}; convert one of them")
            if p.device != X.device:
                raise InputError(f"X: lies on {X.device}, the model on {p.device}; move one of them")
    X = plain(X)
    buffers = list(model.buffers()) if isinstance(model, nn.Module) else []
    before = [values.clone() for values in buffers]
    with torch.inference_mode(False), torch.no_grad():
        try:
            with seeded(0, X.device) as drawn:
                f = model(X.clone())
                by_chance = drawn()
            if by_chance:
                raise InputError(
                    "model: draws random numbers (dropout in training mode?), so that a measure of it is a matter of "
                    "chance; call model.eval() first"
                )
            f = shaped(f, len(X))
            if alone and len(X) > 1:
                twins = shaped(model(X[[0, 0]].clone()), 2)
                bound = torch.finfo(f.dtype).eps ** 0.5 * f.abs().max()
                if f.isfinite().all() and not bool((twins[0] - f[0]).abs().max() <= bound):
                    raise InputError(
                        "model: one sample's output depends on the other samples of the batch (batch statistics?); put "
                        "such a layer in eval mode, with running statistics, or remove the coupling"
                    )
        finally:
            for values, old in zip(buffers, before, strict=True):
                values.copy_(old)
    return f


def shaped(f: object, n: int) -> Tensor:
    """Return outputs as (n,) or (n, c), also where a single sample lost its axis; or refuse them."""
    if isinstance(f, Tensor) and n == 1 and (f.dim() == 0 or f.dim() == 1 and len(f) != 1):
        f = f[None]
    if not isinstance(f, Tensor) or f.dim() not in (1, 2) or len(f) != n or not f.is_floating_point():
        got = f"{tuple(f.shape)} {f.dtype}" if isinstance(f, Tensor) else type(f).__name__
        raise InputError(f"model: expected an output of shape ({n},) or ({n}, c) for {n} samples, got {got}")
    return f
