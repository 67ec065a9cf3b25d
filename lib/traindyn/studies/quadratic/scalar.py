r"""The quadratic model of a two-layer ReLU network on one example, as two numbers: its output g and its kernel lambda.

Gradient descent on (g - y)^2 / 2 closes in (g, lambda): eqs. (3.11) and (3.12) of Zhu's thesis, with c = |x|^2 / (m d).
So any width costs the same, and thousands of runs are one array. With one-dimensional inputs a training set is two such
systems side by side: |x| becomes |p|, the norm of the inputs of one sign, and y becomes <y, p> / |p|.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from traindyn.compute import generator


class Start(NamedTuple):
    """Outputs g and kernels lambda at initialisation, arrays of shape (widths, seeds), and c = |x|^2 / (m d)."""

    g: np.ndarray
    lam: np.ndarray
    c: np.ndarray


def rng(seed: int, purpose: str) -> np.random.Generator:
    """Return numpy's generator of one seed for one purpose."""
    return np.random.default_rng(generator(seed, purpose).initial_seed())


def narrow(m: float) -> float:
    """Return log m / sqrt m, as which Theta(log m / sqrt m) is read here."""
    return float(np.log(m) / np.sqrt(m))


def weights(seed: int, m: int, d: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return weights (m, d) and (m,) of one network, and an input (d,) with |x|^2 = d, float64."""
    draw = {"generator": generator(seed, "one example"), "dtype": torch.float64}
    u, x = torch.randn(m, d, **draw), torch.randn(d, **draw)
    return u, torch.where(torch.rand(m, **draw) < 0.5, -1.0, 1.0).double(), x * d**0.5 / x.norm()


def _half(active: int, m: int, draws: np.random.Generator) -> tuple[float, float]:
    """Return sum_i a_i / sqrt(m) and (P + sum_i a_i^2) / m for P standard normal a_i, from two draws."""
    if active == 0:
        return 0.0, 0.0
    mean = draws.standard_normal()
    squares = mean**2 + (draws.chisquare(active - 1) if active > 1 else 0.0)
    return mean * np.sqrt(active / m), (active + squares) / m


def start(seeds: Sequence[int], widths: Sequence[int], scale: float = 1.0, purpose: str = "scalar") -> Start:
    """Draw g(0) and lambda(0) for u ~ N(0, I), v = +-1, exactly in law and at no cost in the width.

    Of m neurons P ~ Bin(m, 1/2) are active. Their pre-activations times their signs are P independent normal numbers
    a_i, so g = sum a / sqrt(m) and lambda = (P + sum a^2) / m; mean and spread of normal numbers are independent.

    Args:
        seeds: one network each.
        widths: m.
        scale: |x|^2 / d.
        purpose: of the draws.
    """
    g, lam = np.empty((2, len(widths), len(seeds)))
    for i, m in enumerate(widths):
        for j, seed in enumerate(seeds):
            draws = rng(seed, f"{purpose}/{m}")
            g[i, j], lam[i, j] = _half(draws.binomial(m, 0.5), m, draws)
    c = scale / np.asarray(widths, float)[:, None] * np.ones(len(seeds))
    return Start(g * scale**0.5, lam * scale, c)


def sides(seeds: Sequence[int], widths: Sequence[int], squares: np.ndarray) -> tuple[Start, Start]:
    """Draw both systems of a training set in one dimension: a neuron sees either its positive or its negative inputs.

    Args:
        seeds, widths: as in `start`.
        squares: sum of x^2 over positive and over negative inputs, (2, seeds) or (2,).
    """
    squares = np.broadcast_to(np.asarray(squares, float).reshape(2, -1), (2, len(seeds)))
    g, lam = np.empty((2, 2, len(widths), len(seeds)))
    for i, m in enumerate(widths):
        for j, seed in enumerate(seeds):
            draws = rng(seed, f"sides/{m}")
            active = draws.binomial(m, 0.5)
            for side, count in enumerate((active, m - active)):
                g[side, i, j], lam[side, i, j] = _half(count, m, draws)
    c = squares[:, None, :] / np.asarray(widths, float)[None, :, None]
    g, lam = g * squares[:, None] ** 0.5, lam * squares[:, None]
    return Start(g[0], lam[0], c[0]), Start(g[1], lam[1], c[1])


def step(r: np.ndarray, lam: np.ndarray, c: np.ndarray, y: np.ndarray, lr: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return r = g - y and lambda after one step, and the factor mu of r: eqs. (3.11) and (3.12)."""
    mu = 1 - lr * lam + c * lr**2 * r * (r + y)
    return mu * r, lam - lr * c * r * (4 * (r + y) - lr * lam * r), mu


class Runs(NamedTuple):
    """What many runs went through, arrays of one shape.

    Attributes:
        start, peak, final: loss r^2 / 2 at first, at most, at last; infinite where the run diverged.
        lam: lambda at last; change: largest |lambda(t) - lambda(0)|.
        factor: largest |mu| on the way; length: of the path in weight space.
        rises: steps on which the loss rose.
    """

    start: np.ndarray
    peak: np.ndarray
    final: np.ndarray
    lam: np.ndarray
    change: np.ndarray
    factor: np.ndarray
    length: np.ndarray
    rises: np.ndarray


def run(at: Start, rate: np.ndarray, y: np.ndarray | float = 1.0, steps: int = 4000, bound: float = 1e8) -> Runs:
    """Run gradient descent from many starts at once.

    Args:
        at: the starts.
        rate: learning rate times lambda(0); broadcasts against the starts (put a leading axis for several rates).
        y: target.
        steps: at most.
        bound: a run with |r| above it has diverged.
    """
    shape = np.broadcast_shapes(np.shape(rate), at.g.shape, np.shape(y))
    c, y = np.broadcast_to(at.c, shape), np.broadcast_to(np.asarray(y, float), shape)
    lam = np.broadcast_to(at.lam, shape).copy()
    r = np.broadcast_to(at.g, shape) - y
    lr, lam0 = rate / lam, lam.copy()
    first, peak = r**2 / 2, r**2 / 2
    change, factor, length, rises = np.zeros((4, *shape))
    gone = np.zeros(shape, bool)
    for _ in range(steps):
        with np.errstate(over="ignore", invalid="ignore"):
            length += np.where(gone, 0, lr * np.abs(r) * np.sqrt(np.maximum(lam, 0)))
            new, lam_new, mu = step(r, lam, c, y, lr)
        gone |= ~(np.abs(new) < bound)
        r, lam = np.where(gone, r, new), np.where(gone, lam, lam_new)
        settled = np.abs(r) < 1e-30
        r = np.where(settled, 0.0, r)
        factor = np.where(gone | settled, factor, np.maximum(factor, np.abs(mu)))
        rises += ~gone & ~settled & (np.abs(mu) >= 1)
        peak, change = np.maximum(peak, r**2 / 2), np.maximum(change, np.abs(lam - lam0))
        if (gone | (r == 0)).all():
            break
    lost = np.where(gone, np.inf, 0.0)
    return Runs(first, peak + lost, r**2 / 2 + lost, lam, change, factor, length + lost, rises)


def trace(at: Start, rate: np.ndarray, y: np.ndarray | float, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return u = c lr^2 r^2, v = lr lambda and w = c lr^2 r y of every step, (steps + 1, ...): eqs. (3.13), (3.14)."""
    shape = np.broadcast_shapes(np.shape(rate), at.g.shape)
    lam = np.broadcast_to(at.lam, shape).copy()
    r, lr = np.broadcast_to(at.g, shape) - y, rate / lam
    out = np.empty((3, steps + 1, *shape))
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(steps + 1):
            out[:, t] = at.c * lr**2 * r**2, lr * lam, at.c * lr**2 * r * y
            r, lam, _ = step(r, lam, at.c, y, lr)
    return out[0], out[1], out[2]


def bisect(at: Start, y: float, low: float, high: float, question: str, rounds: int = 30, steps: int = 4000):
    """Return the rate times lambda(0) between low and high from which runs diverge, or from which the loss ever rises.

    Args:
        at: the starts, (widths, seeds).
        y: target.
        low, high: rates at which the answer is no and yes.
        question: "diverges" or "rises".
        rounds: halvings of the interval.
        steps: of each run; slow convergence is not divergence.
    """
    low, high = np.full(at.g.shape, low), np.full(at.g.shape, high)
    for _ in range(rounds):
        middle = (low + high) / 2
        found = run(at, middle, y, steps)
        yes = np.isinf(found.final) if question == "diverges" else found.rises > 0
        low, high = np.where(yes, low, middle), np.where(yes, middle, high)
    return (low + high) / 2
