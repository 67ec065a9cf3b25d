"""Comparing what an answer returned with what it should have: every function returns None, or why not in plain words.

What is compared comes from a student's process. It is data of any shape; nothing here raises because of it, and no
reason holds an input or the expected result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Agrees = Callable[[Any, Any], str | None]


def numbers(value: Any) -> np.ndarray | None:
    """Return numbers as a float64 array; None if the value is not made of real numbers alone."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float64)
    if isinstance(value, list):
        try:
            found = np.asarray(value)
        except ValueError:
            return None
        return found.astype(np.float64) if found.dtype.kind in "biuf" else None
    if isinstance(value, bool | int | float):
        try:
            return np.asarray(float(value))
        except OverflowError:
            return None
    return None


def close(rtol: float, atol: float = 0.0) -> Agrees:
    """Numbers of the same shape with |result - expected| <= atol + rtol |expected|; infinities have to be the same.

    Args:
        rtol: relative tolerance; also of the largest entry of an array, so that zeros need no `atol` of their own.
        atol: absolute tolerance.
    """

    def agrees(result: Any, expected: Any) -> str | None:
        found, right = numbers(result), numbers(expected)
        assert right is not None
        if found is None:
            return f"expected {_form(right)}, got {_kind(result)}"
        if found.shape != right.shape:
            if found.size == right.size == 1:
                found = found.reshape(right.shape)
            else:
                return f"expected {_form(right)}, got {_form(found)}"
        finite = np.isfinite(right)
        if not np.array_equal(found[~finite], right[~finite], equal_nan=True):
            return "a result that should be infinite or undefined is not"
        if not np.isfinite(found[finite]).all():
            return "the result is not finite"
        if not finite.any():
            return None
        scale = np.abs(right[finite]).max()
        error = np.abs(found[finite] - right[finite])
        if (error <= atol + rtol * np.maximum(np.abs(right[finite]), scale)).all():
            return None
        off = error.max() / scale if scale else error.max()
        allowed, ratio = rtol + (atol / scale if scale else 0), _factor(found[finite], right[finite])
        return f"largest difference {off:.2g} of the largest entry; {allowed:.1g} is allowed{ratio}"

    return agrees


def same(result: Any, expected: Any) -> str | None:
    """The same word, truth value or whole number."""
    if isinstance(expected, bool):
        return None if isinstance(result, bool) and result is expected else "the answer is not the right one"
    if isinstance(expected, int):
        found = numbers(result)
        right = found is not None and found.size == 1 and float(found.reshape(())) == expected
        return None if right else "the number is not the right one"
    if isinstance(expected, str):
        return (
            None
            if isinstance(result, str) and result.strip().lower() == expected
            else "the answer is not the right one"
        )
    raise TypeError(f"no comparison for {type(expected).__name__}")


def list_of_int(result: Any, expected: Any) -> str | None:
    """The same whole numbers in the same order."""
    found = numbers(result)
    if found is None or found.ndim > 1:
        return f"expected a list of whole numbers, got {_kind(result)}"
    found, right = found.reshape(-1), np.asarray(expected, dtype=np.float64).reshape(-1)
    if len(found) != len(right):
        return "not the right number of entries"
    return None if np.array_equal(found, right) else "the entries are not the right ones"


def _factor(found: np.ndarray, right: np.ndarray) -> str:
    """Return a hint where the result is the right one times a constant."""
    large = np.abs(right) > 1e-9 * np.abs(right).max()
    quotient = found[large] / right[large]
    if quotient.size < 2 or not np.isfinite(quotient).all():
        return ""
    middle = float(np.median(quotient))
    steady = middle and np.abs(quotient / middle - 1).max() < 1e-3 and abs(middle - 1) > 1e-2
    return f"; it is about {middle:.3g} times what it should be, everywhere" if steady else ""


def _form(value: np.ndarray) -> str:
    return "one number" if not value.ndim else f"numbers of shape {value.shape}"


def _kind(value: Any) -> str:
    return {"NoneType": "None", "str": "a word", "dict": "a mapping", "list": "a list"}.get(
        type(value).__name__, type(value).__name__
    )


def finite_number(value: Any) -> float:
    """Return a value as a finite float; NaN if it is none."""
    found = numbers(value)
    if found is None or found.size != 1:
        return math.nan
    return float(found.reshape(()))
