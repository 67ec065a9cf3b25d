"""A ledger is read, checked, and hashed."""

import json
from fractions import Fraction
from pathlib import Path

import jsonschema
import pytest
import yaml

from traindyn.errors import InputError
from traindyn.report.claims import Claim, Part, load_ledger, misdirected, schema

ROOT = Path(__file__).resolve().parents[2]


def claim(*parts: Part, **options) -> Claim:
    return Claim(id="toy.one", where="Theorem 1", kind="theorem", states="It holds.", parts=parts, **options)


PRINTED = Part("p", "p < 1", "it is small")


def test_the_criterion_hash_sees_the_criterion_only():
    one = claim(PRINTED)
    assert one.criterion_sha256 == claim(PRINTED, expect={"laptop": "holds"}, tried="x").criterion_sha256
    assert one.criterion_sha256 != claim(Part("p", "p < 2", "it is below {}")).criterion_sha256
    assert one.criterion_sha256 == claim(Part("p", "p < 1", "other words")).criterion_sha256
    assert one.criterion_sha256 != claim(PRINTED, definitions=("fcn.rise",)).criterion_sha256
    assert one.criterion_sha256 != claim(PRINTED, seeds=2).criterion_sha256


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("- {id: a.b, where: x, kind: y, states: z, part: []}", "unknown key 'part' \\(did you mean 'parts'"),
        ("- {id: a.b, where: x, kind: y, states: z}", "no deciding printed part"),
        (
            "- {id: a.b, where: x, kind: y, states: z, parts: [{name: p, test: 'p < 1', says: s, reads: guessed}]}",
            "'guessed'",
        ),
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


def test_a_part_of_a_ledger_is_checked_when_it_is_read(tmp_path):
    head = "- {id: a.b, where: x, kind: y, states: z, parts: [{name: p, test: '%s', says: '%s'%s}]}"
    path = tmp_path / "claims.yaml"
    for test, says, more, message in [
        ("p <> 1", "s", "", "claim 'a.b', part 'p': test 'p <> 1', column 3"),
        ("p < 2", "s", "", "0 places for the 1 numbers"),
        ("mean(p) < 1", "s", ", quorum: 4/5", "it cannot have a quorum"),
        ("p < 1", "s", ", quorum: 3/2", "quorum 3/2 is out of range"),
        ("p < 1", "s", ", statement: t", "part 'p': unknown key 'statement'"),
    ]:
        path.write_text(head % (test, says, more))
        with pytest.raises(InputError, match=message) as caught:
            load_ledger("a", path)
        assert "\n" not in str(caught.value)
    path.write_text("- {id: a.b, where: x, kind: y, states: z, parts: [{name: p, says: s}]}")
    with pytest.raises(InputError, match="part 'p': 'test' is missing"):
        load_ledger("a", path)


def test_a_quorum_is_a_fraction_however_it_is_written(tmp_path):
    path = tmp_path / "claims.yaml"
    for text in ("4/5", "0.8"):
        path.write_text(
            f"- {{id: a.b, where: x, kind: y, states: z, parts: [{{name: p, test: p < 1, says: s, quorum: {text}}}]}}"
        )
        assert load_ledger("a", path)[0].parts[0].quorum == Fraction(4, 5)


def test_wording_against_the_comparison_is_found():
    def said(test, says):
        return misdirected([claim(Part("p", test, says))])

    assert said("p < 2", "at least {}") and said("2 < p", "below {}") and said("p >= 2", "at most {}")
    assert not said("p >= 2", "at least {}") and not said("p <= 0.8", "at least {-%} lower")
    assert not said("p <= 2", "it never rises to more than {}")


def test_the_schema_of_ledgers_is_current_and_accepts_a_ledger():
    text = json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
    assert (ROOT / "chapters" / "claims.schema.json").read_text(encoding="utf-8") == text, "write it anew"
    ledger = yaml.safe_load((ROOT / "tests" / "toy" / "chapters" / "toy" / "claims.yaml").read_text())
    jsonschema.validate(ledger, schema())
    ledger[0]["parts"][0]["statement"] = "old"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(ledger, schema())
