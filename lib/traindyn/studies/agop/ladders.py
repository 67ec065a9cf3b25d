"""Gradient descent whose rate is raised several times: one run per number of increases, all trained to the same loss.

The runs with the first k increases, k = 0, 1, ..., agree until the (k+1)-st would come, so they are branches of one
run. On its branch a run keeps its rate unless that exceeds `decay` times n / ||K||, to which it then falls: this is our
reading of "we decay the learning rate if necessary after the catapult to avoid extra catapults". All branches run at
least as many steps as the trunk, and on until the training loss is below `stop`. What is read of a run is the iterate
of the best validation loss since its own last increase, so that a run cannot shine with what it was before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor

from traindyn import evidence
from traindyn.measure.curves import excursions
from traindyn.studies.agop import tasks, theory, training
from traindyn.studies.agop.relu import Relu, network
from traindyn.studies.agop.tables import rows_of
from traindyn.studies.agop.training import Run, Task


class Branch(NamedTuple):
    """A run with the first k increases, at its end."""

    k: int
    run: Run
    weights: list[Tensor]
    before: int  # step of the last increase
    rate: float  # the rate that it brought


def climb(
    net: Relu, task: Task, first: float, rates: Sequence[float], at: Sequence[int], size: Any, *,
    relative: bool = False, hold: int = 0, tails: bool = True,
) -> list[Branch]:  # fmt: skip
    """Train the runs with the first k increases, k = 0 .. len(rates).

    Args:
        net: at its start; changed.
        task: the samples.
        first: the rate before the first increase.
        rates: the raised rates.
        at: the steps at which they begin.
        size: attributes tail (steps between the last increase and its branch), decay, steps (at most, on a branch),
            every (steps between two looks), stop (training loss).
        relative: rates are multiples of n / ||K|| at the moment of the increase, `first` of that at the start.
        hold: a raised rate is kept for so many steps and then lowered as on a branch; 0: until the next increase.
        tails: train the branches to their end (else they end where they leave the trunk).

    Returns:
        One branch per k. Where the trunk diverged the branches that follow are that same run.
    """
    trunk, found = Run(), []
    lr, last = first * (net.critical(task.X) if relative else 1.0), 0
    ends = [*at, at[-1] + size.tail]
    for k, end in enumerate(ends):
        if hold and k:
            training.descend(net, task, trunk, lr, min(hold, end - trunk.step), every=size.every)
            lr = min(lr, _lowered(net, task, size)) if trunk.outcome != "diverged" else lr
        if trunk.outcome != "diverged":
            training.descend(net, task, trunk, lr, end - trunk.step, every=size.every)
        if trunk.outcome == "diverged":
            found += [Branch(j, trunk, net.copy(), last, lr) for j in range(k, len(ends))]
            break
        here, branch = net.copy(), trunk.copy()
        if tails:
            finish(net, task, branch, lr, ends[-1], size)
        found.append(Branch(k, branch, net.copy(), last, lr))
        net.restore(here)
        if k < len(rates):
            unit, last = net.critical(task.X) if relative else 1.0, trunk.step
            lr = rates[k] * unit if math.isfinite(unit) else lr
            trunk.begin()
    return found


def _lowered(net: Relu, task: Task, size: Any) -> float:
    critical = net.critical(task.X)
    return 0.0 if math.isnan(critical) else size.decay * critical


def finish(net: Relu, task: Task, run: Run, lr: float, least: int, size: Any) -> None:
    """Train a branch to its end at its rate, at most `decay` n / ||K||, and at least to step `least`."""
    end, block = run.step + size.steps, max(size.every, 100)
    while run.step < end and run.outcome == "finished":
        critical = net.critical(task.X)
        if math.isnan(critical):
            run.outcome = "diverged"
            return
        lr = min(lr, size.decay * critical)
        short = run.step < least
        steps = min(block, end - run.step, least - run.step if short else block)
        training.descend(net, task, run, lr, steps, every=size.every, stop=0.0 if short else size.stop)


def catapults(losses: Sequence[float], peak: float) -> int:
    """Return the number of distinct excursions of a loss whose peak exceeds `peak` times the loss before."""
    return len(excursions(np.asarray(losses), peak)) if len(losses) > 1 else 0


def read(net: Relu, task: Task, branch: Branch, peak: float) -> dict[str, float]:
    """Return what is read of one branch.

    Returns:
        k, test, alignment, validation (at the best iterate since its last increase), test_whole, alignment_whole,
        validation_whole (at the best of the whole run), catapults (distinct excursions of the training loss), own
        (those since the last increase), top (largest training loss), distance (of the max-normalised leading 10 x 10
        block of the AGOP from that of G*, Frobenius), reached, finite, steps.
    """
    run = branch.run
    found = {"k": branch.k, "lr": branch.rate} | training.result(run, net, task)
    found.pop("super"), found.pop("best_step")
    found["catapults"] = catapults(run.losses, peak)
    found["own"] = catapults(run.losses[branch.before :], peak)
    found["top"] = max(run.losses, default=math.nan)
    whole = {"test_whole": found["test"], "alignment_whole": found["alignment"], "validation_whole": run.best}
    found["distance"] = math.nan
    if found["finite"] and math.isfinite(found["alignment"]):
        block = theory.largest_entry(net.agop(task.X)) - theory.largest_entry(task.G)
        found["distance"] = float(np.linalg.norm(block))
        if run.earlier is not None and run.earlier[0] < run.best:
            net.restore(run.earlier[1])
            whole = {
                "test_whole": training.risk(net, task.X_test, task.y_test, task.classify),
                "alignment_whole": training.cosine(net.agop(task.X), task.G),
                "validation_whole": run.earlier[0],
            }
    return found | whole


def ladder(
    seeds: Sequence[int], size: Any, dtype: torch.dtype, *, task: Any = tasks.synthetic, scale: float = 1.0,
    relative: bool = False, make: Any = None,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[int, list[Tensor]]]:  # fmt: skip
    """Train every seed's runs with 0, 1, ... increases of the rate.

    Args:
        seeds: samples and weights.
        size: attributes of `climb` and of `task`, width, depth, first, rates, at, excursion (peak of a catapult).
        dtype: of the training.
        task: function (seed, size, dtype, scale) -> Task.
        scale: of the labels.
        relative: as in `climb`; then size.multiples and size.begin stand for rates and first.
        make: function (seed, task, size, dtype) -> network; None: a fully connected one.

    Returns:
        One row per seed and k, as `read` returns it, with start (alignment before training); validation curves (seed,
        k, step, train, validation); the first seed's AGOPs per k, the last being the true one.
    """
    rows, curves, drawn = [], [], {}
    for seed in seeds:
        found = task(seed, size, dtype, scale)
        net = network(seed, found.X.shape[1], size, dtype) if make is None else make(seed, found, size, dtype)
        about = {"seed": seed, "start": training.cosine(net.agop(found.X), found.G)}
        about["critical"] = net.critical(found.X)
        first, rates = (size.begin, size.multiples) if relative else (size.first, size.rates)
        branches = climb(net, found, first, rates, size.at, size, relative=relative)
        for branch in branches:
            rows.append(about | read(net, found, branch, size.excursion))
            curve = pd.DataFrame(branch.run.looks, columns=["step", "train", "validation"])
            curves.append(curve.assign(seed=seed, k=branch.k))
            if seed == seeds[0] and branch.run.outcome != "diverged" and net.agop(found.X).abs().max() > 0:
                drawn[branch.k] = net.agop(found.X)
        if seed == seeds[0]:
            drawn[-1] = found.G
    empty = rows_of([], ["step", "train", "validation", "seed", "k"])
    table = pd.DataFrame(rows) if rows else rows_of([], READ)
    return table, pd.concat(curves, ignore_index=True) if curves else empty, drawn


READ = ["seed", "start", "critical", "k", "lr", "validation", "steps", "reached", "finite", "test", "other",
        "alignment", "catapults", "own", "top", "distance", "test_whole", "alignment_whole",
        "validation_whole"]  # fmt: skip
KEPT = ["test", "alignment", "other", "validation", "test_whole", "alignment_whole", "catapults", "own", "distance",
        "reached", "finite"]  # fmt: skip


LEAST = 3  # points of a rank correlation


def numbers(found: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `ladder` as evidence, per seed and k."""
    return evidence.table(found[["seed", "k", *KEPT]], "k")


