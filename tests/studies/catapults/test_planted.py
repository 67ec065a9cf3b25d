"""One sample that is too steep, and batches of several sizes."""

import pytest
import torch

from traindyn.studies.catapults import planted, tasks


def test_the_planted_sample_has_a_quarter_of_the_critical_rate():
    X, y = planted.planted_task(3, 20)
    assert X.norm(dim=1).tolist() == pytest.approx([2.0] + 19 * [1.0]) and y[0] == 2
    own = tasks.SimpleNamespace(n=20, width=400, steps=60)
    run = planted.planted(own, [0.5, 0.9], [3, 4], torch.float64, "cpu")
    assert run["low"].to_numpy() == pytest.approx(0.25, rel=0.2)
    assert run.groupby(["seed", "place"])["rate"].nunique().tolist() == [1] * 4
    middle, high = (run[(run["seed"] == 3) & (run["place"] == place)]["rate"].iloc[0] for place in (0.5, 0.9))
    assert middle < high
    over = run[(run["rate"] > run["critical"]) & (run["place"] == 0.5)]
    assert len(over) and (over["star"] == 1).all()


def test_smaller_batches_have_larger_norms_in_the_mean(size, follow):
    own = tasks.variant(size, n=60, sizes=[5, 20], batches=20)
    norms = planted.explained(planted.batch_norms(own, [3], torch.float64)).set_index("b")
    assert norms.loc[5, "mean"] > norms.loc[20, "mean"] > 0
    steps = planted.supercritical_steps(own, follow).set_index("b")
    assert (steps["per_epoch"] - steps["share"] * 60 / steps.index).abs().max() < 1e-12
    assert steps["share"].between(0, 1).all()
