"""Tests are read as they are written, everything else is refused in one line, and their numbers fill their words."""

import pytest

from traindyn.errors import InputError
from traindyn.report.language import fill, parse


def test_names_cases_and_numbers_are_found_in_the_order_of_the_text():
    test = parse("bound[5, 1024] < 3 if least(fall[cnn]) >= 100 or 3 < other < 7 else None")
    assert set(test.references) == {("fall", ("cnn",)), ("other", None), ("bound", (5.0, 1024.0))}
    assert set(test.names) == {"bound", "fall", "other"}
    assert test.numbers == (3.0, 100.0, 7.0)
    assert parse("least(x) < -3").numbers == (-3.0,)


def test_whether_a_name_stands_outside_functions_over_seeds_is_known():
    assert parse("peak > mean(peak)").bare
    assert not parse("mean(peak) > 1 and count(peak > 2) >= 3").bare


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "expected a comparison"),
        ("x != 1", "expected one of <, <=, >, >=, =="),
        ("x == 1.5", "a whole number after '=='"),
        ("x == y", "a whole number after '=='"),
        ("0 == x", "a whole number after '=='"),
        ("x == 1 < y", "'==' alone"),
        ("1 < 2", "names no evidence"),
        ("mean(mean(x)) > 1", "no function over seeds inside another"),
        ("mean(max(x, sd(y))) > 1", "no function over seeds inside another"),
        ("count(mean(x) > 1) > 1", "no function over seeds inside another"),
        ("sd(x, 2) > 1", "1 argument of sd"),
        ("min(x) > 1", "two or more arguments of min"),
        ("abs(x, y) > 1", "one argument of abs"),
        ("quantile(x, 2) > 1", "a number between 0 and 1"),
        ("quantile(x, y) > 1", "a number between 0 and 1"),
        ("meann(x) > 1", "did you mean 'mean'"),
        ("open('x') > 1", "expected one of abs"),
        ("mean > 1", "'mean\\(...\\)'"),
        ("x.y > 1", "name\\[case\\]"),
        ("x[1:2] > 1", "a case: a number or a word"),
        ("x[()] > 1", "a case"),
        ("x[True] > 1", "a case"),
        ("x['a'] > 1", "a case"),
        ("x[a][b] > 1", "name\\[case\\]"),
        ("x > 1 if y > 1 else z > 1", "None after 'else'"),
        ("x > True", "a number or a name"),
        ("x > 'a'", "a number or a name"),
        ("x > 1j", "a number or a name"),
        ("x % 2 > 1", "one of \\+, -, \\*, /, \\*\\*"),
        ("+x > 1", "arithmetic"),
        ("(x > 1) + 1 > 2", "arithmetic"),
        ("mean(x=y) > 1", "arithmetic"),
        ("mean(*x) > 1", "a number, a name"),
        ("lambda: 1", "expected a comparison"),
        ("[x for x in y] > 1", "arithmetic"),
        ("(x := 2) > 1", "arithmetic"),
        ("x > 1; y > 2", "invalid syntax"),
        ("import os", "invalid syntax"),
        ("x >", "expected a comparison"),
        ("", "expected a comparison"),
        ("(" * 500 + "x" + ")" * 500, "expected a comparison"),
    ],
)
def test_everything_else_is_refused_in_one_line(text, message):
    with pytest.raises(InputError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_a_refusal_names_the_place():
    with pytest.raises(InputError, match="column 12: 'x.y' is not allowed here"):
        parse("peak > 1 + x.y")


@pytest.mark.parametrize(
    ("says", "test", "words"),
    [
        ("peak loss at least {} x the initial one", "peak >= 1.3", "peak loss at least 1.3 x the initial one"),
        ("ends at least {-%} lower", "norm <= 0.8", "ends at least 20 % lower"),
        ("exceeds it by {+%}", "norm >= 1.3", "exceeds it by 30 %"),
        ("at most {%}", "final <= 0.02", "at most 2 %"),
        ("$x \\le {%}$", "final <= 0.02", r"$x \le 2\,\%$"),
        ("below {}", "gap < 1e-12", "below $10^{-12}$"),
        ("$\\delta < {}$", "gap < 2.5e-9", r"$\delta < 2.5\times10^{-9}$"),
        ("above {}", "peak[start, 16.7] > 1e6", "above $10^{6}$"),
        ("in ({}, {}]", "3.5 < diverges_from[2] <= 8", "in (3.5, 8]"),
        ("within {} of 1", "abs(slope - 1) <= 0.2", "within 0.2 of 1"),
        ("lower at each phase", "norm[3] < norm[2] < norm[1] < 1", "lower at each phase"),
        ("twice {} is once", "x > 3 and y > 3", "twice 3 is once"),
        ("down to {}", "least(lowest) < -3", "down to -3"),
        (
            "below {}, once it fell {}-fold",
            "bound < 3 if least(fall) >= 100 else None",
            "below 3, once it fell 100-fold",
        ),
        ("no exception", "cases > 0 and exceptions == 0", "no exception"),
        ("ten outputs: {}", "outputs == 10", "ten outputs: 10"),
    ],
)
def test_numbers_take_their_places(says, test, words):
    assert fill(says, test) == words


@pytest.mark.parametrize(
    ("says", "test"), [("nothing", "x > 2"), ("{} and {}", "x > 2"), ("{}", "x > 1"), ("{}", "x > 0")]
)
def test_too_few_or_too_many_places_are_an_error(says, test):
    with pytest.raises(InputError, match="places for the"):
        fill(says, test)
