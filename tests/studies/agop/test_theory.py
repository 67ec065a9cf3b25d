"""Evidence that needs no training, and drawings of empty and full tables."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from traindyn.studies.agop import figures, ladders, sgd, show, theory


def test_the_definition_holds_to_rounding_and_its_control_does_not():
    found = theory.definition([1, 2], SimpleNamespace(d=6, n=20, width=16, depth=3))
    assert (found[["gradient", "library", "scale", "rotation", "identity"]] < 1e-10).all(axis=None)
    assert (found["one_sided"] > 1e-3).all()


def test_egops_come_out_of_averages():
    found, exact = theory.egops([1], SimpleNamespace(d=11, samples=100_000))
    assert (found["z"] < 6).all() and (found["cosine"] > 0.99).all()
    assert [exact[f"eigen_rank3_{k}"] for k in range(3)] == pytest.approx([24, 10, 4])
    assert [exact[f"directions_{name}"] for name in ("rank2", "rank3", "rank4", "full")] == [2, 3, 4, 11]


def test_knowing_the_features_helps_a_kernel_machine():
    size = SimpleNamespace(
        rank=2, n=200, d=20, noise=0.1, n_val=100, n_test=300, ridges=[1e-3, 1e-2, 0.1, 1.0], leak=1e-3
    )
    found = theory.multi_index([1, 2], size)
    assert (found["ratio"] < -0.5).all() and (found["random"] > -0.3).all()


def test_verdicts_tell_where_an_interval_lies():
    index = pd.MultiIndex.from_product([[1, 2, 3], ["a", "b"]], names=["seed", "kind"])
    table = pd.DataFrame({"x": [1.0, 0.5, 1.1, -0.5, 0.9, 0.1]}, index=index)
    told = show.verdicts(table, {"x": "number"}, "kind").set_index("kind")["interval"]
    assert told.to_dict() == {"a": "above 0", "b": "open"}


def test_printed_numbers_stand_beside_ours():
    found = pd.DataFrame(
        [(1, 5, 0.9, 0.5, 3), (2, 5, 0.8, 0.3, 5), (1, 10, 0.7, 0.6, 0)],
        columns=["seed", "batch", "alignment", "test", "super"],
    )
    printed = {"alignment": {5: 0.95}, "test": {5: 0.42}}
    off = show.deviations(found, printed)
    assert off["off_test"].tolist() == pytest.approx([0.08, -0.12])
    table = show.beside(found, printed)
    assert table["test, printed"].iloc[0] == 0.42 and np.isnan(table["test, printed"].iloc[1])


def test_what_was_left_out_is_an_empty_table():
    assert sgd.trends(show.none(), 3).empty and ladders.trends(show.no_ladder()).empty
    assert show.relative_spread(show.none().assign(variance=1.0)).empty
    assert ladders.gains(show.no_ladder()).empty and ladders.steps_of(show.no_ladder()).empty


def test_matrices_are_drawn_over_their_largest_entry():
    blocks = {"a": torch.diag(torch.arange(1.0, 12.0)), "true": torch.eye(11)}
    table = figures.entries(blocks)
    assert len(table) == 200 and table["entry"].max() == 1
    fig = figures.matrices(blocks)
    assert len(fig.axes) == 3
