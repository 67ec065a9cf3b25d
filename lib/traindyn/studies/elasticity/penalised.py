"""Experiments on local elasticity of penalised regression over features (Dan et al. 2021, Section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import normal
from traindyn.evidence import stacked, table
from traindyn.layers import starts
from traindyn.measure.ode import rk4
from traindyn.studies.elasticity import closed_form_features as features
from traindyn.studies.elasticity.tables import per_seed

# penalty in M, signs of Theorem 3.1, standard deviation of W(0); the first decides Figures 6 to 8
VARIANTS = {
    "printed": ("printed", "right", 1.0),
    "own_factor": ("eq3", "right", 1.0),
    "printed_signs": ("printed", "printed", 1.0),
    "small_start": ("printed", "right", 0.001),
}


def gradient_gap(seeds: Sequence[int], classes: int, per_class: int, p: int, lam: float = 1.0) -> pd.DataFrame:
    """Compare central differences of Eq. 3 with the formula below it, for both coefficients of the penalty.

    The loss is quadratic, so central differences carry no truncation error.

    Args:
        seeds: one random data set and weight matrix each;  classes, per_class, p: K, N/K and number of features.
        lam: lambda_1.

    Returns:
        For each seed "gap_own" and "gap_printed", the largest absolute gap with the factor of Eq. 3 and as printed.
    """
    h, W = normal(seeds, "features", classes, per_class, p), starts(seeds, "weights", classes, p)
    eps = 0.01
    shifts = eps * torch.eye(classes * p, dtype=W.dtype).view(-1, 1, classes, p)
    numeric = (
        (features.penalised_loss(W + shifts, h, lam) - features.penalised_loss(W - shifts, h, lam)) / (2 * eps)
    ).T.view_as(W)
    data = features.moments(h)
    gaps = {}
    for name, reading in (("gap_own", "eq3"), ("gap_printed", "printed")):
        mu = features.penalty(lam, classes * per_class, classes, reading)
        gaps[name] = (features.gradient(W, data, mu) - numeric).abs().amax((-2, -1)).tolist()
    return per_seed(seeds, gaps)


def flow_gap(seeds: Sequence[int], p: int, steps: int, classes: int = 3, lam: float = 1.0) -> pd.DataFrame:
    """Compare Theorem 3.1, right and printed, with a Runge-Kutta integration and with the stationary point.

    Args:
        seeds: one random data set (4 p Gaussian feature vectors for each class) and start each.
        p: number of features;  steps: Runge-Kutta steps over 10 / (largest eigenvalue of M).
        classes, lam: K and lambda_1.

    Returns:
        For each seed "error_mended" and "error_printed", the largest gap to the integration with mended and with
        printed signs, and "gradient_mended" and "gradient_printed", the largest entry of the loss gradient there.
    """
    # a seed by itself: the times are those of its own data
    return pd.concat([_flow_gap(seed, p, steps, classes, lam) for seed in seeds])


def _flow_gap(seed: int, p: int, steps: int, classes: int, lam: float) -> pd.DataFrame:
    data = features.moments(normal([seed], "features", classes, 4 * p, p))
    mu = features.penalty(lam, 4 * p * classes, classes)
    W0 = starts([seed], "weights", classes, p)
    flow = features.FeatureFlow(data)
    span = 10 / (float(flow.values.max()) + mu)
    numeric = rk4(lambda W: -features.gradient(W, data, mu), W0, span, steps)
    forever = 60 / (float(flow.values.min()) + mu)
    ends = torch.tensor([span, forever], dtype=W0.dtype)
    gaps = {}
    for name, sign in (("mended", "right"), ("printed", "printed")):
        end, limit = flow.weights(W0[:, None], mu, 1.0, ends, sign)[:, :, 0].unbind(1)
        gaps[f"error_{name}"] = (end - numeric).abs().amax((-2, -1)).tolist()
        gaps[f"gradient_{name}"] = features.gradient(limit, data, mu).abs().amax((-2, -1)).tolist()
    return per_seed([seed], gaps)


def eq4_gap(
    seeds: Sequence[int], draws: int, p: int, etas: Sequence[float], classes: int = 3, mu: float = 0.7
) -> pd.DataFrame:
    """Compare both lines of Eq. 4 with an actual fictitious step at several step sizes.

    Args:
        seeds: `draws` random weight matrices and pairs of features each;  p, classes: sizes.
        etas: step sizes;  mu: penalty coefficient, any positive number.

    Returns:
        For each seed: "second_line" and "first_line", the largest relative error over draws and step sizes of the
        second and of the printed first line; "first_line_spread", the median over draws of how much the printed first
        line changes with the step size (max/min - 1); "first_line_from_1", its largest distance from 1 at the smallest
        step size.
    """
    W = starts(seeds, "weights", draws, classes, p)
    h, h_prime = normal(seeds, "x", draws, p), normal(seeds, "x-prime", draws, p)
    outputs = [(W @ point[..., None]).squeeze(-1) for point in (h, h_prime)]
    formula = features.s_rel(*outputs, (h * h_prime).sum(-1), (h**2).sum(-1), 0, mu)
    steps = [features.fictitious_step(W, h, 0, mu, eta) for eta in etas]
    measured = torch.stack([features.change_ratio(W, W_new, h_prime, h) for W_new in steps])
    crossed = torch.stack([features.change_ratio(W, W_new, h_prime, h, crossed=True) for W_new in steps])
    columns = {
        "second_line": (formula / measured - 1).abs().amax((0, 2)).tolist(),
        "first_line": (crossed / measured - 1).abs().amax((0, 2)).tolist(),
        "first_line_spread": (crossed.amax(0) / crossed.amin(0) - 1).median(-1).values.tolist(),
        "first_line_from_1": (crossed[int(torch.tensor(etas).argmin())] - 1).abs().amax(-1).tolist(),
    }
    return per_seed(seeds, columns)


def random_features(seed: int, p: int, dim: int, per_class: int) -> Tensor:
    """Return the features of Section 3.1, ReLU(W_r x), shape (2, per_class, p).

    W_r has standard normal entries; x has mean 1 and variance 2 in each coordinate for class 1, mean 9 and variance 1
    for class 2.

    Args:
        seed: data and W_r;  p: number of features;  dim: input dimension;  per_class: points in each class.
    """
    x = normal([seed], "inputs", 2, per_class, dim)[0]
    x[0].mul_(2**0.5).add_(1)
    x[1].add_(9)
    return torch.relu(x @ normal([seed], "layer", p, dim)[0].T)


def curves(seeds: Sequence[int], size: SimpleNamespace, lam: float = 1.0, theta: float = 0.001) -> pd.DataFrame:
    """Return S_rel (Eq. 4) and the loss (Eq. 3) along the flow of Definition 4 on the features of Section 3.1.

    The pair is the first training point of each class: x in class 1 is sampled, x' in
    class 2 is watched. Both quantities are averages over the starts.

    Args:
        seeds: data, random layer and starts.
        size: p, dim, per_class (sizes of the features), draws (starts for each seed), iterations, every (the flow is
            read at t = 0, every, 2 every, ..., iterations).
        lam, theta: lambda_1 and the time scale of the flow.

    Returns:
        Columns seed, variant (one of `VARIANTS`), iteration, s_rel, loss.
    """
    times = torch.arange(0, size.iterations + 1, size.every, dtype=torch.float64)
    frames = []
    for seed in seeds:
        h = random_features(seed, size.p, size.dim, size.per_class)
        flow = features.FeatureFlow(features.moments(h))
        x, x_prime = h[0, 0], h[1, 0]
        W0 = starts([seed], "weights", size.draws, 2, size.p)[0]
        for variant, (reading, sign, scale) in VARIANTS.items():
            mu = features.penalty(lam, 2 * size.per_class, 2, reading)
            out, loss = flow.outputs_and_loss(scale * W0, torch.stack([x, x_prime]), mu, lam, theta, times, sign)
            s = features.s_rel(out[..., 0, :], out[..., 1, :], x @ x_prime, x @ x, 0, mu)
            columns = {"iteration": times.long().numpy(), "s_rel": s.mean(-1).numpy(), "loss": loss.mean(-1).numpy()}
            frames.append(pd.DataFrame({"seed": seed, "variant": variant, **columns}))
    return pd.concat(frames, ignore_index=True)


def caption(sizes: Sequence[SimpleNamespace]) -> str:
    """Return what the figure of Figures 6 to 8 draws."""
    shown = "; ".join(f"$p={size.p}$, dim $={size.dim}$" for size in sizes)
    seeds = ", ".join(f"{size.seeds}" for size in sizes)
    return (
        f"As Figures 6 to 8 of the source: {shown}. Top: share of the drop of the loss still to come; bottom: $S$ over "
        f"its last value. Mean of {sizes[0].draws} starts, then mean and range over {seeds} seeds."
    )


def thinned(frames: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Return the curves of Figures 6 to 8 that are drawn: figure, seed, variant, iteration, loss_left, relative.

    loss_left is the share of the drop of the loss that is still to come.
    """
    parts = []
    for number, frame in frames.items():
        loss = frame.groupby(["seed", "variant"])["loss"]
        left = (frame["loss"] - loss.transform("last")) / (loss.transform("first") - loss.transform("last"))
        parts.append(thin(frame.assign(loss_left=left)).assign(figure=number))
    kept = pd.concat(parts, ignore_index=True)
    return kept[kept["variant"] != "printed_signs"]


