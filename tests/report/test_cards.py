"""Cards and tables made from records: escaped, complete, and clear about the setting in which a verdict was reached."""

import dataclasses
import re

import pytest
from bs4 import BeautifulSoup

from traindyn.errors import InputError
from traindyn.report import cards, rows, templating, words
from traindyn.report.claims import CORRECTED, FAILS, HOLDS, NOT_TESTABLE, UNDECIDED, VERDICTS, Claim, Erratum, Part

NASTY = """<script>alert("1")</script> & 'quoted' `a<b` $x<1$ ``` {raw}"""


def made(name="peak", **changes) -> Claim:
    """Return a claim with two parts."""
    parts = (
        Part("spike", test="peak >= 1.3", says="peak at least {} x the initial loss"),
        Part("control", test="peak_at_half <= 1", says="at half the rate it never exceeds its start", reads="control"),
    )
    fields = {
        "id": f"toy.{name}",
        "where": "Figure 4.2",
        "kind": "figure",
        "states": "One catapult lowers $\\|K\\|$.",
        "parts": parts,
        "reported": {"lr": 6, "critical_lr": 3.6},
        "setup": "$n=3$",
    }
    return Claim(**fields | changes)


def compared(outcome=True, value=4.8, margin=2.4, **changes) -> dict:
    """Return a part of a record."""
    part = {"outcome": outcome, "seeds": 5, "value": value, "operator": ">=", "threshold": 1.3, "margin": margin}
    return part | {"seed": 101, "case": None, "close": False, "reason": None, "missing": []} | changes


def record(claim: Claim, verdict=HOLDS, word="source", parts=None, **changes) -> dict:
    """Return an entry of `claims.json`, schema 2."""
    parts = {part.name: compared(**(parts or {}).get(part.name, {})) for part in claim.parts}
    setting = {"word": word, "differs": [], "open": []}
    return {
        "id": claim.id,
        "verdict": verdict,
        "why": "",
        "setting": setting,
        "parts": parts,
        "evidence": {},
        "seeds": 5,
        "close": False,
        "depends_on": [],
        "criterion_sha256": claim.criterion_sha256,
        "note": "",
    } | changes


