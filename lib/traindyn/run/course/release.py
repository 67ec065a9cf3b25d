"""What students get: the assignment as a notebook without solutions, with the numbers of a variant."""

from __future__ import annotations

import copy
from typing import Any

from traindyn.run.course.assignment import Assignment, cleared, filled, grade_id

WRITE = "YOUR ANSWER HERE"  # as nbgrader writes it


def notebook(made: Assignment, variant: str, solutions: bool = False) -> Any:
    """Return the assignment as a notebook.

    Args:
        made: the assignment.
        variant: the roster's value, whose numbers stand in statements and given code.
        solutions: leave the solutions in (the source from which nbgrader makes its release).
    """
    book, numbers = copy.deepcopy(made.book), made.variant(variant)
    for place, cell in enumerate(book.cells):
        cell.id = grade_id(cell) or f"cell-{place}"
        if grade_id(cell) not in made.spec.questions and grade_id(cell) not in made.spec.rubrics:
            cell.source = filled(cell.source, numbers)
            question = made.spec.questions.get(grade_id(cell).removeprefix("about-"))
            if question is not None and grade_id(cell).startswith("about-"):
                cell.source += f"\n\n*Time limit: {question.seconds:g} s of processor time.*"
        elif not solutions:
            cell.source = cleared(cell.source) if cell.cell_type == "code" else WRITE
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return book
