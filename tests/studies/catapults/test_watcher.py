"""The optimiser that watches the critical rate."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from traindyn.measure.ntk import empirical_ntk
from traindyn.studies.catapults import tasks, watcher


def test_the_watcher_alternates_above_and_below_the_critical_rate(size):
    model, X, _ = tasks.start(3, size, "none", torch.float64)
    critical = 8 / torch.linalg.eigvalsh(empirical_ntk(model, X[:8]))[-1].item()
    rate = watcher.watcher(8, 5, above=1.2, below=0.5, period=20, until=40)
    found = [rate(SimpleNamespace(model=model, X=X, step=step)).item() / critical for step in (0, 9, 10, 20, 45)]
    assert found == pytest.approx([1.2, 1.2, 0.5, 1.2, 0.5])
    with torch.no_grad():
        next(model.parameters()).fill_(float("inf"))
    assert torch.isnan(rate(SimpleNamespace(model=model, X=X, step=0)))


def test_both_optimisers_are_trained_for_every_seed():
    own = SimpleNamespace(
        data="rank2", dim=5, n=20, n_test=30, width=16, depth=2, batch=5, steps=8, ratios=[0.5, 30.0], subset=8
    )
    own = SimpleNamespace(**vars(own), every=2, above=1.2, below=0.5, period=4)
    found = watcher.compare(own, [3, 4], torch.float64, "cpu")
    assert found.groupby("method")["seed"].agg(list).to_dict() == {"constant": [3, 3, 4, 4], "watcher": [3, 4]}
    gone = found["outcome"] == "diverged"
    assert gone[found["ratio"] == 30.0].all() and found.loc[gone, ["test", "train", "norm"]].isna().all(axis=None)
    assert found.loc[~gone, ["test", "train", "norm"]].notna().all(axis=None)


def test_the_watcher_is_compared_with_the_best_rate_that_never_diverges():
    nan = float("nan")
    table = pd.DataFrame(
        [(0, "constant", 1, 1.0), (0, "constant", 2, 0.5), (1, "constant", 1, 1.0), (1, "constant", 2, nan)]
        + [(0, "watcher", nan, 0.8), (1, "watcher", nan, 0.9)],
        columns=["seed", "method", "ratio", "test"],
    )
    answer = watcher.verdict(table)
    assert answer["best"] == 1 and answer["says"] == "helps" and answer["wins"] == 2
    assert watcher.row(answer)["seeds won"] == "2 of 2"
