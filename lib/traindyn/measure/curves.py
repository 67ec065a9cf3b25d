"""What is read off a curve over time: when it passes a level, its excursions, how much it goes up; steps to look at."""

from __future__ import annotations

from typing import Any

import numpy as np

from traindyn.errors import InputError


def first_time(t: Any, y: Any, level: float, *, below: bool = False) -> Any:
    """Return the first recorded time at which a curve is above a level; infinity if it never is.

    Args:
        t: times, shape (T,), increasing.
        y: curves, shape (..., T). NaN passes no level.
        level: the level; y == level does not count.
        below: look for the first time below it instead.

    Returns:
        a number for one curve, else an array of shape (...).

    Raises:
        InputError: the times do not fit the curves, or do not increase.
    """
    t, y = np.asarray(t, dtype=float), np.asarray(y, dtype=float)
    if t.ndim != 1 or not y.ndim or y.shape[-1] != len(t):
        raise InputError(f"first_time: expected times (T,) and curves (..., T), got shapes {t.shape} and {y.shape}")
    if (np.diff(t) <= 0).any():
        raise InputError("first_time: expected increasing times")
    passed = y < level if below else y > level
    if not len(t):
        return np.full(y.shape[:-1], np.inf)[()]
    return np.where(passed.any(-1), t[passed.argmax(-1)], np.inf)[()]


def excursions(y: Any, peak: float = 1.0) -> list[tuple[int, int]]:
    """Return the excursions of a curve: from a rise until it is back at or below its value before.

    Args:
        y: curve (T,).
        peak: excursions whose largest value is at most this multiple of the value before are left out.

    Returns:
        [(first, last), ...]: steps first .. last - 1 belong to the excursion; last is T - 1 if it never returns.

    Raises:
        InputError: y is not one curve.
    """
    y = np.asarray(y, dtype=float)
    if y.ndim != 1:
        raise InputError(f"excursions: expected one curve, shape (T,), got {y.shape}")
    found, at = [], 0
    while at + 1 < len(y):
        if not y[at + 1] > y[at]:
            at += 1
            continue
        back = np.flatnonzero(y[at + 1 :] <= y[at])
        last = at + 1 + int(back[0]) if len(back) else len(y) - 1
        if y[at : last + 1].max() > peak * y[at]:
            found.append((at, last))
        at = last
    return found


def upward_variation(y: Any) -> float:
    """Return the total upward variation of a curve: the sum of its positive increments. NaN (not recorded) is skipped.

    Args:
        y: curve (T,).

    Raises:
        InputError: y is not one curve.
    """
    y = np.asarray(y, dtype=float)
    if y.ndim != 1:
        raise InputError(f"upward_variation: expected one curve, shape (T,), got {y.shape}")
    return float(np.diff(y[~np.isnan(y)]).clip(min=0).sum())


def log_steps(steps: int, n: int, first: float = 1) -> list[int]:
    """Return at most n + 2 steps from 0 to `steps`, evenly apart on a logarithmic axis: 0, `first`, ..., `steps`.

    Args:
        steps: the last one, >= 0.
        n: how many intervals from `first` to `steps`, >= 1; equal ones (after rounding) are one.
        first: the first step after 0, above 0.

    Raises:
        InputError: a number out of range.
    """
    if steps < 0 or n < 1 or first <= 0:
        raise InputError(f"log_steps: expected steps >= 0, n >= 1 and first > 0, got {steps}, {n} and {first}")
    if steps <= first:
        return sorted({0, steps})
    return sorted({0, *(round(first * (steps / first) ** (i / n)) for i in range(n + 1))})
