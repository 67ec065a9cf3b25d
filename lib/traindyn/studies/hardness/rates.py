"""Rates of gradient flow on small losses: Theorems 1 to 3 and the condition between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import normal, uniform
from traindyn.evidence import table
from traindyn.measure.ode import rk4_path

Field = Callable[[float, Tensor], Tensor]


def descent(gradient: Callable[[Tensor], Tensor]) -> Field:
    """Return the field of the gradient flow dw/dt = -gradient(w)."""
    return lambda _t, w: -gradient(w)


def nonconvex(seeds: Sequence[int], size: SimpleNamespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Follow the flow of half the mean squared error of a tanh network and compare with Theorem 1.

    Returns:
        Per seed: `ratio`, the largest over t of (least gradient norm up to t) / sqrt((R_0 - R_T) / t): the infimum is
        replaced by R_T, which makes the bound smaller.
        For a figure, tidy: run, t, value, curve ("least gradient", "bound").
    """
    X, y = normal(seeds, "inputs", size.n, size.d), normal(seeds, "targets", size.n)
    m, d = size.m, size.d
    start = normal(seeds, "start", m * (d + 1))

    def parts(w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        a, B = w[..., :m], w[..., m:].unflatten(-1, (m, d))
        hidden = torch.tanh(X @ B.mT)
        return a, B, hidden, (hidden @ a[..., None])[..., 0] - y

    def gradient(w: Tensor) -> Tensor:
        a, _, hidden, e = parts(w)
        back = e[..., None] * a[..., None, :] * (1 - hidden**2)
        return torch.cat(((e[..., None, :] @ hidden)[..., 0, :], (back.mT @ X).flatten(-2)), -1) / size.n

    steps = round(size.time / size.step)
    path = rk4_path(descent(gradient), start, size.step, steps)
    t = size.step * torch.arange(steps + 1, dtype=torch.float64)[1:, None]
    risk = parts(path)[3].square().mean(-1) / 2
    least = gradient(path).norm(dim=-1).cummin(0).values[1:]
    bound = ((risk[0] - risk[-1]) / t).sqrt()
    ratio = (least / bound).max(0).values
    every = slice(None, None, max(1, steps // 200))
    shown = [
        pd.DataFrame({"run": run, "t": t[every, 0].numpy(), "value": values[every, run].numpy(), "curve": name})
        for run in range(len(seeds))
        for name, values in (("least gradient", least), ("bound", bound))
    ]
    return table(pd.DataFrame({"seed": list(seeds), "ratio": ratio.numpy()})), pd.concat(shown, ignore_index=True)


def linear(slope: float = 0.7, time: float = 3.0) -> dict[str, float]:
    """Return for R = slope * theta, where R_0 - R_t = slope^2 t, how far the ratio of Theorem 1 is from 1."""
    path = rk4_path(descent(lambda w: torch.full_like(w, slope)), torch.ones(1, dtype=torch.float64), time / 50, 50)
    fall = float(slope * (path[0] - path[-1]))
    return {"tight_gap": abs(slope / math.sqrt(fall / time) - 1)}


def convex(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Follow the flow of logistic regression with a ridge and compare with Theorem 2.

    Returns:
        Per seed: `ratio`, the largest over t of 2 t (R_t - R*) / |theta* - theta_0|^2; the minimiser is Newton's.
    """
    X, noise = normal(seeds, "inputs", size.n, size.d), normal(seeds, "labels", size.n)
    y = (X[..., 0] + noise).sign()
    Z = y[..., None] * X

    def risk(w: Tensor) -> Tensor:
        return torch.nn.functional.softplus(-(Z @ w[..., None])[..., 0]).mean(-1) + size.ridge / 2 * w.square().sum(-1)

    def gradient(w: Tensor) -> Tensor:
        p = torch.sigmoid(-(Z @ w[..., None])[..., 0])
        return -(p[..., None] * Z).mean(-2) + size.ridge * w

    best = torch.zeros(len(seeds), size.d, dtype=torch.float64)
    for _ in range(20):
        p = torch.sigmoid(-(Z @ best[..., None])[..., 0])
        H = (Z * (p * (1 - p))[..., None]).mT @ Z / size.n + size.ridge * torch.eye(size.d, dtype=torch.float64)
        best = best - torch.linalg.solve(H, gradient(best))
    start = 3 * normal(seeds, "start", size.d)
    steps = round(size.time / size.step)
    path = rk4_path(descent(gradient), start, size.step, steps)
    t = size.step * torch.arange(steps + 1, dtype=torch.float64)[1:, None]
    excess = (risk(path) - risk(best))[1:]
    ratio = (2 * t * excess / (best - start).square().sum(-1)).max(0).values
    return table(pd.DataFrame({"seed": list(seeds), "ratio": ratio.numpy()}))


def convex_scalars(start: float = 0.01) -> dict[str, float]:
    """Return the largest ratio of Theorem 2 for R = |theta|, exactly, and for a double well started near its top.

    R = |theta| from theta_0 > 0 has R_t = theta_0 - t. The double well is (theta^2 - 1)^2 / 4 with minimiser 1.
    """
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    well = rk4_path(descent(lambda w: w * (w * w - 1)), torch.full((1,), start, dtype=torch.float64), 0.01, 1500)[:, 0]
    time = 0.01 * torch.arange(1501, dtype=torch.float64)
    ratio = 2 * time * (well**2 - 1) ** 2 / 4 / (1 - start) ** 2
    return {"absolute": float((2 * t * (1 - t)).max()), "double_well": float(ratio.max())}


def printed_condition(time: float = 50.0) -> dict[str, float]:
    """Follow R = exp(-theta), which meets the condition without the square, with C = 1 and equality.

    Returns:
        `condition_gap` (largest ||R'| - R| on the path), `final_gap` (|R(T) - 1/(1 + T)|), `decades` (log10 of R(T)
        over exp(-T)), `with_square` (least |R'|^2 / R on the path: the constant of the squared condition there).
    """
    path = rk4_path(descent(lambda w: -torch.exp(-w)), torch.zeros(1, dtype=torch.float64), 0.01, round(time / 0.01))
    risk = torch.exp(-path[:, 0])
    slope = -torch.exp(-path[:, 0])
    return {
        "condition_gap": float((slope.abs() - risk).abs().max()),
        "final_gap": abs(float(risk[-1]) - 1 / (1 + time)),
        "decades": math.log10(float(risk[-1])) + time / math.log(10),
        "with_square": float((slope**2 / risk).min()),
    }


def slow_flow(time: float = 25.0) -> pd.DataFrame:
    """Return the risk of the flow of exp(-theta) from theta = 0 and exp(-t), tidy: t, risk, curve."""
    t = np.linspace(0, time, 201)
    path = rk4_path(descent(lambda w: -torch.exp(-w)), torch.zeros(1, dtype=torch.float64), time / 2000, 2000)
    risk = torch.exp(-path[::10, 0]).numpy()
    parts = (("the flow", risk), ("$e^{-t}$, Theorem 3 with $C=1$", np.exp(-t)))
    return pd.concat([pd.DataFrame({"t": t, "risk": r, "curve": name}) for name, r in parts], ignore_index=True)


def squared_condition(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Compare the flow with exp(-C t) where the squared condition holds: least squares, and x^2 + 3 sin^2 x.

    Returns:
        Per seed: `squares` and `sine`, the largest over t of (R_t - inf R) / (exp(-C t) (R_0 - inf R));
        `squares_quotient` and `sine_quotient`, the least |grad R|^2 / (C (R - inf R)) along the path; `curvature`,
        the least second derivative that the second path meets.
    """
    A, y = normal(seeds, "matrix", size.rows, size.columns), normal(seeds, "right side", size.rows)
    values, vectors = torch.linalg.eigh(A @ A.mT)
    C = 2 * values[:, 0]
    t = torch.linspace(0, size.time, 401, dtype=torch.float64)
    r = (vectors.mT @ y[..., None])[..., 0][None] * torch.exp(-values[None] * t[:, None, None])
    risk, square = r.square().sum(-1) / 2, (values * r.square()).sum(-1)  # from theta_0 = 0, so the residual is y
    squares = risk / (torch.exp(-C * t[:, None]) * risk[0])

    def f(x: Tensor) -> Tensor:
        return x**2 + 3 * torch.sin(x) ** 2

    start = uniform(seeds, "start", 1, low=2.0, high=3.0)[:, 0]
    line = torch.linspace(1e-6, 1, 4001, dtype=torch.float64)[:, None] * start
    slope = 2 * line + 3 * torch.sin(2 * line)
    constant = (slope**2 / f(line)).min(0).values
    steps = round(size.time / size.step)
    path = rk4_path(descent(lambda x: 2 * x + 3 * torch.sin(2 * x)), start, size.step, steps)
    time = size.step * torch.arange(steps + 1, dtype=torch.float64)[:, None]
    sine = f(path) / (torch.exp(-constant * time) * f(start))
    along = (2 * path + 3 * torch.sin(2 * path)) ** 2 / f(path) / constant
    columns = {
        "squares": squares.max(0).values,
        "squares_quotient": (square / (C * risk)).min(0).values,
        "sine": sine.max(0).values,
        "sine_quotient": along.min(0).values,
        "curvature": (2 + 6 * torch.cos(2 * path)).min(0).values,
    }
    return table(pd.DataFrame({"seed": list(seeds), **{k: np.asarray(v) for k, v in columns.items()}}))