def thin(frame: pd.DataFrame, points: int = 120) -> pd.DataFrame:
    """Return the rows of a frame of `curves` at about `points` log-spaced iterations, with S also relative to its end.

    Returns:
        Its columns and `relative`: s_rel divided by its last value of that seed and variant.
    """
    relative = frame["s_rel"] / frame.groupby(["seed", "variant"])["s_rel"].transform("last")
    grid = frame["iteration"].unique()[1:]
    wanted = grid[np.unique(np.geomspace(1, len(grid), points).astype(int)) - 1]
    return frame.assign(relative=relative)[frame["iteration"].isin(wanted)]


def movement(
    seeds: Sequence[int],
    sizes: Sequence[int],
    dim: int,
    per_class: int,
    draws: int,
    points: int = 200,
    lam: float = 1.0,
) -> pd.DataFrame:
    """Return how much S_rel of Eq. 4 moves along the whole flow, with and without the penalty.

    Times are 0 and log-spaced from a hundredth of the fastest to forty times the slowest time scale.

    Args:
        seeds, dim, per_class, draws: as for `curves`;  sizes: numbers of features p.
        points: number of times;  lam: lambda_1 where it is not 0.

    Returns:
        Evidence by seed and p, of max/min - 1 of S over time: "without" (lambda_1 = 0; the largest over the starts),
        and the median over the starts of "with_own_factor" (lam/K), "with_printed_factor" (N lam/K) and
        "unit_features" (lam/K with features of root mean square norm 1).
    """
    rows = []
    for seed, p in product(seeds, sizes):
        W0 = starts([seed], "weights", draws, 2, p)[0]
        plain = random_features(seed, p, dim, per_class)
        unit = plain / (plain**2).sum(-1).mean().sqrt()
        row = {"seed": seed, "p": p}
        for name, h, strength, reading in (
            ("without", plain, 0.0, "eq3"),
            ("with_own_factor", plain, lam, "eq3"),
            ("with_printed_factor", plain, lam, "printed"),
            ("unit_features", unit, lam, "eq3"),
        ):
            ratio = _moved(h, W0, features.penalty(strength, 2 * per_class, 2, reading), strength, points)
            row[name] = float(ratio.max() if name == "without" else ratio.median())
        rows.append(row)
    return table(pd.DataFrame(rows), "p")


