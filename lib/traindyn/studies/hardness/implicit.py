"""A network against its random features, explicit against implicit regularisation: one ReLU neuron (Figures 2, 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.evidence import table
from traindyn.studies.hardness import wide


def task(seeds: Sequence[int], size: SimpleNamespace, purpose: str, n: int) -> tuple[Tensor, Tensor]:
    """Return n uniform points of the sphere per seed and the targets relu(x_1): (seeds, n, d) and (seeds, n)."""
    x = wide.sphere(seeds, purpose, n, size.d)
    return x, torch.relu(x[..., 0])


def relative(f: Tensor, y: Tensor) -> Tensor:
    """Return the mean squared error over the mean square of the target, along the last axis."""
    return (f - y).square().mean(-1) / y.square().mean(-1)


def looks(steps: int, count: int) -> list[int]:
    """Return at most `count` steps from 0 to `steps`, roughly equally spaced in the logarithm."""
    return sorted({0, *np.unique(np.geomspace(1, steps, count).round().astype(int)).tolist()})


def descend(
    seeds: Sequence[int], m: int, size: SimpleNamespace, rate: float, dtype: torch.dtype
) -> tuple[pd.DataFrame, Tensor]:
    """Train network and random features of one width by GD on (0.19), same start, same step, all seeds at once.

    The step is `rate` times n / (largest eigenvalue of the features' Gram matrix) of each seed. The random features'
    path
    is exact at every step: one eigendecomposition.

    Returns:
        Tidy: seed, width, step, network, features (relative test errors), train (the network's relative training
        error), apart (largest |network - features| over test points). The network's end state, (seeds, m, 1 + d).
    """
    (X, y), (Z, target) = task(seeds, size, "points", size.n), task(seeds, size, "unseen", size.unseen)
    b = wide.sphere(seeds, f"weights {m}", m, size.d)
    features = wide.Features(b, X, y, Z)
    values = features.values.clamp(min=0)
    step = rate * size.n / values[:, -1]
    decay = torch.log1p(-step[:, None] / size.n * values)  # of an eigen-direction of the residual, per step
    w, x, aim, lr = (part.to(dtype) for part in (wide.at_zero(b), X, y, (step / size.n)[:, None, None]))
    rows, at = [], set(looks(size.steps, size.records))
    for index in range(size.steps + 1):
        if index in at:
            learned = -torch.expm1(index * decay) / values.clamp(min=1e-300)
            flat = features(torch.where(values > 1e-12, learned, index * (step / size.n)[:, None]))
            net, fit = wide.output(w.double(), Z), wide.output(w.double(), X)
            columns = {"network": relative(net, target), "features": relative(flat, target), "train": relative(fit, y)}
            columns["apart"] = (net - flat).abs().amax(-1)
            rows.append(pd.DataFrame({"seed": list(seeds), "width": m, "step": index, **columns}))
        if index < size.steps:
            w = w + lr * wide.velocity(w, x, aim)
    return pd.concat(rows, ignore_index=True), w.double()


def figure2(
    seeds: Sequence[int], size: SimpleNamespace, rate: float, dtype: torch.dtype
) -> tuple[pd.DataFrame, dict[int, Tensor]]:
    """Return the curves of `descend` for every width of the sizes, and the networks' end states per width."""
    found = {m: descend(seeds, m, size, rate, dtype) for m in size.widths}
    return pd.concat([curve for curve, _ in found.values()], ignore_index=True), {m: w for m, (_, w) in found.items()}


def ends(curves: pd.DataFrame) -> pd.DataFrame:
    """Return how both models end, per seed and width.

    Returns:
        `network`, `features` (relative test errors), `rise` (log of the features' error at the end over its least),
        `apart` (largest distance over steps).
    """
    rows = []
    for (seed, m), part in curves.groupby(["seed", "width"]):
        last = part.loc[part["step"].idxmax()]
        rise = math.log(last["features"] / part["features"].min())
        rows.append((seed, m, last["network"], last["features"], rise, part["apart"].max()))
    return table(pd.DataFrame(rows, columns=["seed", "width", "network", "features", "rise", "apart"]), "width")


def path_norm(w: Tensor) -> Tensor:
    """Return sum_j |a_j| |b_j| of states (..., m, 1 + d)."""
    return (w[..., 0].abs() * w[..., 1:].norm(dim=-1)).sum(-1)


def penalised(seeds: Sequence[int], m: int, size: SimpleNamespace, dtype: torch.dtype) -> pd.DataFrame:
    """Minimise (0.19) + lambda sqrt(log d / n) sum_j |a_j| |b_j| by Adam with cosine decay, for every lambda at once.

    Starts are those of `descend`. The subgradient of |b| at 0 and of |a| at 0 is 0.

    Returns:
        Tidy: seed, width, lambda, test, validation (relative errors), norm (path norm at the end).
    """
    (X, y), (Z, target) = task(seeds, size, "points", size.n), task(seeds, size, "unseen", size.unseen)
    V, check = task(seeds, size, "validation", size.n)
    b = wide.sphere(seeds, f"weights {m}", m, size.d)
    strength = torch.tensor(size.strengths, dtype=dtype)
    w = wide.at_zero(b).to(dtype).expand(len(strength), *b.shape[:2], -1).clone()
    x, aim = X.to(dtype), y.to(dtype)
    weight = (strength * math.sqrt(math.log(size.d) / size.n))[:, None, None]
    mean, square = torch.zeros_like(w), torch.zeros_like(w)
    for step in range(1, size.adam_steps + 1):
        slope = -wide.velocity(w, x, aim) / size.n
        length = w[..., 1:].norm(dim=-1)
        slope[..., 0] += weight * w[..., 0].sign() * length
        slope[..., 1:] += (weight * w[..., 0].abs() / length.clamp(min=1e-12))[..., None] * w[..., 1:]
        mean.mul_(0.9).add_(slope, alpha=0.1)
        square.mul_(0.999).addcmul_(slope, slope, value=0.001)
        lr = size.adam_lr * (1 + math.cos(math.pi * (step - 1) / size.adam_steps)) / 2
        root = (square / (1 - 0.999**step)).sqrt_().add_(1e-10)
        w.addcdiv_(mean, root, value=-lr / (1 - 0.9**step))
    w = w.double()
    errors = {"test": relative(wide.output(w, Z), target), "validation": relative(wide.output(w, V), check)}
    columns = {**errors, "norm": path_norm(w)}
    return pd.concat(
        [
            pd.DataFrame({"seed": list(seeds), "width": m, "lambda": value, **{k: v[i] for k, v in columns.items()}})
            for i, value in enumerate(size.strengths)
        ],
        ignore_index=True,
    )


def figure3(seeds: Sequence[int], size: SimpleNamespace, dtype: torch.dtype) -> pd.DataFrame:
    """Return `penalised` for every width of the sizes."""
    return pd.concat([penalised(seeds, m, size, dtype) for m in size.penalised], ignore_index=True)


def chosen(swept: pd.DataFrame, plain: pd.DataFrame, states: dict[int, Tensor], seeds: Sequence[int]) -> pd.DataFrame:
    """Return per seed and width the strength with the least validation error, beside plain GD.

    Args:
        swept: of `figure3`.
        plain: of `ends`, with the widths of `swept`.
        states: of `figure2`.
        seeds: of both.

    Returns:
        `regularised`, `plain` (relative test errors), `log_ratio` (of the first over the second), `norm`,
        `plain_norm` (path norms; the target's is 1), `strength`.
    """
    best = swept.loc[swept.groupby(["seed", "width"])["validation"].idxmin()].set_index(["seed", "width"])
    norms = {(seed, m): float(path_norm(w)[i]) for m, w in states.items() for i, seed in enumerate(seeds)}
    frame = pd.DataFrame(
        {
            "regularised": best["test"],
            "plain": plain.loc[best.index, "network"],
            "norm": best["norm"],
            "plain_norm": [norms[key] for key in best.index],
            "strength": best["lambda"],
        }
    )
    frame["log_ratio"] = np.log(frame["regularised"] / frame["plain"])
    return table(frame.reset_index(), "width")
