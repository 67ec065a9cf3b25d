"""Residual networks without batch statistics, so that one sample's gradient does not depend on the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from traindyn.errors import InputError, choose
from traindyn.layers import Activation, GroupNorm
from traindyn.learn.models.base import Initial, Network, squeeze_single

STEMS = ("3x3", "7x7")


class _Residual(nn.Module):
    """Two 3x3 convolutions with a skip connection and no normalisation: s(conv(s(conv(x))) + shortcut(x))."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, start: Initial) -> None:
        super().__init__()
        self.first = start.conv(channels_in, channels_out, 3, stride=stride)
        self.second = start.conv(channels_out, channels_out, 3)
        self.inner, self.outer = Activation("relu"), Activation("relu")
        reshaped = stride != 1 or channels_in != channels_out
        self.shortcut = start.conv(channels_in, channels_out, 1, stride=stride, padding=0) if reshaped else None

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.shortcut is None else self.shortcut(x)
        return self.outer(self.second(self.inner(self.first(x))) + skip)


class ResNet(Network):
    """A residual network without normalisation layers, for images of any size.

    A stem, stages of residual blocks that double the channels and halve the side, a mean over positions and a linear
    layer (He, Zhang, Ren, Sun 2016). The stem "3x3" is a convolution of stride 1, their form for 32x32 images; "7x7" is
    a convolution of stride 2 and a maximum over 3x3 of stride 2, their form for large ones. Without batch normalisation
    the gradient of one sample does not depend on the others, which the fictitious updates of local elasticity need.

    Args:
        in_shape: (channels, height, width) of the input.
        out_dim: number of outputs.
        width: channels of the first stage.
        blocks: residual blocks in each stage; ResNet-18 has (2, 2, 2, 2).
        parameterization, init, init_std, bias: as in `FCN`; the defaults are torch's own initial laws.
        stem: "3x3" or "7x7".
        output_init: initial law of the linear layer; None: as `init`.
        generator: CPU generator of the initial draw.

    Raises:
        InputError: an unknown stem.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_dim: int,
        width: int = 64,
        blocks: tuple[int, ...] = (2, 2, 2, 2),
        parameterization: str = "standard",
        bias: bool | str = False,
        output_bias: bool | str = "torch",
        init: str = "torch",
        init_std: float = 1.0,
        stem: str = "3x3",
        output_init: str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.out_dim = out_dim
        start = Initial(parameterization, bias, output_bias, init, init_std, generator, output_init)
        small = choose("stem", stem, STEMS) == "3x3"
        first = start.conv(in_shape[0], width, 3) if small else start.conv(in_shape[0], width, 7, stride=2)
        layers: list[nn.Module] = [first, Activation("relu")]
        if not small:
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        channels = width
        for stage, count in enumerate(blocks):
            for block in range(count):
                wider = width * 2**stage
                layers.append(_Residual(channels, wider, 2 if stage and not block else 1, start))
                channels = wider
        self.features = nn.Sequential(*layers)
        self.readout = start.readout(channels, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map images of shape (n, channels, height, width) to (n,) if out_dim is 1, else (n, out_dim)."""
        return squeeze_single(self.readout(self.features(x).mean(dim=(-2, -1))), self.out_dim)


class ResNet18(ResNet):
    """ResNet-18 without normalisation: `ResNet` with two blocks in each of four stages.

    Args:
        in_shape, out_dim, width: as in `ResNet`.
        norm: None; the chapters use no normalisation layer.
        options: of `ResNet`; the released form of torchvision is stem="7x7", init="he_out", output_init="torch".

    Raises:
        InputError: `norm` is not None.
    """

    def __init__(self, in_shape: tuple[int, int, int], out_dim: int, width: int = 64, norm: None = None, **options):
        if norm is not None:
            raise InputError(f"norm: expected None, got {norm!r}; this ResNet-18 has no normalisation layers")
        super().__init__(in_shape, out_dim, width, (2, 2, 2, 2), **options)


class _PreActivated(nn.Module):
    """A wide residual block, x + conv(s(conv(s(x)))), with an optional normalisation before each activation."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, norm: str | None, start: Initial) -> None:
        super().__init__()
        self.enter = nn.Sequential(*_normed(channels_in, norm), Activation("relu"))
        self.first = start.conv(channels_in, channels_out, 3, stride=stride)
        self.inner = nn.Sequential(*_normed(channels_out, norm), Activation("relu"))
        self.second = start.conv(channels_out, channels_out, 3)
        reshaped = stride != 1 or channels_in != channels_out
        self.shortcut = start.conv(channels_in, channels_out, 1, stride=stride, padding=0) if reshaped else None

    def forward(self, x: Tensor) -> Tensor:
        entered = self.enter(x)
        skip = x if self.shortcut is None else self.shortcut(entered)
        return self.second(self.inner(self.first(entered))) + skip


def _normed(channels: int, norm: str | None) -> list[nn.Module]:
    return [] if norm is None else [GroupNorm(min(8, channels), channels)]


class WideResNet(Network):
    """A wide residual network (Zagoruyko, Komodakis 2016): WRN-depth-widen, with batch normalisation left out.

    A 3x3 convolution to 16 channels, three stages of (depth - 4)/6 pre-activated blocks with 16, 32 and 64 times
    `widen` channels, the last two halving the side, an activation, a mean over positions and a linear layer.

    Args:
        in_shape: (channels, height, width) of the input.
        out_dim: number of outputs c.
        depth: 6 k + 4: 10, 16, 22, 28, ...
        widen: widening factor.
        base: channels before widening.
        norm: None, or "group" for group normalisation (8 groups) before each activation.
        parameterization, init, init_std: as in `FCN`; bias: of the convolutions; output_bias: of the linear layer.
        generator: CPU generator of the initial draw.

    Raises:
        InputError: a depth that is not 6 k + 4, or an unknown norm.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_dim: int = 1,
        depth: int = 10,
        widen: int = 10,
        base: int = 16,
        norm: str | None = None,
        parameterization: str = "ntk",
        bias: bool | str = False,
        output_bias: bool | str = False,
        init: str = "normal",
        init_std: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise InputError(f"depth: expected 10, 16, 22, 28, ... (6 k + 4) for a wide residual network, got {depth}")
        if norm is not None:
            choose("norm", norm, ["group"])
        self.out_dim = out_dim
        start = Initial(parameterization, bias, output_bias, init, init_std, generator)
        layers: list[nn.Module] = [start.conv(in_shape[0], base, 3)]
        channels = base
        for stage in range(3):
            for block in range((depth - 4) // 6):
                wider = base * widen * 2**stage
                layers.append(_PreActivated(channels, wider, 2 if stage and not block else 1, norm, start))
                channels = wider
        self.features = nn.Sequential(*layers, *_normed(channels, norm), Activation("relu"))
        self.readout = start.readout(channels, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map images of shape (n, channels, height, width) to (n,) if out_dim is 1, else (n, out_dim)."""
        return squeeze_single(self.readout(self.features(x).mean(dim=(-2, -1))), self.out_dim)
