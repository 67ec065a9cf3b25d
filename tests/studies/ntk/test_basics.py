"""What the lecture on the tangent kernel starts from: gradients, expansions, descent; against autograd and by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace as Size

import pytest
import torch

from traindyn.measure.kernels import two_layer_relu
from traindyn.measure.ntk import empirical_ntk
from traindyn.measure.random_features import random_features
from traindyn.studies.ntk import basics, by_hand, networks

SEEDS = [1, 2, 5]


def case(sigma: str = "tanh", m: int = 7, d: int = 3):
    return networks.weights(SEEDS, m, d), networks.signs(SEEDS, m), networks.sphere(SEEDS, 4, d)


@pytest.mark.parametrize("sigma", networks.SIGMA)
def test_jacobian_tangent_and_kernel_agree_with_automatic_differentiation(sigma):
    W, a, X = case()
    V = networks.weights(SEEDS, 7, 3, "other")
    J = networks.jacobian(W, a, X, sigma)
    for i in range(len(SEEDS)):
        auto = torch.autograd.functional.jacobian(
            lambda U, i=i: networks.output(U[None], a[i : i + 1], X[i : i + 1], sigma)[0], W[i]
        )
        torch.testing.assert_close(J[i], auto, rtol=0, atol=1e-14)
    expected = networks.output(W, a, X, sigma) + (J * (V - W)[:, None]).sum((-2, -1))
    torch.testing.assert_close(networks.tangent(V, W, a, X, sigma), expected)
    torch.testing.assert_close(networks.kernel(W, a, X, sigma), J.flatten(2) @ J.flatten(2).mT)


def test_the_kernel_is_the_librarys_and_a_mirrored_start_is_zero():
    W, a, X = case()
    for i in range(len(SEEDS)):
        net = by_hand.network(W[i], a[i])
        torch.testing.assert_close(net(X[i]), networks.output(W, a, X, "relu")[i])
        torch.testing.assert_close(empirical_ntk(net, X[i]), networks.kernel(W, a, X, "relu")[i])
        features = random_features(X[i], weights=W[i], outer=a[i], train="first")
        torch.testing.assert_close(features, networks.kernel(W, a, X, "relu")[i])
    assert networks.output(*networks.mirrored(SEEDS, 8, 3), X, "tanh").abs().max() < 1e-15


def test_a_seeds_slice_does_not_depend_on_its_neighbours():
    for draw in (networks.weights, networks.signs):
        shape = (6, 3) if draw is networks.weights else (6,)
        assert draw([2, 5], *shape)[1].equal(draw([5], *shape)[0])
    assert set(networks.signs(SEEDS, 500).unique().tolist()) == {-1, 1}


def test_descent_the_printed_update_and_the_mended_one():
    found = basics.gradient_steps(Size(rate=3.0, steps=20))
    assert found["growth"] == 2**20 and found["printed_growth"] == pytest.approx(4.0**-20)
    assert found["mended_gap"] == 0 and found["printed_gap"] > 1 and found["euler_gap"] < 1e-12


def test_second_differences_vanish_for_affine_maps_alone():
    X, H = torch.randn(2, 1, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert networks.second_difference(lambda Z: Z.sum(-1) + 3, X, H).item() < 1e-14
    square = networks.second_difference(lambda Z: Z.square().sum(-1), X, H)
    torch.testing.assert_close(square, 2 * H.square().sum(-1).amax(-1))
    bends = basics.collapse(SEEDS, Size(m=9, d=4, points=20))["bend"].unstack("activation")
    assert (bends["identity"] < 1e-12).all() and (bends[["relu", "tanh"]] > 0.1).all().all()


def test_feature_map_and_expansions():
    found = basics.feature_map(SEEDS, Size(widths=[4, 64], d=3))
    assert (found["mended_gap"] < 1e-12).all() and (found["kernel_gap"] < 1e-12).all()
    assert found["printed_ratio"].xs(64, level="width").tolist() == pytest.approx([8.0] * 3)
    expanded = basics.expansions(SEEDS, Size(m=50, d=3, points=20)).unstack("activation")
    assert (expanded["bend_zero"] < 1e-12).all().all() and (expanded["bend_start"] > 0.1).all().all()
    assert (expanded["constant_gap", "relu"] < 1e-12).all() and (expanded["constant_gap", "tanh"] > 1e-2).all()


def test_errors_are_those_of_gradient_descent_step_by_step():
    size = Size(m=8, n=30, noise=0.3, steps=50, grid=101)
    evidence, curves = basics.errors([3], size)
    assert evidence.iloc[0]["identity"] < 1e-12 and evidence.iloc[0]["rises"] == 0
    w, b = networks.starts([3], "feature", 8)[0], networks.starts([3], "feature-bias", 8)[0]
    x = 2 * torch.sort(torch.special.ndtr(basics.normal([3], "samples", 30)[0])).values - 1
    F = torch.relu(x[:, None] * w + b)
    y = torch.cos(3 * math.pi * x) * torch.exp(x / 2) + 0.3 * basics.normal([3], "noise", 30)[0]
    best, beta = torch.linalg.pinv(F) @ y, torch.zeros(8, dtype=torch.float64)
    rate = 1 / (2 / 30 * torch.linalg.eigvalsh(F.T @ F)[-1])
    by_step = {}
    for k in range(51):
        by_step[k] = (F @ (best - beta)).square().mean().sqrt().item()
        beta = beta - rate * 2 / 30 * F.T @ (F @ beta - y)
    found = curves[curves["part"] == "optimisation, training"].set_index("step")["norm"]
    assert [by_step[k] for k in found.index] == pytest.approx(found.tolist(), rel=1e-6)


def test_the_trained_network_interpolates_and_nears_kernel_regression():
    size = Size(n=5, grid=40, widths=[20, 2000], steps=4000)
    task = by_hand.task(4, size)
    on_samples = task._replace(grid=task.X)
    assert (by_hand.fitted(4, 2000, on_samples, size.steps) - task.y).abs().max() < 1e-3
    K, across = (two_layer_relu(Z, task.X, train="first") for Z in (task.X, task.grid))
    table = by_hand.regression([4], size)
    limit = table[(table["width"] == 20) & (table["model"] == "limit kernel")]["value"]
    assert limit.tolist() == pytest.approx((across @ torch.linalg.solve(K, task.y)).tolist())
    gaps = by_hand.farthest(table).set_index(["width", "model"])["distance"]
    assert (gaps[2000] < gaps[20]).all() and len(by_hand.samples(4, size)) == 5
