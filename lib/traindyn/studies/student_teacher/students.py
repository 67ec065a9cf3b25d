"""Many fully connected ReLU students at once: plain tensors with a run axis, SGD with gradients written by hand.

A student-teacher sweep trains hundreds of small networks on which automatic differentiation costs more than the
arithmetic. Here a step is a few batched matrix products, and the runs are cut into chunks that stay in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from traindyn.compute import generator
from traindyn.errors import InputError, choose
from traindyn.layers import draw
from traindyn.measure.curves import log_steps

Batches = Callable[[slice, int, int], tuple[Tensor, Tensor]]
BLOCK = 50  # steps whose batches are gathered at once
INPUTS = 1.5  # standard deviation of a student's inputs, as in the authors' code
CACHE = 3 * 2**20  # bytes of weights and activations that one chunk of runs may take
_gate = torch.ops.aten.threshold_backward.grad_input  # gradient through a ReLU in place: one pass, no mask


@dataclass
class Nets:
    """R networks of one shape: f_l = relu(f_{l-1} W_l + b_l), without a ReLU at the top.

    Attributes:
        weights: W_l, each (R, n_{l-1}, n_l).
        biases: b_l, each (R, 1, n_l).
        linear: no ReLU anywhere.
    """

    weights: list[Tensor]
    biases: list[Tensor]
    linear: bool = False

    @property
    def runs(self) -> int:
        """How many networks there are."""
        return self.weights[0].shape[0]

    def layers(self, X: Tensor) -> list[Tensor]:
        """Return the activations [f_1, ..., f_L] on X, (R, n, d) or (n, d) for all; f_l is (R, n, n_l)."""
        out = [X.expand(self.runs, *X.shape[-2:])]
        for depth, (W, b) in enumerate(zip(self.weights, self.biases, strict=True), 1):
            z = torch.baddbmm(b, out[-1], W)
            out.append(z if self.linear or depth == len(self.weights) else z.relu_())
        return out[1:]

    def __call__(self, X: Tensor) -> Tensor:
        """Return the outputs on X, (R, n, C)."""
        return self.layers(X)[-1]

    def take(self, runs: slice) -> Nets:
        """Return the networks of some runs; the tensors are views."""
        return Nets([W[runs] for W in self.weights], [b[runs] for b in self.biases], self.linear)

    def to(self, dtype: torch.dtype, device: torch.device | str | None = None) -> Nets:
        """Return a copy in another precision or place."""
        return Nets(
            [W.to(device, dtype, copy=True) for W in self.weights],
            [b.to(device, dtype, copy=True) for b in self.biases],
            self.linear,
        )


def students(
    seeds: Sequence[int], widths: Sequence[int], std: float | None = 0.005, purpose: str = "init", linear: bool = False
) -> Nets:
    """Draw one student per seed in float64.

    Args:
        seeds: one integer per run; a run does not depend on the others.
        widths: [d, n_1, ..., C].
        std: standard deviation of the normal weights, with biases zero; None: torch's default, weights and biases
            uniform within 1/sqrt(fan_in).
        purpose: stream of the generator.
        linear: no ReLU.
    """
    nets = Nets([], [], linear)
    for depth, (fan_in, fan_out) in enumerate(zip(widths, widths[1:], strict=False), 1):
        W = torch.empty(len(seeds), fan_in, fan_out, dtype=torch.float64)
        b = torch.zeros(len(seeds), 1, fan_out, dtype=torch.float64)
        for w_run, b_run, seed in zip(W, b, seeds, strict=True):
            law, scale = ("torch", 1.0) if std is None else ("normal", std)
            stream = generator(seed, f"{purpose}-{depth}")
            draw(w_run, law, scale, (fan_in, fan_out), stream)
            if std is None:
                draw(b_run, law, scale, (fan_in, fan_out), stream)
        nets.weights.append(W)
        nets.biases.append(b)
    return nets


def joined(parts: Sequence[Nets]) -> Nets:
    """Return the runs of several sets of networks of one shape as one set."""
    weights, biases = (
        [list(layer) for layer in zip(*(getattr(p, name) for p in parts), strict=True)]
        for name in ("weights", "biases")
    )
    return Nets([torch.cat(layer) for layer in weights], [torch.cat(layer) for layer in biases], parts[0].linear)


def from_set(X: Tensor, y: Tensor, seeds: Sequence[int], size: int) -> Batches:
    """Return batches drawn with replacement from fixed sets.

    Args:
        X, y: (R, n, d) and (R, n, C).
        seeds: one per run; fixes the order.
        size: samples per batch.
    """
    streams = [generator(seed, "order") for seed in seeds]

    def batches(runs: slice, first: int, count: int) -> tuple[Tensor, Tensor]:
        picked = [torch.randint(X.shape[1], (count * size,), generator=stream) for stream in streams[runs]]
        at = torch.stack(picked).to(X.device)
        rows = torch.arange(runs.start, runs.stop, device=X.device)[:, None]
        return tuple(part[rows, at].unflatten(1, (count, size)).transpose(0, 1) for part in (X, y))

    return batches


def online(teacher: Nets, seeds: Sequence[int], size: int, scale: float) -> Batches:
    """Return fresh batches x ~ N(0, scale^2 I) with the teacher's outputs, never the same sample twice."""
    streams = [generator(seed, "order") for seed in seeds]
    like = teacher.weights[0]

    def batches(runs: slice, first: int, count: int) -> tuple[Tensor, Tensor]:
        shape = (count * size, like.shape[1])
        drawn = [torch.randn(shape, dtype=torch.float64, generator=stream) for stream in streams[runs]]
        X = scale * torch.stack(drawn).to(like)
        y = teacher.take(runs)(X)
        return tuple(part.unflatten(1, (count, size)).transpose(0, 1) for part in (X, y))

    return batches


