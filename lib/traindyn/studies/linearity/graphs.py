"""Graphs behind networks: layers, widths, dropped edges, what a neuron depends on (Sections 2.2, A.1, A.9)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from types import SimpleNamespace

import networkx as nx
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import generator
from traindyn.evidence import table
from traindyn.learn.models import dag
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.linearity import nets as make

# Figure 2.1: nine vertices; the skip edge from x2 to the neuron d does not pull it to a shallower layer
DRAWN = [
    ("x1", "a"), ("x2", "a"), ("x2", "b"), ("x3", "b"), ("a", "c"), ("b", "c"), ("b", "e"),
    ("x1", "e"), ("c", "d"), ("x2", "d"), ("c", "out"), ("d", "out"), ("e", "out"),
]  # fmt: skip


# Figure 2.3: two bottleneck neurons, p and q, of in-degree 1
NARROW = [
    *((x, h) for h in ("a", "b", "c", "d") for x in ("x1", "x2", "x3")), ("a", "p"), ("b", "q"),
    *((h, g) for g in ("r", "s", "t") for h in ("a", "b", "c", "d")), *((g, "out") for g in "pqrst"),
]  # fmt: skip


def network(edges: Sequence[tuple[Hashable, Hashable]], weights: Tensor, activation: str = "tanh") -> dag.DagNet:
    """Return the library's network on a graph, with one weight per edge in the order of `edges`, float64."""
    net = dag.DagNet(edges, activation).double()
    place = {v: i for i, v in enumerate(v for layer in dag.longest_path_layers(edges) for v in layer)}
    starts, seen = [], net.in_dim
    for layer in net.layers:
        starts.append(seen)
        seen += len(layer.weight)
    with torch.no_grad():
        for (u, v), w in zip(edges, weights, strict=True):
            depth = max(i for i, start in enumerate(starts) if start <= place[v])
            net.layers[depth].weight[place[v] - starts[depth], place[u]] = w
    return net


def random_edges(seed: int, draw: int, vertices: int, degree: float) -> list[tuple[int, int]]:
    """Return the edges of a random DAG: each pair of a random order is joined, `degree` edges per vertex on average."""
    stream = generator(seed, f"graph-{draw}")
    order = torch.randperm(vertices, generator=stream)
    joined = torch.rand(vertices, vertices, generator=stream, dtype=torch.float64) < 2 * degree / vertices
    i, j = torch.triu(joined, 1).nonzero(as_tuple=True)
    return list(zip(order[i].tolist(), order[j].tolist(), strict=True))


