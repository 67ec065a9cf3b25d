"""Training steps of fully connected ReLU networks with one output, written out: forward, backward, kernels, features.

A step of a small batch takes less time than the bookkeeping of automatic differentiation, and the passes that give the
update also give the batch's tangent kernel: for a layer z = s W h + b the gradient of f(x_i) is s D_i h_i^T, with D_i
the derivative of f(x_i) by z, so that K = sum over layers of (D D^T) * (s^2 H H^T + 1 if there is a bias).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from traindyn.compute import generator
from traindyn.errors import InputError
from traindyn.layers import Activation, Linear
from traindyn.learn.models import FCN


def network(seed: int, d: int, size: object, dtype: torch.dtype, *, std: float = 1.0, law: str = "none") -> Relu:
    """Draw the network of one seed.

    Args:
        seed: of the weights.
        d: number of inputs.
        size: attributes width and depth (weight layers).
        dtype: of the weights.
        std: standard deviation of the weights, NTK parameterisation.
        law: "none" (no biases), "zero", "normal" (how biases start), or "torch" (PyTorch's parameterisation and
            initial law, biases included).
    """
    options = {"generator": generator(seed, "init")}
    if law == "torch":
        options |= {"parameterization": "standard", "init": "torch", "bias": "torch", "output_bias": "torch"}
    elif law != "none":
        options |= {"bias": law, "output_bias": law}
    return Relu(FCN(d, size.width, size.depth, init_std=std, **options).to(dtype))


class Relu:
    """A fully connected ReLU network with its passes written out; it trains the weights of the module it is given.

    Args:
        model: a `learn.models.FCN` with one output and ReLU activations.

    Raises:
        InputError: another kind of network.
    """

    def __init__(self, model: FCN) -> None:
        layers = list(model.layers)
        kinds = [type(layer) for layer in layers]
        if model.out_dim != 1 or kinds != [Linear, Activation] * (len(layers) // 2) + [Linear]:
            raise InputError("model: expected a fully connected network with one output")
        if any(part.name != "relu" for part in layers[1::2]):
            raise InputError("model: expected ReLU activations")
        self.model, linear = model, layers[::2]
        self.weights = [part.weight.data for part in linear]
        self.biases = [None if part.bias is None else part.bias.data for part in linear]
        self.scales = [part.scale for part in linear]

    @property
    def state(self) -> list[Tensor]:
        """Weights and biases; changed in place by training."""
        return [*self.weights, *(b for b in self.biases if b is not None)]

    def copy(self) -> list[Tensor]:
        """Return a copy of weights and biases, for `restore`."""
        return [part.clone() for part in self.state]

    def restore(self, kept: Sequence[Tensor]) -> None:
        """Set weights and biases to a copy."""
        for part, value in zip(self.state, kept, strict=True):
            part.copy_(value)

    def forward(self, X: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the inputs of every layer, [X, h_1, ...], and the outputs (n,)."""
        held = [X]
        for at, (W, b, s) in enumerate(zip(self.weights, self.biases, self.scales, strict=True)):
            z = torch.matmul(held[-1], W.T).mul_(s)
            if b is not None:
                z += b
            if at + 1 < len(self.weights):
                held.append(z.relu_())
        return held, z[:, 0]

    def __call__(self, X: Tensor) -> Tensor:
        """Return the outputs (n,) of inputs (n, d)."""
        return torch.cat([self.forward(part)[1] for part in X.split(5000)])

    def backward(self, held: Sequence[Tensor], seed: Tensor) -> list[Tensor]:
        """Return seed_i times the derivative of f(x_i) by every layer's z, each (n, units), the first layer first."""
        found = [seed[:, None]]
        for at in range(len(self.weights) - 1, 0, -1):
            if at == len(self.weights) - 1:
                down = seed[:, None] * (self.weights[at] * self.scales[at])
            else:
                down = torch.matmul(found[0], self.weights[at]).mul_(self.scales[at])
            found.insert(0, down.mul_(held[at] > 0))
        return found

    def descend(self, held: Sequence[Tensor], signals: Sequence[Tensor], lr: float) -> None:
        """Subtract lr times the gradient that these signals (from `backward`) stand for."""
        for W, b, s, h, D in zip(self.weights, self.biases, self.scales, held, signals, strict=True):
            W.addmm_(D.T, h, alpha=-lr * s)
            if b is not None:
                b.sub_(D.sum(0), alpha=lr)

    def gradients(self, held: Sequence[Tensor], signals: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradient that these signals stand for, in the order of `state`."""
        grads = [D.T @ h * s for s, h, D in zip(self.scales, held, signals, strict=True)]
        return grads + [D.sum(0) for b, D in zip(self.biases, signals, strict=True) if b is not None]

    def kernel(self, held: Sequence[Tensor], signals: Sequence[Tensor]) -> Tensor:
        """Return the tangent kernel (n, n) from the passes with seed 1."""
        total = None
        for b, s, h, D in zip(self.biases, self.scales, held, signals, strict=True):
            inputs = (h @ h.T).mul_(s * s)
            if b is not None:
                inputs += 1
            if D.shape[1] > 1:
                inputs *= D @ D.T
            total = inputs if total is None else total.add_(inputs)
        return total

    def trace(self, held: Sequence[Tensor], signals: Sequence[Tensor]) -> float:
        """Return the trace of that kernel, which costs less."""
        total = 0.0
        for b, s, h, D in zip(self.biases, self.scales, held, signals, strict=True):
            inputs = h.square().sum(1).mul_(s * s)
            total += float(((inputs if b is None else inputs + 1) * D.square().sum(1)).sum())
        return total

    def slopes(self, X: Tensor) -> Tensor:
        """Return the input gradients, (n, d)."""
        found = []
        for part in X.split(5000):
            held, out = self.forward(part)
            first = self.backward(held, torch.ones_like(out))[0]
            found.append(torch.matmul(first, self.weights[0]).mul_(self.scales[0]))
        return torch.cat(found)

    def agop(self, X: Tensor) -> Tensor:
        """Return the average outer product of the input gradients, (d, d): eq. (4.5)."""
        rows = self.slopes(X)
        return rows.T @ rows / len(X)

    def top(self, X: Tensor, start: Tensor | None = None, rounds: int = 60, tolerance: float = 1e-5) -> tuple:
        """Return the largest eigenvalue of the tangent kernel on X and its eigenvector (n,), without the kernel.

        Block power iteration of two vectors, each a product with J and J^T, until the Rayleigh quotient moves by less
        than `tolerance` of itself.

        Args:
            X: inputs (n, d).
            start: two vectors (n, 2) to begin with; None: the constant one and the first input's.
            rounds: iterations at most.
            tolerance: relative change at which to stop.

        Returns:
            value, vectors (n, 2), the leading one first.
        """
        held, out = self.forward(X)
        signals = self.backward(held, torch.ones_like(out))
        if start is None:
            start = torch.stack([torch.ones_like(out), X[:, 0]], 1)
        V, before = torch.linalg.qr(start)[0], 0.0
        for _ in range(rounds):
            KV = self._times(held, signals, V)
            values, turn = torch.linalg.eigh((V.T @ KV).double())
            value = float(values[-1])
            order = turn.flip(1).to(V)
            if not math.isfinite(value):
                return math.nan, V
            if abs(value - before) <= tolerance * value:
                return value, V @ order
            before, V = value, torch.linalg.qr(KV @ order)[0]
        return value, V

    def _times(self, held: Sequence[Tensor], signals: Sequence[Tensor], V: Tensor) -> Tensor:
        """Return K V for V (n, k)."""
        columns = []
        for v in V.T:
            out = torch.zeros_like(v)
            for b, s, h, D in zip(self.biases, self.scales, held, signals, strict=True):
                out += ((h @ ((v[:, None] * D).T @ h).T) * D).sum(1) * (s * s)
                if b is not None:
                    out += D @ (v @ D)
            columns.append(out)
        return torch.stack(columns, 1)

    def critical(self, X: Tensor) -> float:
        """Return n / ||K|| on X, the critical rate of the mean square loss; infinity where no unit is active."""
        norm = self.top(X)[0]
        return len(X) / norm if norm else math.inf
