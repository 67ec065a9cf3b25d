"""Learning rates: numbers, multiples of a run's own reference, functions of the state, and how they change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol, runtime_checkable

from traindyn.errors import InputError


@runtime_checkable
class Multiple(Protocol):
    """A rate that is a multiple of a reference of the run's own, as `measure.spectrum.relative` makes them.

    Attributes:
        ratio: the multiple.
        reference: hashable function State -> rate, asked once per run, at the initial weights; rates whose references
            are equal share the answer.
    """

    ratio: float
    reference: Callable[[Any], Any]


Rate = float | Multiple | Callable[[Any], Any]  # the last: State -> number or 0-dimensional tensor


@dataclass(frozen=True)
class Cyclical:
    """A triangular schedule: from `low` up to `high` and back, once per `period` steps (Smith 2017).

    rate(t) = low + (high - low) (1 - |2 (t mod period) / period - 1|)

    Args:
        low, high: the rates at the turning points: numbers, or multiples of the run's own reference.
        period: steps of one cycle, >= 2.

    Raises:
        InputError: a rate is a function or not finite, or the period is below 2.
    """

    low: float | Multiple
    high: float | Multiple
    period: int

    def __post_init__(self) -> None:
        for rate in (self.low, self.high):
            if not isinstance(rate, Multiple) and callable(_checked(rate)):
                raise InputError("Cyclical: expected numbers or multiples of a reference, got a function of the state")
        if self.period < 2:
            raise InputError(f"period: expected at least 2 steps, got {self.period}")

    def at(self, step: int, low: Any = None, high: Any = None) -> Any:
        """Return the rate of update number `step` (from 0).

        Args:
            step: the update.
            low, high: the turning points as numbers (or tensors), where they are multiples of a reference.
        """
        low, high = self.low if low is None else low, self.high if high is None else high
        return low + (high - low) * (1 - abs(2 * (step % self.period) / self.period - 1))


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

    def multiples(self) -> Iterator[Multiple]:
        """Yield all rates of this plan that are multiples of a reference."""
        turning = (self.rule.low, self.rule.high) if isinstance(self.rule, Cyclical) else ()
        for rate in (self.start, *(rate for _, rate in self.changes), *turning):
            if isinstance(rate, Multiple):
                yield rate


def ratio(rate: Rate) -> float:
    """Return a rate's multiple of the critical one: its attribute `ratio`, or NaN."""
    return float(getattr(rate, "ratio", math.nan))


def plans(lr: Any, schedule: Any, seed: int | None = None) -> list[Plan]:
    """Return the rate plans of every run of one seed: all combinations of the lists in `lr` and in `schedule`.

    Args:
        lr: a rate, a list of them, or {seed: rate or list of rates}.
        schedule: None, [(step, what `lr` may be), ...], `Cyclical`, or a function State -> rate.
        seed: whose plans; needed where rates are given per seed.

    Raises:
        InputError: a rate is no number and no function, a seed has none, or the steps do not increase from 1.
    """
    starts = [_checked(rate) for rate in _listed(_own(lr, seed))]
    if not starts:
        raise InputError("lr: expected a rate or a list of rates, got an empty list")
    if schedule is None or callable(schedule) or isinstance(schedule, Cyclical):
        return [Plan(start, rule=schedule) for start in starts]
    try:
        steps = [int(step) for step, _ in schedule]
        options = [[_checked(rate) for rate in _listed(_own(rates, seed))] for _, rates in schedule]
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"schedule: expected [(step, rate), ...], Cyclical or a function, got {schedule!r}") from None
    if any(later <= earlier for earlier, later in zip([0, *steps], steps, strict=False)):
        raise InputError(f"schedule: expected increasing steps, all at least 1, got {steps}")
    return [Plan(start, tuple(zip(steps, rates, strict=True))) for start in starts for rates in product(*options)]


def _own(rates: Any, seed: int | None) -> Any:
    """Return what is given for this seed, if rates are given per seed."""
    if not isinstance(rates, Mapping):
        return rates
    if seed not in rates:
        raise InputError(f"learning rate: none is given for seed {seed}; seeds with one: {', '.join(map(str, rates))}")
    return rates[seed]


def _listed(rates: Any) -> list[Any]:
    if hasattr(rates, "tolist"):  # an array or a tensor of rates
        rates = rates.tolist()
    return list(rates) if isinstance(rates, list | tuple) else [rates]


def _checked(rate: Any) -> Rate:
    if isinstance(rate, Multiple):
        if not math.isfinite(rate.ratio):
            raise InputError(f"learning rate: expected a finite multiple, got {rate!r}")
        return rate
    if callable(rate):
        return rate
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not math.isfinite(rate):
        raise InputError(f"learning rate: expected a finite number or a function State -> number, got {rate!r}")
    return float(rate)
