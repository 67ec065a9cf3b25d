"""Student-teacher measures against numpy, automatic differentiation, Monte Carlo and explicit geometry; float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from traindyn.compute import generator
from traindyn.errors import InputError
from traindyn.layers import activations
from traindyn.learn.models import FCN
from traindyn.measure import teacher


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed, "test"))


def net(widths: list[int], seed: int) -> FCN:
    model = FCN(widths[0], widths[1:-1], len(widths) - 1, widths[-1], parameterization="standard")
    model = model.double()
    model.reset(generator(seed))
    return model


def test_correlation_is_pearsons():
    a, b = normal(50, 4), normal(50, 3, seed=1)
    wanted = np.corrcoef(a.T.numpy(), b.T.numpy())[:4, 4:]
    assert np.allclose(teacher.correlate(a, b).numpy(), wanted, atol=1e-12)
    batched = teacher.correlate(torch.stack([a, 2 * a + 1]), torch.stack([b, b]))
    assert torch.allclose(batched[0], batched[1], atol=1e-12)


def test_a_constant_node_correlates_with_nothing():
    a = normal(50, 2)
    a[:, 1] = 3.0
    rho = teacher.correlate(a, a)
    assert rho[0, 0] == pytest.approx(1) and (rho[1] == 0).all()
    with pytest.raises(InputError, match="same samples"):
        teacher.correlate(a, a[:10])


def test_correlation_of_networks_pairs_layers_and_finds_a_permuted_copy():
    model = net([5, 7, 6, 2], 0)
    copy = net([5, 7, 6, 2], 0)
    order = torch.randperm(7, generator=generator(3))
    with torch.no_grad():
        copy.layers[0].weight.copy_(2 * model.layers[0].weight[order])
    X = normal(200, 5)
    rho = teacher.correlation(copy, model, X)
    assert [tuple(part.shape) for part in rho] == [(7, 7), (6, 6)]
    assert torch.equal(rho[0].argmax(0)[order], torch.arange(7))
    assert torch.allclose(rho[0].amax(0), torch.ones(7, dtype=torch.float64))


@pytest.mark.parametrize("widths", [[6, 8, 4, 7, 3], [6, 5, 9, 4, 3]])
def test_gradient_rule_against_automatic_gradients(widths):
    student, target = net([6, 5, 9, 4, 3], 1), net(widths, 2)
    X = normal(40, 6)
    layers = [m.weight.T for m in student.layers if hasattr(m, "weight")]
    f, pre = X, []
    for depth, W in enumerate(layers):
        pre.append(f @ W)
        f = pre[-1].relu() if depth < len(layers) - 1 else pre[-1]
    grads = torch.autograd.grad((target(X) - f).square().sum() / 2, pre[:-1])
    pairs = teacher.mixing(student, target, X)
    hidden, theirs = activations(student, X), activations(target, X)
    for (A, B), ours, star, g in zip(pairs, hidden, theirs, grads, strict=True):
        assert torch.allclose(teacher.gradient_rule(A, B, ours, star), -g, atol=1e-12)


def test_mixing_by_differentiation_is_the_recursion_and_b_is_positive():
    student, target = net([4, 6, 5, 3], 1), net([4, 3, 7, 3], 2)
    X = normal(30, 4)
    V = []
    for model in (student, target):
        layers = [m.weight.T.detach() for m in model.layers if hasattr(m, "weight")]
        V.append(teacher.top_down(layers, [(f > 0).double() for f in activations(model, X)]))
    for (A, B), ours, star in zip(teacher.mixing(student, target, X), *V, strict=True):
        assert torch.allclose(A, ours.mT @ star, atol=1e-12) and torch.allclose(B, ours.mT @ ours, atol=1e-12)
        assert torch.linalg.eigvalsh(B).min() > -1e-10
    with pytest.raises(InputError, match="same depth"):
        teacher.mixing(student, net([4, 3, 3], 0), X)


def test_observers_by_hand():
    # teacher x = 0; students: fires for x > 0.5 (sees nothing in the unit ball of the plane), for y > 0 (sees it)
    w_star, b_star = torch.tensor([[1.0], [0.0]], dtype=torch.float64), torch.zeros(1).double()
    w = torch.tensor([[1.0, 0.0, 0.6], [0.0, 1.0, 0.8]], dtype=torch.float64)
    b = torch.tensor([-0.5, 0.0, -0.9], dtype=torch.float64)
    seen = teacher.observes_in_ball(w, b, w_star, b_star, 1.0)
    assert seen[:, 0].tolist() == [False, True, False]
    assert teacher.observes_in_ball(w, b, w_star, b_star, 2.0)[:, 0].tolist() == [False, True, True]
    assert not teacher.observes_in_ball(w, b, w_star, b_star + 1.5, 1.0).any()  # the boundary misses the ball


def test_data_and_geometry_agree_on_who_sees_whom():
    draw = generator(5)
    angle = 2 * math.pi * torch.rand(20000, dtype=torch.float64, generator=draw)
    r = torch.rand(20000, dtype=torch.float64, generator=draw).sqrt()
    X = torch.stack([r * angle.cos(), r * angle.sin()], 1)
    w, b, w_star, b_star = normal(2, 60), 0.7 * normal(60, seed=1), normal(2, 9, seed=2), 0.3 * normal(9, seed=3)
    data = teacher.observed((X @ w + b).relu(), (X @ w_star + b_star).relu())
    exact = teacher.observes_in_ball(w, b, w_star, b_star, 1.0)
    assert (data == exact).double().mean() > 0.97
    assert not (data & ~exact).any()  # what data show is there


@given(st.floats(0.05, 3.1), st.floats(0.2, 3), st.floats(0.2, 3))
def test_expected_activation_has_the_degrees_of_the_left_side(theta, norm, other):
    w_star = torch.tensor([norm, 0.0], dtype=torch.float64)
    w = other * torch.tensor([math.cos(theta), math.sin(theta)], dtype=torch.float64)
    value = teacher.expected_activation(w_star, w)
    assert torch.allclose(teacher.expected_activation(w_star, 5 * w), value)
    assert torch.allclose(teacher.expected_activation(3 * w_star, w), 3 * value)
    # the projection on w is the arc-cosine kernel of degree 1, known independently
    kernel = norm * (math.sin(theta) + (math.pi - theta) * math.cos(theta)) / (2 * math.pi)
    assert float(value @ w) / other == pytest.approx(kernel, abs=1e-10)


def test_expected_activation_against_a_sample():
    x = normal(400_000, 3)
    w_star, w = torch.tensor([2.0, 0.0, 0.0], dtype=torch.float64), torch.tensor([-0.5, 0.4, 0.0], dtype=torch.float64)
    terms = x * ((x @ w > 0) * (x @ w_star).relu())[:, None]
    error = (terms.mean(0) - teacher.expected_activation(w_star, w)) / (terms.std(0) / len(x) ** 0.5)
    assert error.abs().max() < 4


def test_angle_keeps_its_digits_near_the_ends():
    for theta in (1e-9, 1.0, math.pi - 1e-9):
        a, b = (
            torch.tensor([2.0, 0.0], dtype=torch.float64),
            torch.tensor([math.cos(theta), math.sin(theta)], dtype=torch.float64),
        )
        assert float(teacher.angle(a, b)) == pytest.approx(theta, rel=1e-7)
