"""Where parameters meet the data in a network's graph, and which axis of every signal counts the samples.

The graph names every operation that reads a parameter, so nothing can be overlooked: an operation without a rule leaves
its parameter `uncovered`. Which axis of an operation's output is the sample axis is not guessed from shapes: a few
samples are sent through the network, one output at a time is sent back, and the sample axis is the one along which all
other samples stay at zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from traindyn.errors import InputError
from traindyn.forward_pass import COUPLED, call_with, try_out
from traindyn.measure.ntk.graph import STEADY, VIEWS, Trace, apply_model, forward, trace
from traindyn.measure.ntk.rules import RULES, Layout, samples_first

PROBE = 3  # samples in a probe: the fewest for which sample-major and sample-minor order differ at every place


@dataclass
class Entry:
    """One place where a parameter, or an expression of parameters, enters the computation of a sample.

    node: the operation; slot: the input at which the expression arrives; expr: (index, output number) of that
    expression; edge: the operation whose output's gradient is the signal; layout: the sample axis of that signal.
    """

    node: int
    slot: int
    expr: tuple[int, int]
    edge: int
    names: frozenset[str]
    layout: Layout | None = None


@dataclass
class Plan:
    """How one model's kernel is assembled.

    signature: the graph it holds for; entries: where parameters enter; uncovered: names of those that no rule covers;
    outputs: c; sample_bytes: what the activations of one sample and the signals of one output take, at most.
    steady: whether every operation between data and output sends a sample to the same place whatever the data are;
    lookups: operations that look tokens up; proved: the details of passes on which the plan was seen to be right.
    """

    signature: tuple
    entries: list[Entry]
    uncovered: set[str]
    outputs: int
    sample_bytes: int
    steady: bool = False
    lookups: tuple[int, ...] = ()
    proved: set[tuple] = field(default_factory=set)


def _is_source(name: str, below: list) -> bool:
    """Whether an operation may bring in the data by a way that the graph does not show: tokens, one-hot codes."""
    factors = {"MmBackward0": below[:2], "BmmBackward0": below[:2], "AddmmBackward0": below[1:3]}
    return name == "EmbeddingBackward0" or None in factors.get(
        name, below[:1] if name == "ConvolutionBackward0" else []
    )


def _may_be_constant(graph: Trace, index: int) -> bool:
    name = graph.nodes[index].name()
    return name == "ExpandBackward0" or _is_source(name, graph.children[index])


def _entries(
    graph: Trace, X: Tensor, wanted: dict[int, str], constant: set[int]
) -> tuple[list[Entry], set[str], list[int]]:
    """Find where expressions of wanted parameters meet the data; `constant` nodes are known not to see the data.

    The third result lists the operations that see the data.
    """
    dynamic: list[bool] = []
    leaves: list[frozenset[str]] = []
    entries: dict[tuple[int, int], Entry] = {}
    uncovered: set[str] = set()
    for index, (node, below) in enumerate(zip(graph.nodes, graph.children, strict=True)):
        name = node.name()
        if hasattr(node, "variable"):
            dynamic.append(node.variable is X)
            leaves.append(frozenset([wanted[id(node.variable)]] if id(node.variable) in wanted else []))
            continue
        inputs = [child for child in below if child is not None]
        source = _is_source(name, below) and index not in constant
        dynamic.append(source or any(dynamic[child] for child, _ in inputs))
        leaves.append(frozenset().union(*(leaves[child] for child, _ in inputs if not dynamic[child])))
        if not dynamic[-1]:
            continue
        for slot, child in enumerate(below):
            if child is None or dynamic[child[0]] or not leaves[child[0]]:
                continue
            names = leaves[child[0]]
            if not math.prod(graph.shape(*child)):
                continue  # a layer of width zero has no gradient
            if graph.nodes[child[0]].name() == "ExpandBackward0" and child[0] not in constant:
                # the expanded copies carry the sample axis themselves; their gradient holds all their uses at once
                entries[child[0], 0] = Entry(child[0], 0, graph.children[child[0]][0], child[0], names)
            elif (
                (name, slot) in RULES
                and graph.is_real(index)
                and graph.is_real(*child)
                and RULES[name, slot].covers(node)
            ):
                entries[index, slot] = Entry(index, slot, child, index, names)
            else:
                uncovered |= names
        leaves[-1] = frozenset()
    if graph.nodes and not dynamic[-1]:
        uncovered |= leaves[-1]
    return list(entries.values()), uncovered, [index for index, sees_data in enumerate(dynamic) if sees_data]


# where a product keeps the factor that has no history
_FACTORS = {"MmBackward0": ("_saved_self", "_saved_mat2"), "BmmBackward0": ("_saved_self", "_saved_mat2")}


def _is_frozen(graph: Trace, index: int, held: set[int]) -> bool:
    """Whether the factor of a product that the graph does not follow is a frozen weight or a buffer of the model."""
    node, below = graph.nodes[index], graph.children[index]
    kept = [name for name, child in zip(_FACTORS.get(node.name(), ()), below, strict=False) if child is None]
    return len(kept) == 1 and getattr(node, kept[0]).untyped_storage().data_ptr() in held


def _is_steady(graph: Trace, seeing: list[int], lookups: set[int], model: nn.Module) -> bool:
    """Whether all operations that see the data are known to treat samples alike, and nothing came by a hidden way."""
    held = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    operations = [index for index in seeing if not hasattr(graph.nodes[index], "variable")]
    return all(
        graph.nodes[index].name() in STEADY
        and (
            index in lookups
            or not _is_source(graph.nodes[index].name(), graph.children[index])
            or _is_frozen(graph, index, held)
        )
        for index in operations
    )


def _layouts(graph: Trace, edges: list[int], out: Tensor, X: Tensor, found: dict[int, set[Layout]], seen: set) -> None:
    """Narrow the possible sample axes of each edge by sending back the first, the middle and the last sample alone."""
    n = len(out)
    weights = torch.cos(1 + torch.arange(out.shape[1], dtype=out.dtype, device=out.device))
    targets = [GradientEdge(graph.nodes[edge], 0) for edge in edges] + ([X] if X.requires_grad else [])
    for sample in {0, n // 2, n - 1}:
        others = torch.arange(n, device=out.device) != sample
        signals = torch.autograd.grad(out[sample] @ weights, targets, retain_graph=True, allow_unused=True)
        if X.requires_grad and signals[-1] is not None and signals[-1][others].any():
            raise InputError(COUPLED)
        for edge, signal in zip(edges, signals, strict=False):
            if signal is None or not signal.any():
                continue
            seen.add(edge)
            found[edge] = {lay for lay in found[edge] if not samples_first(signal, lay, n)[others].any()}


def _candidates(shape: torch.Size, n: int) -> set[Layout]:
    major = {(dim, False) for dim, size in enumerate(shape) if size % n == 0 and size}
    return major | {(dim, True) for dim, size in enumerate(shape) if size % n == 0 and size > n}


def make_plan(model: nn.Module, X: Tensor, wanted: dict[str, Tensor], count: int = PROBE) -> Plan:
    """Probe `model` with a few samples of X and say how its kernel is assembled.

    Args:
        model: a network that treats samples independently.
        X: inputs, shape (n, ...).
        wanted: the parameters that count, by name.
        count: how many samples, >= 2; a network whose graph depends on their number is probed with as many as are used.

    Raises:
        InputError: the samples of a batch influence one another, or the model is random.
    """
    rows = torch.arange(count, device=X.device) % len(X)
    try_out(model, X[rows], run=apply_model)
    probe, out = forward(model, X[rows])
    if not torch.isfinite(out).all():
        raise InputError("model: its outputs hold NaN or infinity on X; has training diverged?")
    graph = trace(out)
    if any("CheckpointFunction" in node.name() for node in graph.nodes):
        raise InputError("model: reentrant checkpoints hide their parameters; use checkpoint(use_reentrant=False)")
    names = {id(parameter): name for name, parameter in wanted.items()}
    constant: set[int] = set()
    while True:
        entries, uncovered, seeing = _entries(graph, probe, names, constant)
        edges = sorted({entry.edge for entry in entries})
        found = {edge: _candidates(graph.shape(edge), count) for edge in edges}
        seen: set[int] = set()
        if edges:
            _layouts(graph, edges, out, probe, found, seen)
        unclear = [edge for edge in edges if len(found[edge]) > 1 or edge not in seen]
        if unclear:
            _second_look(model, probe, wanted, graph, unclear, found, seen)
        retry = {edge for edge in edges if edge in seen and not found[edge] and _may_be_constant(graph, edge)}
        if retry <= constant:
            break
        constant |= retry  # positions looked up or copied, the same for every sample: part of the parameters' side
    kept = []
    for entry in entries:
        layouts = found[entry.edge]
        if entry.edge in seen and len(layouts) == 1:
            entry.layout = next(iter(layouts))
            node = graph.nodes[entry.node]
            if RULES[node.name(), entry.slot].fits(graph.shape(entry.edge), graph.shape(*entry.expr), entry.layout):
                kept.append(entry)
                continue
        uncovered |= entry.names
    numbers = sum(math.prod(graph.shape(index)) for index in seeing if graph.nodes[index].name() not in VIEWS)
    lookups = {index for index in seeing if graph.nodes[index].name() == "EmbeddingBackward0"} - constant
    return Plan(
        graph.signature,
        kept,
        uncovered,
        out.shape[1],
        2 * numbers * out.element_size() // count,
        _is_steady(graph, seeing, lookups, model),
        tuple(lookups),
    )


def _second_look(model, probe, wanted, graph, unclear, found, seen) -> None:
    """Probe again with random weights: dead units or a zero layer can leave the sample axis undecided."""
    source = torch.Generator().manual_seed(0)
    random = {
        name: (torch.randn(p.shape, generator=source, dtype=torch.float64) / math.sqrt(max(1, p[0].numel())))
        .to(p)
        .requires_grad_()
        if p.dim()
        else p.detach().clone().requires_grad_()
        for name, p in wanted.items()
    }
    out = call_with(model, random, probe.clone()).reshape(len(probe), -1)
    other = trace(out)
    if other.signature == graph.signature:
        _layouts(other, unclear, out, probe, found, seen)


class GraphChanged(Exception):
    """A pass has another autograd graph than the probe of the same inputs: nothing can be planned."""


class NotProved(Exception):
    """The gradients that a plan gives differ from those of one ordinary backward pass; `names` says which."""

    def __init__(self, names: set[str]) -> None:
        super().__init__(", ".join(sorted(names)))
        self.names = names


_PLANS: WeakKeyDictionary[nn.Module, dict[tuple, Plan]] = WeakKeyDictionary()


def plan_for(model: nn.Module, X: Tensor, wanted: dict[str, Tensor], signature: tuple | None = None) -> Plan:
    """Return the plan for inputs like X, made once per model, shape of a sample, set of parameters and graph.

    Args:
        model, X, wanted: as in `make_plan`.
        signature: of the graph that the plan must fit; None takes the graph of a few samples.

    Raises:
        GraphChanged: no probe gives that graph.
    """
    plans = _PLANS.setdefault(model, {})
    key = (tuple(X.shape[1:]), X.dtype, model.training, tuple(wanted))
    if (key, signature) in plans:
        return plans[key, signature]
    for count in (PROBE, max(2, len(X))):
        plan = make_plan(model, X, wanted, count)
        plans[key, None] = plans[key, plan.signature] = plan
        if signature in (None, plan.signature):
            return plan
    raise GraphChanged


def forget(model: nn.Module) -> None:
    """Drop the plans of a model: it does something else now."""
    _PLANS.pop(model, None)
