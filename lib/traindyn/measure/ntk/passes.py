"""One forward pass, its backward passes, and what every group of parameters contributes to the kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from traindyn.measure.ntk.graph import ISOMETRIES, Trace, forward, trace
from traindyn.measure.ntk.plan import Entry, NotProved, Plan, plan_for
from traindyn.measure.ntk.products import Direct, Outer
from traindyn.measure.ntk.rules import RULES


class Pass:
    """One forward pass over some samples, and the gradients of each sample as its graph delivers them."""

    def __init__(self, model: nn.Module, X: Tensor, wanted: dict[str, Tensor]) -> None:
        self.wanted, self.n = wanted, len(X)
        # torch flattens a single sample in other ways than several, so a single one is sent twice
        self.sent = max(2, self.n)
        data = X if self.n > 1 else X.repeat(2, *[1] * (X.dim() - 1))
        leaf, self.out = forward(model, data)
        self.graph: Trace = trace(self.out)
        self.plan: Plan = plan_for(model, X, wanted, self.graph.signature)
        self.edges = sorted({entry.edge for entry in self.plan.entries})
        self.details = self.graph.details()
        # tokens may have been sorted or packed before the graph began: then the looked-up ones are not those given
        self.steady = self.plan.steady and all(
            (indices := self.graph.nodes[node]._saved_indices).shape == data.shape and torch.equal(indices, data)
            for node in self.plan.lookups
        )
        self.proved = self.steady and self.details in self.plan.proved

    def gradients(self, outputs: range) -> dict[tuple[str, ...], Outer | Callable[[int, int], Tensor]]:
        """Return each group of connected parameters' share: a weight's `Outer`, or a function (lo, hi) -> rows.

        Args:
            outputs: which of the c outputs to send back.
        """
        signals = [self._signals(output) for output in outputs]
        features = []
        for entry in self.plan.entries:
            node, at = self.graph.nodes[entry.node], self.edges.index(entry.edge)
            rule, expr = RULES[node.name(), entry.slot], self.graph.shape(*entry.expr)
            try:
                features.append(rule.build(node, [signal[at] for signal in signals], expr, entry.layout, self.sent))
            except RuntimeError as error:  # the sample axis is not where the plan has seen it
                raise NotProved(set(entry.names)) from error
        if not self.proved:
            self._prove(outputs, features)
        if self.n == 1:
            features = [feature.first() for feature in features]
        return {
            names: self._join(names, [(self.plan.entries[i], features[i]) for i in group])
            for names, group in self._groups()
        }

    def _prove(self, outputs: range, features: list[Outer | Direct]) -> None:
        """Compare a random combination of the samples' gradients with one ordinary backward pass of it.

        Raises:
            NotProved: they differ.
        """
        names = [name for name in self.wanted if name not in self.plan.uncovered]
        if not names:
            return
        leaves = [self.wanted[name] for name in names]
        draw = torch.Generator().manual_seed(len(self.graph.nodes))
        r = torch.randn(self.sent, len(outputs), generator=draw, dtype=torch.float64).to(self.out)
        back = torch.zeros_like(self.out)
        back[:, outputs.start : outputs.stop] = r
        whole = torch.autograd.grad(
            self.out, leaves, back, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        parts: list[Tensor | None] = [None] * len(leaves)
        for entry, feature in zip(self.plan.entries, features, strict=True):
            for i, grad in enumerate(self._pulled(entry, feature.combined(r)[None], leaves)):
                if grad is not None:
                    parts[i] = grad[0] if parts[i] is None else parts[i] + grad[0]
        tolerance = 1e-3 if self.out.dtype == torch.float32 else 1e-9
        wrong = set()
        for name, grad, part in zip(names, whole, parts, strict=True):
            grad = grad.to_dense() if grad.is_sparse else grad
            part = torch.zeros_like(grad) if part is None else part
            if grad.isfinite().all() and not (grad - part).norm() <= tolerance * max(grad.norm(), part.norm()):
                wrong.add(name)
        if wrong:
            raise NotProved(wrong)

    def _signals(self, output: int) -> list[Tensor]:
        if not self.edges:
            return []
        edges = [GradientEdge(self.graph.nodes[edge], 0) for edge in self.edges]
        ones = torch.zeros_like(self.out)
        ones[:, output] = 1
        signals = torch.autograd.grad(self.out, edges, ones, retain_graph=True, allow_unused=True)
        return [
            self.out.new_zeros(self.graph.shape(edge)) if signal is None else signal
            for edge, signal in zip(self.edges, signals, strict=True)
        ]

    def _groups(self) -> list[tuple[tuple[str, ...], list[int]]]:
        """Parameters that share an expression, directly or through others, with the entries of those expressions."""
        groups: list[tuple[set[str], list[int]]] = []
        for index, entry in enumerate(self.plan.entries):
            names, members = set(entry.names), [index]
            for other in [group for group in groups if group[0] & names]:
                groups.remove(other)
                names, members = names | other[0], other[1] + members
            groups.append((names, members))
        kept = [(tuple(n for n in self.wanted if n in names - self.plan.uncovered), m) for names, m in groups]
        return [(names, members) for names, members in kept if names]

    def _chain(self, entry: Entry) -> tuple[tuple[str, ...], float] | None:
        """The views between a parameter and the operation that reads it, and the number that multiplies it.

        None if anything else lies between them.
        """
        index, chain, factor = entry.expr[0], [], 1.0
        while self.graph.children[index]:
            node, below = self.graph.nodes[index], self.graph.children[index]
            if node.name() == "MulBackward0" and below[1] is None and node._saved_other.dim() == 0:
                factor *= node._saved_other.item()
            elif node.name() in ISOMETRIES:
                chain.append(node.name())
            else:
                return None
            index = below[0][0]
        return tuple(chain), factor

    def _join(self, names: tuple[str, ...], uses: Sequence[tuple[Entry, Outer | Direct]]):
        entry, feature = uses[0]
        path = self._chain(entry)
        if path is not None:
            views, factor = path
            if len(uses) == 1:
                feature = feature.scaled(factor)
                return feature if isinstance(feature, Outer) else feature.rows
            alike = all(_alike(feature, other) and self._chain(use) == path for use, other in uses)
            if alike and set(views) <= {"TBackward0"}:
                # one weight read several times in the same way (a recurrent network): more positions of one layer
                return _joined([use for _, use in uses]).scaled(factor)
        leaves = [self.wanted[name] for name in names]

        def rows(lo: int, hi: int) -> Tensor:
            total = None
            for entry, feature in uses:
                gradients = feature.gradients(lo, hi)
                pulled = self._pull(entry, gradients.flatten(0, 1), leaves)
                pulled = pulled.view(*gradients.shape[:2], -1)
                total = pulled if total is None else total + pulled
            return total

        return rows

    def _pull(self, entry: Entry, gradients: Tensor, leaves: list[Tensor]) -> Tensor:
        """Carry gradients from an expression of parameters back to the parameters: (rows, sizes joined)."""
        zeros = gradients.new_zeros
        return torch.cat(
            [
                zeros(len(gradients), leaf.numel()) if grad is None else grad.reshape(len(gradients), -1)
                for grad, leaf in zip(self._pulled(entry, gradients, leaves), leaves, strict=True)
            ],
            1,
        )

    def _pulled(self, entry: Entry, gradients: Tensor, leaves: list[Tensor]) -> Sequence[Tensor | None]:
        """The same apart: (rows, *shape) per parameter, None where the expression does not read it."""
        node = self.graph.nodes[entry.expr[0]]
        if hasattr(node, "variable"):
            return [gradients if leaf is node.variable else None for leaf in leaves]
        edge = GradientEdge(node, entry.expr[1])
        return torch.autograd.grad(
            [edge], leaves, [gradients], retain_graph=True, allow_unused=True, is_grads_batched=True
        )


def _alike(feature: Outer | Direct, other: Outer | Direct) -> bool:
    """Whether two uses of one weight can be joined along their positions."""
    return (
        isinstance(feature, Outer)
        and isinstance(other, Outer)
        and feature.tokens is None
        and other.tokens is None
        and (feature.order, feature.width, feature.out) == (other.order, other.width, other.out)
    )


def _joined(uses: list[Outer]) -> Outer:
    first = uses[0]
    signals = torch.cat([use.signals for use in uses], 3)
    inputs = [use.inputs for use in uses]
    return Outer(
        lambda lo, hi: torch.cat([f(lo, hi) for f in inputs], 2), signals, first.width, first.order, first.shape
    )
