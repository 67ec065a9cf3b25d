"""`traindyn course check`: does an assignment grade as it should, and does a release hold nothing that it must not?"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from traindyn import files
from traindyn.errors import InputError
from traindyn.run.course import assignment, release
from traindyn.run.course.assignment import BEGIN, END, Assignment
from traindyn.run.course.judge import Judge, PartResult
from traindyn.run.course.lanes import Failure, Lane

SECRET = "the check's own"
LEAST_WRONG = 2


@dataclass(frozen=True)
class Wrong:
    """A wrong answer, kept in the tests.

    Attributes:
        name: what is wrong with it.
        loses: the parts that it has to lose; it has to keep all others.
        code: the answer; or
        change: (old, new), which makes it of the model solution.
    """

    name: str
    loses: set[str]
    code: str | None = None
    change: tuple[str, str] | None = None

    def answer(self, solution: str) -> str:
        """Return the answer's code.

        Raises:
            InputError: the model solution does not hold what is to be changed.
        """
        if self.code is not None:
            return self.code
        assert self.change is not None
        if self.change[0] not in solution:
            raise InputError(f"wrong answer '{self.name}': the solution does not hold {self.change[0]!r}")
        return solution.replace(*self.change)


def wrong_answers(chapter: str) -> Mapping[str, Sequence[Wrong]]:
    """Return a chapter's wrong answers, which lie with the tests of a checkout; none where there is no such file."""
    path = files.project_root() / "tests" / "course" / f"{chapter}_answers.py"
    if not path.is_file():
        return {}
    found = importlib.util.spec_from_file_location(f"_{path.stem}", path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.WRONG


def check(
    chapter: str,
    lane: Lane,
    say: Callable[[str], None] = lambda line: None,
    variants: Sequence[str] = (),
    studies: bool = True,
) -> list[str]:
    """Return everything that is not as it should be with an assignment, one line each.

    Args:
        chapter: its chapter.
        lane: the worker.
        say: is told a line at the end.
        variants: only these; all if empty.
        studies: also run the wrong studies, which take most of the time.
    """
    made = assignment.load(chapter)
    lines = [
        *_release(made),
        *_solutions(made, lane, variants or list(made.spec.variants)),
        *_wrong(made, lane, studies),
    ]
    found = [f"{chapter}: {line}" for line in lines]
    say(f"{chapter}: {len(made.spec.questions)} questions, {len(found)} faults")
    return found


def _release(made: Assignment) -> list[str]:
    """Return what a release holds that it must not."""
    found = []
    text = "\n".join(cell.source for cell in release.notebook(made, "0").cells)
    if BEGIN in text or END in text:
        found.append("the release holds the mark of a solution")
    for name in [*made.spec.questions, *made.spec.rubrics]:
        for line in secret_lines(made, name):
            if line in text:
                found.append(f"the release holds a line of the solution of '{name}': {line[:60]}")
    for name, rubric in made.spec.rubrics.items():
        if any(line in text for line in rubric.lines):
            found.append(f"the release holds the rubric of '{name}'")
    return found


def secret_lines(made: Assignment, name: str) -> list[str]:
    """Return the lines of a solution that are nowhere else in the source, and long enough to mean something."""
    inside = [part.split(END)[0] for part in made.cells[name].source.split(BEGIN)[1:]]
    others = "\n".join(
        re.sub(rf"{BEGIN}.*?{END}", "", cell.source, flags=re.S) for cell in made.book.cells
    )  # fmt: skip
    lines = [line.strip() for part in inside for line in part.splitlines()]
    return [line for line in lines if len(line) > 12 and line not in others]


def _solutions(made: Assignment, lane: Lane, variants: Sequence[str]) -> list[str]:
    """Return where a model solution loses points, in these variants, or an empty answer earns some."""
    found = []
    for variant in variants:
        judge = Judge(made, SECRET)
        for name, question in made.spec.questions.items():
            for part in judge.question(name, question, made.solution(name), lane, variant):
                if part.earned < part.points:
                    found.append(f"variant {variant}: the solution of '{name}' loses '{part.name}': {part.reason}")
    for name, question in made.spec.questions.items():
        if any(part.earned for part in Judge(made, SECRET).question(name, question, made.released(name), lane)):
            found.append(f"'{name}' earns points before it is filled in")
        if (reason := visible(made, name, made.solution(name), lane)[0]) is not None:
            found.append(f"the solution of '{name}' fails its visible tests: {reason}")
        if visible(made, name, made.released(name), lane)[0] is None:
            found.append(f"the visible tests of '{name}' pass before it is filled in")
    return found


def _wrong(made: Assignment, lane: Lane, studies: bool) -> list[str]:
    """Return where wrong answers do not lose what they should."""
    found, answers = [], wrong_answers(made.chapter)
    judge = Judge(made, SECRET)
    for name, question in made.spec.questions.items():
        own = answers.get(name, ())
        if len(own) < LEAST_WRONG:
            found.append(f"'{name}' has {len(own)} wrong answers in tests/course; expected at least {LEAST_WRONG}")
        for wrong in own if studies or question.study is None else ():
            parts = judge.question(name, question, wrong.answer(made.solution(name)), lane)
            lost = lost_parts(parts)
            if lost != wrong.loses:
                found.append(
                    f"'{name}', wrong answer '{wrong.name}': loses {', '.join(sorted(lost)) or 'nothing'}; "
                    f"expected {', '.join(sorted(wrong.loses))}"
                )
    return found


def lost_parts(parts: Sequence[PartResult]) -> set[str]:
    """Return the names of the parts that were not earned."""
    return {part.name for part in parts if part.earned < part.points}


def visible(made: Assignment, name: str, answer: str, lane: Lane, variant: str | None = None) -> tuple[str | None, str]:
    """Run the visible tests of a question on an answer.

    Returns:
        Why they fail (None if they pass), and what was printed.
    """
    question = made.spec.questions[name]
    try:
        with lane.child(question.seconds) as child:
            try:
                given = made.given(made.variant(variant))
                child.define(given, answer, question.entry, question.tensors, made.visible(name))
            except Failure as failure:
                said = f": {failure.said}" if failure.said else ""
                return f"{failure.words()}{said}", child.output()
            return None, child.output()
    except RuntimeError:
        return "the worker has died", ""
