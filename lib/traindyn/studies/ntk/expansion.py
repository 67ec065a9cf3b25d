r"""How far a network is from its tangent: Lemma 5 (smooth), Lemma 7 (ReLU), by random, extremal and worst-case weights.

For |x| = 1 only pre-activations p_j = w_j . x and their shifts enter, so worst cases are computed in those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from traindyn.evidence import table
from traindyn.layers import starts
from traindyn.measure.statistics import loglog_slope
from traindyn.measure.worst_case import relu_gap, relu_gap_limit, relu_shift
from traindyn.studies.ntk import networks

LAWS = ("normal", "cauchy")


def smooth(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    r"""Compare the remainder of tanh networks with L/(2 sqrt m) |W - V|^2, for Gaussian and heavy-tailed V.

    Returns:
        By seed, width and law of V: `ratio` (largest remainder over bound, over radii and draws), `extremal` (the same
        ratio where every pre-activation sits at the maximum of |tanh''| and moves along x by `size.small`), and
        `printed_left`: |f(x; W) - f_lin(x; V)| at W = V, with f_lin the expansion at W_0, where the printed bound is 0.
    """
    radii = torch.tensor(size.radii, dtype=torch.float64)
    top = torch.atanh(torch.tensor(1 / math.sqrt(3), dtype=torch.float64))
    bend = networks.TANH_CURVATURE
    rows = []
    for m in size.widths:
        # the curvature tends to its maximum as the step shrinks; with -s it is approached from the other side
        remainder = torch.tanh(top + size.small) - torch.tanh(top) - (1 - torch.tanh(top).square()) * size.small
        extremal = float(remainder.abs() / (bend / 2 * size.small**2))  # m neurons, |W - V|^2 = m s^2
        x = networks.sphere(seeds, 1, size.d, "x")
        a = networks.signs(seeds, m)
        for law in LAWS:
            V = networks.weights(seeds, m, size.d)
            if law == "cauchy":
                V = V / networks.weights(seeds, m, size.d, "denominator").abs()
            worst = torch.zeros(len(seeds), dtype=torch.float64)
            for draw in range(size.draws):
                move = starts(seeds, f"move-{m}-{draw}", m, size.d)
                for direction in (move, a[..., None] * x * move[..., :1].abs()):  # anywhere, and along x
                    unit = direction / direction.norm(dim=(1, 2), keepdim=True)
                    for radius in radii:
                        W = V + radius * unit
                        gap = (networks.output(W, a, x, "tanh") - networks.tangent(W, V, a, x, "tanh")).abs()[:, 0]
                        worst = torch.maximum(worst, gap / (bend / (2 * math.sqrt(m)) * radius**2))
            other = networks.weights(seeds, m, size.d, "start")
            left = (networks.output(V, a, x, "tanh") - networks.tangent(V, other, a, x, "tanh")).abs()[:, 0]
            rows += [(s, m, law, r, extremal, v) for s, r, v in zip(seeds, worst.tolist(), left.tolist(), strict=True)]
    columns = ["seed", "width", "law", "ratio", "extremal", "printed_left"]
    return table(pd.DataFrame(rows, columns=columns), ["width", "law"])


def bound(radius: float | Tensor, m: int, delta: float, first: float = 2.0, second: float = 1.0) -> float | Tensor:
    """Return the right-hand sides of Lemma 7: (first B^(4/3) + second B log(1/delta)^(1/4)) m^(-1/6)."""
    return (first * radius ** (4 / 3) + second * radius * math.log(1 / delta) ** 0.25) * m ** (-1 / 6)


def supremum(seeds: Sequence[int], size: Any, delta: float) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Compute the supremum of |f - f_lin| over the ball for ReLU networks, exactly (all a_j = 1: the worst signs).

    Returns:
        By seed, radius and width: `violations` (share of draws above the bound of Lemma 7) and `of_limit` (mean
        supremum over its limit); by seed and radius `slope` (log-log slope of the mean in m); and a tidy table of mean
        suprema for the figure.
    """
    radii = torch.tensor(size.radii, dtype=torch.float64)
    rows = []
    for seed in seeds:
        for m in size.widths:
            p = starts([seed], f"preactivations-{m}", size.draws, 1, m)[0]
            sup = relu_gap(p, radii).value / math.sqrt(m)
            share = (sup > bound(radii, m, delta)).double().mean(0)
            for k, radius in enumerate(size.radii):
                mean = sup[:, k].mean().item()
                rows.append((seed, radius, m, share[k].item(), mean / relu_gap_limit(radius, m), mean))
    frame = pd.DataFrame(rows, columns=["seed", "radius", "width", "violations", "of_limit", "supremum"])
    slopes = [
        (seed, radius, loglog_slope(part["width"], part["supremum"]).value)
        for (seed, radius), part in frame.groupby(["seed", "radius"])
    ]
    evidence = table(frame.drop(columns="supremum"), ["radius", "width"])
    return evidence, table(pd.DataFrame(slopes, columns=["seed", "radius", "slope"]), "radius"), frame


