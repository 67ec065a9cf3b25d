"""When are ReLU units independent? Lemmas 2 to 6 as exact rank tests, explicit identities and linear programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import linprog
from torch import Tensor

from traindyn.compute import generator
from traindyn.evidence import table
from traindyn.measure.statistics import loglog_slope

CONE = 5.0  # the constant in Lemma 5: a point is clear of a boundary at distance 5 eps / |c_j|


def units(seed: int, K: int, d: int, purpose: str = "units") -> Tensor:
    """Return K generic units [w; b], (d+1, K): w of norm 1, b uniform in [-1/2, 1/2]."""
    draw = generator(seed, purpose)
    w = torch.randn(d, K, dtype=torch.float64, generator=draw)
    b = torch.rand(1, K, dtype=torch.float64, generator=draw) - 0.5
    return torch.cat([w / w.norm(dim=0), b])


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Return numpy's generator for one purpose: its seed is drawn from the stream of that purpose."""
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator(seed, purpose))))


def with_one(X: Tensor) -> Tensor:
    """Append the constant input 1."""
    return torch.cat([X, torch.ones(len(X), 1, dtype=X.dtype)], 1)


def condition(F: Tensor) -> float:
    """Return the smallest over the largest singular value."""
    values = torch.linalg.svdvals(F)
    return float(values[-1] / values[0])


