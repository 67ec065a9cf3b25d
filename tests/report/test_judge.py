"""Verdicts follow from evidence by the ledger's tests, and say what they hang on."""

import math

import numpy as np
import pandas as pd
import pytest

from traindyn import evidence as ev
from traindyn.errors import InputError
from traindyn.report.claims import Claim, Part
from traindyn.report.columns import evidence_from_json, evidence_to_json, gather
from traindyn.report.judge import judge
from traindyn.report.language import parse
from traindyn.report.stability import redrawn, stability

PRINTED = Part("p", "p > 0", "p is positive")
CORRECTED = Part("c", "c > 0", "c is positive", reads="corrected")
CONTROL = Part("k", "k > 0", "k is positive", reads="control")
SENSITIVITY = Part("s", "s > 0", "s is positive", "sensitivity", False, varies="initialisation")


def claim(*parts: Part, **options) -> Claim:
    return Claim(id="toy.one", where="Theorem 1", kind="theorem", states="It holds.", parts=parts, **options)


def found(parts, preset="laptop", numbers=None, **options):
    return judge(claim(*parts, **options), gather(*([numbers] if numbers is not None else [])), preset)


def seeds(**columns):
    return ev.table(pd.DataFrame({"seed": range(len(next(iter(columns.values())))), **columns}))


@pytest.mark.parametrize(
    ("printed", "corrected", "verdict"),
    [(1, 1, "holds"), (1, -1, "holds"), (-1, 1, "holds with correction"), (-1, -1, "fails")],
)
def test_printed_and_corrected_parts_give_the_verdict(printed, corrected, verdict):
    assert found([PRINTED, CORRECTED], numbers={"p": printed, "c": corrected})["verdict"] == verdict


def test_undecided_when_control_seeds_preset_or_a_number_is_missing():
    parts, options = [PRINTED, CONTROL], {"seeds": 3, "decides_at": ("laptop",)}
    assert found(parts, numbers=seeds(p=[1] * 3, k=[1] * 3), **options)["verdict"] == "holds"
    for preset, columns, why in [
        ("smoke", {"p": [1] * 3, "k": [1] * 3}, "does not decide"),
        ("laptop", {"p": [1] * 2, "k": [1] * 2}, "2 seeds, the criterion asks for 3"),
        ("laptop", {"p": [1, 1, math.nan], "k": [1] * 3}, "undefined in this run: p"),
        ("laptop", {"p": [1] * 3, "k": [1, 1, -1]}, "control failed: k"),
        ("laptop", {"p": [-1] * 3, "k": [-1] * 3}, "control failed"),
    ]:
        record = found(parts, preset, seeds(**columns), **options)
        assert record["verdict"] == "undecided" and why in record["why"]
    no_rows = ev.table(pd.DataFrame({"seed": [], "p": []}, dtype=float).astype({"seed": int}))
    record = judge(claim(*parts, **options), gather(no_rows, seeds(k=[1] * 3)), "laptop")
    assert record["verdict"] == "undecided" and "not contained in this run: p" in record["why"]


def test_a_part_without_seeds_neither_helps_nor_harms():
    record = judge(claim(PRINTED, CONTROL, seeds=3), gather(seeds(p=[1] * 3), {"k": 1}), "laptop")
    assert record["verdict"] == "holds" and record["seeds"] == 3 and record["parts"]["k"]["seeds"] is None
    assert judge(claim(PRINTED, seeds=3), gather({"p": 1}), "laptop")["verdict"] == "holds"


def test_a_sensitivity_part_never_moves_the_verdict_and_is_named_if_it_differs():
    for value, named in [(-1, ["initialisation"]), (1, []), (math.nan, [])]:
        record = found([PRINTED, SENSITIVITY], numbers={"p": 1, "s": value})
        assert record["verdict"] == "holds" and record["depends_on"] == named


def test_a_name_that_no_table_has_is_an_error_that_names_claim_and_part():
    with pytest.raises(InputError, match="claim 'toy.one', part 'p': .* no evidence is called 'p'"):
        found([PRINTED], "smoke", {"q": 1})


def test_not_testable_is_a_verdict_of_its_own():
    record = judge(claim(not_testable="a drawing"), {}, "laptop")
    assert (record["verdict"], record["why"], record["parts"]) == ("not testable", "a drawing", {})


