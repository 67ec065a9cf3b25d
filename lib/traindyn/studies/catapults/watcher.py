"""Beyond the thesis: an optimiser that watches the critical learning rate and triggers catapults on purpose."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import torch

from traindyn.compute import normal
from traindyn.learn import data
from traindyn.learn.models import FCN
from traindyn.learn.train import Probe, Run, State, Stop, fit
from traindyn.measure.spectrum import relative, top_norm
from traindyn.studies.catapults.tasks import DIVERGED, TRACED


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


def _sets(seed: int, size: Any, dtype: torch.dtype, device: Any) -> list[torch.Tensor]:
    """Return training inputs and targets, and a test set."""
    if size.data == "rank2":
        X, y, f = data.polynomial(2, size.n, size.dim, 0.1, seed, torch.float64)
        Z = normal([seed], "test", size.n_test, size.dim)[0]
        found = (X, y, Z, f(Z))
    else:
        images = data.load(
            size.data,
            classes=list(size.classes),
            n_train=size.n,
            n_test=size.n_test,
            seed=seed,
            labels="pm1",
            size=size.side,
            flatten=True,
            dtype=torch.float64,
        )
        found = (images.X_train, images.y_train, images.X_test, images.y_test)
    return [part.to(dtype=dtype, device=device) for part in found]


def compare(size: Any, seeds: Sequence[int], dtype: torch.dtype, device: Any) -> pd.DataFrame:
    """Train by SGD at several constant rates and by the watcher, with the same batches and number of updates.

    Args:
        size: attributes data, classes and side or dim, n, n_test, width, depth, batch, steps, ratios (constant rates
            over the critical rate at the start), subset, every, above, below, period.
        seeds: one comparison each.
        dtype, device: of the training.

    Returns:
        One row per seed and optimiser: method ("constant" or "watcher"), ratio, test (test loss at the end; NaN if it
        diverged), train, norm (||K|| at the end over the start, on the subset), outcome.
    """
    sets = {seed: _sets(seed, size, dtype, device) for seed in seeds}
    few = {seed: X[: size.subset] for seed, (X, *_) in sets.items()}
    first = sets[seeds[0]][0]

    def test_loss(state: State) -> dict[str, torch.Tensor]:
        Z, z = sets[state.seed][2:]
        with torch.no_grad():
            return {"test": (state.predict(Z) - z).square().mean(), "top": top_norm(state.model, few[state.seed])}

    def train(lr: Any, schedule: Any = None) -> Run:
        return fit(
            FCN(first.shape[1], size.width, size.depth),
            lambda seed: tuple(sets[seed][:2]),
            lr=lr,
            schedule=schedule,
            batch_size=size.batch,
            steps=size.steps,
            record=[0],
            seeds=list(seeds),
            stop=Stop(diverged=DIVERGED),
            probes={"test": Probe(test_loss, every=0, at=[0])},
            dtype=dtype,
            device=device,
            progress=False,
            trace=size.steps >= TRACED,
        )

    watch = watcher(size.subset, size.every, size.above, size.below, size.period, int(0.8 * size.steps))
    rates = [relative(ratio) for ratio in size.ratios]
    tables = {"constant": _ends(train(rates)), "watcher": _ends(train(rates[0], watch)).assign(ratio=math.nan)}
    return pd.concat([table.assign(method=method) for method, table in tables.items()], ignore_index=True)


def _ends(run: Run) -> pd.DataFrame:
    """Return how every run of `compare` ended; numbers of one that diverged are NaN."""
    first, last = (run.frame.groupby("run")[["loss", "test", "top"]].nth(at).reset_index(drop=True) for at in (0, -1))
    found = run.summary[["seed", "lr_ratio", "outcome"]].rename(columns={"lr_ratio": "ratio"})
    numbers = pd.DataFrame({"test": last["test"], "train": last["loss"], "norm": last["top"] / first["top"]})
    return found.join(numbers.where(found["outcome"] != "diverged"))


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
