r"""Three-layer ReLU networks and their Taylor models, written out.

As long as no gate changes, f = v^T D_2 W D_1 U x / (m sqrt d) is trilinear in its layers. So with gates frozen at the
start, T(U, W, v) is the Taylor model of order 3, and f_quad = T(U, W, v) - T(U - U_0, W - W_0, v - v_0): the product of
the three steps is the cubic term.
"""

from __future__ import annotations

import torch
from torch import Tensor

from traindyn.compute import generator
from traindyn.errors import choose
from traindyn.studies.quadratic.spans import MODELS

Weights = tuple[Tensor, Tensor, Tensor]


class ThreeLayer:
    """A three-layer ReLU network of width m in the NTK parameterisation, or one of its Taylor models.

    Args:
        seed: of the weights, all N(0, 1).
        X, X_test: inputs, (n, d) and (n_test, d).
        m: width of both hidden layers.
        model: "f", "lin", "quad" or "cubic".
    """

    def __init__(self, seed: int, X: Tensor, m: int, X_test: Tensor, model: str = "f") -> None:
        self.order = MODELS[choose("model", model, MODELS)]
        rng = generator(seed, "three-layer")
        shapes = ((m, X.shape[1]), (m, m), (m, 1))
        self.at: Weights = tuple(torch.randn(s, generator=rng, dtype=torch.float64).to(X) for s in shapes)
        self.w: Weights = tuple(part.clone() for part in self.at)
        self.X, self.X_test = X, X_test
        self.gates = {name: self._gates(part) for name, part in (("train", X), ("test", X_test))}
        self._kept: list[tuple[float, Weights, tuple[Tensor, ...]]] = []

    def _gates(self, X: Tensor) -> tuple[Tensor, Tensor]:
        U, W, _ = self.at
        z = X @ U.T
        return (z > 0).to(X), (z.relu() @ W.T > 0).to(X)

    @staticmethod
    def _through(X: Tensor, w: Weights, gates: tuple[Tensor, Tensor] | None) -> tuple[Tensor, ...]:
        """Return both hidden layers (scaled), the gates and the output of the trilinear map, or of the network."""
        U, W, v = w
        m, d = U.shape
        z1 = X @ U.T / d**0.5
        g1 = (z1 > 0).to(X) if gates is None else gates[0]
        h1 = g1 * z1
        z2 = h1 @ W.T / m**0.5
        g2 = (z2 > 0).to(X) if gates is None else gates[1]
        h2 = g2 * z2
        return h1, h2, g1, g2, h2 @ v / m**0.5

    def _terms(self) -> list[tuple[float, Weights]]:
        """Return (sign, weights) whose trilinear maps add up to the model."""
        if self.order in (None, 3):
            return [(1.0, self.w)]
        step = tuple(a - b for a, b in zip(self.w, self.at, strict=True))
        if self.order == 2:
            return [(1.0, self.w), (-1.0, step)]
        (U, W, v), (dU, dW, dv) = self.at, step
        return [(1.0, self.at), (1.0, (dU, W, v)), (1.0, (U, dW, v)), (1.0, (U, W, dv))]

    def _forward(self, X: Tensor, gates: tuple[Tensor, Tensor]) -> Tensor:
        gates = None if self.order is None else gates
        self._kept = [(sign, w, self._through(X, w, gates)) for sign, w in self._terms()]
        return sum(sign * found[-1] for sign, _, found in self._kept)

    def value(self) -> Tensor:
        """Return the outputs on the training inputs, (n, 1)."""
        return self._forward(self.X, self.gates["train"])

    def test(self) -> Tensor:
        """Return the outputs on the test inputs, (n_test, 1)."""
        return self._forward(self.X_test, self.gates["test"])

    def _back(self, r: Tensor, w: Weights, found: tuple[Tensor, ...]) -> Weights:
        (U, W, v), (h1, h2, g1, g2, _) = w, found
        m, d = U.shape
        d2 = g2 * (r @ v.T) / m**0.5
        d1 = g1 * (d2 @ W) / m**0.5
        return d1.T @ self.X / d**0.5, d2.T @ h1 / m**0.5, h2.T @ r / m**0.5

    def step(self, r: Tensor, lr: float) -> float:
        """Take one step of gradient descent on (1/2) sum r^2; return its length in weight space."""
        self.value()
        if self.order == 1:  # one layer of each term moves, the others stay
            slopes = self._back(r, self._kept[0][1], self._kept[0][2])
        else:
            parts = [tuple(sign * g for g in self._back(r, w, found)) for sign, w, found in self._kept]
            slopes = tuple(sum(group) for group in zip(*parts, strict=True))
        self.w = tuple(part - lr * g for part, g in zip(self.w, slopes, strict=True))
        return lr * float(sum(g.square().sum() for g in slopes).sqrt())

    def seen_as(self, model: str) -> ThreeLayer:
        """Return another Taylor model (or the network) at these weights, expanded at the same point."""
        other = object.__new__(ThreeLayer)
        other.__dict__.update(self.__dict__)
        other.order, other._kept = MODELS[model], []
        return other

    def kernel(self) -> Tensor:
        """Return the tangent kernel of the network on the training inputs at these weights, (n, n)."""
        h1, h2, g1, g2, _ = self._through(self.X, self.w, None)
        (U, W, v), one = self.w, torch.ones(len(self.X), 1).to(self.X)
        m, d = U.shape
        d2 = g2 * (one @ v.T) / m**0.5
        d1 = g1 * (d2 @ W) / m**0.5
        return h2 @ h2.T / m + (d2 @ d2.T) * (h1 @ h1.T) / m + (d1 @ d1.T) * (self.X @ self.X.T) / d
