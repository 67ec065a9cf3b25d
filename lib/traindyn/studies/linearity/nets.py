"""Networks on graphs, one per seed, as plain tensors: layers of neurons that read any earlier neurons (Section 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from traindyn.compute import generator, uniform
from traindyn.errors import InputError
from traindyn.layers import starts


def _tanh(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    t = torch.tanh(z)
    return t, 1 - t**2, -2 * t * (1 - t**2)


def _softplus(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    s = torch.sigmoid(z)
    return torch.nn.functional.softplus(z), s, s * (1 - s)


def _swish(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    s = torch.sigmoid(z)
    slope = s * (1 - s)
    return z * s, s + z * slope, 2 * slope + z * slope * (1 - 2 * s)


# name -> function z -> (sigma, sigma', sigma''); for ReLU and its kinks: away from them
CURVES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]] = {
    "tanh": _tanh,
    "softplus": _softplus,
    "swish": _swish,
    "relu": lambda z: (z.relu(), (z > 0).to(z), torch.zeros_like(z)),
    "half_square": lambda z: (z**2 / 2, z, torch.ones_like(z)),
    "linear": lambda z: (z, torch.ones_like(z), torch.zeros_like(z)),
}


@dataclass
class Layer:
    """Neurons z_v = in(v)^(-1/2) sum over edges (u, v) of w_uv f_u, in s networks.

    Attributes:
        weight: (s, m, k), zero where there is no edge.
        mask: (s or 1, m, k) of zeros and ones in the weight's type; None: all edges exist.
        scale: (s or 1, m), the factor in(v)^(-1/2).
        first: position of the first value that the layer can read among inputs and earlier neurons; it reads k of them.
        skip: positions (m,) of the neuron that is added to each after its activation (eq. (A.12)); None: none.
    """

    weight: Tensor
    mask: Tensor | None
    scale: Tensor
    first: int
    skip: Tensor | None = None

    @property
    def reads(self) -> slice:
        return slice(self.first, self.first + self.weight.shape[2])


@dataclass
class Nets:
    """One network per seed: `in_dim` inputs, layers, and the names of hidden and output activation in `CURVES`."""

    in_dim: int
    layers: list[Layer]
    activation: str = "tanh"
    output: str = "linear"

    def moved(self, directions: Sequence[Tensor], by: float | Tensor) -> Nets:
        """Return the networks with weights w + by * direction (one direction (s, m, k) per layer)."""
        by = by if isinstance(by, float | int) else by.view(-1, 1, 1)
        layers = [
            replace(layer, weight=layer.weight + by * step) for layer, step in zip(self.layers, directions, strict=True)
        ]
        return replace(self, layers=layers)

    def values(self, x: Tensor) -> Tensor:
        """Return the outputs, (s, n, outputs), for inputs (s or 1, n, in_dim); differentiable in the weights."""
        values = x.expand(self.layers[0].weight.shape[0], -1, -1)
        for depth, layer in enumerate(self.layers):
            z = values[..., layer.reads] @ layer.weight.mT * layer.scale[:, None]
            f = CURVES[self.output if depth + 1 == len(self.layers) else self.activation](z)[0]
            if layer.skip is not None:
                f = f + values[..., layer.skip]
            if depth + 1 < len(self.layers):
                values = torch.cat([values, f], 2)
        return f


def inputs(seeds: Sequence[int], dim: int, n: int = 1) -> Tensor:
    """Return bounded inputs (s, n, dim), uniform on [-sqrt 3, sqrt 3]: |x|^2 is about dim."""
    return uniform(seeds, "inputs", n, dim, low=-(3**0.5), high=3**0.5)


def layer(
    seeds: Sequence[int], name: str, out: int, reads: int, first: int, mask: Tensor | None = None, **more: Tensor
) -> Layer:
    """Return a layer with weights N(0, 1) from each seed's own stream, normalised by the in-degrees of its mask."""
    weight = starts(seeds, name, out, reads)
    if mask is None:
        return Layer(weight, None, weight.new_full((1, out), reads**-0.5), first, **more)
    degree = mask.sum(2)
    if not (degree > 0).all():
        raise InputError("mask: a neuron has no incoming edge")
    return Layer(weight * mask, mask, degree.rsqrt(), first, **more)


