"""The judge: hidden inputs to the worker, results back, points and reasons. It never runs a line of a submission."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from traindyn import evidence
from traindyn.errors import InputError
from traindyn.report import claims, columns, judge, words
from traindyn.run.course import compare
from traindyn.run.course.assignment import Assignment
from traindyn.run.course.lanes import Failure, Lane, WorkerAbsent
from traindyn.run.course.questions import NotAllowed, Part, Question, Study, Variant
from traindyn.run.course.submission import Submission

FRESH = 10**6  # hidden seeds of studies lie above: no visible test uses them
ROWS = 5_000


@dataclass
class PartResult:
    """How one part came out: what it asks, what it is worth, what it earned, and why not more."""

    name: str
    says: str
    points: float
    earned: float
    reason: str


@dataclass
class QuestionResult:
    """How one question came out."""

    name: str
    title: str
    parts: list[PartResult]
    notes: list[str] = field(default_factory=list)

    @property
    def points(self) -> float:
        return sum(part.points for part in self.parts)

    @property
    def earned(self) -> float:
        return sum(part.earned for part in self.parts)


@dataclass
class Graded:
    """How a submission came out, free texts left out."""

    chapter: str
    questions: list[QuestionResult]
    notes: list[str] = field(default_factory=list)

    @property
    def points(self) -> float:
        return sum(question.points for question in self.questions)

    @property
    def earned(self) -> float:
        return sum(question.earned for question in self.questions)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain mappings and lists."""
        found = asdict(self)
        for entry, question in zip(found["questions"], self.questions, strict=True):
            entry |= {"points": question.points, "earned": question.earned}
        return {**found, "points": self.points, "earned": self.earned}


class Judge:
    """Grades submissions of one assignment with one secret; expected results are computed once per variant.

    Args:
        made: the assignment.
        secret: what hidden inputs are drawn from; another secret gives other inputs.
    """

    def __init__(self, made: Assignment, secret: str) -> None:
        self.made, self.secret = made, secret
        self._hidden = cache(self._draw)

    def grade(self, submission: Submission, lane: Lane, variant: str | None = None) -> Graded:
        """Grade a submission."""
        found = []
        for name, question in self.made.spec.questions.items():
            notes = list(submission.about.get(name, []))
            answer = submission.answers.get(name)
            parts = self.question(name, question, answer, lane, variant)
            found.append(QuestionResult(name, self.made.titles[name], parts, notes))
        return Graded(self.made.chapter, found, list(submission.notes))

    def prepare(self, variant: str | None = None) -> None:
        """Compute what is expected of a variant, so that several threads find it ready."""
        for name, question in self.made.spec.questions.items():
            for part in question.parts:
                self._hidden(name, part.name, variant)

    def question(
        self, name: str, question: Question, answer: str | None, lane: Lane, variant: str | None = None
    ) -> list[PartResult]:
        """Grade one answer; None is one that was not given."""
        numbers = self.made.variant(variant)
        if question.study is not None:
            return self._study(name, question, question.study, answer, lane, variant, numbers)
        return [
            self._result(part, self._part(name, question, part, answer, lane, variant, numbers))
            for part in question.parts
        ]

    @staticmethod
    def _result(part: Part, reason: str | None) -> PartResult:
        return PartResult(part.name, part.says, part.points, 0.0 if reason else part.points, reason or "")

    def _part(
        self, name: str, question: Question, part: Part, answer: str | None, lane: Lane, variant: str | None,
        numbers: Variant,
    ) -> str | None:  # fmt: skip
        """Return why a part is not earned, or None."""
        if answer is None:
            return "no answer"
        pairs = self._hidden(name, part.name, variant)
        try:
            results = []
            with _once_more(lane, question.seconds / len(question.parts)) as child:
                child.define(self.made.given(numbers), answer, question.entry, question.tensors)
                for arguments, _ in pairs:
                    results.append(child.call(arguments))
        except Failure as failure:
            return failure.words()
        failed = [
            reason for result, (_, right) in zip(results, pairs, strict=True) if (reason := _agree(part, result, right))
        ]
        if not failed:
            return None
        of = "" if len(pairs) == 1 else f"{len(failed)} of {len(pairs)} hidden inputs: "
        return of + failed[0]

    def _draw(self, name: str, part: str, variant: str | None) -> list[tuple[dict[str, Any], Any]]:
        """Return hidden inputs with their expected results."""
        found = next(one for one in self.made.spec.questions[name].parts if one.name == part)
        numbers = self.made.variant(variant)
        calls = found.inputs(self.generator(name, part), numbers)
        return [(dict(arguments), _plain(found.expected(arguments, numbers))) for arguments in calls]

    def generator(self, *names: str) -> np.random.Generator:
        """Return the generator of a question's part: the secret, the chapter and the names decide."""
        text = "\0".join((self.secret, self.made.chapter, *names))
        return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))

    # ---- a claim, judged by the book's own verdict engine

    def _study(
        self, name: str, question: Question, study: Study, answer: str | None, lane: Lane, variant: str | None,
        numbers: Variant,
    ) -> list[PartResult]:  # fmt: skip
        ledger = claims.read_claim(study.claim, self.made.folder / "assignment.py")
        rng = self.generator(name, "seeds")
        seeds = sorted(int(seed) for seed in FRESH + rng.choice(10**6, study.seeds, replace=False))
        reason, rows = self._rows(question, study, answer, lane, numbers, seeds)
        if reason is None:
            reason = _believed(study, rows, seeds, numbers, rng)
        says = "the rows are those of the study that was asked for, computed again by the judge"
        found = [PartResult("recomputed", says, study.recomputed, 0.0 if reason else study.recomputed, reason or "")]
        record: Mapping[str, Any] = {}
        if reason is None:
            frame = pd.DataFrame([{key: _number(value) for key, value in row.items()} for row in rows])
            try:
                table = columns.gather(evidence.table(frame.astype({"seed": "int64"}), study.cases))
                record = judge.judge(ledger, table, "laptop")
            except InputError as error:
                reason = _without_numbers(str(error))
        for part in ledger.parts:
            if part.name not in study.points:
                continue
            points = study.points[part.name]
            if reason is not None:
                why = "its evidence is not there or was not believed" if answer is not None else "no answer"
                found.append(PartResult(part.name, part.statement, points, 0.0, why))
                continue
            entry = record["parts"][part.name]
            earned = points if entry["outcome"] is True else 0.0
            found.append(PartResult(part.name, part.statement, points, earned, "" if earned else _measured(entry)))
        if record:
            found[0].says += f"; the ledger's verdict on them: {record['verdict']}"
        return found

    def _rows(
        self, question: Question, study: Study, answer: str | None, lane: Lane, numbers: Variant, seeds: list[int]
    ) -> tuple[str | None, list[dict[str, Any]]]:
        """Return why there are no rows, or None and the rows."""
        if answer is None:
            return "no answer", []
        try:
            with _once_more(lane, question.seconds) as child:
                child.define(self.made.given(numbers), answer, question.entry, question.tensors)
                rows = child.call({"seeds": seeds})
        except Failure as failure:
            return failure.words(), []
        return _form(rows, study, seeds)


