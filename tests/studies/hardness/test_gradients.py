"""Gradients over all parities, the model that leaves, and rates of flows, against automatic differentiation."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from traindyn.studies.hardness import gradients, parities, rates, stays


@pytest.mark.parametrize("bounded", [False, True])
def test_values_and_gradients_are_those_of_autograd(bounded):
    h, X = gradients.net(3, 4, 3), parities.cube(3)
    parts = gradients.Net(*(part.clone().requires_grad_() for part in h))
    out = torch.relu(X @ parts.w.T + parts.c) @ parts.a
    out = torch.tanh(out) if bounded else out
    value, slopes = gradients.values_and_gradients(h, X, bounded)
    assert torch.allclose(value, out.detach())
    for i in range(len(X)):
        a, w, c = torch.autograd.grad(out[i], parts, retain_graph=True)
        assert torch.allclose(slopes[i], torch.cat((a, w.flatten(), c)), atol=1e-12)


def test_all_gradients_at_once_are_those_of_single_targets():
    d, h = 4, gradients.net(0, 5, 4)
    every, square = gradients.of_squared_risk(h, d)
    X = parities.cube(d)
    for v in (0, 3, 9, 15):
        parts = gradients.Net(*(part.clone().requires_grad_() for part in h))
        out = torch.relu(X @ parts.w.T + parts.c) @ parts.a
        a, w, c = torch.autograd.grad((out - (-1) ** (X @ X[v])).square().mean(), parts)
        assert torch.allclose(every[v], torch.cat((a, w.flatten(), c)), atol=1e-12)
    # Parseval: the second moment around the common part is 4 E|grad h|^2 / 2^d
    common = every + 2 * parities.walsh(gradients.values_and_gradients(h, X)[1]) / 2**d
    assert torch.allclose(common[0], common[7])
    assert (every - common[0]).square().sum(1).mean() == pytest.approx(float(4 * square / 2**d))


def test_variance_and_hinge_tables():
    rows, fit = gradients.variance([1], SimpleNamespace(m=8, dims=[3, 6, 8]))
    assert ((rows["over_right"] > 0.5) & (rows["over_right"] <= 1 + 1e-12)).all() and -1.5 < fit["slope"].iloc[0] < -0.6
    assert np.allclose(rows["over_printed"], 4 * rows["over_right"]) and (rows["half_risk"] <= 1 + 1e-12).all()
    hinge = gradients.hinge([1], SimpleNamespace(m=8, dims=[3]))
    assert hinge["gap"].max() < 1e-12 and hinge["parseval"].max() < 1e-10 and hinge["clipped"].max() == 0
    cloud = gradients.cloud(1, SimpleNamespace(m=8, shown=[2, 3]))
    assert len(cloud) == 3 + 7 and cloud["order"].min() == 1
    dims = SimpleNamespace(m=8, shown=[9])
    drawn = gradients.cloud(1, dims)[["first", "second"]].to_numpy()
    square = gradients.of_squared_risk(gradients.net(1, 8, 9), 9)[1]
    assert 0.05 < (drawn**2).sum(1).mean() / float(4 * square / 2**9) < 3  # the scale of Theorem 7, constant left out


def test_the_counterexample_meets_the_premises_and_leaves():
    found = stays.simulated(4, 0.8, 9)
    assert found["flow_gap"] < 1e-8 and found["largest"] <= 1
    s = torch.tensor([0.0, 0.5, 0.75, 1.0, 2.0], dtype=torch.float64)
    assert stays.cut_off(s).tolist() == [1, 1, 0.5, 0, 0]
    theta = 0.8 * torch.nn.functional.normalize(torch.arange(1.0, 9, dtype=torch.float64), dim=0)
    leaf = theta.clone().requires_grad_()
    q = stays.cut_off(leaf.square().sum()) * (parities.signs(3).double() @ leaf.square())
    rows = torch.stack([torch.autograd.grad(value, leaf, retain_graph=True)[0] for value in q])
    assert torch.allclose(stays.gradient_field(theta), rows, atol=1e-12)
    checked = stays.bounded([0], SimpleNamespace(cut_dims=[3, 5], pairs=10))
    assert checked.max().max() <= 1 and checked["lipschitz"].min() > 0


def test_the_printed_bound_is_crossed_and_the_repaired_one_met():
    escape, shown = stays.escape(range(4, 84, 4), [1.0, 100.0])
    assert (escape["slope"] > 0.4).all() and (escape["repaired"].abs() < 1e-9).all() and escape["crossed"].max() < 80
    d = 40
    t = d * math.log(2) / 4
    assert math.exp(stays.log_displacement(d, t)) == pytest.approx((0.5 * (1 - 2 ** (-d / 2))) ** 2)
    assert stays.log_claimed(2, 1e6, 1.0, 1.0) == pytest.approx(5e5)  # no overflow
    assert set(shown["curve"]) >= {"displacement"}
    corollary = stays.corollary(range(4, 84, 4))
    assert corollary["power"] == pytest.approx(-0.5) and corollary["by_d"] == pytest.approx(0.75)


def test_slips_by_hand():
    found = stays.slips()
    assert found["printed_growth"] == 1.5 and found["right_growth"] == pytest.approx(0.9) and found["root"] > 1


def test_slopes_of_many_targets_are_those_of_autograd():
    h, X, targets = gradients.net(2, 4, 3), 2 * parities.cube(3) - 1, parities.signs(3).double()
    theta = torch.cat((h.a[:, None], h.w, h.c[:, None]), 1)
    many = stays._slopes(theta.expand(8, -1, -1), X, targets)
    leaf = theta.clone().requires_grad_()
    out = torch.tanh(torch.relu(X @ leaf[:, 1:-1].T + leaf[:, -1]) @ leaf[:, 0])
    for f in (0, 5):
        (slope,) = torch.autograd.grad(torch.relu(1 - out * targets[f]).mean(), leaf, retain_graph=True)
        assert torch.allclose(many[f], slope, atol=1e-12)
    size = SimpleNamespace(dims=[2, 3], m=6, lr=0.2, time=4.0, gone=0.2)
    found, paths = stays.ordinary([0, 1], size)
    alone, _ = stays.ordinary([1], size)
    assert np.allclose(found.loc[1], alone.loc[1]) and paths["t"].max() == pytest.approx(4.0)
    assert stays.growth(found).index.tolist() == [0, 1]


def test_rates_of_small_flows():
    size = SimpleNamespace(n=8, d=2, m=3, step=0.05, time=5.0)
    found, _ = rates.nonconvex([0, 1], size)
    assert ((found["ratio"] > 0) & (found["ratio"] <= 1)).all()
    assert np.allclose(rates.nonconvex([1], size)[0].loc[1], found.loc[1])
    assert rates.linear()["tight_gap"] < 1e-12
    convex = rates.convex([0], SimpleNamespace(n=20, d=3, ridge=0.05, step=0.1, time=30.0))
    assert 0 < convex["ratio"].iloc[0] <= 0.5  # the constant 1/4 of the exercise
    scalars = rates.convex_scalars()
    assert scalars["absolute"] == pytest.approx(0.5) and scalars["double_well"] > 1
    printed = rates.printed_condition(10.0)
    assert printed["final_gap"] < 1e-6 and printed["decades"] == pytest.approx(10 / math.log(10) - math.log10(11))
    squared = rates.squared_condition([0, 1], SimpleNamespace(rows=3, columns=7, step=0.01, time=2.0))
    assert (squared[["squares", "sine"]] <= 1 + 1e-9).all().all() and (squared["curvature"] < 0).all()
    slow = rates.slow_flow(5.0).pivot(index="t", columns="curve", values="risk")
    assert np.allclose(slow["the flow"], 1 / (1 + slow.index), atol=1e-8)
