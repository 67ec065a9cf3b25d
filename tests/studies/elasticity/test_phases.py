"""The readings of the regression and image figures on curves whose answer is known by hand."""

import numpy as np
import pandas as pd
import pytest

from traindyn.studies.elasticity import evidence, phases, regression


class Recorded:
    """Looks like a Run: arrays and times."""

    def __init__(self, arrays, times, frame=None):
        self.arrays, self.times, self.frame = arrays, times, frame


def test_closer_wins_counts_points_below_a_closer_one():
    distance = np.array([1.0, 2.0, 3.0, 4.0])
    assert regression.closer_wins(distance, np.array([0.9, 0.5, 0.2, 0.1])) == 1.0
    # 1.2 exceeds every closer point, x' itself (S = 1) included; the others are beaten by it or by x'
    assert regression.closer_wins(distance, np.array([0.9, 1.2, 0.2, 1.1])) == 0.75
    assert regression.closer_wins(distance[::-1], np.array([1.1, 0.2, 1.2, 0.9])) == 0.75


def test_windows():
    t = np.arange(0, 101, 10)
    late = t >= 60
    rising = np.where(t < 40, 0.1, 1.0)
    flat = np.full(len(t), 0.5)
    dip = np.where((t >= 20) & (t <= 40), 0.05, 0.5)
    s = np.stack([rising, flat, dip])
    assert phases.window_share(t, s, late, 20) == pytest.approx(1 / 3)
    assert phases.window_share(t, s[[0, 2]], late, 10) == 1.0  # 20 to 30 lies in both
    assert phases.lowest_window(t, dip, 20, late) == 0.05
    assert phases.lowest_window(t, dip, 30, late) == 0.5


def test_criteria_of_the_image_figures():
    times = np.arange(0, 101, 10)
    falling = np.linspace(1.0, 0.1, 11)
    values = np.empty((2, 11, 3, 3))
    values[:] = falling[None, :, None, None]
    values[:, :, range(3), range(3)] = 1.5
    run = Recorded({"median": values}, {"median": times})
    read = evidence.readings(run, "median")
    assert read["wins"].tolist() == [1.0, 1.0] and read["flatness"].tolist() == [1.0, 1.0]
    assert read["fall"] == pytest.approx(0.9)
    assert read["factor_time"].tolist() == [30, 30]  # 1.5 >= 2 * 0.73, not 2 * 0.82
    # class 1, when sampled, now moves x' of class 0 more than its own, in the second seed
    values[1, :, 0, 1] = 2.0
    read = evidence.readings(run, "median")
    assert read["wins"].tolist() == [1.0, 0.5]
    assert read["factor_time"][1] == np.inf
    made = evidence.criteria(run, "median")
    assert made["A"].tolist() == [True, False] and made["all"].tolist() == [True, False]


def test_accuracy_time():
    frame = pd.DataFrame(
        {"seed": [0, 0, 0, 1, 1, 1], "step": [0, 5, 9] * 2, "test_accuracy": [0.3, 0.7, 0.8, 0.1, 0.77, 0.8]}
    )
    run = Recorded({}, {}, frame)
    assert evidence.accuracy_time(run, [0, 1]).tolist() == [9, 5]


def test_accuracies_need_all_three_sets():
    frame = pd.DataFrame(
        [
            (n, c, s, a)
            for n, a in (("svhn", 87.0), ("cifar10", 80.0), ("cifar100", 90.0))
            for c in ("all", "three")
            for s in (1, 2)
        ],
        columns=["data", "classes", "seed", "accuracy"],
    )
    made = evidence.compare_accuracies(frame)
    assert made["parts"]["three-classes"].tolist() == [True, True]
    missing = evidence.compare_accuracies(frame[frame["data"] != "svhn"])
    assert missing["parts"]["three-classes"] is None


def test_targets_of_the_regression():
    from types import SimpleNamespace

    numbers = regression.setup_numbers([0], SimpleNamespace(n_train=20_000, in_dim=50))
    assert numbers["mean_gap"][0] < 0.005 and numbers["variance_gap"][0] < 0.05
    assert numbers["constant_risk"] == pytest.approx(18.17, abs=0.01)
    watched = regression.watched_points(SimpleNamespace(in_dim=8, points=10, cloud=4), 3)
    assert watched["pair"].sub(watched["x_prime"]).norm(dim=-1).tolist() == pytest.approx([2.0, 10.0])
    assert watched["r"][:5].diff().min() > 0
