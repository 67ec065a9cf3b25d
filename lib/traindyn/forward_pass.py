"""Forward passes that leave no trace: other tensors in place of parameters, and networks that may be measured at all.

A measure (tangent kernel, input gradients, elasticity, expansion) asks for one number per sample and set of weights. So
a forward pass may not depend on chance or on lower precision around it, and whatever it changes is put back.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from traindyn.errors import InputError

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
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    replaced = {id(old): tensors[name] for name, old in named if name in tensors}
    places = {}
    for prefix, module in model.named_modules():
        for name, old in [*module._parameters.items(), *module._buffers.items()]:
            if id(old) in replaced:
                places[f"{prefix}.{name}" if prefix else name] = replaced[id(old)]
    return functional_call(model, places, args, tie_weights=False)


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


def _same(first: Tensor, second: Tensor) -> bool:
    """Whether two outputs are equal up to the rounding of sums in another order."""
    rounding = 64 * torch.finfo(first.dtype).eps if first.is_floating_point() else 0
    return first.shape == second.shape and bool(torch.allclose(first, second, rounding, 0.0, equal_nan=True))
