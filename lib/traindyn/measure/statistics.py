"""Numbers over seeds and sizes, with how far they can be trusted: slopes, bootstrap intervals, standard errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student

from traindyn.compute import generator
from traindyn.errors import InputError


class Interval(NamedTuple):
    """A number and its confidence interval; NaN where there are too few points for one."""

    value: float
    low: float
    high: float


class Slope(NamedTuple):
    """A least-squares slope and its confidence interval; with groups each a series over them."""

    value: Any
    low: Any
    high: Any

    def table(self) -> pd.DataFrame:
        """Return slopes of groups as a table with columns slope, low, high, one row per group."""
        return pd.DataFrame({"slope": self.value, "low": self.low, "high": self.high})


def _confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InputError(f"confidence: expected a number between 0 and 1, got {confidence}")
    return confidence


def loglog_slope(x: Any, y: Any, confidence: float = 0.95, *, by: Any = None) -> Slope:
    """Return the least-squares slope b of log y = a + b log x, with its confidence interval.

    The interval is Student's, b +- t(n - 2) sqrt(sum of squared residuals / (n - 2) / sum (log x - mean)^2): it takes
    the scatter around the line as independent and equal. A curved relation has neither; the interval then says how
    much of the slope hangs on the points.

    Args:
        x, y: positive numbers, shape (n,). NaN in either makes the slope NaN (a value that is undefined is not left
            out silently); an infinite or vanishing y does so too, since it has no logarithm.
        confidence: of the interval, between 0 and 1.
        by: None: one slope; else a label for every point, shape (n,) (its seed, say): one slope per label.

    Returns:
        Slope(value, low, high): numbers, or series indexed by the labels in order of value. Two points have a slope
        and no interval (NaN).

    Raises:
        InputError: the lengths differ, there are fewer than two different x, or an x is not positive.
    """
    _confidence(confidence)
    x, y = (np.asarray(part, dtype=float) for part in (x, y))
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(f"loglog_slope: expected x and y of one length, got shapes {x.shape} and {y.shape}")
    if (x <= 0).any() or (y < 0).any():
        raise InputError("loglog_slope: a logarithm needs positive numbers; x or y holds one that is not")
    if by is None:
        return Slope(*_slope(x, y, confidence))
    index = np.asarray(by)
    if index.shape != x.shape:
        raise InputError(f"by: expected one label per point, shape {x.shape}, got {index.shape}")
    name = getattr(by, "name", None)
    labels = pd.Index(np.unique(index), name=name)
    found = [_slope(x[index == label], y[index == label], confidence) for label in labels]
    return Slope(*(pd.Series(column, index=labels, dtype=float) for column in zip(*found, strict=True)))


def _slope(x: np.ndarray, y: np.ndarray, confidence: float) -> tuple[float, float, float]:
    if len(np.unique(x)) < 2:
        raise InputError(f"loglog_slope: expected at least two different x, got {np.unique(x).tolist()}")
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = np.log(x), np.log(y)
    if not (np.isfinite(u).all() and np.isfinite(v).all()):
        return np.nan, np.nan, np.nan
    u = u - u.mean()
    spread = u @ u
    slope = float(u @ (v - v.mean()) / spread)
    if len(x) < 3:
        return slope, np.nan, np.nan
    rest = v - v.mean() - slope * u
    wide = float(student.ppf((1 + confidence) / 2, len(x) - 2) * np.sqrt(rest @ rest / (len(x) - 2) / spread))
    return slope, slope - wide, slope + wide


def bootstrap(
    values: Any,
    statistic: Callable[[np.ndarray], float] = np.mean,
    seed: int = 0,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
) -> Interval:
    """Return a statistic of a sample, with its percentile bootstrap interval.

    Args:
        values: the sample, shape (n, ...), resampled along its first axis: what is paired stays paired.
        statistic: function of an array of that shape -> number.
        seed: fixes the resampling.
        confidence: of the interval.
        draws: how many resamplings.

    Returns:
        Interval(value, low, high). With one sample, or NaN among the resampled values, its ends are NaN.

    Raises:
        InputError: no value, or a confidence outside (0, 1).

    Source: Efron, Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    _confidence(confidence)
    values = np.asarray(values, dtype=float)
    if values.ndim == 0 or not len(values):
        raise InputError("bootstrap: expected at least one value along the first axis")
    n = len(values)
    if n == 1:
        return Interval(float(statistic(values)), np.nan, np.nan)
    chosen = torch.randint(n, (draws, n), generator=generator(seed, "bootstrap")).numpy()
    found = np.array([statistic(values[rows]) for rows in chosen], dtype=float)
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(statistic(values)), float(low), float(high))


def standard_error(values: Any, axis: int = 0) -> Any:
    """Return the standard error of the mean, sd / sqrt(n) with the n - 1 form of sd; NaN for a single value.

    Args:
        values: numbers; NaN stays NaN.
        axis: over which the mean would be taken.
    """
    values = np.asarray(values, dtype=float)
    if values.shape[axis] < 2:
        return np.full(np.delete(values.shape, axis), np.nan)[()]
    return (values.std(axis=axis, ddof=1) / np.sqrt(values.shape[axis]))[()]
