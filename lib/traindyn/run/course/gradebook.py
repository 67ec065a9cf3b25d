"""nbgrader's gradebook: automatic marks in, marks made by hand out. Those made by hand are never changed here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from traindyn.errors import import_extra
from traindyn.run.course.course import Course, Student
from traindyn.run.course.judge import Graded


def find_commands() -> None:
    """Put the commands beside this Python on the path: nbgrader starts `alembic` by its name, in a shell or not."""
    place, path = str(Path(sys.executable).parent), os.environ.get("PATH", "")
    if place not in path.split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join(filter(None, (place, path)))


@dataclass
class Marks:
    """What the gradebook says of a submission.

    Attributes:
        scores: question or free text -> points, by hand where a hand has marked it.
        points: question or free text -> most points.
        by_hand: those that were marked by hand.
        waiting: those that still have to be.
        comments: question or free text -> what the marker wrote.
        penalty: points taken off for being late.
    """

    scores: dict[str, float] = field(default_factory=dict)
    points: dict[str, float] = field(default_factory=dict)
    by_hand: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    comments: dict[str, str] = field(default_factory=dict)
    penalty: float = 0.0

    @property
    def total(self) -> float:
        """The points that count."""
        return max(0.0, sum(self.scores.values()) - self.penalty)


@contextmanager
def opened(about: Course) -> Iterator[Any]:
    """Open the gradebook of a course."""
    find_commands()
    api = import_extra("nbgrader.api", "a gradebook")
    book = api.Gradebook(about.database)
    try:
        yield book
    finally:
        book.close()


def enter(
    book: Any, student: Student, graded: Graded, texts: Mapping[str, str], late: float, when: datetime | None
) -> Marks:
    """Enter the automatic marks of a submission; return all its marks.

    Args:
        book: the gradebook.
        student: who handed it in.
        graded: how its questions came out.
        texts: the free texts that were written; an empty one is worth nothing and waits for nobody.
        late: share of the points that is taken off.
        when: it was handed in.
    """
    name = graded.chapter
    book.update_or_create_student(
        student.id, first_name=student.first_name, last_name=student.last_name, email=student.email
    )
    stamp = None if when is None else when.astimezone(UTC).replace(tzinfo=None)
    book.update_or_create_submission(name, student.id, timestamp=stamp)
    found = book.find_submission_notebook(name, name, student.id)
    earned = {f"test-{question.name}": question.earned for question in graded.questions}
    marks = Marks()
    for grade in found.grades:
        cell = grade.name
        if cell in earned:
            grade.auto_score = earned[cell]
            grade.needs_manual_grade = False
        else:
            written = bool(texts.get(cell, "").strip())
            if not written and grade.manual_score is None:
                grade.auto_score = 0.0
            elif written:
                grade.auto_score = None
            grade.needs_manual_grade = written and grade.manual_score is None
        place = cell.removeprefix("test-")
        hand = grade.manual_score is not None
        marks.scores[place] = (grade.manual_score if hand else grade.auto_score or 0.0) + (grade.extra_credit or 0.0)
        marks.points[place] = float(grade.max_score)
        marks.by_hand += [place] if hand else []
        marks.waiting += [place] if grade.needs_manual_grade else []
    for comment in found.comments:
        if comment.manual_comment:
            marks.comments[comment.name.removeprefix("test-")] = comment.manual_comment
    marks.penalty = late * sum(marks.scores.values())
    found.late_submission_penalty = marks.penalty or None
    book.db.commit()
    return marks
