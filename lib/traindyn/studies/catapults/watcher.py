"""Beyond the thesis: an optimiser that watches the critical learning rate and triggers catapults on purpose."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch

from traindyn.compute import generator
from traindyn.learn import data
from traindyn.learn.models import FCN
from traindyn.learn.train import Run, State, Stop, fit, loss_on
from traindyn.studies.catapults.tasks import DIVERGED, TRACED, top_norm


def watcher(
    subset: int, every: int, above: float, below: float, period: int, until: int
) -> Callable[[State], float | torch.Tensor]:
    """Return a schedule that looks at n/||K|| on a subset and goes above it, then below it, in turn.

    The first half of each period runs at `above` times the critical rate of the moment, which starts a catapult and
    ends it by itself, since ||K|| falls and the next look sees it; the second half runs at `below` times it. From step
    `until` on only the second holds, so that training settles.

    Args:
        subset: samples in the kernel; its top eigenvalue over the subset's size estimates ||K||/n.
        every: steps between two looks.
        above, below: multiples of the critical rate, above > 1 > below.
        period, until: in steps.
    """

    def rate(state: State) -> torch.Tensor:
        norm = top_norm(state.model, state.X[:subset])
        up = state.step < until and state.step % period < period / 2
        return (above if up else below) * min(subset, len(state.X)) / norm

    rate.every = every
    return rate


def _task(seed: int, size: SimpleNamespace, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Return training inputs and targets, and a test set."""
    if size.data == "rank2":
        X, y, f = data.polynomial(2, size.n, size.dim, 0.1, seed, dtype)
        Z = torch.randn(size.n_test, size.dim, generator=generator(seed, "test"), dtype=torch.float64).to(dtype)
        return X, y, Z, f(Z)
    found = data.load(
        size.data,
        classes=list(size.classes),
        n_train=size.n,
        n_test=size.n_test,
        seed=seed,
        labels="pm1",
        size=size.side,
        flatten=True,
        dtype=dtype,
    )
    return found.X_train, found.y_train, found.X_test, found.y_test


def compare(seeds: Sequence[int], size: SimpleNamespace, dtype: torch.dtype, device: Any) -> pd.DataFrame:
    """Train by SGD at several constant rates and by the watcher, with the same batches and number of updates.

    Args:
        seeds: one comparison each.
        size: attributes data, classes, side, dim, n, n_test, width, depth, batch, steps, ratios (constant rates over
            the critical rate at the start), subset, every, above, below, period.
        dtype, device: of the training.

    Returns:
        One row per seed and optimiser: method ("constant" or "watcher"), ratio, test (test loss at the end; NaN if it
        diverged), train, norm (||K|| at the end over the start, on the subset), outcome, milliseconds per step.
    """
    rows = []
    for seed in seeds:
        X, y, Z, z = (t.to(device) for t in _task(seed, size, dtype))
        model = FCN(X.shape[1], size.width, size.depth)
        model.to(dtype).reset(generator(seed, "init"))
        few = min(size.subset, len(X))
        norm, small = (top_norm(model.to(device), part).item() for part in (X, X[:few]))
        common = {
            "batch_size": size.batch,
            "steps": size.steps,
            "record": [0],
            "seeds": [seed],
            "stop": Stop(diverged=DIVERGED),
            "probes": {"test": loss_on(Z, z, every=0)},
            "dtype": dtype,
            "progress": False,
            "trace": size.steps >= TRACED,
        }
        rates = [ratio * len(X) / norm for ratio in size.ratios]
        watch = watcher(size.subset, size.every, size.above, size.below, size.period, int(0.8 * size.steps))
        runs: list[tuple[str, Run, list[float]]] = [
            ("constant", fit(FCN(X.shape[1], size.width, size.depth), X, y, lr=rates, **common), list(size.ratios)),
            (
                "watcher",
                fit(FCN(X.shape[1], size.width, size.depth), X, y, lr=rates[0], schedule=watch, **common),
                [math.nan],
            ),
        ]
        for method, run, ratios in runs:
            for index, ratio in enumerate(ratios):
                row, last = run.summary.iloc[index], run.frame[run.frame["run"] == index].iloc[-1]
                done = row["outcome"] != "diverged"
                rows.append(
                    {
                        "seed": seed,
                        "method": method,
                        "ratio": ratio,
                        "test": last["test_loss"] if done else math.nan,
                        "train": last["loss"] if done else math.nan,
                        "norm": top_norm(run.models[index], X[:few]).item() / small if done else math.nan,
                        "outcome": row["outcome"],
                        "milliseconds": 1e3 * row["wall"] / size.steps,
                    }
                )
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> dict[str, Any]:
    """Compare the watcher with the best constant rate, chosen once for all seeds by the mean test loss.

    A constant rate that diverges in any seed is out. This favours the constant rate: it is tuned on the test set. So
    is the watcher's mean: NaN if it diverges in any seed, which counts as a loss there.

    Returns:
        best (ratio of that rate), constant and watcher (mean test losses), difference (watcher minus constant, per
        seed), wins (seeds in which the watcher is lower), diverged (seeds in which it diverges), seeds, says: "helps"
        if it is lower in every seed, "hurts" if higher or diverged in every seed, else "undecided".
    """
    constant = table[table["method"] == "constant"].pivot(index="seed", columns="ratio", values="test")
    whole = constant.dropna(axis=1)
    best = whole.mean().idxmin()
    own = table[table["method"] == "watcher"].set_index("seed")["test"]
    difference = own - whole[best]
    wins = int((difference < 0).sum())
    losses = len(difference) - wins
    says = "helps" if losses == 0 else "hurts" if wins == 0 else "undecided"
    return {
        "best": float(best),
        "constant": float(whole[best].mean()),
        "watcher": float(own.mean(skipna=False)),
        "difference": difference.tolist(),
        "wins": wins,
        "diverged": int(own.isna().sum()),
        "seeds": len(difference),
        "says": says,
    }


def row(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer of `verdict` as a row of the page's table."""
    return {
        "verdict": answer["says"],
        "seeds won": f"{answer['wins']} of {answer['seeds']}",
        "watcher diverged": f"{answer['diverged']} of {answer['seeds']}",
        "best constant ratio": answer["best"],
        "test loss, best constant": answer["constant"],
        "test loss, watcher": answer["watcher"],
    }
