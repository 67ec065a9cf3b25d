"""A small vision transformer with explicit parameterisation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from traindyn.errors import InputError
from traindyn.layers import Activation, LayerNorm, draw
from traindyn.learn.models.base import Initial, Network, squeeze_single


class _Tokens(nn.Module):
    """A class token before the sequence and a learned position added to every token."""

    def __init__(self, tokens: int, dim: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(1, 1, dim))
        self.position = nn.Parameter(torch.empty(1, tokens + 1, dim))
        self.reset(generator)

    def reset(self, generator: torch.Generator | None = None) -> None:
        for parameter in (self.first, self.position):
            draw(parameter, "normal", 0.02, (1, 1), generator)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.first.expand(len(x), -1, -1), x], 1) + self.position


class Attention(nn.Module):
    """Multi-head self-attention, softmax(Q K^T / sqrt(d_head)) V, with one joint projection to Q, K and V.

    Args:
        dim: features of a token, a multiple of `heads`.
        heads: number of heads.
        start: how both projections start.
    """

    def __init__(self, dim: int, heads: int, start: Initial) -> None:
        super().__init__()
        self.heads = heads
        self.project = start.linear(dim, 3 * dim)
        self.merge = start.linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens of shape (n, T, dim) to (n, T, dim)."""
        # written out: torch's fused attention has neither forward mode nor second derivatives
        Q, K, V = self.project(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(Q @ K.mT / math.sqrt(Q.shape[-1]), -1)
        return self.merge((weights @ V).transpose(1, 2).flatten(2))


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int, start: Initial) -> None:
        super().__init__()
        self.attend = nn.Sequential(LayerNorm(dim), Attention(dim, heads, start))
        inner, outer = start.linear(dim, hidden), start.linear(hidden, dim)
        self.think = nn.Sequential(LayerNorm(dim), inner, Activation("gelu"), outer)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(x)
        return x + self.think(x)


class ViT(Network):
    """A vision transformer (Dosovitskiy et al. 2021) with normalisation before each block and a class token.

    Args:
        in_shape: (channels, height, width) of the input, height and width multiples of `patch`.
        out_dim: number of outputs c.
        depth: number of transformer blocks.
        dim: features of a token; heads: attention heads, a divisor of dim; hidden: width of the blocks' two-layer
            network, 4 dim if None.
        patch: side of a square patch.
        parameterization, init, init_std: of all linear maps, as in `FCN`.
        bias: biases of all linear maps but the last; output_bias: of the last.
        generator: CPU generator of the initial draw.

    Raises:
        InputError: sizes that do not divide one another.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_dim: int = 1,
        depth: int = 4,
        dim: int = 128,
        heads: int = 4,
        hidden: int | None = None,
        patch: int = 4,
        parameterization: str = "ntk",
        bias: bool | str = "zero",
        output_bias: bool | str = False,
        init: str = "normal",
        init_std: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        channels, height, width = in_shape
        if height % patch or width % patch or dim % heads:
            raise InputError(
                f"patch, heads: expected patch to divide {height} and {width} and heads to divide dim {dim}, "
                f"got patch {patch} and heads {heads}"
            )
        self.out_dim = out_dim
        start = Initial(parameterization, bias, output_bias, init, init_std, generator)
        self.embed = start.conv(channels, dim, patch, stride=patch, padding=0)
        self.tokens = _Tokens(height * width // patch**2, dim, generator)
        self.blocks = nn.Sequential(*(_Block(dim, heads, hidden or 4 * dim, start) for _ in range(depth)))
        self.norm = LayerNorm(dim)
        self.readout = start.readout(dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map images of shape (n, channels, height, width) to (n,) if out_dim is 1, else (n, out_dim)."""
        x = self.blocks(self.tokens(self.embed(x).flatten(2).mT))
        return squeeze_single(self.readout(self.norm(x[:, 0])), self.out_dim)