def soup(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


def line(html: str) -> str:
    """Return the one visible line of a card."""
    return " ".join(soup(html).summary.get_text().split())


def test_a_card_is_one_line_with_badge_statement_and_the_number_that_decided():
    claim = made()
    html = cards.card(claim, record(claim))
    assert line(html) == r"✔ holds One catapult lowers \(\|K\|\). spike 4.8, asked ≥ 1.3, margin 2.4"
    card = soup(html).details
    assert card["id"] == "claim-toy-peak" and "claim" in card["class"] and not card.has_attr("open")


def test_a_card_unfolds_to_everything_known_of_its_claim():
    claim = made(tried="three widths")
    found = record(claim, FAILS, word="smaller", depends_on=["biases"], note="a note", close=True)
    found["parts"]["spike"] |= {"outcome": False, "margin": -0.7, "close": True, "case": [1024.0], "value": "inf"}
    found["setting"] |= {
        "differs": [{"experiment": "fcn", "key": "width", "ours": 512, "source": 1024}, "n 64 (source: 128)"],
        "open": ["bias"],
    }
    body = soup(cards.card(claim, found)).select_one(".claim-body")
    text = " ".join(body.get_text(" ").split())
    for said in ("Figure 4.2", "toy.peak", "peak at least 1.3 x", "peak >= 1.3", "as printed", "control", "✘ not met"):
        assert said in text
    for said in (
        "∞ (≥ 1.3)",
        "−0.7",
        "case 1024",
        "seed 101",
        "≈ close",
        "three widths",
        "Depends on: biases",
        "a note",
    ):
        assert said in text
    assert (
        "At a smaller scale than the source's: fcn, width 512 (source: 1024); n 64 (source: 128); open: bias." in text
    )
    assert "lr: 6; critical lr: 3.6" in text and "not measured yet" in text
    assert len(body.select(".claim-parts tbody tr")) == 2


def test_text_of_a_ledger_cannot_become_markup():
    part = Part("p", test="x >= 2", says=f"{{}} {NASTY}".replace("{raw}", ""))
    claim = made(where=NASTY, states=NASTY, setup=NASTY, tried=NASTY, reported={NASTY: [NASTY]}, parts=(part,))
    erratum = Erratum(NASTY, NASTY, 'x" onclick="y', "misprint", "result", NASTY)
    claim = dataclasses.replace(claim, errata=(erratum,))
    found = record(claim, FAILS, why=NASTY, note=NASTY, depends_on=[NASTY])
    found["setting"] |= {"differs": [NASTY], "open": [NASTY]}
    every = {claim.id: found}
    pages = [
        cards.card(claim, found),
        cards.verdict_table([claim], every),
        cards.differing([claim], every),
        cards.slips([claim], every),
        cards.summary([claim], every, {NASTY: [claim.id]}),
        cards.sentence(claim, found, NASTY, NASTY),
        cards.run_card({"chapter": NASTY, "preset": NASTY, "is_preset": True, "seeds": [1], "precision": NASTY}
                       | {"device": NASTY, "minutes": 2, "cite": NASTY}),
    ]  # fmt: skip
    for html in pages:
        page = soup(html)
        assert not page.find_all("script") and "<script" not in html and not page.select("[onclick]")
        assert "alert" in page.get_text() or "alert" not in html
    assert "<code>a&lt;b</code>" in pages[0] and r"\(x&lt;1\)" in pages[0]


def test_rich_marks_code_and_tex_apart():
    assert templating.rich("a `$x$` b") == "a <code>$x$</code> b"
    assert templating.rich("$a$") == r'<span class="math notranslate nohighlight">\(a\)</span>'
    assert templating.rich("costs 5 $") == "costs 5 $"


@pytest.mark.parametrize("verdict", [HOLDS, CORRECTED, FAILS])
def test_a_verdict_on_a_stand_in_is_not_one_on_the_sources_claim(verdict):
    claim = made()
    found = record(claim, verdict, word="stand-in")
    found["setting"]["differs"] = ["data mnist5k (source: cifar10)"]
    html = cards.card(claim, found)
    assert line(html).startswith(f"◌ not decided in its setting; on a stand-in: {verdict} ")
    assert f"verdict-{verdict.replace(' ', '-')}" not in html
    assert "On a stand-in, so the claim is not decided in its setting: data mnist5k (source: cifar10)." in html.replace(
        "&#39;", "'"
    )
    assert soup(html).details["data-verdict"] == f"on a stand-in: {verdict}"
    assert words.verdict_line(claim, found).startswith("toy.peak: not decided in its setting; on a stand-in: ")


def test_every_verdict_in_every_setting_has_a_badge_of_its_own():
    claim = made()
    texts = [words.standing(record(claim, v, w)).text for v in VERDICTS for w in ("source", "smaller", "stand-in")]
    assert len(set(texts)) == 3 * 3 + 2  # undecided and not testable have no setting
    assert len(set(words.SIGNS.values())) == len(words.SIGNS) == 5


def test_the_number_that_decided_is_the_closest_of_those_that_speak_for_the_verdict():
    parts = (
        Part("far", test="a >= 1", says=""),
        Part("near", test="b >= 1", says=""),
        Part("mended", test="c >= 1", says="", reads="corrected"),
        Part("shown", test="d >= 1", says="", decides=False),
    )
    claim = made(parts=parts)
    margins = {"far": 9.0, "near": 2.0, "mended": 1.0, "shown": 0.1}
    found = record(claim, parts={name: {"margin": margin} for name, margin in margins.items()})
    assert words.deciding(claim, found)["name"] == "near"
    assert words.deciding(claim, found | {"verdict": CORRECTED})["name"] == "mended"
    found["parts"]["far"] |= {"outcome": False, "margin": -9.0}
    assert words.deciding(claim, found | {"verdict": FAILS})["name"] == "far"
    assert words.deciding(claim, found | {"verdict": NOT_TESTABLE}) is None
    for part in found["parts"].values():
        part["value"] = None
    assert words.deciding(claim, found) is None
    found["parts"]["near"] |= {"value": 0.0, "margin": None}
    assert words.deciding(claim, found) == {"name": "near", "value": "0", "asked": "≥ 1.3", "margin": ""}


def test_headline_counts_only_verdicts_in_the_sources_setting():
    claims = [made(str(number)) for number in range(9)]
    verdicts = [HOLDS, FAILS, FAILS, HOLDS, FAILS, FAILS, UNDECIDED, NOT_TESTABLE, HOLDS]
    settings = ["source", "source", "smaller", "stand-in", "stand-in", "stand-in", "stand-in", "source", "source"]
    found = [record(c, v, w) for c, v, w in zip(claims, verdicts, settings, strict=True)]
    found[8] |= {"earlier": True, "setting": None}
    said = cards.headline(found)
    assert said.startswith("Of 8 testable claims, in the source's own setting 1 holds as printed, 0 with a correction")
    assert "and 1 fails." in said
    assert "At a smaller scale, 1 more was looked at" in said
    assert (
        "On a stand-in, which does not decide a claim, 3 more were looked at" in said
        and "met in 1, not met in 2." in said
    )
    assert "1 was judged by an earlier criterion." in said and "1 is undecided." in said and "1 more cannot" in said


def test_tables_have_a_row_per_claim_and_only_what_they_are_for():
    claims = [made("a"), made("b", tried="wider"), made("c")]
    found = {c.id: record(c, v) for c, v in zip(claims, (HOLDS, FAILS, UNDECIDED), strict=True)}
    found["toy.c"]["why"] = "too small"
    table = soup(cards.verdict_table(claims, found))
    assert [row["data-verdict"] for row in table.select("tbody tr")] == [HOLDS, FAILS, UNDECIDED]
    assert [link["href"] for link in table.select("a")] == ["#toy-a", "#toy-b", "#toy-c"]
    assert "too small" in table.get_text()
    differing = soup(cards.differing(claims, found))
    assert len(differing.select("tbody tr")) == 1 and "wider" in differing.get_text()
    assert "no claim fails" in cards.differing(claims[:1], found)
    summary = soup(cards.summary(claims, found, {"NTK": ["a"], "chain": ["toy.b"]}))
    assert [cell.get_text() for cell in summary.select("tbody td:first-child")] == ["NTK", "chain"]
    with pytest.raises(InputError, match="claim 'd'"):
        cards.summary(claims, found, {"NTK": ["d"]})


def test_a_sentence_is_chosen_by_the_verdict_and_names_its_setting():
    claim = made()
    chosen = {"holds": "It does.", "fails": "It does not.", "otherwise": ""}
    assert "It does." in cards.sentence(claim, record(claim), **chosen)
    assert cards.sentence(claim, record(claim, UNDECIDED), **chosen) == ""
    elsewhere = cards.sentence(claim, record(claim, FAILS, "stand-in"), **chosen)
    assert "It does not." in elsewhere and "not decided in its setting" in elsewhere


def test_a_marker_says_what_is_shown():
    claim = made()
    found = {claim.id: record(claim)}
    assert cards.shown({"show": "claim", "id": claim.id}, [claim], found) == cards.card(claim, found[claim.id])
    assert cards.shown({"show": "verdicts"}, [claim], found) == cards.verdict_table([claim], found)
    said = cards.shown({"show": "sentence", "id": claim.id, "holds": "Yes.", "fails": "No."}, [claim], found)
    assert "Yes." in said
    with pytest.raises(InputError, match="what to show 'clam'"):
        cards.shown({"show": "clam", "id": claim.id}, [claim], found)
    assert "<style>" in cards.styled("x") and ".verdict" in cards.styled("x")


def test_an_earlier_record_is_shown_as_it_was_recorded():
    claim = made()
    old = {"id": claim.id, "verdict": FAILS, "why": "", "parts": {"spike": [True, False], "control": None}}
    old |= {"measured": {"some_ratio": [0.25, 0.5, 0.75]}, "stand_in": "patches", "note": "", "earlier": True}
    text = " ".join(soup(cards.card(claim, old)).get_text(" ").split())
    assert "judged by an earlier criterion: fails" in text and "1 of 2 seeds" in text and "Stand-in: patches" in text
    assert "margin 2" not in text and "verdict-fails" not in cards.card(claim, old)
    assert rows.measured_items(claim, old) == [("some ratio", "0.25 / 0.5 / 0.75 (3)")]


def test_stability_and_definitions_have_their_place():
    claim = made()
    found = record(claim, definitions={"fcn.rise": 0.1}, stability={"share": 0.92, "low": 0.82, "high": 1.0})
    text = " ".join(soup(cards.card(claim, found)).get_text(" ").split())
    assert "repeated in 92 % of redraws (82 % to 100 %)" in text
    assert "Definitions: fcn.rise: 0.1" in text


def test_short_cuts_between_words_and_never_inside_tex():
    text = (
        "One step multiplies " + "the distance " * 5 + r"$\alpha + \beta + \gamma + \delta + \epsilon + \zeta$ and more"
    )
    cut = words.short(text, 100)
    assert cut.endswith("…") and cut.count("$") % 2 == 0 and len(cut) <= 102
    assert words.short("A short one.") == "A short one."
    assert words.short(r"$a$", 1).count("$") % 2 == 0


def test_spread_shows_minimum_median_maximum_and_count():
    assert words.spread([3.0, 1.0, 2.0]) == "1 / 2 / 3 (3)"
    assert words.spread([1.0, 2.0, float("nan"), None]) == "1 / 1.5 / 2 (2)"
    assert words.spread(0.123456) == "0.123"
    assert words.neat(6.384e8) == "6.38·10⁸" and words.neat(1e-12) == "10⁻¹²" and words.neat(-0.5) == "−0.5"
    assert words.number("inf") == "∞" and words.number(float("-inf")) == "-∞" and words.number(None) == "–"


def test_rounding_dominated_numbers_do_not_flip():
    assert words.order_of_magnitude(3.1e-16) == words.order_of_magnitude(9.9e-10) == "tiny"
    assert words.order_of_magnitude(0.0) == "tiny"
    assert words.order_of_magnitude(-2.5e-3) == "-1e-3"
    assert words.order_of_magnitude(0.998) == words.order_of_magnitude(1.002) == "1e0"
    assert words.order_of_magnitude(float("inf")) == "inf"


def test_the_style_has_every_class_that_a_badge_can_have():
    style = templating.style()
    for verdict in ("holds", "holds-with-correction", "fails", "undecided", "not-testable", "elsewhere", "earlier"):
        assert re.search(rf"\.verdict-{verdict}\b", style)
