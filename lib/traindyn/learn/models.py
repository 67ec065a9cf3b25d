"""Networks of the book, each in an explicit parameterisation, each with `reset(generator)`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from traindyn.errors import InputError
from traindyn.layers import Activation, Conv, Linear


class Network(nn.Module):
    """A module that can draw its initial weights again: `reset(generator)` resets every layer in order."""

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draw all initial weights afresh.

        Args:
            generator: a CPU generator; None uses torch's global one.
        """
        for module in self.modules():
            if hasattr(module, "reset") and not isinstance(module, Network):
                module.reset(generator)


def _squeeze_single(out: Tensor, out_dim: int) -> Tensor:
    return out.squeeze(-1) if out_dim == 1 else out


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
        common = {
            "parameterization": parameterization,
            "init": init,
            "init_std": init_std,
            "generator": generator,
        }
        layers: list[nn.Module] = []
        for fan_in, fan_out in zip([in_dim, *widths], widths, strict=False):
            layers += [Linear(fan_in, fan_out, bias=bias, **common), Activation(activation)]
        layers.append(Linear([in_dim, *widths][-1], out_dim, bias=output_bias, **common))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map x of shape (n, in_dim) to (n,) if out_dim is 1, else (n, out_dim)."""
        return _squeeze_single(self.layers(x), self.out_dim)


class _Residual(nn.Module):
    """Two 3x3 convolutions with a skip connection and no normalisation: s(conv(s(conv(x))) + shortcut(x))."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, common: dict) -> None:
        super().__init__()
        self.first = Conv(channels_in, channels_out, 3, stride=stride, **common)
        self.second = Conv(channels_out, channels_out, 3, **common)
        self.inner, self.outer = Activation("relu"), Activation("relu")
        reshaped = stride != 1 or channels_in != channels_out
        self.shortcut = Conv(channels_in, channels_out, 1, stride=stride, padding=0, **common) if reshaped else None

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.shortcut is None else self.shortcut(x)
        return self.outer(self.second(self.inner(self.first(x))) + skip)


class ResNet(Network):
    """A residual network without normalisation layers, for images of any size.

    A 3x3 convolution, stages of residual blocks that double the channels and halve the side, a mean over positions and
    a linear layer (He, Zhang, Ren, Sun 2016, the form for 32x32 images). Without batch normalisation the gradient of
    one sample does not depend on the others, which the fictitious updates of local elasticity need.

    Args:
        in_shape: (channels, height, width) of the input.
        out_dim: number of outputs.
        width: channels of the first stage.
        blocks: residual blocks in each stage; ResNet-18 has (2, 2, 2, 2).
        parameterization, init, init_std, bias: as in `FCN`; the defaults are torch's own initial laws.
        generator: CPU generator of the initial draw.
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
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.out_dim = out_dim
        common = {
            "parameterization": parameterization,
            "init": init,
            "init_std": init_std,
            "generator": generator,
        }
        layers: list[nn.Module] = [Conv(in_shape[0], width, 3, bias=bias, **common), Activation("relu")]
        channels = width
        for stage, count in enumerate(blocks):
            for block in range(count):
                wider = width * 2**stage
                layers.append(_Residual(channels, wider, 2 if stage and not block else 1, {"bias": bias, **common}))
                channels = wider
        self.features = nn.Sequential(*layers)
        self.readout = Linear(channels, out_dim, bias=output_bias, **common)

    def forward(self, x: Tensor) -> Tensor:
        """Map images of shape (n, channels, height, width) to (n,) if out_dim is 1, else (n, out_dim)."""
        return _squeeze_single(self.readout(self.features(x).mean(dim=(-2, -1))), self.out_dim)


class ResNet18(ResNet):
    """ResNet-18 without normalisation: `ResNet` with two blocks in each of four stages.

    Args:
        in_shape, out_dim, width: as in `ResNet`.
        norm: None; the chapters use no normalisation layer.
        options: passed to `ResNet`.

    Raises:
        InputError: `norm` is not None.
    """

    def __init__(self, in_shape: tuple[int, int, int], out_dim: int, width: int = 64, norm: None = None, **options):
        if norm is not None:
            raise InputError(f"norm: expected None, got {norm!r}; this ResNet-18 has no normalisation layers")
        super().__init__(in_shape, out_dim, width, (2, 2, 2, 2), **options)
