r"""Two-layer networks and their Taylor models, trained in the span of their training inputs.

Gradient descent moves the first layer in the span of the n training inputs only, u_i(t) = u_i(0) + sum_k C_ik x_k, so
pre-activations z = U X^T / sqrt(d) move by C G with the Gram matrix G = X X^T / d, and the input dimension d is gone:
exact, and cheaper by d/n. The network is eq. (3.9) of Zhu's thesis, f = sum_i v_i s(z_i) / sqrt(m); its Taylor models
of order p in the weights are closed forms in z - z_0 and v - v_0. With a ReLU, order 2 and order 3 are the network with
its gates frozen (eq. 3.10).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from scipy.linalg import eigh
from torch import Tensor
from torch.nn import functional as F

from traindyn.compute import generator, in_float64
from traindyn.errors import InputError, choose

MODELS = {"f": None, "lin": 1, "quad": 2, "cubic": 3}  # order of the Taylor model; None: the network itself


def relu(z: Tensor, order: int) -> Tensor | None:
    """Return the ReLU (order 0) or its derivative; None for those that vanish away from the kink."""
    return z.relu() if order == 0 else z.sign().relu() if order == 1 else None


def tanh(z: Tensor, order: int) -> Tensor:
    """Return tanh or its derivative of order 1, 2 or 3."""
    t = z.tanh()
    s = 1 - t * t
    return (t, s, -2 * t * s, s * (6 * t * t - 2))[order] if order > 1 else (t if order == 0 else s)


def swish(z: Tensor, order: int) -> Tensor:
    """Return z sigmoid(z) or its derivative of order 1, 2 or 3."""
    p = z.sigmoid()
    if order == 0:
        return z * p
    q = p * (1 - p)
    if order == 1:
        return p + z * q
    dq = q * (1 - 2 * p)
    return 2 * q + z * dq if order == 2 else 3 * dq + z * (dq * (1 - 2 * p) - 2 * q * q)


ACTIVATIONS: dict[str, Callable[[Tensor, int], Tensor | None]] = {"relu": relu, "tanh": tanh, "swish": swish}


@dataclass
class Start:
    """Where a fully connected network starts: pre-activations, outer weights, Gram matrices.

    Attributes:
        z: pre-activations of m hidden units on the training inputs, (m, n); v: outer weights, (m, c).
        z_test: on the test inputs, (m, n_test).
        gram: X X^T / d, (n, n); gram_test: X X_test^T / d, (n, n_test).
    """

    z: Tensor
    v: Tensor
    z_test: Tensor
    gram: Tensor
    gram_test: Tensor

    def push(self, pull: Tensor) -> tuple[Tensor, Tensor]:
        """Return how first-layer coordinates and pre-activations move for derivatives in z, (m, n)."""
        return pull, pull @ self.gram

    def length(self, moved: Tensor, dz: Tensor) -> Tensor:
        """Return the squared length of a step of the first layer."""
        return (moved * dz).sum().clamp_min(0)

    def reach(self, moved: Tensor) -> Tensor:
        """Return the pre-activations of the test inputs for moved coordinates."""
        return torch.addmm(self.z_test, moved, self.gram_test)

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the inner products of first-layer gradients with derivatives a and b in z, (n, n)."""
        return (a.T @ b) * self.gram


@dataclass
class ConvStart:
    """The same for one convolution: a hidden unit is a pair of position and channel, channels share their kernel.

    Attributes:
        z, v, z_test: as in `Start`, with m = positions x channels.
        patches, patches_test: inputs under the kernel over sqrt q, (n, positions, q).
    """

    z: Tensor
    v: Tensor
    z_test: Tensor
    patches: Tensor
    patches_test: Tensor

    def _gradients(self, pull: Tensor) -> Tensor:
        spots = self.patches.shape[1]
        return torch.einsum("pcn,npq->ncq", pull.view(spots, -1, pull.shape[1]), self.patches)

    def push(self, pull: Tensor) -> tuple[Tensor, Tensor]:
        """Return how kernels (channels, q) and pre-activations move for derivatives in z, (m, n)."""
        spots, n = self.patches.shape[1], pull.shape[1]
        per = pull.view(spots, -1, n).permute(1, 2, 0).reshape(-1, n * spots)
        dw = per @ self.patches.reshape(n * spots, -1)
        return dw, _preactivations(self.patches, dw)

    def length(self, moved: Tensor, dz: Tensor) -> Tensor:
        """Return the squared length of a step of the kernels."""
        return moved.square().sum()

    def reach(self, moved: Tensor) -> Tensor:
        """Return the pre-activations of the test inputs for moved kernels."""
        return self.z_test + _preactivations(self.patches_test, moved)

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the inner products of the kernels' gradients with derivatives a and b in z, (n, n)."""
        return self._gradients(a).flatten(1) @ self._gradients(b).flatten(1).T


def _preactivations(patches: Tensor, w: Tensor) -> Tensor:
    """Return (positions x channels, n) for patches (n, positions, q) and kernels (channels, q)."""
    n, spots, q = patches.shape
    return (patches.reshape(n * spots, q) @ w.T).view(n, spots, len(w)).permute(1, 2, 0).reshape(spots * len(w), n)