def independence(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Test Lemma 2: singular values of `size.units` generic units on normal inputs, and of six units +-a, +-b, +-(a+b).

    Returns:
        Per seed: `generic`; `six` and `residual` (largest |sum| of the explicit identity); `pairs` (a, -a, b, -b
        alone: still independent, an antipodal pair hurts only in company or beside a linear term).
    """
    rows, d, K = [], size.d, size.units
    for seed in seeds:
        X = with_one(2 * torch.randn(size.samples, d, dtype=torch.float64, generator=generator(seed, "inputs")))
        row = {"seed": seed, "generic": condition((X @ units(seed, K, d)).relu())}
        a, b = units(seed, 2, d, "pair").T
        six = torch.stack([a, -a, b, -b, a + b, -a - b], 1)
        F = (X @ six).relu()
        signs = torch.tensor([1.0, -1.0, 1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
        row |= {"six": condition(F), "residual": float((F @ signs).abs().max()), "pairs": condition(F[:, :4])}
        rows.append(row)
    return table(pd.DataFrame(rows))


def local_independence(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Test Lemma 3 in a ball: generic units, one antipodal partner more, or one unit more that misses it.

    The columns are scaled to norm 1, so that a small ball does not make every column small.

    Args:
        seeds: one ball each.
        size: d, units, samples, radius.

    Returns:
        Per seed: `generic`, `antipodal`, `missing` (smallest / largest singular value of [units, x, 1]) and
        `identity`, the largest |relu(w.x) - relu(-w.x) - w.x| in the ball: c_j = 1 with a zero sum.
    """
    rows, d, K, samples, radius = [], size.d, size.units, size.samples, size.radius
    for seed in seeds:
        draw = generator(seed, "ball")
        centre = torch.randn(d, dtype=torch.float64, generator=draw)
        step = torch.randn(samples, d, dtype=torch.float64, generator=draw)
        r = radius * torch.rand(samples, 1, dtype=torch.float64, generator=draw) ** (1 / d)
        X = with_one(centre + r * step / step.norm(dim=1, keepdim=True))
        W = units(seed, K, d)
        through = 0.6 * radius * (2 * torch.rand(K, dtype=torch.float64, generator=draw) - 1)
        W[-1] = through - centre @ W[:-1]  # at distance |through| < radius from the centre
        missed = W[:, :1].clone()
        missed[-1] = 1.5 * radius - centre @ missed[:-1, 0]
        row = {"seed": seed}
        for name, extra in {"generic": W[:, :0], "antipodal": -W[:, :1], "missing": missed}.items():
            F = torch.cat([(X @ torch.cat([W, extra], 1)).relu(), X], 1)
            row[name] = condition(F / F.norm(dim=0))
        z = X @ W[:, 0]
        rows.append(row | {"identity": float((z.relu() - (-z).relu() - z).abs().max())})
    return table(pd.DataFrame(rows))


def hyperplanes(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Test Lemma 4: u = (w_2 - (w_1.w_2) w_1) / sin(theta) for `size.pairs` of unit w_1, w_2 in `size.d` dimensions.

    Returns:
        Per seed: `gap` (largest violation of |u| = 1, u.w_1 = 0, u.w_2 = sin theta), and `augmented` (the same with
        theta between the vectors that include the bias, as the notation of the statement reads).
    """
    rows = []
    for seed in seeds:
        first, second = (units(seed, size.pairs, size.d, name) for name in ("left", "right"))
        w1, w2 = first[:-1].T, second[:-1].T
        cos = (w1 * w2).sum(1, keepdim=True)
        sin = (1 - cos**2).sqrt()
        u = (w2 - cos * w1) / sin
        gap = [(u.norm(dim=1) - 1).abs(), (u * w1).sum(1).abs(), ((u * w2).sum(1) - sin[:, 0]).abs()]
        long = torch.nn.functional.cosine_similarity(first.T, second.T)
        rows.append((seed, float(torch.stack(gap).max()), float(((u * w2).sum(1) - (1 - long**2).sqrt()).abs().max())))
    return table(pd.DataFrame(rows, columns=["seed", "gap", "augmented"]))


def ball_ratios(last: int = 200) -> dict[str, float]:
    """Return the smallest V_{d-1} / (sqrt(2 pi / d) V_{d-2}) over d = 2, ..., last, for balls of radius 1.

    Returns:
        `volume_ratio`, and `volume_ratio_printed`, the same with the printed 2 pi in place of the radius.
    """

    def log_volume(n: int) -> float:
        return n / 2 * math.log(math.pi) - math.lgamma(n / 2 + 1)

    ratios = [math.exp(log_volume(d - 1) - log_volume(d - 2)) / math.sqrt(2 * math.pi / d) for d in range(2, last + 1)]
    return {"volume_ratio": min(ratios), "volume_ratio_printed": min(ratios) / (2 * math.pi)}


def misalignment(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Count random instances in which neither alternative of Lemma 5 holds.

    Half of the other units are drawn near w_j and a quarter of those near -w_j, at angles from 1e-5 to 1, because
    units far from it decide nothing.

    Args:
        seeds: one set of instances each.
        size: instances, samples (points of the boundary disc).

    Returns:
        Per seed: `instances`, `violations` with M as derived here (radius r in the denominator) and biases compared
        up to sign; `printed_M` with the printed 2 pi in place of r; `printed_bias` with biases compared as printed,
        all nearly antipodal instances included; `first` the share decided by alternative 1.
    """
    rows = []
    for seed in seeds:
        rng = stream(seed, "instances")
        counts = dict.fromkeys(("violations", "printed_M", "printed_bias", "first"), 0)
        for _ in range(size.instances):
            for name, value in _alternatives(rng, size.samples).items():
                counts[name] += value
        rows.append({"seed": seed, "instances": size.instances, **counts})
    return table(pd.DataFrame(rows))


def _alternatives(rng: np.random.Generator, samples: int) -> dict[str, bool]:
    d, K = int(rng.integers(3, 7)), int(rng.integers(2, 9))
    r, c, delta = rng.uniform(0.3, 3), rng.uniform(0.3, 3), rng.uniform(0.1, 0.5)
    eps0 = 10 ** rng.uniform(-4, -2)
    eps = eps0 * rng.uniform(0.1, 1)
    w = rng.normal(size=d)
    w /= np.linalg.norm(w)
    b = rng.uniform(-1, 1)
    basis = np.linalg.svd(w[None])[2][1:]  # of the hyperplane's directions
    u = rng.normal(size=(samples, d - 1))
    u *= r * rng.uniform(size=(samples, 1)) ** (1 / (d - 1)) / np.linalg.norm(u, axis=1, keepdims=True)
    x = -b * w + u @ basis
    kind = rng.choice(3, size=K - 1, p=[0.5, 0.375, 0.125])  # far, near, nearly antipodal
    theta = 10 ** rng.uniform(-5, 0, size=K - 1)
    side = rng.normal(size=(K - 1, d - 1)) @ basis
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    near = np.cos(theta)[:, None] * w + np.sin(theta)[:, None] * side
    far = rng.normal(size=(K - 1, d))
    far /= np.linalg.norm(far, axis=1, keepdims=True)
    sign = np.where(kind == 2, -1.0, 1.0)
    other = np.where((kind == 0)[:, None], far, sign[:, None] * near)
    bias = np.where(kind == 0, rng.uniform(-1, 1, K - 1), sign * (b + theta * rng.normal(size=K - 1)))
    sin = np.sqrt(np.clip(1 - (other @ w) ** 2, 0, None))
    clear = bool((np.abs(x @ other.T + bias) > CONE * eps / c).all(axis=1).any())

    def aligned(length: float, up_to_sign: bool) -> bool:
        M = 10 * eps0**delta / length * math.sqrt(d / (2 * math.pi))
        M2 = 2 * (r + abs(b)) * M * K * eps0**delta + CONE * eps0 ** (2 * delta)
        gap = np.abs(bias - b)
        if up_to_sign:
            gap = np.where(other @ w < 0, np.abs(bias + b), gap)
        return bool(((sin <= M * K * eps ** (1 - delta) / c) & (gap <= M2 * eps ** (1 - 2 * delta) / c)).any())

    return {
        "violations": not (clear or aligned(r, True)),
        "printed_M": not (clear or aligned(2 * math.pi, True)),
        "printed_bias": not (clear or aligned(r, False)),
        "first": aligned(r, True),
    }


def antipodal_instance() -> dict[str, float]:
    """Return the explicit case that refutes Lemmas 5 and 6 as printed: w' nearly -w, with b' nearly -b.

    relu(w.x + b) - relu(-(w.x + b)) - (w.x + b) = 0, so eps is as small as the tilt tau; then sin(theta) = tau, but
    |b' - b| = 2 |b| whatever eps is.

    Returns:
        `pair_eps` (sup of |h| on the unit ball), `pair_sin_theta`, `pair_bias_gap` (|b' - b|), `pair_signed_bias_gap`
        (|b' + b|).
    """
    tau, b = 1e-9, 0.3
    angle = torch.linspace(0, 2 * math.pi, 2001, dtype=torch.float64)
    X = torch.cat([s * torch.stack([angle.cos(), angle.sin()], 1) for s in torch.linspace(0, 1, 101).double()])
    first = X[:, 0] + b
    second = -(X[:, 0] * math.cos(tau) + X[:, 1] * math.sin(tau)) - b
    h = first.relu() - second.relu() - first
    return {
        "pair_eps": float(h.abs().max()),
        "pair_sin_theta": math.sin(tau),
        "pair_bias_gap": 2 * b,
        "pair_signed_bias_gap": 0.0,
    }


def smallest_sup(seed: int, d: int, K: int, theta: float, samples: int, antipodal: bool = False) -> float:
    """Return min over coefficients of sup |relu(w.x) - sum_i c_i relu(w_i.x) - linear| on [-1, 1]^d, a linear program.

    The K - 1 others sit at angles theta, 1.25 theta, 1.5 theta, ... from w on random sides, with small biases.

    Args:
        seed: fixes w and the sides.
        d, K: dimension and number of units.
        theta: the smallest angle.
        samples: points of the cube, and as many again in a strip around w's boundary.
        antipodal: put one of the others at -w instead.
    """
    rng = stream(seed, "program")
    w = rng.normal(size=d)
    w /= np.linalg.norm(w)
    side = rng.normal(size=(K - 1, d))
    side -= (side @ w)[:, None] * w
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    angle = theta * (1 + 0.25 * np.arange(K - 1))
    other = np.cos(angle)[:, None] * w + np.sin(angle)[:, None] * side
    if antipodal:
        other[0] = -w
    x = rng.uniform(-1, 1, size=(samples, d))
    # the supremum sits near the kinks, which are within an angle of order theta of one another
    strip = rng.uniform(-1, 1, size=(3 * samples, d))
    strip += (rng.uniform(-3, 3, size=3 * samples) * theta - strip @ w)[:, None] * w
    corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * d), -1).reshape(-1, d)
    x = np.concatenate([x, strip[np.abs(strip).max(axis=1) <= 1][:samples], corners])
    columns = np.concatenate([np.maximum(x @ other.T, 0), x, np.ones((len(x), 1))], axis=1)
    target = np.maximum(x @ w, 0)
    ones = np.ones((len(x), 1))
    A = np.block([[-columns, -ones], [columns, -ones]])
    cost = np.zeros(columns.shape[1] + 1)
    cost[-1] = 1
    found = linprog(cost, A, np.concatenate([-target, target]), bounds=[(None, None)] * (len(cost) - 1) + [(0, None)])
    return float(found.fun)


def noisy_recovery(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Solve the linear program at falling angles (Theorem 5, Lemma 6).

    Args:
        seeds: one set of units each.
        size: shapes (pairs d, K), angles, samples.

    Returns:
        Per seed, d and K: `slope` d ln sin(theta) / d ln eps over all angles, `constant` eps / sin(theta)
        at the smallest angle, `over_bound` that over the lemma's own bound sqrt(2 pi / d) / (10 K), `settled` the ratio
        of the last two constants, `antipodal` eps with -w among the others.
    """
    rows = []
    for seed in seeds:
        for d, K in size.shapes:
            eps = np.array([smallest_sup(seed, d, K, theta, size.samples) for theta in size.angles])
            sin = np.sin(size.angles)
            slope = loglog_slope(eps, sin).value
            constant = eps / sin
            opposite = smallest_sup(seed, d, K, size.angles[0], size.samples, antipodal=True)
            over = constant[-1] * 10 * K / math.sqrt(2 * math.pi / d)
            rows.append((seed, d, K, slope, constant[-1], over, constant[-1] / constant[-2], opposite))
    columns = ["seed", "d", "K", "slope", "constant", "over_bound", "settled", "antipodal"]
    return table(pd.DataFrame(rows, columns=columns), ["d", "K"])
