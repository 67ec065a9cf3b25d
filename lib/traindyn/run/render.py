"""The generated parts of pages: scorecard, errata, the table of chapters, and where this build's numbers come from.

A page says where a part goes: the lines between `% begin generated NAME` and `% end generated` are replaced. Tables go
into files of their own beside the page, so that nothing in them can end the directive that shows them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from traindyn.errors import InputError
from traindyn.report import cards, words
from traindyn.report.claims import CONSEQUENCES, CORRECTED, FAILS, HOLDS, NOT_TESTABLE, UNDECIDED, Claim, Erratum
from traindyn.report.templating import render
from traindyn.run import sweep_archive, sweep_plot
from traindyn.run.results import Findings, Outcome, speaking, spoken, surprises

_PART = re.compile(r"^% begin generated (\S+)$.*?^% end generated$", re.MULTILINE | re.DOTALL)
CONSEQUENCE_WORDS = {
    "result": "A stated result changes",
    "proof": "An argument changes, the result stands",
    "cosmetic": "Slips that change nothing",
}
MISSING = (
    "These are not errors: the text does not say which setting was used, and the outcome depends on it. They are not "
    "counted among the errata above."
)
STEADY = 0.95  # share of redraws from which on a verdict is not listed
# Markdown (False), the HTML of a table (True), or an SVG with its alternative text and caption
Piece = tuple[str, bool | tuple[str, str]]


def fill(page: str, book: Sequence[Findings], name: str = "page") -> tuple[str, dict[str, str]]:
    """Return a page with its generated parts filled in, and the files that they need beside it.

    Args:
        page: the page's text.
        book: the findings of every chapter, in the book's order.
        name: the page's name without its ending; the files are called `_generated/<name>-<part>-<number>`.

    Returns:
        The page's text, and {file name: HTML or SVG}.

    Raises:
        InputError: the page asks for a part that does not exist.
    """
    tables: dict[str, str] = {}

    def part(match: re.Match[str]) -> str:
        wanted = match.group(1)
        if wanted not in PARTS:
            raise InputError(f"a page asks for the generated part '{wanted}'; known: {', '.join(PARTS)}")
        text = []
        for piece, kind in PARTS[wanted](book):
            place = f"_generated/{name}-{wanted}-{len(tables) + 1}"
            if kind is True:
                tables[f"{place}.html"] = piece + "\n"
                piece = f"```{{raw}} html\n:file: {place}.html\n```"
            elif kind:
                tables[f"{place}.svg"] = piece
                piece = f"```{{figure}} {place}.svg\n:alt: {kind[0]}\n\n{kind[1]}\n```"
            text.append(piece)
        return "\n\n".join(text)

    return _PART.sub(part, page), tables


def scorecard(book: Sequence[Findings]) -> list[Piece]:
    """Return every claim of every chapter: place, statement, criterion, reported, what decided, verdict per run."""
    pieces: list[Piece] = []
    for found in book:
        rows = [_row(found, claim) for claim in found.claims]
        pieces += [(f"## {found.title}\n\n{_sentence(found)}", False), (render("scorecard.html", rows=rows), True)]
    return pieces


def _sentence(found: Findings) -> str:
    text = cards.headline(list(spoken(found).values()))
    if different := surprises(found.claims, found.outcomes[0]):
        some = "verdict differs" if len(different) == 1 else "verdicts differ"
        text += f" **{len(different)} {some} from the recorded ones.**"
    return text


def _row(found: Findings, claim: Claim) -> dict[str, object]:
    speaker, record = speaking(found, claim)
    others = [outcome for outcome in found.outcomes if outcome is not speaker and claim.id in outcome.records]
    return {
        "claim": claim,
        "record": record,
        "page": _page(found.chapter),
        "runs": [
            {"name": _run_name(run), "record": run.records[claim.id], "notes": _notes(claim, run)}
            for run in (speaker, *others)
        ],
    }


def _page(chapter: str) -> str:
    return f"../chapters/{chapter}/{chapter}.html"


def _notes(claim: Claim, outcome: Outcome) -> list[tuple[str, str]]:
    record = outcome.records[claim.id]
    notes = [("", "" if claim.not_testable else record.get("why") or "")]
    notes += [("depends on:", ", ".join(record.get("depends_on") or []))]
    notes += [("recorded:", expected) for name, expected, _ in surprises([claim], outcome)]
    if outcome.archived and not record.get("earlier") and record.get("changed"):
        notes.append(("", "the criterion has changed since this run; the verdict is the present one's"))
    return [note for note in notes if note[1]]


def _run_name(outcome: Outcome) -> str:
    own = "" if outcome.is_preset else ", own parameters"
    return f"{outcome.preset}{' (archived)' if outcome.archived else ''}{own}"


def errata(book: Sequence[Findings]) -> list[Piece]:
    """Return what is printed and what we find, by consequence; settings that are merely not given stand apart."""
    entries = [(found, claim, erratum) for found in book for claim in found.claims for erratum in claim.errata]
    pieces: list[Piece] = []
    for consequence in CONSEQUENCES:
        chosen = [e for e in entries if e[2].consequence == consequence and e[2].status != "setting not given"]
        if chosen:
            pieces += [(f"## {CONSEQUENCE_WORDS[consequence]}", False), (_errata_table(chosen), True)]
    if missing := [entry for entry in entries if entry[2].status == "setting not given"]:
        pieces += [(f"## Settings that are not given\n\n{MISSING}", False), (_errata_table(missing), True)]
    return pieces or [("No entry yet.", False)]


def _errata_table(entries: Sequence[tuple[Findings, Claim, Erratum]]) -> str:
    rows = [
        {
            "title": found.title,
            "claim": claim,
            "erratum": erratum,
            "page": _page(found.chapter),
            "record": speaking(found, claim)[1],
        }
        for found, claim, erratum in entries
    ]
    return render("errata.html", rows=rows)


def chapters(book: Sequence[Findings]) -> list[Piece]:
    """Return the table of chapters: how the claims came out in the source's setting, and beside it elsewhere."""
    rows = []
    for found in book:
        told = list(spoken(found).values())
        labels = [words.standing(record).label for record in told]
        rows.append(
            [
                {"link": _page(found.chapter), "text": found.title},
                len(found.claims),
                *(labels.count(verdict) for verdict in (HOLDS, CORRECTED, FAILS)),
                _elsewhere(told, words.SMALLER),
                _elsewhere(told, words.STAND_IN),
                labels.count(UNDECIDED),
                labels.count(NOT_TESTABLE),
            ]
        )
    heads = ["Chapter", "Claims", "Holds", "With correction", "Fails", "Smaller scale", "Stand-in", "Undecided"]
    return [(render("table.html", words=[*heads, "Not testable"], rows=rows), True)]


