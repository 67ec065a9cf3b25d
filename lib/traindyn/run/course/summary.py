"""A figure per question: how many submissions earned each of its parts, and how the points are spread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from traindyn import files
from traindyn.run.course.assignment import Assignment

EARNED, LOST = "#4477aa", "#dddddd"


def draw(made: Assignment, outcomes: Sequence[Any], folder: Path) -> list[Path]:
    """Draw one figure per question, `<question>.svg`; return their paths.

    Args:
        made: the assignment.
        outcomes: of its submissions, as `grade` returns them.
        folder: where they are written.
    """
    paths = []
    for place, name in enumerate(made.spec.questions):
        results = [one.graded.questions[place] for one in outcomes]
        if not results:
            continue
        figure = Figure(figsize=(8, 3), layout="constrained")
        left, right = figure.subplots(1, 2)
        parts = [part.name for part in results[0].parts]
        shares = [np.mean([result.parts[k].earned > 0 for result in results]) for k in range(len(parts))]
        rows = np.arange(len(parts))[::-1]
        left.barh(rows, 1, color=LOST)
        left.barh(rows, shares, color=EARNED)
        left.set_yticks(rows, parts)
        left.set_xlim(0, 1)
        left.set_xlabel("share of submissions that earned the part")
        points = made.spec.questions[name].points
        bins = np.arange(points + 2) - 0.5
        right.hist([result.earned for result in results], bins=bins, color=EARNED, rwidth=0.8)
        right.set_xlabel(f"points of {points:g}")
        right.set_ylabel("submissions")
        right.yaxis.get_major_locator().set_params(integer=True)
        figure.suptitle(f"{made.titles[name]}: {len(results)} submissions")
        path = folder / f"{name}.svg"
        with files.atomic_path(path) as part, rc_context({"svg.hashsalt": "traindyn"}):  # the same bytes every time
            figure.savefig(part, metadata={"Date": None})
        paths.append(path)
    return paths
