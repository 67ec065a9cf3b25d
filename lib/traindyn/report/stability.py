"""Stability of verdicts: how often other seeds would have said the same.

Seeds are redrawn, not rows: one random order of a pool of seeds per redraw serves the whole chapter, and every claim
takes its first n, n being the number of seeds behind the verdict that is shown. Where the experiments of a claim have
different numbers of seeds, as many of each are taken as a run has. What is paired stays paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from traindyn.errors import InputError
from traindyn.report.claims import Claim
from traindyn.report.columns import Column, Evidence
from traindyn.report.judge import seeds_behind, verdict_of

FEWEST = 15  # seeds in a pool, and at least POOL times as many as a verdict takes
POOL = 3


@dataclass(frozen=True)
class Stability:
    """How often redraws of the seeds gave one verdict.

    Attributes:
        verdicts: how often each verdict came out.
        share: of redraws that repeated the verdict that is shown.
        low, high: interval of that share, each end at 95 %, from the number of disjoint samples in the pool: 15 seeds
            that all pass leave a share of 0.37 possible for "all of 5".
    """

    verdicts: Mapping[str, int]
    share: float
    low: float
    high: float


def stability(
    claims: Mapping[Claim, int] | Sequence[tuple[Claim, int]],
    pool: Mapping[str, Evidence],
    shown: Mapping[str, str],
    preset: str,
    draws: int = 200,
    seed: int = 0,
) -> dict[str, Stability]:
    """Redraw the seeds of a chapter's claims and count verdicts.

    Args:
        claims: each claim with the number n of seeds behind its verdict.
        pool: evidence of many seeds, by claim id; numbers without a seed stay as they are.
        shown: the verdicts that are shown, by claim id.
        preset: of the pool and of the verdicts.
        draws: how many redraws.
        seed: of the random orders.

    Raises:
        InputError: a pool has fewer than 15 seeds, or fewer than 3 n.
    """
    wanted = list(claims.items()) if isinstance(claims, Mapping) else list(claims)
    sizes = {claim.id: seeds_behind(claim, pool[claim.id]) or 0 for claim, _ in wanted}
    for claim, n in wanted:
        if sizes[claim.id] < (needed := max(FEWEST, POOL * n)):
            raise InputError(f"claim '{claim.id}': a pool of {sizes[claim.id]} seeds; expected at least {needed}")
    every = sorted({seed for claim, _ in wanted for column in pool[claim.id].values() for seed in seeds_of(column)})
    counts: dict[str, dict[str, int]] = {claim.id: {} for claim, _ in wanted}
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        order = [every[i] for i in generator.permutation(len(every))]
        for claim, n in wanted:
            verdict = verdict_of(claim, redrawn(pool[claim.id], order, n / sizes[claim.id]), preset)
            counts[claim.id][verdict] = counts[claim.id].get(verdict, 0) + 1
    return {claim.id: _summary(counts[claim.id], shown[claim.id], draws, sizes[claim.id] // n) for claim, n in wanted}


def seeds_of(column: Column) -> frozenset[int]:
    """Return the seeds of a column, none for numbers that have no seed."""
    return frozenset(seed for row in column.rows.values() for seed in row if seed is not None)


def redrawn(evidence: Evidence, order: Sequence[int], share: float) -> dict[str, Column]:
    """Return the evidence of a redraw: of every experiment the share of its seeds that one run has.

    Args:
        evidence: of a pool.
        order: all seeds, in the order in which they are drawn.
        share: one run's seeds over the pool's. Experiments with many seeds keep those that the smaller ones have drawn,
            as in a run, where all start at the same seed.
    """
    place, drawn, chosen = {seed: i for i, seed in enumerate(order)}, set(), {}
    for known in sorted(
        {seeds_of(column) for column in evidence.values()}, key=lambda known: (len(known), sorted(known))
    ):
        ranked = sorted(known, key=lambda seed: (seed not in drawn, place[seed]))
        chosen[known] = set(ranked[: max(1, round(share * len(known)))]) if known else {None}
        drawn |= chosen[known]
    return {name: _of_seeds(column, chosen[seeds_of(column)]) for name, column in evidence.items()}


def _of_seeds(column: Column, seeds: set) -> Column:
    rows = {case: {seed: value for seed, value in row.items() if seed in seeds} for case, row in column.rows.items()}
    return Column(column.levels, column.seeded, {case: row for case, row in rows.items() if row})


def _summary(counts: Mapping[str, int], shown: str, draws: int, independent: int) -> Stability:
    share = counts.get(shown, 0) / draws
    return Stability(dict(counts), share, *interval(share * independent, independent))


def interval(passed: float, count: int, tail: float = 0.05) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a rate, `tail` left out at each end; 15 of 15 leave 0.82 possible."""
    low = 0.0 if passed <= 0 else float(beta.ppf(tail, passed, count - passed + 1))
    high = 1.0 if passed >= count else float(beta.ppf(1 - tail, passed + 1, count - passed))
    return low, high
