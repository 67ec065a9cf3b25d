"""`traindyn course try`: the visible tests, run as the judge runs answers, from the notebook alone."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from traindyn.errors import InputError
from traindyn.run.course.assignment import GIVEN, STUB
from traindyn.run.course.lanes import Failure, Lane
from traindyn.run.course.submission import LARGEST, cells

SECONDS = 60.0


@dataclass(frozen=True)
class Tried:
    """How a question's visible tests came out: passed, failed, or None (not filled in); why; what was printed."""

    name: str
    passed: bool | None
    reason: str = ""
    output: str = ""


def attempt(path: str | Path, lane: Lane) -> list[Tried]:
    """Run every answer of a notebook with the visible tests below it.

    Raises:
        InputError: the file is no notebook of an assignment.
    """
    path = Path(path)
    found = {cell["id"]: cell for cell in read(path) if cell["id"]}
    names = [name for name in found if f"test-{name}" in found]
    if GIVEN not in found or not names:
        raise InputError(f"{path} is no assignment's notebook: its cells have no grade ids")
    results = []
    for name in names:
        answer = found[name]["source"]
        if STUB.splitlines()[1] in answer:
            results.append(Tried(name, None, "not filled in"))
            continue
        defined = re.search(r"^def (\w+)", answer, re.M)
        if defined is None:
            results.append(Tried(name, False, "its cell defines no function"))
            continue
        try:
            with lane.child(SECONDS) as child:
                try:
                    child.define(found[GIVEN]["source"], answer, defined[1], tests=found[f"test-{name}"]["source"])
                    results.append(Tried(name, True, "", child.output()))
                except Failure as failure:
                    said = f": {failure.said}" if failure.said else ""
                    results.append(Tried(name, False, f"{failure.words()}{said}", child.output()))
        except RuntimeError:
            results.append(Tried(name, False, "the worker has died"))
    return results


def read(path: Path) -> list[dict[str, str]]:
    """Return the cells of a notebook file.

    Raises:
        InputError: it cannot be read, or is none.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST // 2**20} MB; clear its outputs")
        book = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a notebook") from error
    if (found := cells(book)) is None:
        raise InputError(f"{path} is not a notebook")
    return found