def start(seed: int, X: Tensor, m: int, X_test: Tensor | None = None, outputs: int = 1, outer: str = "sign") -> Start:
    """Draw a two-layer network of width m, u ~ N(0, I), v = +-1 (or N(0, 1)), on inputs X (n, d).

    Args:
        seed: of the weights.
        X: training inputs, (n, d); their dtype is that of everything.
        m: width.
        X_test: test inputs, (n_test, d); none if None.
        outputs: number c of outputs.
        outer: law of v, "sign" as in eq. (3.9) or "normal" as in the proofs.
    """
    X_test = X[:0] if X_test is None or not len(X_test) else X_test
    scale, rng = X.shape[1] ** -0.5, generator(seed, "two-layer")
    v = _outer(m, outputs, outer, rng).to(X)
    u = torch.randn(m, X.shape[1], generator=rng, dtype=torch.float64).to(X)
    return Start(u @ X.T * scale, v, u @ X_test.T * scale, X @ X.T * scale**2, X @ X_test.T * scale**2)


def conv_start(seed: int, X: Tensor, channels: int, X_test: Tensor, outputs: int = 1, outer: str = "sign") -> ConvStart:
    """Draw a two-layer convolutional network: 3 x 3 kernels with padding, then one weight per position and channel.

    Args:
        seed, outputs, outer: as in `start`.
        X, X_test: images, (n, colours, h, w).
        channels: of the convolution, the width.
    """
    rng = generator(seed, "two-layer")
    patches, patches_test = (F.unfold(part, 3, padding=1).mT / (9 * X.shape[1]) ** 0.5 for part in (X, X_test))
    v = _outer(patches.shape[1] * channels, outputs, outer, rng).to(X)
    w = torch.randn(channels, patches.shape[2], generator=rng, dtype=torch.float64).to(X)
    patches, patches_test = patches.contiguous(), patches_test.contiguous()
    return ConvStart(_preactivations(patches, w), v, _preactivations(patches_test, w), patches, patches_test)


def _outer(m: int, outputs: int, law: str, rng: torch.Generator) -> Tensor:
    v = torch.randn(m, outputs, generator=rng, dtype=torch.float64)
    return torch.where(v > 0, 1.0, -1.0) if choose("outer", law, ("sign", "normal")) == "sign" else v


