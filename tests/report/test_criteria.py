"""Tests mean what the rules say: every seed, every case, three values; compared with plain Python on random tables."""

import itertools
import math
from fractions import Fraction

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindyn import evidence as ev
from traindyn.errors import InputError
from traindyn.report.columns import gather
from traindyn.report.criteria import evaluate

NAN, INF = math.nan, math.inf


def seeds(**columns):
    """A table with one row per seed."""
    count = len(next(iter(columns.values())))
    return ev.table(pd.DataFrame({"seed": range(count), **columns}))


def cases(level, **columns):
    """A table by seed and one case: {name: {case: values over seeds}}."""
    frames = []
    for case in next(iter(columns.values())):
        values = {name: by_case[case] for name, by_case in columns.items()}
        frames.append(pd.DataFrame({"seed": range(len(next(iter(values.values())))), level: case, **values}))
    return ev.table(pd.concat(frames), level)


def said(test, *tables, quorum=None):
    return evaluate(test, gather(*tables), quorum).outcome


# twelve parts of the ledgers: test, quorum, tables that meet it, tables that do not
PAIR = pd.DataFrame({"seed": [1, 1, 2, 2, 3, 3], "network": ["rank2", "rank5"] * 3})
TWELVE = [
    ("peak >= 1.3", None, [seeds(peak=[1.3, 4, INF])], [seeds(peak=[1.2, 4, 5])]),
    ("norm <= 0.8", None, [seeds(norm=[0.8, 0.1])], [seeds(norm=[0.81, 0.1])]),
    (
        "norm[3] < norm[2] < norm[1] < 1",
        None,
        [cases("phase", norm={1: [0.9, 0.8], 2: [0.5, 0.5], 3: [0.1, 0.4]})],
        [cases("phase", norm={1: [0.9, 0.8], 2: [0.5, 0.5], 3: [0.1, 0.5]})],
    ),
    (
        "3.5 < diverges_from[2] <= 8",
        None,
        [cases("layers", diverges_from={2: [4, 8], 3: [1, 1]})],
        [cases("layers", diverges_from={2: [4, INF], 3: [1, 1]})],
    ),
    (
        "peak[start, 16.7] > 1e6",
        None,
        [
            ev.table(
                pd.DataFrame({"seed": [1, 1], "when": ["start", "late"], "rate": [16.7, 16.7], "peak": [INF, 1.0]}),
                ["when", "rate"],
            )
        ],
        [
            ev.table(
                pd.DataFrame({"seed": [1, 1], "when": ["start", "late"], "rate": [16.7, 16.7], "peak": [2.0, INF]}),
                ["when", "rate"],
            )
        ],
    ),
    (
        "mean(match[rank2] - base[rank2]) >= 0.2",
        None,
        [ev.table(PAIR.assign(match=[0.9, 0] * 3, base=[0.5, 1] * 3), "network")],
        [ev.table(PAIR.assign(match=[0.6, 1] * 3, base=[0.5, 0] * 3), "network")],
    ),
    (
        "mean(drift[2, 256]) > mean(drift[2, 1024]) > mean(drift[2, 4096])",
        None,
        [
            ev.table(
                pd.DataFrame({"seed": [1] * 3, "depth": 2, "width": [256, 1024, 4096], "drift": [3.0, 2, 1]}),
                ["depth", "width"],
            )
        ],
        [
            ev.table(
                pd.DataFrame({"seed": [1] * 3, "depth": 2, "width": [256, 1024, 4096], "drift": [3.0, 1, 2]}),
                ["depth", "width"],
            )
        ],
    ),
    (
        "abs(slope - 1) <= 0.2",
        None,
        [cases("time", slope={0: [0.9, 1.1], 10: [1.0, 1.1]})],
        [cases("time", slope={0: [0.9, 1.1], 10: [1.0, 1.3]})],
    ),
    (
        "linked[6] >= 0.5",
        "4/5",
        [cases("figure", linked={6: [1, 1, 0.4, 1, 1], 7: [0] * 5})],
        [cases("figure", linked={6: [1, 0, 0.4, 1, 1], 7: [1] * 5})],
    ),
    (
        "order > 0.7",
        None,
        [cases("width", order={5: [0.8, 0.9], 10: [1, 1]})],
        [cases("width", order={5: [0.8, 0.9], 10: [1, 0.7]})],
    ),
    (
        "mean(share[20] - share[1]) > 3 * sem(share[20] - share[1])",
        None,
        [cases("batch", share={1: [0.1, 0.2, 0.3], 20: [0.6, 0.7, 0.81]})],
        [cases("batch", share={1: [0.1, 0.2, 0.3], 20: [0.6, 0.1, 0.3]})],
    ),
    (
        "bound < 3 if least(fall) >= 100 else None",
        None,
        [seeds(bound=[1, 2], fall=[100, 200])],
        [seeds(bound=[1, 3], fall=[100, 200])],
    ),
]


