"""Fully connected, convolutional and two-layer networks, each in an explicit parameterisation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from traindyn.errors import InputError, choose
from traindyn.layers import ACTIVATIONS, Activation, draw
from traindyn.learn.models.base import Initial, Network, squeeze_single

SCALINGS = ("ntk", "lecture", "mean_field", "plain")
INNER = ("normal", "sphere", "balanced")
OUTER = ("normal", "sign", "zero", "balanced")


class FCN(Network):
    """A fully connected network f(x) = W_L s(W_{L-1} ... s(W_1 x)); out_dim = 1 returns shape (n,).

    Args:
        in_dim: input dimension d.
        width: hidden width, one integer or one per hidden layer (depth - 1 of them).
        depth: number of weight layers, >= 1.
        out_dim: number of outputs c.
        activation: name in `layers.ACTIVATIONS`.
        parameterization: "ntk" (W ~ N(0, init_std^2), multiplier 1/sqrt(fan_in), no sqrt(2)) or "standard".
        bias: biases of the hidden layers: False, "zero", "normal" or "torch".
        output_bias: the same for the last layer.
        init: law of the weights: "normal", "torch", "he" or "xavier".
        init_std: standard deviation sigma of the normal law.
        generator: CPU generator of the initial draw.

    Raises:
        InputError: depth < 1, or the list of widths does not fit the depth.
    """

    def __init__(
        self,
        in_dim: int,
        width: int | list[int] | tuple[int, ...],
        depth: int,
        out_dim: int = 1,
        activation: str = "relu",
        parameterization: str = "ntk",
        bias: bool | str = False,
        output_bias: bool | str = False,
        init: str = "normal",
        init_std: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise InputError(f"depth: expected at least 1 weight layer, got {depth}")
        widths = [width] * (depth - 1) if isinstance(width, int) else list(width)
        if len(widths) != depth - 1:
            raise InputError(f"width: expected one integer or {depth - 1} of them for depth {depth}, got {widths}")
        self.out_dim = out_dim
        start = Initial(parameterization, bias, output_bias, init, init_std, generator)
        layers: list[nn.Module] = []
        for fan_in, fan_out in zip([in_dim, *widths], widths, strict=False):
            layers += [start.linear(fan_in, fan_out), Activation(activation)]
        layers.append(start.readout([in_dim, *widths][-1], out_dim))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map x of shape (n, in_dim) to (n,) if out_dim is 1, else (n, out_dim)."""
        return squeeze_single(self.layers(x), self.out_dim)


class CNN(Network):
    """A convolutional network: depth - 1 convolutions of one kernel size with stride 1, then a linear layer.

    Args:
        in_shape: (channels, height, width) of the input.
        channels: channels of the hidden layers, one integer or one per convolution.
        depth: number of weight layers, >= 2, the linear one included.
        out_dim: number of outputs c.
        kernel: odd side of the kernels; zero padding keeps the image's size.
        readout: "flatten" (all positions and channels) or "mean" (over positions) before the linear layer.
        activation, parameterization, bias, output_bias, init, init_std: as in `FCN`.
        generator: CPU generator of the initial draw.

    Raises:
        InputError: depth < 2, channels that do not fit it, an even kernel, or an unknown readout.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        channels: int | list[int] | tuple[int, ...],
        depth: int,
        out_dim: int = 1,
        kernel: int = 3,
        readout: str = "flatten",
        activation: str = "relu",
        parameterization: str = "ntk",
        bias: bool | str = False,
        output_bias: bool | str = False,
        init: str = "normal",
        init_std: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        choose("readout", readout, ["flatten", "mean"])
        if depth < 2 or kernel % 2 == 0:
            raise InputError(f"depth, kernel: expected depth >= 2 and an odd kernel, got {depth} and {kernel}")
        widths = [channels] * (depth - 1) if isinstance(channels, int) else list(channels)
        if len(widths) != depth - 1:
            raise InputError(f"channels: expected one integer or {depth - 1} for depth {depth}, got {widths}")
        self.out_dim, self.pooled = out_dim, readout == "mean"
        start = Initial(parameterization, bias, output_bias, init, init_std, generator)
        layers: list[nn.Module] = []
        for fan_in, fan_out in zip([in_shape[0], *widths], widths, strict=False):
            layers += [start.conv(fan_in, fan_out, kernel), Activation(activation)]
        self.features = nn.Sequential(*layers)
        positions = 1 if self.pooled else in_shape[1] * in_shape[2]
        self.readout = start.readout(widths[-1] * positions, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map images of shape (n, channels, height, width) to (n,) if out_dim is 1, else (n, out_dim)."""
        x = self.features(x)
        return squeeze_single(self.readout(x.mean((-2, -1)) if self.pooled else x.flatten(1)), self.out_dim)