def trends(found: pd.DataFrame) -> pd.DataFrame:
    """Return per seed how test loss and alignment go with the number of detected catapults.

    A run that has not reached the training loss, or that diverged, is no point; fewer than 3 points say nothing.

    Returns:
        Per seed: with_test, with_alignment, with_distance (Spearman with the number of catapults; 0 if no two runs
        differ in it), with_test_whole, with_alignment_whole (the same of the best of the whole run), most (catapults
        of the run with all increases), all_finite, all_reached, gain_test (log of the test loss with all increases
        over that with none), gain_alignment. NaN where a run diverged.
    """
    rows = []
    for seed, part in found.groupby("seed"):
        part = part.sort_values("k")
        row = {"seed": seed, "most": part["catapults"].iloc[-1]}
        row |= {"all_finite": part["finite"].min(), "all_reached": part["reached"].min()}
        done = part[part["reached"] == 1]
        row["unfinished"] = float(((part["finite"] == 1) & (part["reached"] == 0)).sum())
        good, enough = row["all_finite"] == 1, len(done) >= LEAST
        for name in ("test", "alignment", "distance", "test_whole", "alignment_whole"):
            row[f"with_{name}"] = _rank(done["catapults"], done[name]) if enough else math.nan
        first, last = part.iloc[0], part.iloc[-1]
        row["gain_test"] = _log(last["test"], first["test"]) if good else math.nan
        row["gain_alignment"] = last["alignment"] - first["alignment"] if good else math.nan
        rows.append(row)
    names = ["with_test", "with_alignment", "with_distance", "with_test_whole", "with_alignment_whole"]
    names += ["most", "all_finite", "all_reached", "unfinished", "gain_test", "gain_alignment"]
    return evidence.table(rows_of(rows, ["seed", *names]))


