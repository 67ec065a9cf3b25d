"""Stochastic gradient descent over batch sizes: losses, alignment, counts (Table 4.1, Figures 4.9, C.18 to C.23)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from traindyn import evidence
from traindyn.compute import generator
from traindyn.measure.curves import excursions, upward_variation
from traindyn.studies.agop import tasks, training
from traindyn.studies.agop.relu import network
from traindyn.studies.agop.tables import rows_of
from traindyn.studies.agop.training import Run, Task

NUMBERS = ["validation", "test", "alignment", "other", "super", "steps", "best_step", "reached", "finite"]


def over_batches(
    seeds: Sequence[int], size: Any, dtype: torch.dtype, *, divisor: float = 2.0, lr: float | None = None,
    law: str = "none", scale: float = 1.0, batches: Sequence[int] | None = None, patience: float = math.inf,
    task: Any = tasks.synthetic, make: Any = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Train at every batch size, at one rate for all of them, until the training loss is below `stop`.

    Args:
        seeds: samples, weights and order.
        size: attributes of `task`, and width, depth, batches, gd (seeds that train on the whole set), steps (epochs at
            most), gd_steps, every (steps between two looks of gradient descent), stop.
        dtype: of the training.
        divisor: the rate is n / ||K(0)|| of the training set over this,
        lr: unless it is given.
        law: of biases and parameterisation, as in `relu.network`.
        scale: of the labels.
        batches: in place of size.batches.
        patience: as in `training.sgd`.
        task: function (seed, size, dtype, scale) -> Task.
        make: function (seed, task, size, dtype) -> network of `conv`, whose steps are not counted (super is NaN).

    Returns:
        One row per seed and batch: `NUMBERS` (the first four at the best validation loss), lr, critical (n / ||K(0)||),
        start (alignment before training), scale of the labels' variance (`variance` of the test labels); and the
        curves: seed, batch, step, train, validation.
    """
    rows, curves = [], []
    for number, seed in enumerate(seeds):
        found = task(seed, size, dtype, scale)
        for batch in size.batches if batches is None else batches:
            whole = batch >= len(found.y)
            if whole and number >= size.gd:
                continue
            net = (
                network(seed, found.X.shape[1], size, dtype, law=law)
                if make is None
                else make(seed, found, size, dtype)
            )
            critical = net.critical(found.X)
            rate = critical / divisor if lr is None else lr
            about = {"seed": seed, "batch": batch, "lr": rate, "critical": critical}
            about["start"] = training.cosine(net.agop(found.X), found.G)
            about["variance"] = float(found.y_test.double().var())
            steps = size.gd_steps if whole else size.steps * (len(found.y) // batch)
            run = training.sgd(
                net, found, rate, batch, seed, steps=steps, stop=size.stop, every=size.every if whole else 0,
                patience=patience, optimizer=None if make is None else "SGD",
            )  # fmt: skip
            rows.append(about | training.result(run, net, found) | ({} if make is None else {"super": math.nan}))
            curves.append(
                pd.DataFrame(_thin(run), columns=["step", "train", "validation"]).assign(seed=seed, batch=batch)
            )
    columns = ["seed", "batch", "lr", "critical", "start", "variance", *NUMBERS]
    empty = rows_of([], ["step", "train", "validation", "seed", "batch"])
    return rows_of(rows, columns), pd.concat(curves, ignore_index=True) if curves else empty


def _thin(run: Run, most: int = 200) -> list[tuple[int, float, float]]:
    every = max(1, len(run.looks) // most)
    return [*run.looks[:-1:every], run.looks[-1]]


def numbers(found: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `over_batches` as evidence, per seed and batch."""
    return evidence.table(found[["seed", "batch", *NUMBERS]], "batch")


def order(found: pd.DataFrame) -> pd.DataFrame:
    """Compare every batch size with the next larger one, on the same seed.

    Returns:
        Per seed and batch (all but the largest): fall (test loss of the larger minus this), lower (the same of the best
        validation loss), gain (this alignment minus the larger's), more (the same of the super-critical steps).
    """
    rows = []
    for seed, part in found.groupby("seed"):
        part = part.set_index("batch").sort_index()
        for small, large in zip(part.index, part.index[1:], strict=False):
            a, b = part.loc[small], part.loc[large]
            rows.append(
                (seed, small, b["test"] - a["test"], b["validation"] - a["validation"],
                 a["alignment"] - b["alignment"], a["super"] - b["super"])
            )  # fmt: skip
    names = ["seed", "batch", "fall", "lower", "gain", "more"]
    with np.errstate(invalid="ignore"):
        return evidence.table(rows_of(rows, names), "batch")


def trends(found: pd.DataFrame, sizes: int) -> pd.DataFrame:
    """Return per seed the rank correlations of the batch size with what is read, over seeds that ran all sizes.

    Returns:
        Per seed: with_test, with_alignment, with_super, with_validation; rises (largest minus smallest number of
        super-critical steps), backward (pairs of neighbouring sizes at which the number falls as the batch shrinks),
        with_both (of test loss and alignment). NaN where a run diverged.
    """
    rows = []
    for seed, part in found.groupby("seed"):
        part = part.sort_values("batch")
        if len(part) < sizes:
            continue
        row = {"seed": seed}
        ok = bool((part["finite"] == 1).all())
        for name in ("test", "alignment", "super", "validation"):
            row[f"with_{name}"] = _rank(part["batch"], part[name]) if ok else math.nan
        row["with_both"] = _rank(part["test"], part["alignment"]) if ok else math.nan
        row["rises"] = part["super"].max() - part["super"].min() if ok else math.nan
        row["backward"] = float((part["super"].diff().dropna() > 0).sum()) if ok else math.nan
        rows.append(row)
    names = ["with_test", "with_alignment", "with_super", "with_validation", "with_both", "rises", "backward"]
    return evidence.table(rows_of(rows, ["seed", *names]))


def _rank(x: Any, y: Any) -> float:
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < 2 or not np.isfinite(y).all():
        return math.nan
    if (y == y[0]).all() or (x == x[0]).all():
        return 0.0
    return float(spearmanr(x, y)[0])


def spreads(large: pd.DataFrame, small: pd.DataFrame) -> pd.DataFrame:
    """Compare the spread over batch sizes at a small rate with that at a large one, on the same seeds and sizes.

    Returns:
        Per seed: ratio (of largest minus smallest test loss over batches, small rate over large), ratio_validation (of
        the best validation losses), small_spread, large_spread, small_super (super-critical steps at the small rate).
        Seeds that have fewer than two sizes at either rate are left out.
    """
    rows = []
    for seed in sorted(set(large["seed"]) & set(small["seed"])):
        a, b = (part[part["seed"] == seed].set_index("batch") for part in (large, small))
        both = a.index.intersection(b.index)
        if len(both) < 2:
            continue
        row = {"seed": seed, "small_super": b.loc[both, "super"].sum()}
        wide, narrow = ({k: _spread(part.loc[both, k]) for k in ("test", "validation")} for part in (a, b))
        row |= {"large_spread": wide["test"], "small_spread": narrow["test"]}
        row |= {
            "ratio": _over(narrow["test"], wide["test"]),
            "ratio_validation": _over(narrow["validation"], wide["validation"]),
        }
        rows.append(row)
    names = ["seed", "ratio", "ratio_validation", "small_spread", "large_spread", "small_super"]
    return evidence.table(rows_of(rows, names))


def _spread(values: pd.Series) -> float:
    return float(values.max() - values.min()) if np.isfinite(values).all() else math.inf


def _over(a: float, b: float) -> float:
    return math.nan if math.isinf(b) or b == 0 else a / b


# what happens at single steps


def window(seeds: Sequence[int], size: Any, dtype: torch.dtype, read: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Follow every step of a stretch of training at a small batch: whole loss, its part in the kernel's top direction.

    Args:
        seeds: samples, weights and order.
        size: attributes of `tasks.synthetic`, and width, depth, batch, divisor, skip (steps before the stretch), steps.
        dtype: of the training.
        read: attributes spike (a step that raises the loss by more than this share of it), excursion (its peak exceeds
            the loss before it by more than this factor).

    Returns:
        The rows (seed, step, loss, lead, rest, over) and per seed: share (upward variation of L_{<=1} over that of L,
        in steps at super-critical batches), control (the same in the other steps), rise_super, rise_other (share of
        steps that are spikes), super_steps, spikes, excursions, steps, match (share of the spikes at a super-critical
        step).
    """
    frames, rows = [], []
    for seed in seeds:
        task = tasks.synthetic(seed, size, dtype)
        net = network(seed, size.d, size, dtype)
        lr = net.critical(task.X) / size.divisor
        run = _follow(net, task, lr, size, generator(seed, "order"))
        run.insert(0, "seed", seed)
        frames.append(run)
        rows.append({"seed": seed} | _split(run, read))
    return pd.concat(frames, ignore_index=True), evidence.table(pd.DataFrame(rows))


def _follow(net: Any, task: Task, lr: float, size: Any, rng: torch.Generator) -> pd.DataFrame:
    n, rows, start = len(task.y), [], None
    order, at = torch.empty(0, dtype=torch.long), 0
    for step in range(size.skip + size.steps):
        if at + size.batch > len(order):
            order, at = torch.randperm(n, generator=rng), 0
        chosen = order[at : at + size.batch]
        at += size.batch
        if step >= size.skip:
            residual = net(task.X) - task.y
            loss = float(residual.double().square().mean())
            if not loss < training.DIVERGED:
                break
            _, start = net.top(task.X, start, tolerance=1e-4)
            lead = float((start[:, 0] @ residual).double() ** 2 / n)
            if not math.isfinite(lead):
                break
        _, over = training.one_step(net, task.X[chosen], task.y[chosen], lr, count=True)
        if step >= size.skip:
            rows.append((step, loss, lead, max(loss - lead, 0.0), over))
    return pd.DataFrame(rows, columns=["step", "loss", "lead", "rest", "over"])


def _split(run: pd.DataFrame, read: Any) -> dict[str, float]:
    loss, lead, over = (run[name].to_numpy() for name in ("loss", "lead", "over"))
    over = over[:-1].astype(bool)
    up, up_lead = np.diff(loss).clip(min=0), np.diff(lead)
    spike = np.diff(loss) > read.spike * loss[:-1]

    def share(where: np.ndarray) -> float:
        total = up[where].sum()
        return float(up_lead[where & (up > 0)].clip(min=0).sum() / total) if total > 0 else math.nan

    return {
        "share": share(over),
        "control": share(~over),
        "rise_super": float(np.mean(spike[over])) if over.any() else math.nan,
        "rise_other": float(np.mean(spike[~over])) if (~over).any() else math.nan,
        "super_steps": int(over.sum()),
        "spikes": int(spike.sum()),
        "excursions": len(excursions(loss, read.excursion)),
        "steps": len(over),
        "match": float(np.mean(over[spike])) if spike.any() else math.nan,
        "variation": upward_variation(lead) / max(upward_variation(loss), 1e-300),
    }


def counts(seeds: Sequence[int], size: Any, dtype: torch.dtype) -> pd.DataFrame:
    """Check the count of super-critical steps where its answer is known.

    Args:
        seeds: samples and weights.
        size: attributes of `tasks.synthetic`, and width, depth, batch, draws.

    Returns:
        Per seed: none (steps counted on `draws` random batches at 0.999 of the smallest of their critical rates),
        all_of (at 1.001 of the largest; minus draws), whole (1 if n / ||K|| / 2 counts on the whole set), shift
        (largest difference of b / ||K_batch|| from the library's).
    """
    from traindyn.measure.ntk import empirical_ntk

    rows = []
    for seed in seeds:
        task = tasks.synthetic(seed, size, dtype)
        net = network(seed, size.d, size, dtype)
        rng = generator(seed, "order")
        kernels, shift = [], 0.0
        for _ in range(size.draws):
            X = task.X[torch.randperm(size.n, generator=rng)[: size.batch]]
            held, out = net.forward(X)
            kernels.append(net.kernel(held, net.backward(held, torch.ones_like(out))))
            library = torch.linalg.eigvalsh(empirical_ntk(net.model, X))[-1]
            shift = max(shift, abs(float(torch.linalg.eigvalsh(kernels[-1])[-1] / library) - 1))
        rates = [size.batch / float(torch.linalg.eigvalsh(K)[-1]) for K in kernels]
        held, out = net.forward(task.X)
        K = net.kernel(held, net.backward(held, torch.ones_like(out)))
        low, high = (
            sum(training.super_critical(K, rate) for K in kernels) for rate in (0.999 * min(rates), 1.001 * max(rates))
        )
        half = training.super_critical(K, size.n / float(torch.linalg.eigvalsh(K)[-1]) / 2)
        rows.append({"seed": seed, "none": low, "all_of": high - size.draws, "whole": float(half), "shift": shift})
    return evidence.table(pd.DataFrame(rows))
