"""Remainders of the linearisation: bounds that hold, bounds that are attained, signs that matter."""

from __future__ import annotations

import math
from types import SimpleNamespace as Size

import pytest
import torch

from traindyn.measure.worst_case import relu_gap
from traindyn.studies.ntk import expansion, networks

SEEDS = [1, 2, 3]


def test_the_curvature_of_tanh_and_the_smooth_bound():
    z = torch.linspace(-3, 3, 100001, dtype=torch.float64)
    t = torch.tanh(z)
    assert (2 * t * (1 - t**2)).abs().max().item() == pytest.approx(networks.TANH_CURVATURE, rel=1e-8)
    found = expansion.smooth(SEEDS, Size(widths=[5, 50], radii=[0.1, 5.0], d=3, draws=3, small=1e-3))
    assert (found["ratio"] <= 1).all() and (found["ratio"] > 0.01).all()
    assert (found["extremal"] > 0.999).all() and (found["extremal"] <= 1 + 1e-9).all()
    assert found["printed_left"].median() > 1e-2 and len(found) == 12


def test_suprema_are_those_of_the_measure_and_below_the_lemmas_bound():
    size = Size(widths=[100, 1000], radii=[0.5, 2.0], draws=3)
    evidence, slopes, frame = expansion.supremum(SEEDS, size, 0.1)
    p = networks.starts([2], "preactivations-100", 3, 1, 100)[0]
    mean = relu_gap(p[:, 0], 2.0).value.mean().item() / 10
    row = frame[(frame["seed"] == 2) & (frame["radius"] == 2.0) & (frame["width"] == 100)]
    assert row["supremum"].item() == pytest.approx(mean)
    assert (evidence["violations"] == 0).all() and (abs(evidence["of_limit"] - 1) < 0.3).all()
    assert (slopes["slope"] < 0).all()
    assert expansion.bound(1.0, 64, math.exp(-1)) == pytest.approx(3 / 2)


def test_pairs_of_points_stay_in_the_ball_and_only_the_plus_sign_holds():
    p = networks.weights(SEEDS, 1000, 4)[..., 0]
    for pair in ("random", "aligned", "worst"):
        for shift in expansion._pair(pair, p, 1.0, SEEDS, 1000, 4):
            assert (shift.norm(dim=-1) <= 1 + 1e-8).all()
    evidence, slope, frame = expansion.two_points(SEEDS, Size(widths=[1000, 8000], d=4), 1.0, 0.1)
    assert (evidence["plus"] < 1).all()
    aligned = evidence.xs("aligned", level="pair")
    assert (aligned["printed_level"] - 2 * math.sqrt(2)).abs().max() < 0.3
    assert (aligned["minus"].xs(8000, level="width") > 1).all()
    worst = frame[frame["pair"] == "worst"].groupby("width")["left"].min()
    random = frame[frame["pair"] == "random"].groupby("width")["left"].max()
    assert (worst > 5 * random).all() and (slope["slope"] < 0).all()


def test_the_worst_pair_is_what_its_docstring_says():
    p = torch.tensor([[0.1, -0.2, 3.0, 0.4]], dtype=torch.float64)
    sV, sW = expansion._pair("worst", p, 0.3, [0], 4, 1)
    assert sW[0].tolist() == pytest.approx([-0.1, 0.2, 0, 0], abs=1e-8)  # 0.1^2 + 0.2^2 <= 0.3^2, with 0.4^2 no more
    assert sV[0].tolist() == pytest.approx([0.3 / math.sqrt(2), -0.3 / math.sqrt(2), 0, 0])


def test_random_and_worst_moves_have_one_length():
    found = expansion.random_moves(SEEDS, Size(widths=[50, 800], d=3), 0.7)
    gap = found.groupby(["activation", "move", "width"])["gap"].mean()
    assert (gap[:, "worst"] > gap[:, "random"]).all()
    top = networks.TANH_CURVATURE / (2 * math.sqrt(800)) * 0.49
    assert gap["tanh", "worst", 800] == pytest.approx(top, rel=0.05)
