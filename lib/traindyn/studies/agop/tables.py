"""Rows of numbers, also where an experiment was left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd


def rows_of(rows: Sequence[Any], columns: Sequence[str]) -> pd.DataFrame:
    """Return rows as a table with these columns; no rows, for a run that was left out, are a table of numbers."""
    frame = pd.DataFrame(list(rows), columns=list(columns))
    return frame if len(frame) else frame.astype(float)
