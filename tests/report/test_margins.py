"""Margins, on made-up data with numbers worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from traindyn import evidence as ev
from traindyn.report.columns import gather
from traindyn.report.criteria import evaluate

NAN, INF = math.nan, math.inf


def asked(test, quorum=None, **columns):
    count = len(next(iter(columns.values())))
    return evaluate(test, gather(ev.table(pd.DataFrame({"seed": range(count), **columns}))), quorum)


def test_plain_slack_over_its_standard_deviation():
    found = asked("x < 1", x=[-1.0, 0.0, -2.0])  # slack 2, 1, 3: sd 1; a side is negative, so no logarithms
    assert found.margin == pytest.approx(1.0) and (found.value, found.operator, found.threshold) == (0.0, "<", 1.0)
    assert found.seed == 1 and found.case is None and found.reason is None


def test_logarithms_where_both_sides_are_positive_in_every_seed():
    found = asked("x < 100", x=[1.0, 10.0, 0.1])  # log10 slack 2, 1, 3: sd 1 in decades
    assert found.margin == pytest.approx(1.0)
    assert asked("x < 100", x=[0.0, 10.0, 5.0]).margin == pytest.approx(90 / np.std([100, 90, 95], ddof=1))


def test_paired_columns_stay_paired():
    found = asked("x < y", x=[-1.0, -11.0, -101.0], y=[0.0, -9.0, -98.0])  # slack 1, 2, 3
    assert found.margin == pytest.approx(1.0) and found.value == -1.0 and found.threshold == 0.0


def test_asked_once_the_jackknife_gives_the_standard_error_of_the_mean():
    values = [-1.0, 0.0, 2.0, 5.0]
    sem = np.std(values, ddof=1) / 2
    assert asked("mean(x) > -1", x=values).margin == pytest.approx((1.5 + 1) / sem)


def test_and_or_not_chains_and_conditions():
    data = {"x": [-1.0, 0.0, -2.0], "y": [-9.0, -8.0, -10.0]}
    x, y = 1.0, 9.0  # margins of x < 1 and of y < 1
    assert asked("x < 1 and y < 1", **data).margin == pytest.approx(x)
    assert asked("x < 1 or y < 1", **data).margin == pytest.approx(y)
    assert asked("y < 1", **data).margin == pytest.approx(y)
    negated = asked("not x >= 1", **data)
    assert negated.margin == pytest.approx(x) and negated.operator == "<" and negated.outcome is True
    assert asked("-20 < x < 1", **data).margin == pytest.approx(x)
    assert asked("x < 1 if y < 1 else None", **data).margin == pytest.approx(x)
    false = asked("x < 1 and y > 1", **data)
    assert false.outcome is False and false.value < -7 and false.margin < 0


def test_a_quorum_is_decided_by_its_last_seed():
    found = asked("x > 0", "4/5", x=[5.0, -1.0, 4.0, 3.0, 2.0])
    assert found.outcome is True and found.value == 2.0 and found.seed == 4
    found = asked("x > 0", "4/5", x=[5.0, -1.0, -2.0, 3.0, 2.0])
    assert found.outcome is False and found.value == -1.0


def test_the_case_that_decides_is_named():
    frame = pd.DataFrame({"seed": [0, 1, 2] * 2, "width": [5] * 3 + [10] * 3, "x": [1.0, 2, 3, 0.5, 2, 3]})
    found = evaluate("x > 0.1", gather(ev.table(frame, "width")))
    assert found.case == (10.0,) and found.seed == 0 and found.value == 0.5


@pytest.mark.parametrize(
    ("test", "columns", "reason"),
    [
        ("x > 0", {"x": [1.0, 2.0]}, "fewer than 3 seeds"),
        ("x > 0", {"x": [1.0, 1.0, 1.0]}, "no spread"),
        ("x == 0", {"x": [0.0, 0.0, 0.0]}, "met exactly"),
        ("x <= 1", {"x": [1.0, 1.0, 1.0]}, "met exactly"),
        ("x > 0", {"x": [1.0, INF, 2.0]}, "infinite"),
        ("mean(x) > 0", {"x": [1.0, 2.0]}, "fewer than 3 seeds"),
    ],
)
def test_where_there_is_no_margin_the_reason_is_told(test, columns, reason):
    found = asked(test, **columns)
    assert found.margin is None and reason in found.reason and found.outcome is True


def test_without_an_outcome_there_is_no_margin():
    found = asked("x > 0", x=[1.0, 2.0, NAN])
    assert found.outcome is None and found.margin is None and found.missing == ("x",)
    found = asked("x > 0 if y > 0 else None", x=[1.0, 2.0, 3.0], y=[1.0, -1.0, 1.0])
    assert found.outcome is None and "premise" in found.reason


def test_numbers_without_a_seed_have_no_margin():
    found = evaluate("x > 0", gather({"x": 1.0}))
    assert found.margin is None and "does not depend on seeds" in found.reason and found.seeds is None


def test_the_number_is_the_threshold_on_whichever_side_it_stands():
    found = asked("1 < x", x=[2.0, 3.0, 4.0])
    assert (found.value, found.operator, found.threshold) == (2.0, ">", 1.0)
