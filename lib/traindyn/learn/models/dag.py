r"""Networks on an arbitrary directed acyclic graph (DAG): every vertex is a neuron, every edge a weight.

Zhu, Liu, Belkin (2022); Zhu's thesis, Definition 2.2.2. The neurons are grouped by the length of the longest path
from an input, so that a forward pass is one masked matrix product per group and not a loop over neurons.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from traindyn.errors import InputError, choose
from traindyn.layers import Activation, draw
from traindyn.learn.models.base import Network

Vertex = Hashable


def longest_path_layers(edges: Iterable[tuple[Vertex, Vertex]]) -> list[list[Vertex]]:
    """Group the vertices of a DAG by p(v), the length of the longest path from an input (Definition 2.2.1).

    Args:
        edges: pairs (u, v) for an edge from u to v; each may stand once.

    Returns:
        The layers in order; layer 0 are the inputs (in-degree 0). Within a layer: the order in which vertices first
        appear in `edges`.

    Raises:
        InputError: there is no edge, an edge stands twice, or the graph has a cycle.
    """
    if not (edges := list(edges)):
        raise InputError("graph: expected at least one edge, got none")
    if len(set(edges)) < len(edges):
        raise InputError("graph: an edge stands twice; each edge is one weight")
    successors: dict[Vertex, list[Vertex]] = {vertex: [] for edge in edges for vertex in edge}
    waiting = dict.fromkeys(successors, 0)
    for u, v in edges:
        successors[u].append(v)
        waiting[v] += 1
    depth = {vertex: 0 for vertex, count in waiting.items() if count == 0}
    ready = list(depth)
    for u in ready:  # grows while it is walked: a vertex enters when its last predecessor has been seen
        for v in successors[u]:
            depth[v] = max(depth.get(v, 0), depth[u] + 1)
            waiting[v] -= 1
            if waiting[v] == 0:
                ready.append(v)
    if len(ready) < len(successors):
        raise InputError("graph: expected no cycle, but some vertices can reach themselves")
    layers: list[list[Vertex]] = [[] for _ in range(max(depth.values()) + 1)]
    for vertex in successors:
        layers[depth[vertex]].append(vertex)
    return layers


@dataclass
class _Plan:
    """masks[l]: (m_l, number of all earlier vertices), bool; outputs: positions among all vertices."""

    in_dim: int
    masks: list[Tensor]
    outputs: list[int]


def _plan_of_edges(edges: list[tuple[Vertex, Vertex]]) -> _Plan:
    layers = longest_path_layers(edges)
    position = {vertex: i for i, vertex in enumerate(v for layer in layers for v in layer)}
    masks, rows, seen = [], {}, len(layers[0])
    for layer in layers[1:]:
        masks.append(torch.zeros(len(layer), seen, dtype=torch.bool))
        rows |= dict(zip(layer, masks[-1], strict=True))
        seen += len(layer)
    for u, v in edges:
        rows[v][position[u]] = True
    sources = {u for u, _ in edges}
    return _Plan(len(layers[0]), masks, [i for vertex, i in position.items() if vertex not in sources])


def _plan_of_masks(masks: Sequence[Tensor]) -> _Plan:
    in_dim = seen = masks[0].shape[1]
    for i, mask in enumerate(masks):
        if mask.dim() != 2 or mask.dtype != torch.bool or mask.shape[1] != seen:
            raise InputError(
                f"graph: expected mask {i} to be boolean of shape (m, {seen}), a column per input and earlier "
                f"neuron, got {mask.dtype} of shape {tuple(mask.shape)}"
            )
        if not mask.any(dim=1).all():
            raise InputError(f"graph: mask {i} has a neuron without an incoming edge")
        seen += len(mask)
    return _Plan(in_dim, list(masks), list(range(seen - len(masks[-1]), seen)))


class _Masked(nn.Module):
    """One layer of neurons: z_v = in(v)^(-1/2) sum over the edges (u, v) of w_uv f_u."""

    def __init__(self, mask: Tensor, in_degrees: Tensor, init_std: float, generator: torch.Generator | None) -> None:
        super().__init__()
        self.init_std = init_std
        self.weight = nn.Parameter(torch.empty(mask.shape))
        # a mask of numbers, because a product with booleans is slower; integer degrees are exact in every precision
        self.register_buffer("mask", mask.to(self.weight.dtype))
        self.register_buffer("in_degrees", in_degrees)
        self.reset(generator)

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draw w ~ N(0, init_std^2) for every edge; entries that are not edges are 0 and never move."""
        draw(self.weight, "normal", self.init_std, (self.weight.shape[1], self.weight.shape[0]), generator)
        with torch.no_grad():
            self.weight.mul_(self.mask)

    def forward(self, values: Tensor) -> Tensor:
        return F.linear(values, self.weight * self.mask) * self.in_degrees.to(values.dtype).rsqrt()


