"""Reading what a student handed in: any file at all, as far as it can be read, with what is odd about it named."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from traindyn.run.course.assignment import Assignment

LARGEST = 2**25  # bytes of a notebook
ANSWER = 100_000  # characters of an answer's cell
CELLS = 5_000


@dataclass
class Submission:
    """What could be read.

    Attributes:
        answers: question -> code of its answer's cell.
        texts: free text -> what was written.
        notes: what is odd, in words that the feedback shows.
        about: question -> the same about one question.
    """

    answers: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    about: dict[str, list[str]] = field(default_factory=dict)


def find(folder: Path, chapter: str) -> tuple[Path | None, list[str]]:
    """Return the notebook in a student's folder, and what is odd about its name."""
    expected = folder / f"{chapter}.ipynb"
    if expected.is_file() and not expected.is_symlink():
        return expected, []
    others = [path for path in folder.rglob("*") if path.suffix.lower() == ".ipynb" and path.is_file()]
    others = sorted(p for p in others if not p.is_symlink() and ".ipynb_checkpoints" not in p.parts)
    if not others:
        return None, [f"no notebook was handed in (expected {chapter}.ipynb)"]
    chosen = max(others, key=lambda path: (chapter in path.stem.lower(), path.stat().st_mtime, path.name))
    more = f"; {len(others) - 1} others were ignored" if len(others) > 1 else ""
    return chosen, [f"the file is called '{_plain(chosen.name[:80])}', not '{chapter}.ipynb'{more}"]


def read(path: Path | None, made: Assignment) -> Submission:
    """Read a submission; whatever is wrong with it becomes a note."""
    found = Submission()
    if path is None:
        return found
    try:
        if path.stat().st_size > LARGEST:
            found.notes.append(f"the notebook is larger than {LARGEST // 2**20} MB and was not read; clear its outputs")
            return found
        data = path.read_bytes()
    except OSError:
        found.notes.append("the notebook could not be opened")
        return found
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
        found.notes.append("the file is not UTF-8; characters that could not be read were replaced")
    try:
        book = json.loads(text)
    except (ValueError, RecursionError):
        found.notes.append("the file is empty" if not text.strip() else "the file is not a notebook (no JSON)")
        return found
    found_cells = cells(book)
    if found_cells is None:
        found.notes.append("the file is not a notebook (it has no cells)")
        return found
    if not found_cells:
        found.notes.append("the notebook has no cells")
    _kernel(book, found)
    _pick(found_cells[:CELLS], made, found)
    return found


def cells(book: Any) -> list[dict[str, Any]] | None:
    """Return the cells as plain mappings, of notebook format 4 or 3."""
    if not isinstance(book, Mapping):
        return None
    given = book.get("cells")
    if given is None and isinstance(book.get("worksheets"), list):
        sheets = [sheet for sheet in book["worksheets"] if isinstance(sheet, Mapping)]
        given = [cell for sheet in sheets for cell in sheet.get("cells") or []]
    if not isinstance(given, list):
        return None
    found = []
    for cell in given:
        if not isinstance(cell, Mapping):
            continue
        source = cell.get("source", cell.get("input", ""))
        source = "".join(map(str, source)) if isinstance(source, list) else source
        about = cell.get("metadata")
        about = about.get("nbgrader") if isinstance(about, Mapping) else None
        name = about.get("grade_id") if isinstance(about, Mapping) else None
        found.append(
            {
                "kind": cell.get("cell_type"),
                "source": _plain(source),
                "id": name if isinstance(name, str) else "",
            }
        )
    return found


def _plain(source: Any) -> str:
    """Return a source as text that can be written in UTF-8; JSON can hold halves of characters."""
    return source.encode("utf-8", "replace").decode("utf-8") if isinstance(source, str) else ""


def _kernel(book: Mapping[str, Any], found: Submission) -> None:
    about = book.get("metadata")
    kernel = about.get("kernelspec") if isinstance(about, Mapping) else None
    kernel = kernel if isinstance(kernel, Mapping) else {}
    language = kernel.get("language") or kernel.get("name") or "python"
    if not (isinstance(language, str) and language.lower().startswith("python")):
        found.notes.append("the notebook was written for another kernel; its answers were run as Python")


def _pick(cells: list[dict[str, Any]], made: Assignment, found: Submission) -> None:
    for name, question in made.spec.questions.items():
        notes = found.about.setdefault(name, [])
        own = [cell["source"] for cell in cells if cell["id"] == name]
        defining = [source for source in own if defines(source, question.entry)]
        if len(own) > 1:
            notes.append(f"its cell is there {len(own)} times; the last one that defines {question.entry} counts")
        if not defining and not any(source.strip() for source in own):
            elsewhere = [c["source"] for c in cells if not c["id"] and defines(c["source"], question.entry)]
            if elsewhere:
                defining = elsewhere
                notes.append("its cell is missing; another cell that defines the function was taken")
        if not own and not defining:
            notes.append("its cell is missing")
            continue
        source = (defining or own)[-1]
        if len(source) > ANSWER:
            notes.append("its cell is too long and was not run")
            continue
        if re.search(r"^[ \t]*[%!]", source, re.M):
            notes.append("lines that only Jupyter understands (% and !) were left out")
        if source.strip() != made.released(name).strip():
            found.answers[name] = source
        else:
            notes.append("not filled in")
        test = next((cell["source"] for cell in cells if cell["id"] == f"test-{name}"), None)
        if test is not None and test.strip() != made.visible(name).strip():
            notes.append("its tests were changed; they play no part in the grade")
    for name in made.spec.rubrics:
        own = [cell["source"] for cell in cells if cell["id"] == name and cell["source"].strip()]
        if own:
            found.texts[name] = own[-1][:ANSWER]


def defines(source: str, name: str) -> bool:
    """Return whether code seems to define a name, by its lines: nothing of a submission is parsed in this process."""
    pattern = rf"^[ \t]*(?:(?:async[ \t]+)?def|class)[ \t]+{name}\b|^[ \t]*{name}[ \t]*="
    return re.search(pattern, source, re.M) is not None
