"""The generated pages say what the ledgers and the runs say, all of it, and nothing else."""

from __future__ import annotations

import dataclasses

import pytest
from bs4 import BeautifulSoup

from traindyn.errors import InputError
from traindyn.report.claims import load_ledger
from traindyn.report.templating import rich
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
PART = {"outcome": True, "seeds": 3, "value": 0.75, "operator": ">=", "threshold": 0.5, "margin": 2.25}


def outcome(claims, preset="smoke", archived=False, words=None, **verdicts) -> Outcome:
    """Return a run in which every claim holds in the source's setting, but for what is given by its name."""
    words = words or {}
    records = {}
    for claim in claims:
        name = claim.id.split(".")[1]
        records[claim.id] = {
            "id": claim.id,
            "verdict": verdicts.get(name, "holds"),
            "why": "",
            "setting": {"word": words.get(name, "source"), "differs": ["width 8 (source: 80)"], "open": []},
            "parts": {part.name: PART for part in claim.parts},
            "evidence": {},
            "seeds": 3,
            "close": name == "slip",
            "depends_on": [],
            "criterion_sha256": claim.criterion_sha256,
            "note": "",
        }
    return Outcome(preset, archived, True, records, ABOUT)


def earlier(claims, preset="paper", **verdicts) -> Outcome:
    """Return an archived run of schema 1."""
    found = {"schema": 1, "claims": []}
    for claim in claims:
        found["claims"].append(
            {
                "id": claim.id,
                "verdict": verdicts.get(claim.id.split(".")[1], "holds"),
                "why": "",
                "parts": {part.name: [True, False] for part in claim.parts},
                "measured": {"some_ratio": [0.25, 0.5, 0.75]},
                "seeds": 3,
                "stand_in": "patches",
                "criterion_sha256": "old",
                "note": "",
            }
        )
    return Outcome(preset, True, True, results.records(found, claims), ABOUT)


@pytest.fixture
def found(toy_book):
    claims = load_ledger("toy")
    runs = [outcome(claims, slip="holds with correction", trend="undecided")]
    runs.append(outcome(claims, "paper", archived=True, trend="fails", words={"trend": "stand-in"}))
    return Findings("toy", "A toy <chapter>", claims, runs)


def html(pieces) -> BeautifulSoup:
    return BeautifulSoup("".join(text for text, is_html in pieces if is_html), "html.parser")


def prose(pieces) -> str:
    return "\n".join(text for text, is_html in pieces if not is_html)


def test_the_scorecard_lists_every_claim_with_everything_known_of_it(found):
    pieces = render.scorecard([found])
    text = "".join(piece for piece, _ in pieces)
    page = html(pieces)
    for claim in found.claims:
        assert page.select(f'td > a[href="../chapters/toy/toy.html#{claim.anchor}"]')
        assert claim.where in text
        assert all(rich(part.statement) in text and str(rich(part.test)) in text for part in claim.parts)
    assert len(page.select("tr[data-verdict]")) == len(found.claims)
    for said in ("ratio: 0.5", "0.75", "≥ 0.5", "margin 2.2", "≈ close", "not measured yet", "paper (archived)"):
        assert said in text
    assert r"\(1 - \eta\)" in text


def test_the_run_that_speaks_decides_then_has_the_best_setting_then_the_larger_preset(found):
    claims = found.claims
    contraction, slip, trend = claims
    runs = [
        outcome(claims, "smoke", contraction="undecided", slip="fails", words={"slip": "stand-in"}),
        outcome(claims, "laptop", slip="fails", words={"contraction": "stand-in", "trend": "smaller"}),
        outcome(claims, "paper", trend="undecided", words={"contraction": "stand-in"}),
    ]
    found = dataclasses.replace(found, outcomes=runs)
    assert results.speaking(found, contraction)[0].preset == "paper"  # decided; the larger of two stand-ins
    assert results.speaking(found, slip)[0].preset == "paper"  # two in the source's setting: the larger
    assert results.speaking(found, trend)[0].preset == "smoke"  # decided, in the source's setting
    undecided = [outcome(claims, preset, trend="undecided") for preset in ("smoke", "laptop")]
    assert results.speaking(dataclasses.replace(found, outcomes=undecided), trend)[0].preset == "laptop"


def test_counts_are_of_verdicts_in_the_sources_setting(found):
    said = prose(render.scorecard([found]))
    assert (
        "Of 3 testable claims, in the source's own setting 2 hold as printed, 0 with a correction, and 0 fail." in said
    )
    assert "On a stand-in, which does not decide a claim, 1 more was looked at: the criterion was not met in 1." in said
    row = [cell.get_text() for cell in html(render.chapters([found])).select("tbody td")]
    assert row == ["A toy <chapter>", "3", "2", "0", "0", "0", "1: not met in 1", "0", "0"]
    trend = html(render.scorecard([found])).select("tr[data-verdict]")[2]
    assert trend["data-verdict"] == "on a stand-in: fails"
    assert "not decided in its setting; on a stand-in: fails" in trend.get_text()
    assert not html(render.scorecard([found])).select(".verdict-fails")


