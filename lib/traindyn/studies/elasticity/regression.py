"""Local elasticity of networks while they train: regression on a 1-norm (Figures 3 to 5) and the three definitions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from traindyn.compute import generator
from traindyn.errors import InputError
from traindyn.evidence import table
from traindyn.learn.models import FCN
from traindyn.learn.train import Probe, Run, State, fit
from traindyn.measure import elasticity
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.elasticity.tables import per_seed

# the three initial laws that are shown side by side: (law of the weights, law of the biases)
INITS = {"torch": ("torch", "torch"), "he": ("he", "zero"), "xavier": ("xavier", "zero")}
NEAR, FAR = 2.0, 10.0  # distances of the two pairs of Figure 4; 10 is typical of two standard normal points in R^50


def network(size: SimpleNamespace, init: str = "torch") -> FCN:
    """Return the regression network of Section 2.2 in one of three initial laws, not yet drawn.

    Args:
        size: attributes in_dim, width, depth.
        init: "torch" (uniform weights and biases on +-1/sqrt(fan_in)), "he" or "xavier" (zero biases).
    """
    weights, biases = INITS[init]
    return FCN(
        size.in_dim,
        size.width,
        size.depth,
        parameterization="standard",
        init=weights,
        bias=biases,
        output_bias=biases,
    )


def l1_data(n: int, d: int, seed: int, purpose: str = "data") -> tuple[Tensor, Tensor]:
    """Return n standard normal points, shape (n, d), and their 1-norms, shape (n,), in float64."""
    X = torch.randn(n, d, generator=generator(seed, purpose), dtype=torch.float64)
    return X, X.abs().sum(-1)


def watched_points(size: SimpleNamespace, seed: int) -> dict[str, Tensor]:
    """Return the points whose influence is watched, in float64.

    Returns:
        `x_prime` (1, d); `x` (points, d): one half along a ray x' + r u with r from 0.25 to 14, the other fresh normal
        points; `r` (points,): their distances from x'; `cloud` (cloud, d): more fresh normal points, for Figure 3;
        `pair` (2, d): the near and the far point of Figure 4, on the ray.
    """
    draws = generator(seed, "watched")
    x_prime = torch.randn(1, size.in_dim, generator=draws, dtype=torch.float64)
    u = torch.randn(1, size.in_dim, generator=draws, dtype=torch.float64)
    u = u / u.norm()
    half = size.points // 2
    ray = x_prime + torch.linspace(0.25, 14, half, dtype=torch.float64)[:, None] * u
    x = torch.cat([ray, torch.randn(size.points - half, size.in_dim, generator=draws, dtype=torch.float64)])
    cloud = torch.randn(size.cloud, size.in_dim, generator=draws, dtype=torch.float64)
    pair = x_prime + torch.tensor([[NEAR], [FAR]], dtype=torch.float64) * u
    return {"x_prime": x_prime, "x": x, "r": (x - x_prime).norm(dim=-1), "cloud": cloud, "pair": pair}


def regression(
    seeds: list[int], size: SimpleNamespace, init: str, dtype: torch.dtype, device: torch.device, lr: float = 1e-4
) -> Run:
    """Train the network of Section 2.2 with Adam and watch Definition 1 on the way (Figures 3, 4 and 5).

    Args:
        seeds: one run each; a seed fixes data, initial weights, order of the batches and the watched points.
        size: in_dim, width, depth, n_train, n_test, batch, steps, every, points, cloud, times (of Figure 3).
        init: one of `INITS`.
        dtype, device: of the training; elasticity itself is always taken in float64.
        lr: Adam's step size, and the size of the fictitious steps.

    Returns:
        The run. Its frame has `loss` (empirical risk), `population` (risk on fresh data, mean squared error), `near`
        and `far` (S of the two pairs). Its arrays: `pool` (run, time, points) and, at the times of Figure 3, `cloud`.
    """
    watched = {seed: watched_points(size, seed) for seed in seeds}
    tests = {
        seed: tuple(t.to(device, dtype) for t in l1_data(size.n_test, size.in_dim, seed, "test")) for seed in seeds
    }

    def influence(state: State, name: str) -> Tensor:
        x = watched[state.seed][name].to(device)
        y = x.abs().sum(-1)
        return elasticity.s_rel(state.model, watched[state.seed]["x_prime"].to(device), x, y, lr, "mse")[0]

    def watch(state: State) -> dict[str, Tensor]:
        X, y = tests[state.seed]
        with torch.no_grad():
            population = torch.mean((state.model(X) - y) ** 2)
        near, far = influence(state, "pair")
        return {"population": population, "near": near, "far": far, "pool": influence(state, "x")}

    def watch_cloud(state: State) -> dict[str, Tensor]:
        return {"cloud": influence(state, "cloud")}

    early = list(range(0, min(100, size.steps), 10))
    return fit(
        network(size, init),
        lambda seed: tuple(t.to(dtype) for t in l1_data(size.n_train, size.in_dim, seed)),
        loss="mse",
        optimizer="adam",
        lr=lr,
        batch_size=size.batch,
        steps=size.steps,
        seeds=seeds,
        dtype=dtype,
        device=device,
        probes={
            "watch": Probe(watch, every=0, at=sorted({*early, *range(0, size.steps + 1, size.every)})),
            "cloud": Probe(watch_cloud, every=0, at=list(size.times)),
        },
    )


def distance_trend(run: Run, seeds: list[int], size: SimpleNamespace) -> pd.DataFrame:
    """Return Figure 3 as numbers: evidence by seed and time.

    Columns: `spearman` (of S with the distance, over fresh normal points), `ray` (the same on the ray),
    `near_over_far` (mean S at r < 2 over mean S at r > 12, on the ray), `unbeaten` (number of points x_h for which no
    strictly closer point, x' itself included, has a larger S: against the literal reading of Conjecture 1.1).
    """
    rows = []
    for seed, t, points, cloud, pool in _looks(run, seeds, size):
        half, r = size.points // 2, points["r"].numpy()
        apart = (points["cloud"] - points["x_prime"]).norm(dim=-1).numpy()
        ray, distance = pool[:half], r[:half]
        rows.append(
            {
                "seed": seed,
                "time": t,
                "spearman": spearmanr(apart, cloud).statistic,
                "ray": spearmanr(distance, ray).statistic,
                "near_over_far": ray[distance < 2].mean() / ray[distance > 12].mean(),
                "unbeaten": unbeaten(np.append(r, apart), np.append(pool, cloud)),
            }
        )
    return table(pd.DataFrame(rows), "time")


def unbeaten(distance: np.ndarray, s: np.ndarray) -> int:
    """Return how many points no strictly closer point exceeds in S; x' itself (distance 0, S = 1) counts."""
    order = np.argsort(distance, kind="stable")
    best_closer = np.maximum.accumulate(np.append(1.0, s[order][:-1]))
    return int((~(best_closer > s[order])).sum())


def _looks(
    run: Run, seeds: list[int], size: SimpleNamespace
) -> Iterator[tuple[int, int, dict[str, Tensor], np.ndarray, np.ndarray]]:
    """Yield seed, time, watched points, and S at the cloud and at the pool, for every seed and time of Figure 3."""
    pool_times = np.asarray(run.times["pool"])
    for index, seed in enumerate(seeds):
        points = watched_points(size, seed)
        for at, t in enumerate(size.times):
            here = int(np.flatnonzero(pool_times == t)[0])
            yield seed, t, points, run.arrays["cloud"][index, at], run.arrays["pool"][index, here]


def cloud_frame(run: Run, seeds: list[int], size: SimpleNamespace) -> pd.DataFrame:
    """Return the points of Figure 3 as a table: seed, t, points ("normal" or "ray"), distance, srel."""
    rows, half = [], size.points // 2
    for seed, t, points, cloud, pool in _looks(run, seeds, size):
        apart = (points["cloud"] - points["x_prime"]).norm(dim=-1).numpy()
        for name, distance, s in (("normal", apart, cloud), ("ray", points["r"].numpy()[:half], pool[:half])):
            rows.append(pd.DataFrame({"seed": seed, "t": t, "points": name, "distance": distance, "srel": s}))
    return pd.concat(rows, ignore_index=True)


def setup_numbers(seeds: list[int], size: SimpleNamespace) -> pd.DataFrame:
    """Return how far the targets are from their law: relative gaps of mean and variance, by seed.

    For a standard normal x in R^d the 1-norm has mean d sqrt(2/pi) and variance `constant_risk`(d).
    """
    targets = [l1_data(size.n_train, size.in_dim, seed)[1] for seed in seeds]
    mean, variance = size.in_dim * math.sqrt(2 / math.pi), constant_risk(size.in_dim)
    columns = {
        "mean_gap": [abs(float(y.mean()) / mean - 1) for y in targets],
        "variance_gap": [abs(float(y.var()) / variance - 1) for y in targets],
    }
    return per_seed(seeds, columns)


def one_norm(dim: int, width: int, depth: int) -> FCN:
    """Return a ReLU network without biases that is the 1-norm of its input, exactly.

    It is 2 sum_i relu(x_i) - relu(s) + relu(-s) with s = sum_i x_i, since |a| = 2 relu(a) - a: dim + 2 units of the
    first layer, which the later layers pass on, as they are not negative.

    Raises:
        InputError: fewer than two layers, or less than dim + 2 units.
    """
    if depth < 2 or width < dim + 2:
        raise InputError(f"one_norm: expected depth >= 2 and width >= {dim + 2}, got {depth} and {width}")
    model = FCN(dim, width, depth, parameterization="standard", bias=False, output_bias=False).double()
    first, *later = [w for w in model.parameters()]
    with torch.no_grad():
        first.zero_()
        first[:dim] = torch.eye(dim, dtype=first.dtype)
        first[dim], first[dim + 1] = 1.0, -1.0
        for weight in later[:-1]:
            weight.copy_(torch.eye(width, dtype=weight.dtype))
        later[-1].zero_()
        later[-1][0, : dim + 2] = torch.tensor([2.0] * dim + [-1.0, 1.0], dtype=first.dtype)
    return model


def representation_error(size: SimpleNamespace, points: int = 1000) -> dict[str, float]:
    """Return "representation_error": relative distance of `one_norm` at in_dim, width, depth from the 1-norm.

    The points are normal; which they are does not matter, as the two are the same function.
    """
    X, y = l1_data(points, size.in_dim, 0, "representation")
    with torch.no_grad():
        gap = (one_norm(size.in_dim, size.width, size.depth)(X) - y).abs() / y
    return {"representation_error": float(gap.max())}


def constant_risk(dim: int) -> float:
    """Return the risk of the best constant predictor of the 1-norm, its variance: dim (1 - 2/pi)."""
    return dim * (1 - 2 / math.pi)


def definition1_over_training(
    seeds: list[int], size: SimpleNamespace, training: SimpleNamespace, init: str, lr: float
) -> pd.DataFrame:
    """Return the readings of `definition1` while the regression network trains: evidence by seed and time.

    Args:
        seeds: one network each.
        size: in_dim, width, depth, pairs, times (steps; 0 is the initial network).
        training: the regression's n_train and batch.
        init: initial law, one of `INITS`.
        lr: Adam's step size.
    """

    def look(state: State) -> dict[str, Tensor]:
        return {name: torch.tensor(v) for name, v in definition1(state.model, state.seed, size.pairs).items()}

    run = fit(
        network(size, init),
        lambda seed: l1_data(training.n_train, size.in_dim, seed),
        loss="mse",
        optimizer="adam",
        lr=lr,
        batch_size=training.batch,
        steps=max(size.times),
        seeds=seeds,
        dtype=torch.float64,
        probes={"look": Probe(look, every=0, at=list(size.times))},
    )
    found = run.frame.dropna(subset=["slope"]).rename(columns={"step": "time"})
    return table(found[["seed", "time", "self_gap", "slope", "gap", "label_gap"]], "time")


def definition1(model: nn.Module, seed: int, pairs: int) -> dict[str, float]:
    """Compare Definition 1 with its limit at one network, in float64.

    Returns:
        `self_gap`: largest |S(x, x) - 1|; `slope`: log-log slope of the median gap |S - limit| over the step sizes
        1e-5, 1e-6, 1e-7 (a larger step flips ReLU gates, and the gap jumps); `gap`: that gap at 1e-6; `label_gap`:
        median relative change of S at step 1e-7 when the labels y become 2y + 1.
    """
    X, y = l1_data(2 * pairs, next(model.parameters()).shape[1], seed, "pairs")
    x_prime, x, y = X[:pairs], X[pairs:], y[pairs:]
    limit = elasticity.s_rel_limit(model, x_prime, x)
    steps = (1e-5, 1e-6, 1e-7)
    gaps = [float((elasticity.s_rel(model, x_prime, x, y, lr) - limit).abs().median()) for lr in steps]
    small = elasticity.s_rel(model, x_prime, x, y, 1e-7)
    relabelled = elasticity.s_rel(model, x_prime, x, 2 * y + 1, 1e-7)
    return {
        "self_gap": float((elasticity.s_rel(model, x, x, y, 1e-4).diagonal() - 1).abs().max()),
        "slope": loglog_slope(steps, gaps).value,
        "gap": gaps[1],
        "label_gap": float(((relabelled - small).abs() / small).median()),
    }
