"""The empirical tangent kernel of any torch network, assembled layer by layer without a Jacobian."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from traindyn.compute import memory_budget
from traindyn.errors import InputError, NotFiniteError, choose
from traindyn.forward_pass import check_module, undisturbed
from traindyn.measure.ntk.jacobians import Job, jacobian_kernel
from traindyn.measure.ntk.passes import Pass
from traindyn.measure.ntk.plan import GraphChanged, NotProved, Plan, forget, plan_for
from traindyn.measure.ntk.products import Outer, outer_product, row_product

METHODS = ("auto", "structured", "jacobian")
OUTPUTS = ("trace", "full")


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
    Jacobians, and only they. Where that plan is new, or where samples may go ways of their own (indexing, sorting), a
    random combination of the gradients is compared with one ordinary backward pass of it, and the Jacobians answer if
    they differ. The model is not touched: no hooks, no gradients, buffers as before; callers may be under `no_grad`.

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
    if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1):
        raise InputError(f"chunk: expected a whole number of samples, at least 1, got {chunk!r}")
    check_module(model)
    wanted = _wanted(model, params)
    _check_model(model, wanted)
    with undisturbed(model):
        batches = [_check_inputs("X", X, wanted)] + ([] if X2 is None else [_check_inputs("X2", X2, wanted)])
        if X2 is not None and X2.shape[1:] != X.shape[1:]:
            raise InputError(
                f"X2: expected samples of shape {tuple(X.shape[1:])} like those of X, got {tuple(X2.shape[1:])}"
            )
        job = Job(model, wanted, outputs == "full", memory_budget(X.device), chunk)
        K = jacobian_kernel(job, batches, list(wanted)) if method == "jacobian" else _structured(job, batches, method)
    if not torch.isfinite(K).all():
        raise NotFiniteError("model: its tangent kernel holds NaN or infinity on X; has training diverged?")
    return K.flatten(2).flatten(0, 1)


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


# ------------------------------------------------------------------------------------------------ structured


def _structured(job: Job, batches: list[Tensor], method: str) -> Tensor:
    K, uncovered, refused = None, set(job.wanted), set()
    for attempt in range(3):
        try:
            K, uncovered = _in_blocks(job, batches, refused)
            break
        except GraphChanged:  # the network computes in another way each time, or for each number of samples
            break
        except NotProved as wrong:  # at first the plan may be of another time; then some parameters are left out
            forget(job.model)
            refused = refused | wrong.names if attempt else refused
    if uncovered and method == "structured":
        names = ", ".join(sorted(uncovered))
        raise InputError(f"method: 'structured' has no rule for how the model uses {names}; take 'auto' or 'jacobian'")
    if uncovered:
        rest = jacobian_kernel(job, batches, [name for name in job.wanted if name in uncovered])
        K = rest if K is None else K + rest
    return K


def _in_blocks(job: Job, batches: list[Tensor], refused: set[str]) -> tuple[Tensor, set[str]]:
    """What the rules contribute, block of samples by block of samples, and the parameters that they do not cover.

    Args:
        job, batches: what is computed.
        refused: parameters for which the rules were seen to be wrong.
    """
    X, X2 = batches[0], batches[-1]
    symmetric = len(batches) == 1
    plan = plan_for(job.model, X, job.wanted)
    plan.uncovered |= refused
    K = job.kernel(len(X), len(X2), plan.outputs, X if X.is_floating_point() else next(iter(job.wanted.values())))
    if not plan.entries:
        return K, plan.uncovered
    uncovered: set[str] | None = None

    def send(samples: Tensor) -> Pass:
        nonlocal uncovered
        made = Pass(job.model, samples, job.wanted)
        made.plan.uncovered |= refused
        uncovered = made.plan.uncovered if uncovered is None else uncovered
        if made.plan.uncovered != uncovered:
            raise GraphChanged
        return made

    step = _block_size(job, plan, batches)
    for lo in range(0, len(X), step):
        here = send(X[lo : lo + step])
        for lo2 in range(lo if symmetric else 0, len(X2), step):
            same = symmetric and lo2 == lo
            there = here if same else send(X2[lo2 : lo2 + step])
            block = _contract(job, here, there)
            K[lo : lo + step, :, lo2 : lo2 + step] = block
            if symmetric and not same:
                K[lo2 : lo2 + step, :, lo : lo + step] = block.permute(2, 3, 0, 1)
    return K, uncovered


def _block_size(job: Job, plan: Plan, batches: list[Tensor]) -> int:
    """Samples in one block: what the user says, all where they fit the budget, else what fits it twice (two meet)."""
    longest = max(len(batch) for batch in batches)
    if job.chunk is not None:
        return min(job.chunk, longest)
    held = max(1, plan.sample_bytes * (1 + plan.outputs) // 2 if job.full else plan.sample_bytes)
    if held * sum(len(batch) for batch in batches) <= job.budget:
        return longest
    return max(1, min(longest, job.budget // (2 * held)))


@torch.no_grad()
def _contract(job: Job, here: Pass, there: Pass) -> Tensor:
    """Kernel of one block of samples against another."""
    c = here.plan.outputs
    total = job.kernel(here.n, there.n, c, here.out)
    # the signals of all outputs at once where they fit: the inputs' Gram matrices then serve them all
    held = max(1, here.plan.sample_bytes * max(here.n, there.n))
    group = c if job.full else max(1, min(c, job.budget // held))
    for start in range(0, c, group):
        outputs = range(start, min(start + group, c))
        mine = here.gradients(outputs)
        theirs = mine if there is here else there.gradients(outputs)
        for names, u in mine.items():
            v = theirs[names]
            if isinstance(u, Outer) != isinstance(v, Outer):
                raise GraphChanged
            if isinstance(u, Outer):
                total += outer_product(u, v, job.full, job.budget)
            else:
                size = sum(job.wanted[name].numel() for name in names) * len(outputs) * total.element_size()
                total += row_product(u, here.n, None if v is u else v, there.n, size, job.full, job.budget)
    for made in (here, there):
        if made.steady:
            made.plan.proved.add(made.details)
    return total
