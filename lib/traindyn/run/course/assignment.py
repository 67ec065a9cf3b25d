"""Reading an assignment: its MyST source, the questions in it, and the module beside it that knows what is hidden."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from traindyn import files
from traindyn.errors import InputError, choose, import_extra
from traindyn.report import claims
from traindyn.run.course.questions import Question, Rubric, Spec, Variant

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
GIVEN = "given"
STUB = "# YOUR CODE HERE\nraise NotImplementedError()"
_PLACE = re.compile(r"\[\[(\w+)\]\]")
_MINUTES = re.compile(r"(\d+) points?, about (\d+) minutes")


@dataclass(frozen=True)
class Assignment:
    """An assignment.

    Attributes:
        chapter: its chapter.
        title: its heading.
        book: the source as a notebook, with solutions.
        spec: what its module declares.
        folder: where both lie.
    """

    chapter: str
    title: str
    book: Any
    spec: Spec
    folder: Path

    @cached_property
    def cells(self) -> dict[str, Any]:
        """The cells that have a grade id, by it."""
        return {grade_id(cell): cell for cell in self.book.cells if grade_id(cell)}

    @cached_property
    def titles(self) -> dict[str, str]:
        """Question -> the heading above its answer's cell."""
        found, last = {}, self.title
        for cell in self.book.cells:
            if cell.cell_type == "markdown" and (heading := re.search(r"^## (.*)$", cell.source, re.M)):
                last = heading[1].strip()
            if grade_id(cell) in {**self.spec.questions, **self.spec.rubrics}:
                found[grade_id(cell)] = last
        return found

    def given(self, variant: Variant) -> str:
        """Return the code that every answer may rely on: the imports and what the source gives, for a variant."""
        return filled(self.cells[GIVEN].source, variant)

    def solution(self, question: str) -> str:
        """Return the model solution: the source of the answer's cell."""
        return self.cells[question].source

    def released(self, question: str) -> str:
        """Return the answer's cell as students get it."""
        return cleared(self.cells[question].source)

    def visible(self, question: str) -> str:
        """Return the visible tests of a question."""
        return self.cells[f"test-{question}"].source

    def variant(self, name: str | None) -> Variant:
        """Return the numbers of a roster's variant; those of "0" where the roster names none."""
        known = self.spec.variants
        if name in (None, ""):
            name = "0"
        return known[choose(f"variant of the assignment {self.chapter}", str(name), known)]


def available() -> list[str]:
    """Return the chapters that have an assignment, in the order of the book."""
    from traindyn import parameters

    root = files.project_root()
    return [name for name in parameters.chapters() if (root / "chapters" / name / "assignment.md").is_file()]


def load(chapter: str) -> Assignment:
    """Read a chapter's assignment.

    Raises:
        InputError: there is none; its source and its module do not name the same questions and points.
    """
    choose("assignment", chapter, available())
    folder = files.project_root() / "chapters" / chapter
    import_extra("nbformat", "an assignment")
    jupytext = import_extra("jupytext", "an assignment")
    path = folder / "assignment.md"
    try:
        book = jupytext.reads(files.read_text(path, "the assignment"), fmt="md:myst")
    except InputError:
        raise
    except Exception as error:  # whatever the reader of another package says about a malformed file
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error
    heading = re.search(r"^# (.*)$", "\n".join(c.source for c in book.cells if c.cell_type == "markdown"), re.M)
    made = Assignment(
        chapter, heading[1].strip() if heading else chapter, book, _spec(folder / "assignment.py"), folder
    )
    _check(made, path)
    return made


def grade_id(cell: Any) -> str:
    """Return a cell's grade id; empty if it has none."""
    about = cell.get("metadata", {}).get("nbgrader")
    found = about.get("grade_id") if isinstance(about, Mapping) else None
    return found if isinstance(found, str) else ""


def filled(text: str, variant: Variant) -> str:
    """Return text with a variant's numbers in the places [[name]].

    Raises:
        InputError: a place has no number.
    """

    def number(match: re.Match[str]) -> str:
        if match[1] not in variant:
            raise InputError(
                f"the assignment asks for [[{match[1]}]]; the variant has {', '.join(variant) or 'nothing'}"
            )
        return f"{variant[match[1]]:g}"

    return _PLACE.sub(number, text)


def cleared(text: str) -> str:
    """Return a cell without what stands between the marks of a solution, as nbgrader clears it."""
    lines, inside = [], False
    for line in text.splitlines():
        if line.strip() == BEGIN:
            inside, indent = True, line[: len(line) - len(line.lstrip())]
            lines += [indent + part for part in STUB.splitlines()]
        elif line.strip() == END:
            inside = False
        elif not inside:
            lines.append(line)
    return "\n".join(lines)


def _spec(path: Path) -> Spec:
    """Import a module by its path, without a trace in the list of modules; return its ASSIGNMENT."""
    if not path.is_file():
        raise InputError(f"cannot read {path}: No such file; an assignment needs it beside assignment.md")
    name = f"_assignment_{path.parent.name}"
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        found.loader.exec_module(module)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    finally:
        sys.modules.pop(name, None)
    spec = getattr(module, "ASSIGNMENT", None)
    if not isinstance(spec, Spec):
        raise InputError(f"{path}: expected ASSIGNMENT = Spec(...)")
    return spec


def _check(made: Assignment, path: Path) -> None:
    """Raise if source and module do not fit together."""
    ids = [grade_id(cell) for cell in made.book.cells if grade_id(cell)]
    if twice := next((one for one in ids if ids.count(one) > 1), None):
        raise InputError(f"{path}: the grade id '{twice}' stands there twice")
    if GIVEN not in made.cells:
        raise InputError(f"{path}: no cell with the grade id '{GIVEN}'; it holds the imports of every answer")
    roles = {name: made.cells[name].metadata["nbgrader"] for name in ids}
    answers = {name for name in ids if roles[name].get("solution") and made.cells[name].cell_type == "code"}
    texts = {name for name in ids if roles[name].get("solution") and made.cells[name].cell_type == "markdown"}
    for what, there, asked in (
        ("questions", answers, set(made.spec.questions)),
        ("free texts", texts, set(made.spec.rubrics)),
    ):
        if there != asked:
            odd = ", ".join(sorted(there ^ asked))
            raise InputError(f"{path} and assignment.py have different {what}: {odd}")
    for name, question in made.spec.questions.items():
        test = roles.get(f"test-{name}")
        if test is None or test.get("points") != question.points:
            raise InputError(
                f"{path}: the cell 'test-{name}' should have {question.points:g} points, as assignment.py has"
            )
        if BEGIN not in made.solution(name):
            raise InputError(f"{path}: the cell '{name}' has no '{BEGIN}'")
        if question.study is not None:
            ledger = claims.read_claim(question.study.claim, path.with_name("assignment.py"))
            if odd := set(question.study.points) - {part.name for part in ledger.parts}:
                raise InputError(
                    f"{path.with_name('assignment.py')}: the claim of '{name}' has no part {sorted(odd)[0]!r}"
                )
        names = [part.name for part in question.parts]
        if len(set(names)) < len(names) or bool(names) == (question.study is not None):
            raise InputError(
                f"{path.with_name('assignment.py')}: question '{name}' needs parts of different names, or a study"
            )
    for name, rubric in made.spec.rubrics.items():
        if roles[name].get("points") != rubric.points:
            raise InputError(f"{path}: the cell '{name}' should have {rubric.points:g} points, as its rubric has")


__all__ = ["Assignment", "Question", "Rubric", "available", "cleared", "filled", "grade_id", "load"]