@pytest.mark.parametrize(
    ("test", "numbers", "close"),
    [
        ("x < 10", {"x": 9.5}, True),  # 9 would not do
        ("x < 10", {"x": 8.5}, False),
        ("x > 0.9", {"x": 0.905}, True),  # a tenth of the distance to 1: 0.91
        ("x > 0.9", {"x": 0.95}, False),
        ("0.8 < x < 1.2", {"x": 1.17}, True),  # a tenth of the band: 1.16
        ("0.8 < x < 1.2", {"x": 1.15}, False),
        ("x <= 3", {"x": 3}, True),  # a count moves by one
        ("x <= 3", {"x": 2}, False),
        ("x < 1", {"x": 0.99}, False),  # a whole 1, 0 and == do not move
        ("x > 0", {"x": 1e-9}, False),
        ("x == 3", {"x": 3}, False),
        ("abs(x - 1) <= 0.2", {"x": 1.19}, True),
        ("x > -3", {"x": -2.8}, True),
    ],
)
def test_close_is_a_verdict_that_a_tenth_of_a_number_changes(test, numbers, close):
    says = " ".join("{}" for value in parse(test).numbers if abs(value) not in (0, 1))
    record = found([Part("p", test, says)], numbers=numbers)
    assert record["close"] is close and record["parts"]["p"]["close"] is close


def test_close_is_a_verdict_that_a_margin_below_one_would_turn_over():
    assert found([PRINTED], numbers=seeds(p=[5.0, 6.0, 7.0]))["close"] is False  # margin 5
    assert found([PRINTED], numbers=seeds(p=[0.5, 2.0, 8.0]))["close"] is True  # margin 0.13
    record = found([PRINTED], numbers=seeds(p=[0.5, 2.0, -0.1]))
    assert record["verdict"] == "fails" and record["close"] is True
    spared = [PRINTED, Part("other", "q < 0", "q is negative")]
    record = found(spared, numbers=seeds(p=[0.5, 2.0, -0.1], q=[1.0, 1, 1]))
    assert record["verdict"] == "fails" and record["close"] is False  # the other part fails anyway


def test_evidence_comes_back_from_json_as_it_was():
    table = ev.table(
        pd.DataFrame(
            {"seed": [1, 2, 1, 2], "net": ["a", "a", "b", "b"], "x": [0.1 + 0.2, math.inf, math.nan, -math.inf]}
        ),
        "net",
    )
    evidence = gather(table, table[[]].assign(y=1.0).iloc[:0], {"z": 1e-17})
    stored = evidence_to_json(evidence)
    assert stored["x"]["cases"] == ["net"] and stored["x"]["rows"][1] == [2, "a", "inf"]
    assert [row[-1] for row in stored["x"]["rows"]] == [0.1 + 0.2, "inf", None, "-inf"]
    again = evidence_from_json(stored)
    assert evidence_to_json(again) == stored and again["y"].seeded and again["z"].rows == {(): {None: 1e-17}}


def test_evidence_is_refused_in_one_line():
    with pytest.raises(InputError, match="'x' stands in two tables"):
        gather({"x": 1}, seeds(x=[1]))
    with pytest.raises(InputError, match="expected one number"):
        gather({"x": [1, 2]})
    with pytest.raises(InputError, match="cannot stand in a test"):
        gather({"final loss": 1})
    with pytest.raises(InputError, match="expected tables"):
        gather([1, 2])


def test_stability_counts_the_verdicts_of_redrawn_seeds():
    always, often = claim(PRINTED), Claim("toy.two", "", "", "", (PRINTED,))
    pool = {"toy.one": gather(seeds(p=[1] * 15)), "toy.two": gather(seeds(p=[1] * 14 + [-1]))}
    shown = {"toy.one": "holds", "toy.two": "holds"}
    result = stability([(always, 5), (often, 5)], pool, shown, "laptop", draws=300)
    assert result["toy.one"].share == 1 and result["toy.one"].high == 1
    assert result["toy.two"].share == pytest.approx(2 / 3, abs=0.1) and set(result["toy.two"].verdicts) == {
        "holds",
        "fails",
    }
    with pytest.raises(InputError, match="a pool of 15 seeds; expected at least 18"):
        stability([(always, 6)], pool, shown, "laptop")


def test_a_redraw_takes_of_every_experiment_what_a_run_takes():
    # blocks of eight seeds, of which the exact experiment takes three: a run has three exact and eight trained numbers
    blocks = [[100 + 8 * block + i for i in range(8)] for block in range(3)]
    small, large = [seed for block in blocks for seed in block[:3]], [seed for block in blocks for seed in block]
    frame = pd.DataFrame({"seed": small, "exact": 1.0}), pd.DataFrame({"seed": large, "trained": 2.0})
    pool = gather(*(ev.table(each) for each in frame), {"plain": 3.0})
    for draw in range(20):
        order = np.random.default_rng(draw).permutation(large).tolist()
        found = redrawn(pool, order, 1 / 3)
        (three,), (eight,) = (found[name].rows.values() for name in ("exact", "trained"))
        assert len(three) == 3 and len(eight) == 8 and set(three) < set(eight)
        assert found["plain"].rows == {(): {None: 3.0}}
