"""Numbers of many seeds as evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from traindyn.evidence import table


def per_seed(seeds: Sequence[int], columns: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """Return a table with one row per seed from columns that hold one number for each of them, in their order."""
    return table(pd.DataFrame({"seed": list(seeds), **columns}))