class Myrtle5(Network):
    """The five-layer Myrtle network (Page 2018; Shankar et al. 2020): four convolutions, pools, a linear layer.

    conv, conv, pool, conv, pool, conv, then a mean over all positions, and a linear layer; every convolution is 3x3
    and is followed by a ReLU, every pool is a 2x2 mean.

    Args:
        in_shape: (channels, height, width) of the input, height and width multiples of 4.
        out_dim: number of outputs c.
        channels: channels of every convolution.
        parameterization, bias, output_bias, init, init_std: as in `FCN`.
        generator: CPU generator of the initial draw.

    Raises:
        InputError: an image whose sides are not multiples of 4.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_dim: int = 1,
        channels: int = 256,
        parameterization: str = "ntk",
        bias: bool | str = False,
        output_bias: bool | str = False,
        init: str = "normal",
        init_std: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if in_shape[1] % 4 or in_shape[2] % 4:
            raise InputError(f"in_shape: expected a height and width divisible by 4, got {in_shape[1:]}")
        self.out_dim = out_dim
        start = Initial(parameterization, bias, output_bias, init, init_std, generator)
        layers: list[nn.Module] = []
        for index in range(4):
            fan_in = channels if index else in_shape[0]
            layers += [start.conv(fan_in, channels, 3), Activation("relu")]
            if index in (1, 2):
                layers.append(nn.AvgPool2d(2))
        self.features = nn.Sequential(*layers)
        self.readout = start.readout(channels, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map images of shape (n, channels, height, width) to (n,) if out_dim is 1, else (n, out_dim)."""
        return squeeze_single(self.readout(self.features(x).mean((-2, -1))), self.out_dim)


class TwoLayer(Network):
    """A two-layer network without biases, f(x) = factor * sum_j a_j s(inner_factor * w_j . x), in named scalings.

        scaling       factor       inner factor    where
        ntk           1/sqrt(m)    1/sqrt(d)       Zhu et al. 2024, Eq. 3.9
        lecture       1/sqrt(m)    1               kernel regime of the tangent-kernel lecture (alpha = sqrt(m))
        mean_field    1/m          1               alpha = 1
        plain         1            1               Barron functions, students and teachers

    Args:
        in_dim: input dimension d.
        width: number of hidden units m.
        out_dim: number of outputs c.
        train: "both", "first" (a is frozen) or "second" (random features).
        scaling: a name of the table.
        alpha: replaces `factor` by alpha / m, whatever the scaling.
        activation: a name of `layers.ACTIVATIONS`.
        inner: start of w_j: "normal" N(0, I), "sphere" (uniform on the unit sphere), "balanced" N(0, I/(m d)).
        outer: start of a_j: "normal" N(0, 1), "sign" (+-1), "zero", "balanced" N(0, 1/m).
        mirrored: the second half of the units copies the first with the opposite a_j, so that f starts at zero.
        generator: CPU generator of the initial draw.

    Attributes:
        first, second: linear layers with `weight` W of shape (m, d) and a of shape (c, m).
        factor, inner_factor: the two numbers above.

    Raises:
        InputError: an unknown name, or an odd width with `mirrored`.
    """

    def __init__(
        self,
        in_dim: int,
        width: int,
        out_dim: int = 1,
        train: str = "both",
        scaling: str = "ntk",
        alpha: float | None = None,
        activation: str = "relu",
        inner: str = "normal",
        outer: str = "normal",
        mirrored: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        choose("train", train, ["both", "first", "second"])
        choose("scaling", scaling, SCALINGS)
        if mirrored and width % 2:
            raise InputError(f"width: expected an even number of units for a mirrored start, got {width}")
        self.out_dim, self.mirrored = out_dim, mirrored
        self.inner, self.outer = choose("inner", inner, INNER), choose("outer", outer, OUTER)
        self.activation = choose("activation", activation, ACTIVATIONS)
        self.factor = {"mean_field": 1 / width, "plain": 1.0}.get(scaling, 1 / math.sqrt(width))
        if alpha is not None:
            self.factor = alpha / width
        self.inner_factor = 1 / math.sqrt(in_dim) if scaling == "ntk" else 1.0
        self.first = nn.utils.skip_init(nn.Linear, in_dim, width, bias=False).requires_grad_(train != "second")
        self.second = nn.utils.skip_init(nn.Linear, width, out_dim, bias=False).requires_grad_(train != "first")
        self.act = Activation(activation)
        self.reset(generator)

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draw the initial weights afresh from `generator` (a CPU generator; None: torch's global one)."""
        W, a = self.first.weight, self.second.weight
        width, in_dim = W.shape
        drawn = width // 2 if self.mirrored else width
        std = {"balanced": 1 / math.sqrt(width * in_dim)}.get(self.inner, 1.0)
        law, scale = {"zero": ("zero", 0.0), "balanced": ("normal", 1 / math.sqrt(width))}.get(
            self.outer, ("normal", 1.0)
        )
        with torch.no_grad():
            draw(W[:drawn], "normal", std, (in_dim, width), generator)
            draw(a[:, :drawn], law, scale, (width, self.out_dim), generator)
            if self.inner == "sphere":
                W[:drawn] = F.normalize(W[:drawn], dim=1)
            if self.outer == "sign":
                a[:, :drawn] = torch.where(a[:, :drawn] >= 0, 1.0, -1.0).to(a)
            if self.mirrored:
                W[drawn:] = W[:drawn]
                a[:, drawn:] = -a[:, :drawn]

    def forward(self, x: Tensor) -> Tensor:
        """Map x of shape (n, in_dim) to (n,) if out_dim is 1, else (n, out_dim)."""
        hidden = self.act(self.first(x) * self.inner_factor)
        return squeeze_single(self.second(hidden) * self.factor, self.out_dim)