def _form(rows: Any, study: Study, seeds: Sequence[int]) -> tuple[str | None, list[dict[str, Any]]]:
    """Return what is wrong with the form of rows, or None and the rows."""
    if isinstance(rows, dict):  # a table as {column: values}
        lengths = {len(value) for value in rows.values() if isinstance(value, list | np.ndarray)}
        if len(lengths) != 1 or not all(isinstance(value, list | np.ndarray) for value in rows.values()):
            return "expected a list of rows, one mapping per seed and case", []
        rows = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return "expected a list of rows, one mapping per seed and case", []
    if len(rows) > ROWS:
        return "too many rows", []
    plain = []
    for row in rows:
        numbers = {str(key): _number(value) for key, value in row.items()}
        if None in numbers.values():
            return "a row holds something that is no number", []
        plain.append(numbers)
    lacking = {"seed", *study.cases} - set.intersection(*(set(row) for row in plain))
    if lacking:
        return f"rows lack the column '{sorted(lacking)[0]}'", []
    if sorted({row["seed"] for row in plain}) != sorted(map(float, seeds)):
        return "the rows are not those of the seeds that were given, each of them at least once", []
    keys = [(row["seed"], *(row[case] for case in study.cases)) for row in plain]
    if len(set(keys)) < len(keys):
        return "two rows have the same seed and case", []
    return study.whole(plain), plain


def _believed(
    study: Study, rows: Sequence[Mapping[str, Any]], seeds: Sequence[int], variant: Variant, rng: np.random.Generator
) -> str | None:
    """Return why rows are not believed, or None: a number of them is computed again."""
    order = rng.permutation(len(rows)) if study.checked is not None else np.arange(len(rows))
    for place in order[: study.checked]:
        row = rows[int(place)]
        try:
            right = study.again(row, int(row["seed"]), variant)
        except NotAllowed as error:
            return str(error)
        except Exception as error:
            return f"a row cannot be computed again ({type(error).__name__})"
        for name, value in right.items():
            if name not in row:
                return f"rows lack the column '{name}'"
            if (reason := compare.close(study.rtol)(row[name], value)) is not None:
                return f"'{name}' is not what the study gives: {reason}"
    return None


def _number(value: Any) -> float | None:
    found = compare.numbers(value)
    return None if found is None or found.size != 1 else float(found.reshape(()))


def _agree(part: Part, result: Any, right: Any) -> str | None:
    try:
        return part.agrees(result, right)
    except Exception as error:
        return f"the result cannot be compared ({type(error).__name__})"


def _measured(entry: Mapping[str, Any]) -> str:
    """Return the comparison that decided a part of a claim: number, threshold, margin."""
    if entry["outcome"] is None:
        return f"cannot be said: {entry['reason'] or 'a number is missing or undefined'}"
    asked = words.asked(entry)
    margin = (
        "" if entry["margin"] is None else f", margin {words.neat(words.real(entry['margin']))} standard deviations"
    )
    return f"measured {words.neat(words.real(entry['value']))}, asked {asked}{margin}"


def _without_numbers(text: str) -> str:
    return (
        text if not any(char.isdigit() for char in text) else "the rows do not have the numbers that the claim asks for"
    )


def _plain(value: Any) -> Any:
    """Return an expected result in the form in which results arrive."""
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


class _once_more:
    """A child of the lane; where the worker died since it was last used, it is started again once."""

    def __init__(self, lane: Lane, seconds: float) -> None:
        self.lane, self.seconds = lane, seconds

    def __enter__(self) -> Any:
        for left in (1, 0):
            self.block = self.lane.child(max(1.0, self.seconds))
            try:
                return self.block.__enter__()
            except WorkerAbsent:
                raise
            except (RuntimeError, OSError):
                self.lane.close()
                if not left:
                    raise Failure("died") from None
        raise AssertionError

    def __exit__(self, *error: Any) -> Any:
        return self.block.__exit__(*error)


__all__ = ["Graded", "Judge", "PartResult", "QuestionResult"]
