"""`traindyn course build`: the folder of a course, with release versions, configuration, notes and roster."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

from traindyn import files
from traindyn.errors import InputError, choose, import_extra
from traindyn.run.course import assignment, course, gradebook, lanes, release
from traindyn.run.course.assignment import BEGIN, END, Assignment

CONFIG = """# nbgrader's configuration of this course; grades come from `traindyn course grade`.
from pathlib import Path

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = {name!r}
c.CourseDirectory.root = str(Path(__file__).parent)
"""
OWN = ("source", "release", "notes", "gradebook.db", "secret.txt")


def build(
    folder: str | Path, chapters: Sequence[str] = (), roster: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:  # fmt: skip
    """Make a course, or bring one up to date; what was handed in, graded, set or drawn stays.

    Args:
        folder: its folder.
        chapters: which assignments; all there are if empty.
        roster: a CSV file of students, which replaces the present roster.
        say: is told every step.

    Raises:
        InputError: an unknown chapter, a folder with other things in it, a bad roster, or [course] is not installed.
    """
    folder = Path(folder)
    known = assignment.available()
    for name in chapters:
        choose("assignment", name, known)
    _usable(folder)
    made = [assignment.load(name) for name in (chapters or known)]
    if not made:
        raise InputError("no chapter has an assignment")
    students = course.read_roster(Path(roster)) if roster is not None else None
    for student in (students or {}).values():
        for one in made:
            one.variant(student.variant)
    for module in ("nbgrader", "nbformat"):
        import_extra(module, "a course")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "secret.txt").exists():
        course.new_secret(folder / "secret.txt")
    if not (folder / "course.yaml").exists():
        files.write_text(folder / "course.yaml", course.SETTINGS)
    if students is not None:
        shutil.copyfile(roster, folder / "roster.csv")
    files.write_text(folder / "nbgrader_config.py", CONFIG.format(name=folder.resolve().name))
    (folder / "submitted").mkdir(exist_ok=True)
    for one in made:
        say(f"{one.chapter}: release version")
        _one(folder, one)
    about = course.load(folder)
    _enrol(about, [one.chapter for one in made])
    _personal(about, made)
    lines = lanes.isolation([files.project_root() / "chapters", folder])
    files.write_text(
        folder / "notes" / "isolation.md",
        "# What isolates answers on this machine\n\n" + "\n".join(f"- {line}" for line in lines) + "\n",
    )
    return folder


def _usable(folder: Path) -> None:
    """Raise if the folder holds something that is no course."""
    if folder.is_file():
        raise InputError(f"{folder} is a file; expected a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "nbgrader_config.py").is_file():
        raise InputError(f"{folder} holds files that are no course; give another folder")


def _one(folder: Path, made: Assignment) -> None:
    """Write source, release version and notes of one assignment."""
    import nbformat

    source = folder / "source" / made.chapter / f"{made.chapter}.ipynb"
    with files.atomic_path(source) as part:
        nbformat.write(release.notebook(made, "0", solutions=True), part)
    gradebook.find_commands()
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    settings = Config()
    settings.CourseDirectory.root = str(folder.resolve())
    settings.CourseDirectory.course_id = folder.resolve().name
    settings.CourseDirectory.db_url = f"sqlite:///{folder.resolve() / 'gradebook.db'}"
    with _inside(folder):
        found = NbGraderAPI(config=settings).generate_assignment(made.chapter, force=True, create=True)
    if not found["success"]:
        raise RuntimeError(
            f"nbgrader could not make the release of {made.chapter}: {found.get('error') or found.get('log')}"
        )
    files.write_text(folder / "notes" / f"{made.chapter}.md", notes(made))


@contextmanager
def _inside(folder: Path) -> Any:
    """Work in a folder for a while: nbgrader looks for its configuration where it is started."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _enrol(about: course.Course, chapters: Sequence[str]) -> None:
    """Put students and dates into the gradebook."""
    gradebook.find_commands()
    from nbgrader.api import Gradebook

    with Gradebook(about.database) as book:
        for student in about.roster.values():
            book.update_or_create_student(
                student.id, first_name=student.first_name, last_name=student.last_name, email=student.email
            )
        for name in chapters:
            due = about.due.get(name)
            book.update_or_create_assignment(
                name, duedate=None if due is None else due.astimezone(UTC).replace(tzinfo=None)
            )


def _personal(about: course.Course, made: Sequence[Assignment]) -> None:
    """Write a release version of their own for students whose variant is not "0"."""
    import nbformat

    for student in about.roster.values():
        if student.variant == "0":
            continue
        for one in made:
            path = about.folder / "personal" / student.id / f"{one.chapter}.ipynb"
            with files.atomic_path(path) as part:
                nbformat.write(release.notebook(one, student.variant), part)


def notes(made: Assignment) -> str:
    """Return the instructor's notes of an assignment, as Markdown: points, what is asked, solutions, rubrics."""
    spec = made.spec
    total = sum(q.points for q in spec.questions.values()) + sum(r.points for r in spec.rubrics.values())
    lines = [
        f"# {made.title}: notes for the instructor",
        "",
        f"{total:g} points. Not for students: this file holds the solutions.",
        "",
    ]
    for name in made.titles:
        lines += [f"## {made.titles[name]}", ""]
        if name in spec.questions:
            question = spec.questions[name]
            lines += [f"{question.points:g} points, at most {question.seconds:g} s of processor time. Parts:", ""]
            if question.study is None:
                lines += [f"- *{part.name}* ({part.points:g}): {part.says}" for part in question.parts]
            else:
                study = question.study
                lines += [f"- *recomputed* ({study.recomputed:g}): rows are what the study gives, computed again"]
                lines += [
                    f"- *{part}* ({points:g}): judged by the ledger's test" for part, points in study.points.items()
                ]
            lines += ["", "```python", _bare(made.solution(name)), "```", ""]
        else:
            rubric = spec.rubrics[name]
            lines += [f"{rubric.points:g} points, marked by hand:", "", *(f"- {line}" for line in rubric.lines), ""]
            lines += [f"> {line}" for line in _bare(made.solution(name)).strip().splitlines()] + [""]
    if len(spec.variants) > 1:
        lines += ["## Variants", "", "The column `variant` of the roster chooses:", ""]
        for name, numbers in spec.variants.items():
            lines.append(f"- {name}: " + ", ".join(f"{key} = {value:g}" for key, value in numbers.items()))
        lines.append("")
    return "\n".join(lines)


def _bare(text: str) -> str:
    return re.sub(rf"^\s*({re.escape(BEGIN)}|{re.escape(END)})\n?", "", text, flags=re.M)
