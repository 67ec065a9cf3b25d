"""Training at multiples of the critical rate, and what is looked at on the way."""

import pandas as pd
import pytest
import torch

from traindyn.measure.ntk import empirical_ntk
from traindyn.studies.catapults import tasks


def test_the_probe_splits_the_loss_and_knows_the_batch(size, follow):
    found = follow(tasks.variant(size, batch=4), 0.5)
    assert found["defect"].max() < 1e-12
    assert (found["lead_5"] + found["rest_5"] - found["loss"]).abs().max() < 1e-12
    # a batch's kernel is a principal submatrix: b/||K_b|| <= (n/||K||) only up to b/n
    assert (found["batch_critical"] >= 4 / size.n * found["critical"] - 1e-12).all()
    model, X, _ = tasks.start(3, size, "none", torch.float64)
    critical = len(X) / torch.linalg.eigvalsh(empirical_ntk(model, X))[-1].item()
    assert found["critical"].iloc[0] == pytest.approx(critical) and found["ratio"].iloc[0] == pytest.approx(0.5)
    assert found["start"].tolist() == pytest.approx([critical] * len(found))


def test_rates_are_multiples_of_the_first_critical_rate_and_divergence_is_an_outcome(size, follow):
    assert follow(size, [(0, 0.5), (2, 0.8)])["ratio"].tolist() == pytest.approx([0.5, 0.5] + 5 * [0.8])
    assert follow(tasks.variant(size, steps=40), 40.0)["outcome"].unique().tolist() == ["diverged"]
    waves = follow(tasks.variant(size, steps=4), tasks.cycle(0.2, 0.6, 4))
    assert waves["ratio"].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.4, 0.2])


def test_every_seed_may_have_a_rate_of_its_own(size, follow):
    found = follow(size, {3: 0.5, 4: 0.25}, seeds=[3, 4]).groupby("seed")["ratio"].first()
    assert found.to_dict() == pytest.approx({3: 0.5, 4: 0.25})


def test_the_row_of_a_seed_does_not_depend_on_the_others(size, follow):
    batches = tasks.variant(size, batch=4)
    blocks = [follow(batches, 0.5, seeds=seeds).set_index(["seed", "step"]) for seeds in ([3, 4], [4, 5])]
    numbers = [block.loc[4].select_dtypes("number").drop(columns="run") for block in blocks]
    pd.testing.assert_frame_equal(*numbers, rtol=1e-10)


def test_the_cheap_probe_sees_the_same_batches(size, follow):
    batches = tasks.variant(size, batch=4)
    whole, cheap = follow(batches, 0.5), follow(batches, 0.5, look=tasks.BATCHES)
    assert cheap["batch_critical"].to_numpy() == pytest.approx(whole["batch_critical"].to_numpy(), rel=1e-10)


def test_sgd_may_stop_on_its_loss_and_a_schedule_does_not(size, follow):
    done = follow(size, 0.1, until=1e9)
    assert done["step"].max() == 0 and done["outcome"].iloc[0] == "stopped"
    assert follow(size, [(0, 0.5), (5, 0.9)])["step"].max() == size.steps


def test_images_are_handed_out_as_copies():
    images = tasks.variant(tasks.SimpleNamespace(), data="digits", classes=[7, 9], side=8, n=6, net="fcn")
    tasks.task(3, images)[0].zero_()
    assert tasks.task(3, images)[0].abs().max() > 0


def test_many_outputs_averaged_over_all_entries_have_k_times_the_critical_rate(size):
    many = tasks.variant(size, data="digits", classes=[0, 1, 2], side=8, n=12, width=2000, depth=2)
    found = tasks.over_scalar([3, 4], many, "none", torch.float64)
    assert found.index.tolist() == [3, 4] and found.to_list() == pytest.approx([1.0, 1.0], abs=0.2)


@pytest.mark.parametrize("net", ["fcn", "torch", "cnn", "wrn", "vit", "myrtle"])
def test_every_network_takes_the_images_it_is_given(size, net):
    own = tasks.variant(size, data="digits", classes=[0, 1, 2], side=8, n=3, net=net, width=4, base=4)
    model, X, y = tasks.start(3, own, "none", torch.float64)
    assert model(X).shape == y.shape == (3, 3)


def test_captions_say_what_was_trained(size, follow):
    run = follow(size, 0.5)
    assert "rank-2 regression task in 10 dimensions; 16 samples, full batches" in tasks.about(run, size)
