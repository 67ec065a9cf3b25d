"""What cards and the scorecard say of a claim, as text: the criterion part by part, remarks, older numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from traindyn.report import words
from traindyn.report.claims import Claim
from traindyn.report.words import Record


def first_part(claim: Claim) -> str:
    """Return the statement of the part that stands for a criterion: the first deciding printed one."""
    printed = [part for part in claim.parts if part.decides and part.reads == "printed"]
    return (printed or list(claim.parts))[0].statement


def criterion_rows(claim: Claim, record: Record) -> list[dict[str, Any]]:
    """Return one row per part of the criterion as text: what it says, its test, its outcome in a run, its margin."""
    rows = []
    for part in claim.parts:
        found = record["parts"].get(part.name)
        compared = found if isinstance(found, Mapping) else {}
        seeds = compared.get("seeds")
        rows.append(
            {
                "says": part.statement,
                "test": part.test,
                "reads": words.ROLES[part.reads] + ("" if part.decides else ", shown only"),
                "outcome": _outcome(found, part.name in record["parts"]),
                "value": words.neat(words.real(compared.get("value"))),
                "asked": words.asked(compared),
                "margin": words.margin(compared),
                "place": _place(compared),
                "reason": compared.get("reason") or "",
                "seeds": "–" if seeds is None else str(seeds),
                "close": bool(compared.get("close")),
            }
        )
    return rows


def _outcome(found: Any, known: bool) -> str:
    if not known:
        return "not judged"
    value = found.get("outcome") if isinstance(found, Mapping) else found
    if isinstance(value, list):
        return f"{sum(bool(item) for item in value)} of {len(value)} seeds"
    return {True: "✔ met", False: "✘ not met", None: "not in this run"}[value]


def _place(part: Mapping[str, Any]) -> str:
    """Return which seed and case a deciding comparison belongs to."""
    case = part.get("case")
    text = ", ".join(str(item) for item in case) if isinstance(case, list | tuple) else case
    found = [f"case {text}"] if text not in (None, "") else []
    found += [f"seed {part['seed']}"] if part.get("seed") is not None else []
    return ", ".join(found)


def remarks(claim: Claim, record: Record) -> list[tuple[str, str]]:
    """Return what else is said of a verdict, as (heading, text)."""
    found = [
        ("Why:", record.get("why")),
        ("Note:", record.get("note")),
        ("Depends on:", ", ".join(record.get("depends_on") or [])),
        ("The source reports:", None if claim.reported is None else words.reported(claim.reported)),
        ("What was tried:", claim.tried),
        ("Close:", _close(record)),
        ("Definitions:", words.reported(record.get("definitions") or None)),
    ]
    if claim.parts:
        found.append(("Stability over redraws of the seeds:", words.stability(record)))
    return [(word, text) for word, text in found if text and text != "–"]


def _close(record: Record) -> str:
    close = record.get("close")
    if not close:
        return ""
    detail = f" ({', '.join(map(str, close))})" if isinstance(close, list | tuple) else ""
    detail = f" ({close})" if isinstance(close, str) else detail
    return f"one part within one spread of its threshold, or one threshold moved by a tenth, would change it{detail}"


def measured_items(claim: Claim, record: Record) -> list[tuple[str, str]]:
    """Return the numbers that an earlier run recorded beside its outcomes, as text."""
    found = record.get("measured") or {}
    return [(name.replace("_", " "), words.spread(value, name in claim.coarse)) for name, value in found.items()]
