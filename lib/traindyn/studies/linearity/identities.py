"""Identities of Hessians of small networks by automatic differentiation: (2.13), (2.14), skip connections, A.11.1."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pandas as pd
import torch
from torch import Tensor
from torch.func import hessian, jacrev

from traindyn.compute import normal
from traindyn.evidence import table
from traindyn.studies.linearity import nets as make
from traindyn.studies.linearity.nets import CURVES, Nets


def flat(nets: Nets) -> Tensor:
    """Return the weights of one network (s = 1, no masks) as one vector."""
    return torch.cat([layer.weight[0].flatten() for layer in nets.layers])


def neurons(nets: Nets, w: Tensor, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return pre-activations and neurons of every layer of one network with weights w (p,), for one input (d,)."""
    values, z, f = x, [], []
    parts = w.split([layer.weight[0].numel() for layer in nets.layers])
    for depth, (layer, part) in enumerate(zip(nets.layers, parts, strict=True)):
        z.append(part.view_as(layer.weight[0]) @ values[layer.reads] * layer.scale[0])
        kind = nets.output if depth + 1 == len(nets.layers) else nets.activation
        f.append(CURVES[kind](z[-1])[0] + (0 if layer.skip is None else values[layer.skip]))
        values = torch.cat([values, f[-1]])
    return z, f


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def recursion(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Readings of (2.13) and (2.14) on a DenseNet of three weight layers, whose output reads both hidden layers.

    Returns:
        Per seed, relative to the Hessian of the output (block of all hidden layers): `split` (sum over layers of the
        curvature created there), `literal` (total second derivatives times total first derivatives, summed over
        layers up to L), `one_edge` (derivatives along single edges, layers up to L - 1), `second_form` (for one-edge
        derivatives the second form of (2.14) against the first, layer 1).
    """
    return table(pd.DataFrame([{"seed": seed, **_readings(seed, size)} for seed in seeds]))


def _readings(seed: int, size: SimpleNamespace) -> dict[str, float]:
    nets = make.densenet([seed], size.inputs, size.width, drop=0.0)
    x, w = make.inputs([seed], size.inputs)[0, 0], flat(nets)
    z, _ = neurons(nets, w, x)
    curves = [CURVES[nets.activation](part) for part in z[:2]]
    slopes = [jacrev(lambda v, i=i: neurons(nets, v, x)[0][i])(w) for i in (0, 1)]  # d z_l / d w
    whole = hessian(lambda v: neurons(nets, v, x)[1][2][0])(w)
    bends = [hessian(lambda v, i=i: neurons(nets, v, x)[1][i])(w) for i in (0, 1)]
    top = nets.layers[2].weight[0, 0] * nets.layers[2].scale[0, 0]
    edges = top.split(size.width)  # one-edge derivatives d f / d f_i of layers 1 and 2
    between = nets.layers[1].weight[0] * nets.layers[1].scale[0, 0]
    total = [edges[0] + edges[1] @ (between * curves[1][1][:, None]), edges[1]]
    hidden = len(w) - len(top)
    block = whole[:hidden, :hidden]
    literal = sum(torch.einsum("i,ipq->pq", t, b) for t, b in zip(total, bends, strict=True)) + whole
    single = [torch.einsum("i,ipq->pq", e, b) for e, b in zip(edges, bends, strict=True)]
    created = torch.einsum("i,ip,iq->pq", edges[0] * curves[0][2], slopes[0], slopes[0])
    # (2.14), second form, layer 1: paths through layer 2 come in, which the one-edge sum does not have
    inner = torch.einsum("ij,jpq->ipq", between, bends[0])
    second = torch.einsum("i,ipq->pq", edges[1] * curves[1][1], inner) + created
    return {
        "split": _gap(layerwise(nets, x, w), whole),
        "literal": _gap(literal[:hidden, :hidden], block),
        "one_edge": _gap(sum(single)[:hidden, :hidden], block),
        "second_form": _gap(second, single[0]),
    }


def layerwise(nets: Nets, x: Tensor, w: Tensor) -> Tensor:
    """Return the Hessian of one output as a sum over neurons of the curvature that each of them creates.

    Neuron i of layer l creates (df/df_i) sigma'' grad z_i grad z_i^T, and (df/dz_i) in^(-1/2) times the symmetric
    product of each of its weights' unit vector with the gradient of the neuron that the weight multiplies.
    """
    z, _ = neurons(nets, w, x)
    p = len(w)
    gradients = jacrev(lambda v: torch.cat([x, *neurons(nets, v, x)[1]]))(w)
    slopes = [jacrev(lambda v, i=i: neurons(nets, v, x)[0][i])(w) for i in range(len(z))]
    total = _total(nets, w, x)
    H = torch.zeros(p, p, dtype=w.dtype)
    at = 0
    for depth, layer in enumerate(nets.layers):
        last = depth + 1 == len(nets.layers)
        curve = CURVES[nets.output if last else nets.activation](z[depth])
        H += torch.einsum("i,ip,iq->pq", total[depth] * curve[2], slopes[depth], slopes[depth])
        m, k = layer.weight.shape[1:]
        cross = torch.zeros(p, p, dtype=w.dtype)
        sent = total[depth] * curve[1] * layer.scale[0]
        cross[at : at + m * k] = (sent[:, None, None] * gradients[layer.reads][None]).reshape(m * k, p)
        H += cross + cross.T
        at += m * k
    return H


def _total(nets: Nets, w: Tensor, x: Tensor) -> list[Tensor]:
    """Return d f / d f_i of every layer, through all paths."""
    sent = torch.zeros(nets.in_dim + sum(layer.weight.shape[1] for layer in nets.layers), dtype=w.dtype)
    sent[-1] = 1
    z, _ = neurons(nets, w, x)
    found, end = [], len(sent)
    for depth in reversed(range(len(nets.layers))):
        layer = nets.layers[depth]
        here = sent[end - layer.weight.shape[1] : end].clone()
        end -= layer.weight.shape[1]
        kind = nets.output if depth + 1 == len(nets.layers) else nets.activation
        sent[layer.reads] += (here * CURVES[kind](z[depth])[1] * layer.scale[0]) @ layer.weight[0]
        if layer.skip is not None:
            sent.index_add_(0, layer.skip, here)
        found.insert(0, here)
    return found


def skip_recursion(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """The Hessian of a network with stacked identity skips, with one step of the skips and with all of them (A.12).

    Returns:
        Per seed, on the block of the first layer's weights: `one_step` (only the skipped neuron's own activation, as
        T_2 and T_4 have it), `all_steps` (its skip, too), relative to the Hessian.
    """
    return table(pd.DataFrame([{"seed": seed, **_skipped(seed, size.width)} for seed in seeds]))


def _skipped(seed: int, width: int) -> dict[str, float]:
    nets = make.fcn([seed], width, [width] * 3, skip=True)
    x, w = make.inputs([seed], width)[0, 0], flat(nets)
    whole = hessian(lambda v: neurons(nets, v, x)[1][-1][0])(w)
    top = nets.layers[-1].weight[0, 0] * nets.layers[-1].scale[0, 0]
    first = width**2
    parts = []
    for depth in (2, 1, 0):
        bent = hessian(lambda v, depth=depth: torch.tanh(neurons(nets, v, x)[0][depth]))(w)
        parts.append(torch.einsum("i,ipq->pq", top, bent)[:first, :first])
    block = whole[:first, :first]
    return {"one_step": _gap(parts[0] + parts[1], block), "all_steps": _gap(sum(parts), block)}


def blocks(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Compare the norm of random symmetric block matrices with the sum of their blocks' norms (Lemma A.11.1).

    Returns:
        Per seed: `violations` among `size.matrices`, and `ratio`, the mean of sum / norm.
    """
    rows = []
    sides = size.sides
    for seed in seeds:
        A = normal([seed], "blocks", size.matrices, sum(sides), sum(sides))[0]
        A = (A + A.mT) / 2
        norm = torch.linalg.matrix_norm(A, 2)
        total = torch.zeros_like(norm)
        for rows_of in A.split(sides, 1):
            for block in rows_of.split(sides, 2):
                total += torch.linalg.matrix_norm(block, 2)
        violations = int((norm > total * (1 + 1e-12)).sum())
        rows.append({"seed": seed, "violations": violations, "ratio": float((total / norm).mean())})
    return table(pd.DataFrame(rows))
