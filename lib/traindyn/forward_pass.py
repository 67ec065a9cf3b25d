"""Forward passes that leave no trace: other tensors in place of parameters, and networks that may be measured at all.

A measure (tangent kernel, input gradients, elasticity, expansion) asks for one number per sample and set of weights. So
a forward pass may not depend on chance or on lower precision around it, and whatever it changes is put back.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from traindyn.compute import seeded, strict_float32
from traindyn.errors import InputError

COUPLED = (
    "model: the output of one sample depends on the other samples of the batch, so nothing can be measured sample by "
    "sample; remove the coupling (batch statistics?) or put the layer in eval mode"
)
RANDOM = (
    "model: draws random numbers in its forward pass (dropout?), so its output is not a function of its input; "
    "call model.eval() first"
)


def call_with(model: nn.Module, tensors: Mapping[str, Tensor], *args: Any) -> Any:
    """Run a network with other tensors in place of its parameters and buffers.

    `torch.func.functional_call` leaves foreign tensors in a network that holds one module under two names; here every
    place in which a parameter is stored is filled once, and emptied once.

    Args:
        model: the network; it is as before afterwards.
        tensors: by the name of the parameter or buffer, any of its names; tied ones follow.
        args: inputs of the network.
    """
    return functional_call(
        model, {place: tensors[name] for place, name in places(model, tensors)}, args, tie_weights=False
    )


def places(model: nn.Module, names: Collection[str]) -> list[tuple[str, str]]:
    """Return every place of a network where a named parameter or buffer is stored, each once, with that name.

    A module under two names is one place; tied weights are several.

    Args:
        model: the network.
        names: of parameters and buffers, any of their names.
    """
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    called = {id(tensor): name for name, tensor in named if name in names}
    found = []
    for prefix, module in model.named_modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if id(tensor) in called:
                found.append((f"{prefix}.{name}" if prefix else name, called[id(tensor)]))
    return found


def check_module(model: nn.Module) -> None:
    """Raise an InputError if `model` is no module, or one of its layers changes weights whenever it is called."""
    if not isinstance(model, nn.Module):
        raise InputError(f"model: expected a torch.nn.Module, got {type(model).__name__}; wrap a function in a module")
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.max_norm is not None:
            raise InputError(
                f"model: layer '{name}' has max_norm, which rescales its weights in every forward pass; expected "
                "weights that stay; set max_norm=None"
            )


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Measure `model`: in full precision, with gradients, without hooks on parameters; buffers and chance are put back.

    Raises:
        InputError: at the end, if random numbers were drawn or parameters written inside.
    """
    parameters = list(model.parameters())
    devices = {p.device for p in parameters}
    cuda = [device for device in devices if device.type == "cuda"]
    places = [(module, name, b) for module in model.modules() for name, b in module._buffers.items() if b is not None]
    buffers = [(module, name, b, None if b.is_inference() else b._version) for module, name, b in places]
    saved = [b.clone() for _, _, b, _ in buffers]
    versions = [p._version for p in parameters if not p.is_inference()]
    hooks = [(p, p._backward_hooks) for p in parameters if p._backward_hooks]
    before = [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in cuda)]
    failed = True
    try:
        for p, _ in hooks:  # a hook that clips or scales gradients is the training's business
            p._backward_hooks = None
        with ExitStack() as stack:
            for kind in {"cpu", *(device.type for device in devices)}:
                stack.enter_context(torch.autocast(kind, enabled=False))
            stack.enter_context(strict_float32())
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            yield
        failed = False
    finally:
        for p, hook in hooks:
            p._backward_hooks = hook
        with torch.no_grad():
            for (module, name, b, version), values in zip(buffers, saved, strict=True):
                if version is None or b._version != version:
                    b.copy_(values)
                module._buffers[name] = b
        after = [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in cuda)]
        drawn = not all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
        if drawn:
            torch.set_rng_state(before[0])
            for device, state in zip(cuda, before[1:], strict=True):
                torch.cuda.set_rng_state(state, device)
    if drawn and not failed:
        raise InputError(RANDOM)
    if versions != [p._version for p in parameters if not p.is_inference()]:
        raise InputError("model: writes to its parameters in its forward pass; expected weights that stay")


