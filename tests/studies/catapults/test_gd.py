"""Experiments with gradient descent, on small networks."""

import math

import pytest
import torch

from traindyn.measure.ntk import empirical_ntk
from traindyn.studies.catapults import gd, tasks


def test_the_wall_of_a_quadratic_model_is_at_two(size):
    own = tasks.variant(size, steps=60, width=256, ratios=[0.5, 1.5, 2.6])
    found = gd.survival(own, [3], torch.float64, "cpu", quadratic=True)
    assert found["diverged"].tolist() == [False, False, True] and found["ratio"].tolist() == [0.5, 1.5, 2.6]
    assert (found["final"] == math.inf).tolist() == [False, False, True]
    both = gd.survival(own, [3, 4], torch.float64, "cpu")
    assert both["seed"].tolist() == [3] * 3 + [4] * 3


def test_below_the_critical_rate_wider_networks_move_less(size, follow):
    own = tasks.variant(size, nets=[[2, [64, 4096]]], steps=20)
    found = gd.drift(own, follow).set_index("width")
    assert found.loc[4096, "drift"] < found.loc[64, "drift"] and (found["peak"] == 1.0).all()
    assert list(found.columns) == ["depth", "seed", "drift", "rises", "peak"]


def test_the_scan_has_every_setting_of_every_seed(size):
    found = gd.scan(tasks.variant(size, depths=[2, 3]), [3, 4], torch.float64)
    assert len(found) == 2 * 2 * 4 * 2
    plain = (found["hidden bias"] == "none") & (found["input factor"] == 1.0) & (found["depth"] == 3)
    model, X, _ = tasks.start(4, size, "none", torch.float64)
    critical = len(X) / torch.linalg.eigvalsh(empirical_ntk(model, X))[-1].item()
    assert found[plain & (found["seed"] == 4)]["critical"].tolist() == pytest.approx([critical])
