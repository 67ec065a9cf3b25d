"""The commands of a course: `course build`, `grade`, `grade-one`, `try`, `check`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from traindyn import files
from traindyn.errors import InputError, import_extra
from traindyn.run.cli_sweep import say

DRAWN = "grade-one"  # the secret of notebooks that belong to no course


def add(commands: Any, cores: int) -> None:
    """Add the commands to a parser."""
    course = commands.add_parser("course", help="assignments: make a course, grade it, try and check answers")
    inner = course.add_subparsers(title="commands", required=True, metavar="COMMAND")

    one = inner.add_parser("build", help="make or renew a course: release versions, configuration, notes, roster")
    one.add_argument("dir", metavar="DIR")
    one.add_argument("--chapters", nargs="+", default=[], metavar="NAME", help="assignments, default all")
    one.add_argument("--roster", metavar="FILE", help="CSV with id, and first_name, last_name, email, variant")
    one.set_defaults(command=_build)

    one = inner.add_parser("grade", help="grade all that was handed in: gradebook, CSV, feedback, figures")
    one.add_argument("dir", metavar="DIR")
    one.add_argument("--chapters", nargs="+", default=[], metavar="NAME", help="only these assignments")
    one.add_argument("--jobs", type=int, default=cores, help="submissions graded at once")
    one.set_defaults(command=_grade)

    one = inner.add_parser("grade-one", help="grade one notebook, on inputs of no course")
    one.add_argument("notebook")
    one.add_argument("--chapter", metavar="NAME", help="its assignment, default by its name")
    one.add_argument("--course", metavar="DIR", help="use the hidden inputs of this course")
    one.add_argument("--variant", metavar="NAME", help="the numbers of this variant, default 0")
    one.add_argument("--json", action="store_true", help="everything as JSON")
    one.set_defaults(command=_grade_one)

    one = inner.add_parser("try", help="run the visible tests of a notebook as it will be graded")
    one.add_argument("notebook")
    one.set_defaults(command=_try)

    one = inner.add_parser("check", help="do assignments grade as they should? is nothing hidden in a release?")
    one.add_argument("chapters", nargs="*", metavar="CHAPTER")
    one.set_defaults(command=_check)


def _build(options: argparse.Namespace) -> int:
    from traindyn.run.course import build

    folder = build.build(options.dir, options.chapters, options.roster, say)
    print(f"release versions in {folder / 'release'}; answers go to {folder / 'submitted'}/STUDENT/ASSIGNMENT/")
    print(f"dates in {folder / 'course.yaml'}; notes for the instructor, with solutions, in {folder / 'notes'}")
    return 0


def _grade(options: argparse.Namespace) -> int:
    if options.jobs < 1:
        raise InputError(f"--jobs {options.jobs}; expected at least 1")
    import_extra("nbgrader", "grading a course")
    from traindyn.run.course import grade, lanes

    found = grade.grade(options.dir, options.jobs, options.chapters, say)
    folder = Path(options.dir)
    print(f"{len(found)} submissions graded; in {folder}: grades.csv, parts.csv, gradebook.db, feedback/, summary/")
    waiting = sum(len(one.marks.waiting) for one in found)
    if waiting:
        print(f"{waiting} texts wait to be marked by hand: nbgrader formgrader, or the gradebook; then grade again")
    for line in lanes.isolation([files.project_root() / "chapters", folder]):
        print(line)
    faults = [one for one in found if one.fault]
    for one in faults:
        say(f"traindyn: {one.student.id}, {one.graded.chapter}: {one.fault}")
    return int(bool(faults))


def _grade_one(options: argparse.Namespace) -> int:
    from traindyn.run.course import assignment, course, submission, trying
    from traindyn.run.course.judge import Judge
    from traindyn.run.course.lanes import Lane

    path = Path(options.notebook)
    if not path.is_file():
        raise InputError(f"cannot read {path}: no such file")
    known = assignment.available()
    name = options.chapter or next((one for one in known if one in path.stem), None)
    if name is None:
        ids = {cell["id"] for cell in trying.read(path)}
        made = [assignment.load(one) for one in known]
        scores = {one.chapter: len(ids & set(one.spec.questions)) for one in made}
        name = max(scores, key=lambda one: scores[one], default=None)
        if name is None or not scores[name]:
            raise InputError(f"{path}: of which assignment? give --chapter, one of {', '.join(known)}")
    made = assignment.load(name)
    secret = course.load(options.course).secret if options.course else DRAWN
    made.variant(options.variant)
    read = submission.read(path, made)
    with Lane() as lane:
        graded = Judge(made, secret).grade(read, lane, options.variant)
    if options.json:
        print(json.dumps(graded.as_json(), indent=1))
        return 0
    for note in graded.notes:
        print(f"note: {note}")
    for question in graded.questions:
        print(f"{question.earned:g} of {question.points:g}  {question.title}")
        for note in question.notes:
            print(f"      note: {note}")
        for part in question.parts:
            print(
                f"      {part.earned:g} of {part.points:g}  {part.name}" + (f": {part.reason}" if part.reason else "")
            )
    print(f"{graded.earned:g} of {graded.points:g}  without what is marked by hand")
    return 0


def _try(options: argparse.Namespace) -> int:
    from traindyn.run.course import trying
    from traindyn.run.course.lanes import Lane

    with Lane() as lane:
        found = trying.attempt(options.notebook, lane)
    for one in found:
        word = {True: "passes", False: "FAILS", None: "open"}[one.passed]
        print(f"{word:7} {one.name}" + (f": {one.reason}" if one.reason else ""))
        for line in one.output.splitlines():
            print(f"        | {line}")
    print("other inputs decide: passing these tests is no mark yet")
    return int(any(one.passed is False for one in found))


def _check(options: argparse.Namespace) -> int:
    from traindyn.errors import choose
    from traindyn.run.course import assignment, check
    from traindyn.run.course.lanes import Lane

    known = assignment.available()
    for name in options.chapters:
        choose("assignment", name, known)
    faults = []
    with Lane() as lane:
        for name in options.chapters or known:
            faults += check.check(name, lane, say)
    print("\n".join(faults) or f"{len(options.chapters or known)} assignments grade as they should")
    return int(bool(faults))
