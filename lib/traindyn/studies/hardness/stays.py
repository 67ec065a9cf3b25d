r"""How far gradient descent gets from its start on a hard class (Theorem 8, Corollary 9): a model that leaves early.

The counterexample is :math:`h(x; \theta) = \rho(\|\theta\|^2) \sum_v \theta_v^2 \chi_v(x)` over all 2^d parities,
with a smooth cut-off rho that is 1 up to 1/2 and 0 from 1 on, started at theta_v = eps 2^(-d/2). Where rho = 1 the
hinge flow on the parity u is d theta_u / dt = 2 theta_u, the other coordinates rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import generator
from traindyn.evidence import table
from traindyn.measure.ode import rk4_path
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.hardness.gradients import net
from traindyn.studies.hardness.parities import cube, signs, walsh

EPS = 0.5  # with it |theta|^2 <= 2 eps^2 = 1/2 up to the time d (ln 2) / 4, where the cut-off begins


def log_displacement(d: float, t: float) -> float:
    """Return log E_f |theta_t - theta_0|^2 of the counterexample, eps^2 2^-d (e^(2t) - 1)^2; the same for every f."""
    return 2 * math.log(EPS) - d * math.log(2) + 2 * math.log(math.expm1(2 * t))


def log_claimed(d: float, t: float, c1: float, c2: float) -> float:
    """Return the logarithm of the printed bound C_1 (exp(C_2 t / 2^(d/2)) - 1)."""
    x = c2 * t * 2 ** (-d / 2)
    return math.log(c1) + (x if x > 700 else math.log(math.expm1(x)))


def escape(dims: Sequence[int], constants: Sequence[float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare the counterexample at t = d (ln 2) / 4 with the printed bound, for several C_1 = C_2.

    Returns:
        Per constant: `slope` (of log2 of displacement^2 over bound against d, upper half of the dimensions),
        `crossed` (the first d where the bound is exceeded), `ratio` (log10 at the largest d), `repaired` (largest
        over d and t of displacement^2 over the repaired bound (G_0/2^d)(e^(sqrt L t) - 1)^2 / L, with G_0 = 4 eps^2,
        L = 4).
        For a figure, tidy: d, value (log10), curve.
    """
    rows, shown = [], []
    for c in constants:
        times = {d: d * math.log(2) / 4 for d in dims}
        logs = np.array([log_displacement(d, t) - log_claimed(d, t, c, c) for d, t in times.items()])
        late = np.array(dims) >= np.median(dims)
        crossed = [d for d, value in zip(dims, logs, strict=True) if value > 0]
        repaired = [
            log_displacement(d, t) - math.log(4 * EPS**2 / 4) + d * math.log(2) - 2 * math.log(math.expm1(2 * t))
            for d in dims
            for t in (0.1, 1.0, times[d])
        ]
        slope = float(np.polyfit(np.array(dims)[late], logs[late] / math.log(2), 1)[0])
        first = crossed[0] if crossed else math.inf
        rows.append((c, slope, first, logs[-1] / math.log(10), math.exp(max(repaired)) - 1))
        bound = [log_claimed(d, t, c, c) / math.log(10) for d, t in times.items()]
        shown.append(pd.DataFrame({"d": dims, "value": bound, "curve": f"bound, $C_1=C_2={c:g}$"}))
    moved = [log_displacement(d, d * math.log(2) / 4) / math.log(10) for d in dims]
    shown.append(pd.DataFrame({"d": dims, "value": moved, "curve": "displacement"}))
    columns = ["constant", "slope", "crossed", "ratio", "repaired"]
    return table(pd.DataFrame(rows, columns=columns), "constant"), pd.concat(shown, ignore_index=True)


