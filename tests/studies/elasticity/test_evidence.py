"""The readings of the image figures on curves whose answer is known by hand, and their experiments on tiny images."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from traindyn.errors import InputError
from traindyn.learn.train import parallel, sampling
from traindyn.studies.elasticity import definition2, evidence, images, variants


def curve(same, other, times, seeds=(0, 1)):
    """An experiment of three classes whose own and other values over time are given, alike in every seed."""
    rows = []
    for seed in seeds:
        values = np.broadcast_to(np.asarray(other, float)[:, None, None], (len(times), 3, 3)).copy()
        values[:, range(3), range(3)] = np.asarray(same, float)[:, None]
        rows.append(images.tidy({"limit/off_diagonal": values[None]}, {"limit/off_diagonal": times}, seed, [0, 1, 6]))
    accuracy = np.linspace(0.4, 0.8, len(times))
    curves = pd.concat([pd.DataFrame({"seed": s, "step": times, "test_accuracy": accuracy}) for s in seeds])
    return images.Experiment(pd.concat(rows, ignore_index=True), curves, list(seeds), 10)


def change(found, value, step, row, column, seed=1):
    """Change one entry of one look of one seed."""
    frame = found.frame
    at = (frame["seed"] == seed) & (frame["step"] == step)
    at &= (frame["class of x'"] == row) & (frame["sampled class"] == column)
    frame.loc[at, "value"] = value


TIMES = np.arange(0, 101, 10)
WHERE = (0, "limit", "off_diagonal")


def test_image_figures():
    read = evidence.images(curve(np.full(11, 1.5), np.geomspace(1.0, 0.1, 11), TIMES), burn_in=0.1)
    assert read.index.tolist() == [WHERE, (1, *WHERE[1:])] and read["flatness"].tolist() == pytest.approx([1.0, 1.0])
    assert read["wins"].tolist() == [1.0, 1.0]
    assert read["fall"].tolist() == pytest.approx([1 - 10**-0.9] * 2)  # the last three looks, in the geometric mean
    found = curve(np.full(11, 1.5), np.geomspace(1.0, 0.1, 11), TIMES)
    for step in TIMES:
        change(found, 2.0, step, 0, 1)  # class 1, when sampled, now moves class 0 more than its own
    change(found, 0.5, 100, 6, 6, seed=0)
    read = evidence.images(found, burn_in=0.1)
    assert read["wins"].tolist() == pytest.approx([1.0, 0.5]) and read.loc[WHERE, "flatness"] == 3


def test_onset_and_lead():
    found = curve(np.full(11, 1.5), np.linspace(1.0, 0.1, 11), TIMES)
    read = evidence.onset(found, ahead=2, arrived=0.95)
    assert read["factor_time"].tolist() == [30, 30]  # 1.5 exceeds twice 0.73, not twice 0.82
    assert read["accuracy_time"].tolist() == [90, 90] and read["factor_at_start"].tolist() == pytest.approx([1.5] * 2)
    assert read["factor_at_end"].tolist() == pytest.approx([15, 15])
    never = evidence.onset(curve(np.ones(11), np.ones(11), TIMES), ahead=2, arrived=0.95)
    assert never["factor_time"].tolist() == [np.inf, np.inf]
    leads = evidence.leads(curve(np.full(11, 2.0), np.full(11, 0.5), TIMES))
    assert leads.index.tolist() == [(0, "limit"), (1, "limit")] and leads["lead"].tolist() == pytest.approx([4, 4])


def test_a_value_that_just_leads_counts():
    found = curve(np.full(11, 10.0), np.full(11, 5.0), TIMES)
    assert evidence.onset(found, ahead=2, arrived=0.95)["factor_time"].tolist() == [0, 0]


def test_accuracies():
    read = evidence.accuracies({"svhn": curve(np.ones(11), np.ones(11), TIMES)})
    assert read.loc[(1, "svhn"), "accuracy"] == pytest.approx(80)


def test_a_set_that_is_not_here_leaves_its_claims_open():
    size = SimpleNamespace(**{**TINY, "data": "no such set", "optional": True}, batch=50, steps=2)
    found = images.experiment([0, 1], size, torch.float64, torch.device("cpu"))
    assert found.samples == 0 and len(evidence.images(found, 0.1)) == len(evidence.leads(found)) == 0
    assert len(evidence.onset(found, 2, 0.95)) == len(evidence.accuracies({"svhn": found})) == 0
    assert all(np.isnan(value) for value in evidence.median_leads(evidence.leads(found)).values())
    assert images.by_variant(found.frame, "median").empty
    with pytest.raises(InputError, match="no such set"):
        images.experiment([0], SimpleNamespace(**{**vars(size), "optional": False}), torch.float64, None)


def test_the_readings_of_an_archived_run_side_by_side():
    won = {"limit": 0.5, "released": 0.75}
    rows = [[seed, name, "off_diagonal", share] for seed in (0, 1) for name, share in won.items()]
    parts = {"same-flat": {"outcome": False}, "released": {"outcome": True}, "adam": {"outcome": False}}
    record = {"verdict": "fails", "parts": parts, "evidence": {"wins": {"rows": rows}}}
    table = evidence.shares({"fig1-svhn": record, "fig2-cifar10": None})
    assert table["fig1-svhn"].to_dict()["(d) released"] == 75 and table["fig1-svhn"]["(a) limit"] == 50
    assert table["fig2-cifar10"].isna().all()
    assert "fig1-svhn: (d)" in evidence.told({"fig1-svhn": record, "fig2-cifar10": None})
    assert "none" in evidence.told({"fig1-svhn": {**record, "parts": {}}})
    assert "(a)" in evidence.told({"fig1-svhn": {**record, "verdict": "holds"}})
    assert "No archived run" in evidence.told({"fig1-svhn": None, "fig2-cifar10": {**record, "verdict": "undecided"}})


# the experiments themselves, on 8x8 digits

TINY = {"data": "digits", "classes": [0, 1, 6], "side": 8, "width": 2, "blocks": [1], "k": 3, "lr": 1e-3}


STEPS = {"batch": 50, "steps": 6, "looks": 3, "stride": 2, "sampled": 2}


def test_every_seed_is_by_itself_and_outlives_a_process(tmp_path, monkeypatch):
    size, cpu = SimpleNamespace(**TINY, **STEPS), torch.device("cpu")
    alone = images.experiment([1], size, torch.float64, cpu)
    both = images.experiment([0, 1], size, torch.float64, cpu, tmp_path)
    assert not torch.equal(*(images.draw(size, seed, torch.float64, cpu).X_train for seed in (0, 1)))
    read = evidence.images(both, 0.1)
    pd.testing.assert_frame_equal(read.loc[[1]], evidence.images(alone, 0.1), rtol=1e-6)
    assert set(read.index.get_level_values("variant")) == {*variants.VARIANTS, *variants.WITHOUT_LABEL}
    whose = images.own_and_other(both.frame, "median")
    assert len(whose) == 2 * 2 * len(both.curves["step"].unique())
    assert set(images.joined({"one": alone, "two": both})["run"]) == {"one", "two"}
    # what a killed run had finished is read, not trained, again: the same tables, number by number
    monkeypatch.setattr(images, "followed", None)
    again = images.experiment([0, 1], size, torch.float64, cpu, tmp_path)
    pd.testing.assert_frame_equal(again.frame, both.frame)
    pd.testing.assert_frame_equal(again.curves, both.curves)
    assert len(list(tmp_path.glob("digits-*.json"))) == len(list(tmp_path.iterdir())) == 2
    monkeypatch.undo()
    other = SimpleNamespace(**{**TINY, **STEPS, "classes": [3, 5, 8]})  # another figure, on the same data set
    frame = images.experiment([0], other, torch.float64, cpu, tmp_path).frame
    assert set(frame["sampled class"]) == {3, 5, 8}


def test_a_training_under_way_goes_on(tmp_path, monkeypatch):
    size, cpu = SimpleNamespace(**TINY, **STEPS), torch.device("cpu")
    monkeypatch.setattr(parallel, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(sampling, "BLOCK", 1)
    whole = images.experiment([0], size, torch.float64, cpu)
    looked, wanted = [], variants.stepped

    def killed(*args):
        looked.append(1)
        if len(looked) == 2:
            raise KeyboardInterrupt
        return wanted(*args)

    monkeypatch.setattr(variants, "stepped", killed)
    with pytest.raises(KeyboardInterrupt):
        images.experiment([0], size, torch.float64, cpu, tmp_path)
    left = len(looked)
    found = images.experiment([0], size, torch.float64, cpu, tmp_path)
    pd.testing.assert_frame_equal(found.frame, whole.frame)
    looks = len(whole.frame[whole.frame["variant"] == "adam"]["step"].unique())
    assert left == 2 and len(looked) < left + looks  # the first look was not taken again


def test_definitions_2_and_3_at_initial_weights():
    found = definition2.definition2_over_seeds([3, 4], SimpleNamespace(**TINY), torch.device("cpu"))
    assert (found["self_gap"] < 1e-9).all() and (found["lowest_kl"] >= 0).all() and (found["gap"] < 0.05).all()
    assert found["slope"].between(0.8, 1.2).all() and (found["error32"] > 0.01).all()
    shares = found["mean_of_block"] - found["without_diagonal"] - (1 - found["without_diagonal"]) / TINY["k"]
    assert shares.abs().max() < 1e-9 and (found["identity_gap"] < 1e-9).all()
    alone = definition2.definition2_over_seeds([4], SimpleNamespace(**TINY), torch.device("cpu"))
    pd.testing.assert_frame_equal(alone, found.loc[[4]], rtol=1e-6)


def test_no_sample_depends_on_its_batch():
    found = definition2.gradient_independence([0, 1], SimpleNamespace(**TINY), torch.device("cpu"))
    assert (found["gradient_change"] < 1e-10).all()
    normalised = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1)).double()
    x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert definition2.single_gradients_are_independent(normalised, x) > 1e-3


def test_the_printed_network():
    found = definition2.printed_setup(2, SimpleNamespace(side=32, outputs=10))
    assert found == {"images_lost": 0, "outputs": 10, "weights": 11_164_362, "normalisations": 0}
