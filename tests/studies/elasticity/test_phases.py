"""The readings of the regression network on curves whose answer is known by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from traindyn.errors import InputError
from traindyn.studies.elasticity import phases, regression


class Recorded:
    """Looks like a Run: arrays, times, a frame."""

    def __init__(self, arrays=None, times=None, frame=None):
        self.arrays, self.times, self.frame = arrays, times, frame


SEEDS = [7, 8]
SIZE = SimpleNamespace(steps=100, early=0.2, late=0.6, dropped=0.9, fall=0.01)
TIMES = np.arange(0, 101, 10)


def recorded(near, far, population, pool):
    """A run of two seeds with the same curves, scaled by 1 and by 2 (S), recorded every 10 of 100 steps."""
    rows = [
        pd.DataFrame(
            {"seed": seed, "step": TIMES, "near": scale * near, "far": scale * far}
            | {"population": population, "loss": population / 2}
        )
        for seed, scale in zip(SEEDS, (1.0, 2.0), strict=True)
    ]
    return Recorded({"pool": np.stack([pool, pool])}, {"pool": TIMES}, pd.concat(rows))


def test_unbeaten_counts_points_above_every_closer_one():
    distance = np.array([1.0, 2.0, 3.0, 4.0])
    assert regression.unbeaten(distance, np.array([0.9, 0.5, 0.2, 0.1])) == 0
    # 1.2 exceeds every closer point, x' itself (S = 1) included; the others are beaten by it or by x'
    assert regression.unbeaten(distance, np.array([0.9, 1.2, 0.2, 1.1])) == 1
    assert regression.unbeaten(distance[::-1], np.array([1.1, 0.2, 1.2, 0.9])) == 1


def test_windows():
    late = TIMES >= 60
    rising = np.where(TIMES < 40, 0.1, 1.0)
    flat = np.full(len(TIMES), 0.5)
    dip = np.where((TIMES >= 20) & (TIMES <= 40), 0.05, 0.5)
    s = np.stack([rising, flat, dip])
    assert phases.window_share(TIMES, s, late, 20) == pytest.approx(1 / 3)
    assert phases.window_share(TIMES, s[[0, 2]], late, 10) == 1.0  # 20 to 30 lies in both
    assert phases.lowest_window(TIMES, dip, 20, late) == 0.05
    assert phases.lowest_window(TIMES, dip, 30, late) == 0.5


def test_phases_of_a_rise_and_of_a_fall():
    rising = 0.5 + TIMES / 100  # 0.5 ... 1.5
    population = np.maximum(10.0 - TIMES / 5, 0.0)  # 90 % of the drop is done at 45 steps: recorded at 50
    pool = np.stack([rising, 2 - rising], axis=1)  # one point that rises, one that falls
    read = phases.phases(recorded(rising, rising / 2, population, pool), SEEDS, SIZE)
    assert read.index.names == ["seed"] and read.index.tolist() == SEEDS
    first = read.loc[7]
    assert first["near_above"] == 1 and first["net_rise"] == pytest.approx(0.75)
    assert first["rise_at_t90"] == pytest.approx(0.375) and first["rise_share"] == pytest.approx(0.5)
    assert read.loc[8, "rise_at_t90"] == pytest.approx(0.75)
    assert first["risk_correlation"] == pytest.approx(1)
    assert first["late_minimum"] == pytest.approx(0.5) and first["falling"] == 0.5
    assert first["final_risk"] == 0 and first["window_share"] == 0.5
    # the window from 0 to 20 has maximum 0.7, the late phase starts at 1.1
    assert first["dip"] == pytest.approx(0.7 / 1.1)


def test_a_level_curve_has_no_share_of_a_rise():
    level = np.ones(len(TIMES))
    read = phases.phases(recorded(level, level, 10.0 - TIMES / 10, np.ones((len(TIMES), 2))), SEEDS, SIZE)
    assert read["rise_share"].isna().all() and (read["falling"] == 0).all() and (read["dip"] == 1).all()


def test_laws_and_their_rise_are_told_apart():
    rising, level = 0.5 + TIMES / 100, np.ones(len(TIMES))
    pool = np.ones((len(TIMES), 2))
    runs = {
        "torch": recorded(rising, level, 10.0 - TIMES / 10, pool),
        "he": recorded(level, level, 10.0 - TIMES / 10, pool),
    }
    table = phases.by_law(runs, SEEDS, SIZE)
    assert table.index.names == ["seed", "law"] and table.loc[(7, "he"), "net_rise"] == 0
    rise = phases.rise(runs, SEEDS, SIZE)
    assert rise.index.names == ["seed", "pair", "time"] and len(rise) == 2 * 2 * 5  # late times 60, 70, ..., 100
    near = rise.loc[(8, "near", 60)]
    assert near["early_torch"] == pytest.approx(2 * 0.6) and near["late_torch"] == pytest.approx(2 * 1.1)
    assert near["early_he"] == near["late_he"] == 2


def test_the_tables_behind_figures_4_and_5():
    rising = 0.5 + TIMES / 100
    run = recorded(rising, rising / 2, 10.0 - TIMES / 10, np.ones((len(TIMES), 2)))
    frame = phases.risk_frame({"torch": run})
    assert set(frame["quantity"]) == {"local elasticity", "risk"} and len(frame) == 4 * 2 * len(TIMES)
    drawn = frame.set_index(["curve", "seed", "t"])["value"]
    assert drawn["near pair", 7, 0] == pytest.approx(0.5) and drawn["empirical risk", 7, 0] == 5


def test_figure_3_reads_trend_and_literal_clause():
    size = SimpleNamespace(in_dim=8, points=60, cloud=40, times=[3])
    watched = regression.watched_points(size, 3)
    apart = (watched["cloud"] - watched["x_prime"]).norm(dim=-1).numpy()
    r = watched["r"].numpy()
    run = Recorded({"cloud": np.exp(-apart)[None, None], "pool": np.exp(-r)[None, None]}, {"pool": np.array([3])})
    read = regression.distance_trend(run, [3], size).loc[(3, 3)]
    assert read["spearman"] == pytest.approx(-1) and read["ray"] == pytest.approx(-1)
    assert read["near_over_far"] > 1000 and read["unbeaten"] == 0
    upward = Recorded({"cloud": apart[None, None], "pool": 9 + r[None, None]}, {"pool": np.array([3])})
    assert regression.distance_trend(upward, [3], size).loc[(3, 3), "spearman"] == pytest.approx(1)
    assert regression.distance_trend(upward, [3], size).loc[(3, 3), "unbeaten"] > 0
    frame = regression.cloud_frame(run, [3], size)
    assert frame["points"].value_counts().to_dict() == {"normal": 40, "ray": 30}


def test_a_network_that_is_the_1_norm():
    model = regression.one_norm(3, 6, 4)
    X = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, -4.0], [3.0, 1.0, -4.0]], dtype=torch.float64)
    assert torch.equal(model(X), torch.tensor([3.5, 4.0, 8.0], dtype=torch.float64))
    size = SimpleNamespace(in_dim=50, width=90, depth=5)
    assert regression.representation_error(size)["representation_error"] < 1e-12
    with pytest.raises(InputError, match="width"):
        regression.one_norm(50, 51, 5)


def test_targets_of_the_regression():
    numbers = regression.setup_numbers([0], SimpleNamespace(n_train=20_000, in_dim=50)).loc[0]
    assert numbers["mean_gap"] < 0.005 and numbers["variance_gap"] < 0.05
    assert regression.constant_risk(50) == pytest.approx(18.17, abs=0.01)
    watched = regression.watched_points(SimpleNamespace(in_dim=8, points=10, cloud=4), 3)
    assert watched["pair"].sub(watched["x_prime"]).norm(dim=-1).tolist() == pytest.approx([2.0, 10.0])
    assert watched["r"][:5].diff().min() > 0


def test_definition_1_is_looked_at_while_a_network_trains():
    size = SimpleNamespace(in_dim=4, width=8, depth=2, pairs=6, times=[0, 3])
    training = SimpleNamespace(n_train=40, batch=10)
    found = regression.definition1_over_training([0, 1], size, training, "torch", 1e-3)
    assert found.index.names == ["seed", "time"] and found.index.tolist() == [(0, 0), (0, 3), (1, 0), (1, 3)]
    assert (found["self_gap"] < 1e-9).all() and found["slope"].between(0.8, 1.2).all()
    assert (found["label_gap"] < 1e-3).all()