def simulated(d: int, time: float, target: int) -> dict[str, float]:
    """Integrate the hinge flow of the counterexample on one parity, point by point, and compare with the closed form.

    Returns:
        `flow_gap` (relative error of the displacement), `largest` (largest |h| over points and times).
    """
    chi = signs(d).double()
    start = torch.full((2**d,), EPS * 2 ** (-d / 2), dtype=torch.float64)

    def gradient(theta: Tensor) -> Tensor:  # of E max(0, 1 - h chi_target), nothing is clipped
        return -2 * theta * (chi @ chi[target]) / 2**d

    path = rk4_path(lambda _t, theta: -gradient(theta), start, time / 400, 400)
    moved = float((path[-1] - start).norm())
    exact = math.exp(log_displacement(d, time) / 2)
    return {"flow_gap": abs(moved / exact - 1), "largest": float((path.square() @ chi).abs().max())}


def cut_off(s: Tensor) -> Tensor:
    """Return rho(s): 1 up to s = 1/2, 0 from s = 1 on, a polynomial of degree 5 between, twice differentiable."""
    u = (2 * s - 1).clamp(0, 1)
    return 1 - u**3 * (10 - 15 * u + 6 * u * u)


def smoothness_bound(points: int = 20001) -> float:
    """Return the text's bound on sqrt L: sup (2 rho + 4 |rho'| s) + sup (4 |rho''| s^2 + 6 |rho'| s); no d in it."""
    s = torch.linspace(0, 1, points, dtype=torch.float64).requires_grad_()
    (first,) = torch.autograd.grad(cut_off(s).sum(), s, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), s)
    s, first = s.detach(), first.detach().abs()
    one = 2 * cut_off(s) + 4 * first * s
    return float(one.max() + (4 * second.abs() * s**2 + 6 * first * s).max())


def gradient_field(theta: Tensor) -> Tensor:
    """Return the gradient of h in theta at all points, entry (x, v), with the cut-off."""
    s = theta.square().sum().requires_grad_()
    (slope,) = torch.autograd.grad(cut_off(s), s)
    d = int(math.log2(len(theta)))
    q = walsh(theta.square())  # sum_v theta_v^2 chi_v(x)
    return 2 * cut_off(s.detach()) * theta * signs(d) + 2 * slope * theta * q[:, None]


