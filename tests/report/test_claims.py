"""Verdicts follow from parts, and from nothing else."""

import itertools

import numpy as np
import pytest
import torch

from traindyn.errors import InputError
from traindyn.report.claims import Claim, Part, depends_on, derive, load_ledger, outcome


def claim(*parts: Part, **options) -> Claim:
    return Claim(id="toy.one", where="Theorem 1", kind="theorem", states="It holds.", parts=parts, **options)


PRINTED, CORRECTED = Part("p", "p < 1"), Part("c", "c < 1", reads="corrected")
CONTROL, SENSITIVITY = Part("k", "k", reads="control"), Part("s", "s", "sensitivity", False, varies="initialisation")


@pytest.mark.parametrize(
    ("printed", "corrected", "verdict"),
    [(True, True, "holds"), (True, False, "holds"), (False, True, "holds with correction"), (False, False, "fails")],
)
def test_printed_and_corrected_parts_give_the_verdict(printed, corrected, verdict):
    assert derive(claim(PRINTED, CORRECTED), "laptop", {"p": printed, "c": corrected}, 3)[0] == verdict


def test_without_a_corrected_part_a_false_printed_part_fails():
    assert derive(claim(PRINTED), "laptop", {"p": False}, 1)[0] == "fails"


def test_undecided_when_control_seeds_preset_or_part_is_missing():
    everything = claim(PRINTED, CONTROL, seeds=3, decides_at=("laptop",))
    fine = {"p": True, "k": True}
    assert derive(everything, "laptop", fine, 3)[0] == "holds"
    for preset, values, seeds in [
        ("smoke", fine, 3),
        ("laptop", fine, 2),
        ("laptop", {"p": None, "k": True}, 3),
        ("laptop", {"p": True, "k": False}, 3),
        ("laptop", {"p": False, "k": False}, 3),
    ]:
        verdict, why = derive(everything, preset, values, seeds)
        assert verdict == "undecided"
        assert why


def test_parts_that_do_not_decide_never_move_the_verdict():
    shown = claim(PRINTED, SENSITIVITY)
    for value in (True, False, None):
        assert derive(shown, "laptop", {"p": True, "s": value}, 1)[0] == "holds"


def test_sensitivity_that_changes_the_outcome_is_named():
    shown = claim(PRINTED, SENSITIVITY)
    assert depends_on(shown, {"p": True, "s": False}) == ["initialisation"]
    assert depends_on(shown, {"p": True, "s": True}) == []
    assert depends_on(shown, {"p": True, "s": None}) == []


def test_quorum_counts_seeds():
    from fractions import Fraction

    most = claim(Part("p", "in 4 of 5 seeds", quorum=Fraction(4, 5)))
    for wins in range(6):
        values = {"p": [True] * wins + [False] * (5 - wins)}
        assert (derive(most, "laptop", values, 5)[0] == "holds") == (wins >= 4)


def test_every_seed_counts_without_a_quorum():
    for values in itertools.product([True, False], repeat=3):
        verdict, _ = derive(claim(PRINTED), "laptop", {"p": list(values)}, 3)
        assert (verdict == "holds") == all(values)


def test_names_have_to_be_the_ledgers():
    with pytest.raises(InputError, match="'printt' is not in the ledger"):
        derive(claim(Part("print", "x")), "laptop", {"print": True, "printt": True}, 1)
    with pytest.raises(InputError, match="has no value"):
        derive(claim(PRINTED, CORRECTED), "laptop", {"p": True}, 1)


def test_outcomes_are_booleans():
    assert outcome(np.bool_(True)) is True
    assert outcome(torch.tensor([True, False])) == [True, False]
    assert outcome(None) is None
    for number in (0.3, np.array([0.1, 0.2]), [], "yes"):
        with pytest.raises(InputError, match="a part is a boolean"):
            outcome(number)


def test_the_criterion_hash_sees_the_criterion_only():
    one = claim(PRINTED)
    assert one.criterion_sha256 == claim(PRINTED, expect={"laptop": "holds"}, tried="x").criterion_sha256
    assert one.criterion_sha256 != claim(Part("p", "p < 2")).criterion_sha256
    assert one.criterion_sha256 != claim(PRINTED, seeds=2).criterion_sha256


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("- {id: a.b, where: x, kind: y, states: z, part: []}", "unknown key 'part' \\(did you mean 'parts'"),
        ("- {id: a.b, where: x, kind: y, states: z}", "no deciding printed part"),
        ("- {id: a.b, where: x, kind: y, states: z, parts: [{name: p, statement: s, reads: guessed}]}", "'guessed'"),
        ("- {id: a.b, where: x, kind: y, states: z, not_testable: w, expect: {laptop: maybe}}", "'maybe'"),
        ("- {id: a.b, where: [", "is not YAML"),
    ],
)
def test_a_wrong_ledger_is_named_in_one_line(tmp_path, entry, message):
    path = tmp_path / "claims.yaml"
    path.write_text(entry)
    with pytest.raises(InputError, match=message) as caught:
        load_ledger("a", path)
    assert "\n" not in str(caught.value)
