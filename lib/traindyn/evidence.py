"""The form of what studies measure: tables of numbers, one row per seed and case, without verdicts or thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from traindyn.errors import InputError

SEED = "seed"


def table(frame: pd.DataFrame, cases: Sequence[str] | str = ()) -> pd.DataFrame:
    """Return a tidy frame as evidence: its rows named by seed and case, its other columns as numbers.

    NaN stands for "was run, but is undefined", infinity for "never" or "diverged"; a row that was not run is not there.
    Booleans become 0 and 1.

    Args:
        frame: one row per seed and case; without a column `seed` the numbers do not depend on chance.
        cases: the columns that tell the rows of one seed apart (width, layer, network).

    Returns:
        A table of float64 columns; its index has the levels `seed` (if there is one) and the cases.

    Raises:
        InputError: a column is not numeric, two rows have the same seed and case, or neither names a row.
    """
    cases = [cases] if isinstance(cases, str) else list(cases)
    levels = ([SEED] if SEED in frame.columns else []) + cases
    if not levels:
        raise InputError(
            "evidence: a table needs a column 'seed' or cases that name its rows; give single numbers as {name: number}"
        )
    for name in cases:
        if name not in frame.columns:
            raise InputError(
                f"evidence: no column '{name}' to tell cases apart; columns: {', '.join(map(str, frame.columns))}"
            )
    return checked(frame.set_index(levels))


def checked(rows: pd.DataFrame) -> pd.DataFrame:
    """Return an indexed table with float64 columns.

    Raises:
        InputError: as in `table`.
    """
    if None in rows.index.names:
        raise InputError("evidence: the index of a table names seed and cases; use evidence.table(frame, cases)")
    if not rows.index.is_unique:
        row = rows.index[rows.index.duplicated()][0]
        raise InputError(
            f"evidence: two rows for {', '.join(rows.index.names)} = {row}; name the case that tells them apart"
        )
    for name in rows.columns:
        if not (is_numeric_dtype(rows[name]) or is_bool_dtype(rows[name])):
            raise InputError(f"evidence: column '{name}' holds {rows[name].dtype}; expected numbers")
    return rows.astype("float64")


def stacked(tables: Mapping[str | float, pd.DataFrame], case: str) -> pd.DataFrame:
    """Return several tables, read alike, as one with one more case: `stacked({"none": a, "zero": b}, "bias")`.

    Args:
        tables: case -> table, each as `table` returns it, with the same levels.
        case: name of the new level, which becomes the last one.
    """
    joined = pd.concat(dict(tables), names=[case])
    order = [name for name in joined.index.names if name != case]
    return checked(joined.reorder_levels([*order, case]))