def two_points(
    seeds: Sequence[int], size: Any, radius: float, delta: float
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    r"""Predict f(x; V) by the tangent at W, with the plus sign and with the printed minus sign, all a_j = 1, |x| = 1.

    Pairs: *random* (both uniform on the sphere around W_0), *aligned* (opposite ends of the gradient's direction),
    *worst* (W moves the K smallest pre-activations just through zero, V moves them back and beyond, by B/sqrt(K) each,
    K the most that W can afford: sum of p_(j)^2 <= B^2).

    Returns:
        By seed, pair and width: `plus`, `minus` (left side over the bound of the second display of Lemma 7), and
        `printed_level`: the left side with the minus sign over B. Per seed `slope` of the worst pair's left side in m.
        A tidy table for the figure.
    """
    B, rows = radius, []
    for m in size.widths:
        p = networks.weights(seeds, m, size.d)[..., 0]  # the first coordinate: x = e_1
        for pair in ("random", "aligned", "worst"):
            sV, sW = _pair(pair, p, B, seeds, m, size.d)
            at_V, at_W = torch.relu(p + sV), torch.relu(p + sW)
            inner = ((p + sW > 0) * (sV - sW)).sum(-1) / math.sqrt(m)
            difference = (at_V - at_W).sum(-1) / math.sqrt(m)
            left = {name: (difference - sign * inner).abs() for name, sign in (("plus", 1), ("minus", -1))}
            right = bound(B, m, delta, 6.0, 2.0)
            for i, seed in enumerate(seeds):
                plus, minus = left["plus"][i].item(), left["minus"][i].item()
                rows.append((seed, pair, m, plus / right, minus / right, minus / B, plus))
    columns = ["seed", "pair", "width", "plus", "minus", "printed_level", "left"]
    frame = pd.DataFrame(rows, columns=columns)
    worst = frame[frame["pair"] == "worst"]
    slope = loglog_slope(worst["width"], worst["left"], by=worst["seed"]).value
    evidence = table(frame.drop(columns="left"), ["pair", "width"])
    return evidence, table(slope.rename("slope").reset_index()), frame


def _pair(pair: str, p: Tensor, B: float, seeds: Sequence[int], m: int, d: int) -> tuple[Tensor, Tensor]:
    """Return the shifts of the pre-activations under V and W, (S, m) each."""
    if pair == "random":
        moves = [networks.weights(seeds, m, d, name) for name in ("V", "W")]
        return tuple(B * Z[..., 0] / Z.norm(dim=(1, 2))[:, None] for Z in moves)
    if pair == "aligned":
        unit = (p > 0).to(p) / (p > 0).to(p).sum(-1, keepdim=True).sqrt()
        return B * unit, -B * unit
    order = p.abs().argsort(dim=-1)
    near = p.abs().gather(-1, order)
    count = (near.square().cumsum(-1) <= B**2).sum(-1, keepdim=True).clamp_min(1)
    moved = torch.zeros_like(p).scatter(-1, order, (torch.arange(m) < count).to(p))
    sign = torch.where(p > 0, 1.0, -1.0).to(p)
    # just through zero: a part in 10^9 beyond, paid for by stopping as much short of the budget
    return moved * sign * B / count.to(p).sqrt(), -moved * p * (1 + 1e-9)


def random_moves(seeds: Sequence[int], size: Any, radius: float) -> pd.DataFrame:
    """Return |f - f_lin| by width for a random and for the worst move of the same length, ReLU and tanh: tidy."""
    rows, B = [], radius
    for m in size.widths:
        p, a = networks.weights(seeds, m, size.d)[..., 0], networks.signs(seeds, m)
        Z = networks.weights(seeds, m, size.d, "V")
        free = B * Z[..., 0] / Z.norm(dim=(1, 2))[:, None]
        top = math.atanh(1 / math.sqrt(3))
        for sigma in ("relu", "tanh"):
            value, slope = networks.SIGMA[sigma]
            worst = relu_shift(p, B) if sigma == "relu" else torch.full_like(p, B / math.sqrt(m))
            start = p if sigma == "relu" else torch.full_like(p, top)
            for name, q, s, sign in (("random", p, free, a), ("worst", start, worst, torch.ones_like(a))):
                gap = ((value(q + s) - value(q) - slope(q) * s) * sign).sum(-1).abs() / math.sqrt(m)
                rows += [(seed, sigma, name, m, g) for seed, g in zip(seeds, gap.tolist(), strict=True)]
    return pd.DataFrame(rows, columns=["seed", "activation", "move", "width", "gap"])
