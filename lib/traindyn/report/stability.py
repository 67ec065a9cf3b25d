"""Stability of verdicts: how often other seeds would have said the same.

Seeds are redrawn, not rows: one random order of a pool of seeds per redraw serves the whole chapter, and every claim
takes its first n, n being the number of seeds behind the verdict that is shown. What is paired stays paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from traindyn.errors import InputError
from traindyn.report.claims import Claim
from traindyn.report.columns import Evidence, of_seeds
from traindyn.report.judge import verdict_of

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
    seeds = {claim.id: _seeds(pool[claim.id]) for claim, _ in wanted}
    for claim, n in wanted:
        if len(seeds[claim.id]) < (needed := max(FEWEST, POOL * n)):
            raise InputError(f"claim '{claim.id}': a pool of {len(seeds[claim.id])} seeds; expected at least {needed}")
    every = sorted(set().union(*seeds.values()))
    counts: dict[str, dict[str, int]] = {claim.id: {} for claim, _ in wanted}
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        order = [every[i] for i in generator.permutation(len(every))]
        for claim, n in wanted:
            known = set(seeds[claim.id])
            first = [each for each in order if each in known][:n]
            verdict = verdict_of(claim, of_seeds(pool[claim.id], first), preset)
            counts[claim.id][verdict] = counts[claim.id].get(verdict, 0) + 1
    return {
        claim.id: _summary(counts[claim.id], shown[claim.id], draws, len(seeds[claim.id]) // n) for claim, n in wanted
    }


def _seeds(evidence: Evidence) -> list[int]:
    return sorted(
        {seed for column in evidence.values() if column.seeded for row in column.rows.values() for seed in row}
    )


def _summary(counts: Mapping[str, int], shown: str, draws: int, independent: int) -> Stability:
    share = counts.get(shown, 0) / draws
    return Stability(dict(counts), share, *interval(share * independent, independent))


def interval(passed: float, count: int, tail: float = 0.05) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a rate, `tail` left out at each end; 15 of 15 leave 0.82 possible."""
    low = 0.0 if passed <= 0 else float(beta.ppf(tail, passed, count - passed + 1))
    high = 1.0 if passed >= count else float(beta.ppf(1 - tail, passed + 1, count - passed))
    return low, high
