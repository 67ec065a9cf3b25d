"""A ledger is read, checked, and hashed."""

import pytest

from traindyn.errors import InputError
from traindyn.report.claims import Claim, Part, load_ledger


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
