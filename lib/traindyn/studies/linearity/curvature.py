r"""Hessians of network outputs, matrix-free and in few coordinates.

For one input x the derivative with respect to the weights of layer l is rho_l a_l^T on the edges, with a_l what the
layer reads and rho_l the signal sent back. So every vector that the Hessian can return is, on the edges,

.. math:: \alpha_l a_l^T + \rho_l \beta_l^T

and is kept as (alpha, beta): about four numbers per neuron instead of one per weight. Products cost four passes over
the weights, and the inner product of two such vectors two passes over the mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from traindyn.compute import normal
from traindyn.measure.spectral_norms import Norms, spectral_norms
from traindyn.studies.linearity.nets import CURVES, Layer, Nets


def _times(layer: Layer, matrix: Tensor | None, right: Tensor) -> Tensor:
    """Return matrix @ right, (s, k) -> (s, m); None is the matrix of ones."""
    if matrix is None:
        return right.sum(1, keepdim=True).expand(-1, layer.weight.shape[1])
    return (matrix @ right[..., None])[..., 0]


def _back(layer: Layer, matrix: Tensor | None, left: Tensor) -> Tensor:
    """Return matrix^T @ left, (s, m) -> (s, k)."""
    if matrix is None:
        return left.sum(1, keepdim=True).expand(-1, layer.weight.shape[2])
    return (left[:, None] @ matrix)[:, 0]


class Curvature:
    """The Hessian of sum_k c_k f_k(x) in the weights of s networks, at their present weights.

    Args:
        nets: networks, one per seed.
        x: one input each, (s, in_dim).
        outputs: c, (s, outputs); None: ones.
    """

    def __init__(self, nets: Nets, x: Tensor, outputs: Tensor | None = None) -> None:
        self.nets = nets
        values = x.expand(nets.layers[0].weight.shape[0], -1)
        self.first, self.second = [], []
        for depth, layer in enumerate(nets.layers):
            z = _times(layer, layer.weight, values[:, layer.reads]) * layer.scale
            f, first, second = CURVES[nets.output if depth + 1 == len(nets.layers) else nets.activation](z)
            self.first.append(first)
            self.second.append(second)
            values = torch.cat([values, f if layer.skip is None else f + values[:, layer.skip]], 1)
        self.values = values
        self.starts = [
            values.shape[1] - sum(made.weight.shape[1] for made in nets.layers[i:]) for i in range(len(nets.layers))
        ]
        back = torch.zeros_like(values)
        back[:, self.starts[-1] :] = 1.0 if outputs is None else outputs
        self.sent, self.rho, self.reads = [], [], []
        for i in reversed(range(len(nets.layers))):
            layer = nets.layers[i]
            sent = back[:, self.starts[i] : self.starts[i] + layer.weight.shape[1]].clone()
            rho = sent * self.first[i] * layer.scale
            back[:, layer.reads] += _back(layer, layer.weight, rho)
            if layer.skip is not None:
                back.index_add_(1, layer.skip, sent)
            self.sent.insert(0, sent)
            self.rho.insert(0, rho)
            self.reads.insert(0, values[:, layer.reads])
        self.across = [_times(layer, layer.mask, a**2) for layer, a in zip(nets.layers, self.reads, strict=True)]
        self.along = [_back(layer, layer.mask, r**2) for layer, r in zip(nets.layers, self.rho, strict=True)]
        self.sizes = [n for layer in nets.layers for n in layer.weight.shape[1:]]

    @property
    def output(self) -> Tensor:
        """f_k(x), (s, outputs)."""
        return self.values[:, self.starts[-1] :]

    def gradient(self) -> Tensor:
        """Return the gradient in coordinates: alpha = rho, beta = 0."""
        return torch.cat(
            [part for rho, a in zip(self.rho, self.reads, strict=True) for part in (rho, torch.zeros_like(a))], 1
        )

    def metric(self, v: Tensor) -> Tensor:
        """Return G v, where u^T G v is the inner product of the two weight vectors: (V a, V^T rho) per layer."""
        parts = v.split(self.sizes, 1)
        done = []
        for i, layer in enumerate(self.nets.layers):
            alpha, beta, a, rho = parts[2 * i], parts[2 * i + 1], self.reads[i], self.rho[i]
            done.append(alpha * self.across[i] + rho * _times(layer, layer.mask, a * beta))
            done.append(beta * self.along[i] + a * _back(layer, layer.mask, rho * alpha))
        return torch.cat(done, 1)

    def product(self, v: Tensor, lifted: Tensor) -> Tensor:
        """Return H v in coordinates, from v and G v: the change of (rho, a) along v."""
        parts = lifted.split(self.sizes, 1)
        moved = torch.zeros_like(self.values)
        bent = []
        for i, layer in enumerate(self.nets.layers):
            z = layer.scale * (_times(layer, layer.weight, moved[:, layer.reads]) + parts[2 * i])
            f = self.first[i] * z
            if layer.skip is not None:
                f = f + moved[:, layer.skip]
            moved[:, self.starts[i] : self.starts[i] + layer.weight.shape[1]] = f
            bent.append(self.sent[i] * self.second[i] * z)
        back = torch.zeros_like(self.values)
        done: list[Tensor] = []
        for i in reversed(range(len(self.nets.layers))):
            layer = self.nets.layers[i]
            sent = back[:, self.starts[i] : self.starts[i] + layer.weight.shape[1]].clone()
            rho = (sent * self.first[i] + bent[i]) * layer.scale
            back[:, layer.reads] += _back(layer, layer.weight, rho) + parts[2 * i + 1]
            if layer.skip is not None:
                back.index_add_(1, layer.skip, sent)
            done = [rho, moved[:, layer.reads], *done]
        return torch.cat(done, 1)

    def direction(self, v: Tensor) -> list[Tensor]:
        """Return a vector in coordinates as weights, one tensor (s, m, k) per layer."""
        parts = v.split(self.sizes, 1)
        done = []
        for i, layer in enumerate(self.nets.layers):
            step = parts[2 * i][..., None] * self.reads[i][:, None] + self.rho[i][..., None] * parts[2 * i + 1][:, None]
            done.append(step if layer.mask is None else step * layer.mask)
        return done

    def only(self, v: Tensor, layer: int) -> Tensor:
        """Return a vector with the weights of one layer (from 0) and zeros elsewhere."""
        parts = list(v.split(self.sizes, 1))
        return torch.cat([p if i // 2 == layer else torch.zeros_like(p) for i, p in enumerate(parts)], 1)

    def norm(self, seeds: Sequence[int], tol: float = 1e-3, most: int = 200) -> Norms:
        """Return the spectral norms of the Hessians; `vector` is in coordinates, `direction` gives its weights."""
        return spectral_norms(self.product, self._start(seeds), self.metric, tol, most)

    def block(self, seeds: Sequence[int], one: int, two: int, tol: float = 1e-3, most: int = 200) -> Norms:
        """Return the spectral norm of the block of layers `one` and `two` (from 0)."""

        def product(v: Tensor, lifted: Tensor) -> Tensor:
            found = self.only(self.product(v, self.only(lifted, one)), two)
            if one == two:
                return found
            return found + self.only(self.product(v, self.only(lifted, two)), one)

        start = self._start(seeds)
        start = self.only(start, one) if one == two else self.only(start, one) + self.only(start, two)
        return spectral_norms(product, start, self.metric, tol, most)

    def _start(self, seeds: Sequence[int]) -> Tensor:
        return normal(seeds, "lanczos", sum(self.sizes)).to(self.values)