def _moved(h: Tensor, W0: Tensor, mu: float, lam: float, points: int) -> Tensor:
    """Return max/min - 1 of S over the flow for each start of W0."""
    flow = features.FeatureFlow(features.moments(h))
    rates = flow.values.clamp(min=float(flow.values[-1]) * 1e-12) + mu
    ends = torch.log10(torch.stack([0.01 / rates[-1], 40 / rates[0]]))
    times = torch.cat([W0.new_zeros(1), torch.logspace(*ends.tolist(), points, dtype=W0.dtype)])
    x, x_prime = h[0, 0], h[1, 0]
    out, _ = flow.outputs_and_loss(W0, torch.stack([x, x_prime]), mu, lam, 1.0, times)
    s = features.s_rel(out[..., 0, :], out[..., 1, :], x @ x_prime, x @ x, 0, mu)
    return s.amax(0) / s.amin(0) - 1


def settling_time(curve: Tensor, share: float) -> int:
    """Return the first index at which `share` of the way from the first to the last value is done, for good."""
    left = (curve - curve[-1]).abs() > (1 - share) * (curve[0] - curve[-1]).abs()
    return int(left.nonzero().max()) + 1 if left.any() else 0


def phases(frame: pd.DataFrame, settled: float, late: float = 1 / 3) -> pd.DataFrame:
    """Summarise the curves of `curves`: evidence, one row for each seed and variant.

    Args:
        frame: what `curves` returns.
        settled: share of the drop of the loss after which it counts as settled (t99);  late: the last part of the run.

    Returns:
        late_spread (max/min - 1 of S over the last part), early_below (share of the times before t99 at which S lies
        below every value of the last part), rise (S at the end minus S at 0), movement (max/min of S), t99 (first
        iteration after which the drop is done), linked and linked_log (share of the net rise of S from its minimum
        that is done at t99 of the loss and of its logarithm; 0 where S does not end above its minimum or where the
        minimum comes after t99).
    """
    rows = []
    for (variant, seed), group in frame.groupby(["variant", "seed"], sort=False):
        s, loss = (torch.tensor(group[name].to_numpy()) for name in ("s_rel", "loss"))
        last, lowest, rose = s[int((1 - late) * len(s)) :], int(s.argmin()), float(s[-1] - s.min())
        marks = [settling_time(loss, settled), settling_time(loss.log(), settled)]
        shares = [float(s[m] - s.min()) / rose if rose > 0 and lowest <= m else 0.0 for m in marks]
        rows.append(
            {
                "seed": seed,
                "variant": variant,
                "late_spread": float(last.max() / last.min() - 1),
                "early_below": float((s[: max(marks[0], 1)] < last.min()).double().mean()),
                "rise": float(s[-1] - s[0]),
                "movement": float(s.max() / s.min()),
                "t99": int(group["iteration"].iloc[marks[0]]),
                "linked": shares[0],
                "linked_log": shares[1],
            }
        )
    return table(pd.DataFrame(rows), "variant")


def loss_link(figures: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Return how far S rises while the loss falls, by figure, from the tables of `phases` of Figures 6 to 8.

    Columns linked, linked_log and t99 of the printed M, linked_small and t99_small of the small start; cases: the
    figure's number.
    """
    by = {number: read.unstack("variant") for number, read in figures.items()}
    chosen = {
        "linked": ("linked", "printed"),
        "linked_log": ("linked_log", "printed"),
        "linked_small": ("linked", "small_start"),
        "t99": ("t99", "printed"),
        "t99_small": ("t99", "small_start"),
    }
    return stacked(
        {n: pd.DataFrame({name: read[of] for name, of in chosen.items()}) for n, read in by.items()}, "figure"
    )
