"""Local elasticity of networks while they train: regression on a 1-norm (Figures 3 to 5) and the three definitions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from traindyn.compute import generator
from traindyn.learn.models import FCN
from traindyn.learn.train import Probe, Run, State, fit
from traindyn.measure import elasticity

# the three initial laws that are shown side by side: (law of the weights, law of the biases)
INITS = {"torch": ("torch", "torch"), "he": ("he", "zero"), "xavier": ("xavier", "zero")}
NEAR, FAR = 2.0, 10.0  # distances of the two pairs of Figure 4; 10 is typical of two standard normal points in R^50
LATE = 800 / 2500  # the late phase starts at this share of the training


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
            "watch": Probe(watch, every=None, at=sorted({*early, *range(0, size.steps + 1, size.every)})),
            "cloud": Probe(watch_cloud, every=None, at=list(size.times)),
        },
    )


def distance_trend(runs: Run, seeds: list[int], size: SimpleNamespace) -> pd.DataFrame:
    """Return Figure 3 as numbers: one row per seed and time.

    Columns: seed, t, `spearman` (of S with the distance, over fresh normal points), `ray` (the same on the ray),
    `near_over_far` (mean S at r < 2 over mean S at r > 12, on the ray), `closer_wins` (share of points x_h for which a
    strictly closer point, x' itself included, has a larger S: the literal reading of Conjecture 1.1).
    """
    rows = []
    for run, seed in enumerate(seeds):
        points = watched_points(size, seed)
        half = size.points // 2
        r = points["r"].numpy()
        apart = (points["cloud"] - points["x_prime"]).norm(dim=-1).numpy()
        for index, t in enumerate(size.times):
            cloud = runs.arrays["cloud"][run, index].numpy()
            pool = runs.arrays["pool"][run, _when(runs, "pool", t)].numpy()
            ray, distance = pool[:half], r[:half]
            rows.append(
                {
                    "seed": seed,
                    "t": t,
                    "spearman": spearmanr(apart, cloud).statistic,
                    "ray": spearmanr(distance, ray).statistic,
                    "near_over_far": ray[distance < 2].mean() / ray[distance > 12].mean(),
                    "closer_wins": closer_wins(np.append(r, apart), np.append(pool, cloud)),
                }
            )
    return pd.DataFrame(rows)


def closer_wins(distance: np.ndarray, s: np.ndarray) -> float:
    """Return the share of points that some strictly closer point exceeds in S; x' itself (distance 0, S = 1) counts."""
    order = np.argsort(distance, kind="stable")
    best_closer = np.maximum.accumulate(np.append(1.0, s[order][:-1]))
    return float(np.mean(best_closer > s[order]))


def phases(runs: Run, seeds: list[int], size: SimpleNamespace) -> dict[str, Any]:
    """Read Figures 4 and 5 and Conjecture 1.2 off a run: the numbers that the criteria ask for.

    Returns:
        Over seeds: `near_above` (share of recorded times with the near pair above the far one), `rise_share` (share of
        the net rise of mean S done when 90 % of the drop of the population risk is), `rise_at_t90` (S there minus S at
        the start), `net_rise`, `risk_correlation`, `late_minimum` (smallest S of any pool point over the last two
        thirds), `nondecreasing` (share of pool points whose S never falls there by more than 1 %), `window_share`
        (largest share of pool points whose maximum over a common early window lies below their late minimum),
        `final_population`.
        Of the mean over seeds, the larger of the two pairs: `early_over_late` (mean over t <= 2 % of the training over
        the late minimum) and `dip_over_late` (the lowest interior window's maximum over the late minimum).
    """
    frame = runs.frame.dropna(subset=["near"])
    t = np.sort(frame["step"].unique())
    table = {
        name: frame.pivot(index="seed", columns="step", values=name).loc[seeds, t].to_numpy()
        for name in ("near", "far", "population", "loss")
    }
    late = t >= LATE * size.steps
    early = t <= 0.02 * size.steps
    thirds = t >= size.steps / 3
    mean_s = (table["near"] + table["far"]) / 2
    risk = table["population"]
    drop = (risk[:, :1] - risk) >= 0.9 * (risk[:, :1] - risk.min(axis=1, keepdims=True))
    t90 = drop.argmax(axis=1)
    at90 = mean_s[np.arange(len(seeds)), t90] - mean_s[:, 0]
    net = mean_s[:, -1] - mean_s[:, 0]
    pool = runs.arrays["pool"].numpy()
    falls = pool[:, thirds][:, 1:] < 0.99 * np.maximum.accumulate(pool[:, thirds], axis=1)[:, :-1]
    two = np.stack([table["near"].mean(0), table["far"].mean(0)])
    late_floor = two[:, late].min(axis=1)
    return {
        "near_above": (table["near"] > table["far"]).mean(axis=1),
        "rise_share": at90 / net,
        "rise_at_t90": at90,
        "net_rise": net,
        "risk_correlation": [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(table["loss"], risk, strict=True)],
        "late_minimum": pool[:, thirds].min(axis=(1, 2)),
        "nondecreasing": 1 - falls.any(axis=1).mean(axis=1),
        "window_share": np.array([window_share(t, p.T, late, 0.02 * size.steps) for p in pool]),
        "final_population": risk[:, -1],
        "early_over_late": float((two[:, early].mean(axis=1) / late_floor).max()),
        "dip_over_late": max(
            lowest_window(t, s, 0.02 * size.steps, late) / floor for s, floor in zip(two, late_floor, strict=True)
        ),
    }


def window_share(t: np.ndarray, s: np.ndarray, late: np.ndarray, length: float) -> float:
    """Return the largest share of pairs, over all common windows of at least `length`, below their late minimum.

    Args:
        t: recorded times, shape (T,), ascending.
        s: S of each pair over time, shape (pairs, T).
        late: which times are late, shape (T,); windows lie before them.
        length: shortest window allowed, in steps.
    """
    # a longer window only raises the maximum, so the shortest admissible window from each start is enough
    floor = s[:, late].min(axis=1)
    shares = [np.mean(s[:, first : last + 1].max(axis=1) < floor) for first, last in _windows(t, late, length)]
    return float(max(shares, default=0.0))


def lowest_window(t: np.ndarray, s: np.ndarray, length: float, late: np.ndarray) -> float:
    """Return the smallest maximum of one curve s, shape (T,), over the windows of `window_share`."""
    return float(min((s[first : last + 1].max() for first, last in _windows(t, late, length)), default=np.inf))


def _windows(t: np.ndarray, late: np.ndarray, length: float) -> list[tuple[int, int]]:
    lasts = np.searchsorted(t, t + length)
    return [(first, last) for first, last in enumerate(lasts) if last < len(t) and not late[last]]


def _when(runs: Run, name: str, t: int) -> int:
    return int(np.flatnonzero(np.asarray(runs.times[name]) == t)[0])


def definition1(model: nn.Module, seed: int, pairs: int, d: int) -> dict[str, float]:
    """Compare Definition 1 with its limit at one network, in float64.

    Returns:
        `self_gap`: largest |S(x, x) - 1|; `slope`: log-log slope of the median gap |S - limit| over the step sizes
        1e-4, 1e-5, 1e-6; `gap`: that gap at 1e-5; `label_gap`: largest relative change of S at step 1e-7 when the
        labels change.
    """
    model = model.double()
    X, y = l1_data(2 * pairs, d, seed, "pairs")
    x_prime, x, y = X[:pairs], X[pairs:], y[pairs:]
    limit = elasticity.s_rel_limit(model, x_prime, x)
    steps = (1e-4, 1e-5, 1e-6)
    gaps = [float((elasticity.s_rel(model, x_prime, x, y, lr) - limit).abs().median()) for lr in steps]
    small = elasticity.s_rel(model, x_prime, x, y, 1e-7)
    relabelled = elasticity.s_rel(model, x_prime, x, 2 * y + 1, 1e-7)
    return {
        "self_gap": float((elasticity.s_rel(model, x, x, y, 1e-4).diagonal() - 1).abs().max()),
        "slope": float(np.polyfit(np.log(steps), np.log(gaps), 1)[0]),
        "gap": gaps[1],
        "label_gap": float(((relabelled - small).abs() / small).max()),
    }
