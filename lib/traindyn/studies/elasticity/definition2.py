"""Definitions 2 and 3 on a residual network: the printed set-up, finite steps against their limit, the diagonal."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pandas as pd
import torch
from torch import Tensor, nn

from traindyn import losses
from traindyn.compute import float64_device, generator
from traindyn.evidence import table
from traindyn.learn.models import ResNet18, drawn
from traindyn.measure import elasticity
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.elasticity.images import chosen_points, draw, network
from traindyn.studies.elasticity.tables import per_seed


def printed_setup(batch: int, size: SimpleNamespace) -> dict[str, float]:
    """Build the network of the paper's tables and push one batch through it.

    Args:
        batch: its images;  size: their side and the network's outputs.

    Returns:
        `images_lost` (images of the batch without an output), `outputs` of each, number of `weights`, and of
        `normalisations` among its modules.
    """
    model = ResNet18((3, size.side, size.side), size.outputs, generator=generator(0, "printed setup"))
    with torch.no_grad():
        images, outputs = model(torch.zeros(batch, 3, size.side, size.side)).shape
    return {
        "images_lost": batch - images,
        "outputs": outputs,
        "weights": sum(p.numel() for p in model.parameters()),
        "normalisations": sum("Norm" in type(module).__name__ for module in model.modules()),
    }


def definition2_over_seeds(seeds: list[int], size: SimpleNamespace, device: torch.device) -> pd.DataFrame:
    """Return the readings of `definition2` and of Definition 3's identity at initial weights: evidence by seed.

    The networks, points and images are drawn for this purpose alone: no other run of a seed shares them.

    Args:
        seeds: one network and one choice of points each.
        size: data, classes, side, width, blocks, k, lr.
        device: where to compute.
    """
    device = float64_device(device)
    rows = []
    for seed in seeds:
        images = draw(size, seed, torch.float64, device)
        model = network(size, images).to(torch.float64)
        model.reset(generator(seed, "definition 2/init"))
        model = model.to(device)
        x, y = chosen_points(images, size.k, seed, "definition 2/chosen")
        blocks = elasticity.kl_limit(model, x, x, y)
        found = elasticity.s_rel_smoothed(*blocks, classes=3)
        block = {
            "identity_gap": diagonal_share(*blocks, classes=3),
            "mean_of_block": float(found.mean.diagonal().mean()),
            "without_diagonal": float(found.off_diagonal.diagonal().mean()),
        }
        rows.append({"seed": seed} | definition2(model, x, y, size.lr) | block)
    return table(pd.DataFrame(rows))


def gradient_independence(seeds: list[int], size: SimpleNamespace, device: torch.device) -> pd.DataFrame:
    """Return how far a sample's gradient depends on the rest of its batch, in float64: evidence by seed.

    Column `gradient_change`: `single_gradients_are_independent` of the chapter's network on its own images.
    """
    device = float64_device(device)
    changes = []
    for seed in seeds:
        images = draw(size, seed, torch.float64, device)
        model = drawn(network(size, images), seed, torch.float64, device)
        changes.append(single_gradients_are_independent(model, images.X_train[:8]))
    return per_seed(seeds, {"gradient_change": changes})


def definition2(model: nn.Module, x: Tensor, y: Tensor, lr: float) -> dict[str, float]:
    """Compare Definition 2 with its limit at one network, in float64.

    Returns:
        `gap`: median relative gap between S at step `lr` and its limit; `slope`: log-log slope of that gap over the
        steps lr/10, lr/100, lr/1000 (at lr itself ReLU gates flip); `self_gap`: largest |S(x, x) - 1|; `lowest_kl`:
        smallest divergence; `error32`: median relative error of the textbook sum of KL in float32.
    """
    limit = elasticity.s_rel_kl_limit(model, x, x, y)

    def gap(step: float) -> float:
        return float(((elasticity.s_rel_kl(model, x, x, y, step) - limit).abs() / limit).median())

    steps = [lr / 10**i for i in (1, 2, 3)]
    exact, own = elasticity.fictitious_kl(model, x, x, y, lr)
    return {
        "gap": gap(lr),
        "slope": loglog_slope(steps, [gap(step) for step in steps]).value,
        "self_gap": float((exact.diagonal() / own - 1).abs().max()),
        "lowest_kl": float(exact.min()),
        "error32": float(((textbook_kl(model, x, y, lr, torch.float32) - exact).abs() / exact).median()),
    }


def textbook_kl(model: nn.Module, x: Tensor, y: Tensor, lr: float, dtype: torch.dtype) -> Tensor:
    """Return KL(new, old) at every x after a step on every x by the textbook sum of p log(p/q), in precision `dtype`.

    Shape (k, k) as `elasticity.fictitious_kl`; one sample after the other, for comparison only.
    """
    low = copy.deepcopy(model).to(dtype)
    x = x.to(dtype)
    with torch.no_grad():
        old = low(x).log_softmax(-1)
    columns = []
    for point, label in zip(x, y, strict=True):
        moved = copy.deepcopy(low)
        losses.value("cross_entropy", moved(point[None]), label[None]).backward()
        with torch.no_grad():
            for p in moved.parameters():
                p -= lr * p.grad
            new = moved(x).log_softmax(-1)
        columns.append((new.exp() * (new - old)).sum(-1))
    return torch.stack(columns, 1)


def diagonal_share(at_points: Tensor, own: Tensor, classes: int) -> float:
    """Return how far a same-class block mean minus its off-diagonal mean is from (1 - off-diagonal mean) / k."""
    found = elasticity.s_rel_smoothed(at_points, own, classes)
    k = len(own) // classes
    gap = found.mean - found.off_diagonal - (1 - found.off_diagonal) / k
    return float(gap.diagonal().abs().max())


def single_gradients_are_independent(model: nn.Module, x: Tensor) -> float:
    """Return the largest change of one sample's gradient when the rest of its batch is replaced."""

    def first_gradient(batch: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(model(batch)[0].sum(), list(model.parameters())))

    changed = first_gradient(torch.cat([x[:1], 3 * x[1:].flip(0)]))
    return max(float((a - b).abs().max()) for a, b in zip(first_gradient(x), changed, strict=True))