class DagNet(Network):
    r"""A feedforward network on a directed acyclic graph.

    .. math:: f_v = \sigma_v(\tilde f_v), \qquad
        \tilde f_v = \frac{1}{\sqrt{\mathrm{in}(v)}} \sum_{u \to v} w_{uv} f_u, \qquad w_{uv} \sim N(0, s^2)

    with the identity for sigma at inputs and outputs (Zhu's thesis, eq. (2.2), Remark 2.2.4). The weights of a group
    of neurons lie in one dense matrix with a mask: cost and memory are those of the dense layers.

    Args:
        graph: either the edges, as pairs (u, v) or as a mapping from each vertex to its predecessors: inputs are the
            vertices without predecessors, in order of first appearance, outputs those without successors; or one
            boolean mask per layer, of shape (m_l, in_dim + m_1 + ... + m_(l-1)): outputs are the last layer.
        activation: name in `layers.ACTIVATIONS`, of every neuron but the outputs.
        output_activation: of the outputs; anything but "linear" leaves the thesis's definition.
        in_degrees: the numbers in(v) under the root, one tensor (m_l,) per layer; None counts the edges.
        init_std: s.
        generator: CPU generator of the initial draw.

    Attributes:
        in_dim, n_edges: numbers of inputs and of weights.
        width: m of Definition 2.2.7, the least in-degree beyond the first layer; None where there is no such neuron.

    Raises:
        InputError: the graph is empty, has a cycle or a repeated edge, or a mask has another shape or an empty row.
    """

    def __init__(
        self,
        graph: Iterable[tuple[Vertex, Vertex]] | Mapping[Vertex, Iterable[Vertex]] | Sequence[Tensor],
        activation: str = "relu",
        output_activation: str = "linear",
        in_degrees: Sequence[Tensor] | None = None,
        init_std: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        is_mapping = isinstance(graph, Mapping)
        graph = [(u, v) for v, sources in graph.items() for u in sources] if is_mapping else list(graph)
        plan = _plan_of_masks(graph) if graph and isinstance(graph[0], Tensor) else _plan_of_edges(graph)
        counted = [mask.sum(dim=1) for mask in plan.masks]
        degrees = counted if in_degrees is None else list(in_degrees)
        if [tuple(degree.shape) for degree in degrees] != [tuple(count.shape) for count in counted]:
            raise InputError(f"in_degrees: expected one tensor per layer, of sizes {[len(count) for count in counted]}")
        self.in_dim = plan.in_dim
        self.width = min((int(count.min()) for count in counted[1:]), default=None)
        self.n_edges = sum(int(count.sum()) for count in counted)
        self.layers = nn.ModuleList(
            _Masked(mask, degree, init_std, generator) for mask, degree in zip(plan.masks, degrees, strict=True)
        )
        self.activations = nn.ModuleList(Activation(activation) for _ in plan.masks)
        # the identity is no `Activation`: `layers.activations` reads hidden neurons alone
        self.output_activation = nn.Identity() if output_activation == "linear" else Activation(output_activation)
        self._place_outputs(plan)

    @property
    def masks(self) -> list[Tensor]:
        """The graph as one boolean mask per layer, in the form that `DagNet` takes."""
        return [layer.mask.bool() for layer in self.layers]

    def _place_outputs(self, plan: _Plan) -> None:
        # outputs may lie in any layer, beside neurons that do have an activation
        self.register_buffer("outputs", torch.tensor(plan.outputs))
        is_output = torch.zeros(plan.in_dim + sum(len(mask) for mask in plan.masks), dtype=torch.bool)
        is_output[plan.outputs] = True
        per_layer = is_output[plan.in_dim :].split([len(mask) for mask in plan.masks])
        self.kinds = ["output" if p.all() else "mixed" if p.any() else "hidden" for p in per_layer]
        for layer, part in enumerate(per_layer):
            self.register_buffer(f"is_output{layer}", part)

    def forward(self, x: Tensor) -> Tensor:
        """Map x of shape (n, number of inputs) to (n,) for one output, else (n, number of outputs)."""
        values = x
        for index, (layer, activation, kind) in enumerate(zip(self.layers, self.activations, self.kinds, strict=True)):
            z = layer(values)
            f = z if kind == "output" else activation(z)
            if kind != "hidden":
                f = torch.where(getattr(self, f"is_output{index}"), self.output_activation(z), f)
            values = torch.cat([values, f], dim=1)
        out = values[:, self.outputs]
        return out.squeeze(1) if len(self.outputs) == 1 else out


def drop_edges(masks: Sequence[Tensor], drop: float, generator: torch.Generator | None = None) -> list[Tensor]:
    """Remove each edge independently with probability `drop` (appendix A.1; as printed, that keeps with probability p).

    A neuron that would lose all its edges draws again, because without an edge it would be an input.

    Args:
        masks: boolean masks per layer, as for `DagNet`.
        drop: probability in [0, 1).
        generator: CPU generator.

    Raises:
        InputError: `drop` lies outside [0, 1).
    """
    if not 0 <= drop < 1:
        raise InputError(f"drop: expected a probability in [0, 1), got {drop}")

    def kept(mask: Tensor) -> Tensor:
        # float64 whatever torch's default: the same generator gives the same graph in every precision
        return mask & (torch.rand(mask.shape, dtype=torch.float64, generator=generator) >= drop)

    dropped = []
    for mask in masks:
        thin = kept(mask)
        while (empty := ~thin.any(dim=1)).any():
            thin[empty] = kept(mask[empty])
        dropped.append(thin)
    return dropped


def dense_masks(in_dim: int, widths: Sequence[int], *, refeed: bool | str = True) -> list[Tensor]:
    """Return the masks of a DenseNet or of a fully connected network.

    Args:
        in_dim: number of inputs d.
        widths: neurons of every layer, the output layer included.
        refeed: what a layer sees: True, the input and all earlier layers (eq. (A.5)); "hidden", all earlier hidden
            layers, the input only in the first one; False, the layer before it alone (eq. (A.4), an FCN).

    Raises:
        InputError: `refeed` is none of these.
    """
    if refeed not in (True, False, "hidden"):
        raise InputError(f"refeed: expected True, False or 'hidden', got {refeed!r}")
    masks, seen = [], in_dim
    for layer, width in enumerate(widths):
        mask = torch.ones(width, seen, dtype=torch.bool)
        if layer and refeed is not True:
            mask[:, : in_dim if refeed == "hidden" else seen - widths[layer - 1]] = False
        masks.append(mask)
        seen += width
    return masks


def densenet(
    in_dim: int,
    width: int,
    depth: int,
    drop: float = 0.5,
    generator: torch.Generator | None = None,
    *,
    out_dim: int = 1,
    activation: str = "relu",
    refeed: bool | str = True,
    normalizer: str = "surviving",
    init_std: float = 1.0,
) -> DagNet:
    r"""A DenseNet of `depth` weight layers whose edges were dropped once, before training (Figure 2.2 of the thesis).

    With the input fed again to every layer, as eq. (A.5) prints it, the width of Definition 2.2.7 is about
    (1 - drop) (in_dim + width), not `width`; `refeed="hidden"` leaves the input out after the first layer.

    Args:
        in_dim: number of inputs d.
        width: neurons per hidden layer.
        depth: number of weight layers L, >= 1.
        drop: probability with which an edge is removed.
        generator: CPU generator of edges, then weights. `reset` draws the weights alone; the graph stays.
        out_dim: number of outputs.
        activation: name in `layers.ACTIVATIONS`.
        refeed: as in `dense_masks`.
        normalizer: "surviving", the in-degree after dropping (the DAG network of Definition 2.2.2), or "original", the
            in-degree before it (appendix A.1 as printed: 1 - drop times the variance).
        init_std: standard deviation of the weights.

    Raises:
        InputError: an unknown name, depth < 1, or `drop` outside [0, 1).
    """
    choose("normalizer", normalizer, ("surviving", "original"))
    if depth < 1:
        raise InputError(f"depth: expected at least 1 weight layer, got {depth}")
    dense = dense_masks(in_dim, [width] * (depth - 1) + [out_dim], refeed=refeed)
    return DagNet(
        drop_edges(dense, drop, generator),
        activation,
        in_degrees=[mask.sum(dim=1) for mask in dense] if normalizer == "original" else None,
        init_std=init_std,
        generator=generator,
    )