def kept(seeds: Sequence[int], name: str, out: int, reads: int, drop: float) -> Tensor:
    """Return masks (s, out, reads): each edge stays with probability 1 - drop; a neuron without edges draws again."""
    masks = []
    for seed in seeds:
        draw = generator(seed, f"edges-{name}")
        mask = torch.rand(out, reads, dtype=torch.float64, generator=draw) >= drop
        while (empty := ~mask.any(1)).any():
            mask[empty] = torch.rand(int(empty.sum()), reads, dtype=torch.float64, generator=draw) >= drop
        masks.append(mask)
    return torch.stack(masks).double()


def fcn(
    seeds: Sequence[int], dim: int, widths: Sequence[int], *, outputs: int = 1, skip: bool = False, **kind: str
) -> Nets:
    """Return fully connected networks (A.4); with `skip`, every hidden neuron adds one of the layer before (A.12)."""
    layers, first, below = [], 0, dim
    for depth, width in enumerate([*widths, outputs], 1):
        hidden = depth <= len(widths)
        more = {"skip": first + torch.arange(width) % below} if skip and hidden else {}
        layers.append(layer(seeds, f"layer-{depth}", width, below, first, **more))
        first, below = first + below, width
    return Nets(dim, layers, **kind)


def densenet(
    seeds: Sequence[int],
    dim: int,
    width: int,
    depth: int = 3,
    drop: float = 0.5,
    refeed: bool = False,
    normalizer: str = "surviving",
    outputs: int = 1,
    **kind: str,
) -> Nets:
    """Return DenseNets of `depth` weight layers with edges dropped once (A.5, A.1).

    Args:
        refeed: whether layers beyond the first read the input, too, as (A.5) prints it.
        normalizer: "surviving" or "original", the in-degree after or before dropping.
    """
    layers = []
    for level in range(1, depth + 1):
        first = 0 if refeed or level == 1 else dim
        reads = dim + (level - 1) * width - first
        out = outputs if level == depth else width
        mask = kept(seeds, f"{level}", out, reads, drop) if drop else None
        made = layer(seeds, f"layer-{level}", out, reads, first, mask)
        if normalizer == "original":
            made = replace(made, scale=made.scale.new_full((1, out), reads**-0.5))
        layers.append(made)
    return Nets(dim, layers, **kind)


def bottlenecked(seeds: Sequence[int], dim: int, width: int, bottlenecks: int, shared: bool = True) -> Nets:
    """Return networks of two hidden layers, in the second of which some neurons have one incoming edge (Figure 2.3).

    Args:
        bottlenecks: how many, the first ones of the layer.
        shared: whether they read two parents in turn (as behind a narrow layer), or each its own.
    """
    mask = torch.ones(1, width, width, dtype=torch.float64)
    mask[:, :bottlenecks] = 0
    few = torch.arange(bottlenecks)
    mask[:, few, few % (2 if shared else width)] = 1
    middle = layer(seeds, "layer-2", width, width, dim, mask)
    below, above = layer(seeds, "layer-1", width, dim, 0), layer(seeds, "layer-3", 1, width, dim + width)
    return Nets(dim, [below, middle, above])


def narrow(seeds: Sequence[int], dim: int, width: int, waist: int = 2, bridge: bool = False) -> Nets:
    """Return networks with hidden layers width, waist, width; with `bridge` the last one reads the first one, too."""
    sizes = [(width, dim, 0), (waist, width, dim)]
    start = dim if bridge else dim + width
    sizes += [(width, dim + width + waist - start, start), (1, width, dim + width + waist)]
    return Nets(dim, [layer(seeds, f"layer-{i}", *size) for i, size in enumerate(sizes, 1)])


def below(nets: Nets, depth: int, neurons: Sequence[int]) -> Nets:
    """Return the pre-activations of some neurons of layer `depth` (from 1) as networks of their own, (s, neurons)."""
    top = nets.layers[depth - 1]
    index = list(neurons)
    cut = replace(
        top,
        weight=top.weight[:, index],
        mask=None if top.mask is None else top.mask[:, index],
        scale=top.scale[:, index],
        skip=None,
    )
    return replace(nets, layers=[*nets.layers[: depth - 1], cut], output="linear")
