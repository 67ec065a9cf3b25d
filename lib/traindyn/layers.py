"""Layers with an explicit parameterisation, and a look at what the hidden layers hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from traindyn.compute import generator
from traindyn.errors import choose

PARAMETERIZATIONS = ("ntk", "standard")
INITS = ("normal", "torch", "he", "he_out", "xavier")
BIASES = (False, "zero", "normal", "torch")

ACTIVATIONS = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "softplus": F.softplus,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "quadratic": torch.square,
    "linear": lambda z: z,
}


# A place for tests: every drawn tensor passes through it. Nothing in the library sets it.
altered: Callable[[Tensor], Tensor] | None = None


def draw(parameter: Tensor, law: str, scale: float, fans: tuple[int, int], generator: torch.Generator | None) -> None:
    """Fill `parameter` in place from an initial law, in float64 on the CPU, then cast.

    The same generator therefore gives the same weights in every precision and on every device.

    Args:
        parameter: the tensor to fill.
        law: "zero", "normal" (standard deviation `scale`), "torch" (uniform on +-1/sqrt(fan_in)), "he"
            (normal, variance 2/fan_in), "he_out" (normal, variance 2/fan_out), "xavier" (uniform, variance
            2/(fan_in + fan_out)).
        scale: standard deviation for "normal"; the other laws ignore it.
        fans: (fan_in, fan_out): inputs of an output, and outputs that an input reaches.
        generator: a CPU generator; None uses torch's global one.
    """
    fan_in, fan_out = fans
    shape = tuple(parameter.shape)
    options = {"dtype": torch.float64, "generator": generator}
    if law == "zero":
        values = torch.zeros(shape, dtype=torch.float64)
    elif law == "normal":
        values = scale * torch.randn(shape, **options)
    elif law == "he":
        values = math.sqrt(2 / fan_in) * torch.randn(shape, **options)
    elif law == "he_out":
        values = math.sqrt(2 / fan_out) * torch.randn(shape, **options)
    else:
        bound = 1 / math.sqrt(fan_in) if law == "torch" else math.sqrt(6 / (fan_in + fan_out))
        values = bound * (2 * torch.rand(shape, **options) - 1)
    with torch.no_grad():
        parameter.copy_(values if altered is None else altered(values))


def starts(seeds: Sequence[int], purpose: str, *shape: int) -> Tensor:
    """Return standard normal initial weights of shape (len(seeds), *shape), float64, each slice from its own seed.

    For models that are plain tensors; what a test does to a network's weights (`altered`) reaches them, too.

    Args:
        seeds: one integer per slice.
        purpose: stream of the generator, as in `compute.generator`.
        shape: shape of one slice.
    """
    weights = torch.empty(len(seeds), *shape, dtype=torch.float64)
    for slot, seed in zip(weights, seeds, strict=True):
        draw(slot, "normal", 1.0, (1, 1), generator(seed, purpose))
    return weights


class _Weighted(nn.Module):
    """A linear map of its input with an explicit multiplier: output = scale * (weight applied to input) + bias."""

    def __init__(
        self,
        weight_shape: tuple[int, ...],
        fans: tuple[int, int],
        *,
        parameterization: str,
        bias: bool | str,
        init: str,
        init_std: float,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        choose("parameterization", parameterization, PARAMETERIZATIONS)
        choose("init", init, INITS)
        if bias is not False:
            choose("bias", bias, BIASES[1:])
        self.fans, self.init, self.init_std, self.bias_law = fans, init, init_std, bias
        self.parameterization = parameterization
        self.scale = 1 / math.sqrt(fans[0]) if parameterization == "ntk" else 1.0
        self.weight = nn.Parameter(torch.empty(weight_shape))
        self.bias = None if bias is False else nn.Parameter(torch.empty(weight_shape[0]))
        self.reset(generator)

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draw the initial weights afresh from `generator` (a CPU generator; None: torch's global one)."""
        # the multiplier already carries 1/sqrt(fan_in) in the NTK parameterisation
        fan_in, fan_out = self.fans
        std = self.init_std if self.parameterization == "ntk" else self.init_std / math.sqrt(fan_in)
        draw(self.weight, self.init, std, (fan_in, fan_out), generator)
        if self.init != "normal" and self.scale != 1.0:
            with torch.no_grad():
                self.weight.div_(self.scale)  # the other laws speak of the effective weight
        if self.bias is not None:
            draw(self.bias, self.bias_law, self.init_std, self.fans, generator)


