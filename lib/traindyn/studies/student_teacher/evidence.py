"""What trained two-layer students say about the claims on Figures 2 to 4, 6, 7 and 11: numbers per seed and case.

Every function returns tables as `traindyn.evidence` defines them. A run that is too short for an epoch gives no rows
for it, so a claim that asks for it stays undecided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from traindyn.evidence import table
from traindyn.measure.curves import first_time
from traindyn.studies.student_teacher.tasks import Trained

Runs = Mapping[int, Trained]  # student nodes per teacher node -> what was trained


def rows(found: Sequence[tuple], columns: Sequence[str], cases: Sequence[str] = ()) -> pd.DataFrame:
    """Return rows of numbers as evidence; no rows at all stand for an experiment that was not run."""
    frame = pd.DataFrame(list(found), columns=list(columns))
    return table(frame if len(frame) else frame.astype(float), list(cases))


def recovery(run: Trained, epoch: float, matched: float) -> np.ndarray:
    """Return the share of recovered teachers per seed after an epoch, (R,): best correlation above `matched`."""
    return (run.best[:, run.at(epoch)] > matched).mean(axis=1)


def cover_time(run: Trained, matched: float, last: float | None = None) -> np.ndarray:
    """Return the first recorded epoch at which each teacher is recovered, (R, m); inf if never up to `last`."""
    used = run.epochs <= (run.epochs[-1] if last is None else last)
    return first_time(run.epochs[used], run.best[:, used].swapaxes(1, 2), matched)


def order(run: Trained, matched: float, last: float | None = None) -> np.ndarray:
    """Return per seed the Spearman correlation (ties averaged) between teacher index and cover time, (R,)."""
    times = cover_time(run, matched, last)
    # all at once: no order at all
    return np.array([0.0 if len(set(row)) == 1 else spearmanr(np.arange(len(row)), row).statistic for row in times])


def followers(run: Trained, epoch: float, above: float) -> np.ndarray:
    """Return the number of students with a correlation above `above` at each teacher after an epoch, (R, m)."""
    at = run.at(epoch)
    aligned = run.rho[:, at] > above
    m = run.best.shape[2]
    return np.stack([np.bincount(p[a], minlength=m) for p, a in zip(run.pick[:, at], aligned, strict=True)])


def weaker_half(run: Trained) -> slice:
    """Return which teachers are the weaker half: 10 to 19 of 20."""
    m = run.best.shape[2]
    return slice(m // 2, m)


def strong_first(runs: Runs, equal: Trained, matched: float, last: float = 20) -> list[pd.DataFrame]:
    """Return the order of learning and the followers of strong teachers up to epoch `last`.

    Returns:
        Per seed and width: `order` (as `order`), `strongest`, `weak` (aligned students of teacher 0, and the mean
        over the weaker half); per seed: `order_equal`, the order at p = 0.
    """
    found, control = [], []
    for width, run in runs.items():
        if run.at(last) is not None:
            counts = followers(run, last, matched)
            weak = counts[:, weaker_half(run)].mean(axis=1)
            found += [
                (s, width, *row)
                for s, *row in zip(run.seeds, order(run, matched, last), counts[:, 0], weak, strict=True)
            ]
    if equal.at(last) is not None:
        control = list(zip(equal.seeds, order(equal, matched, last), strict=True))
    return [
        rows(found, ["seed", "width", "order", "strongest", "weak"], ["width"]),
        rows(control, ["seed", "order_equal"]),
    ]


def focus_shifting(
    runs: Runs, aligned: float, matched: float, deciding: int = 5, shares: tuple = (1, 20), moves: tuple = (5, 100)
) -> list[pd.DataFrame]:
    """Return who chases the strongest teacher, and who changes its best teacher.

    Args:
        runs: by width.
        aligned, matched: correlations from which a student counts as aligned, and as matched.
        deciding: width of the first table.
        shares, moves: epochs of the two tables.

    Returns:
        Per seed and epoch: `on_strongest` (share of the aligned students whose best teacher is the strongest); per
        seed and width: `moved` (share of the students whose best teacher changes between the two epochs), numbers of
        students that are `matched` and not (`loose`) at the first, and how many of these moved.
    """
    chase, moved = [], []
    run = runs[deciding]
    for epoch in shares:
        if (at := run.at(epoch)) is not None:
            near = run.rho[:, at] > aligned
            share = ((run.pick[:, at] == 0) & near).sum(axis=1) / np.maximum(near.sum(axis=1), 1)
            chase += [(s, epoch, value) for s, value in zip(run.seeds, share, strict=True)]
    for width, run in runs.items():
        first, last = (run.at(epoch) for epoch in moves)
        if first is None or last is None:
            continue
        move, bound = run.pick[:, first] != run.pick[:, last], run.rho[:, first] > matched
        groups = [move.mean(1), bound.sum(1), (move & bound).sum(1), (~bound).sum(1), (move & ~bound).sum(1)]
        moved += [(s, width, *values) for s, *values in zip(run.seeds, *groups, strict=True)]
    names = ["moved", "matched", "matched_moved", "loose", "loose_moved"]
    return [
        rows(chase, ["seed", "epoch", "on_strongest"], ["epoch"]),
        rows(moved, ["seed", "width", *names], ["width"]),
    ]


def l_shape(runs: Runs, size: Any, early: float = 2) -> pd.DataFrame:
    """Return the L-shape of Figure 3 after `early` epochs and at the end.

    Args:
        runs: by width.
        size: matched, loose (correlations), high (a fan-out, in units of the matched median).
        early: epoch that the end is compared with.

    Returns:
        Per seed, width and time ("early", "end"): `loose` (number of nodes with a correlation below `size.loose`),
        `strength` (the sum of their |v|, in units of the median |v| of the seed's matched nodes), `corner` (share of
        nodes that are not matched and have |v| above `size.high` of that unit); NaN where no node is matched.
    """
    found = []
    for width, run in runs.items():
        for name, at in (("early", run.at(early)), ("end", len(run.epochs) - 1)):
            if at is None:
                continue
            for seed, rho, norm in zip(run.seeds, run.rho[:, at], run.norm[:, at], strict=True):
                unit = np.median(norm[rho > size.matched]) if (rho > size.matched).any() else np.nan
                loose = rho < size.loose
                high = (rho < size.matched) & (norm > size.high * unit)
                corner = high.mean() if unit > 0 else np.nan
                found.append((seed, width, name, loose.sum(), norm[loose].sum() / unit, corner))
    return rows(found, ["seed", "width", "time", "loose", "strength", "corner"], ["width", "time"])


def trajectories(run: Trained, matched: float) -> pd.DataFrame:
    """Return per seed and teacher `followers` at the end and `cover`, the epoch of first recovery (Figure 4)."""
    counts, times = followers(run, run.epochs[-1], matched), cover_time(run, matched)
    pairs = [(s, j, c[j], t[j]) for s, c, t in zip(run.seeds, counts, times, strict=True) for j in range(len(c))]
    return rows(pairs, ["seed", "teacher", "followers", "cover"], ["teacher"])


def rates(runs: Runs, matched: float, epochs: Sequence[float] = (5, 100)) -> pd.DataFrame:
    """Return per seed, width and epoch `rate`, the share of recovered teachers."""
    found = [
        (s, width, epoch, rate)
        for width, run in runs.items()
        for epoch in epochs
        if run.at(epoch) is not None
        for s, rate in zip(run.seeds, recovery(run, epoch, matched), strict=True)
    ]
    return rows(found, ["seed", "width", "epoch", "rate"], ["width", "epoch"])


def halves(sweeps: Mapping[float, Runs], matched: float, epochs: Sequence[float] = (5, 100)) -> pd.DataFrame:
    """Return per seed, decay p, width and epoch the rates of the `strong` and the `weak` half of the teachers."""
    found = [
        (s, p, width, epoch, hit[: hit.size // 2].mean(), hit[hit.size // 2 :].mean())
        for p, runs in sweeps.items()
        for width, run in runs.items()
        for epoch in epochs
        if run.at(epoch) is not None
        for s, hit in zip(run.seeds, run.best[:, run.at(epoch)] > matched, strict=True)
    ]
    return rows(found, ["seed", "p", "width", "epoch", "strong", "weak"], ["p", "width", "epoch"])


def recovery_rates(runs: Runs, decays: Mapping[float, Runs], p: float, matched: float) -> list[pd.DataFrame]:
    """Return the evidence of Figure 6.

    Args:
        runs: the sweep over widths at the decay `p`.
        decays: other decays, by p.
        p, matched: decay of the sweep; correlation of a recovered teacher.

    Returns:
        `rates` and `halves` of the sweep; `halves` of the other decays, which have fewer seeds, as `strong_decay` and
        `weak_decay`; per seed, p and width of these `early`, the rate after 5 epochs.
    """
    early = [
        (s, q, width, rate)
        for q, others in decays.items()
        for width, run in others.items()
        if run.at(5) is not None
        for s, rate in zip(run.seeds, recovery(run, 5, matched), strict=True)
    ]
    return [
        rates(runs, matched),
        halves({p: runs}, matched),
        halves(decays, matched).add_suffix("_decay"),
        rows(early, ["seed", "p", "width", "early"], ["p", "width"]),
    ]


def stuck(runs: Runs, longer: Trained, mild: Trained, matched: float) -> list[pd.DataFrame]:
    """Return `rates`, and of 1x students `twice` (after 200 epochs) and `mild` (p = 0.5, after 100), per seed."""
    others = []
    for name, run, epoch in (("twice", longer, 200), ("mild", mild, 100)):
        known = run.at(epoch) is not None
        found = zip(run.seeds, recovery(run, epoch, matched), strict=True) if known else ()
        others.append(rows(list(found), ["seed", name]))
    return [rates(runs, matched), *others]


def faster(runs: Runs, matched: float, last: float = 100) -> pd.DataFrame:
    """Return per seed and width `cover`, the mean cover time of the weaker half of the teachers.

    A teacher that is not covered up to the epoch `last` counts as covered one epoch later, so that the mean exists.
    """
    found = []
    for width, run in runs.items():
        if run.at(last) is not None:
            times = np.minimum(cover_time(run, matched, last), last + 1)[:, weaker_half(run)].mean(axis=1)
            found += [(s, width, time) for s, time in zip(run.seeds, times, strict=True)]
    return rows(found, ["seed", "width", "cover"], ["width"])


def evolution(run: Trained, steep: Trained | None, matched: float) -> list[pd.DataFrame]:
    """Return the evidence of Figure 7.

    Args:
        run: 5x students of the sweep.
        steep: the same at p = 2, if it was trained.
        matched: correlation of a recovered teacher.

    Returns:
        Per seed `order` (up to epoch 20); per seed and epoch `weak_best` (mean best correlation of the weaker half);
        per seed `missed_steep` (teachers that `steep` has not recovered after 100 epochs).
    """
    orders = zip(run.seeds, order(run, matched, 20), strict=True) if run.at(20) is not None else ()
    weak = [
        (s, epoch, value)
        for epoch in (1, 20)
        if run.at(epoch) is not None
        for s, value in zip(run.seeds, run.best[:, run.at(epoch), weaker_half(run)].mean(axis=1), strict=True)
    ]
    missed = ()
    if steep is not None and steep.at(100) is not None:
        missed = zip(steep.seeds, (steep.best[:, steep.at(100)] <= matched).sum(axis=1), strict=True)
    return [
        rows(list(orders), ["seed", "order"]),
        rows(weak, ["seed", "epoch", "weak_best"], ["epoch"]),
        rows(list(missed), ["seed", "missed_steep"]),
    ]


def losses(runs: Runs, epochs: Sequence[float] = (0, 1, 5, 20, 100)) -> pd.DataFrame:
    """Return per seed, width and epoch the held-out `loss` (Figure 11)."""
    found = [
        (s, width, epoch, loss)
        for width, run in runs.items()
        for epoch in epochs
        if run.at(epoch) is not None
        for s, loss in zip(run.seeds, run.loss[:, run.at(epoch)], strict=True)
    ]
    return rows(found, ["seed", "width", "epoch", "loss"], ["width", "epoch"])
