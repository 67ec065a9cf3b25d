"""The empirical tangent kernel of any torch network, assembled layer by layer without a Jacobian."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from traindyn.compute import memory_budget
from traindyn.errors import InputError, choose
from traindyn.measure.ntk_graph import Entry, Plan, Trace, plan_for, trace
from traindyn.measure.ntk_products import Direct, Outer, outer_product, row_product
from traindyn.measure.ntk_rules import RULES

METHODS = ("auto", "structured", "jacobian")
OUTPUTS = ("trace", "full")

# views that rearrange a parameter or pick a part of it: they leave inner products of its gradients as they are
_ISOMETRIES = {
    "AliasBackward0",
    "CloneBackward0",
    "PermuteBackward0",
    "ReshapeAliasBackward0",
    "SelectBackward0",
    "SliceBackward0",
    "SplitBackward0",
    "SplitWithSizesBackward0",
    "SqueezeBackward0",
    "SqueezeBackward1",
    "TBackward0",
    "TransposeBackward0",
    "UnsafeViewBackward0",
    "UnsqueezeBackward0",
    "ViewBackward0",
}


def empirical_ntk(
    model: nn.Module,
    X: Tensor,
    X2: Tensor | None = None,
    *,
    params: Iterable[str] | None = None,
    method: str = "auto",
    outputs: str = "trace",
    chunk: int | None = None,
) -> Tensor:
    """Empirical tangent kernel K(x, x') = J(x) J(x')^T with J = df/dtheta (Jacot, Gabriel, Hongler 2018).

    The structured method sends X through the network once and each output back once; every operation that reads a
    parameter then adds products of Gram matrices of its inputs and of the signals that came back to it (or, where
    that is cheaper, contracts this layer's per-sample gradients). Parameters that no rule covers are left to chunked
    Jacobians, and only they. The model is not touched: no hooks, no gradients; callers may be under `no_grad`.

    Args:
        model: a network that treats the samples of a batch independently and maps X to (n,) or (n, c).
        X: inputs, shape (n, ...), of the model's dtype (or integer tokens).
        X2: further inputs, shape (n2, ...), for the rectangular kernel; None for K(X, X).
        params: names of parameters, or of modules for all parameters in them; None for every trainable parameter.
            Only parameters with `requires_grad` count.
        method: "structured" (refuses what no rule covers), "jacobian" (per-sample Jacobians, in chunks), or "auto"
            (structured, and Jacobians for the parameters that no rule covers).
        outputs: "trace" sums over the c outputs (not averaged); "full" keeps them apart.
        chunk: samples per block; None sizes the blocks by `compute.memory_budget`.

    Returns:
        Tensor of shape (n, n2) for "trace", (n*c, n2*c) sample-major for "full"; dtype and device of the output.

    Raises:
        InputError: no trainable parameter, an unknown name in `params`, an output that is not (n,) or (n, c), half
            precision, batch statistics or dropout in use, mismatched inputs, a kernel too large for the memory budget,
            NaN or infinity in the kernel.
    """
    choose("method", method, METHODS)
    choose("outputs", outputs, OUTPUTS)
    if chunk is not None and chunk < 1:
        raise InputError(f"chunk: expected a number of samples >= 1, got {chunk}")
    wanted = _wanted(model, params)
    _check_model(model, wanted)
    with torch.inference_mode(False), torch.enable_grad():
        batches = [_check_inputs("X", X, wanted)] + ([] if X2 is None else [_check_inputs("X2", X2, wanted)])
        if X2 is not None and X2.shape[1:] != X.shape[1:]:
            raise InputError(
                f"X2: expected samples of shape {tuple(X.shape[1:])} like those of X, got {tuple(X2.shape[1:])}"
            )
        job = _Job(model, wanted, outputs == "full", memory_budget(X.device), chunk)
        K = _jacobian(job, batches, list(wanted)) if method == "jacobian" else _structured(job, batches, method)
    if not torch.isfinite(K).all():
        raise InputError("model: its tangent kernel holds NaN or infinity on X; has training diverged?")
    return K.flatten(2).flatten(0, 1) if K.dim() == 4 else K


# ------------------------------------------------------------------------------------------------ what was given


def _wanted(model: nn.Module, params: Iterable[str] | None) -> dict[str, Tensor]:
    """The parameters that count, by name."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise InputError("model: has no trainable parameter (all requires_grad are False)")
    if params is None:
        return trainable
    if isinstance(params, str):
        params = [params]
    everything = dict(model.named_parameters(remove_duplicate=False))
    first = {id(p): name for name, p in trainable.items()}
    chosen: dict[str, Tensor] = {}
    for given in params:
        found = [p for name, p in everything.items() if name == given or name.startswith(f"{given}.")]
        if not found:
            choose("parameter", given, everything)
        kept = {first[id(p)]: p for p in found if id(p) in first}
        if not kept:
            raise InputError(f"params: '{given}' is not trainable (requires_grad is False)")
        chosen |= kept
    if not chosen:
        raise InputError("params: names no parameter; leave it None for all trainable ones")
    return {name: p for name, p in trainable.items() if name in chosen}


def _check_model(model: nn.Module, wanted: dict[str, Tensor]) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            raise InputError(
                f"model: layer '{name}' normalises with the statistics of the batch, so an output depends on the "
                "other samples and has no tangent kernel of its own; call model.eval() or use another normalisation"
            )
    for name, p in wanted.items():
        if p.dtype not in (torch.float32, torch.float64):
            raise InputError(f"model: parameter '{name}' is {p.dtype}; expected float32 or float64, call model.float()")


def _check_inputs(name: str, X: Tensor, wanted: dict[str, Tensor]) -> Tensor:
    parameter = next(iter(wanted.values()))
    if not isinstance(X, Tensor) or X.dim() < 1 or len(X) < 1:
        raise InputError(f"{name}: expected a tensor of shape (n, ...) with n >= 1")
    if X.is_complex() or (X.is_floating_point() and X.dtype != parameter.dtype):
        raise InputError(f"{name}: has dtype {X.dtype}, the model {parameter.dtype}; convert one of them")
    if X.device != parameter.device:
        raise InputError(f"{name}: lies on {X.device}, the model on {parameter.device}; move one of them")
    return X.detach().clone() if X.is_inference() else X.detach()


def _apply(model: nn.Module, X: Tensor) -> Tensor:
    """The model's output as (n, c)."""
    try:
        out = model(X)
    except (RuntimeError, IndexError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"X: the model fails on inputs of shape {tuple(X.shape)} and {X.dtype}: {reason}") from error
    if not isinstance(out, Tensor) or out.dim() not in (1, 2) or len(out) != len(X):
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise InputError(f"model: expected outputs of shape ({len(X)},) or ({len(X)}, c), got {got}")
    return out.reshape(len(X), -1)


# ------------------------------------------------------------------------------------------------ structured


@dataclass
class _Job:
    """What every part of one computation needs to know."""

    model: nn.Module
    wanted: dict[str, Tensor]
    full: bool
    budget: int
    chunk: int | None

    def kernel(self, n: int, n2: int, c: int, like: Tensor) -> Tensor:
        """Zeros for the kernel, or an error that says what would fit."""
        size = n * n2 * like.element_size()
        needed = size * c**2 if self.full else size
        if needed > self.budget:
            hint = f"outputs='trace' needs {size / 2**20:.0f} MiB" if self.full and c > 1 else "take fewer samples"
            raise InputError(
                f"X: the kernel itself needs {needed / 2**20:.0f} MiB, the budget is {self.budget / 2**20:.0f} MiB; "
                f"{hint}, or raise TRAINDYN_MEMORY"
            )
        return like.new_zeros((n, c, n2, c) if self.full else (n, n2))


class _Pass:
    """One forward pass over some samples, and the gradients of each sample as its graph delivers them."""

    def __init__(self, job: _Job, X: Tensor, plan: Plan) -> None:
        X = X.clone()  # the graph must see where the data enter, and an in-place first layer must not see the caller's
        if X.is_floating_point():
            X.requires_grad_()
        self.job, self.plan, self.n = job, plan, len(X)
        self.out = _apply(job.model, X)
        self.graph: Trace = trace(self.out)
        self.edges = sorted({entry.edge for entry in plan.entries})

    def gradients(self, outputs: range) -> list[Outer | Callable[[int, int], Tensor]]:
        """What each group of connected parameters contributes: a weight's `Outer`, or a function that gives rows."""
        signals = [self._signals(output) for output in outputs]
        features = []
        for entry in self.plan.entries:
            node = self.graph.nodes[entry.node]
            at = self.edges.index(entry.edge)
            rule = RULES[node.name(), entry.slot]
            expr = self.graph.shape(*entry.expr)
            features.append(rule.build(node, [signal[at] for signal in signals], expr, entry.layout, self.n))
        return [self._join(names, [(self.plan.entries[i], features[i]) for i in group]) for names, group in self.groups]

    def _signals(self, output: int) -> list[Tensor]:
        edges = [GradientEdge(self.graph.nodes[edge], 0) for edge in self.edges]
        ones = torch.zeros_like(self.out)
        ones[:, output] = 1
        signals = torch.autograd.grad(self.out, edges, ones, retain_graph=True, allow_unused=True)
        return [
            self.out.new_zeros(self.graph.shape(edge)) if signal is None else signal
            for edge, signal in zip(self.edges, signals, strict=True)
        ]

    @property
    def groups(self) -> list[tuple[tuple[str, ...], list[int]]]:
        """Parameters that share an expression, directly or through others, with the entries of those expressions."""
        groups: list[tuple[set[str], list[int]]] = []
        for index, entry in enumerate(self.plan.entries):
            names, members = set(entry.names), [index]
            for other in [group for group in groups if group[0] & names]:
                groups.remove(other)
                names, members = names | other[0], other[1] + members
            groups.append((names, members))
        kept = [(tuple(n for n in self.job.wanted if n in names - self.plan.uncovered), m) for names, m in groups]
        return [(names, members) for names, members in kept if names]

    def _chain(self, entry: Entry) -> tuple[str, ...] | None:
        """Names of the views between a parameter and the operation that reads it; None if they are not all views."""
        index, chain = entry.expr[0], []
        while self.graph.children[index]:
            chain.append(self.graph.nodes[index].name())
            if chain[-1] not in _ISOMETRIES:
                return None
            index = self.graph.children[index][0][0]
        return tuple(chain)

    def _join(self, names: tuple[str, ...], uses: Sequence[tuple[Entry, Outer | Direct]]):
        entry, feature = uses[0]
        chain = self._chain(entry)
        if len(uses) == 1 and chain is not None:
            return feature if isinstance(feature, Outer) else lambda lo, hi: feature.gradients(lo, hi).flatten(2)
        alike = all(_alike(feature, other) and self._chain(use) == chain for use, other in uses)
        if alike and chain is not None and set(chain) <= {"TBackward0"}:
            # one weight read several times in the same way (a recurrent network): more positions of one layer
            return _joined([use for _, use in uses])
        leaves = [self.job.wanted[name] for name in names]

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
        node = self.graph.nodes[entry.expr[0]]
        if hasattr(node, "variable"):
            pulled = [gradients if leaf is node.variable else None for leaf in leaves]
        else:
            edge = GradientEdge(node, entry.expr[1])
            pulled = torch.autograd.grad(
                [edge], leaves, [gradients], retain_graph=True, allow_unused=True, is_grads_batched=True
            )
        zeros = gradients.new_zeros
        return torch.cat(
            [
                zeros(len(gradients), leaf.numel()) if grad is None else grad.reshape(len(gradients), -1)
                for grad, leaf in zip(pulled, leaves, strict=True)
            ],
            1,
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


def _structured(job: _Job, batches: list[Tensor], method: str) -> Tensor:
    X, X2 = batches[0], batches[-1]
    plan = plan_for(job.model, X, job.wanted, _apply)
    first = _Pass(job, X[: _block(job, plan, len(X))], plan)
    if first.graph.signature != plan.signature:
        plan = plan_for(job.model, X, job.wanted, _apply, fresh=True)
    if first.graph.signature != plan.signature:  # the network computes differently for another number of samples
        plan = Plan(first.graph.signature, [], set(job.wanted), plan.sample_bytes)
    if plan.uncovered and method == "structured":
        names = ", ".join(sorted(plan.uncovered))
        raise InputError(f"method: 'structured' has no rule for how the model uses {names}; take 'auto' or 'jacobian'")
    c = first.out.shape[1]
    K = job.kernel(len(X), len(X2), c, first.out)
    step = _block(job, plan, max(len(X), len(X2)), c)
    symmetric = len(batches) == 1
    if plan.entries:
        for lo in range(0, len(X), step):
            here = _Pass(job, X[lo : lo + step], plan) if lo or step != first.n else first
            for lo2 in range(lo if symmetric else 0, len(X2), step):
                there = here if symmetric and lo2 == lo else _Pass(job, X2[lo2 : lo2 + step], plan)
                block = _contract(job, here, there)
                if job.full:
                    K[lo : lo + step, :, lo2 : lo2 + step] = block
                    if symmetric and lo2 > lo:
                        K[lo2 : lo2 + step, :, lo : lo + step] = block.permute(2, 3, 0, 1)
                else:
                    K[lo : lo + step, lo2 : lo2 + step] = block
                    if symmetric and lo2 > lo:
                        K[lo2 : lo2 + step, lo : lo + step] = block.T
    if plan.uncovered:
        K += _jacobian(job, batches, [name for name in job.wanted if name in plan.uncovered])
    return K


def _block(job: _Job, plan: Plan, n: int, c: int = 1) -> int:
    """Samples in one block: what the user says, or what fits the budget."""
    if job.chunk is not None:
        return min(job.chunk, n)
    held = plan.sample_bytes * (1 + c if job.full else 2)
    return max(1, min(n, job.budget // max(1, 2 * held)))


@torch.no_grad()
def _contract(job: _Job, here: _Pass, there: _Pass) -> Tensor:
    """Kernel of one block of samples against another."""
    c = here.out.shape[1]
    total = here.out.new_zeros((here.n, c, there.n, c) if job.full else (here.n, there.n))
    # the signals of all outputs at once where they fit: the inputs' Gram matrices then serve them all
    held = max(1, here.plan.sample_bytes * max(here.n, there.n))
    group = c if job.full else max(1, min(c, job.budget // held))
    for start in range(0, c, group):
        outputs = range(start, min(start + group, c))
        mine = here.gradients(outputs)
        theirs = mine if there is here else there.gradients(outputs)
        for (names, _), u, v in zip(here.groups, mine, theirs, strict=True):
            if isinstance(u, Outer):
                total += outer_product(u, v, job.full, job.budget)
            else:
                size = sum(job.wanted[name].numel() for name in names) * len(outputs) * total.element_size()
                same = there is here
                total += row_product(u, here.n, None if same else v, there.n, size, job.full, job.budget)
    return total


# ------------------------------------------------------------------------------------------------ Jacobians


def _jacobian(job: _Job, batches: list[Tensor], names: list[str]) -> Tensor:
    """Kernel of the named parameters from per-sample Jacobians, in chunks."""
    with torch.no_grad():
        c = _apply(job.model, batches[0][:1]).shape[1]
    like = job.wanted[names[0]]
    X, X2 = batches[0], batches[-1]
    job.kernel(len(X), len(X2), c, like)
    rows = [_jacobian_rows(job, batch, names) for batch in batches]
    size = sum(job.wanted[name].numel() for name in names) * c * like.element_size()
    budget = job.budget if job.chunk is None else min(job.budget, 4 * size * job.chunk)
    return row_product(rows[0], len(X), None if len(batches) == 1 else rows[1], len(X2), size, job.full, budget)


def _jacobian_rows(job: _Job, X: Tensor, names: list[str]) -> Callable[[int, int], Tensor]:
    chosen = {name: job.wanted[name].detach() for name in names}

    def single(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(job.model, parameters, (x[None],)).reshape(-1)

    jacobian = torch.func.vmap(torch.func.jacrev(single), in_dims=(None, 0))

    def rows(lo: int, hi: int) -> Tensor:
        try:
            blocks = jacobian(chosen, X[lo:hi])
        except (RuntimeError, ValueError, NotImplementedError):  # an operation that torch cannot vectorise
            return torch.stack([_sample_jacobian(job, x, names) for x in X[lo:hi]])
        return torch.cat([block.flatten(2) for block in blocks.values()], 2)

    return rows


def _sample_jacobian(job: _Job, x: Tensor, names: list[str]) -> Tensor:
    """Jacobian of one sample by one backward pass per output: (c, P)."""
    leaves = [job.wanted[name] for name in names]
    lines = []
    for output in _apply(job.model, x[None])[0]:
        grads = torch.autograd.grad(output, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
        lines.append(torch.cat([grad.flatten() for grad in grads]))
    return torch.stack(lines)