class Linear(_Weighted):
    """A linear layer z = scale * W a + b in the NTK or the standard parameterisation.

    NTK (Jacot, Gabriel, Hongler 2018): W_ij ~ N(0, init_std^2), scale = 1/sqrt(fan_in), no factor sqrt(2).
    Standard: W_ij ~ N(0, init_std^2 / fan_in), scale = 1. Other initial laws (`init`) are of the effective weight.

    Args:
        in_features, out_features: sizes.
        parameterization: "ntk" or "standard".
        bias: False, or how the bias starts: "zero", "normal" (std init_std), "torch" (uniform +-1/sqrt(fan_in)).
        init: "normal", "torch", "he", "he_out" or "xavier".
        init_std: standard deviation sigma of the normal law, in the units above.
        generator: CPU generator of the initial draw.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        parameterization: str = "ntk",
        bias: bool | str = False,
        init: str = "normal",
        init_std: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            (out_features, in_features),
            (in_features, out_features),
            parameterization=parameterization,
            bias=bias,
            init=init,
            init_std=init_std,
            generator=generator,
        )

    def forward(self, a: Tensor) -> Tensor:
        """Map a of shape (..., in_features) to (..., out_features)."""
        if self.scale == 1.0:
            return F.linear(a, self.weight, self.bias)
        # the multiplier goes where there are probably fewer numbers, W or z; by the layer's shape, not by the batch's,
        # so that the network is the same function of its weights for any number of samples
        if self.fans[0] <= 64:
            return F.linear(a, self.weight * self.scale, self.bias)
        z = F.linear(a, self.weight) * self.scale
        return z if self.bias is None else z + self.bias


class Conv(_Weighted):
    """A two-dimensional convolution z = scale * (W conv a) + b.

    fan_in = in_channels/groups * kernel^2, fan_out = out_channels * kernel^2, as torch counts them.

    Args:
        in_channels, out_channels: channels, each divisible by `groups`.
        kernel: side of the square kernel; padding "same" for odd kernels is kernel // 2.
        stride, padding, dilation, groups: as in torch.
        parameterization, bias, init, init_std, generator: as for `Linear`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        parameterization: str = "ntk",
        bias: bool | str = False,
        init: str = "normal",
        init_std: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            (out_channels, in_channels // groups, kernel, kernel),
            (in_channels // groups * kernel**2, out_channels * kernel**2),
            parameterization=parameterization,
            bias=bias,
            init=init,
            init_std=init_std,
            generator=generator,
        )
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.padding = kernel // 2 if padding is None else padding

    def forward(self, a: Tensor) -> Tensor:
        """Map a of shape (n, in_channels, h, w) to (n, out_channels, h', w')."""
        z = F.conv2d(a, self.weight, None, self.stride, self.padding, self.dilation, self.groups)
        if self.scale != 1.0:
            z = z * self.scale
        return z if self.bias is None else z + self.bias[:, None, None]


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the last axis that starts at scale 1 and shift 0, also after `reset`.

    Args:
        features: size of the last axis.
    """

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Return scale and shift to 1 and 0; `generator` is accepted as in every layer and not used."""
        self.reset_parameters()


class GroupNorm(nn.GroupNorm):
    """Group normalisation of images that starts at scale 1 and shift 0, also after `reset`.

    Args:
        groups: number of groups, a divisor of `channels`.
        channels: channels of the input.
    """

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Return scale and shift to 1 and 0; `generator` is accepted as in every layer and not used."""
        self.reset_parameters()


class Activation(nn.Module):
    """An elementwise activation by name; `activations` finds hidden layers by it.

    Args:
        name: one of `ACTIVATIONS`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = choose("activation", name, ACTIVATIONS)

    def forward(self, z: Tensor) -> Tensor:
        """Apply the function to every entry of z."""
        return ACTIVATIONS[self.name](z)


def activations(model: nn.Module, X: Tensor) -> list[Tensor]:
    """Return what each hidden layer of `model` holds on X, one tensor of shape (n, ...) per activation, in order.

    Args:
        model: a module whose nonlinearities are `Activation` modules.
        X: inputs, shape (n, ...).
    """
    seen: list[Tensor] = []
    handles = [
        module.register_forward_hook(lambda module, inputs, output: seen.append(output))
        for module in model.modules()
        if isinstance(module, Activation)
    ]
    try:
        model(X)
    finally:
        for handle in handles:
            handle.remove()
    return seen
