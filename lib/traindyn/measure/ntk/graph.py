"""The autograd graph of one forward pass: every operation that reads a parameter, wherever it was called from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from traindyn.errors import InputError

# views that rearrange a parameter or pick a part of it: they leave inner products of its gradients as they are
ISOMETRIES = {
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
VIEWS = ISOMETRIES - {"CloneBackward0"} | {"ExpandBackward0", "UnbindBackward0"}


@dataclass
class Trace:
    """The autograd graph of one forward pass, children before parents.

    `nodes[i]` has the children `children[i]`, a list with one entry per input: (index, output number) or None.
    """

    nodes: list[Node]
    children: list[list[tuple[int, int] | None]]

    @property
    def signature(self) -> tuple:
        """What two passes must share for one plan to serve both: the operations and how they are joined."""
        return tuple((node.name(), tuple(children)) for node, children in zip(self.nodes, self.children, strict=True))

    def shape(self, index: int, output: int = 0) -> torch.Size:
        """Shape of an operation's output, or of a leaf."""
        node = self.nodes[index]
        return node.variable.shape if hasattr(node, "variable") else node._input_metadata[output].shape


def trace(out: Tensor) -> Trace:
    """Return the autograd graph below `out` in a fixed order (depth first, children before parents)."""
    order: dict[Node, int] = {}
    nodes: list[Node] = []
    children: list[list[tuple[int, int] | None]] = []
    stack: list[tuple[Node, bool]] = [(out.grad_fn, False)] if out.grad_fn is not None else []
    while stack:
        node, expanded = stack.pop()
        if node in order:
            continue
        below = node.next_functions
        if expanded:
            order[node] = len(nodes)
            nodes.append(node)
            children.append([None if child is None else (order[child], nr) for child, nr in below])
        else:
            stack.append((node, True))
            stack += [(child, False) for child, _ in reversed(below) if child is not None and child not in order]
    return Trace(nodes, children)


def apply_model(model: nn.Module, X: Tensor) -> Tensor:
    """Return the model's outputs on X as (n, c).

    Args:
        model: any network.
        X: inputs, shape (n, ...).

    Raises:
        InputError: the model fails on X, or its output is not of shape (n,) or (n, c).
    """
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


def forward(model: nn.Module, X: Tensor) -> tuple[Tensor, Tensor]:
    """Return the leaf at which the data enter the graph (X itself where it holds tokens) and the outputs (n, c)."""
    leaf = X.detach().contiguous()  # how torch flattens axes depends on the memory's order, and a plan on that
    if not leaf.is_floating_point():
        return leaf, apply_model(model, leaf)
    leaf.requires_grad_()
    return leaf, apply_model(model, leaf.clone())  # a copy: the model may work in place
