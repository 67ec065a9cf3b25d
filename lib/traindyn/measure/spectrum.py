"""What the spectrum of a tangent kernel or a Hessian says about training: eigenpairs, loss shares, critical rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from traindyn import compute, losses
from traindyn.errors import InputError, NotFiniteError
from traindyn.forward_pass import outputs, plain
from traindyn.measure.lanczos import TopEig, top_eig
from traindyn.measure.ntk import empirical_ntk

TOGETHER = 1024  # samples whose kernel is taken at once for many batches: beyond it pairs that no batch holds cost more


class Eigs(NamedTuple):
    """Leading eigenpairs: values descending, shape (k,); vectors as columns, shape (n, k)."""

    values: Tensor
    vectors: Tensor


def _square(K: Tensor) -> None:
    if K.dim() < 2 or K.shape[-1] != K.shape[-2] or not K.is_floating_point():
        raise InputError(f"K: expected a square matrix of floating point numbers, got {tuple(K.shape)} {K.dtype}")
    if not torch.isfinite(K).all():
        raise NotFiniteError("K: holds NaN or infinity; has training diverged?")
    if K.numel() and (K - K.mT).abs().max() > torch.finfo(K.dtype).eps ** 0.5 * K.abs().max():
        raise InputError("K: is not symmetric; expected the kernel of one set of samples with itself")


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
    _square(K)
    if not 1 <= k <= len(K):
        raise InputError(f"k: expected 1 to {len(K)} eigenpairs of a kernel of {len(K)} rows, got {k}")
    values, vectors = torch.linalg.eigh(K)
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


def critical_lr(K: Tensor, *, n: int | None = None, loss: losses.Loss = "mse") -> Tensor:
    """Critical rate of gradient descent, 2 / (factor lambda_max(K)), at which a constant kernel stops contracting.

    The factor is that of `losses.residual_factor`: eta_crit = n/|K| for mse, n c/|K| for mse_entries, 2n/|K| for
    half_mse, 2/|K| for half_sum. 2 / eta_crit is the top eigenvalue of the loss's Gauss-Newton matrix.

    Args:
        K: tangent kernel of a scalar output, or of c outputs kept apart (outputs="full"), shape (..., n*c, n*c).
        n: number of samples; None: as many as K has rows (c = 1).
        loss: a squared loss of `losses.SQUARED`.

    Returns:
        Tensor of shape (...).

    Raises:
        InputError: K is not square or not finite, n does not divide its rows, or the loss is not a squared one.
    """
    _square(K)
    n = K.shape[-1] if n is None else n
    if n < 1 or K.shape[-1] % n:
        raise InputError(f"n: expected a divisor of the kernel's {K.shape[-1]} rows, got {n}")
    factor = losses.residual_factor(loss, n, K.shape[-1] // n)
    return 2 / (factor * torch.linalg.eigvalsh(K)[..., -1])


def batch_critical_lr(
    model: nn.Module, X: Tensor, batches: Tensor | Sequence[Tensor], loss: losses.Loss = "mse"
) -> Tensor:
    """Critical rate of every batch of an epoch, at the model's present weights.

    Args:
        model: a network, as in `empirical_ntk`.
        X: inputs of the whole set, shape (n, ...).
        batches: indices into X, shape (m, b) or m tensors of any lengths.
        loss: a squared loss, averaged over the batch as its name says.

    Returns:
        Tensor of shape (m,).

    Raises:
        InputError: as `empirical_ntk` and `critical_lr`; no batch given.
    """
    batches = [torch.as_tensor(batch, device=X.device) for batch in batches]
    if not batches or min(batch.numel() for batch in batches) < 1 or any(batch.dim() != 1 for batch in batches):
        raise InputError("batches: expected at least one batch of at least one index")
    for batch in batches:
        if batch.is_floating_point() or batch.dtype == torch.bool:
            raise InputError(f"batches: expected indices, got {batch.dtype}; of a mask take mask.nonzero().flatten()")
        if batch.min() < 0 or batch.max() >= len(X):
            raise InputError(f"batches: indices run from {batch.min()} to {batch.max()}; expected 0 to {len(X) - 1}")
    rates, start = [], 0
    while start < len(batches):
        stop, count = start + 1, len(batches[start])
        while stop < len(batches) and count + len(batches[stop]) <= TOGETHER:
            count += len(batches[stop])
            stop += 1
        # one kernel for many batches, each sample once however many batches hold it
        members, places = torch.unique(torch.cat(batches[start:stop]), return_inverse=True)
        K = empirical_ntk(model, X[members], outputs="full")
        c = len(K) // len(members)
        K = K.view(len(members), c, len(members), c)
        for place in places.split([len(batch) for batch in batches[start:stop]]):
            size = len(place) * c
            rates.append(critical_lr(K[place][:, :, place].reshape(size, size), n=len(place), loss=loss))
        start = stop
    return torch.stack(rates)


def output_curvature(loss: losses.Loss, f: Tensor, y: Tensor) -> Tensor:
    """Return a root R of the loss's Hessian in the outputs, R R^T = d^2 L / df^2, shape (n c, n c), sample-major.

    With the tangent kernel K (outputs="full"), R^T K R has the eigenvalues of the loss's Gauss-Newton matrix.

    Args:
        loss: a name of `losses.LOSSES`, or a callable that is convex in the outputs.
        f: outputs, shape (n,) or (n, c).
        y: targets as the loss wants them.

    Raises:
        InputError: the loss is not convex at f.
    """
    if not callable(loss) and loss in losses.SQUARED:
        factor = losses.residual_factor(loss, len(f), f[0].numel())
        return math.sqrt(factor) * torch.eye(f.numel(), dtype=f.dtype, device=f.device)
    with torch.enable_grad():
        free = f.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(losses.value(loss, free, y), free, create_graph=True)
        if slope.requires_grad:
            rows = [torch.autograd.grad(s, free, retain_graph=True, materialize_grads=True)[0] for s in slope.flatten()]
            H = torch.stack(rows).reshape(f.numel(), f.numel())
        else:  # linear in the outputs, piecewise at least
            H = f.new_zeros(f.numel(), f.numel())
    values, vectors = torch.linalg.eigh((H + H.T) / 2)
    if values[0] < -1e-6 * values[-1].abs():
        raise InputError("loss: not convex in the outputs; its Gauss-Newton matrix has no critical rate")
    return vectors * values.clamp(min=0).sqrt()


def network_critical_lr(model: nn.Module, X: Tensor, y: Tensor | None = None, loss: losses.Loss = "mse") -> Tensor:
    """Critical rate of gradient descent at a network's present weights: 2 over the top Gauss-Newton eigenvalue.

    For a squared loss that is `critical_lr` of its kernel with the outputs kept apart, in the loss's own normalisation.

    Args:
        model: a network, as in `empirical_ntk`.
        X: inputs, shape (n, ...).
        y: targets; not needed for a squared loss.
        loss: a name of `losses.LOSSES`, or a callable that is convex in the outputs.

    Returns:
        0-dimensional tensor; infinity where the loss has no curvature in the outputs.

    Raises:
        InputError: as `empirical_ntk` and `output_curvature`.
    """
    K = empirical_ntk(model, X, outputs="full")
    if not callable(loss) and loss in losses.SQUARED:
        return critical_lr(K, n=len(X), loss=loss)
    with torch.no_grad():
        root = output_curvature(loss, model(X), y).to(K)
    return 2 / torch.linalg.eigvalsh(root.T @ K @ root)[-1].clamp(min=0)


def initial_critical(state: Any) -> Tensor:
    """Return the critical rate of a training state's network on its training set, in the loss's own normalisation."""
    return network_critical_lr(state.model, state.X, state.y, state.loss_name)


@dataclass(frozen=True)
class Relative:
    """A learning rate for `learn.train.fit` that is a multiple of the run's own initial critical rate.

    Attributes:
        ratio: the multiple.
        reference: function State -> rate, asked once per run at its initial weights.
    """

    ratio: float
    reference: Callable[[Any], Any] = initial_critical


def relative(ratio: float) -> Relative:
    """Return a rate for `learn.train.fit`: ratio times the run's own critical rate at its initial weights.

    The critical rate is taken once per run and shared by `lr`, the entries of `schedule` and `Cyclical`. Where it has
    to be that of the moment in which the rate enters, see `times_critical`.

    Args:
        ratio: multiple of eta_crit(w_0) = 2 / (factor |K|), K the kernel of the whole training set, outputs kept apart.

    Returns:
        A frozen object with the attributes `ratio` and `reference`.
    """
    return Relative(float(ratio))


@dataclass(frozen=True)
class TimesCritical:
    """A rate function State -> rate: `ratio` times the critical rate at the weights where it is asked."""

    ratio: float

    def __call__(self, state: Any) -> float:
        """Return the rate for a state with model, X, y and loss_name."""
        return self.ratio * network_critical_lr(state.model, state.X, state.y, state.loss_name).item()


def top_norm(model: nn.Module, X: Tensor) -> Tensor:
    """Return the top eigenvalue of the tangent kernel on X, outputs kept apart; NaN where the network has diverged.

    For schedules and probes that have to go on after a divergence; `critical_lr` and `top_eigs` refuse it.

    Args:
        model: a network, as in `empirical_ntk`.
        X: inputs, shape (n, ...).

    Returns:
        0-dimensional tensor of X's dtype, on its device.
    """
    with torch.no_grad():
        try:
            return torch.linalg.eigvalsh(empirical_ntk(model, X, outputs="full"))[-1]
        except NotFiniteError:
            return torch.tensor(math.nan).to(X)


def times_critical(ratio: float) -> TimesCritical:
    """Return a rate function for `learn.train.fit`: ratio times the critical rate of the whole training set.

    Args:
        ratio: multiple of eta_crit = 2 / (factor |K|), K the full kernel at the weights where the rate enters.

    Returns:
        Function State -> rate; its attribute `ratio` is the multiple.
    """
    return TimesCritical(ratio)


# ------------------------------------------------------------------------------------------------ matrix-free


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
    sizes = [leaf.numel() for leaf in leaves]

    def product(v: Tensor) -> Tensor:
        parts = [part.view_as(leaf) for part, leaf in zip(v.split(sizes), leaves, strict=True)]
        attached = [(g, part) for g, part in zip(grads, parts, strict=True) if g.requires_grad]
        if not attached:
            return torch.zeros_like(v)
        outputs, directions = zip(*attached, strict=True)
        H = _second(lambda: torch.autograd.grad(outputs, leaves, directions, retain_graph=True, materialize_grads=True))
        return torch.cat([h.flatten() for h in H])

    noise = torch.randn(len(gradient), generator=compute.generator(seed, "lanczos")).to(gradient)
    noise, length = noise / noise.norm(), gradient.norm()
    start = noise + gradient / length if length > 0 else noise
    # few weights: the two may be opposite and cancel
    with torch.inference_mode(False):
        return top_eig(product, start if start.norm() > 0.1 else noise, tol, most)


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
