"""What a test sees of evidence: where it is asked, the value of its terms, and its outcome with three values.

True is 1, false 0, "cannot be said" 1/2, so that Kleene's "and" is the smaller, "or" the larger and "not" one minus the
value. An undefined number is NaN.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from traindyn.errors import InputError, nearest
from traindyn.report.columns import Column, Evidence
from traindyn.report.language import OPERATORS, OVER_SEEDS, Case, Reference, Test, number, reference

FALSE, UNKNOWN, TRUE = 0.0, 0.5, 1.0


@dataclass(frozen=True)
class Layout:
    """Where a test is asked: its seeds, its cases, and how many seeds stand behind it."""

    seeds: tuple[int, ...]
    cases: tuple[Case | None, ...]
    fewest: int | None
    once: bool


@dataclass(frozen=True)
class Frame:
    """The numbers that one test sees in one case: arrays over seeds, or single numbers where they have no seed."""

    evidence: Mapping[str, Column]
    seeds: Sequence[int]
    case: Case | None = None

    def read(self, asked: Reference) -> np.ndarray:
        """Return what a name stands for, NaN where it is missing or undefined."""
        name, case = asked
        column = self.evidence[name]
        row = column.rows.get(case if case is not None else (self.case or ()) if column.levels else (), {})
        if not column.seeded:
            return np.array(row.get(None, math.nan))
        return np.array([row.get(seed, math.nan) for seed in self.seeds], dtype=float)


def layout(test: Test, evidence: Evidence) -> Layout:
    """Return the seeds and cases in which a test is asked.

    Raises:
        InputError: as in `evaluate`.
    """
    seeds: set[int] | None = None
    fewest: list[int] = []
    levels: dict[str, tuple[str, ...]] = {}
    cases: dict[Case | None, None] = {}
    for name, case in test.references:
        if name not in evidence:
            raise InputError(f"test '{test.text}': no evidence is called '{name}'{nearest(name, evidence)}")
        column = evidence[name]
        if case is not None and column.rows and len(case) != len(column.levels):
            has = f"the cases {', '.join(column.levels)}" if column.levels else "no cases"
            raise InputError(f"test '{test.text}': '{name}' has {has}, the index gives {len(case)}")
        if case is None and column.levels:
            levels[name] = column.levels
            cases |= dict.fromkeys(column.rows)
        rows = [column.rows.get(case, {})] if case is not None else list(column.rows.values())
        if column.seeded:
            fewest.append(min((len(row) for row in rows), default=0))
            if own := {seed for row in rows for seed in row if seed is not None}:
                seeds = own if seeds is None else seeds & own
    if len(set(levels.values())) > 1:
        said = "; ".join(f"{name} by {', '.join(level)}" for name, level in levels.items())
        raise InputError(f"test '{test.text}': names without an index have different cases ({said})")
    if fewest and seeds:
        fewest.append(len(seeds))
    found = tuple(sorted(seeds or ()))
    return Layout(found, tuple(cases) or (None,), min(fewest, default=None), not _each(test.tree, evidence))


def _each(node: ast.AST, evidence: Evidence) -> bool:
    """Return whether a number that depends on a seed stands outside every function over seeds."""
    match node:
        case ast.Name() | ast.Subscript():
            return evidence[reference(node)[0]].seeded
        case ast.Call(func=function, args=arguments):
            return function.id not in OVER_SEEDS and any(_each(item, evidence) for item in arguments)
    return any(_each(child, evidence) for child in ast.iter_child_nodes(node))


def term(node: ast.expr, frame: Frame) -> np.ndarray:
    """Return the value of a term: an array over seeds, or a single number; NaN where it cannot be said."""
    value = number(node)
    if value is not None:
        return np.array(value)
    match node:
        case ast.Name() | ast.Subscript():
            return frame.read(reference(node))
        case ast.UnaryOp(operand=part):
            return -term(part, frame)
        case ast.BinOp(left=left, op=op, right=right):
            return _arithmetic(op, term(left, frame), term(right, frame))
        case ast.Call(func=ast.Name(id="count"), args=[asked]):
            return _over_seeds("count", np.atleast_1d(truth(asked, frame)))
        case ast.Call(func=ast.Name(id="quantile"), args=[asked, share]):
            return np.array(_quantile(np.atleast_1d(term(asked, frame)), number(share)))
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in OVER_SEEDS:
            return _over_seeds(name, np.atleast_1d(term(arguments[0], frame)))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            values = [term(item, frame) for item in arguments]
            with np.errstate(all="ignore"):
                if name in ("abs", "log10"):
                    return np.asarray(np.abs(values[0]) if name == "abs" else np.log10(values[0]))
                smaller = np.minimum if name == "min" else np.maximum
                return np.asarray(smaller.reduce(np.broadcast_arrays(*values)))
    raise AssertionError(ast.dump(node))


def _arithmetic(op: ast.operator, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        match op:
            case ast.Add():
                found = left + right
            case ast.Sub():
                found = left - right
            case ast.Mult():
                found = left * right
            case ast.Div():
                found = np.divide(left, right)
            case _:  # numpy's power says 1 where one side is undefined and the other makes it so
                found = np.where(np.isnan(left) | np.isnan(right), math.nan, np.power(left, right))
    return np.asarray(found)


def _over_seeds(name: str, values: np.ndarray) -> np.ndarray:
    count = len(values)
    if count == 0 or np.isnan(values).any() or (name == "count" and (values == UNKNOWN).any()):
        return np.array(math.nan)
    with np.errstate(all="ignore"):
        match name:
            case "mean":
                return np.array(values.mean())
            case "median":
                return np.array(_quantile(values, 0.5))
            case "least" | "most":
                return np.array(values.min() if name == "least" else values.max())
            case "count":
                return np.array((values == TRUE).sum(), dtype=float)
        spread = values.std(ddof=1) if count > 1 else math.nan
        return np.array(spread if name == "sd" else spread / math.sqrt(count))


def _quantile(values: np.ndarray, share: float) -> float:
    if len(values) == 0 or np.isnan(values).any():
        return math.nan
    ordered, place = np.sort(values), share * (len(values) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return float(low if low == high else low + (place - math.floor(place)) * (high - low))  # two infinities are one


def compare(sign: str, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the three-valued outcome of one comparison."""
    with np.errstate(invalid="ignore"):
        match sign:
            case "<":
                met = left < right
            case "<=":
                met = left <= right
            case ">":
                met = left > right
            case ">=":
                met = left >= right
            case "==":
                met = left == right
            case _:
                met = left != right
    return np.where(np.isnan(left) | np.isnan(right), UNKNOWN, np.where(met, TRUE, FALSE))


def truth(node: ast.expr, frame: Frame) -> np.ndarray:
    """Return the outcome of a test over seeds (or once): 1 true, 0 false, 1/2 where it cannot be said."""
    match node:
        case ast.BoolOp(op=op, values=parts):
            values = np.broadcast_arrays(*(truth(part, frame) for part in parts))
            return np.asarray((np.minimum if isinstance(op, ast.And) else np.maximum).reduce(values))
        case ast.UnaryOp(operand=part):
            return 1 - truth(part, frame)
        case ast.IfExp(test=premise, body=body):
            return np.where(truth(premise, frame) == TRUE, truth(body, frame), UNKNOWN)
        case ast.Compare(left=left, ops=ops, comparators=rights):
            terms = [term(item, frame) for item in (left, *rights)]
            links = [compare(OPERATORS[type(op)], *terms[i : i + 2]) for i, op in enumerate(ops)]
            return np.asarray(np.minimum.reduce(np.broadcast_arrays(*links)))
    raise AssertionError(ast.dump(node))
