r"""One-dimensional convolutional networks (A.15): weights shared by positions, and the norm of their Hessian.

As in `curvature`, for one input a derivative with respect to the weights of a layer is rho A^T, now with one column per
position, and every vector that the Hessian returns is alpha A^T + rho beta^T.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import normal
from traindyn.layers import starts
from traindyn.measure.spectral_norms import Norms, spectral_norms
from traindyn.studies.linearity.nets import CURVES, inputs
from traindyn.studies.linearity.orders import frame

WINDOW = 3


def patches(f: Tensor) -> Tensor:
    """Return the windows around every position with zero padding: (s, c, d) -> (s, 3 c, d)."""
    padded = torch.nn.functional.pad(f, (1, 1))
    return torch.cat([padded[..., i : i + f.shape[2]] for i in range(WINDOW)], 1)


def gathered(windows: Tensor) -> Tensor:
    """Return the transpose of `patches` applied to (s, 3 c, d): (s, c, d)."""
    s, c, d = windows.shape[0], windows.shape[1] // WINDOW, windows.shape[2]
    out = windows.new_zeros(s, c, d + 2)
    for i, part in enumerate(windows.split(c, 1)):
        out[..., i : i + d] += part
    return out[..., 1:-1]


class ConvCurvature:
    """The Hessian of f(x) for networks of two convolutions and a linear top on all positions.

    Args:
        weights: W_1 (s, m, 3), W_2 (s, m, 3 m), W_3 (s, 1, m d), as they act on windows.
        x: one input each, (s, d): one channel, d positions.
        activation: name in `nets.CURVES`.
    """

    def __init__(self, weights: Sequence[Tensor], x: Tensor, activation: str = "tanh") -> None:
        self.weights = list(weights)
        s, d = x.shape
        curve = CURVES[activation]
        self.scales = [w.shape[2] ** -0.5 for w in self.weights]
        self.reads, self.first, self.second = [patches(x[:, None])], [], []
        for depth in (0, 1):
            z = self.weights[depth] @ self.reads[depth] * self.scales[depth]
            f, first, second = curve(z)
            self.first.append(first)
            self.second.append(second)
            self.reads.append(patches(f) if depth == 0 else f.reshape(s, -1, 1))
        self.output = (self.weights[2] @ self.reads[2])[:, 0, 0] * self.scales[2]
        top = x.new_full((s, 1, 1), self.scales[2])
        self.sent = [None, (self.weights[2].mT @ top).view_as(self.first[1])]
        middle = self.sent[1] * self.first[1] * self.scales[1]
        self.sent[0] = gathered(self.weights[1].mT @ middle)
        self.rho = [self.sent[0] * self.first[0] * self.scales[0], middle, top]
        self.shapes = [part.shape[1:] for rho, a in zip(self.rho, self.reads, strict=True) for part in (rho, a)]
        self.sizes = [shape.numel() for shape in self.shapes]

    def _parts(self, v: Tensor) -> list[Tensor]:
        return [p.view(len(v), *shape) for p, shape in zip(v.split(self.sizes, 1), self.shapes, strict=True)]

    def metric(self, v: Tensor) -> Tensor:
        """Return (V A, V^T rho) per layer for V = alpha A^T + rho beta^T."""
        parts, done = self._parts(v), []
        for i, (a, rho) in enumerate(zip(self.reads, self.rho, strict=True)):
            alpha, beta = parts[2 * i], parts[2 * i + 1]
            done.append(alpha @ (a.mT @ a) + rho @ (beta.mT @ a))
            done.append(a @ (alpha.mT @ rho) + beta @ (rho.mT @ rho))
        return torch.cat([part.flatten(1) for part in done], 1)

    def product(self, v: Tensor, lifted: Tensor) -> Tensor:
        """Return H v in coordinates, from v and G v."""
        parts = self._parts(lifted)
        moved, bent = [torch.zeros_like(self.reads[0])], []
        for i in (0, 1):
            z = (self.weights[i] @ moved[i] + parts[2 * i]) * self.scales[i]
            f = self.first[i] * z
            moved.append(patches(f) if i == 0 else f.reshape(len(v), -1, 1))
            bent.append(self.sent[i] * self.second[i] * z)
        # the output is linear in what it reads, so its own signal does not move
        back = parts[5].view_as(self.first[1])
        middle = (back * self.first[1] + bent[1]) * self.scales[1]
        back = gathered(self.weights[1].mT @ middle + parts[3])
        low = (back * self.first[0] + bent[0]) * self.scales[0]
        done = [low, moved[0], middle, moved[1], torch.zeros_like(self.rho[2]), moved[2]]
        return torch.cat([part.flatten(1) for part in done], 1)

    def norm(self, seeds: Sequence[int], tol: float = 1e-3, most: int = 200) -> Norms:
        """Return the spectral norms of the Hessians."""
        start = normal(seeds, "lanczos", sum(self.sizes)).to(self.output)
        return spectral_norms(self.product, start, self.metric, tol, most)


def weights(seeds: Sequence[int], channels: int, positions: int) -> list[Tensor]:
    """Return the initial weights of `ConvCurvature`, N(0, 1)."""
    shapes = [(channels, WINDOW), (channels, WINDOW * channels), (1, channels * positions)]
    return [starts(seeds, f"conv-{i}", *shape) for i, shape in enumerate(shapes)]


def norms(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Norms over channels with a fixed number of positions, and with as many positions as channels / share."""
    laws: dict[str, Callable[[int], int]] = {"fixed": lambda m: size.positions, "growing": lambda m: m // size.share}
    parts = []
    for name, law in laws.items():

        def study(channels: int, law: Callable[[int], int] = law) -> dict[str, Tensor]:
            d = law(channels)
            found = ConvCurvature(weights(seeds, channels, d), inputs(seeds, d)[:, 0]).norm(seeds)
            return {"norm": found.value, "residual": found.residual}

        parts.append(frame(seeds, size.widths, study).assign(positions=name))
    return pd.concat(parts, ignore_index=True)
