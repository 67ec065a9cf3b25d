"""The largest eigenvalue of a tangent kernel or of a loss's Hessian, by products alone and with its residual."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from traindyn import compute, losses
from traindyn.errors import InputError
from traindyn.forward_pass import outputs, plain
from traindyn.measure.lanczos import TopEig, top_eig
from traindyn.measure.spectral_norms import Norms, spectral_norms


def ntk_top_eig(model: nn.Module, X: Tensor, *, tol: float = 1e-6, seed: int = 0, most: int = 100) -> TopEig:
    """Largest eigenvalue of the tangent kernel (outputs kept apart) by products J (J^T v), without the kernel.

    Worth it from several thousand samples on; below, `empirical_ntk` and `top_eigs` cost less.

    Args:
        model: a network, trainable parameters and outputs as in `empirical_ntk`.
        X: inputs, shape (n, ...).
        tol: relative error of the value.
        seed: of the start vector.
        most: products that may be spent; a value that is not known to `tol` by then comes with a warning.

    Returns:
        (value, residual), with the attributes of `lanczos.TopEig`: products, error, converged.

    Raises:
        InputError: no trainable parameter, or NaN.
    """
    leaves, X = _trainable(model), plain(X)
    outputs(model, X)
    with _differentiable():
        f = model(X.clone())
        dual = torch.zeros_like(f, requires_grad=True)
        # J^T v as a linear function of v: its own transpose applied to u is J u
        pulled = torch.autograd.grad(f, leaves, dual, create_graph=True, materialize_grads=True)

    def product(v: Tensor) -> Tensor:
        u = torch.autograd.grad(f, leaves, v.view_as(f), retain_graph=True, materialize_grads=True)
        return _second(lambda: torch.autograd.grad(pulled, dual, u, retain_graph=True))[0].flatten()

    start = torch.randn(f.numel(), generator=compute.generator(seed, "lanczos"), dtype=torch.float64).to(f)
    with torch.inference_mode(False):
        return top_eig(product, start, tol, most)


def hessian_top_eig(
    model: nn.Module,
    X: Tensor,
    y: Tensor,
    loss: losses.Loss = "mse",
    *,
    tol: float = 1e-3,
    seed: int = 0,
    most: int = 100,
) -> TopEig:
    """Largest eigenvalue of the training loss's Hessian by Hessian-vector products.

    The start vector is the gradient, which leans to the sharp directions, plus noise of the same length.

    Args:
        model: a network.
        X: inputs, shape (n, ...); y: targets as `losses.value` wants them.
        loss: a name of `losses.LOSSES` or a callable.
        tol: relative error of the value, estimated from the residual.
        seed: of the noise in the start vector.
        most: products that may be spent; a value that is not known to `tol` by then comes with a warning.

    Returns:
        (value, residual), with the attributes of `lanczos.TopEig` (products, error, converged): an eigenvalue lies
        within residual of value, and the error is small only if it converged.

    Raises:
        InputError: no trainable parameter, shapes that do not fit, or NaN.
    """
    leaves, X, y = _trainable(model), plain(X), plain(y)
    outputs(model, X, alone=False)
    with _differentiable():
        value = losses.value(loss, model(X.clone()), y)
        grads = torch.autograd.grad(value, leaves, create_graph=True, materialize_grads=True)
    gradient = torch.cat([g.detach().flatten() for g in grads])
    product = _hessian_product(leaves, grads)
    noise = torch.randn(len(gradient), generator=compute.generator(seed, "lanczos")).to(gradient)
    noise, length = noise / noise.norm(), gradient.norm()
    start = noise + gradient / length if length > 0 else noise
    # few weights: the two may be opposite and cancel
    with torch.inference_mode(False):
        return top_eig(product, start if start.norm() > 0.1 else noise, tol, most)


def output_hessian_norm(
    model: nn.Module, X: Tensor, weights: Tensor | None = None, *, tol: float = 1e-3, seed: int = 0, most: int = 100
) -> Norms:
    """Spectral norm of the Hessian of a network's output with respect to its weights, by Hessian-vector products.

    Of the output itself, not of a loss: sum over samples and outputs of `weights` times the output. It vanishes where
    the network is linear in its weights.

    Args:
        model: a network.
        X: inputs, shape (n, ...).
        weights: of the outputs in the sum, in their shape; None: a single number is expected (n = 1, one output).
        tol: relative error of the norm.
        seed: of the start vector.
        most: products that may be spent; a norm that is not known to `tol` by then comes with a warning.

    Returns:
        `Norms` of one operator: value and residual have shape (1,), the vector runs over all trainable weights.

    Raises:
        InputError: no trainable parameter, NaN, or several outputs without weights.

    Source: Zhu, Liu, Belkin (2022), Theorem 2.3.6 of Zhu's thesis, for the quantity.
    """
    leaves, X = _trainable(model), plain(X)
    outputs(model, X)
    with _differentiable():
        f = model(X.clone())
        if weights is None and f.numel() != 1:
            raise InputError(f"weights: expected one number per output, since there are {f.numel()} of them")
        value = f.sum() if weights is None else (f * weights.to(f)).sum()
        grads = torch.autograd.grad(value, leaves, create_graph=True, materialize_grads=True)
    product = _hessian_product(leaves, grads)
    size = sum(leaf.numel() for leaf in leaves)
    start = torch.randn(size, generator=compute.generator(seed, "lanczos"), dtype=torch.float64).to(f)
    with torch.inference_mode(False):
        return spectral_norms(lambda v, _: product(v[0])[None], start[None].detach(), tol=tol, most=min(most, size))


def _hessian_product(leaves: list[Tensor], grads: tuple[Tensor, ...]) -> Callable[[Tensor], Tensor]:
    """Return v -> H v from gradients that still have their graph."""
    sizes = [leaf.numel() for leaf in leaves]

    def product(v: Tensor) -> Tensor:
        parts = [part.view_as(leaf) for part, leaf in zip(v.split(sizes), leaves, strict=True)]
        attached = [(g, part) for g, part in zip(grads, parts, strict=True) if g.requires_grad]
        if not attached:
            return torch.zeros_like(v)
        outputs, directions = zip(*attached, strict=True)
        H = _second(lambda: torch.autograd.grad(outputs, leaves, directions, retain_graph=True, materialize_grads=True))
        return torch.cat([h.flatten() for h in H])

    return product


@contextmanager
def _differentiable() -> Iterator[None]:
    """Let derivatives be taken twice, whatever mode the caller is in."""
    # the fused attentions have no second derivative
    with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


def _second(derivative: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Return a second derivative, or say in one line that torch has none."""
    try:
        return derivative()
    except NotImplementedError as error:
        said = str(error).strip().splitlines()[0][:120]
        raise InputError(f"model: an operation in it has no second derivative in torch ({said})") from error


def _trainable(model: nn.Module) -> list[Tensor]:
    leaves = [p for p in model.parameters() if p.requires_grad]
    if not leaves:
        raise InputError("model: has no trainable parameter (all requires_grad are False)")
    if any(p.is_inference() for p in leaves):
        raise InputError(
            "model: its weights were made in inference mode, which has no gradients; build it outside of it"
        )
    return leaves