def _log(a: float, b: float) -> float:
    """Return log(a / b); a share of errors may be zero, so a ten-thousandth is added to both."""
    return math.log((a + 1e-4) / (b + 1e-4))


def _rank(x: pd.Series, y: pd.Series) -> float:
    x, y = np.asarray(x, float), np.asarray(y, float)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(spearmanr(x, y)[0])


def steps_of(found: pd.DataFrame) -> pd.DataFrame:
    """Compare every increase that brought a catapult with the run that skips it, of at least as many steps.

    Returns:
        Per seed: lower (mean over such increases of the log of the best validation loss since the increase over that
        of the run without it), increases (how many).
    """
    rows = []
    for seed, part in found.groupby("seed"):
        part = part.set_index("k").sort_index()
        logs = [
            _log(part.loc[k, "validation"], part.loc[k - 1, "validation_whole"])
            for k in part.index[1:]
            if part.loc[k, "own"] > 0 and part.loc[k, "finite"] == 1
        ]
        rows.append({"seed": seed, "lower": training.means(logs), "increases": len(logs)})
    return evidence.table(rows_of(rows, ["seed", "lower", "increases"]))


def gains(found: pd.DataFrame) -> pd.DataFrame:
    """Return per seed and k >= 1 what increases bring against none: loss (test), features (alignment), differences."""
    rows = []
    for seed, part in found.groupby("seed"):
        part = part.set_index("k").sort_index()
        for k in part.index[1:]:
            a, b = part.loc[k], part.loc[0]
            row = {"seed": seed, "k": k, "loss": a["test"] - b["test"], "features": a["alignment"] - b["alignment"]}
            rows.append(
                row
                | {"loss_whole": a["test_whole"] - b["test"], "features_whole": a["alignment_whole"] - b["alignment"]}
            )
    names = ["seed", "k", "loss", "features", "loss_whole", "features_whole"]
    return evidence.table(rows_of(rows, names), "k")


