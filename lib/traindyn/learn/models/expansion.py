"""A network's second-order expansion by reverse mode alone: slow, and what the faster ways are compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from traindyn.forward_pass import call_with


def expansion(
    network: nn.Module, weights: dict[str, Tensor], direction: dict[str, Tensor], x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return f, df and d^2 f of a network at `weights` along `direction`, by reverse over reverse mode.

    Forward mode is wrong, without a word, for some operations of torch (2.13: `linalg.solve`, fused norms, ...).

    Args:
        network: any module whose operations torch can differentiate twice backwards.
        weights: its parameters at the expansion point, by name.
        direction: the step, of the same names and shapes; the results can be differentiated with respect to it.
        x: inputs, (n, ...).

    Returns:
        f(w), sum_a d_a f v_a, and sum_ab d_ab f v_a v_b, each of the output's shape.
    """
    like = next(iter(weights.values()))
    t = torch.zeros((), dtype=like.dtype, device=like.device, requires_grad=True)
    moved = call_with(network, {name: weight + t * direction[name] for name, weight in weights.items()}, x)
    probe = torch.zeros_like(
        moved, requires_grad=True
    )  # d/dprobe of a derivative of <probe, f> is that of every output

    def derivative(values: Tensor) -> Tensor:
        if not values.requires_grad:
            return torch.zeros_like(values)
        (slope,) = torch.autograd.grad((values * probe).sum(), t, create_graph=True, allow_unused=True)
        if slope is None or not slope.requires_grad:
            return torch.zeros_like(values)
        (found,) = torch.autograd.grad(slope, probe, create_graph=True, allow_unused=True)
        return torch.zeros_like(values) if found is None else found

    first = derivative(moved)
    return moved, first, derivative(first)


def random_direction(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return standard normal tensors like `weights`, the same at every call."""
    rng = torch.Generator().manual_seed(0)
    return {name: torch.randn(w.shape, dtype=torch.float64, generator=rng).to(w) for name, w in weights.items()}
