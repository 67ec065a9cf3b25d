"""The passes of `relu.Relu` for any network, by automatic differentiation: for convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from traindyn.compute import generator
from traindyn.learn.models import CNN, Myrtle5
from traindyn.measure.agop import agop
from traindyn.measure.ntk import empirical_ntk
from traindyn.studies.agop.training import Task


def network(seed: int, task: Task, size: Any, dtype: torch.dtype) -> Traced:
    """Draw a convolutional network without biases in NTK parameterisation, flattened before its last layer.

    Args:
        seed: of the weights.
        task: inputs (n, d), square images with one or three colours.
        size: attributes width (channels) and depth (weight layers).
        dtype: of the weights.
    """
    shape = _shape(task)
    return Traced(CNN(shape, size.width, size.depth, generator=generator(seed, "init")).to(dtype), shape)


def myrtle(seed: int, task: Task, size: Any, dtype: torch.dtype) -> Traced:
    """Draw a Myrtle-5 without biases in NTK parameterisation, with one output per class.

    Args:
        seed: of the weights.
        task: inputs (n, d), square images with one or three colours; targets (n, classes).
        size: attributes width (channels) and subset (images on which the critical rate is taken).
        dtype: of the weights.
    """
    shape = _shape(task)
    model = Myrtle5(shape, task.y.shape[1], size.width, generator=generator(seed, "init"))
    return Traced(model.to(dtype), shape, size.subset)


def _shape(task: Task) -> tuple[int, int, int]:
    d = task.X.shape[1]
    colours = 1 if math.isqrt(d) ** 2 == d else 3
    side = math.isqrt(d // colours)
    return colours, side, side


class Traced:
    """A network on flat images, with the interface that `training` and `ladders` use.

    Args:
        model: maps (n, *shape) to (n,) or (n, classes); its weights are trained in place.
        shape: of one input.
        subset: inputs at most on which `critical` takes the kernel.
    """

    def __init__(self, model: nn.Module, shape: tuple[int, ...], subset: int | None = None) -> None:
        self.model, self.shape, self.subset = model, shape, subset
        self.state = [part.data for part in model.parameters()]

    def copy(self) -> list[Tensor]:
        """Return a copy of the weights, for `restore`."""
        return [part.clone() for part in self.state]

    def restore(self, kept: Sequence[Tensor]) -> None:
        """Set the weights to a copy."""
        for part, value in zip(self.state, kept, strict=True):
            part.copy_(value)

    def __call__(self, X: Tensor) -> Tensor:
        """Return the outputs (n,) or (n, classes) of inputs (n, d)."""
        with torch.no_grad():
            return torch.cat([self.model(part.unflatten(1, self.shape)) for part in X.split(500)])

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs with their graph, and without."""
        with torch.enable_grad():
            out = self.model(X.unflatten(1, self.shape))
        return out, out.detach()

    def backward(self, held: Tensor, seed: Tensor) -> list[Tensor]:
        """Return the gradient of sum_i seed_i . f(x_i)."""
        return list(torch.autograd.grad(held, list(self.model.parameters()), seed))

    def gradients(self, held: Tensor, signals: list[Tensor]) -> list[Tensor]:
        """Return the gradients that `backward` has found."""
        return signals

    def descend(self, held: Tensor, signals: Sequence[Tensor], lr: float) -> None:
        """Subtract lr times the gradient."""
        for part, gradient in zip(self.state, signals, strict=True):
            part.sub_(gradient, alpha=lr)

    def agop(self, X: Tensor) -> Tensor:
        """Return the average outer product of the input gradients, (d, d)."""
        return agop(self.model, X.unflatten(1, self.shape))

    def critical(self, X: Tensor) -> float:
        """Return n / ||K|| on X, or on its first `subset` inputs."""
        X = X[: self.subset]
        with torch.no_grad():
            K = empirical_ntk(self.model, X.unflatten(1, self.shape), outputs="full").double()
        return float(len(X) / torch.linalg.eigvalsh(K)[-1])
