"""The numbers of a test, each moved by a tenth: what a verdict must survive not to be called close."""

from __future__ import annotations

import ast
import copy
import math
from collections.abc import Iterator

import numpy as np

from traindyn.report.columns import Evidence
from traindyn.report.language import Test, literals, number
from traindyn.report.terms import Frame, layout, term


def moved(test: Test, evidence: Evidence) -> Iterator[Test]:
    """Give the test with each of its numbers a tenth lower and a tenth higher.

    A number from 1/2 to 1 moves by a tenth of its distance to 1, the ends of a band by a tenth of its width, a count by
    one if that is more; 0, a whole 1 and what stands beside `==` do not move.
    """
    fixed = {id(node) for compared in ast.walk(test.tree) if _is_equality(compared) for node in ast.walk(compared)}
    places = [(index, value) for index, (node, value) in enumerate(literals(test.tree)) if id(node) not in fixed]
    for wanted in dict.fromkeys(value for _, value in places):
        if abs(wanted) in (0, 1):
            continue
        for sign in (-1, 1):
            tree = copy.deepcopy(test.tree)
            for index, (node, value) in enumerate(list(literals(tree))):
                if value == wanted and (index, value) in places:
                    _set(node, value + sign * _step(tree, node, value, test, evidence))
            yield Test(ast.unparse(tree), tree, test.references, test.numbers)


def _is_equality(node: ast.AST) -> bool:
    return isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq)


def _set(node: ast.expr, value: float) -> None:
    if isinstance(node, ast.UnaryOp):  # -3 is "minus" applied to 3
        node.operand.value = -value
    else:
        node.value = value


def _step(tree: ast.expr, node: ast.expr, value: float, test: Test, evidence: Evidence) -> float:
    size = abs(value)
    step = 0.1 * (1 - size) if 0.5 <= size < 1 else 0.1 * size
    for chain in ast.walk(tree):
        if not isinstance(chain, ast.Compare):
            continue
        sides = [chain.left, *chain.comparators]
        if node not in sides:
            continue
        ends = [number(sides[0]), number(sides[-1])]
        if len(sides) > 2 and None not in ends and node in (sides[0], sides[-1]):
            return 0.1 * abs(ends[1] - ends[0])
        others = [side for side in sides if side is not node and number(side) is None]
        if value == int(value) and all(_is_count(side, test, evidence) for side in others):
            return max(step, 1.0)
    return step


def _is_count(node: ast.expr, test: Test, evidence: Evidence) -> bool:
    where = layout(test, evidence)
    for case in where.cases:
        values = np.atleast_1d(term(node, Frame(evidence, where.seeds, case)))
        known = values[~np.isnan(values)]
        if not all(math.isfinite(item) and item == int(item) for item in known.tolist()):
            return False
    return True
