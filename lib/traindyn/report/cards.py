"""How claims and verdicts look: cards, tables, sentences, made from a ledger's claims and the records of a run.

A notebook shows each with a *marker* in the output's metadata; when the book is staged, `shown` is asked again with the
present ledger, so that wording and looks change without a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from traindyn.errors import choose
from traindyn.report import templating, words
from traindyn.report.claims import CORRECTED, FAILS, HOLDS, NOT_TESTABLE, UNDECIDED, Claim
from traindyn.report.language import parse
from traindyn.report.templating import render, rich
from traindyn.report.words import Record

__all__ = [
    "card",
    "differing",
    "plain",
    "rich",
    "run_card",
    "sentence",
    "shown",
    "slips",
    "styled",
    "summary",
    "verdict_table",
]


def card(claim: Claim, record: Record) -> str:
    """Return a checked claim as one line that unfolds to its criterion, margins, setting and what was tried."""
    return render("claim.html", claim=claim, record=record)


def verdict_table(claims: Iterable[Claim], records: Mapping[str, Record]) -> str:
    """Return a chapter's verdicts as a table that links to each claim's place."""
    return render("verdicts.html", rows=_pairs(claims, records))


def differing(claims: Iterable[Claim], records: Mapping[str, Record]) -> str:
    """Return the claims that fail or need a correction, in what setting, with what was tried."""
    rows = [pair for pair in _pairs(claims, records) if pair[1]["verdict"] in (FAILS, CORRECTED)]
    return render("differing.html", rows=rows)


def slips(claims: Iterable[Claim], records: Mapping[str, Record]) -> str:
    """Return the errata of a chapter's ledger, each with its cell."""
    rows = [
        {"title": "", "claim": claim, "erratum": erratum, "page": "", "record": records.get(claim.id)}
        for claim in claims
        for erratum in claim.errata
    ]
    return render("errata.html", rows=rows)


