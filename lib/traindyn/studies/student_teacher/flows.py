"""Flows of student weights in closed systems: Theorem 7, a common residue, broken symmetry, the slow start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from traindyn.compute import generator, normal
from traindyn.evidence import table
from traindyn.layers import starts
from traindyn.measure.ode import rk4_path
from traindyn.measure.statistics import loglog_slope
from traindyn.measure.teacher import angle


def log_ratio(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Integrate dw_k/dt = |w_k| r_k for random smooth residues and compare with quadrature (Theorem 7, Eq. 62, 64).

    Returns:
        Per seed: `gap` (largest |change of ln(|w_k|/|w_k'|) - integral of wbar_k.r_k - wbar_k'.r_k'| over pairs and
        times), `direction` (largest |d wbar_k/dt - (1 - wbar wbar^T) r_k| by central differences).
    """
    rows = []
    for seed in seeds:
        K, d, h = size.nodes, size.d, size.step
        w = starts([seed], "start", K, d)[0]
        amplitude = normal([seed], "amplitude", 3, K, d)[0]
        rate = 2 * normal([seed], "rate", 3, K, 1)[0]

        def residue(t: float, amplitude: Tensor = amplitude, rate: Tensor = rate) -> Tensor:
            return (amplitude * torch.cos(rate * t + torch.arange(3)[:, None, None])).sum(0) / 2

        def field(t: float, w: Tensor, residue: Callable[[float], Tensor] = residue) -> Tensor:
            return w.norm(dim=-1, keepdim=True) * residue(t)

        path = rk4_path(field, w, h, size.steps)
        unit = path / path.norm(dim=-1, keepdim=True)
        r = torch.stack([residue(i * h) for i in range(size.steps + 1)])
        speed = (unit * r).sum(-1)
        log = path.norm(dim=-1).log()
        # Simpson over pairs of steps
        area = torch.cumsum(h / 3 * (speed[:-2:2] + 4 * speed[1:-1:2] + speed[2::2]), 0)
        change = (log - log[:1])[2::2]
        gap = (change[:, :, None] - change[:, None]) - (area[:, :, None] - area[:, None])
        turn = (unit[2:] - unit[:-2]) / (2 * h) - (r - speed[..., None] * unit)[1:-1]
        rows.append((seed, float(gap.abs().max()), float(turn.abs().max())))
    return table(pd.DataFrame(rows, columns=["seed", "gap", "direction"]))