class TwoLayer:
    """A two-layer network or one of its Taylor models, with the gradient step written out.

    Args:
        at: its start, which is also the expansion point.
        model: "f", "lin", "quad" or "cubic".
        activation: one of `ACTIVATIONS`.
    """

    def __init__(self, at: Start | ConvStart, model: str = "f", activation: str = "relu") -> None:
        self.order = MODELS[choose("model", model, MODELS)]
        self.act = ACTIVATIONS[choose("activation", activation, ACTIVATIONS)]
        self.at, self.m = at, len(at.v)
        self.moved, self.v, self.z = 0.0, at.v.clone(), at.z.clone()
        self.jets = None if self.order is None else self._jets(at.z)
        self._now: tuple[Tensor, Tensor, Tensor | None] | None = None

    def _jets(self, z: Tensor) -> list[Tensor | None]:
        return [self.act(z, k) for k in range(self.order + 1)]

    def _parts(self, z: Tensor, base: Tensor, jets: list[Tensor | None] | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return h, s and z - z_0: what v multiplies, what it multiplies in the slope, and the step if it is needed."""
        if self.order is None:
            return self.act(z, 0), self.act(z, 1), None
        s0, s1 = jets[0], jets[1]
        step = z - base
        if self.order == 1:
            return s0, s1, step
        h, s = torch.addcmul(s0, s1, step), s1
        if self.order == 3 and jets[2] is not None:
            h, s = h + jets[2] * step.square() / 2, s + jets[2] * step
        return h, s, step if jets[self.order] is not None else None

    def _value(self, parts: tuple[Tensor, Tensor, Tensor | None], jets: list[Tensor | None] | None) -> Tensor:
        h, s, step = parts
        total = h.T @ self.v
        if self.order == 1:
            total = total + (s * step).T @ self.at.v
        elif step is not None:  # v_0 times the highest derivative, on top of what the moving v multiplies
            top = jets[self.order] * step**self.order / (2 if self.order == 2 else 6)
            total = total + top.T @ self.at.v
        return total / self.m**0.5

    def value(self) -> Tensor:
        """Return the outputs on the training inputs, (n, c)."""
        self._now = self._parts(self.z, self.at.z, self.jets) if self._now is None else self._now
        return self._value(self._now, self.jets)

    def test(self) -> Tensor:
        """Return the outputs on the test inputs, (n_test, c)."""
        z = self.at.z_test if isinstance(self.moved, float) else self.at.reach(self.moved)
        jets = None if self.order is None else self._jets(self.at.z_test)
        return self._value(self._parts(z, self.at.z_test, jets), jets)

    def seen_as(self, model: str) -> TwoLayer:
        """Return another Taylor model (or the network) at these weights, expanded at the same point."""
        other = TwoLayer(self.at, model)
        other.act, other.jets = self.act, None
        if other.order is not None:
            other.jets = other._jets(self.at.z)
        other.moved, other.v, other.z = self.moved, self.v, self.z
        return other

    def _slopes(self, weights: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Return h and df/dz summed with weights over outputs: `weights` maps v (m, c) to (m, n)."""
        self.value()
        h, s, step = self._now
        if self.order == 1:
            return h, s * weights(self.at.v)
        slope = s * weights(self.v)
        if step is not None:
            slope = slope + self.jets[self.order] * step ** (self.order - 1) / (self.order - 1) * weights(self.at.v)
        return h, slope

    def step(self, r: Tensor, lr: float) -> float:
        """Take one step of gradient descent on (1/2) sum r^2; return its length in weight space.

        Args:
            r: residuals f - y, (n, c); zero where a sample is left out.
            lr: learning rate.
        """
        h, pull = self._slopes(lambda v: v @ r.T)
        scale, dv = lr / self.m**0.5, h @ r
        moved, dz = self.at.push(pull)
        length = scale * (self.at.length(moved, dz) + dv.square().sum()).sqrt()
        self.moved = self.moved - scale * moved
        self.z = self.z.sub_(dz, alpha=scale)
        self.v.sub_(dv, alpha=scale)
        self._now = None
        return float(length)

    def kernel(self) -> Tensor:
        """Return the tangent kernel on the training inputs, (n c, n c), sample-major."""
        c, n = self.v.shape[1], self.z.shape[1]
        found = [self._slopes(lambda v, k=k: v[:, k : k + 1]) for k in range(c)]
        h, slopes = found[0][0], [slope for _, slope in found]
        K, same = self.z.new_empty(n, c, n, c), h.T @ h
        for a in range(c):
            for b in range(a, c):
                block = self.at.inner(slopes[a], slopes[b]) + (same if a == b else 0)
                K[:, a, :, b], K[:, b, :, a] = block / self.m, block.T / self.m
        return K.reshape(n * c, n * c)


def top_eigenvalue(model: Any) -> float:
    """Return the largest eigenvalue of the tangent kernel on the training inputs."""
    K = in_float64(model.kernel()).cpu().numpy()
    return float(eigh(K, eigvals_only=True, subset_by_index=[len(K) - 1, len(K) - 1])[0])


@dataclass
class Path:
    """What one run went through; lists over the recorded steps.

    Attributes:
        steps: numbers of updates; loss: (1/2) sum r^2 of the training set at each update from 0 (all of them).
        test: mean square error per output on the test set; wrong: share of test samples misclassified.
        length: of the path in weight space.
        diverged: whether the loss left all bounds.
    """

    steps: list[int]
    loss: list[float]
    test: list[float]
    wrong: list[float]
    length: float
    diverged: bool


def train(
    model: Any,
    y: Tensor,
    lr: float,
    steps: int,
    y_test: Tensor | None = None,
    every: int = 0,
    batches: Tensor | None = None,
    bound: float = 1e6,
    look: Callable[[Any, int], None] | None = None,
) -> Path:
    """Train by gradient descent on (1/2) sum (f - y)^2, or by SGD with the same mean gradient.

    Args:
        model: a `TwoLayer`, or anything with its value, test and step; changed in place.
        y: targets, (n, c).
        lr: learning rate.
        steps: updates.
        y_test: test targets, (n_test, c).
        every: updates between two looks at the test set; 0: none.
        batches: indices of the batches, (steps, b): residuals are multiplied by n/b on them, 0 elsewhere.
        bound: the run has diverged when its loss exceeds bound times (initial loss + n c / 2), or is not finite.
        look: called with the model and the number of updates before every update and at the end.

    Raises:
        InputError: the test set is to be looked at without targets.
    """
    if every and y_test is None:
        raise InputError("train: every > 0 looks at the test set, so y_test is needed")
    path = Path([], [], [], [], 0.0, False)
    limit = None
    for t in range(steps + 1):
        if look is not None:
            look(model, t)
        r = model.value() - y
        loss = float(r.square().sum()) / 2
        path.loss.append(loss)
        limit = bound * (loss + y.numel() / 2) if limit is None else limit
        if not loss < limit:
            path.diverged = True
            break
        if every and (t % every == 0 or t == steps):
            _test(model, y_test, path, t)
        if t == steps:
            break
        if batches is not None:
            kept = y.new_zeros(len(y), 1).index_add_(0, batches[t].to(y.device), y.new_ones(batches.shape[1], 1))
            r = r * kept * (len(y) / batches.shape[1])
        path.length += model.step(r, lr)
    return path


def _test(model: TwoLayer, y: Tensor, path: Path, t: int) -> None:
    f = model.test()
    path.steps.append(t)
    path.test.append(float((f - y).square().mean()))
    right = (f * y > 0).squeeze(1) if y.shape[1] == 1 else f.argmax(1) == y.argmax(1)
    path.wrong.append(1 - int(right.sum()) / right.numel())
