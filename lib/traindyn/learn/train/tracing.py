"""A training step as a list of tensor operations: recorded once, rewritten where products are slow, replayed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from traindyn.errors import InputError

_ATEN = torch.ops.aten
_PRODUCTS = (_ATEN.mm.default, _ATEN.bmm.default)
_FOR_AUTOGRAD = (_ATEN.detach.default, _ATEN.alias.default)  # nothing is differentiated during a replay
SKINNY = 8  # a product with this many times more rows than columns is formed as its transpose

Step = Callable[..., tuple[Tensor, ...]]


def record(step: Step, tensors: list[Tensor]) -> tuple[Step, str]:
    """Return `step` as a replayable list of operations for tensors of these shapes, and why it is not one.

    The list holds what the step did with these tensors: Python code inside it is not run again. A step whose
    operations cannot be recorded is returned as it is, with the reason; else the reason is empty.

    Args:
        step: a function of tensors that returns a tuple of tensors; it may differentiate inside.
        tensors: an example of its arguments.

    Raises:
        InputError: raised by the step itself.
    """
    try:
        recorded = make_fx(step)(*tensors)
    except (InputError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a module does that cannot be recorded: it is then run as it is written
        return step, f"cannot be recorded: {reason(error)}"
    plain = recorded.forward  # the code as it was recorded; rewriting compiles another one
    try:
        _rewrite(recorded)
        recorded(*tensors)
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError:  # a view that the rewritten product's layout does not allow
        return plain, ""
    return recorded.forward, ""


def reason(error: Exception) -> str:
    """Return an error as one short line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


def agree(some: list[Tensor], others: list[Tensor]) -> bool:
    """Return whether two passes gave the same numbers, up to the rounding that another order of operations leaves."""
    for a, b in zip(some, others, strict=True):
        if not a.is_floating_point():
            if not torch.equal(a, b):
                return False
            continue
        bound = torch.finfo(a.dtype).eps ** 0.5
        scale = b.abs().nan_to_num(posinf=0.0).max().item() if b.numel() else 0.0
        if not torch.allclose(a, b, rtol=bound, atol=bound * scale, equal_nan=True):
            return False
    return True


def _shape(node: fx.Node) -> torch.Size | None:
    known = node.meta.get("val", node.meta.get("tensor_meta"))
    return getattr(known, "shape", None)


def _rewrite(module: fx.GraphModule) -> None:
    """Rewrite products A B of matrices (or of stacks of them) that the CPU's libraries are slow at.

    An outer product (one column times one row) is an elementwise multiplication; a product with few columns and many
    rows is the transpose of B^T A^T, whose long side lies along memory. Both hold exactly.
    """
    graph = module.graph
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in _FOR_AUTOGRAD:
            node.replace_all_uses_with(node.args[0])
        elif node.target is _ATEN._to_copy.default and isinstance(node.args[0], int | float):
            # vmap writes a number beside a scalar as a tensor on the CPU; the operations take the number itself
            for user in list(node.users):
                user.args = fx.map_arg(user.args, lambda arg, node=node: node.args[0] if arg is node else arg)
        elif node.target in _PRODUCTS:
            left, right = node.args
            shapes = _shape(left), _shape(right)
            if None in shapes:
                continue
            rows, inner, columns = *shapes[0][-2:], shapes[1][-1]
            with graph.inserting_before(node):
                if inner == 1:
                    new = graph.call_function(_ATEN.mul.Tensor, (left, right))
                elif columns <= 32 and rows >= SKINNY * columns:
                    swapped = [graph.call_function(_ATEN.transpose.int, (part, -2, -1)) for part in (right, left)]
                    product = graph.call_function(node.target, tuple(swapped))
                    new = graph.call_function(_ATEN.transpose.int, (product, -2, -1))
                else:
                    continue
            node.replace_all_uses_with(new)
    graph.eliminate_dead_code()
    graph.lint()
    module.recompile()
