"""Critical learning rates: of a kernel, of batches, of a network under any convex loss, and rates relative to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from traindyn import losses
from traindyn.errors import InputError, NotFiniteError
from traindyn.measure.ntk import empirical_ntk
from traindyn.measure.spectrum.eigen import check_square, symmetric_values

TOGETHER = 1024  # samples whose kernel is taken at once for many batches: beyond it pairs that no batch holds cost more


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
    check_square(K)
    n = K.shape[-1] if n is None else n
    if n < 1 or K.shape[-1] % n:
        raise InputError(f"n: expected a divisor of the kernel's {K.shape[-1]} rows, got {n}")
    factor = losses.residual_factor(loss, n, K.shape[-1] // n)
    return 2 / (factor * symmetric_values(K)[..., -1])


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
    return 2 / symmetric_values(root.T @ K @ root)[-1].clamp(min=0)


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
            return symmetric_values(empirical_ntk(model, X, outputs="full"))[-1]
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