def _elsewhere(records: Sequence[words.Record], word: str) -> str:
    seen = cards.seen_in(records, word)
    return f"{sum(seen.values())}: {cards.met(seen)}" if sum(seen.values()) else "0"


def provenance(book: Sequence[Findings]) -> list[Piece]:
    """Return where the numbers of this build come from: preset, seeds, device, precision, versions, time, memory."""
    rows: list[list[object]] = []
    versions: dict[str, str] = {}
    for found in book:
        for outcome in found.outcomes:
            about = outcome.about
            versions = versions or about.get("versions", {})
            seeds = about.get("seeds") or ["–"]
            git = about.get("git") or {}
            memory = about.get("peak_memory_mb")
            rows.append(
                [
                    found.title,
                    _run_name(outcome) + (", earlier criterion" if outcome.earlier else ""),
                    f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0]),
                    about.get("dtype", "–"),
                    (about.get("device") or {}).get("name", "–"),
                    words.number(about.get("wall_seconds", 0) / 60, 2),
                    "–" if memory is None else f"{memory / 1024:.1f} GB",
                    {"code": (git.get("commit") or "–")[:9] + (" + changes" if git.get("changed") else "")},
                ]
            )
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    heads = ["Chapter", "Run", "Seeds", "Precision", "Device", "Minutes", "Memory", "Revision"]
    return [(render("table.html", words=heads, rows=rows), True), (f"Versions: {said}.", False)]


