"""Parities on the hypercube: the Walsh-Hadamard transform, their exact two-layer networks, path norms."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.errors import InputError
from traindyn.evidence import table


class Ramps(NamedTuple):
    """A two-layer ReLU network of one variable, z -> sum_j outer_j relu(slope_j z + bias_j); three tensors (m,)."""

    outer: Tensor
    slope: Tensor
    bias: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        """Return the values at z, in z's shape."""
        value = torch.zeros_like(z)
        for outer, slope, bias in zip(*(part.tolist() for part in self), strict=True):
            value += outer * torch.relu(slope * z + bias)
        return value

    def path_norm(self, ones: int) -> int:
        """Return sum_j |outer_j| (||w_j||_1 + |bias_j|) with w_j = slope_j v for a v with `ones` ones."""
        return int((self.outer.abs() * (self.slope.abs() * ones + self.bias.abs())).sum())


def cube(d: int) -> Tensor:
    """Return all x of {0, 1}^d as rows, (2^d, d), float64; row i holds the bits of i, the lowest first.

    Raises:
        InputError: d is not between 1 and 20.
    """
    if not 1 <= d <= 20:
        raise InputError(f"d: expected between 1 and 20 bits, got {d}")
    return (torch.arange(2**d)[:, None] >> torch.arange(d) & 1).double()


def walsh(values: Tensor) -> Tensor:
    r"""Return the Walsh-Hadamard transform \sum_x (-1)^{v^T x} values(x), for all v at once.

    Args:
        values: (2^d, ...), the first axis ordered as `cube`.

    Returns:
        The same shape; row v belongs to the parity of the bits of v. Cost O(2^d d) per column. Applied twice it
        multiplies by 2^d.

    Raises:
        InputError: the first axis is no power of 2.
    """
    n = len(values)
    if n & (n - 1) or n < 1:
        raise InputError(f"values: expected 2^d rows, got {n}")
    shape, half = values.shape, 1
    while half < n:
        pairs = values.reshape(n // (2 * half), 2, half, -1)
        values = torch.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), dim=1)
        half *= 2
    return values.reshape(shape)


def signs(d: int) -> Tensor:
    """Return all parities on all points, entry (v, x) = (-1)^(v^T x), (2^d, 2^d), int32, bit by bit."""
    odd = torch.zeros(2**d, 2**d, dtype=torch.int32)
    index = torch.arange(2**d)
    for bit in range(d):
        column = (index >> bit & 1).int()
        odd ^= column[:, None] & column
    return 1 - 2 * odd


def orthonormal(dims: Sequence[int]) -> pd.DataFrame:
    """Return per d the largest entry of 2^d (Gram matrix of all parities - identity), exactly, and their number."""
    rows = []
    for d in dims:
        gram = walsh(signs(d))  # row v: inner products of the parity v with every parity, times 2^d
        gram[torch.arange(2**d), torch.arange(2**d)] -= 2**d
        rows.append((d, int(gram.abs().max()), 2**d))
    return table(pd.DataFrame(rows, columns=["d", "gram_gap", "parities"]), "d")


def printed_network(d: int) -> Ramps:
    """Return the network of eq. (0.4): d + 1 hats of alternating sign at 0, ..., d, each of three ReLUs."""
    i = torch.arange(d + 1, dtype=torch.float64)
    sign = 1 - 2 * (i % 2)
    outer = torch.cat((sign, -2 * sign, sign))
    return Ramps(outer, torch.full_like(outer, 2.0), torch.cat((1 - 2 * i, -2 * i, -1 - 2 * i)))


def merged(net: Ramps) -> Ramps:
    """Return the same function with neurons of one kink joined, and those that cancel left out."""
    bias, place = net.bias.unique(return_inverse=True)
    outer = torch.zeros_like(bias).index_add_(0, place, net.outer)
    kept = outer != 0
    return Ramps(outer[kept], torch.full_like(outer[kept], 2.0), bias[kept])


def triangle(z: Tensor) -> Tensor:
    """Return the triangle wave of period 2 that is (-1)^z at integers."""
    return 2 * (z % 2 - 1).abs() - 1


def networks(dims: Sequence[int], grid: int = 64) -> pd.DataFrame:
    """Compare the networks with every parity at every point, and between the integers with the triangle wave.

    Returns:
        Per d: `wrong`, `wrong_merged` (pairs v, x where the network is not the parity, exactly), `neurons`,
        `neurons_merged`, `wave_gap` (largest distance to the triangle wave on [0, d], `grid` points per unit),
        `outside` (distance to the wave at d + 1, where the network no longer follows it).
    """
    rows = []
    for d in dims:
        net, points, target = printed_network(d), cube(d), signs(d)
        z, few = points @ points.T, merged(printed_network(d))
        line = torch.arange(d * grid + 1, dtype=torch.float64) / grid
        beyond = torch.tensor([d + 1.0], dtype=torch.float64)
        wrong = [int((f(z) != target).sum()) for f in (net, few)]
        gap = max(float((f(line) - triangle(line)).abs().max()) for f in (net, few))
        rows.append((d, *wrong, len(net.outer), len(few.outer), gap, float((net(beyond) - triangle(beyond)).abs())))
    columns = ["d", "wrong", "wrong_merged", "neurons", "neurons_merged", "wave_gap", "outside"]
    return table(pd.DataFrame(rows, columns=columns), "d")


def path_norms(dims: Sequence[int]) -> pd.DataFrame:
    """Return per d the path norms of both networks for v = (1, ..., 1): over d^2, and minus their closed forms."""
    rows = []
    for d in dims:
        net = printed_network(d)
        norm, few = net.path_norm(d), merged(net).path_norm(d)
        rows.append((d, norm / d**2, abs(norm - (12 * d * d + 12 * d + 2)), abs(few - (6 * d * d + 12 * d + 2))))
    return table(pd.DataFrame(rows, columns=["d", "per_square", "gap", "gap_merged"]), "d")


def by_hand(size: SimpleNamespace) -> tuple[Tensor, Tensor]:
    """Return the points of the cube and one v of `size.ones` ones, for the visible example."""
    v = torch.zeros(size.d, dtype=torch.float64)
    v[: size.ones] = 1
    return cube(size.d), v


def wave(d: int, grid: int = 40) -> pd.DataFrame:
    """Return the hats of eq. (0.3) and their sum between -1/2 and d + 1/2, tidy: z, value, part."""
    z = torch.linspace(-0.5, d + 0.5, (d + 1) * grid + 1, dtype=torch.float64)
    parts = []
    for i in range(d + 1):
        hat = (-1) ** i * (torch.relu(2 * (z - i) + 1) - 2 * torch.relu(2 * (z - i)) + torch.relu(2 * (z - i) - 1))
        near = (z - i).abs() <= 0.5
        parts.append(pd.DataFrame({"z": z[near].numpy(), "value": hat[near].numpy(), "part": f"hat {i}"}))
    parts.append(pd.DataFrame({"z": z.numpy(), "value": printed_network(d)(z).numpy(), "part": "network"}))
    whole = np.arange(d + 1)
    parts.append(pd.DataFrame({"z": whole, "value": (-1.0) ** whole, "part": "parity"}))
    return pd.concat(parts, ignore_index=True)
