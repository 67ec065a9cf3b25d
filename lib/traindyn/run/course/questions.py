"""What `chapters/<name>/assignment.py` declares: for every question its parts, hidden inputs and what is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Arguments = dict[str, Any]
Variant = Mapping[str, float]
Inputs = Callable[[np.random.Generator, Variant], Sequence[Arguments]]
SECONDS = 10.0


class NotAllowed(ValueError):
    """What a student chose in a study is outside what the question allows; the message holds no input."""


@dataclass(frozen=True)
class Part:
    """One thing that an answer can get right, earned by all of its inputs or not at all.

    Attributes:
        name: short word, unique in its question.
        points: what it is worth.
        says: what it asks, in words that hold no hidden number.
        inputs: draws the arguments of one or more calls from a generator that no student has seen.
        expected: (arguments, variant) -> the right result, not computed by the model solution.
        agrees: (result, expected) -> None if they agree, else why not, in words that hold no input.
    """

    name: str
    points: float
    says: str
    inputs: Inputs
    expected: Callable[[Arguments, Variant], Any]
    agrees: Callable[[Any, Any], str | None]


@dataclass(frozen=True)
class Study:
    """A claim of a ledger: the answer is a study, whose evidence on fresh seeds the book's own verdict engine judges.

    The answer's function takes `seeds` (and what `extra` gives) and returns a list of rows, mappings with `seed`, the
    cases and numbers.

    Attributes:
        claim: an entry as in `claims.yaml`; every part of it that has points is one of the question.
        points: part of the claim -> points. What is believed at all has a part of its own, "recomputed".
        seeds: how many seeds are drawn.
        cases: columns that tell the rows of one seed apart.
        again: (row, seed, variant) -> {column: number}: what the row should hold, given what the student chose in it;
            raises NotAllowed where the choice is outside the question's bounds.
        rtol: relative difference up to which a number is the same.
        checked: how many rows are computed again; all of them if None.
        recomputed: points for rows that are what they should be.
        whole: (rows of the seeds) -> None or why the choice as a whole is not allowed (too few widths, ...).
    """

    claim: Mapping[str, Any]
    points: Mapping[str, float]
    seeds: int
    again: Callable[[Mapping[str, Any], int, Variant], Mapping[str, float]]
    cases: tuple[str, ...] = ()
    rtol: float = 1e-6
    checked: int | None = None
    recomputed: float = 1.0
    whole: Callable[[Sequence[Mapping[str, Any]]], str | None] = lambda rows: None
    extra: Inputs | None = None


@dataclass(frozen=True)
class Question:
    """How one question is graded.

    Attributes:
        entry: the function that the answer's cell has to define.
        parts: what it is given and compared with; or a study.
        seconds: of processor time for the whole question, shared equally by its parts.
        tensors: whether arrays are given as torch tensors.
    """

    entry: str
    parts: tuple[Part, ...] = ()
    study: Study | None = None
    seconds: float = SECONDS
    tensors: bool = False

    @property
    def points(self) -> float:
        """What the question is worth."""
        if self.study is not None:
            return self.study.recomputed + sum(self.study.points.values())
        return sum(part.points for part in self.parts)


@dataclass(frozen=True)
class Rubric:
    """How a free text is marked by hand.

    Attributes:
        points: most points.
        lines: what earns how much, for the instructor's notes.
    """

    points: float
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Spec:
    """A chapter's `assignment.py`.

    Attributes:
        questions: grade id of the answer's cell -> how it is graded.
        rubrics: grade id of a free text -> its rubric.
        variants: values that the roster may name -> numbers that inputs, given code and statements take; "0" is there.
        hidden: words of the module that a release file must not hold, beside the solutions.
    """

    questions: Mapping[str, Question]
    rubrics: Mapping[str, Rubric] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=lambda: {"0": {}})
