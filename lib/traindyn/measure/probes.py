"""Ready measurements of a training run: functions of its state, to be handed to `learn.train.Probe`.

    probes = {"kernel": Probe(watch.tangent_kernel(), every=10), "features": Probe(watch.agop_alignment(H), every=50)}

A state is anything with `model`, `X`, `y`, `lr` and `loss_name`. Everything stays on the state's device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from traindyn import losses
from traindyn.measure import agop, elasticity, spectrum
from traindyn.measure.ntk import empirical_ntk

Watch = Callable[[Any], dict[str, Tensor]]


def tangent_kernel(s: Sequence[int] = (1, 5, 10), top: int = 1) -> Watch:
    """Watch the tangent kernel of the training set and the loss in its eigenspaces (a squared loss).

    Args:
        s: numbers of leading eigenvectors whose share of the loss is read; those beyond the kernel's size are left out.
        top: how many leading eigenvalues are kept.

    Returns:
        Function State -> {"ntk_norm" and "critical_lr": scalars; "loss_top{s}" and "loss_rest{s}": scalars, adding up
        to the loss; "ntk_eigs": (top,), if top > 1}.
    """

    def look(state: Any) -> dict[str, Tensor]:
        K = empirical_ntk(state.model, state.X, outputs="full")
        sizes = [count for count in s if count <= len(K)]
        eigs = spectrum.top_eigs(K, max([top, *sizes]))
        n, c = len(state.X), len(K) // len(state.X)
        with torch.no_grad():
            split = spectrum.split_loss(eigs, state.model(state.X) - state.y, sizes, state.loss_name)
        found = {
            "ntk_norm": eigs.values[0],
            "critical_lr": 2 / (losses.residual_factor(state.loss_name, n, c) * eigs.values[0]),
        }
        for count, (leading, rest) in zip(sizes, split, strict=True):
            found |= {f"loss_top{count}": leading, f"loss_rest{count}": rest}
        return found | ({"ntk_eigs": eigs.values[:top]} if top > 1 else {})

    return look


def batch_critical_lr(batches: Tensor | Sequence[Tensor]) -> Watch:
    """Watch the critical rate of every batch.

    Args:
        batches: indices into the training set, shape (m, b) or m tensors.

    Returns:
        Function State -> {"batch_critical_lr": (m,)}.
    """

    def look(state: Any) -> dict[str, Tensor]:
        return {"batch_critical_lr": spectrum.batch_critical_lr(state.model, state.X, batches, state.loss_name)}

    return look


def agop_alignment(H: Tensor, X: Tensor | None = None) -> Watch:
    """Watch the alignment of the network's AGOP with a target's EGOP or another reference.

    Args:
        H: reference matrix, shape (d, d).
        X: where the AGOP is taken, shape (n, ...); the training inputs if None.

    Returns:
        Function State -> {"agop_alignment": scalar in [0, 1]}.
    """

    def look(state: Any) -> dict[str, Tensor]:
        G = agop.agop(state.model, state.X if X is None else X)
        return {"agop_alignment": agop.alignment(G, H.to(G))}

    return look


def local_elasticity(x_prime: Tensor, x: Tensor, y: Tensor, lr: float | None = None) -> Watch:
    """Watch Definition 1 of local elasticity for all pairs of given points, with the run's own loss.

    Args:
        x_prime: watched points, shape (m, ...).
        x: sampled points, shape (k, ...), and y: their labels, shape (k,).
        lr: size of the fictitious step; the run's present rate if None.

    Returns:
        Function State -> {"s_rel": (m, k), float64}.
    """

    def look(state: Any) -> dict[str, Tensor]:
        step = float(state.lr) if lr is None else lr
        return {"s_rel": elasticity.s_rel(state.model, x_prime, x, y, step, state.loss_name)}

    return look