@pytest.mark.parametrize(("test", "quorum", "met", "not_met"), TWELVE, ids=[row[0] for row in TWELVE])
def test_the_twelve_examples(test, quorum, met, not_met):
    assert said(test, *met, quorum=quorum) is True
    assert said(test, *not_met, quorum=quorum) is False


@pytest.mark.parametrize(
    ("test", "table", "outcome"),
    [
        ("largest_spread > 2", {"largest_spread": 2.5}, True),
        ("least(lowest) < -3", seeds(lowest=[-1, -4]), True),
        (
            "mean(early) <= 0.9 * mean(late)",
            cases("time", early={1: [1, 1], 2: [8, 8]}, late={1: [2, 2], 2: [9, 9]}),
            True,
        ),
        (
            "mean(early) <= 0.9 * mean(late)",
            cases("time", early={1: [1, 1], 2: [9, 9]}, late={1: [2, 2], 2: [9, 9]}),
            False,
        ),
        ("violations == 0", seeds(violations=[0, 0]), True),
        ("peak > 1e6", seeds(peak=[INF]), True),
        ("final < 0.01 <= norm", seeds(final=[0.001], norm=[0.5]), True),
        ("cases > 0 and exceptions == 0", {"cases": 0, "exceptions": 0}, False),
        ("abs(x / 11.2e6 - 1) < 0.02", {"x": 11.1e6}, True),
        ("median(share) >= 0.5", seeds(share=[0, 0.5, 0.9]), True),
        ("bound < 3 if least(fall) >= 100 else None", seeds(bound=[9, 9], fall=[99, 200]), None),
        ("width == 5", ev.table(pd.DataFrame({"seed": [1], "width": [5.0]})), True),
    ],
)
def test_the_awkward_kinds(test, table, outcome):
    assert said(test, table) is outcome


def test_kleenes_tables():
    value = {True: "yes > 0", False: "no > 0", None: "unknown > 0"}
    table = seeds(yes=[1], no=[-1], unknown=[NAN])
    for a, b in itertools.product(value, repeat=2):
        both = False if False in (a, b) else None if None in (a, b) else True
        some = True if True in (a, b) else None if None in (a, b) else False
        assert said(f"{value[a]} and {value[b]}", table) is both
        assert said(f"{value[a]} or {value[b]}", table) is some
        assert said(f"{value[b]} if {value[a]} else None", table) is (b if a else None)
    assert [said(f"not {value[a]}", table) for a in value] == [False, True, None]


def test_a_quorum_is_rounded_up_and_knows_what_unknown_seeds_can_still_do():
    def four_of_five(*values):
        return said("x > 0", seeds(x=list(values)), quorum="4/5")

    assert four_of_five(1, 1, 1, 1, -1) is True and four_of_five(1, 1, 1, -1, -1) is False
    assert four_of_five(1, 1, 1, 1, NAN) is True and four_of_five(1, 1, 1, NAN, -1) is None
    assert four_of_five(1, 1, -1, -1, NAN) is False
    assert said("x > 0", seeds(x=[1, 1, -1]), quorum=Fraction(1, 2)) is True  # two of three
    assert said("x > 0", seeds(x=[1, -1, -1]), quorum=Fraction(1, 2)) is False
    with pytest.raises(InputError, match="asked once"):
        said("mean(x) > 0", seeds(x=[1, 1]), quorum="1/2")
    with pytest.raises(InputError, match="asked once"):
        said("x > 0", {"x": 1}, quorum="1/2")


