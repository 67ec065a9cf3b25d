"""The readings of the image figures on curves whose answer is known by hand, and their experiments on tiny images."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from traindyn.studies.elasticity import evidence, images

SEEDS = [0, 1]


class Recorded:
    """Looks like a Run: arrays, times, a frame."""

    def __init__(self, arrays=None, times=None, frame=None):
        self.arrays, self.times, self.frame = arrays, times, frame


@pytest.fixture
def falling():
    """Two seeds, three classes: own value 1.5 throughout, others fall from 1 to 0.1."""
    times = np.arange(0, 101, 10)
    values = np.empty((2, 11, 3, 3))
    values[:] = np.linspace(1.0, 0.1, 11)[None, :, None, None]
    values[:, :, range(3), range(3)] = 1.5
    accuracy = pd.DataFrame(
        {"seed": [0, 0, 0, 1, 1, 1], "step": [0, 5, 9] * 2, "test_accuracy": [0.3, 0.7, 0.8, 0.1, 0.77, 0.8]}
    )
    return Recorded({"median": values}, {"median": times}, accuracy)


def test_image_figures(falling):
    read = evidence.images(falling, SEEDS, burn_in=0.1)
    assert read.index.tolist() == [(0, "median"), (1, "median")]
    assert read["wins"].tolist() == [1.0, 1.0] and read["flatness"].tolist() == [1.0, 1.0]
    assert read["fall"].tolist() == pytest.approx([0.9, 0.9])
    falling.arrays["median"][1, :, 0, 1] = 2.0  # class 1, when sampled, now moves class 0 more than its own
    read = evidence.images(falling, SEEDS, burn_in=0.1)
    assert read["wins"].tolist() == [1.0, 0.5] and read.loc[(1, "median"), "fall"] == 0
    falling.arrays["median"][0, -1, 2, 2] = 0.5
    assert evidence.images(falling, SEEDS, burn_in=0.1).loc[(0, "median"), "flatness"] == 3


def test_onset(falling):
    read = evidence.onset(falling, SEEDS, ahead=2, arrived=0.95)
    assert read["factor_time"].tolist() == [30, 30]  # 1.5 exceeds twice 0.73, not twice 0.82
    assert read["accuracy_time"].tolist() == [9, 5] and read["factor_at_start"].tolist() == [1.5, 1.5]
    falling.arrays["median"][1, :, 0, 1] = 2.0
    assert evidence.onset(falling, SEEDS, ahead=2, arrived=0.95).loc[1, "factor_time"] == np.inf


def test_a_value_that_just_leads_counts(falling):
    falling.arrays["median"][:, 5, range(3), range(3)] = 10.0
    off = ~np.eye(3, dtype=bool)
    falling.arrays["median"][:, :, off] = 5.0
    assert evidence.onset(falling, SEEDS, ahead=2, arrived=0.95)["factor_time"].tolist() == [50, 50]


def test_accuracies():
    rows = [
        (name, of, seed, accuracy + (of == "all"))
        for name, accuracy in (("svhn", 87.0), ("cifar10", 80.0))
        for of in ("all", "three")
        for seed in (1, 2)
    ]
    read = evidence.accuracies(pd.DataFrame(rows, columns=["data", "classes", "seed", "accuracy"]))
    assert read.loc[(2, "svhn")].tolist() == [87, 88] and read.loc[(1, "cifar10"), "accuracy_all"] == 81
    nothing = evidence.accuracies(pd.DataFrame(columns=["data", "classes", "seed", "accuracy"]))
    assert len(nothing) == 0 and list(nothing.columns) == ["accuracy_three", "accuracy_all"]


# the experiments themselves, on 8x8 digits

TINY = {"data": "digits", "classes": [0, 1, 6], "side": 8, "width": 2, "blocks": [1], "k": 3, "lr": 1e-3}


def test_every_seed_draws_its_own_images():
    size = SimpleNamespace(**TINY, batch=50, steps=2, every=1, burn_in=0.1)
    alone = images.experiment([1], size, torch.float64, torch.device("cpu"))
    both = images.experiment([0, 1], size, torch.float64, torch.device("cpu"))
    assert not torch.equal(both.images[0].X_train, both.images[1].X_train)
    assert torch.equal(both.images[1].X_train, alone.images[1].X_train)
    read = evidence.images(both.run, [0, 1], 0.1)
    pd.testing.assert_frame_equal(read.loc[[1]], evidence.images(alone.run, [1], 0.1), rtol=1e-6)
    assert set(read.index.get_level_values("statistic")) == {"mean", "off_diagonal", "median", "ratio_of_means"}
    whose = images.own_and_other(both.frame, "median")
    assert len(whose) == 2 * 2 * 3 and set(whose["kind"]) == {"same class", "other class"}
    assert set(images.joined({"one": alone, "two": both})["run"]) == {"one", "two"}


def test_definitions_2_and_3_at_initial_weights():
    found = images.definition2_over_seeds([3, 4], SimpleNamespace(**TINY), torch.device("cpu"))
    assert (found["self_gap"] < 1e-9).all() and (found["lowest_kl"] >= 0).all() and (found["gap"] < 0.05).all()
    assert found["slope"].between(0.8, 1.2).all() and (found["error32"] > 0.01).all()
    shares = found["mean_of_block"] - found["without_diagonal"] - (1 - found["without_diagonal"]) / TINY["k"]
    assert shares.abs().max() < 1e-9 and (found["identity_gap"] < 1e-9).all()
    alone = images.definition2_over_seeds([4], SimpleNamespace(**TINY), torch.device("cpu"))
    pd.testing.assert_frame_equal(alone, found.loc[[4]], rtol=1e-6)


def test_no_sample_depends_on_its_batch():
    found = images.gradient_independence([0, 1], SimpleNamespace(**TINY), torch.device("cpu"))
    assert (found["gradient_change"] < 1e-10).all()
    normalised = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1)).double()
    x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert images.single_gradients_are_independent(normalised, x) > 1e-3


def test_the_printed_network():
    found = images.printed_setup(2, SimpleNamespace(side=32, outputs=10))
    assert found == {"images_lost": 0, "outputs": 10, "weights": 11_164_362, "normalisations": 0}


def test_accuracies_of_no_sets_and_of_one():
    size = SimpleNamespace(data=["digits"], classes=[[0, 1, 6]], side=8, width=2, blocks=[1], lr=1e-3, batch=100)
    frame = images.accuracies([0, 1], SimpleNamespace(**vars(size), epochs=1), torch.float32, torch.device("cpu"))
    assert len(frame) == 4 and frame["accuracy"].between(0, 100).all()
    size.data, size.classes, size.epochs = [], [], 1
    assert images.accuracies([0], size, torch.float32, torch.device("cpu")).empty