def summary(
    claims: Iterable[Claim], records: Mapping[str, Record], groups: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Return how a chapter's claims came out, in one sentence, below a table of some of them.

    Args:
        claims: the ledger.
        records: the entries of `claims.json` by claim id.
        groups: {heading: claim names} of the table; no table if None.
    """
    claims = list(claims)
    known = {name: claim for claim in claims for name in (claim.id, claim.id.split(".", 1)[1])}
    rows = []
    for group, names in (groups or {}).items():
        for name in names:
            claim = known[choose("claim", name, known)]
            if claim.id in records:
                rows.append((group, claim, records[claim.id]))
    found = [record for _, record in _pairs(claims, records)]
    return render("summary.html", rows=rows, grouped=len(groups or {}) > 1, sentence=headline(found))


def sentence(claim: Claim, record: Record, holds: str, fails: str, otherwise: str = "") -> str:
    """Return the sentence that a verdict chooses, with the setting named where it is not the source's.

    Args:
        claim, record: the claim and its entry of `claims.json`.
        holds, fails: said where the claim holds, fails.
        otherwise: said where it holds with a correction or is undecided.
    """
    text = {HOLDS: holds, FAILS: fails}.get(record["verdict"], otherwise)
    if not text:
        return ""
    note = {words.SMALLER: "at a smaller scale", words.STAND_IN: "seen on a stand-in; not decided in its setting"}
    said = "" if record["verdict"] in (UNDECIDED, NOT_TESTABLE) else note.get(words.setting_word(record), "")
    return render("sentence.html", claim=claim, record=record, text=text, note=said)


def run_card(run: Mapping[str, Any]) -> str:
    """Return what a run is.

    Args:
        run: chapter, preset, is_preset, seeds, precision, device, minutes, cite (text or None).
    """
    return render("card.html", run={"cite": None, **run})


def shown(marker: Mapping[str, Any], claims: Iterable[Claim], records: Mapping[str, Record]) -> str:
    """Return the HTML that a marker in a notebook's output asks for.

    Args:
        marker: `show` (claim, verdicts, differing, slips, card, sentence, summary), `id` of a claim, and what else the
            function of that name takes.
        claims: the present ledger.
        records: the entries of `claims.json` by claim id.
    """
    claims = list(claims)
    show = choose("what to show", marker["show"], _SHOWS)
    if show in ("claim", "sentence"):
        known = {claim.id: claim for claim in claims}
        claim = known[choose("claim", marker["id"], known)]
        said = {key: marker[key] for key in ("holds", "fails", "otherwise") if key in marker}
        return _SHOWS[show](claim, records[claim.id], **(said if show == "sentence" else {}))
    if show == "card":
        return run_card(marker["run"])
    if show == "summary":
        return summary(claims, records, marker.get("groups"))
    return _SHOWS[show](claims, records)


def plain(marker: Mapping[str, Any], claims: Iterable[Claim], records: Mapping[str, Record]) -> str:
    """Return the text that stands for a marked output where HTML is not shown: a claim's verdict in one line."""
    claim = next((claim for claim in claims if claim.id == marker.get("id")), None)
    return words.verdict_line(claim, records[claim.id]) if claim else f"<{marker['show']}>"


def styled(html: str) -> str:
    """Return a card or table with its style, for a notebook that is opened outside the book."""
    return f"<style>{templating.style()}</style>\n{html}"


_SHOWS = {
    "claim": card,
    "verdicts": verdict_table,
    "differing": differing,
    "slips": slips,
    "card": run_card,
    "sentence": sentence,
    "summary": summary,
}


def headline(records: Sequence[Record]) -> str:
    """Return counts of verdicts as a sentence: those in the source's setting are the headline, others stand beside."""
    found = [words.standing(record).label for record in records]
    tested = [record for record in records if record["verdict"] != NOT_TESTABLE]
    text = f"Of {len(tested)} testable claims, in the source's own setting {found.count(HOLDS)} "
    text += f"{_verb(found.count(HOLDS), 'holds', 'hold')} as printed, {found.count(CORRECTED)} with a correction, and "
    text += f"{found.count(FAILS)} {_verb(found.count(FAILS), 'fails', 'fail')}."
    beside = {words.SMALLER: "At a smaller scale", words.STAND_IN: "On a stand-in, which does not decide a claim"}
    for word, where in beside.items():
        seen = seen_in(records, word)
        if total := sum(seen.values()):
            text += f" {where}, {total} more {_verb(total, 'was', 'were')} looked at: the criterion was {met(seen)}."
    if earlier := sum(bool(record.get("earlier")) for record in tested):
        text += f" {earlier} {_verb(earlier, 'was', 'were')} judged by an earlier criterion."
    if count := found.count(UNDECIDED):
        text += f" {count} {_verb(count, 'is', 'are')} undecided."
    if count := len(records) - len(tested):
        text += f" {count} more cannot be tested and {_verb(count, 'is', 'are')} listed for completeness."
    return text


def seen_in(records: Iterable[Record], word: str) -> dict[str, int]:
    """Return how often each decided verdict was reached in one setting."""
    found = [r["verdict"] for r in records if not r.get("earlier") and words.setting_word(r) == word]
    return {verdict: found.count(verdict) for verdict in (HOLDS, CORRECTED, FAILS)}


def met(seen: Mapping[str, int]) -> str:
    """Return counts of verdicts that are none on the claim itself, in words: "met in 3, not met in 1"."""
    said = {HOLDS: "met", CORRECTED: "met with a correction", FAILS: "not met"}
    return ", ".join(f"{said[verdict]} in {count}" for verdict, count in seen.items() if count)


def _verb(count: int, one: str, many: str) -> str:
    return one if count == 1 else many


def _pairs(claims: Iterable[Claim], records: Mapping[str, Record]) -> list[tuple[Claim, Record]]:
    return [(claim, records[claim.id]) for claim in claims if claim.id in records]


def text_lines(claims: Iterable[Claim], records: Mapping[str, Record]) -> str:
    """Return every verdict with the deciding value of each part as plain text, which a test compares to the letter."""
    lines = []
    for claim, record in _pairs(claims, records):
        lines.append(f"{claim.id}: {record['verdict']}")
        coarse = coarse_parts(claim)
        for name, value in deciding_values(claim, record).items():
            lines.append(f"    {name} = {words.spread(value, name in coarse)}")
    return "\n".join(lines)


def deciding_values(claim: Claim, record: Record) -> dict[str, Any]:
    """Return {part: the value that decided it} of the deciding parts; what was measured, in a run of the old form."""
    if "measured" in record:
        return dict(record["measured"])
    parts = record["parts"]
    return {
        part.name: words.real(parts[part.name]["value"]) for part in claim.parts if part.decides and part.name in parts
    }


def coarse_parts(claim: Claim) -> set[str]:
    """Return the names whose numbers rounding rules: those in `coarse`, and parts whose tests ask for one of them."""
    coarse = set(claim.coarse)
    return coarse | {part.name for part in claim.parts if coarse & set(parse(part.test).names)}
