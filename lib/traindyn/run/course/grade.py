"""`traindyn course grade`: every submission of a course, several at once; none of them can stop the others."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from traindyn import files
from traindyn.errors import InputError
from traindyn.run.course import assignment, course, feedback, gradebook, submission, summary
from traindyn.run.course.assignment import Assignment
from traindyn.run.course.judge import Graded, Judge, PartResult, QuestionResult
from traindyn.run.course.lanes import Lane
from traindyn.run.course.submission import Submission

WAITS = "waits to be marked by hand"


@dataclass
class Outcome:
    """A graded submission.

    Attributes:
        student, graded: who, and how the questions came out.
        read: what was handed in, as it was read.
        when, late: when it was handed in, and the share that is taken off.
        fault: what went wrong on our side; empty if nothing did.
        marks: what the gradebook says, once it was entered.
    """

    student: course.Student
    graded: Graded
    read: Submission = field(default_factory=Submission)
    when: datetime | None = None
    late: float = 0.0
    fault: str = ""
    marks: gradebook.Marks = field(default_factory=gradebook.Marks)


def grade(
    folder: str | Path, jobs: int = 1, chapters: Sequence[str] = (), say: Callable[[str], None] = lambda line: None
) -> list[Outcome]:
    """Grade all that lies in `submitted/STUDENT/ASSIGNMENT/`; write gradebook, CSV files, feedback and figures.

    Args:
        folder: of the course.
        jobs: how many submissions at once.
        chapters: only these assignments.
        say: is told every submission.

    Returns:
        One outcome per submission, by assignment and student.

    Raises:
        InputError: no course, an assignment that it does not have, or nothing handed in.
    """
    about = course.load(folder)
    names = about.assignments
    for name in chapters:
        if name not in names:
            raise InputError(f"{folder} has no assignment '{name}'; it has {', '.join(names)}")
    found: list[Outcome] = []
    waiting = {name: _submitted(about, name) for name in (chapters or names)}
    if odd := [path for path in (about.folder / "submitted").glob("*") if not course.is_name(path.name)]:
        say(f"not graded: {len(odd)} in submitted/ whose name cannot be written down; rename them")
    if not any(waiting.values()):
        raise InputError(f"nothing was handed in: no {about.folder / 'submitted' / 'STUDENT' / names[0]}")
    with _Lanes(jobs) as lanes:
        for name, students in waiting.items():
            if students:
                found += _assignment(about, assignment.load(name), students, lanes, say)
    _tables(about.folder, found)
    return found


def _submitted(about: course.Course, name: str) -> list[str]:
    """Return the students who have a folder for an assignment."""
    place = about.folder / "submitted"
    students = (
        [path.name for path in place.iterdir() if path.is_dir() and not path.is_symlink()] if place.is_dir() else []
    )
    there = [one for one in students if (place / one / name).is_dir() and not (place / one / name).is_symlink()]
    return sorted(one for one in there if course.is_name(one))


class _Lanes:
    """A pool of threads with a worker each."""

    def __init__(self, jobs: int) -> None:
        self.pool, self.own, self.all = ThreadPoolExecutor(jobs), threading.local(), []

    def __enter__(self) -> _Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)
        for lane in self.all:
            lane.close()

    def lane(self) -> Lane:
        if not hasattr(self.own, "lane"):
            self.own.lane = Lane()
            self.all.append(self.own.lane)
        return self.own.lane


def _assignment(
    about: course.Course, made: Assignment, students: Sequence[str], lanes: _Lanes, say: Callable[[str], None]
) -> list[Outcome]:
    """Grade one assignment: questions side by side, then gradebook and pages one after the other."""
    judge = Judge(made, about.secret)
    for student in students:  # before the threads: what is expected is computed once per variant
        judge.prepare(_variant(made, about.student(student)))
    futures = [lanes.pool.submit(_one, about, made, judge, student, lanes) for student in students]
    found = []
    for future in futures:
        outcome = future.result()
        found.append(outcome)
        say(f"{made.chapter}, {outcome.student.id}: {outcome.graded.earned:g} of {outcome.graded.points:g}"
            + (f"; {outcome.fault}" if outcome.fault else ""))  # fmt: skip
    with gradebook.opened(about) as book:
        for outcome in found:
            if outcome.fault:
                continue
            outcome.marks = gradebook.enter(
                book, outcome.student, outcome.graded, outcome.read.texts, outcome.late, outcome.when
            )
            place = about.folder / "feedback" / outcome.student.id / made.chapter / f"{made.chapter}.html"
            files.write_text(place, feedback.page(made, outcome))
    summary.draw(made, [one for one in found if not one.fault], about.folder / "summary" / made.chapter)
    return found


def _variant(made: Assignment, student: course.Student) -> str:
    """Return a student's variant; "0" where the assignment does not know it (the roster was changed since)."""
    return student.variant if student.variant in made.spec.variants else "0"


