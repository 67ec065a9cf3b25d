"""Evidence as the tests of a ledger read it: one column of numbers per name, by seed and case; and its form in JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from traindyn.errors import InputError
from traindyn.evidence import SEED, checked
from traindyn.report.language import Case


@dataclass(frozen=True)
class Column:
    """The numbers of one name.

    Attributes:
        levels: names of the cases that tell the rows of one seed apart.
        seeded: whether the numbers were drawn with a seed.
        rows: case -> seed -> number; the seed is None where the numbers do not depend on chance, NaN is "undefined".
    """

    levels: tuple[str, ...]
    seeded: bool
    rows: Mapping[Case, Mapping[int | None, float]] = field(default_factory=dict)


Evidence = Mapping[str, Column]


def plain_case(value: Any) -> str | float:
    """Return one case as a word or a float, so that width 5 and width 5.0 are the same case."""
    if isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating):
        return float(value)
    return str(value)


def gather(*tables: pd.DataFrame | Mapping[str, float | Column]) -> dict[str, Column]:
    """Return tables and {name: number} as evidence.

    Args:
        tables: tables as `traindyn.evidence.table` returns them, and mappings from names to single numbers.

    Raises:
        InputError: a name stands in two of them or is no name of the language, or a number is none.
    """
    found: dict[str, Column] = {}
    for table in tables:
        if isinstance(table, pd.DataFrame):
            columns = _columns(table)
        elif isinstance(table, Mapping):
            columns = {name: _single(name, value) for name, value in table.items()}
        else:
            raise InputError(f"evidence: expected tables and {{name: number}}, got {type(table).__name__}")
        for name, column in columns.items():
            if name in found:
                raise InputError(f"evidence: '{name}' stands in two tables; give it two names")
            if not str(name).isidentifier():
                raise InputError(f"evidence: '{name}' cannot stand in a test; expected a word such as final_loss")
            found[name] = column
    return found


def _single(name: str, value: Any) -> Column:
    if isinstance(value, Column):
        return value
    try:
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"evidence: '{name}' is {type(value).__name__}; expected one number, or a table with the column 'seed'"
        ) from error
    return Column((), False, {(): {None: number}})


def _columns(table: pd.DataFrame) -> dict[str, Column]:
    table = checked(table)
    levels = list(table.index.names)
    seeded = SEED in levels
    cases = tuple(name for name in levels if name != SEED)
    keys = []
    for row in table.index.to_frame(index=False).itertuples(index=False, name=None):
        named = dict(zip(levels, row, strict=True))
        keys.append((tuple(plain_case(named[name]) for name in cases), int(named[SEED]) if seeded else None))
    found = {}
    for name in table.columns:
        rows: dict[Case, dict[int | None, float]] = {}
        for (case, seed), value in zip(keys, table[name].tolist(), strict=True):
            rows.setdefault(case, {})[seed] = value
        found[name] = Column(cases, seeded, rows)
    return found


def evidence_to_json(evidence: Evidence) -> dict[str, Any]:
    """Return evidence in the form of `claims.json`: {name: {"cases": levels, "rows": [[seed, case..., number], ...]}}.

    Infinity is "inf" or "-inf", NaN is null; every other number is as it is, so that verdicts come out the same again.
    """
    return {
        name: {
            "cases": list(column.levels),
            "seeded": column.seeded,
            "rows": [
                [seed, *case, number_to_json(value)] for case, row in column.rows.items() for seed, value in row.items()
            ],
        }
        for name, column in evidence.items()
    }


def evidence_from_json(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, Column]:
    """Return evidence from its form in `claims.json`."""
    found = {}
    for name, entry in stored.items():
        rows: dict[Case, dict[int | None, float]] = {}
        for seed, *case, value in entry["rows"]:
            rows.setdefault(tuple(map(plain_case, case)), {})[seed] = math.nan if value is None else float(value)
        found[name] = Column(
            tuple(entry["cases"]), entry.get("seeded", any(row[0] is not None for row in entry["rows"])), rows
        )
    return found


def number_to_json(value: float | None) -> float | str | None:
    """Return a number as JSON has it: infinity as a word, undefined as null."""
    if value is None or math.isnan(value):
        return None
    return float(value) if math.isfinite(value) else ("inf" if value > 0 else "-inf")


def only(evidence: Evidence, names: Iterable[str]) -> dict[str, Column]:
    """Return the evidence of some names."""
    return {name: evidence[name] for name in names}