def test_missing_rows_and_cases_are_unknown_and_a_misspelled_name_is_an_error():
    table = cases("net", x={"a": [1, 1], "b": [1, -1]})
    assert said("x[c] > 0", table) is None and said("x[c] > 0 or x[a] > 0", table) is True
    assert evaluate("x[c] > 0", gather(table)).missing == ("x[c]",)
    assert said("x > 0", table.drop([(1, "b")])) is None  # a seed that one case lacks
    assert said("x[a] > 0", table.drop([(1, "b")])) is True
    assert said("x > 0", table.iloc[:0]) is None and said("mean(x[a]) > 0", table.iloc[:0]) is None
    with pytest.raises(InputError, match="no evidence is called 'y'.*did you mean"):
        said("y > 0", {"yy": 1}, {"z": 2})
    with pytest.raises(InputError, match="has the cases net, the index gives 2"):
        said("x[a, b] > 0", table)
    with pytest.raises(InputError, match="has no cases"):
        said("z[a] > 0", {"z": 1})
    with pytest.raises(InputError, match="different cases"):
        said("x > z", table, cases("width", z={1: [1, 1]}))


def test_seeds_are_those_that_all_names_have_and_are_counted_by_the_smallest():
    ten, three = seeds(x=[1] * 10), ev.table(pd.DataFrame({"seed": [7, 8, 20], "y": [0, 0, 9]}))
    found = evaluate("x > y", gather(ten, three))
    assert found.outcome is True and found.seeds == 2
    assert evaluate("z > 0", gather({"z": 1})).seeds is None
    assert evaluate("z > 0 and x > 0", gather({"z": 1}, ten)).seeds == 10


def test_whole_numbers_and_floats_are_the_same_case_and_words_are_words():
    table = ev.table(pd.DataFrame({"seed": [1, 1], "width": [5.0, 10.0], "x": [1.0, -1.0]}), "width")
    assert said("x[5] > 0", table) is True and said("x[10] > 0", table) is False and said("x[5.0] > 0", table) is True


def test_infinity_is_a_number_and_nan_is_none():
    assert said("x > 1e300", seeds(x=[INF, INF])) is True
    assert said("mean(x) > 1", seeds(x=[INF, 1])) is True and said("mean(x) > 1", seeds(x=[NAN, 1])) is None
    assert said("median(x) > 1", seeds(x=[INF, INF, 1])) is True and said("x - x < 1", seeds(x=[INF])) is None
    assert said("log10(x) < 0", seeds(x=[0.0])) is True and said("log10(x) < 0", seeds(x=[-1.0])) is None
    assert said("1 / x > 9", seeds(x=[0.0])) is True and said("0 / x > 9", seeds(x=[0.0])) is None
    assert said("x ** 0 == 1", seeds(x=[NAN])) is None
    assert said("max(x, y) > 0", seeds(x=[1], y=[NAN])) is None


def test_functions_over_seeds():
    table = seeds(x=[1.0, 2.0, 4.0, 9.0])
    for name, value in [("mean", 4), ("median", 3), ("least", 1), ("most", 9)]:
        assert evaluate(f"{name}(x) >= 0", gather(table)).value == value
    sd = pd.Series([1.0, 2, 4, 9]).std()
    assert evaluate("sd(x) >= 0", gather(table)).value == pytest.approx(sd)
    assert evaluate("sem(x) >= 0", gather(table)).value == pytest.approx(sd / 2)
    assert evaluate("quantile(x, 0.25) >= 0", gather(table)).value == pytest.approx(1.75)
    assert said("count(x > 1.5) == 3", table) is True and said("count(x > y) == 3", table, {"y": 1.5}) is True
    assert (
        said("x <= 2 * mean(x)", seeds(x=[1, 2, 3])) is True and said("x <= 1.4 * mean(x)", seeds(x=[1, 2, 3])) is False
    )
    assert said("sd(x) > 0", seeds(x=[1.0])) is None


