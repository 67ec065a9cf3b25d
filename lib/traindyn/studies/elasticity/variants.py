r"""Five readings of Definition 2: the printed one, its limit, and what the released code computes.

The step is $w \mapsto w - \eta \nabla \ell$ in the paper and one step of a freshly made Adam in the code released with
a later version, which moves every weight by about $\eta$ whatever its slope. With o and n the class probabilities
before and after the step, the change at a point is

    limit, finite   KL(n, o) after the SGD step: in the limit of a small step, and after a step of the training's rate
    adam            KL(n, o) after the Adam step
    released        (1/C) sum_c o_c (log o_c - n_c) after the Adam step: `kl_div(n, o)` of torch, given probabilities
                    where it wants logarithms
    softmax         sqrt(mean_c (n_c - o_c)^2) after the Adam step: the released code's second definition

and S is the ratio of the change at x' to that at x.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from traindyn import losses
from traindyn.compute import float64_device
from traindyn.errors import InputError
from traindyn.forward_pass import call_with, undisturbed
from traindyn.measure import elasticity
from traindyn.measure.elasticity import kl_divergence
from traindyn.measure.ntk import empirical_ntk

VARIANTS = ("limit", "finite", "adam", "released", "softmax")
WITHOUT_LABEL = ("kernel", "other label")  # a question of ours: the limit without the label, or with another one
ADAM_EPS = 1e-8  # torch's, in the step
RELEASED_EPS = 1e-8  # added to the denominator of the released ratio


def limits(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the changes in the limit of a small SGD step, all from one tangent kernel: at the points, and at itself.

    Args:
        model: network with logits of shape (n, c).
        x, y: points (n, ...) and their classes (n,), both x' and x.

    Returns:
        {"limit": of Definition 2; "kernel": |K(x', x)|^2 in the Frobenius norm, which has no label; "other label":
        as Definition 2 after a step towards the next class in the place of its own}: (n, n) and (n,), float64.
    """
    device = float64_device(x.device)
    with torch.no_grad():
        p = model(x).to(device, torch.float64).softmax(-1)
    n, c = p.shape
    kernel = empirical_ntk(model, x, x, outputs="full").to(device, torch.float64).reshape(n, c, n, c)
    y = y.to(device)
    found = {
        "limit": elasticity.fisher_form(kernel, p, elasticity.label_residual(p, y)),
        "kernel": kernel.square().sum((1, 3)),
        "other label": elasticity.fisher_form(kernel, p, elasticity.label_residual(p, (y + 1) % c)),
    }
    return {name: (form, form.diagonal()) for name, form in found.items()}


def stepped(
    model: nn.Module, x: Tensor, y: Tensor, sampled: Tensor, lr: float
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Take both fictitious steps on some of the points, one at a time, and look at all of them.

    Args:
        model: network with logits of shape (n, c); left untouched. Its precision is that of the steps.
        x, y: points (n, ...) and their classes (n,).
        sampled: positions of the points that are stepped on, shape (m,).
        lr: step size of both steps, > 0.

    Returns:
        Logits before, (n, c); logits after, {"sgd" and "adam": (m, n, c)}; all float64. And the positions again.

    Raises:
        InputError: the step is not positive.
    """
    if not lr > 0:
        raise InputError(f"lr: expected a step above 0, got {lr}")
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    fixed = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    fixed |= dict(model.named_buffers())
    device = float64_device(x.device)
    after: dict[str, list[Tensor]] = {"sgd": [], "adam": []}
    with undisturbed(model):
        with torch.no_grad():
            before = call_with(model, weights | fixed, x)
        for point in sampled.tolist():
            with torch.enable_grad():
                live = {name: w.clone().requires_grad_() for name, w in weights.items()}
                loss = losses.value("cross_entropy", call_with(model, live | fixed, x[[point]]), y[[point]])
                slopes = dict(zip(live, torch.autograd.grad(loss, list(live.values())), strict=True))
            with torch.no_grad():
                # a fresh Adam: both moments, corrected for their bias, are the gradient's own
                directions = {"sgd": lambda g: g, "adam": lambda g: g / (g.abs() + ADAM_EPS)}
                for name, direction in directions.items():
                    moved = {key: w - lr * direction(slopes[key]) for key, w in weights.items()}
                    after[name].append(call_with(model, moved | fixed, x))
    stacked = {name: torch.stack(found).to(device, torch.float64) for name, found in after.items()}
    return before.to(device, torch.float64), stacked, sampled


def released_change(new: Tensor, old: Tensor) -> Tensor:
    """Return (1/C) sum_c old_c (log old_c - new_c) of two distributions, shapes (..., C): 0 log 0 is 0."""
    return (torch.xlogy(old, old) - old * new).mean(-1)


def ratios(before: Tensor, after: dict[str, Tensor], sampled: Tensor) -> dict[str, Tensor]:
    """Return S(x_i, x_j) of the variants that take a step: {variant: (n, m)}, column j stepped on `sampled[j]`.

    Args:
        before, after, sampled: as `stepped` returns them.
    """
    old = before.softmax(-1)
    adam = after["adam"].softmax(-1)
    changes = {
        "finite": kl_divergence(after["sgd"], before),
        "adam": kl_divergence(after["adam"], before),
        "released": released_change(adam, old),
        "softmax": (adam - old).square().mean(-1).sqrt(),
    }
    found = {}
    for name, change in changes.items():  # (m, n)
        own = change.gather(1, sampled.to(change.device)[:, None])
        found[name] = (change / (own + RELEASED_EPS if name == "released" else own)).T
    return found


def class_blocks(ratio: Tensor, classes: Tensor, sampled: Tensor, count: int) -> dict[str, Tensor]:
    """Return block statistics of a ratio without the pairs of a point with itself: each (C, C), row = class of x'.

    Args:
        ratio: (n, m).
        classes: class of each point, (n,).
        sampled: positions of the m sampled points.
        count: number of classes C.

    Returns:
        off_diagonal (mean of a block), median.
    """
    classes = classes.to(ratio.device)
    sampled = sampled.to(ratio.device)
    itself = torch.arange(len(ratio), device=ratio.device)[:, None] == sampled
    others = torch.where(itself, torch.nan, ratio)
    mean, median = ratio.new_empty(count, count), ratio.new_empty(count, count)
    for row in range(count):
        for column in range(count):
            block = others[classes == row][:, classes[sampled] == column]
            mean[row, column] = block.nanmean()
            median[row, column] = block.nanmedian()
    return {"off_diagonal": mean, "median": median}


def unchanged(probabilities: Tensor) -> Tensor:
    """Return what the released expression gives for a prediction that does not move: -(H(o) + <o, o>)/C, shape (...).

    -0.477 for the uniform and -1/3 for a certain prediction of three classes.
    """
    return released_change(probabilities, probabilities)


def softmax_of(*logits: float) -> Tensor:
    """Return the class probabilities of one point's logits, in float64."""
    return F.softmax(torch.tensor(logits, dtype=torch.float64), dim=-1)
