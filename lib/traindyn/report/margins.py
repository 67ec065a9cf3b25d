"""How far a test is from its other outcome: slack, margin, and the one comparison that decides.

The slack of `a < b` is b - a, of logarithms where both sides are positive in every seed; its margin is the slack over
its standard deviation over seeds or, for a test asked once, over its jackknife standard error. The smallest decides an
"and", the largest an "or", the k-th largest over seeds a quorum of k: the sign says the outcome.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from traindyn.report.columns import Evidence
from traindyn.report.language import OPERATORS, Case, Test
from traindyn.report.terms import TRUE, UNKNOWN, Frame, Layout, compare, term

FEWEST = 3  # below this number of seeds there is no spread to speak of
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


@dataclass(frozen=True)
class Weight:
    """One comparison in one seed and case, or the one among several that decides.

    Attributes:
        truth: 1 true, 0 false, 1/2 where it cannot be said.
        slack: distance to the other outcome, positive when met.
        margin: slack over its spread, None where there is none.
        reason: why there is no margin, or no outcome.
    """

    truth: float
    slack: float = math.nan
    margin: float | None = None
    value: float | None = None
    operator: str | None = None
    threshold: float | None = None
    reason: str | None = None
    seed: int | None = None
    case: Case | None = None

    @property
    def order(self) -> tuple[float, float, float]:
        """What is compared where one of several decides: outcome, then margin, then slack."""
        certain = math.inf if self.truth == TRUE else -math.inf
        slack = 0.0 if math.isnan(self.slack) else self.slack
        return self.truth, certain if self.margin is None else self.margin, slack

    def negated(self) -> Weight:
        """Return the same comparison below a "not"."""
        margin = None if self.margin is None else -self.margin
        sign = None if self.operator is None else _NEGATED[self.operator]
        return replace(self, truth=1 - self.truth, slack=-self.slack, margin=margin, operator=sign)


def decide(test: Test, evidence: Evidence, where: Layout, share: Fraction) -> Weight:
    """Return the comparison that decides a test.

    Args:
        test: the test.
        evidence: its columns.
        where: seeds and cases, from `terms.layout`.
        share: share of the seeds that have to pass.
    """
    count = 1 if where.once else len(where.seeds)
    per_seed: list[list[Weight]] = [[] for _ in range(count)]
    for case in where.cases:
        for i, weight in enumerate(_weigh(test.tree, Frame(evidence, where.seeds, case), where.once, count)):
            per_seed[i].append(replace(weight, case=case, seed=None if where.once else where.seeds[i]))
    worst = [min(weights, key=lambda weight: weight.order) for weights in per_seed]
    passing = math.ceil(share * count)
    return sorted(worst, key=lambda weight: weight.order, reverse=True)[passing - 1 if passing else 0]


def _weigh(node: ast.expr, frame: Frame, once: bool, count: int) -> list[Weight]:
    match node:
        case ast.BoolOp(op=op, values=parts):
            best = min if isinstance(op, ast.And) else max
            columns = zip(*(_weigh(part, frame, once, count) for part in parts), strict=True)
            return [best(column, key=lambda weight: weight.order) for column in columns]
        case ast.UnaryOp(operand=part):
            return [weight.negated() for weight in _weigh(part, frame, once, count)]
        case ast.IfExp(test=premise, body=body):
            premises, bodies = (_weigh(part, frame, once, count) for part in (premise, body))
            unmet = Weight(UNKNOWN, reason="its premise is not met")
            return [b if p.truth == TRUE else unmet for p, b in zip(premises, bodies, strict=True)]
        case ast.Compare(left=left, ops=ops, comparators=rights):
            sides = [left, *rights]
            links = [_link(OPERATORS[type(op)], *sides[i : i + 2], frame, once, count) for i, op in enumerate(ops)]
            return [min(column, key=lambda weight: weight.order) for column in zip(*links, strict=True)]
    raise AssertionError(ast.dump(node))


def _link(sign: str, left: ast.expr, right: ast.expr, frame: Frame, once: bool, count: int) -> list[Weight]:
    """Weigh one comparison in every seed (or once) of one case."""
    a, b = (np.broadcast_to(term(side, frame), (count,)) for side in (left, right))
    truths = compare(sign, a, b)
    if once:
        slack, spread, reason = _jackknife(sign, left, right, frame)
    else:
        slack, spread, reason = _over_seeds(sign, a, b)
    turn = not _named(left) and _named(right)  # the number is the threshold, on whichever side it stands
    found = []
    for i in range(count):
        value, threshold = (b[i], a[i]) if turn else (a[i], b[i])
        whole = spread is not None and math.isfinite(slack[i])
        found.append(
            Weight(
                float(truths[i]),
                float(slack[i]),
                float(slack[i] / spread) if whole else None,
                float(value),
                _FLIPPED[sign] if turn else sign,
                float(threshold),
                reason if spread is None else None if whole else "it is infinite",
            )
        )
    return found


def _named(node: ast.expr) -> bool:
    return any(isinstance(item, ast.Name | ast.Subscript) for item in _terms(node))


def _terms(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, ast.Call):
        return [found for item in node.args for found in _terms(item)]
    return [node, *(found for child in ast.iter_child_nodes(node) for found in _terms(child))]


def slack_of(sign: str, a: np.ndarray, b: np.ndarray, logarithms: bool) -> np.ndarray:
    """Return the slack of `a sign b`, of logarithms if asked for."""
    with np.errstate(all="ignore"):
        if logarithms and sign not in ("==", "!="):
            a, b = np.log(a), np.log(b)
        if sign == "==":
            return -np.abs(a - b)
        return b - a if sign in ("<", "<=") else a - b


def _positive(*sides: np.ndarray) -> bool:
    return all(bool((side[~np.isnan(side)] > 0).all()) for side in sides)


def _over_seeds(sign: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float | None, str | None]:
    slack = slack_of(sign, a, b, _positive(a, b))
    return slack, *_spread(slack[~np.isnan(slack)], lambda values: values.std(ddof=1))


def _jackknife(sign: str, left: ast.expr, right: ast.expr, frame: Frame) -> tuple[np.ndarray, float | None, str | None]:
    """Return the slack of a comparison asked once, and its standard error by leaving out one seed after the other."""
    count = len(frame.seeds)
    frames = [
        frame,
        *(Frame(frame.evidence, [*frame.seeds[:i], *frame.seeds[i + 1 :]], frame.case) for i in range(count)),
    ]
    a, b = (np.array([float(term(side, each)) for each in frames]) for side in (left, right))
    slack = slack_of(sign, a, b, _positive(a, b))

    def error(values: np.ndarray) -> float:
        return math.sqrt((count - 1) / count * ((values - values.mean()) ** 2).sum())

    return slack[:1], *_spread(slack[1:], error)


def _spread(slack: np.ndarray, measure) -> tuple[float | None, str | None]:
    if len(slack) < FEWEST:
        return None, "fewer than 3 seeds" if len(slack) else "it does not depend on seeds"
    if np.isnan(slack).any():
        return None, "undefined with one seed left out"
    if not np.isfinite(slack).all():
        return None, "it is infinite in some seed"
    if not slack.any():
        return None, "it is met exactly in every seed"
    spread = float(measure(slack))
    if spread <= 1e-12 * float(np.abs(slack).max()):
        return None, "no spread over seeds"
    return spread, None
