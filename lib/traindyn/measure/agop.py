"""Average gradient outer product (AGOP): which input directions a predictor uses, and how well they fit a target's."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from traindyn.compute import chunk_size
from traindyn.errors import InputError
from traindyn.forward_pass import outputs, plain, shaped, try_out, undisturbed, usable

# a guess of how many numbers a network holds per input number while it is differentiated; only the chunk depends on it
_ACTIVATIONS_PER_INPUT = 1024


def _check(model: Callable[[Tensor], Tensor], X: Tensor) -> None:
    if X.dim() < 2 or not len(X):
        raise InputError(f"X: expected inputs of shape (n, ...) with n >= 1, got {tuple(X.shape)}")
    if not X.is_floating_point():
        raise InputError(f"X: expected a floating-point dtype, got {X.dtype}; convert it with X.float()")
    if isinstance(model, nn.Module):
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
                raise InputError(
                    f"model: '{name}' is batch normalisation in training mode, where one sample's output depends on "
                    "the others; call model.eval() first"
                )


def agop(model: Callable[[Tensor], Tensor], X: Tensor, *, chunk: int | None = None) -> Tensor:
    r"""Average outer product of the input gradients of a network or function.

    .. math:: G = \frac1n \sum_i \sum_k \nabla_x f_k(x_i) \nabla_x f_k(x_i)^T

    For one output this is eq. (4.5) of Zhu's thesis; for c outputs it is the sum over the outputs, not their mean
    (Radhakrishnan, Beaglehole, Pandit, Belkin 2024). One backward pass per output and chunk; the gradients of one
    output are added to G and dropped, so that memory is O(d^2 + chunk d), never O(n c d).

    Args:
        model: maps (n, ...) to (n,) or (n, c), each sample by itself.
        X: inputs (n, ...), floating point; images are taken as vectors of d numbers.
        chunk: samples at once; None chooses from the memory budget.

    Returns:
        (d, d), symmetric and positive semidefinite, in X's dtype and on its device.

    Raises:
        InputError: X is empty or not floating point, the output has another shape, does not depend on the input or is
            not finite, depends on chance or on the other samples.
    """
    _check(model, X)
    X, given = plain(X), model
    outputs(model, X)
    if isinstance(model, nn.Module):
        try_out(model, X[[0, -1]])
    model = usable(model)
    d = math.prod(X.shape[1:])
    size = chunk or chunk_size(d * X.element_size() * _ACTIVATIONS_PER_INPUT, len(X), X.device)
    with undisturbed(given) if isinstance(given, nn.Module) else torch.enable_grad():
        total = X.new_zeros(d, d)
        for batch in X.split(size):
            batch = batch.clone().requires_grad_(True)
            out = shaped(model(batch.clone()), len(batch))  # a layer that works in place gets a copy
            if not out.requires_grad:
                raise InputError("model: its output does not depend on the input through torch operations")
            columns = out[:, None] if out.dim() == 1 else out
            for k in range(columns.shape[1]):
                # samples do not interact, so the gradient of the sum holds every sample's own gradient
                (gradient,) = torch.autograd.grad(
                    columns[:, k].sum(), batch, retain_graph=k + 1 < columns.shape[1], materialize_grads=True
                )
                rows = gradient.flatten(1)
                total.addmm_(rows.T, rows)
    if not total.isfinite().all():
        raise InputError("model: its input gradients are not finite on X")
    return total / len(X)


def alignment(G: Tensor, H: Tensor) -> Tensor:
    r"""Frobenius cosine of two matrices, Tr(G^T H) / (||G||_F ||H||_F): eq. (4.6) of Zhu's thesis.

    For positive semidefinite matrices it lies in [0, 1]; it does not see a scale.

    Args:
        G, H: (d, d), of one dtype and device.

    Returns:
        A scalar tensor.

    Raises:
        InputError: the shapes differ, or one matrix is zero.
    """
    if G.shape != H.shape:
        raise InputError(f"G and H: expected matrices of equal shape, got {tuple(G.shape)} and {tuple(H.shape)}")
    largest = G.abs().max(), H.abs().max()
    if not all(0 < float(value) < math.inf for value in largest):
        raise InputError(
            f"G and H: expected non-zero finite matrices, got largest entries {[float(v) for v in largest]}"
        )
    # to entries of size one first: squares and products of small gradients leave the range of float32
    G, H = G / largest[0], H / largest[1]
    return (G * H).sum() / (G.norm() * H.norm())


def baselines(H: Tensor, initial: Tensor | None = None) -> dict[str, float]:
    r"""What an alignment with H has to be compared with.

    * `isotropic`: alignment(I, H) = Tr(H) / (sqrt(d) ||H||_F), a predictor that prefers no direction.
    * `initial`: alignment of the same network before training.

    Args:
        H: the target's EGOP or a reference AGOP, (d, d).
        initial: the AGOP of the network at initialisation, (d, d); None leaves that entry out.
    """
    eye = torch.eye(len(H), dtype=H.dtype, device=H.device)
    values = {"isotropic": float(alignment(eye, H))}
    if initial is not None:
        values["initial"] = float(alignment(initial, H))
    return values