def test_a_run_of_an_earlier_criterion_is_shown_as_recorded_and_never_counted(found):
    claims = found.claims
    runs = [outcome(claims, trend="undecided"), earlier(claims, trend="fails")]
    found = dataclasses.replace(found, outcomes=runs)
    pieces = render.scorecard([found])
    text = html(pieces).get_text()
    assert text.count("judged by an earlier criterion: fails") == 1
    assert "some ratio: 0.25 / 0.5 / 0.75 (3)" in text and "Stand-in: patches." in text
    assert "1 is undecided." in prose(pieces) and "0 fail" in prose(pieces)
    assert "paper (archived), earlier criterion" in html(render.provenance([found])).get_text()
    assert results.speaking(found, claims[2])[0].preset == "smoke"


def test_a_verdict_that_is_not_the_recorded_one_is_shown_and_counted(found):
    claims = found.claims
    wrong = outcome(claims, slip="fails", trend="undecided")
    assert results.surprises(claims, found.outcomes[0]) == []
    assert results.surprises(claims, wrong) == [("toy.slip", "holds with correction", "fails")]
    own = dataclasses.replace(wrong, is_preset=False)
    assert results.surprises(claims, own) == []
    pieces = render.scorecard([dataclasses.replace(found, outcomes=[wrong])])
    assert "1 verdict differs from the recorded ones" in prose(pieces)
    assert "recorded: holds with correction" in " ".join(html(pieces).get_text().split())
    assert "own parameters" in html(render.scorecard([dataclasses.replace(found, outcomes=[own])])).get_text()


def test_errata_are_sorted_by_consequence_and_missing_settings_stand_apart(found):
    (first,) = next(claim for claim in found.claims if claim.errata).errata
    given = [
        dataclasses.replace(first, printed="A", consequence="cosmetic"),
        dataclasses.replace(first, printed="B", consequence="result", status="setting not given"),
        dataclasses.replace(first, printed="C", consequence="result"),
        dataclasses.replace(first, printed="D", consequence="proof"),
    ]
    claims = [dataclasses.replace(claim, errata=tuple(given) if claim.errata else ()) for claim in found.claims]
    pieces = render.errata([dataclasses.replace(found, claims=claims)])
    text = "".join(piece for piece, _ in pieces)
    order = sorted("ABCD", key=lambda letter: text.index(f"<dd>{letter}</dd>"))
    assert order == ["C", "D", "A", "B"]
    assert text.index("not errors") < text.index("<dd>B</dd>")
    assert "toy.html#toy-slip" in text
    assert render.errata([dataclasses.replace(found, claims=[])]) == [("No entry yet.", False)]


def test_a_page_is_filled_where_it_asks_and_its_tables_are_files(found):
    page = "# Title\n\n% begin generated chapters\nplaceholder\n% end generated\n\nLast words.\n"
    text, tables = render.fill(page, [found], "intro")
    (name,) = tables
    assert text == f"# Title\n\n```{{raw}} html\n:file: {name}\n```\n\nLast words.\n"
    assert name == "_generated/intro-chapters-1.html" and "A toy &lt;chapter&gt;" in tables[name]
    assert render.fill(page, [found], "intro") == (text, tables)
    with pytest.raises(InputError, match="generated part 'chaptrs'"):
        render.fill(page.replace("chapters", "chaptrs"), [found])


def test_the_provenance_of_a_build_names_seeds_precision_time_memory_and_versions(found):
    pieces = render.provenance([found])
    text = html(pieces).get_text() + prose(pieces)
    for word in ("100 to 101", "float64", "x86", "1.5", "2.0 GB", "012345678 + changes", "torch 2"):
        assert word in text


def test_verdicts_that_other_seeds_would_change_are_listed_and_counted(found):
    assert render.stability([found]) == [("No pool of seeds has been archived for the runs of this build.", False)]
    shares = {"toy.contraction": 1.0, "toy.slip": 0.7, "toy.trend": 0.95}
    pooled = {
        name: {**record, "stability": {"share": shares[name], "low": 0.4, "high": 0.99, "seeds": 15}}
        for name, record in found.outcomes[0].records.items()
    }
    first = dataclasses.replace(found.outcomes[0], records=pooled)
    other = dataclasses.replace(found, title="Another")
    pieces = render.stability([dataclasses.replace(found, outcomes=[first]), other])
    assert pieces[0][0].startswith("3 verdicts of this build") and "would change 0.35 of them" in pieces[0][0]
    assert "(11.7%); 1 are repeated" in pieces[0][0] and pieces[0][0].endswith("No pool at this preset: Another.")
    (row,) = html(pieces).select("tbody tr")
    assert [cell.text for cell in row.select("td")] == [
        "toy.slip",
        "holds with correction",
        "0.70",
        "0.40 to 0.99",
        "15",
    ]
    assert row.a["href"] == "../chapters/toy/toy.html#claim-toy-slip"