# --- random expressions against plain Python ---
NAMES = ("a", "b", "c")
numbers = st.integers(-3, 3).map(float)
plain_terms = st.recursive(
    st.one_of(st.sampled_from(NAMES).map(lambda n: ("name", n)), numbers.map(lambda v: ("number", v))),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-*/"), inner, inner),
        st.tuples(st.just("abs"), inner),
        st.tuples(st.sampled_from(("min", "max")), inner, inner),
    ),
    max_leaves=4,
)
terms = st.one_of(plain_terms, st.tuples(st.just("over"), st.sampled_from(("mean", "least", "most")), plain_terms))
comparisons = st.tuples(st.just("compare"), terms, st.sampled_from(("<", "<=", ">", ">=")), terms)
tests = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(("and", "or", "if")), inner, inner), st.tuples(st.just("not"), inner)
    ),
    max_leaves=4,
)
values = st.one_of(numbers, st.just(NAN), st.just(INF))


def text(node):
    kind, *inside = node
    match kind:
        case "name":
            return inside[0]
        case "number":
            return f"({inside[0]:g})"
        case "over":
            return f"{inside[0]}({text(inside[1])})"
        case "abs" | "min" | "max":
            return f"{kind}({', '.join(map(text, inside))})"
        case "compare":
            return f"{text(inside[0])} {inside[1]} {text(inside[2])}"
        case "not":
            return f"not ({text(inside[0])})"
        case "if":
            return f"(({text(inside[0])}) if ({text(inside[1])}) else None)"
    return f"({text(inside[0])}) {kind} ({text(inside[1])})"


def divided(a, b):
    if b == 0:
        negative = (a < 0) != (math.copysign(1, b) < 0)
        return NAN if a == 0 else -INF if negative else INF
    return a / b


def plain(node, rows, seed):
    """The same in plain Python, one seed at a time; None where it cannot be said."""
    kind, *inside = node
    if kind == "name":
        return None if math.isnan(rows[seed][inside[0]]) else rows[seed][inside[0]]
    if kind == "number":
        return inside[0]
    if kind == "over":
        found = [plain(inside[1], rows, each) for each in rows]
        if None in found:
            return None
        value = {"mean": lambda v: sum(v) / len(v), "least": min, "most": max}[inside[0]](found)
        return None if math.isnan(value) else value
    if kind == "compare":
        a, b = plain(inside[0], rows, seed), plain(inside[2], rows, seed)
        if None in (a, b):
            return None
        return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[inside[1]]
    found = [plain(item, rows, seed) for item in inside]
    match kind:
        case "not":
            return None if found[0] is None else not found[0]
        case "if":
            return found[0] if found[1] is True else None
        case "and":
            return False if False in found else None if None in found else True
        case "or":
            return True if True in found else None if None in found else False
    if None in found:
        return None
    operations = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": divided}
    value = {**operations, "abs": abs, "min": min, "max": max}[kind](*found)
    return None if math.isnan(value) else value


@settings(max_examples=300)
@given(tests, st.lists(st.fixed_dictionaries({name: values for name in NAMES}), min_size=1, max_size=4))
def test_random_tests_on_random_tables_mean_what_plain_python_says(node, table):
    words = text(node)
    if not any(f"{name}" in words.replace("abs", "").replace("max", "").replace("least", "") for name in NAMES):
        return
    rows = dict(enumerate(table))
    found = [plain(node, rows, seed) for seed in rows]
    expected = False if False in found else None if None in found else True
    try:
        outcome = evaluate(words, gather(ev.table(pd.DataFrame(table).assign(seed=range(len(table))))))
    except InputError as error:
        assert "names no evidence" in str(error)
        return
    assert outcome.outcome is expected, words
    if outcome.margin:
        assert (outcome.margin > 0) == outcome.outcome
