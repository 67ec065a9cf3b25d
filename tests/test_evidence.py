"""Evidence: the form of tables, and what is refused."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from traindyn import evidence
from traindyn.errors import InputError


def test_a_table_is_indexed_by_seed_and_case_and_holds_floats():
    frame = pd.DataFrame(
        {"seed": [0, 0, 1], "width": [8, 16, 8], "drift": [1, 2, math.inf], "rose": [True, False, True]}
    )
    rows = evidence.table(frame, "width")
    assert rows.index.names == ["seed", "width"] and (rows.dtypes == "float64").all()
    assert rows.loc[(1, 8), "drift"] == math.inf and rows.loc[(0, 16), "rose"] == 0


def test_stacked_tables_gain_a_case_at_the_end():
    one = evidence.table(pd.DataFrame({"seed": [0, 1], "peak": [1.0, 2.0]}))
    both = evidence.stacked({"none": one, "zero": 2 * one}, "bias")
    assert both.index.names == ["seed", "bias"] and both.loc[(1, "zero"), "peak"] == 4


@pytest.mark.parametrize(
    ("frame", "cases", "said"),
    [
        (pd.DataFrame({"peak": [1.0]}), (), "needs a column 'seed'"),
        (pd.DataFrame({"seed": [0], "peak": [1.0]}), "width", "no column 'width'"),
        (pd.DataFrame({"seed": [0, 0], "peak": [1.0, 2.0]}), (), "two rows for seed = 0"),
        (pd.DataFrame({"seed": [0], "word": ["high"]}), (), "column 'word'"),
    ],
)
def test_what_is_not_evidence_is_refused(frame, cases, said):
    with pytest.raises(InputError, match=said):
        evidence.table(frame, cases)