def _one(about: course.Course, made: Assignment, judge: Judge, name: str, lanes: _Lanes) -> Outcome:
    """Grade one submission, whatever it is."""
    student = about.student(name)
    try:
        folder = about.folder / "submitted" / name / made.chapter
        path, notes = submission.find(folder, made.chapter)
        read = submission.read(path, made)
        read.notes[:0] = notes
        variant = _variant(made, student)
        if variant != student.variant:
            read.notes.append("the roster names a variant that this assignment does not have; graded as variant 0")
        graded = judge.grade(read, lanes.lane(), variant)
        when = course.handed_in(folder)
        return Outcome(student, graded, read, when, about.late.share(about.due.get(made.chapter), when))
    except Exception as error:
        empty = Graded(made.chapter, nothing(made))
        return Outcome(student, empty, fault=f"could not be graded ({type(error).__name__}: {error})")


def nothing(made: Assignment) -> list[QuestionResult]:
    """Return the results of a submission that has no answers."""
    found = []
    for name, question in made.spec.questions.items():
        parts = [PartResult(name, "", question.points, 0.0, "not graded")]
        found.append(QuestionResult(name, made.titles[name], parts))
    return found


def _tables(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Write `grades.csv`, a line per submission, and `parts.csv`, a line per part."""
    header = ["student", "last_name", "first_name", "assignment", "variant", "total", "of", "automatic", "by_hand",
              "late_penalty", "waiting", "notes"]  # fmt: skip
    rows, parts = [header], [["student", "assignment", "question", "part", "earned", "of", "reason"]]
    for one in outcomes:
        marks, who, name = one.marks, one.student, one.graded.chapter
        hand = sum(marks.scores[place] for place in marks.by_hand)
        notes = [one.fault] if one.fault else [*one.graded.notes, *_about(one.graded)]
        numbers = [sum(marks.points.values()) or one.graded.points, one.graded.earned, hand, marks.penalty]
        total = "" if one.fault else f"{marks.total:.6g}"
        row = [who.id, who.last_name, who.first_name, name, who.variant, total, *(f"{value:.6g}" for value in numbers)]
        rows.append([*row, " ".join(marks.waiting), "; ".join(notes)])
        for question in one.graded.questions:
            for part in question.parts:
                points = [f"{part.earned:g}", f"{part.points:g}"]
                parts.append([who.id, name, question.name, part.name, *points, part.reason])
    for name, table in (("grades.csv", rows), ("parts.csv", parts)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([[_harmless(value) for value in row] for row in table])
        files.write_text(folder / name, text.getvalue())


def _about(graded: Graded) -> list[str]:
    return [f"{question.title}: {note}" for question in graded.questions for note in question.notes]


def _harmless(value: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") and value[:1] else value


def by_question(outcomes: Sequence[Outcome]) -> Mapping[str, list[QuestionResult]]:
    """Return the results of all submissions, by question."""
    found: dict[str, list[QuestionResult]] = {}
    for one in outcomes:
        for question in one.graded.questions:
            found.setdefault(question.name, []).append(question)
    return found
