"""The tangent kernel and PL* in a ball around the start, and training with a non-linear output (Section 2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.evidence import table
from traindyn.layers import starts
from traindyn.studies.linearity import nets as make
from traindyn.studies.linearity.curvature import Curvature
from traindyn.studies.linearity.nets import Layer, Nets
from traindyn.studies.linearity.orders import frame, random_directions
from traindyn.studies.linearity.training import CHUNK, Setting, build, descend, kernel, points, sweep


def steepest(nets: Nets, X: Tensor, v: Tensor) -> list[Tensor]:
    r"""Return the unit vectors of weights along which v^T K v = |sum_i v_i grad f_i|^2 grows fastest, v (s, n) fixed.

    By automatic differentiation of that square: 2 H g with g = sum_i v_i grad f_i and H the Hessian of sum_i v_i f_i.
    """
    leaves = [layer.weight.clone().requires_grad_() for layer in nets.layers]
    masks = [1.0 if layer.mask is None else layer.mask for layer in nets.layers]
    watched = replace(nets, layers=[replace(layer, weight=w) for layer, w in zip(nets.layers, leaves, strict=True)])
    whole = (watched.values(X)[..., 0] * v).sum()
    gradient = torch.autograd.grad(whole, leaves, create_graph=True)
    square = sum((g * mask).square().sum() for g, mask in zip(gradient, masks, strict=True))
    steep = [g * mask for g, mask in zip(torch.autograd.grad(square, leaves), masks, strict=True)]
    length = sum(g.square().sum((1, 2)) for g in steep).sqrt()
    return [g / length[:, None, None] for g in steep]


def worst_change(seeds: Sequence[int], size: SimpleNamespace, setting: Setting) -> pd.DataFrame:
    """Relative change of the kernel one unit of distance away from w_0, in a direction chosen against it.

    The direction raises v^T K v fastest; v starts as the top eigenvector of K and is replaced by that of the change
    it brings, `size.rounds` times. The largest change met is a lower bound of that over the ball.

    Returns:
        Tidy: seed, width, change, and `along` (at +- the top eigenvector of the first sample's Hessian).
    """
    X, _ = points(size.data, seeds, size.n, size.side, size.classes)
    rows = []
    for width in size.widths:
        together = max(1, 4 * CHUNK // width**2)
        for at in range(0, len(seeds), together):
            part = list(seeds)[at : at + together]
            here = X[at : at + together]
            nets = build(part, X.shape[2], width, setting)
            K = kernel(nets, sweep(nets, here))
            top = torch.linalg.matrix_norm(K, 2)
            curved = Curvature(nets, here[:, 0])
            along = curved.direction(curved.norm(part).vector)
            v, best = torch.linalg.eigh(K)[1][..., -1], torch.zeros_like(top)
            for _ in range(size.rounds):
                change = _changed(nets, here, steepest(nets, here, v), K)
                values, vectors = torch.linalg.eigh(change)
                low = values[:, 0].abs() > values[:, -1].abs()
                best = best.maximum(values.abs().amax(1) / top)
                v = torch.where(low[:, None], vectors[..., 0], vectors[..., -1])
            chance = torch.linalg.matrix_norm(_changed(nets, here, along, K), 2) / top
            rows.append(pd.DataFrame({"seed": part, "width": width, "change": best.numpy(), "along": chance.numpy()}))
    return pd.concat(rows, ignore_index=True)


def _changed(nets: Nets, X: Tensor, direction: Sequence[Tensor], K: Tensor) -> Tensor:
    """Return the larger of the kernel's changes at +-1 along a direction."""
    far = []
    for sign in (1.0, -1.0):
        moved = nets.moved(direction, sign)
        far.append(kernel(moved, sweep(moved, X)) - K)
    first = torch.linalg.matrix_norm(far[0], 2) > torch.linalg.matrix_norm(far[1], 2)
    return torch.where(first[:, None, None], *far)


def least_eigenvalue(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    r"""lambda_min(K) one step R along +- its own gradient, and at random points of the ball (Section 2.4).

    Returns:
        Tidy: seed, width, moved (largest |lambda_min(w) - lambda_min(w_0)| over +- R), start, lowest (over all points).
    """
    X, _ = points(size.data, seeds, size.n, size.side, size.classes)

    def study(width: int) -> dict[str, Tensor]:
        nets = make.fcn(seeds, X.shape[2], [width, width])
        values, vectors = torch.linalg.eigh(kernel(nets, sweep(nets, X)))
        steep = steepest(nets, X, vectors[..., 0])
        directions = [steep, [-step for step in steep]]
        directions += [random_directions(nets, seeds, f"ball-{draw}") for draw in range(size.draws)]
        ends = []
        for direction in directions:
            moved = nets.moved(direction, size.radius)
            ends.append(torch.linalg.eigvalsh(kernel(moved, sweep(moved, X)))[:, 0])
        far = torch.stack([(end - values[:, 0]).abs() for end in ends[:2]]).amax(0)
        return {"moved": far, "start": values[:, 0], "lowest": torch.stack(ends).amin(0)}

    return frame(seeds, size.widths, study)


def bent_output(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """GD on half-dropped DenseNets with a tanh on the output, labels inside its range (Section 2.4, last paragraph).

    Returns:
        Tidy: seed, width, steps, final, change.
    """
    X, y = points(size.data, seeds, size.n, size.side, size.classes)
    rows = []
    for width in size.widths:
        nets = make.densenet(seeds, X.shape[2], width, output="tanh")
        found = descend(nets, X, size.label * y, size.rate, size.steps, size.stop, size.every)
        rows.append(
            pd.DataFrame(
                {"seed": list(seeds), "width": width, **{k: found[k].numpy() for k in ("steps", "final", "change")}}
            )
        )
    return pd.concat(rows, ignore_index=True)


def pl_identity(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Check |grad L|^2 = r^T K r >= 2 lambda_min L at random weights, and equality for r along the bottom eigenvector.

    Returns:
        Per seed: `identity` (largest relative gap of the first two, gradient by automatic differentiation), `quotient`
        (smallest of |grad L|^2 / (2 lambda_min L)), `equality` (the same quotient less 1, r along the eigenvector).
    """
    X, y = points(size.data, seeds, size.n, size.side, size.classes)
    worst = {
        "identity": np.zeros(len(seeds)),
        "quotient": np.full(len(seeds), np.inf),
        "equality": np.zeros(len(seeds)),
    }
    for draw in range(size.points):
        nets = make.densenet(seeds, X.shape[2], size.width)
        nets.layers = [fresh(layer, seeds, f"point-{draw}-{i}") for i, layer in enumerate(nets.layers)]
        leaves = [layer.weight.requires_grad_() for layer in nets.layers]
        outputs = nets.values(X)[..., 0]
        with torch.no_grad():
            K = kernel(nets, sweep(nets, X))
            values, vectors = torch.linalg.eigh(K)
        for name, target in (("random", y), ("bottom", outputs.detach() - vectors[..., 0])):
            r = outputs - target
            grads = torch.autograd.grad(r.square().sum() / 2, leaves, retain_graph=True)
            masks = (1.0 if layer.mask is None else layer.mask for layer in nets.layers)
            square = sum((g * mask).square().sum((1, 2)) for g, mask in zip(grads, masks, strict=True))
            r = r.detach()
            quotient = (square / (values[:, 0] * r.square().sum(1))).numpy()
            if name == "random":
                gap = (torch.einsum("si,sij,sj->s", r, K, r) / square - 1).abs().numpy()
                worst["identity"] = np.maximum(worst["identity"], gap)
                worst["quotient"] = np.minimum(worst["quotient"], quotient)
            else:
                worst["equality"] = np.maximum(worst["equality"], np.abs(quotient - 1))
    return table(pd.DataFrame({"seed": list(seeds), **worst}))


def fresh(layer: Layer, seeds: Sequence[int], name: str) -> Layer:
    """Return a layer with weights of another stream on the same edges."""
    weight = starts(seeds, name, *layer.weight.shape[1:])
    return replace(layer, weight=weight if layer.mask is None else weight * layer.mask)