def common(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Integrate the symmetric case r_k = w^* - sum_k a_k w_k from several initial norms (Eq. 65 to 67).

    Returns:
        Per seed and initial norm: `rises` (increases of |h_k - h_k'| while all h > 0), `rises_anywhere` (at
        any time), `negative` (share of pairs that start with h_k + h_k' + S < 0), `late` (change of the log ratios
        over the last tenth), `angle` (largest final angle to w^*).
    """
    rows = []
    for norm in size.norms:
        start = starts(seeds, "start", size.nodes, size.d)
        start = norm * start / start.norm(dim=-1, keepdim=True)
        a = 0.5 + torch.stack(
            [torch.rand(size.nodes, 1, dtype=torch.float64, generator=generator(s, "a")) for s in seeds]
        )
        target = normal(seeds, "target", 1, size.d)
        target = target / target.norm(dim=-1, keepdim=True)

        def field(_t: float, w: Tensor, a: Tensor = a, target: Tensor = target) -> Tensor:
            return w.norm(dim=-1, keepdim=True) * (target - (a * w).sum(1, keepdim=True))

        path = rk4_path(field, start, size.step, int((size.time + np.log(1 / norm)) / size.step))
        length = path.norm(dim=-1)
        unit = path / length[..., None]
        r = target - (a * path).sum(2, keepdim=True)
        h = (unit * r).sum(-1)
        gap = (h[..., :, None] - h[..., None, :]).abs()
        rises = (gap[1:] - gap[:-1]) > 1e-12
        positive = (h > 0).all(-1)
        both = (positive[1:] & positive[:-1])[..., None, None]
        S = (a[..., 0] * length).sum(-1)
        pairs = torch.triu_indices(size.nodes, size.nodes, 1)
        opposite = (h[0][:, pairs[0]] + h[0][:, pairs[1]] + S[0][:, None]) < 0
        log = length.log()
        late = log[-1] - log[int(0.9 * len(log))]
        last = angle(path[-1], target.expand_as(path[-1]))
        for i, seed in enumerate(seeds):
            rows.append(
                {
                    "seed": seed,
                    "norm": norm,
                    "rises": int((rises & both)[:, i].sum()) // 2,
                    "rises_anywhere": int(rises[:, i].sum()) // 2,
                    "negative": float(opposite[i].double().mean()),
                    "late": float((late[i][:, None] - late[i]).abs().max()),
                    "angle": float(last[i].max()),
                }
            )
    return table(pd.DataFrame(rows), "norm")


def angle_slope(found: pd.DataFrame, largest: float) -> pd.DataFrame:
    """Return per seed `slope`, the log-log slope of the final angle against initial norms up to `largest`."""
    small = found.reset_index().query("norm <= @largest")
    return table(loglog_slope(small["norm"], small["angle"], by=small["seed"]).value.rename("slope").reset_index())


def breaking(seeds: Sequence[int], size: SimpleNamespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Add eps w^* to the first node's residue and follow ln(|w_1| / |w_k|) (Eq. 68).

    The system becomes stiff when losers and winner grow against one another, so an implicit solver is used.

    Returns:
        Per seed, eps and initial norm: `rate`, the slope of the mean log ratio over a time 1/(4 eps) once
        |r| < 1.5 eps, divided by eps |w^*|; `gain` (largest rise of the log ratio after that), `kept` (the
        share of it that is left 12/eps later), `bound` ln(1/initial norm); for the norms up to `size.small`.
        Paths of the first seed at the first norm, for a figure.
    """
    rows, shown = [], []
    start = starts(seeds, "start", size.nodes, size.d)
    start = start / start.norm(dim=-1, keepdim=True)
    target = normal(seeds, "target", size.d)
    target = target / target.norm(dim=-1, keepdim=True)
    for eps in size.eps:
        for norm in size.norms:
            for i, seed in enumerate(seeds):
                t = np.arange(0, 2 * np.log(1 / norm) + 8 + 15 / eps, size.step)
                ratio, r = _race(norm * start[i].numpy(), target[i].numpy(), eps, t)
                settled = int((r < 1.5 * eps).argmax())
                after = ratio[settled:] - ratio[settled]
                after = after[: int(12 / eps / size.step)]
                window = int(0.25 / eps / size.step)
                row = {"seed": seed, "eps": eps, "norm": norm, "rate": after[window] / (window * size.step) / eps}
                rows.append(row | {"gain": after.max(), "kept": after[-1] / after.max(), "bound": np.log(1 / norm)})
                if norm == size.norms[0] and i == 0:
                    every = slice(None, None, max(1, len(t) // 200))
                    shown.append(pd.DataFrame({"eps": f"{eps:g}", "t": t[every], "log ratio": ratio[every]}))
    found = pd.DataFrame(rows)
    return table(found[found["norm"] <= size.small], ["eps", "norm"]), pd.concat(shown, ignore_index=True)


def _race(start: np.ndarray, target: np.ndarray, eps: float, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the log ratio of the favoured node to the mean of the others, and |r|, at the times t."""
    extra = np.zeros((len(start), 1))
    extra[0] = eps

    def field(_t: float, flat: np.ndarray) -> np.ndarray:
        w = flat.reshape(start.shape)
        return (np.linalg.norm(w, axis=1, keepdims=True) * ((1 + extra) * target - w.sum(0))).ravel()

    found = solve_ivp(field, (0, t[-1]), start.ravel(), method="LSODA", t_eval=t, rtol=1e-8, atol=1e-12)
    w = found.y.T.reshape(-1, *start.shape)
    log = np.log(np.linalg.norm(w, axis=2))
    return log[:, 0] - log[:, 1:].mean(axis=1), np.linalg.norm(target - w.sum(axis=1), axis=1)


def escape_times(eps: Sequence[float], balanced: bool, final: float = np.pi / 2) -> np.ndarray:
    r"""Return the time from theta = pi - eps to `final` of one student of one teacher, population field, |w^*| = 1.

    With phi = pi - theta, rho = |w|, v the fan-out (a scalar against a teacher's 1), x ~ N(0, I):
    d rho/dt = v [ (phi cos(theta) + sin(theta)) / (2 pi) - v rho / 2 ],  d phi/dt = v phi sin(theta) / (2 pi rho),
    dv/dt = rho [ (phi cos(theta) + sin(theta)) / (2 pi) - v rho / 2 ] or 0.
    phi itself is integrated: pi - phi would cancel.

    Args:
        eps: initial angles to the opposite direction, radian.
        balanced: train both layers from v = |w| = 1; else v = 1 is fixed.
        final: angle at which the clock stops.
    """
    times = []
    for start in eps:

        def field(_t: float, state: np.ndarray) -> list[float]:
            phi, rho, v = state
            pull = (np.sin(phi) - phi * np.cos(phi)) / (2 * np.pi) - v * rho / 2
            return [v * phi * np.sin(phi) / (2 * np.pi * rho), v * pull, rho * pull if balanced else 0.0]

        def reached(_t: float, state: np.ndarray) -> float:
            return state[0] - (np.pi - final)

        reached.terminal = True
        found = solve_ivp(field, (0, 1e9), [start, 1.0, 1.0], events=reached, rtol=1e-9, atol=1e-14, method="LSODA")
        times.append(float(found.t_events[0][0]))
    return np.array(times)


def slow_start(eps: Sequence[float]) -> pd.DataFrame:
    """Return the escape times of both settings beside the printed law and the two limits.

    Returns:
        Columns: `setting`, `eps`, `time`, `law` (1/eps - 1/(pi - theta_0)).
    """
    law = 1 / np.asarray(eps) - 2 / np.pi
    parts = [
        pd.DataFrame({"setting": name, "eps": list(eps), "time": escape_times(eps, both), "law": law})
        for name, both in (("both layers", True), ("first layer only", False))
    ]
    return pd.concat(parts, ignore_index=True)


def escape_laws(slow: pd.DataFrame) -> list[pd.DataFrame]:
    """Return how the escape times of `slow_start` depend on the initial angle.

    Returns:
        Per setting ("both" layers trained, or the "first" only): `slope`, the log-log slope of the time against eps,
        and `per_halving`, the mean gain of the time from one eps to the next; per eps: `ratio`, the time of both layers
        over 2 pi times the printed law.
    """
    slopes = []
    for setting, part in slow.groupby("setting", sort=False):
        slope = loglog_slope(part["eps"], part["time"]).value
        slopes.append((setting.split()[0], slope, part["time"].diff().mean()))
    both = slow[slow["setting"] == "both layers"]
    ratio = both.assign(ratio=both["time"] / (2 * np.pi * both["law"]))[["eps", "ratio"]]
    return [table(pd.DataFrame(slopes, columns=["setting", "slope", "per_halving"]), "setting"), table(ratio, "eps")]
