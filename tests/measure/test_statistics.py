"""Slopes, intervals and errors against NumPy, SciPy and what they promise about repeated samples."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from traindyn.errors import InputError
from traindyn.measure.statistics import bootstrap, loglog_slope, standard_error

POSITIVE = st.floats(1e-6, 1e6)


@given(
    st.lists(st.tuples(POSITIVE, POSITIVE), min_size=3, max_size=9, unique_by=lambda pair: round(np.log(pair[0]), 2))
)
def test_slope_is_polyfits_and_its_interval_scipys(points):
    x, y = np.array(points).T
    found = loglog_slope(x, y, 0.9)
    expected = stats.linregress(np.log(x), np.log(y))
    assert found.value == pytest.approx(np.polyfit(np.log(x), np.log(y), 1)[0], rel=1e-8, abs=1e-8)
    half = stats.t.ppf(0.95, len(x) - 2) * expected.stderr
    assert found.high - found.low == pytest.approx(2 * half, rel=1e-5, abs=1e-6)
    assert found.low <= found.value <= found.high


def test_the_interval_covers_the_true_slope_as_often_as_it_says():
    rng = np.random.default_rng(0)
    x = np.geomspace(1, 100, 6)
    hits = 0
    for _ in range(1000):
        found = loglog_slope(x, x**-0.5 * np.exp(0.2 * rng.normal(size=6)), 0.9)
        hits += found.low <= -0.5 <= found.high
    assert abs(hits - 900) < 4 * np.sqrt(1000 * 0.9 * 0.1)


def test_one_slope_per_seed():
    frame = pd.DataFrame({"seed": [7, 7, 7, 3, 3, 3], "width": [1, 2, 4] * 2, "gap": [1, 2, 4, 1, 1 / 4, 1 / 16]})
    found = loglog_slope(frame["width"], frame["gap"], by=frame["seed"])
    assert found.value.to_dict() == pytest.approx({3: -2, 7: 1}) and found.value.index.name == "seed"
    assert list(found.table().columns) == ["slope", "low", "high"]
    assert found.low[3] == pytest.approx(-2) and found.high[7] == pytest.approx(1)


def test_what_is_undefined_stays_undefined():
    assert np.isnan(loglog_slope([1, 2, 3], [1, np.nan, 2])).all()
    assert np.isnan(loglog_slope([1, 2, 3], [1, 0, 2])).all()
    two = loglog_slope([1, 2], [1, 4])
    assert two.value == pytest.approx(2) and np.isnan([two.low, two.high]).all()
    assert np.isnan(standard_error([3.0])) and np.isnan(bootstrap([3.0]).low)


def test_standard_error_is_scipys():
    values = np.random.default_rng(1).normal(size=(5, 3))
    np.testing.assert_allclose(standard_error(values), stats.sem(values))
    np.testing.assert_allclose(standard_error(values, axis=1), stats.sem(values, axis=1))


def test_bootstrap_of_a_mean_is_nearly_the_normal_interval():
    values = np.random.default_rng(2).normal(size=400)
    found = bootstrap(values, np.mean, seed=3)
    assert found.value == values.mean() and found == bootstrap(values, np.mean, seed=3)
    assert found.high - found.low == pytest.approx(2 * 1.96 * standard_error(values), rel=0.1)
    paired = np.stack([values, values + 1], 1)  # rows stay together
    shift = bootstrap(paired, lambda part: (part[:, 1] - part[:, 0]).mean(), seed=3)
    assert shift.high - shift.low < 1e-12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: loglog_slope([1, 2], [1, 2, 3]), "one length"),
        (lambda: loglog_slope([1, 1], [1, 2]), "two different"),
        (lambda: loglog_slope([0, 1], [1, 2]), "positive"),
        (lambda: loglog_slope([1, 2], [1, -2]), "positive"),
        (lambda: loglog_slope([1, 2], [1, 2], by=[1]), "label"),
        (lambda: loglog_slope([1, 2], [1, 2], 95), "confidence"),
        (lambda: bootstrap([]), "at least one"),
    ],
)
def test_mistakes_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
