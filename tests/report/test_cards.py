"""Numbers and verdicts as text."""

import math

from traindyn.report import cards
from traindyn.report.claims import Claim, Erratum, Part


def test_spread_shows_minimum_median_maximum_and_count():
    assert cards.spread([3.0, 1.0, 2.0]) == "1 / 2 / 3 (3)"
    assert cards.spread([1.0, 2.0, float("nan"), None]) == "1 / 1.5 / 2 (2)"
    assert cards.spread(0.123456) == "0.123"


def test_rounding_dominated_numbers_do_not_flip():
    assert cards.order_of_magnitude(3.1e-16) == cards.order_of_magnitude(9.9e-10) == "tiny"
    assert cards.order_of_magnitude(0.0) == "tiny"
    assert cards.order_of_magnitude(-2.5e-3) == "-1e-3"
    assert cards.order_of_magnitude(0.998) == cards.order_of_magnitude(1.002) == "1e0"
    assert cards.order_of_magnitude(math.inf) == "inf"


def test_card_escapes_text_and_keeps_tex():
    part = Part("p", "error < 1", "error $x<1$ & `code`")
    claim = Claim(id="toy.one", where="Eq. <1>", kind="theorem", states="It holds.", setup="$n=3$", parts=(part,))
    record = {"verdict": "fails", "parts": {"p": {"outcome": False, "value": 1.25}}}
    text = cards.card(claim, record)
    assert "Eq. &lt;1&gt;" in text
    assert r"\(x&lt;1\)" in text and "<code>code</code>" in text and "&amp;" in text
    assert "no: 1.25" in text and "✘ fails" in text
    assert 'Set-up: <span class="math notranslate nohighlight">' in text and r"\(n=3\)" in text


def test_every_verdict_has_its_own_sign():
    assert len(set(cards.SIGNS.values())) == len(cards.SIGNS) == 5


def test_text_lines_hold_every_claim():
    claims = [Claim(id=f"toy.{i}", where="", kind="", states="", errata=(Erratum("", "", "", "", ""),)) for i in "ab"]
    records = {c.id: {"verdict": "holds", "measured": {"gap": 1e-12}} for c in claims}
    assert cards.text_lines(claims, records).count("holds") == 2
