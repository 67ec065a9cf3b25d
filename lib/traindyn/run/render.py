"""The generated parts of pages: scorecard, errata, the table of chapters, and where this build's numbers come from.

A page says where a part goes: the lines between `% begin generated NAME` and `% end generated` are replaced.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from typing import Any

from traindyn.errors import InputError
from traindyn.report.cards import badge, coarse_parts, deciding_values, number, parts_table, rich, spread
from traindyn.report.claims import CONSEQUENCES, VERDICTS, Claim, Erratum
from traindyn.run.results import Findings, Outcome, counts, is_stale, surprises, testable

_PART = re.compile(r"^% begin generated (\S+)$.*?^% end generated$", re.MULTILINE | re.DOTALL)
CONSEQUENCE_WORDS = {
    "result": "A stated result changes",
    "proof": "An argument changes, the result stands",
    "cosmetic": "Slips that change nothing",
}


def fill(page: str, book: Sequence[Findings]) -> str:
    """Return a page with its generated parts filled in.

    Args:
        page: the page's text.
        book: the findings of every chapter, in the book's order.

    Raises:
        InputError: the page asks for a part that does not exist.
    """

    def part(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in PARTS:
            raise InputError(f"a page asks for the generated part '{name}'; known: {', '.join(PARTS)}")
        return PARTS[name](book)

    return _PART.sub(part, page)


def scorecard(book: Sequence[Findings]) -> str:
    """Return every claim of every chapter: place, statement, criterion, reported, measured, verdict per preset."""
    text = []
    for found in book:
        rows = "".join(_claim_row(found, claim) for claim in found.claims)
        table = _table("verdict-table scorecard", ("Claim", "Criterion, reported, measured", "Verdict"), rows)
        text.append(f"## {found.title}\n\n{_sentence(found, found.outcomes[0])}\n\n{table}\n")
    return "\n".join(text)


def _sentence(found: Findings, outcome: Outcome) -> str:
    tally = counts(found.claims, outcome)
    good = tally.get("holds", 0)
    mended = tally.get("holds with correction", 0)
    text = f"Of {testable(found.claims)} testable claims, {good} hold as printed"
    text += f", {mended} hold with a correction, {tally.get('fails', 0)} fail and {tally.get('undecided', 0)} "
    text += f"are undecided at the {outcome.preset} preset."
    if untestable := len(found.claims) - testable(found.claims):
        text += f" {untestable} more cannot be tested and are listed for completeness."
    if different := surprises(found.claims, outcome):
        text += f" **{len(different)} verdicts differ from the recorded ones.**"
    return text


def _claim_row(found: Findings, claim: Claim) -> str:
    record = found.outcomes[0].records[claim.id]
    link = f"../chapters/{found.chapter}/{found.chapter}.html#{claim.anchor}"
    name = claim.id.split(".", 1)[1]
    known = [outcome for outcome in found.outcomes if claim.id in outcome.records]
    parts = parts_table(claim, record["parts"])
    criterion = f"<details><summary>{_criterion_summary(claim)}</summary>{parts}</details>" if claim.parts else ""
    rows = [("criterion", criterion or rich(claim.not_testable or ""))]
    rows += [] if claim.reported is None else [("reported", _reported(claim.reported))]
    rows += [(f"measured, {_run_name(outcome)}", _measured(claim, outcome)) for outcome in known]
    facts = "".join(f"<dt>{word}</dt><dd>{said}</dd>" for word, said in rows if said)
    return (
        f'<tr data-verdict="{record["verdict"]}">'
        f'<td><a href="{link}"><code>{name}</code></a><br>{rich(claim.where)}<p>{rich(claim.states)}</p></td>'
        f"<td><dl>{facts}</dl></td>"
        f"<td>{''.join(_verdict(found, claim, outcome) for outcome in known)}</td></tr>"
    )


def _criterion_summary(claim: Claim) -> str:
    deciding = [part for part in claim.parts if part.decides]
    first = next((part for part in deciding if part.reads == "printed"), claim.parts[0])
    more = len(claim.parts) - 1
    return rich(first.statement) + (f" <em>and {more} more</em>" if more else "")


def _verdict(found: Findings, claim: Claim, outcome: Outcome) -> str:
    record = outcome.records[claim.id]
    notes = [] if claim.not_testable else [record.get("why") or ""]
    if record.get("depends_on"):
        notes.append(f"depends on: {', '.join(record['depends_on'])}")
    if record.get("stand_in"):
        notes.append(f"stand-in: {record['stand_in']}")
    if outcome.archived and is_stale(claim, outcome):
        notes.append("the criterion has changed since this run")
    notes += [f"recorded: {expected}" for name, expected, _ in surprises([claim], outcome) if name == claim.id]
    said = "".join(f'<span class="claim-note">{rich(note)}</span>' for note in notes if note)
    return f'<p><span class="preset">{_run_name(outcome)}</span> {badge(record["verdict"])}{said}</p>'


def _run_name(outcome: Outcome) -> str:
    own = "" if outcome.is_preset else ", own parameters"
    return f"{outcome.preset}{' (archived)' if outcome.archived else ''}{own}"


def _measured(claim: Claim, outcome: Outcome) -> str:
    return "".join(
        f'<span class="measure">{html.escape(name.replace("_", " "))}: '
        f"<b>{html.escape(spread(value, name in coarse_parts(claim)))}</b></span>"
        for name, value in deciding_values(claim, outcome.records[claim.id]).items()
    )


def _reported(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        return "; ".join(f"{rich(str(key).replace('_', ' '))}: {_reported(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_reported(item) for item in value)
    return rich(str(value))


def errata(book: Sequence[Findings]) -> str:
    """Return what is printed and what we find, by consequence; settings that are merely not given stand apart."""
    entries = [(found, claim, erratum) for found in book for claim in found.claims for erratum in claim.errata]
    text = []
    for consequence in CONSEQUENCES:
        chosen = [e for e in entries if e[2].consequence == consequence and e[2].status != "setting not given"]
        if chosen:
            text.append(f"## {CONSEQUENCE_WORDS[consequence]}\n\n{_errata_table(chosen)}")
    if missing := [entry for entry in entries if entry[2].status == "setting not given"]:
        text.append(
            "## Settings that are not given\n\nThese are not errors: the text does not say which setting was used, "
            f"and the outcome depends on it.\n\n{_errata_table(missing)}"
        )
    return "\n\n".join(text) or "No entry yet."


def _errata_table(entries: Sequence[tuple[Findings, Claim, Erratum]]) -> str:
    rows = ""
    for found, claim, erratum in entries:
        link = f"../chapters/{found.chapter}/{found.chapter}.html#{erratum.evidence.lower()}"
        verdict = found.outcomes[0].records[claim.id]["verdict"]
        version = f"<br>{rich(erratum.version)}" if erratum.version else ""
        rows += (
            f"<tr><td>{html.escape(found.title)}<br>{rich(claim.where)}{version}</td>"
            f"<td><dl><dt>printed</dt><dd>{rich(erratum.printed)}</dd>"
            f"<dt>we find</dt><dd>{rich(erratum.right)}</dd></dl></td>"
            f'<td>{html.escape(erratum.status)}<br>{badge(verdict)}<br><a href="{link}">see the cell</a></td></tr>'
        )
    return _table("errata-table", ("Where", "What is printed, what we find", "Status"), rows)


def chapters(book: Sequence[Findings]) -> str:
    """Return the table of chapters: how many claims each has and how they came out, per run."""
    rows = ""
    for found in book:
        link = f'<a href="../chapters/{found.chapter}/{found.chapter}.html">{html.escape(found.title)}</a>'
        for outcome in found.outcomes:
            tally = counts(found.claims, outcome)
            numbers = "".join(f"<td>{tally.get(verdict, 0)}</td>" for verdict in VERDICTS)
            rows += f"<tr><td>{link}</td><td>{_run_name(outcome)}</td><td>{len(found.claims)}</td>{numbers}</tr>"
    return _table("table-box", ("Chapter", "Run", "Claims", *map(str.capitalize, VERDICTS)), rows)


def provenance(book: Sequence[Findings]) -> str:
    """Return where the numbers of this build come from: preset, seeds, device, precision, versions, time, memory."""
    rows, versions = "", {}
    for found in book:
        for outcome in found.outcomes:
            about = outcome.about
            versions = versions or about.get("versions", {})
            seeds = about.get("seeds") or ["–"]
            git = about.get("git") or {}
            revision = (git.get("commit") or "–")[:9] + (" + changes" if git.get("changed") else "")
            memory = about.get("peak_memory_mb")
            cells = (
                html.escape(found.title),
                _run_name(outcome),
                f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0]),
                about.get("dtype", "–"),
                (about.get("device") or {}).get("name", "–"),
                number(about.get("wall_seconds", 0) / 60, 2),
                "–" if memory is None else f"{memory / 1024:.1f} GB",
                f"<code>{html.escape(revision)}</code>",
            )
            rows += "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    words = ("Chapter", "Run", "Seeds", "Precision", "Device", "Minutes", "Memory", "Revision")
    return f"{_table('table-box', words, rows)}\n\nVersions: {said}."


def _table(style: str, words: Sequence[str], rows: str) -> str:
    head = "".join(f'<th scope="col">{word}</th>' for word in words)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'```{{raw}} html\n<div class="{style}">{table}</div>\n```'


PARTS: dict[str, Callable[[Sequence[Findings]], str]] = {
    "chapters": chapters,
    "scorecard": scorecard,
    "errata": errata,
    "provenance": provenance,
}
