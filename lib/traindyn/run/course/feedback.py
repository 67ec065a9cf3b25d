"""A student's feedback: one page that needs no network and shows no hidden input, with score and reason per part."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from traindyn.run.course.assignment import Assignment

FOLDER = Path(__file__).with_name("templates")
ANSWER = 20_000  # characters of an answer that are shown


def page(made: Assignment, outcome: Any) -> str:
    """Return the page of a graded submission.

    Args:
        made: the assignment.
        outcome: as `grade` returns it. Everything in it that a student wrote is escaped.
    """
    marks, questions = outcome.marks, []
    results = {question.name: question for question in outcome.graded.questions}
    for name, title in made.titles.items():
        code = outcome.read.answers.get(name) if name in results else outcome.read.texts.get(name)
        questions.append(
            {
                "title": title,
                "score": marks.scores.get(name, 0.0),
                "points": marks.points.get(name, 0.0),
                "parts": results[name].parts if name in results else [],
                "notes": results[name].notes if name in results else [],
                "by_hand": name in marks.by_hand,
                "waiting": name in marks.waiting,
                "comment": marks.comments.get(name, ""),
                "answer": (code or "")[:ANSWER],
                "text": name not in results,
            }
        )
    who = outcome.student
    return _environment().get_template("feedback.html").render(
        title=made.title,
        student=" ".join(part for part in (who.first_name, who.last_name) if part) or who.id,
        id=who.id,
        total=marks.total,
        points=sum(marks.points.values()),
        waiting=len(marks.waiting),
        penalty=marks.penalty,
        late=outcome.late,
        notes=outcome.graded.notes,
        questions=questions,
    ) + "\n"  # fmt: skip


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
