"""The generated pages say what the ledgers and the runs say, all of it, and nothing else."""

from __future__ import annotations

import dataclasses

import pytest

from traindyn.errors import InputError
from traindyn.report.claims import load_ledger
from traindyn.run import render, results
from traindyn.run.results import Findings, Outcome

ABOUT = {
    "versions": {"python": "3.11", "torch": "2"},
    "seeds": [100, 101],
    "dtype": "float64",
    "device": {"type": "cpu", "name": "x86"},
    "wall_seconds": 90.0,
    "peak_memory_mb": 2048.0,
    "git": {"commit": "0123456789abcdef", "changed": True},
}


def outcome(claims, preset="smoke", archived=False, **verdicts) -> Outcome:
    records = {
        claim.id: {
            "id": claim.id,
            "verdict": verdicts.get(claim.id.split(".")[1], "holds"),
            "why": "",
            "parts": {part.name: [True, False] for part in claim.parts},
            "measured": {"some_ratio": [0.25, 0.5, 0.75]},
            "seeds": 3,
            "stand_in": None,
            "criterion_sha256": claim.criterion_sha256,
            "note": "",
        }
        for claim in claims
    }
    return Outcome(preset, archived, True, records, ABOUT)


@pytest.fixture
def found(toy_book):
    claims = load_ledger("toy")
    runs = [outcome(claims, slip="holds with correction", trend="undecided")]
    runs.append(outcome(claims, "paper", archived=True, trend="fails"))
    return Findings("toy", "A toy <chapter>", claims, runs)


def test_the_scorecard_lists_every_claim_with_everything_known_of_it(found):
    text = render.scorecard([found])
    for claim in found.claims:
        assert f"../chapters/toy/toy.html#{claim.anchor}" in text
        assert claim.where in text
        assert all(render.rich(part.statement) in text for part in claim.parts)
    assert text.count("<tr data-verdict=") == len(found.claims)
    assert "0.25 / 0.5 / 0.75 (3)" in text and "some ratio" in text and "ratio: 0.5" in text
    assert r"\(1 - \eta\)" in text
    assert "Of 3 testable claims, 1 hold as printed, 1 hold with a correction, 0 fail and 1 are undecided" in text
    assert "paper (archived)" in text and "verdict-fails" in text


def test_a_verdict_that_is_not_the_recorded_one_is_shown_and_counted(found):
    claims = found.claims
    wrong = outcome(claims, slip="fails", trend="undecided")
    assert results.surprises(claims, found.outcomes[0]) == []
    assert results.surprises(claims, wrong) == [("toy.slip", "holds with correction", "fails")]
    own = dataclasses.replace(wrong, is_preset=False)
    assert results.surprises(claims, own) == []
    text = render.scorecard([dataclasses.replace(found, outcomes=[wrong])])
    assert "1 verdicts differ from the recorded ones" in text and "recorded: holds with correction" in text
    assert "own parameters" in render.scorecard([dataclasses.replace(found, outcomes=[own])])


def test_an_archived_verdict_of_an_older_criterion_says_so(found):
    changed = [dataclasses.replace(claim, seeds=9) for claim in found.claims]
    text = render.scorecard([dataclasses.replace(found, claims=changed)])
    assert text.count("the criterion has changed since this run") == len(changed)
    assert "the criterion has changed" not in render.scorecard([found])


def test_errata_are_sorted_by_consequence_and_missing_settings_stand_apart(found):
    (first,) = next(claim for claim in found.claims if claim.errata).errata
    given = [
        dataclasses.replace(first, printed="A", consequence="cosmetic"),
        dataclasses.replace(first, printed="B", consequence="result", status="setting not given"),
        dataclasses.replace(first, printed="C", consequence="result"),
        dataclasses.replace(first, printed="D", consequence="proof"),
    ]
    claims = [dataclasses.replace(claim, errata=tuple(given) if claim.errata else ()) for claim in found.claims]
    text = render.errata([dataclasses.replace(found, claims=claims)])
    order = sorted("ABCD", key=lambda letter: text.index(f"<dd>{letter}</dd>"))
    assert order == ["C", "D", "A", "B"]
    assert text.index("not errors") < text.index("<dd>B</dd>")
    assert "toy.html#toy-slip" in text
    assert render.errata([dataclasses.replace(found, claims=[])]) == "No entry yet."


def test_a_page_is_filled_where_it_asks_and_nowhere_else(found):
    page = "# Title\n\n% begin generated chapters\nplaceholder\n% end generated\n\nLast words.\n"
    text = render.fill(page, [found])
    assert text.startswith("# Title\n\n```{raw} html") and text.endswith("```\n\nLast words.\n")
    assert "placeholder" not in text and "A toy &lt;chapter&gt;" in text
    with pytest.raises(InputError, match="generated part 'chaptrs'"):
        render.fill(page.replace("chapters", "chaptrs"), [found])


def test_the_provenance_of_a_build_names_seeds_precision_time_memory_and_versions(found):
    text = render.provenance([found])
    for word in ("100 to 101", "float64", "x86", "1.5", "2.0 GB", "012345678 + changes", "torch 2"):
        assert word in text
