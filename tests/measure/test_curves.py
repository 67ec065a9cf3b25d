"""Readings of curves: on made-up ones with a known answer, and against the definition point by point."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traindyn.errors import InputError
from traindyn.measure.curves import excursions, first_time, log_steps, upward_variation

CURVES = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=20)


def test_first_time_of_curves_that_pass_late_and_never():
    t = [0, 1, 5, 9]
    assert first_time(t, [0, 2, 1, 3], 1) == 1 and first_time(t, [0, 1, 1, 3], 1) == 9
    assert first_time(t, [3, 2, 1, 0], 2, below=True) == 5 and first_time(t, [0, 0, 0, 0], 1) == math.inf
    assert first_time(t, [math.nan, math.nan, 2, 3], 1) == 5
    many = first_time(t, np.array([[[0, 0, 0, 2], [2, 0, 0, 0]]]), 1)
    assert many.tolist() == [[9, 0]]


@given(CURVES, st.floats(1, 2))
def test_excursions_begin_with_a_rise_and_end_where_they_are_back(y, peak):
    found = excursions(y, peak)
    for first, last in found:
        assert y[first + 1] > y[first] and max(y[first : last + 1]) > peak * y[first]
        assert min(y[first + 1 : last], default=math.inf) > y[first]
        assert y[last] <= y[first] or last == len(y) - 1
    assert all(a[1] <= b[0] for a, b in zip(found, found[1:], strict=False))
    covered = {step for first, last in excursions(y) for step in range(first, last)}
    assert all(step in covered for step in range(len(y) - 1) if y[step + 1] > y[step])


@given(CURVES)
def test_upward_variation_is_what_the_curve_gains_and_loses(y):
    up, down = upward_variation(y), upward_variation([-v for v in y])
    assert up - down == pytest.approx(y[-1] - y[0])
    assert upward_variation([*y[:1], math.nan, *y[1:]]) == pytest.approx(up)


@given(st.integers(0, 10**6), st.integers(1, 60))
def test_log_steps_span_the_run_ever_farther_apart(steps, n):
    found = log_steps(steps, n)
    assert found[0] == 0 and found[-1] == steps and found == sorted(set(found)) and len(found) <= n + 2
    gaps = np.diff(found)[1:]
    assert (np.diff(gaps) >= -1).all()  # up to rounding


@pytest.mark.parametrize(
    "call",
    [
        lambda: first_time([0, 1], [1, 2, 3], 0),
        lambda: first_time([1, 0], [1, 2], 0),
        lambda: excursions([[1.0]]),
        lambda: upward_variation(1.0),
        lambda: log_steps(-1, 3),
    ],
)
def test_mistakes_are_refused(call):
    with pytest.raises(InputError):
        call()
