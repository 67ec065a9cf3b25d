r"""Local elasticity: how far one training step on a sample x moves the prediction at another point x'.

All three definitions ask for a fictitious SGD step $w^+(x) = w - \eta \nabla_w \ell(w, (x, y))$ on one sample at a time
(Dan, Gampa, Mukherjee, Definitions 1 to 3). Their limits $\eta \to 0$ need only tangent kernels:

    Definition 1:  S(x', x) -> |K(x', x)| / K(x, x)
    Definition 2:  S(x', x) -> Q(x'; dz(x')) / Q(x; dz(x)),   dz(x') = -K(x', x) (p(x) - e_y),
                   Q(x; v) = v^T (diag p(x) - p(x) p(x)^T) v

Predictions change by about eta, divergences by about eta^2, so all of it is taken in float64 whatever the model's own
precision: in float32 a divergence of 1e-8 is rounding. Only the kernels of the limits keep the model's precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional as F

from traindyn import losses
from traindyn.compute import chunk_size, float64_device
from traindyn.errors import InputError
from traindyn.forward_pass import call_with, outputs, undisturbed
from traindyn.measure.ntk import empirical_ntk

ROUNDING = 1e3 * torch.finfo(torch.float64).eps  # smallest relative change of an output that counts as one


def s_rel(
    model: nn.Module,
    x_prime: Tensor,
    x: Tensor,
    y: Tensor,
    lr: float,
    loss: losses.Loss = "half_sum",
    chunk: int | None = None,
) -> Tensor:
    r"""Local elasticity of a scalar predictor, for all pairs at once (Definition 1, Eq. 1).

    .. math:: S(x', x) = \frac{|f(x', w^+(x)) - f(x', w)|}{|f(x, w^+(x)) - f(x, w)|}

    Args:
        model: network with outputs of shape (n,); left untouched.
        x_prime: points x' where the prediction is watched, shape (m, ...).
        x: sampled points, shape (k, ...).
        y: their labels, shape (k,).
        lr: step size eta of the fictitious step, > 0.
        loss: loss of a single sample, one of the book's squared losses.
        chunk: how many sampled points are updated at once; from the memory budget if None.

    Returns:
        Shape (m, k), float64; NaN where the prediction at x does not move beyond rounding (S is undefined there).
    """
    (before_prime, after_prime), (before, after) = _before_and_after(model, x_prime, x, y, lr, loss, chunk)
    own = (after - before).abs()
    own = torch.where(own > ROUNDING * before.abs(), own, 0)  # what is left then is rounding, not movement
    return _ratio((after_prime - before_prime[:, None]).abs(), own)


def s_rel_kl(
    model: nn.Module,
    x_prime: Tensor,
    x: Tensor,
    y: Tensor,
    lr: float,
    dtype: torch.dtype = torch.float64,
    chunk: int | None = None,
) -> Tensor:
    r"""Local elasticity of a classifier, for all pairs at once (Definition 2).

    .. math:: S(x', x) = \frac{KL(g(x', w^+(x)), g(x', w))}{KL(g(x, w^+(x)), g(x, w))}

    with g the softmax of the network's logits and the cross-entropy loss in the fictitious step.

    Args:
        model: network with logits of shape (n, c); left untouched.
        x_prime, x: points as in `s_rel`.
        y: class of each sampled point, int64, shape (k,).
        lr: step size eta, > 0.
        dtype: precision; anything below float64 is there to show what goes wrong.
        chunk: as in `s_rel`.

    Returns:
        Shape (m, k); NaN where the prediction at x does not move.
    """
    at_prime, own = fictitious_kl(model, x_prime, x, y, lr, dtype, chunk)
    return _ratio(at_prime, own)


def fictitious_kl(
    model: nn.Module,
    x_prime: Tensor,
    x: Tensor,
    y: Tensor,
    lr: float,
    dtype: torch.dtype = torch.float64,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """KL(new prediction, old prediction) at x' and at x after one SGD step on x; arguments as in `s_rel_kl`.

    Returns:
        The divergences at x', shape (m, k), and at x, shape (k,).
    """
    (before_prime, after_prime), (before, after) = _before_and_after(
        model, x_prime, x, y, lr, "cross_entropy", chunk, dtype
    )
    return kl_divergence(after_prime, before_prime[:, None]), kl_divergence(after, before)


def s_rel_limit(model: nn.Module, x_prime: Tensor, x: Tensor) -> Tensor:
    r"""Limit of Definition 1 for a vanishing step: $|K(x', x)| / K(x, x)$, shape (m, k).

    Args:
        model: network with outputs of shape (n,).
        x_prime, x: points, shapes (m, ...) and (k, ...).
    """
    kernel = empirical_ntk(model, torch.cat([x_prime, x]), x)
    return _ratio(kernel[: len(x_prime)].abs(), kernel[len(x_prime) :].diagonal())


def s_rel_kl_limit(model: nn.Module, x_prime: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Limit of Definition 2 for a vanishing step, from the tangent kernel, shape (m, k); arguments as in `s_rel_kl`."""
    at_prime, own = kl_limit(model, x_prime, x, y)
    return _ratio(at_prime, own)


def kl_limit(model: nn.Module, x_prime: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    r"""Quadratic forms whose ratio is the limit of Definition 2: $2\,KL/\eta^2$ as $\eta \to 0$.

    Args:
        model: network with logits of shape (n, c).
        x_prime, x: points, shapes (m, ...) and (k, ...); give the same tensor twice to compute its kernel once.
        y: class of each sampled point, int64, shape (k,).

    Returns:
        The forms at x', shape (m, k), and at x, shape (k,).
    """
    points = x if x_prime is x else torch.cat([x_prime, x])
    device = float64_device(points.device)
    with torch.no_grad():
        logits = model(points).to(device, torch.float64)
    (n, c), k = logits.shape, len(x)
    p = F.softmax(logits, dim=-1)
    kernel = empirical_ntk(model, points, x, outputs="full").to(device, torch.float64).reshape(n, c, k, c)
    form = fisher_form(kernel, p, label_residual(p[n - k :], y.to(device)))
    return form[: len(x_prime)], form[n - k :].diagonal()


def label_residual(p: Tensor, y: Tensor) -> Tensor:
    """Return p - e_y of every sample, (k, c): the slope of its cross-entropy in its logits.

    Args:
        p: class probabilities, (k, c);  y: classes, int64, (k,).
    """
    own = F.one_hot(y, p.shape[-1]).bool()
    others = p.masked_fill(own, 0)
    # p_y - 1 as minus the sum of the others: for a well-fitted sample the difference would be rounding
    return torch.where(own, -others.sum(-1, keepdim=True), others)


def fisher_form(kernel: Tensor, p: Tensor, residual: Tensor) -> Tensor:
    r"""Return $Q(x_i; dz_{ij})$ with $dz_{ij} = -K(x_i, x_j)\, r_j$, shape (n, k): $2\,KL/\eta^2$ of a small step.

    Args:
        kernel: full tangent kernel, (n, c, k, c).
        p: class probabilities at the n points, (n, c).
        residual: slope r_j of the loss in the logits at the k sampled points, (k, c).
    """
    dz = torch.einsum("icjd,jd->ijc", kernel, residual)
    # variance of dz under p: one subtraction of like numbers, and never negative
    return (p[:, None] * (dz - (p[:, None] * dz).sum(-1, keepdim=True)) ** 2).sum(-1)


@dataclass(frozen=True)
class Smoothed:
    """Definition 3 for every pair of classes, by several statistics of the k x k block.

    Attributes:
        mean: block mean, Eq. 2, shape (C, C): row = class c1 of x', column = sampled class c2.
        off_diagonal: block mean without the k pairs x' = x, each of which is exactly 1 (equal to `mean` for c1 != c2).
        median: block median, without those pairs.
        ratio_of_means: mean change at x' over mean change at x, without those pairs.
    """

    mean: Tensor
    off_diagonal: Tensor
    median: Tensor
    ratio_of_means: Tensor


STATISTICS = ("off_diagonal", "median", "ratio_of_means", "mean")


def s_rel_smoothed(at_points: Tensor, own: Tensor, classes: int) -> Smoothed:
    """Smoothed local elasticity between classes (Definition 3, Eq. 2).

    A mean of ratios is heavy-tailed, and a class's own block holds k pairs with S = 1 by definition: so the block is
    summarised in four ways, to be reported together.

    Args:
        at_points: divergence at point i caused by sample j, shape (C k, C k), points sorted by class, k of each;
            from `fictitious_kl` or `kl_limit` with the same points as x' and x.
        own: divergence at the sample itself, shape (C k,).
        classes: number of classes C.

    Raises:
        InputError: the shapes do not fit C classes of k points.
    """
    if at_points.shape != (len(own), len(own)) or len(own) % classes:
        raise InputError(
            f"expected a square matrix over {classes} classes of k points each, got {tuple(at_points.shape)} "
            f"and {len(own)} own values"
        )
    k = len(own) // classes

    def blocks(matrix: Tensor) -> Tensor:
        return matrix.reshape(classes, k, classes, k).transpose(1, 2).reshape(classes, classes, k * k)

    ratio = at_points / own
    same_point = torch.eye(len(own), dtype=torch.bool, device=own.device)
    others = torch.where(same_point, torch.nan, ratio)
    moved = torch.where(same_point, torch.nan, at_points)
    caused = torch.where(same_point, torch.nan, own.expand_as(at_points))
    return Smoothed(
        mean=blocks(ratio).mean(-1),
        off_diagonal=blocks(others).nanmean(-1),
        median=blocks(others).nanmedian(-1).values,
        ratio_of_means=blocks(moved).nanmean(-1) / blocks(caused).nanmean(-1),
    )


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator != 0, numerator / denominator, torch.nan)


def kl_divergence(new: Tensor, old: Tensor) -> Tensor:
    r"""KL(p, q) of the softmax of two sets of logits, exact also where they hardly differ.

    With d = log p - log q, the divergence is $\sum q\,(d e^d - e^d + 1)$: every term is of second order and none is
    negative, while the terms $p\,d$ of the textbook sum are of first order and cancel.

    Args:
        new: logits of p, shape (..., c).
        old: logits of q, broadcast against `new`.

    Returns:
        Shape (...), of the logits' dtype; relative error about the rounding unit over |d|.
    """
    new, old = F.log_softmax(new, dim=-1), F.log_softmax(old, dim=-1)
    d = new - old
    series = d.square() * (1 / 2 + d / 3 + d.square() / 8 + d**3 / 30)
    term = torch.where(d.abs() < 1e-3, series, d * d.exp() - torch.expm1(d))
    return (old.exp() * term).sum(-1)


def _before_and_after(
    model: nn.Module,
    x_prime: Tensor,
    x: Tensor,
    y: Tensor,
    lr: float,
    loss: losses.Loss,
    chunk: int | None,
    dtype: torch.dtype = torch.float64,
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Outputs at x' and at x, before and after the step on each x, all steps of a chunk side by side."""
    if len(x) != len(y):
        raise InputError(f"x and y: expected as many labels as sampled points, got {len(y)} for {len(x)}")
    own = next((p.dtype for p in model.parameters()), dtype)
    outputs(model, x.to(own) if x.is_floating_point() else x)
    device = float64_device(x.device)
    cast = {name: p.detach().to(device, dtype) for name, p in model.named_parameters()}
    cast |= {name: b.to(device, dtype) if b.is_floating_point() else b for name, b in model.named_buffers()}
    trained = {name: cast[name] for name, p in model.named_parameters() if p.requires_grad}
    fixed = {name: value for name, value in cast.items() if name not in trained}
    # tokens stay whole numbers
    x_prime, x = (
        points.to(device, dtype) if points.is_floating_point() else points.to(device) for points in (x_prime, x)
    )
    y = y.to(device, dtype) if y.is_floating_point() else y.to(device)

    def single_loss(weights: dict[str, Tensor], point: Tensor, label: Tensor) -> Tensor:
        return losses.value(loss, call_with(model, weights | fixed, point[None]), label[None])

    def after(weights: dict[str, Tensor], point: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        step = grad(single_loss)(weights, point, label)
        moved = {name: w - lr * step[name] for name, w in weights.items()}
        outputs = call_with(model, moved | fixed, torch.cat([x_prime, point[None]]))
        return outputs[:-1], outputs[-1]

    def alone(point: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            weights = {name: w.detach().clone().requires_grad_() for name, w in trained.items()}
            value = single_loss(weights, point, label)
            slopes = torch.autograd.grad(value, list(weights.values()), materialize_grads=True)
        moved = {name: w.detach() - lr * g for (name, w), g in zip(weights.items(), slopes, strict=True)}
        with torch.no_grad():
            outputs = call_with(model, moved | fixed, torch.cat([x_prime, point[None]]))
        return outputs[:-1], outputs[-1]

    with undisturbed(model), torch.no_grad():
        before_prime = call_with(model, cast, x_prime)
        before = call_with(model, cast, x)
    if chunk is None:
        weights = sum(w.numel() for w in trained.values())
        # gradient and moved copy of the weights, and activations of about 16 numbers for every input number
        chunk = chunk_size(8 * (3 * weights + 16 * (x_prime.numel() + x[0].numel())), len(x), device)

    def plainly(points: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        each = [alone(point, label) for point, label in zip(points, labels, strict=True)]
        return tuple(torch.stack(part) for part in zip(*each, strict=True))

    pieces = []
    with undisturbed(model):
        for i in range(0, len(x), chunk):
            points, labels = x[i : i + chunk], y[i : i + chunk]
            try:
                piece = vmap(after, in_dims=(None, 0, 0))(trained, points, labels)
                # vectorised derivatives are wrong for some operations: one step is made in the ordinary way, too
                first, moves = alone(points[0], labels[0])[0], (piece[0][0] - before_prime).abs().max()
                bound = 1e-6 * moves + 1e3 * torch.finfo(dtype).eps * before_prime.abs().max()
                if (first - piece[0][0]).abs().max() > bound:
                    piece = plainly(points, labels)
            except (InputError, torch.OutOfMemoryError):
                raise
            except Exception:  # the network uses what torch.func.vmap does not know: one point after the other
                piece = plainly(points, labels)
            pieces.append(piece)
    after_prime = torch.cat([piece[0] for piece in pieces]).transpose(0, 1)
    return (before_prime, after_prime), (before, torch.cat([piece[1] for piece in pieces]))