def stability(book: Sequence[Findings]) -> list[Piece]:
    """Return how many verdicts other seeds would change, and those that fewer than 19 of 20 redraws repeat."""
    rows: list[list[object]] = []
    without, counted, changes = [], 0, 0.0
    for found in book:
        pooled = [(claim, found.outcomes[0].records.get(claim.id) or {}) for claim in found.claims]
        pooled = [(claim, record) for claim, record in pooled if record.get("stability")]
        if not pooled:
            without.append(found.title)
        for claim, record in pooled:
            known = record["stability"]
            counted, changes = counted + 1, changes + 1 - known["share"]
            if known["share"] < STEADY:
                place = {"link": f"{_page(found.chapter)}#claim-{claim.anchor}", "text": claim.id}
                spread = f"{known['low']:.2f} to {known['high']:.2f}"
                rows.append([place, record["verdict"], f"{known['share']:.2f}", spread, known["seeds"]])
    if not counted:
        return [("No pool of seeds has been archived for the runs of this build.", False)]
    said = (
        f"{counted} verdicts of this build have a pool of seeds at their preset. Redraws of the seeds would change "
        f"{words.number(changes, 2)} of them in the mean ({changes / counted:.1%}); {len(rows)} are repeated by "
        "fewer than 19 of 20 redraws."
    )
    if without:
        said += f" No pool at this preset: {', '.join(without)}."
    rows.sort(key=lambda row: str(row[2]))
    heads = ["Claim", "Verdict", "Share of redraws", "Interval", "Seeds in the pool"]
    return [(said, False), *([(render("table.html", words=heads, rows=rows), True)] if rows else [])]


def sweeps(book: Sequence[Findings]) -> list[Piece]:
    """Return every archived sweep: its command, a table of what was measured, and a figure per quantity."""
    pieces: list[Piece] = []
    titles = {found.chapter: found.title for found in book}
    for one in sweep_archive.read_all():
        chapter, swept = one.about["chapter"], [name for name in one.axes if name != "seed"]
        if chapter not in titles:
            continue
        pieces.append((f"```bash\n{sweep_archive.command(one.about)}\n```\n\n{_sweep_sentence(one.about)}", False))
        pieces.append((render("table.html", **sweep_archive.table(one)), True))
        for claim, quantity, figure in sweep_plot.figures(one.frame, swept):
            drawn = one.frame[(one.frame.claim == claim) & (one.frame.quantity == quantity)]
            seeds = drawn.seed.dropna().nunique()
            over = f"mean and 95 % band over {seeds} seeds" if seeds else "no seed enters it"
            said = (
                f"`{quantity}` of the claim `{claim}` against `{swept[0]}`: {over}, preset {one.about['preset']} of "
                f"{{doc}}`../chapters/{chapter}/{chapter}`."
            )
            pieces.append((figure, (f"{quantity} against {swept[0]}, a curve with a band", said)))
    return pieces or [("No sweep has been archived yet.", False)]


def _sweep_sentence(about: Mapping[str, Any]) -> str:
    git = (about.get("git") or {}).get("commit") or "–"
    spent, versions = words.number(about["seconds"] / 60, 2), about.get("versions") or {}
    return (
        f"{about['points']} runs, {spent} minutes of kernels by the clock; revision `{git[:9]}`, "
        f"Python {versions.get('python', '–')}, torch {versions.get('torch', '–')}."
    )


PARTS: dict[str, Callable[[Sequence[Findings]], list[Piece]]] = {
    "chapters": chapters,
    "scorecard": scorecard,
    "errata": errata,
    "provenance": provenance,
    "stability": stability,
    "sweeps": sweeps,
}
