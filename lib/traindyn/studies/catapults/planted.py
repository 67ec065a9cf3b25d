"""One sample with a critical rate of its own (Figure 4.5), and how the batch size moves the batch's critical rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import generator
from traindyn.learn import data
from traindyn.learn.models import TwoLayer, drawn
from traindyn.learn.train import Probe, State, Stop, fit
from traindyn.measure.ntk import empirical_ntk
from traindyn.studies.catapults.tasks import BATCHES, DIVERGED, start, variant

STAR = 0  # the sample that is scaled


def planted_task(seed: int, n: int, scale: float = 2.0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return n points on the unit sphere in n dimensions with label 1; sample `STAR` and its label times `scale`."""
    X, y = data.sphere(n, n, seed=seed, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    X[STAR], y[STAR] = scale * X[STAR], scale
    return X.to(dtype), y.to(dtype)


def planted(size: Any, places: Sequence[float], seeds: Sequence[int], dtype: torch.dtype, device: Any) -> pd.DataFrame:
    """Train a two-layer ReLU network with fixed output weights, +1 or -1, by SGD with batch size one.

    With signs the critical rate of a sample is proportional to 1 / |x|^2 up to O(1/sqrt(width)), as the thesis says.

    Args:
        size: attributes n, width, steps.
        places: where the rate lies between the critical rate of the planted sample (0) and the lowest of all others
            (1), on a logarithmic scale.
        seeds: one run per place each.
        dtype, device: of the training.

    Returns:
        One row per seed, place and step: loss, rate, critical (of the drawn sample), star (it is the planted one),
        residual (of the drawn sample), low (critical rate of the planted sample at the start over the mean of the
        others).
    """

    def look(state: State) -> dict[str, Tensor]:
        X, y = state.X[state.batch], state.y[state.batch]
        with torch.no_grad():
            own = empirical_ntk(state.model, X)[0, 0]
            residual = (state.predict(X) - y)[0]
        return {"critical": 1 / own, "star": (state.batch[0] == STAR).to(own), "residual": residual}

    model = TwoLayer(size.n, size.width, train="first", outer="sign")
    rates, low = {}, {}
    for seed in seeds:
        own = 1 / torch.diagonal(empirical_ntk(drawn(model, seed, dtype), planted_task(seed, size.n, dtype=dtype)[0]))
        others = torch.cat([own[:STAR], own[STAR + 1 :]])
        rates[seed] = [(own[STAR] ** (1 - place) * others.min() ** place).item() for place in places]
        low[seed] = (own[STAR] / others.mean()).item()
    run = fit(
        model,
        lambda seed: planted_task(seed, size.n, dtype=dtype),
        lr=rates,
        batch_size=1,
        steps=size.steps,
        stop=Stop(diverged=DIVERGED),
        probes={"look": Probe(look)},
        seeds=list(seeds),
        dtype=dtype,
        device=device,
        progress=False,
    )
    place = dict(zip(run.summary["run"], list(places) * len(seeds), strict=True))
    return run.frame.assign(low=run.frame["seed"].map(low), place=run.frame["run"].map(place))


def readings(frame: pd.DataFrame, read: Any) -> pd.DataFrame:
    """Read every run of `planted`: counts of steps.

    Args:
        frame: of `planted`.
        read: attributes visits, residual and shift: a super-critical step is *telling* when it comes after so many
            visits of the planted sample, with a larger residual, and *silent* if it then raises the loss by less than
            this share of the initial one.

    Returns:
        One row per seed and place: over (super-critical steps), strays (those that use another sample), crosstalk
        (steps with another sample that raise the loss at all), mismatches (steps that are super-critical and do not
        raise the loss, or raise it and are not), telling, silent.
    """
    rows = []
    for (seed, place), run in frame.groupby(["seed", "place"]):
        change, over, star = _steps(run)
        telling = over & (run["residual"].abs().to_numpy()[:-1] > read.residual) & (np.cumsum(star) > read.visits)
        counts = {
            "over": over,
            "strays": over & ~star,
            "crosstalk": (change > 0) & ~star,
            "mismatches": over != (change > 0),
            "telling": telling,
            "silent": telling & ~(change > read.shift * run["loss"].iloc[0]),
        }
        rows.append({"seed": seed, "place": place, **{name: int(flags.sum()) for name, flags in counts.items()}})
    return pd.DataFrame(rows)


def thresholds(frame: pd.DataFrame, read: Any) -> pd.DataFrame:
    """Compare super-critical steps with spikes, for several definitions of a spike.

    Args:
        frame: of `planted`.
        read: attributes rises (one-step rises, relative to the loss, that may be called a spike) and floor (a spike
            also rises by at least this share of the initial loss).

    Returns:
        One row per seed, place and threshold in per cent: spikes, precision and recall of the event "super-critical"
        for "spike" (NaN without such a step), unmatched (steps that are one and not the other).
    """
    rows = []
    for (seed, place), run in frame.groupby(["seed", "place"]):
        change, over, _ = _steps(run)
        loss = run["loss"].to_numpy()
        for threshold in read.rises:
            spike = (change >= threshold * loss[:-1]) & (change >= read.floor * loss[0])
            both = int((spike & over).sum())
            rows.append(
                {
                    "seed": seed,
                    "place": place,
                    "percent": round(100 * threshold),
                    "spikes": int(spike.sum()),
                    "precision": both / int(over.sum()) if over.any() else math.nan,
                    "recall": both / int(spike.sum()) if spike.any() else math.nan,
                    "unmatched": int((spike != over).sum()),
                }
            )
    return pd.DataFrame(rows)


def means(counts: pd.DataFrame, rises: pd.DataFrame) -> pd.DataFrame:
    """Return what a page shows of `readings` and `thresholds` (indexed by seed and case): means over seeds."""
    joined = counts.join(rises)[["over", "crosstalk", "spikes", "unmatched", "precision", "recall"]]
    found = joined.groupby(["place", "percent"]).mean().reset_index()
    return found.rename(columns={"place": "rate", "percent": "rise, %", "over": "super-critical"})


def _steps(run: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return per update: change of the loss, whether it was super-critical, whether it used the planted sample."""
    over, star = run["rate"] > run["critical"], run["star"] > 0.5
    return np.diff(run["loss"].to_numpy()), over.to_numpy()[:-1], star.to_numpy()[:-1]


def batch_norms(size: Any, seeds: Sequence[int], dtype: torch.dtype) -> pd.DataFrame:
    """Return ||K_b||/b at the initial weights for random batches of several sizes.

    Args:
        size: attributes of `tasks.task`, depth, width, sizes, batches.
        seeds: one network and data set each.
        dtype: of the computation.

    Returns:
        One row per seed, batch size and batch: value; whole: ||K||/n of the whole set.
    """
    rows = []
    for seed in seeds:
        model, X, _ = start(seed, size, "none", dtype)
        K = empirical_ntk(model, X).double()
        whole = torch.linalg.eigvalsh(K)[-1].item() / len(X)
        rng = generator(seed, "batches")
        for b in size.sizes:
            picks = torch.stack([torch.randperm(len(X), generator=rng)[:b] for _ in range(size.batches)])
            values = torch.linalg.eigvalsh(K[picks[:, :, None], picks[:, None, :]])[:, -1] / b
            rows += [{"seed": seed, "b": b, "value": v, "whole": whole} for v in values.tolist()]
    return pd.DataFrame(rows)


def explained(table: pd.DataFrame) -> pd.DataFrame:
    """Split P(super-critical batch) at half the critical rate into a shift of the mean and a spread.

    A batch is super-critical when eta > b/||K_b||, that is ||K_b||/b > 2 ||K||/n.

    Returns:
        One row per seed and batch size: mean, std (of ||K_b||/b), probability, by_mean (1 if the mean alone, as a
        point mass, lies above), by_spread (the probability with this size's spread around the largest size's mean).
    """
    rows = []
    for seed, part in table.groupby("seed"):
        limit = 2 * part["whole"].iloc[0]
        centre = part.loc[part["b"] == part["b"].max(), "value"].mean()
        for b, own in part.groupby("b"):
            values = own["value"]
            rows.append(
                {
                    "seed": seed,
                    "b": b,
                    "mean": values.mean(),
                    "std": values.std(),
                    "probability": float((values > limit).mean()),
                    "by_mean": float(values.mean() > limit),
                    "by_spread": float((values - values.mean() + centre > limit).mean()),
                }
            )
    return pd.DataFrame(rows)


def supercritical_steps(size: Any, follow: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Train at half the critical rate with several batch sizes and count the steps with a super-critical batch.

    Args:
        size: attributes of `tasks.task`, depth, width, sizes, steps.
        follow: of `tasks.follower`.

    Returns:
        One row per seed and batch size: share (of the steps), per_epoch (share * n / b).
    """
    rows = []
    for b in size.sizes:
        run = follow(variant(size, batch=b), 0.5, look=BATCHES, record=0, bias="none")
        run = run[run["step"] < size.steps]  # the last row asks for a batch, too
        for seed, over in (run["rate"] > run["batch_critical"]).groupby(run["seed"]):
            rows.append({"seed": seed, "b": b, "share": over.mean(), "per_epoch": over.mean() * size.n / b})
    return pd.DataFrame(rows)