def layering(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Check the layers of Definition 2.2.5 on random graphs against a longest path found independently.

    Returns:
        Per seed, summed over graphs: `flat_edges` (edges that do not go to a deeper layer), `misplaced` (vertices in
        another layer than their longest path says, or in none or two), `inputs_wrong` (vertices of layer 0 with
        incoming edges, or inputs elsewhere), `shortened` (neurons that a new skip edge from an input moved up), and
        `differ`: graphs whose shortest paths would give other layers.
    """
    rows = []
    for seed in seeds:
        counts = dict.fromkeys(("flat_edges", "misplaced", "inputs_wrong", "shortened", "differ"), 0)
        for draw in range(size.graphs):
            edges = random_edges(seed, draw, size.vertices, size.degree)
            graph = nx.DiGraph(edges)
            layers = dag.longest_path_layers(edges)
            depth = {v: level for level, layer in enumerate(layers) for v in layer}
            longest, shortest = paths(graph)
            counts["flat_edges"] += sum(depth[u] >= depth[v] for u, v in edges)
            counts["misplaced"] += sum(longest[v] != depth.get(v) for v in graph) + sum(map(len, layers)) - len(graph)
            counts["inputs_wrong"] += sum((depth[v] == 0) != (graph.in_degree(v) == 0) for v in graph)
            counts["differ"] += longest != shortest
            deepest = layers[-1][0]
            source = next(v for v in layers[0] if not graph.has_edge(v, deepest))
            again = dag.longest_path_layers([*edges, (source, deepest)])
            counts["shortened"] += sum(v not in again[depth[v]] for v in graph)
        rows.append({"seed": seed, **counts})
    return table(pd.DataFrame(rows))


def paths(graph: nx.DiGraph) -> tuple[dict[Hashable, int], dict[Hashable, int]]:
    """Return the numbers of edges of the longest and of the shortest path from an input to every vertex."""
    longest: dict[Hashable, int] = {}
    shortest: dict[Hashable, int] = {}
    for v in nx.topological_sort(graph):
        before = list(graph.predecessors(v))
        longest[v] = max((longest[u] + 1 for u in before), default=0)
        shortest[v] = min((shortest[u] + 1 for u in before), default=0)
    return longest, shortest


def widths(seeds: Sequence[int], size: SimpleNamespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the width of Definition 2.2.7 for FCN and DenseNet (case: hidden size), and half-dropped ones per seed."""
    exact, drawn = [], []
    for h in size.widths:
        hidden = [h, 2 * h]  # unequal layers, so that the smallest is not every layer
        plain = dag.DagNet(dag.dense_masks(size.inputs, [*hidden, 1], refeed=False)).width
        fed = dag.DagNet(dag.dense_masks(size.inputs, [h, h, 1], refeed=True)).width
        once = dag.DagNet(dag.dense_masks(size.inputs, [h, h, 1], refeed="hidden")).width
        exact.append({"hidden": h, "fcn": plain - h, "refed": fed - h, "once": once - h})
        for seed in seeds:
            for name, refeed in (("refed", True), ("once", "hidden")):
                net = dag.densenet(size.inputs, h, 3, 0.5, generator(seed, "init"), refeed=refeed)
                drawn.append({"seed": seed, "hidden": h, "net": name, "width": net.width})
    return table(pd.DataFrame(exact), ["hidden"]), pd.DataFrame(drawn)


def evaluate(net: dag.DagNet, x: Tensor) -> tuple[dict[int, Tensor], int]:
    """Evaluate a network vertex by vertex along its edges, as eq. (2.2) reads; return all neurons and the output."""
    edges, seen = {}, net.in_dim
    for layer in net.layers:
        for row, (weights, mask) in enumerate(zip(layer.weight.detach(), layer.mask, strict=True)):
            edges[seen + row] = [(int(u), weights[u]) for u in mask.nonzero()[:, 0]]
        seen += len(layer.weight)
    graph = nx.DiGraph([(u, v) for v, into in edges.items() for u, _ in into])
    values = dict(enumerate(x))
    for v in nx.topological_sort(graph):
        if v in edges:
            z = sum(w * values[u] for u, w in edges[v]) / len(edges[v]) ** 0.5
            values[v] = z if v == seen - 1 else torch.tanh(z)
    return values, seen - 1


def definitions(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Compare evaluation along edges with the matrix form (A.4), (A.5) and with masked layers, tanh, float64.

    Returns:
        Per seed, largest differences: `fcn` and `dense` (edges against the printed matrix form), `masked` (edges of
        the dropped graph against masked layers normalised by the surviving in-degree).
    """
    rows = []
    for seed in seeds:
        x = make.inputs([seed], size.inputs)[0, 0]
        row = {"seed": seed}
        for name, refeed, drop in (("fcn", False, 0.0), ("dense", True, 0.0), ("masked", True, 0.5)):
            masks = dag.dense_masks(size.inputs, [size.width, size.width, 1], refeed=refeed)
            masks = dag.drop_edges(masks, drop, generator(seed, "edges"))
            net = dag.DagNet(masks, "tanh", generator=generator(seed, "init")).double()
            values, out = evaluate(net, x)
            other = net(x[None])[0].detach() if drop else _matrix_form(net, x, refeed)
            row[name] = float((values[out] - other).abs())
        rows.append(row)
    return table(pd.DataFrame(rows))


def _matrix_form(net: dag.DagNet, x: Tensor, refeed: bool) -> Tensor:
    f = seen = x
    for depth, layer in enumerate(net.layers):
        W = layer.weight.detach()[:, -len(f) :] if not refeed else layer.weight.detach()
        z = W @ (seen if refeed else f) / W.shape[1] ** 0.5
        f = z if depth + 1 == len(net.layers) else torch.tanh(z)
        seen = torch.cat([seen, f])
    return f[0]


def moments(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Second moments of the outputs of ReLU FCNs and DenseNets, less their exact expectation.

    With N(0, 1) weights E z^2 is the mean of E f^2 over the neurons read, and E relu(z)^2 = E z^2 / 2, whatever the
    widths: a recursion without error. The input has |x|^2 = d.

    Returns:
        Per seed and case (net, width): `excess`, mean over the outputs of z^2, over E z^2, less 1.
    """
    x = make.inputs(seeds, size.inputs)[:, 0]
    x = x / x.square().mean(1, keepdim=True).sqrt()
    rows = []
    for width in size.widths:
        common = {"outputs": size.outputs, "activation": "relu"}
        kinds = {
            "fcn": make.fcn(seeds, size.inputs, [width, width], **common),
            "dense": make.densenet(seeds, size.inputs, width, drop=0.0, refeed=True, **common),
        }
        for name, nets in kinds.items():
            expected = [1.0] * size.inputs
            for layer in nets.layers:
                law = sum(expected[layer.reads]) / layer.weight.shape[2]
                expected += [law / 2] * layer.weight.shape[1]
            found = nets.values(x[:, None])[:, 0].square().mean(1) / law - 1
            rows.append(pd.DataFrame({"seed": list(seeds), "net": name, "width": width, "excess": found.numpy()}))
    return table(pd.concat(rows), ["net", "width"])


def dropped(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """What the printed formula of appendix A.1 does to edges and to the variance, with drop probability p.

    Returns:
        Per seed: `kept` (share of edges that the code keeps), `kept_printed` (1{xi >= p} with xi Bernoulli(p)),
        `variance` (mean square of pre-activations with the old in-degree over that with the surviving one), and the
        same three less what dropping with probability p means: `off`, `off_printed`, `off_variance` (relative).
    """
    rows = []
    for seed in seeds:
        draw = generator(seed, "bernoulli")
        xi = (torch.rand(size.width, size.inputs, generator=draw, dtype=torch.float64) < size.drop).double()
        mask = make.kept([seed], "1", size.width, size.inputs, size.drop)
        layer = make.layer([seed], "layer-1", size.width, size.inputs, 0, mask)
        z = (layer.weight @ make.inputs([seed], size.inputs)[:, 0, :, None])[..., 0]
        printed, own = z * size.inputs**-0.5, z * layer.scale
        row = {"kept": float(mask.mean()), "kept_printed": float((xi >= size.drop).double().mean())}
        row["variance"] = float(printed.square().mean() / own.square().mean())
        wanted = 1 - size.drop
        names = {"kept": "off", "kept_printed": "off_printed", "variance": "off_variance"}
        rows.append({"seed": seed, **row, **{name: abs(row[key] / wanted - 1) for key, name in names.items()}})
    return table(pd.DataFrame(rows))


def dependence(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Count the weights of a layer that a neuron depends on, and compare with the product of in-degrees (A.9.1).

    Returns:
        Per seed over random DAGs: `violations` (neuron and layer whose count exceeds the product of the largest
        in-degrees of the layers between), `largest` (count over product), `cases`.
    """
    rows = []
    for seed in seeds:
        violations, cases, largest = 0, 0, 0.0
        for draw in range(size.graphs):
            edges = random_edges(seed, draw, size.vertices, size.degree)
            graph, layers = nx.DiGraph(edges), dag.longest_path_layers(edges)
            depth = {v: level for level, layer in enumerate(layers) for v in layer}
            most = [max(graph.in_degree(v) for v in layer) for layer in layers]
            for v in graph:
                if depth[v]:
                    counts = [0] * (depth[v] + 1)
                    for u in nx.ancestors(graph, v) | {v}:
                        counts[depth[u]] += graph.in_degree(u)
                    bound = 1
                    for level in range(depth[v], 0, -1):
                        bound *= most[level]
                        cases += 1
                        violations += counts[level] > bound
                        largest = max(largest, counts[level] / bound)
        rows.append({"seed": seed, "violations": violations, "largest": largest, "cases": cases})
    return table(pd.DataFrame(rows))


def growth(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """How the number of weights that the output depends on grows with m: half-dropped DenseNets, layers (m, m^2).

    Returns:
        Per seed and case (net), for the weights of layer 2: `degree` (log-log slope of their number), `allowed` (the
        exponent of the product of the in-degrees of layers 2 and 3), `bend` (the slope of the last
        octave less that of the first).
    """
    rows = []
    for seed in seeds:
        for name in ("half", "square"):
            counts = []
            for m in size.widths:
                if name == "half":
                    masks = dag.drop_edges(
                        dag.dense_masks(size.inputs, [m, m, 1], refeed="hidden"), 0.5, generator(seed, f"edges-{m}")
                    )
                else:
                    masks = dag.dense_masks(size.inputs, [m, m * m, 1], refeed=False)
                counts.append(_needed(masks, size.inputs)[1])
            fitted = loglog_slope(size.widths, counts).value
            first, last = (loglog_slope(size.widths[i : i + 2], counts[i : i + 2]).value for i in (0, len(counts) - 2))
            rows.append(
                {
                    "seed": seed,
                    "net": name,
                    "degree": fitted,
                    "allowed": {"half": 2.0, "square": 3.0}[name],
                    "bend": last - first,
                }
            )
    return table(pd.DataFrame(rows), ["net"])


def _needed(masks: Sequence[Tensor], in_dim: int) -> list[int]:
    """Return for every layer how many of its weights the first output depends on."""
    seen = torch.zeros(in_dim + sum(len(mask) for mask in masks), dtype=torch.bool)
    end = len(seen)
    seen[end - len(masks[-1])] = True
    counts = []
    for mask in reversed(masks):
        here = seen[end - len(mask) : end]
        end -= len(mask)
        counts.insert(0, int(mask[here].sum()))
        seen[: mask.shape[1]] |= mask[here].any(0)
    return counts
