"""One rule per operation: the gradient of each sample with respect to the expression of parameters that entered it.

A rule reads what autograd saved for the operation (its inputs, its statistics) and the signals that came back to its
output; `covers` says whether it knows this kind of operation, `fits` whether the sample axis lies where it must.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn import functional as F

from traindyn.measure.ntk.products import Direct, Outer

GROUPED = 256  # positions from which torch's grouped convolution beats products of patches on a CPU; measured
Layout = tuple[int, bool]  # (axis, whether the sample index runs fastest along it)


def samples_first(tensor: Tensor, layout: Layout, n: int) -> Tensor:
    """Split the sample axis (size n * T) off: shape (n, *shape) with T where n * T stood."""
    dim, minor = layout
    return tensor.unflatten(dim, (-1, n) if minor else (n, -1)).movedim(dim + minor, 0)


def _outputs(signals: list[Tensor]) -> Tensor:
    """Join the signals of the outputs along a new axis 1; a view where there is one output."""
    return signals[0][:, None] if len(signals) == 1 else torch.stack(signals, 1)


@dataclass(frozen=True)
class MatmulRule:
    """x @ W or W @ x, plain or batched: W arrives at one slot, the other factor was saved by the operation."""

    saved: str
    weight_first: bool = False
    scale: str | None = None

    def covers(self, node: Node) -> bool:
        return True

    def fits(self, out: torch.Size, expr: torch.Size, layout: Layout) -> bool:
        return layout[0] == (len(out) - 1 if self.weight_first else len(out) - 2)

    def build(self, node: Node, signals: list[Tensor], expr: torch.Size, layout: Layout, n: int) -> Outer:
        rows = (1, layout[1])  # after bringing every factor to (groups, rows, features)

        def arrange(tensor: Tensor) -> Tensor:
            tensor = tensor.mT if self.weight_first else tensor
            return samples_first(tensor[None] if tensor.dim() == 2 else tensor, rows, n)

        a = arrange(getattr(node, self.saved))
        s = _outputs([arrange(signal) for signal in signals]) if len(signals) > 1 else arrange(signals[0])[:, None]
        if self.scale is not None and (scale := getattr(node, self.scale)) != 1:
            s = s * scale
        order = "sa" if self.weight_first else "as"
        return Outer(lambda lo, hi: a[lo:hi], s, a.shape[-1], order, expr)


@dataclass(frozen=True)
class MatvecRule:
    """x @ v with a vector v of parameters."""

    def covers(self, node: Node) -> bool:
        return True

    def fits(self, out: torch.Size, expr: torch.Size, layout: Layout) -> bool:
        return True

    def build(self, node: Node, signals: list[Tensor], expr: torch.Size, layout: Layout, n: int) -> Direct:
        a = node._saved_self
        return Direct(_outputs([samples_first(s[:, None] * a, layout, n).sum(1) for s in signals]))


@dataclass(frozen=True)
class LinearRule:
    """A fused linear layer with weight (out, in) and positions in any leading axes (Apple's GPU keeps it whole)."""

    def covers(self, node: Node) -> bool:
        return True

    def fits(self, out: torch.Size, expr: torch.Size, layout: Layout) -> bool:
        return layout[0] < len(out) - 1

    def build(self, node: Node, signals: list[Tensor], expr: torch.Size, layout: Layout, n: int) -> Outer:
        def arrange(tensor: Tensor) -> Tensor:
            return samples_first(tensor, layout, n).reshape(n, 1, -1, tensor.shape[-1])

        a = arrange(node._saved_input)
        return Outer(lambda lo, hi: a[lo:hi], _outputs([arrange(s) for s in signals]), a.shape[-1], "sa", expr)


@dataclass(frozen=True)
class ConvRule:
    """A convolution over one or two axes is a linear layer on patches."""

    def covers(self, node: Node) -> bool:
        return not node._saved_transposed and node._saved_input.dim() in (3, 4)

    def fits(self, out: torch.Size, expr: torch.Size, layout: Layout) -> bool:
        return layout == (0, False)

    def build(self, node: Node, signals: list[Tensor], expr: torch.Size, layout: Layout, n: int) -> Outer:
        x, groups = node._saved_input, node._saved_groups
        line = x.dim() == 3
        grid = [[1, *v] if line else list(v) for v in (node._saved_stride, node._saved_dilation)]
        padding = [0, *node._saved_padding] if line else list(node._saved_padding)
        kernel = [1, expr[2]] if line else list(expr[2:])
        width = math.prod(expr[1:])
        pointwise = math.prod(kernel) == 1 and not any(padding)

        def patches(lo: int, hi: int) -> Tensor:
            part = x[lo:hi, :, None] if line else x[lo:hi]
            if pointwise:
                part = part[:, :, :: grid[0][0], :: grid[0][1]].flatten(2)
            else:
                part = F.unfold(part, kernel, dilation=grid[1], padding=padding, stride=grid[0])
            return part.unflatten(1, (groups, width)).mT

        back = _outputs(signals)

        def blocks(lo: int, hi: int, group: int, rows: slice) -> Tensor:
            # the gradient of a grouped convolution with one group per sample and output
            m, c = hi - lo, back.shape[1]
            s = back[lo:hi].unflatten(2, (groups, -1))[:, :, group, rows]
            part = x[lo:hi].unflatten(1, (groups, -1))[:, None, group].expand(-1, c, *[-1] * (x.dim() - 1))
            shape = (m * c * s.shape[2], *expr[1:])
            conv = (node._saved_stride, node._saved_padding, node._saved_dilation)
            weight = torch.ops.aten.convolution_backward(
                s.reshape(1, -1, *s.shape[3:]),
                part.reshape(1, -1, *x.shape[2:]),
                s.new_empty(1).expand(shape),
                None,
                *conv,
                False,
                [0] * len(conv[0]),
                m * c,
                [False, True, False],
            )[1]
            return weight.view(m, c, -1, width)

        grouped = x.device.type == "cpu" and back[0, 0, 0].numel() >= GROUPED
        s = back.flatten(3).unflatten(2, (groups, -1)).mT
        return Outer(patches, s, width, "sa", expr, blocks=blocks if grouped else None)


@dataclass(frozen=True)
class EmbeddingRule:
    """A table looked up by tokens: a linear layer on one-hot inputs, never written out."""

    def covers(self, node: Node) -> bool:
        return not node._saved_scale_grad_by_freq

    def fits(self, out: torch.Size, expr: torch.Size, layout: Layout) -> bool:
        return layout[0] < len(out) - 1

    def build(self, node: Node, signals: list[Tensor], expr: torch.Size, layout: Layout, n: int) -> Outer:
        tokens = samples_first(node._saved_indices, layout, n).reshape(n, 1, -1)
        s = _outputs([samples_first(g, layout, n).reshape(n, 1, -1, expr[1]) for g in signals])
        padding = node._saved_padding_idx
        if 0 <= padding < expr[0]:
            s = s * (tokens != padding)[:, None, :, :, None]
        return Outer(lambda lo, hi: tokens[lo:hi], s, 1, "as", expr, tokens=expr[0])


def _no_factor(node: Node) -> None:
    return None


@dataclass(frozen=True)
class BroadcastRule:
    """An elementwise operation y = factor * parameter + ..., the parameter broadcast over the other axes."""

    factor: Callable[[Node], Tensor | float | None] = _no_factor
    channels: bool = False  # the parameter belongs to axis 1, not to the last axes

    def covers(self, node: Node) -> bool:
        return True

    def _aligned(self, out_dim: int, expr: torch.Size) -> list[int]:
        """Shape of the parameter with ones for the axes over which it is broadcast."""
        if self.channels:
            return [1, expr[0], *[1] * (out_dim - 2)]
        return [1] * (out_dim - len(expr)) + list(expr)

    def fits(self, out: torch.Size, expr: torch.Size, layout: Layout) -> bool:
        return len(expr) <= len(out) and self._aligned(len(out), expr)[layout[0]] == 1

    def build(self, node: Node, signals: list[Tensor], expr: torch.Size, layout: Layout, n: int) -> Direct:
        factor = self.factor(node)
        aligned = self._aligned(signals[0].dim(), expr)

        def reduce(signal: Tensor) -> Tensor:
            split = samples_first(signal if factor is None else signal * factor, layout, n)
            axes = [1 + axis for axis, size in enumerate(aligned) if size == 1]
            return (split.sum(axes) if axes else split).reshape(n, *expr)

        return Direct(_outputs([reduce(signal) for signal in signals]))


def _layer_normed(node: Node) -> Tensor:
    return (node._saved_input - node._saved_result1) * node._saved_result2


def _group_normed(node: Node) -> Tensor:
    x = node._saved_input
    grouped = x.reshape(len(x), node._saved_group, -1)
    return ((grouped - node._saved_result1[..., None]) * node._saved_result2[..., None]).reshape(x.shape)


def _batch_normed(node: Node) -> Tensor:
    x = node._saved_input
    shape = (1, -1, *[1] * (x.dim() - 2))
    scale = (node._saved_running_var + node._saved_eps).rsqrt()
    return (x - node._saved_running_mean.reshape(shape)) * scale.reshape(shape)


class _EvalNormRule(BroadcastRule):
    """Batch normalisation with stored statistics is an affine map; with batch statistics there is no rule."""

    def covers(self, node: Node) -> bool:
        return not node._saved_training


RULES = {
    ("MmBackward0", 1): MatmulRule("_saved_self"),
    ("MmBackward0", 0): MatmulRule("_saved_mat2", weight_first=True),
    ("BmmBackward0", 1): MatmulRule("_saved_self"),
    ("BmmBackward0", 0): MatmulRule("_saved_mat2", weight_first=True),
    ("AddmmBackward0", 2): MatmulRule("_saved_mat1", scale="_saved_alpha"),
    ("AddmmBackward0", 0): BroadcastRule(lambda node: node._saved_beta),
    ("MvBackward0", 1): MatvecRule(),
    ("LinearBackward0", 1): LinearRule(),
    ("LinearBackward0", 2): BroadcastRule(),
    ("ConvolutionBackward0", 1): ConvRule(),
    ("ConvolutionBackward0", 2): BroadcastRule(channels=True),
    ("EmbeddingBackward0", 0): EmbeddingRule(),
    ("ExpandBackward0", 0): BroadcastRule(),
    ("AddBackward0", 0): BroadcastRule(),
    ("AddBackward0", 1): BroadcastRule(lambda node: node._saved_alpha),
    ("SubBackward0", 0): BroadcastRule(),
    ("SubBackward0", 1): BroadcastRule(lambda node: -node._saved_alpha),
    ("MulBackward0", 0): BroadcastRule(lambda node: node._saved_other),
    ("MulBackward0", 1): BroadcastRule(lambda node: node._saved_self),
    ("DivBackward0", 1): BroadcastRule(lambda node: -node._saved_self / node._saved_other**2),
    ("NativeLayerNormBackward0", 1): BroadcastRule(_layer_normed),
    ("NativeLayerNormBackward0", 2): BroadcastRule(),
    ("NativeGroupNormBackward0", 1): BroadcastRule(_group_normed, channels=True),
    ("NativeGroupNormBackward0", 2): BroadcastRule(channels=True),
    ("NativeBatchNormBackward0", 1): _EvalNormRule(_batch_normed, channels=True),
    ("NativeBatchNormBackward0", 2): _EvalNormRule(channels=True),
    ("PreluKernelBackward0", 1): BroadcastRule(lambda node: node._saved_self.clamp(max=0)),
}
