"""Learning rates: numbers, lists and functions of the state, and how they change over a training run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from traindyn.errors import InputError

Rate = float | Callable[[Any], Any]  # a number, or State -> number or 0-dimensional tensor


@dataclass(frozen=True)
class Cyclical:
    """A triangular schedule: from `low` up to `high` and back, once per `period` steps (Smith 2017).

    rate(t) = low + (high - low) (1 - |2 (t mod period) / period - 1|)

    Args:
        low, high: the rates at the turning points.
        period: steps of one cycle, >= 2.
    """

    low: float
    high: float
    period: int

    def at(self, step: int) -> float:
        """Return the rate of update number `step` (from 0)."""
        return self.low + (self.high - self.low) * (1 - abs(2 * (step % self.period) / self.period - 1))


@dataclass(frozen=True)
class Plan:
    """The rates of one run: one that it starts with, and what follows.

    Args:
        start: the rate at step 0, a number or a function State -> number.
        changes: (step, rate) in increasing order: from that step on this rate holds.
        rule: None; `Cyclical`; or a function State -> rate, asked before every update (or every `rule.every`-th).
    """

    start: Rate
    changes: tuple[tuple[int, Rate], ...] = ()
    rule: Cyclical | Callable[[Any], Any] | None = None

    def entering(self, step: int) -> Rate | None:
        """Return the rate that enters at `step`, or None."""
        return self.start if step == 0 else dict(self.changes).get(step)


def ratio(rate: Rate) -> float:
    """Return a rate's multiple of the critical one: the attribute `ratio` of a rate function, else NaN."""
    return float(getattr(rate, "ratio", math.nan))


def plans(lr: Rate | Sequence[Rate], schedule: Any) -> list[Plan]:
    """Return the rate plans of every run of one seed: all combinations of the lists in `lr` and in `schedule`.

    Args:
        lr: a rate or a list of them.
        schedule: None, [(step, rate or list of rates), ...], `Cyclical`, or a function State -> rate.

    Raises:
        InputError: a rate is no number and no function, or the steps do not increase from 1.
    """
    starts = [_checked(rate) for rate in _listed(lr)]
    if not starts:
        raise InputError("lr: expected a rate or a list of rates, got an empty list")
    if schedule is None or callable(schedule) or isinstance(schedule, Cyclical):
        return [Plan(start, rule=schedule) for start in starts]
    try:
        steps = [int(step) for step, _ in schedule]
        options = [[_checked(rate) for rate in _listed(rates)] for _, rates in schedule]
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"schedule: expected [(step, rate), ...], Cyclical or a function, got {schedule!r}") from None
    if any(later <= earlier for earlier, later in zip([0, *steps], steps, strict=False)):
        raise InputError(f"schedule: expected increasing steps, all at least 1, got {steps}")
    return [Plan(start, tuple(zip(steps, rates, strict=True))) for start in starts for rates in product(*options)]


def _listed(rates: Any) -> list[Any]:
    if hasattr(rates, "tolist"):  # an array or a tensor of rates
        rates = rates.tolist()
    return list(rates) if isinstance(rates, list | tuple) else [rates]


def _checked(rate: Any) -> Rate:
    if callable(rate):
        return rate
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not math.isfinite(rate):
        raise InputError(f"learning rate: expected a finite number or a function State -> number, got {rate!r}")
    return float(rate)
