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
    """Return per seed the Spearman correlation (ties averaged) between teacher index and cover time, (R,).

    NaN if all are covered at the same recorded time, or none is.
    """
    times = cover_time(run, matched, last)
    return np.array([spearmanr(np.arange(len(row)), row).statistic if len(set(row)) > 1 else np.nan for row in times])


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
    runs: Runs, chased: float, aligned: float, deciding: int = 5, first: float = 0.5, held: float = 5, last: float = 100
) -> list[pd.DataFrame]:
    """Return who chases the strongest teacher at first, and where these students end.

    A student chases the strongest teacher at an epoch if that is its best one, at a correlation above `chased`; it has
    switched if another one is its best at the end, at a correlation above `aligned`.

    Args:
        runs: by width.
        chased, aligned: correlations, as above.
        deciding: width of the first table.
        first: epoch at which a student chases.
        held: epoch at which students that are aligned with the strongest teacher are looked at again.
        last: the end.

    Returns:
        Per seed: `chasing` (share of the students), `covered` (epoch at which the strongest teacher has its first
        aligned student), `turned` (median epoch at which a student that switched is first closer to another teacher;
        NaN if none has); per seed and width: `chasers`, `switched` (numbers), `held` (aligned with the strongest
        teacher at that epoch), `left` (those among them that end at another).
    """
    opening, moves = [], []
    for width, run in runs.items():
        early, middle, late = (run.at(epoch) for epoch in (first, held, last))
        if early is None or middle is None or late is None:
            continue
        chase = (run.pick[:, early] == 0) & (run.lead[:, early] > chased)
        ends = (run.pick[:, late] != 0) & (run.rho[:, late] > aligned)
        kept = (run.pick[:, middle] == 0) & (run.rho[:, middle] > aligned)
        counts = [part.sum(1) for part in (chase, chase & ends, kept, kept & ends)]
        moves += [(s, width, *row) for s, *row in zip(run.seeds, *counts, strict=True)]
        if width == deciding:
            covered = cover_time(run, aligned)[:, 0]
            turned = [turn_time(run, i, switched, early) for i, switched in enumerate(chase & ends)]
            opening = list(zip(run.seeds, chase.mean(1), covered, turned, strict=True))
    return [
        rows(opening, ["seed", "chasing", "covered", "turned"]),
        rows(moves, ["seed", "width", "chasers", "switched", "held", "left"], ["width"]),
    ]


def turn_time(run: Trained, at: int, who: np.ndarray, start: int) -> float:
    """Return the median epoch at which some students of one seed are first closer to a teacher but the strongest.

    Args:
        run: what was trained.
        at: position of the seed.
        who: which students, (n,).
        start: position of the epoch from which they are followed.
    """
    away = run.pick[at, start:][:, who] != 0
    return float(np.median(run.epochs[start:][away.argmax(0)])) if who.any() else float("nan")


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


def stuck(
    runs: Runs, run: Trained, decays: Mapping[float, Runs], matched: float, half: float = 100, last: float = 200
) -> list[pd.DataFrame]:
    """Return what tells a 1x student that is stuck from one that is slow.

    Args:
        runs: the sweep.
        run: 1x students, trained up to `last`.
        decays: other strength decays, by p.
        matched: correlation of a recovered teacher.
        half, last: epochs that are compared.

    Returns:
        `rates` of the sweep; of 1x per seed `share` (recovered at `last`), `missed` (teachers missed at `half`), `late`
        (those among them that are recovered at `last`), `doubled` (students at `last` beyond the first aligned one of
        their teacher), `kept` (held-out loss at `last` over that at `half`); per seed `mild`, the share at p = 0.5.
    """
    found, mild = [], []
    if run.at(last) is not None:
        before, after = (run.best[:, run.at(epoch)] > matched for epoch in (half, last))
        doubled = np.maximum(followers(run, last, matched) - 1, 0).sum(1)
        kept = run.loss[:, run.at(last)] / run.loss[:, run.at(half)]
        numbers = after.mean(1), (~before).sum(1), (~before & after).sum(1), doubled, kept
        found = [(s, *row) for s, *row in zip(run.seeds, *numbers, strict=True)]
    other = decays.get(0.5, {}).get(1)
    if other is not None and other.at(half) is not None:
        mild = list(zip(other.seeds, recovery(other, half, matched), strict=True))
    names = ["seed", "share", "missed", "late", "doubled", "kept"]
    return [rates(runs, matched), rows(found, names), rows(mild, ["seed", "mild"])]


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