def scan(seeds: Sequence[int], size: Any, dtype: torch.dtype) -> pd.DataFrame:
    """Run the printed schedule over what is not printed: initial rate, scale of the labels, how long a raised rate is
    held.

    Args:
        seeds: samples and weights.
        size: attributes as for `ladder`, and firsts (initial rates), scales (of the labels, in units of one over their
            standard deviation without noise; 0: as they are), holds (steps; 0: until the next increase).

    Returns:
        Per seed, first, scale and hold: finite (1 if no training loss exceeds the bound until the last branch begins),
        passed (increases survived), top (largest training loss over the first).
    """
    rows = []
    for seed in seeds:
        plain = tasks.synthetic(seed, size, dtype)
        spread = math.sqrt(variance(size))
        for scale in size.scales:
            found = plain if not scale else tasks.synthetic(seed, size, dtype, scale / spread)
            for first in size.firsts:
                for hold in size.holds:
                    net = network(seed, size.d, size, dtype)
                    options = size.changed(every=10**6)
                    branches = climb(net, found, first, size.rates, size.at, options, hold=hold, tails=False)
                    passed = sum(branch.run.outcome != "diverged" for branch in branches) - 1
                    losses = branches[-1].run.losses
                    ok = float(branches[-1].run.outcome != "diverged")
                    top = max(losses) / losses[0] if ok else math.inf
                    rows.append((seed, first, scale, hold, ok, max(passed, 0), top))
    names = ["seed", "first", "scale", "hold", "finite", "passed", "top"]
    return rows_of(rows, names)


def variance(size: Any) -> float:
    """Return the variance of a target without noise."""
    from traindyn.learn.data.targets import target

    return target(size.rank or "full").variance(size.d)


def small_start(seeds: Sequence[int], size: Any, dtype: torch.dtype) -> pd.DataFrame:
    """Train from weights N(0, size.std^2) at several constant rates; the rate is chosen on validation loss.

    Args:
        seeds: samples and weights, those of the schedule.
        size: attributes as for `ladder`, and std, small_rates.

    Returns:
        One row per seed: test, alignment, validation, lr (chosen), reached; and every rate's test loss (test_<rate>).
    """
    rows = []
    for seed in seeds:
        task = tasks.synthetic(seed, size, dtype)
        tried = []
        for lr in size.small_rates:
            net, run = network(seed, size.d, size, dtype, std=size.std), Run()
            training.descend(net, task, run, lr, size.steps, every=size.every, stop=size.stop)
            tried.append({"lr": lr} | training.result(run, net, task))
        done = [row for row in tried if row["reached"]] or tried
        best = min(done, key=lambda row: row["validation"])
        row = {name: best[name] for name in ("test", "alignment", "validation", "lr", "reached")}
        rows.append({"seed": seed} | row | {f"test_{r['lr']:g}": r["test"] for r in tried})
    return pd.DataFrame(rows)


def against(schedule: pd.DataFrame, small: pd.DataFrame) -> pd.DataFrame:
    """Compare the small start with the run of all increases, per seed.

    Returns:
        Per seed: log_test (log of the small start's test loss over the schedule's, best of its whole run), more (its
        alignment minus the schedule's). Pairs of which one has not reached the training loss are left out.
    """
    last = schedule[schedule["k"] == schedule["k"].max()].set_index("seed")
    small = small.set_index("seed")
    both = last.index[last["reached"] == 1].intersection(small.index[small["reached"] == 1])
    frame = pd.DataFrame({"seed": both})
    frame["log_test"] = np.log(small.loc[both, "test"].to_numpy() / last.loc[both, "test_whole"].to_numpy())
    frame["more"] = small.loc[both, "alignment"].to_numpy() - last.loc[both, "alignment_whole"].to_numpy()
    return evidence.table(frame)
