"""Beyond the thesis: rises of SGD's loss under batches whose rate is below their threshold. Are they overshoots?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from traindyn.learn.train import Probe, State
from traindyn.measure.ntk import empirical_ntk
from traindyn.studies.catapults import tasks


def linear_loss(K: torch.Tensor, residual: torch.Tensor, batch: torch.Tensor, rate: float) -> torch.Tensor:
    """Return the loss (1/n) |r|^2 on all samples after one SGD step of the model with the kernel K frozen.

    The step takes the residual r to r - (2 eta / b) K[:, batch] r[batch].

    Args:
        K: kernel of all samples, (n, n).
        residual: f - y, (n,).
        batch: indices of the batch, (b,).
        rate: eta.
    """
    return (residual - 2 * rate / len(batch) * K[:, batch] @ residual[batch]).square().mean()


def watched(size: Any, rates: Any, follow: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Train by SGD and predict every step's loss on the whole set by the step with the kernel frozen.

    Args:
        size, rates: as in `tasks.follow`.
        follow: of `tasks.follower`.

    Returns:
        One row per seed and update: step, change (relative, of the loss on the whole set), predicted (the same of the
        linear step), threshold (the rate over the batch's critical rate).
    """

    def look(state: State) -> dict[str, torch.Tensor]:
        if not bool(state.loss <= tasks.DIVERGED):
            return {name: torch.tensor(math.nan, dtype=torch.float64) for name in ("after", "before", "own")}
        with torch.no_grad():
            K = empirical_ntk(state.model, state.X).double()
            residual = (state.predict(state.X) - state.y).double()
        own = len(state.batch) / torch.linalg.eigvalsh(K[state.batch][:, state.batch])[-1]
        after = linear_loss(K, residual, state.batch, state.lr)
        return {"after": after, "before": residual.square().mean(), "own": own}

    rows = []
    for seed, run in follow(size, rates, look=Probe(look)).groupby("seed"):
        loss, part = run["loss"].to_numpy(), run.iloc[:-1]
        rows.append(
            pd.DataFrame(
                {
                    "seed": seed,
                    "step": part["step"].to_numpy(),
                    "change": np.diff(loss) / loss[:-1],
                    "predicted": (part["after"] / part["before"] - 1).to_numpy(),
                    "threshold": (part["rate"] / part["own"]).to_numpy(),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def shares(steps: pd.DataFrame) -> pd.DataFrame:
    """Read `watched`: of the steps below their batch's threshold, whose rise does the frozen kernel foresee?

    Returns:
        One row per seed: rises (steps below the threshold that raise the loss), foreseen (share of these that the
        linear step raises, too), false_alarms (share of all other steps below the threshold that it raises), band and
        band_others (shares of both kinds above half the threshold).
    """
    rows = []
    for seed, run in steps[steps["threshold"] <= 1].groupby("seed"):
        up, said, near = run["change"] > 0, run["predicted"] > 0, run["threshold"] > 0.5
        row = {"seed": seed, "rises": int(up.sum()), "foreseen": said[up].mean(), "false_alarms": said[~up].mean()}
        rows.append(row | {"band": near[up].mean(), "band_others": near[~up].mean()})
    return pd.DataFrame(rows)


def verdict(found: pd.DataFrame, most: float = 0.9) -> str:
    """Say whether the rises of `shares` are overshoots of a linear step.

    Args:
        found: of `shares`.
        most: share of the rises that the linear step must foresee, and of the other steps that it must clear.

    Returns:
        "yes" if it does both in every seed, "no" if it foresees less than half of the rises in every seed, else
        "undecided".
    """
    if (found["foreseen"] >= most).all() and (found["false_alarms"] <= 1 - most).all():
        return "yes"
    return "no" if (found["foreseen"] < 0.5).all() else "undecided"