def train(
    nets: Nets,
    batches: Batches,
    steps: int,
    rates: float | Sequence[tuple[int, float]],
    look: Callable[[Nets, slice, int], Mapping[str, Tensor]],
    at: Sequence[int],
    *,
    loss: str = "half_mse",
    layers: Sequence[int] | None = None,
    biases: bool = True,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    r"""Train all networks in place by SGD and look at them on the way.

    W_l += lr \* mean over the batch of f_{l-1} g_l^T with g_L = y - f_L ("half_mse": the gradient of
    (1/2b) sum |y - f|^2); "mse_entries" divides by the number of outputs and multiplies by 2, as torch's MSELoss.

    Args:
        nets: changed in place.
        batches: (runs, first step, count) -> X (count, R, b, d), y (count, R, b, C); called in order for each chunk.
        steps: number of updates.
        rates: one rate, or [(step from which it holds, rate), ...] beginning with step 0.
        look: (networks, which runs, step) -> {name: tensor (R, ...)}; called before the update `step`.
        at: the steps to look at, among 0, ..., steps.
        loss: half_mse or mse_entries.
        layers: weight layers that move (1 = lowest); None: all.
        biases: whether biases move.

    Returns:
        {name: (R, T, ...)} and the T steps.

    Raises:
        InputError: unknown loss, or `at` holds other steps.
    """
    choose("loss", loss, ("half_mse", "mse_entries"))
    times = np.unique(np.asarray(at, dtype=int))
    if times.size == 0 or times[0] < 0 or times[-1] > steps:
        raise InputError(f"at: expected steps between 0 and {steps}, got {at}")
    plan = [(0, rates)] if isinstance(rates, int | float) else sorted(rates)
    moving = set(range(1, len(nets.weights) + 1) if layers is None else layers)
    item = sum(W[0].nbytes for W in nets.weights) + 16 * 8 * sum(W.shape[2] for W in nets.weights)
    # a device takes all runs at once; on the CPU chunks fit the cache, and torch's threads share them out
    workers = 1 if nets.weights[0].is_cuda else torch.get_num_threads()
    chunk = nets.runs if nets.weights[0].is_cuda else max(1, min(-(-nets.runs // workers), CACHE // item))
    slices = [slice(start, min(start + chunk, nets.runs)) for start in range(0, nets.runs, chunk)]

    def one(runs: slice) -> dict[str, list[Tensor]]:
        if workers > 1:
            torch.set_num_threads(1)  # of this thread: the products are too small to be split
        return _chunk(nets.take(runs), batches, runs, steps, plan, look, set(times), loss, moving, biases)

    if workers == 1:
        pieces = [one(runs) for runs in slices]
    else:
        with ThreadPoolExecutor(workers) as pool:
            pieces = list(pool.map(one, slices))
    names = pieces[0]
    return {name: torch.cat([torch.stack(piece[name], 1) for piece in pieces]).cpu().numpy() for name in names}, times


def _chunk(
    nets: Nets,
    batches: Batches,
    runs: slice,
    steps: int,
    plan: Sequence[tuple[int, float]],
    look: Callable[[Nets, slice, int], Mapping[str, Tensor]],
    times: set[int],
    loss: str,
    moving: set[int],
    biases: bool,
) -> dict[str, list[Any]]:
    seen: dict[str, list[Any]] = {}

    def record(step: int) -> None:
        if step in times:
            for name, value in look(nets, runs, step).items():
                seen.setdefault(name, []).append(value.detach().clone())

    for first in range(0, steps, BLOCK):
        count = min(BLOCK, steps - first)
        X, y = batches(runs, first, count)
        factor = 1 / X.shape[2] if loss == "half_mse" else 2 / (X.shape[2] * y.shape[3])
        for i in range(count):
            record(first + i)
            rate = next(value for since, value in reversed(plan) if since <= first + i)
            _step(nets, X[i], y[i], rate * factor, moving, biases)
    record(steps)
    return seen


def _step(nets: Nets, x: Tensor, y: Tensor, scale: float, moving: set[int], biases: bool) -> None:
    below = [x, *nets.layers(x)]
    g = torch.sub(y, below.pop()).mul_(scale)
    for depth in range(len(nets.weights), 0, -1):
        W, f = nets.weights[depth - 1], below.pop()
        down = None
        if depth > min(moving):
            down = torch.bmm(g, W.mT)  # through the weights before they move
            if not nets.linear:
                _gate(down, f, 0, grad_input=down)
        if depth in moving:
            W.baddbmm_(f.mT, g)
            if biases:
                nets.biases[depth - 1].add_(g.sum(1, keepdim=True))
        if down is None:
            return
        g = down


def epochs(steps: int, early: float = 1.12, first: int = 1) -> list[int]:
    """Return about log(steps)/log(early) steps from 0 to `steps`, ever farther apart."""
    return log_steps(steps, max(2, int(math.log(steps / first) / math.log(early))), first)
