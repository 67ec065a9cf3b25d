"""How a claim and its verdict look: one HTML card under its cell, one row in a table, one line of text."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from traindyn.report.claims import Claim
from traindyn.report.language import parse

# a sign beside the word: colour is never the only carrier
SIGNS = {"holds": "✔", "holds with correction": "✎", "fails": "✘", "undecided": "?", "not testable": "–"}
ROLES = {
    "printed": "as printed",
    "corrected": "corrected",
    "weaker": "weaker reading",
    "control": "control",
    "sensitivity": "sensitivity",
}


def badge(verdict: str) -> str:
    """Return a verdict as an HTML badge: a sign and the word."""
    return f'<span class="verdict verdict-{verdict.replace(" ", "-")}">{SIGNS[verdict]} {verdict}</span>'


def rich(text: str) -> str:
    """Return text with TeX between dollars as HTML in which MathJax finds the TeX, and code between backticks."""
    text = html.escape(str(text), quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(r"\$([^$]+)\$", r'<span class="math notranslate nohighlight">\\(\1\\)</span>', text)


def number(value: float | int | bool | None, digits: int = 3) -> str:
    """Return a number with `digits` significant digits; None and NaN are a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def order_of_magnitude(value: float | None) -> str:
    """Return "tiny" below 1e-8, where rounding rules, else the nearest power of ten, such as "1e-3"."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "inf"
    if abs(value) < 1e-8:
        return "tiny"
    return f"{'-' if value < 0 else ''}1e{round(math.log10(abs(value)))}"


def spread(value: Any, coarse: bool = False) -> str:
    """Return a measured value as text: one number, or "minimum / median / maximum (count)" of a list over seeds."""
    show = order_of_magnitude if coarse else number
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return show(value)
    known = sorted(v for v in value if v is not None and not math.isnan(v))
    if not known:
        return "–"
    middle = (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2
    return f"{show(known[0])} / {show(middle)} / {show(known[-1])} ({len(known)})"


def _value(claim: Claim, name: str, value: Any) -> str:
    if not isinstance(value, Mapping):  # a run from before evidence was kept
        value = {"outcome": all(value) if isinstance(value, list) else value}
    truth = value["outcome"]
    if truth is None:
        return "not in this run"
    said = f": {number(value['value'])}" if value.get("value") is not None else ""
    return f"{'✔ yes' if truth else '✘ no'}{said}"


def deciding_values(claim: Claim, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return {part: the value that decided it} of the deciding parts; what was measured, in a run of the old form."""
    if "measured" in record:
        return dict(record["measured"])
    parts = record["parts"]
    return {
        part.name: None if (value := parts[part.name]["value"]) is None else float(value)
        for part in claim.parts
        if part.decides and part.name in parts
    }


def coarse_parts(claim: Claim) -> set[str]:
    """Return the names whose numbers rounding rules: those in `coarse`, and parts whose tests ask for one of them."""
    coarse = set(claim.coarse)
    return coarse | {part.name for part in claim.parts if part.test and coarse & set(parse(part.test).names)}


def parts_table(claim: Claim, values: Mapping[str, Any]) -> str:
    """Return the criterion as an HTML table: each part's statement, its role and, where known, its outcome."""
    rows = "".join(
        f"<tr><td>{rich(part.statement)}</td>"
        f"<td>{ROLES[part.reads]}{'' if part.decides else ', shown only'}</td>"
        f"<td>{_value(claim, part.name, values[part.name]) if part.name in values else ''}</td></tr>"
        for part in claim.parts
    )
    return f'<table class="claim-parts"><tr><th>criterion</th><th>reading</th><th>outcome</th></tr>{rows}</table>'


def measured_list(measured: Mapping[str, Any], coarse: Iterable[str] = ()) -> str:
    """Return measured numbers as an HTML list; lists over seeds as minimum / median / maximum (count)."""
    items = "; ".join(
        f"{html.escape(name.replace('_', ' '))}: <b>{html.escape(spread(value, name in set(coarse)))}</b>"
        for name, value in measured.items()
    )
    return f'<p class="claim-measured">Measured: {items}</p>' if items else ""


def card(claim: Claim, record: Mapping[str, Any]) -> str:
    """Return the HTML card of a checked claim.

    Args:
        claim: its ledger entry.
        record: its entry of `claims.json`.
    """
    notes = [record.get("why"), record.get("note")]
    if record.get("stand_in"):
        notes.append(f"Stand-in: {record['stand_in']}")
    if record.get("depends_on"):
        notes.append(f"Depends on: {', '.join(record['depends_on'])}")
    if record["verdict"] == "fails" and claim.tried:
        notes.append(f"What was tried: {claim.tried}")
    said = "".join(f'<p class="claim-note">{rich(note)}</p>' for note in notes if note)
    return (
        f'<div class="claim"><p class="claim-head">{badge(record["verdict"])} <code>{claim.id}</code> '
        f"<span>{rich(claim.where)}</span></p>"
        f'<p class="claim-states">{rich(claim.states)}</p>'
        f"{_setup(claim)}"
        f"{parts_table(claim, record['parts'])}"
        f"{measured_list(deciding_values(claim, record), coarse_parts(claim))}{said}</div>"
    )


def _setup(claim: Claim) -> str:
    return f'<p class="claim-setup">Set-up: {rich(claim.setup)}</p>' if claim.setup else ""


def verdict_table(claims: Iterable[Claim], records: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a chapter's verdicts as an HTML table that links to each claim's cell."""
    rows = "".join(
        f'<tr data-verdict="{records[claim.id]["verdict"]}"><td><a href="#{claim.anchor}">{claim.id.split(".", 1)[1]}'
        f"</a></td><td>{rich(claim.where)}</td><td>{badge(records[claim.id]['verdict'])}</td>"
        f"<td>{_folded(measured_list(deciding_values(claim, records[claim.id]), coarse_parts(claim)))}</td></tr>"
        for claim in claims
    )
    return (
        '<div class="verdict-table"><table><thead><tr><th>claim</th><th>place</th><th>verdict</th><th>measured</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _folded(measured: str) -> str:
    return f"<details><summary>numbers</summary>{measured}</details>" if measured else ""


def text_lines(claims: Iterable[Claim], records: Mapping[str, Mapping[str, Any]]) -> str:
    """Return every verdict with its parts and numbers as plain text, which a test compares to the letter."""
    lines = []
    for claim in claims:
        record = records[claim.id]
        lines.append(f"{claim.id}: {record['verdict']}")
        coarse = coarse_parts(claim)
        for name, value in deciding_values(claim, record).items():
            lines.append(f"    {name} = {spread(value, name in coarse)}")
    return "\n".join(lines)
