"""A test is asked of evidence: in every seed and every case, with three values, and with the margin that decides.

The language and the meaning of its words are described in CONTRIBUTING.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from traindyn.errors import InputError
from traindyn.report import margins
from traindyn.report.columns import Evidence
from traindyn.report.language import Case, Test, fill, parse
from traindyn.report.terms import FALSE, TRUE, Frame, Layout, layout

__all__ = ["Outcome", "Test", "evaluate", "fill", "parse"]


@dataclass(frozen=True)
class Outcome:
    """How a test came out.

    Attributes:
        outcome: true, false, or None where it cannot be said.
        seeds: fewest seeds among its names and cases; None if no number depends on chance.
        value, operator, threshold: the comparison that decides.
        margin: its slack in units of its spread over seeds; None where there is none.
        seed, case: where it decides; None where it is asked once, or has no cases.
        reason: why there is no margin, or why there is no outcome.
        missing: names (with their case) that this run lacks or that are undefined in it.
        undefined: all of these are there: they are undefined (NaN), as what is read of a run that diverged, or the
            test's premise is not met.
    """

    outcome: bool | None
    seeds: int | None = None
    value: float | None = None
    operator: str | None = None
    threshold: float | None = None
    margin: float | None = None
    seed: int | None = None
    case: Case | None = None
    reason: str | None = None
    missing: tuple[str, ...] = ()
    undefined: bool = False


def evaluate(test: Test | str, evidence: Evidence, quorum: Fraction | float | str | None = None) -> Outcome:
    """Ask a test of evidence.

    Args:
        test: the test, or its text.
        evidence: the columns that its names stand for, as `columns.gather` returns them.
        quorum: share of the seeds that have to pass, rounded up to whole seeds; all of them if None.

    Returns:
        The outcome, with the one comparison that decides it.

    Raises:
        InputError: a name is not in the evidence, an index does not fit its cases, names without an index have
            different cases, or a quorum is given for a test that is not asked of every seed.
    """
    test = parse(test) if isinstance(test, str) else test
    where = layout(test, evidence)
    share = Fraction(1) if quorum is None else Fraction(str(quorum))
    if where.once and quorum is not None and share != 1:
        raise InputError(f"test '{test.text}' is asked once, over all seeds; it cannot have the quorum {share}")
    lacking, undefined = _missing(test, evidence, where)
    if not where.once and not where.seeds:
        return Outcome(None, where.fewest, reason="no seed has all its numbers", missing=lacking, undefined=undefined)
    found = margins.decide(test, evidence, where, share)
    outcome = {TRUE: True, FALSE: False}.get(found.truth)
    if outcome is None:
        lacking = lacking or test.names
        return Outcome(
            None,
            where.fewest,
            seed=found.seed,
            case=found.case,
            reason=found.reason,
            missing=lacking,
            undefined=undefined,
        )
    return Outcome(
        outcome,
        where.fewest,
        found.value,
        found.operator,
        found.threshold,
        found.margin,
        found.seed,
        found.case,
        found.reason if found.margin is None else None,
    )


def _missing(test: Test, evidence: Evidence, where: Layout) -> tuple[tuple[str, ...], bool]:
    """Return the names that have no number, and whether all of them are there and undefined."""
    found, undefined = [], True
    for asked in test.references:
        values = [np.atleast_1d(Frame(evidence, where.seeds, case).read(asked)) for case in where.cases]
        if any(value.size == 0 or np.isnan(value).any() for value in values):
            name, case = asked
            found.append(name if case is None else f"{name}[{', '.join(map(said, case))}]")
            undefined = undefined and all(value.size > 0 for value in values)
    return tuple(found), undefined


def said(case: str | float) -> str:
    """Return one case as text; whole numbers without a point."""
    return case if isinstance(case, str) else f"{case:.12g}"
