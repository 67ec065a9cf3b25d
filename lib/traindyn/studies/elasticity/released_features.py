r"""Figures 6 to 8 once more, with the choices of the code released with a later version of the paper, one at a time.

The text has inputs of variance 2 in class 1, $T=\mu I+hh^\top$ in Eq. 4, and one pair of points. The released code has
standard deviation 2, $T=\mu I+hh^\top/N$ while the denominator keeps $|h|^2$, and 20 pairs at one start each, whose sum
it divides by 400. Both have the factor $\mu=N\lambda_1/K$.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import normal
from traindyn.layers import starts
from traindyn.studies.elasticity import closed_form_features as features

PAIRS = 20  # of the released code; it divides their sum by PAIRS^2
# choice: standard deviation of class 1, whether T has hh^T / N, whether pairs are summed at the last start
CHOICES = {
    "as printed": (2**0.5, False, False),
    "standard deviation 2": (2.0, False, False),
    "$hh^T/N$ in $T$": (2**0.5, True, False),
    "20 pairs, sum / 400": (2**0.5, False, True),
    "all three": (2.0, True, True),
}


def curves(seeds: Sequence[int], size: SimpleNamespace, lam: float = 1.0, theta: float = 0.001) -> pd.DataFrame:
    """Return S of Eq. 4 along the flow of Definition 4 by every choice of `CHOICES`.

    Args:
        seeds: data, random layer and starts;  lam, theta: lambda_1 and the time scale of the flow.
        size: p, dim, per_class, draws, iterations, every, as in `penalised.curves`.

    Returns:
        Columns seed, choice, iteration, s_rel, and relative (s_rel over its last value).
    """
    times = torch.arange(0, size.iterations + 1, size.every, dtype=torch.float64)
    mu = features.penalty(lam, 2 * size.per_class, 2, "printed")
    frames = []
    for seed in seeds:
        W0 = starts([seed], "weights", size.draws, 2, size.p)[0]
        for choice, (deviation, divided, summed) in CHOICES.items():
            h = features_of(seed, size.p, size.dim, size.per_class, deviation)
            flow = features.FeatureFlow(features.moments(h))
            pairs = PAIRS if summed else 1
            points = torch.cat([h[0, :pairs], h[1, :pairs]])
            out, _ = flow.outputs_and_loss(W0[-1:] if summed else W0, points, mu, lam, theta, times)
            s = ratio(
                out[..., :pairs, :], out[..., pairs:, :], h[0, :pairs], h[1, :pairs], mu, 2 * size.per_class, divided
            )
            s = s.mean(1).sum(-1) / PAIRS**2 if summed else s.mean((1, 2))
            columns = {"iteration": times.long().numpy(), "s_rel": s.numpy(), "relative": (s / s[-1]).numpy()}
            frames.append(pd.DataFrame({"seed": seed, "choice": choice, **columns}))
    return pd.concat(frames, ignore_index=True)


def features_of(seed: int, p: int, dim: int, per_class: int, deviation: float) -> Tensor:
    """Return the features of `penalised.random_features` with another standard deviation in class 1."""
    x = normal([seed], "inputs", 2, per_class, dim)[0]
    x[0].mul_(deviation).add_(1)
    x[1].add_(9)
    return torch.relu(x @ normal([seed], "layer", p, dim)[0].T)


def ratio(out: Tensor, out_prime: Tensor, h: Tensor, h_prime: Tensor, mu: float, n: int, divided: bool) -> Tensor:
    """Return S of Eq. 4 for pairs of points, class 1 sampled: |a e_1 - W T h'| / |r e_1 - (mu + r) W h|.

    Args:
        out, out_prime: W h and W h', shapes (..., pairs, 2);  h, h_prime: the points, (pairs, p).
        mu: coefficient of the penalty;  n: number of samples;  divided: T = mu I + h h^T / n in the place of h h^T.
    """
    inner, own = (h * h_prime).sum(-1), (h * h).sum(-1)
    first = out.new_tensor([1.0, 0.0])
    weight = inner[:, None] / (n if divided else 1)
    top = inner[:, None] * first - mu * out_prime - weight * out
    return top.norm(dim=-1) / (own[:, None] * first - (mu + own)[:, None] * out).norm(dim=-1)


def thinned(frame: pd.DataFrame, points: int = 120) -> pd.DataFrame:
    """Return the rows of a frame of `curves` at about `points` log-spaced iterations after 0."""
    grid = frame["iteration"].unique()[1:]
    wanted = grid[np.unique(np.geomspace(1, len(grid), points).astype(int)) - 1]
    return frame[frame["iteration"].isin(wanted)]


def summary(frame: pd.DataFrame, late: float = 1 / 3) -> pd.DataFrame:
    """Return how each choice of `curves` looks: means over seeds.

    Columns: level (S at the end), from start (end over start, geometric mean), lowest (smallest over last value), flat
    (max/min - 1 over the last part).
    """
    rows = []
    for choice, group in frame.groupby("choice", sort=False):
        s = group.pivot(index="iteration", columns="seed", values="s_rel").to_numpy()
        last = s[int((1 - late) * len(s)) :]
        rows.append(
            {
                "choice": choice,
                "level": s[-1].mean(),
                "end / start": np.exp(np.log(s[-1] / s[0]).mean()),
                "lowest / end": np.exp(np.log(s.min(axis=0) / s[-1]).mean()),
                "late max / min": np.exp(np.log(last.max(axis=0) / last.min(axis=0)).mean()),
            }
        )
    return pd.DataFrame(rows).set_index("choice").round(3)
