"""The autograd graph of one forward pass: every operation that reads a parameter, wherever it was called from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

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


# operations that send every sample to the same place whatever the data are: saved axes and sizes tell where
STEADY = frozenset(
    f"{name}Backward{number}"
    for number, names in {
        0: """
            Abs Acos Acosh AdaptiveAvgPool2D AdaptiveAvgPool3D AdaptiveMaxPool2D AdaptiveMaxPool3D Add Addbmm Addcdiv
            Addcmul Addmm Addmv Alias Amax Amin Asin Asinh Atan Atan2 Atanh AvgPool2D AvgPool3D Baddbmm Bmm Cat Ceil
            Celu Clamp ClampMax ClampMin Clone ConstantPadNd Convolution Copy CopySlices Cos Cosh Cumprod Cumsum
            Diagonal Div Dot Elu Embedding Erf Erfc Erfinv Exp Exp2 Expand Expm1 Flip Floor Gelu Glu HardswishBackward
            Hardshrink Hardsigmoid Hardswish Hardtanh Im2Col LeakyRelu Lerp Linear LinalgVectorNorm Log Log10 Log1P Log2
            LogSigmoid LogSoftmax Logaddexp Logcumsumexp Logsumexp MaskedFill Max MaxPool2DWithIndices
            MaxPool3DWithIndices Maximum Mean Min Minimum Mish Mm Mul Mv NanToNum NativeBatchNorm NativeGroupNorm
            NativeLayerNorm Neg Norm Permute PixelShuffle PixelUnshuffle Pow PreluKernel Prod Reciprocal ReflectionPad1D
            ReflectionPad2D ReflectionPad3D Relu Repeat ReplicationPad1D ReplicationPad2D ReplicationPad3D ReshapeAlias
            Roll Round Rsqrt ScaledDotProductEfficientAttention ScaledDotProductFlashAttention
            ScaledDotProductFlashAttentionForCpu Select Sgn Sigmoid Sign Silu Sin Sinc Sinh Slice Softmax Softplus
            Softshrink Split SplitWithSizes Sqrt Squeeze Stack Std Sub Sum T Tan Tanh Threshold ToCopy Transpose Tril
            Triu Unbind Unfold UnsafeSplit UnsafeView Unsqueeze UpsampleBicubic2D UpsampleBilinear2D UpsampleNearest1D
            UpsampleNearest2D Var View ViewAsReal
        """,
        1: "Clamp Expand Max Mean Min Pow Prod Std Sub Sum Squeeze Var Norm Add Mul Div Where",
        2: "Norm Squeeze",
    }.items()
    for name in names.split()
) | {"WhereBackward0", "FusedRmsNormBackward0", "SquareBackward0", "ToCopyBackward0"}


@cache
def _plain(kind: type) -> tuple[str, ...]:
    """Return the names under which an operation keeps numbers: axes, sizes, scalars; not tensors."""
    names = [name for name in dir(kind) if name.startswith("_saved_")]
    return tuple(name for name in names if f"_raw{name}" not in dir(kind))


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

    def details(self) -> tuple:
        """What the operations do, beside their names: axes, sizes, scalars that they keep, shapes of their outputs."""
        found = []
        for node in self.nodes:
            if hasattr(node, "variable"):
                found.append(node.variable.shape)
                continue
            shapes = tuple((tuple(kept.shape), kept.dtype) for kept in node._input_metadata)
            found.append((shapes, *(_hashable(getattr(node, name)) for name in _plain(type(node)))))
        return tuple(found)

    def is_real(self, index: int, output: int = 0) -> bool:
        """Whether an operation's output, or a leaf, holds real numbers."""
        node = self.nodes[index]
        dtype = node.variable.dtype if hasattr(node, "variable") else node._input_metadata[output].dtype
        return not dtype.is_complex

    def shape(self, index: int, output: int = 0) -> torch.Size:
        """Shape of an operation's output, or of a leaf."""
        node = self.nodes[index]
        return node.variable.shape if hasattr(node, "variable") else node._input_metadata[output].shape


def _hashable(value: object) -> object:
    return tuple(_hashable(item) for item in value) if isinstance(value, list | tuple) else value


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