def try_out(model: nn.Module, *args: Any, run: Callable[..., Any] = nn.Module.__call__) -> None:
    """Run a copy of `model` twice on a few inputs; raise if chance or what it remembers changes its output.

    The copy is what a forward pass that writes to weights would write to.

    Args:
        model: the network.
        args: its inputs.
        run: (model, *args) -> output, where a plain call is not enough.

    Raises:
        InputError: the two outputs differ, random numbers are drawn, or parameters are written to.
    """
    check_module(model)
    try:
        trial = copy.deepcopy(model)
    except (
        RuntimeError,
        TypeError,
        NotImplementedError,
    ):  # it holds what cannot be copied, a tensor with a history say
        trial = model
    with undisturbed(trial), torch.no_grad():
        first, second = (run(trial, *(a.clone() if isinstance(a, Tensor) else a for a in args)) for _ in range(2))
        if isinstance(first, Tensor) and not _same(first, second):
            raise InputError(
                "model: gives two different outputs for one input: it draws random numbers of its own or remembers the "
                "calls before (power iteration, running statistics); call model.eval() first"
            )


def plain(X: Tensor) -> Tensor:
    """Return X without history, and outside of inference mode."""
    return X.detach().clone() if X.is_inference() else X.detach()


def usable(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a network whose weights autograd may use: itself, or with copies of weights made in inference mode."""
    if not isinstance(model, nn.Module):
        return model
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if not any(t.is_inference() for t in tensors.values()):
        return model
    with torch.inference_mode(False):
        copies = {name: t.clone() for name, t in tensors.items()}
    return lambda X: call_with(model, copies, X)


def outputs(model: Callable[[Tensor], Tensor], X: Tensor, *, alone: bool = True) -> Tensor:
    """Return a network's outputs on X, or refuse it; its buffers and torch's generators are left as they were.

    Args:
        model: maps (n, ...) to (n,) or (n, c).
        X: inputs (n, ...).
        alone: whether each sample's output must not depend on the others.

    Raises:
        InputError: X is empty or does not fit the weights; the outputs are no such tensor, are drawn by chance, or
            depend on the other samples.
    """
    if not isinstance(X, Tensor) or X.dim() < 1 or not len(X):
        raise InputError(f"X: expected a tensor of shape (n, ...) with n >= 1, got {getattr(X, 'shape', type(X))}")
    if isinstance(model, nn.Module):
        for p in model.parameters():
            if p.is_floating_point() and X.is_floating_point() and p.dtype != X.dtype:
                raise InputError(f"X: has dtype {X.dtype}, the model {p.dtype}; convert one of them")
            if p.device != X.device:
                raise InputError(f"X: lies on {X.device}, the model on {p.device}; move one of them")
    X = plain(X)
    buffers = list(model.buffers()) if isinstance(model, nn.Module) else []
    before = [values.clone() for values in buffers]
    with torch.inference_mode(False), torch.no_grad():
        try:
            with seeded(0, X.device) as drawn:
                f = model(X.clone())
                by_chance = drawn()
            if by_chance:
                raise InputError(RANDOM)
            f = shaped(f, len(X))
            if alone and len(X) > 1:
                twins = shaped(model(X[[0, 0]].clone()), 2)
                bound = torch.finfo(f.dtype).eps ** 0.5 * f.abs().max()
                if f.isfinite().all() and not bool((twins[0] - f[0]).abs().max() <= bound):
                    raise InputError(COUPLED)
        finally:
            for values, old in zip(buffers, before, strict=True):
                values.copy_(old)
    return f


def shaped(f: object, n: int) -> Tensor:
    """Return outputs as (n,) or (n, c), also where a single sample lost its axis; or refuse them."""
    if isinstance(f, Tensor) and n == 1 and (f.dim() == 0 or f.dim() == 1 and len(f) != 1):
        f = f[None]
    if not isinstance(f, Tensor) or f.dim() not in (1, 2) or len(f) != n or not f.is_floating_point():
        got = f"{tuple(f.shape)} {f.dtype}" if isinstance(f, Tensor) else type(f).__name__
        raise InputError(f"model: expected an output of shape ({n},) or ({n}, c) for {n} samples, got {got}")
    return f


def _same(first: Tensor, second: Tensor) -> bool:
    """Whether two outputs are equal up to the rounding of sums in another order."""
    rounding = 64 * torch.finfo(first.dtype).eps if first.is_floating_point() else 0
    return first.shape == second.shape and bool(torch.allclose(first, second, rounding, 0.0, equal_nan=True))
