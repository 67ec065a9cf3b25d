"""What all networks of the book share: initial weights that can be drawn again, outputs of shape (n,) or (n, c)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from traindyn import compute
from traindyn.errors import InputError
from traindyn.layers import Conv, Linear

Module = TypeVar("Module", bound=nn.Module)


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


@dataclass(frozen=True)
class Initial:
    """How the layers of a network are parameterised and start: one record, which makes the layers.

    Attributes:
        parameterization: "ntk" or "standard".
        bias: of the hidden layers: False, "zero", "normal" or "torch".
        output_bias: of the last layer.
        init: law of the weights.
        init_std: standard deviation of the normal law.
        generator: CPU generator of the initial draw.
        output_init: law of the last layer's weights; None: as `init`.
    """

    parameterization: str
    bias: bool | str
    output_bias: bool | str
    init: str
    init_std: float
    generator: torch.Generator | None
    output_init: str | None = None

    def linear(self, fan_in: int, fan_out: int) -> Linear:
        """Return a hidden linear layer."""
        return Linear(fan_in, fan_out, bias=self.bias, **self._common())

    def readout(self, fan_in: int, fan_out: int) -> Linear:
        """Return the last layer."""
        own = {} if self.output_init is None else {"init": self.output_init}
        return Linear(fan_in, fan_out, bias=self.output_bias, **{**self._common(), **own})

    def conv(self, channels_in: int, channels_out: int, kernel: int = 3, **shape: Any) -> Conv:
        """Return a convolution; `shape` as in `layers.Conv`."""
        return Conv(channels_in, channels_out, kernel, bias=self.bias, **shape, **self._common())

    def _common(self) -> dict[str, Any]:
        names = ("parameterization", "init", "init_std", "generator")
        return {name: getattr(self, name) for name in names}


def squeeze_single(out: Tensor, out_dim: int) -> Tensor:
    """Return outputs (n, 1) as (n,) where the network has one output, else as they are."""
    return out.squeeze(-1) if out_dim == 1 else out


def drawn(
    model: Module, seed: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Module:
    """Return a copy of a network whose initial weights are those of a seed, as `learn.train.fit` draws them.

    Args:
        model: a network with `reset(generator)`; it is not changed.
        seed: of the weights, by the generator of the purpose "init".
        dtype: of the weights, from the draw on; None: the model's own.
        device: where the copy lies; None: where the model does.

    Raises:
        InputError: the network cannot draw its weights.
    """
    if not hasattr(model, "reset"):
        raise InputError(
            f"model: {type(model).__name__} has no reset(generator), so its initial weights cannot be drawn from a seed"
        )
    network = copy.deepcopy(model).to(dtype=dtype)
    network.reset(compute.generator(seed, "init"))
    return network.to(device=device)