def bounded(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Check the two premises of Theorem 8 for the cut-off model at random pairs of parameters.

    Returns:
        Per seed and d: `lipschitz` (largest quotient of (E |grad h - grad h'|^2)^(1/2) to |theta - theta'|, over the
        bound of the text), `height` (largest |h|).
    """
    limit, rows = smoothness_bound(), []
    for seed in seeds:
        for d in size.cut_dims:
            g, worst, height = generator(seed, f"pairs {d}"), 0.0, 0.0
            for _ in range(size.pairs):
                theta = torch.randn(2**d, dtype=torch.float64, generator=g)
                theta *= (1.2 * torch.rand(1, dtype=torch.float64, generator=g)).sqrt() / theta.norm()
                other = theta + 0.05 * torch.randn(2**d, dtype=torch.float64, generator=g) * 2 ** (-d / 2)
                change = (gradient_field(theta) - gradient_field(other)).square().sum(1).mean().sqrt()
                worst = max(worst, float(change / (theta - other).norm()))
                height = max(height, float((cut_off(theta.square().sum()) * walsh(theta.square())).abs().max()))
            rows.append((seed, d, worst / limit, height))
    return table(pd.DataFrame(rows, columns=["seed", "d", "lipschitz", "height"]), "d")


def slips() -> dict[str, float]:
    """Return what shows the slips of the proof.

    `printed_growth`: G(theta) over G_0 + 2 L r^2 for h = (theta + theta^2/2) f at theta = r = 1/2; `right_growth`: over
    2 G_0 + 2 L r^2. `root`: the solution of (0.17) with equality over the last line of the proof, at L = G_0 = t = 1,
    d = 8.
    """
    r = 0.5
    G = (1 + r) ** 2
    rate = 2 ** (2 - 8 / 2)
    return {
        "printed_growth": G / (1 + 2 * r**2),
        "right_growth": G / (2 + 2 * r**2),
        "root": math.expm1(rate * math.sqrt(2)) / math.expm1(rate),
    }


def corollary(dims: Sequence[int]) -> dict[str, float]:
    """Return how the counterexample's displacement at t = 1 falls with d, and how far it gets by t = d.

    Returns:
        `power`: slope of log2 displacement on d; `times_printed`: the slope after multiplication by 2^d;
        `times_half`: largest relative change of displacement times 2^(d/2); `by_d`: least over d of the largest
        displacement up to t = d, over eps: the same for every target.
    """
    logs = np.array([log_displacement(d, 1.0) / 2 / math.log(2) for d in dims])
    half = logs + np.array(dims) / 2
    reached = [math.exp(log_displacement(d, d * math.log(2) / 4) / 2) / EPS for d in dims]
    power = float(np.polyfit(dims, logs, 1)[0])
    return {
        "power": power,
        "times_printed": power + 1,
        "times_half": float(2 ** (half.max() - half.min()) - 1),
        "by_d": min(reached),
    }


def ordinary(seeds: Sequence[int], size: SimpleNamespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train an ordinary network tanh(sum_j a_j relu(w_j^T x + c_j)) on all 2^d parities at once, full batch, hinge.

    Returns:
        Per seed and d: `median` and `least` displacement over the parities at time `size.time`, `escape` (time at which
        the median displacement reaches `size.gone`, infinite if never).
        For a figure, tidy: d, t, median (mean over seeds).
    """
    rows, shown = [], []
    for d in size.dims:
        X, targets = 2 * cube(d) - 1, signs(d).double()
        for seed in seeds:
            h = net(seed, size.m, d)
            start = torch.cat((h.a[:, None], h.w, h.c[:, None]), 1)
            theta = start.expand(2**d, -1, -1).clone()
            times, medians = [], []
            steps = round(size.time / size.lr)
            for step in range(steps + 1):
                moved = (theta - start).flatten(1).norm(dim=1)
                times.append(step * size.lr)
                medians.append(float(moved.median()))
                if step < steps:
                    theta = theta - size.lr * _slopes(theta, X, targets)
            escaped = next((t for t, value in zip(times, medians, strict=True) if value > size.gone), math.inf)
            rows.append((seed, d, medians[-1], float(moved.min()), escaped))
            kept = slice(None, None, max(1, steps // 100))
            shown.append(pd.DataFrame({"run": seed, "d": d, "t": times[kept], "median": medians[kept]}))
    columns = ["seed", "d", "median", "least", "escape"]
    return table(pd.DataFrame(rows, columns=columns), "d"), pd.concat(shown, ignore_index=True)


def _slopes(theta: Tensor, X: Tensor, targets: Tensor) -> Tensor:
    """Return the gradients of the hinge risk, one network per target: theta (F, m, d + 2), X (n, d), targets (F, n)."""
    a, w, c = theta[..., 0], theta[..., 1:-1], theta[..., -1]
    z = X @ w.mT + c[:, None]  # (F, n, m)
    hidden = torch.relu(z)
    out = torch.tanh((hidden @ a[..., None])[..., 0])
    signal = -targets * (1 - out**2) / len(X)  # |out| < 1: nothing is clipped
    back = signal[..., None] * a[:, None] * (z > 0)
    return torch.cat(((signal[:, None] @ hidden).mT, back.mT @ X, back.sum(1)[..., None]), -1)


def growth(found: pd.DataFrame) -> pd.DataFrame:
    """Return per seed how the escape times of `ordinary` grow: `per_dimension` (slope of log2), `power` (log-log)."""
    rows = []
    for seed, part in found.reset_index().groupby("seed"):
        times = part["escape"].to_numpy()
        known = np.isfinite(times).all()
        slope = np.polyfit(part["d"], np.log2(times), 1)[0] if known else np.nan
        rows.append((seed, float(slope), float(loglog_slope(part["d"], times).value) if known else np.nan))
    return table(pd.DataFrame(rows, columns=["seed", "per_dimension", "power"]))
