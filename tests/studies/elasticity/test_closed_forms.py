"""The closed forms of local elasticity under gradient flows, against autograd, integration and exact fractions."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from traindyn import layers
from traindyn.compute import normal, uniform
from traindyn.errors import InputError
from traindyn.layers import starts
from traindyn.measure.ode import relax, rk4
from traindyn.studies.elasticity import closed_form_features as features
from traindyn.studies.elasticity import closed_form_flows as flows
from traindyn.studies.elasticity import closed_form_gate as gate


def close(a, b, tolerance=1e-11):
    return torch.allclose(a, torch.as_tensor(b, dtype=a.dtype), rtol=tolerance, atol=tolerance)


# draws


def test_a_slice_does_not_depend_on_its_companions():
    assert torch.equal(normal([3, 4, 5], "x", 6)[1], normal([4], "x", 6)[0])
    assert torch.equal(starts([3, 4], "x", 2, 3)[1], starts([4], "x", 2, 3)[0])
    assert not torch.equal(normal([3], "x", 6), normal([3], "y", 6))
    values = uniform([1], "u", 1000, low=2, high=3)
    assert values.min() >= 2 and values.max() < 3


def test_the_perturbation_reaches_plain_starts(monkeypatch, perturb):
    plain = starts([0], "w", 50)
    monkeypatch.setattr(layers, "altered", perturb.by(1e-10))
    change = (starts([0], "w", 50) / plain - 1).abs().max()
    assert 1e-12 < change < 1e-8


# flows


def test_runge_kutta_is_of_fourth_order():
    exact = torch.exp(torch.tensor(-1.0, dtype=torch.float64))
    start = torch.ones(1, dtype=torch.float64)
    coarse, fine = (float((rk4(lambda w: -w, start, 1.0, n) - exact).abs()) for n in (10, 20))
    assert 14 < coarse / fine < 18
    with pytest.raises(InputError, match="at least 1"):
        rk4(lambda w: -w, start, 1.0, 0)


def test_relax_is_the_matrix_exponential():
    A = normal([0, 1], "A", 4, 4)
    M, start = A @ A.mT, normal([0, 1], "start", 3, 4)
    times = torch.tensor([0.0, 0.3, 2.0], dtype=torch.float64)
    moved = relax(M, 0.7, start, times)
    for i, t in enumerate(times):
        assert close(moved[:, i], start @ torch.linalg.matrix_exp(-0.7 * t * M))
    with pytest.raises(InputError, match="size 4"):
        relax(M, 1.0, start[..., :3], times)


# Section 3


@pytest.fixture
def classifier():
    h, W = normal([7], "h", 3, 8, 5)[0], normal([7], "W", 3, 5)[0]
    return h, W, features.moments(h)


def test_gradient_of_eq_3_has_the_factor_lambda_over_k(classifier):
    h, W, data = classifier
    W.requires_grad_()
    (slope,) = torch.autograd.grad(features.penalised_loss(W, h, 0.8), W)
    W = W.detach()
    assert close(features.gradient(W, data, features.penalty(0.8, 24, 3)), slope)
    assert not close(features.gradient(W, data, features.penalty(0.8, 24, 3, "printed")), slope, 1e-2)
    with pytest.raises(InputError, match="reading"):
        features.penalty(1.0, 24, 3, "other")


def test_the_feature_flow_starts_moves_and_ends_as_definition_4_says(classifier):
    _, W, data = classifier
    flow, eps = features.FeatureFlow(data), 1e-5
    times = torch.tensor([0.0, 0.5 - eps, 0.5, 0.5 + eps, 1e4], dtype=torch.float64)
    path = flow.weights(W[None], 0.3, 0.9, times)[:, 0]
    slope = (path[3] - path[1]) / (2 * eps)
    assert close(path[0], W)
    assert close(slope, -(0.9**2) * features.gradient(path[2], data, 0.3), 1e-8)
    assert close(path[-1], features.fixed_point(data, 0.3))
    printed = flow.weights(W[None], 0.3, 0.9, times, sign="printed")[:, 0]
    assert close(printed[0], W) and close(printed[-1], -features.fixed_point(data, 0.3))


@pytest.mark.parametrize("sign", ["right", "printed"])
def test_outputs_and_loss_agree_with_the_weights(classifier, sign):
    h, _, data = classifier
    W0, times = normal([1], "W", 4, 3, 5)[0], torch.tensor([0.0, 0.4, 3.0], dtype=torch.float64)
    flow, points = features.FeatureFlow(data), h[:2, 0]
    W = flow.weights(W0, 0.3, 0.9, times, sign)
    out, loss = flow.outputs_and_loss(W0, points, 0.3, 0.8, 0.9, times, sign)
    assert out.shape == (3, 4, 2, 3)
    assert close(out, torch.einsum("tdkp,np->tdnk", W, points))
    assert close(loss, features.penalised_loss(W, h, 0.8))


def test_the_fictitious_step_is_a_gradient_step_on_one_sample(classifier):
    h, W, _ = classifier
    W.requires_grad_()
    target = torch.eye(3, dtype=W.dtype)[1]
    (slope,) = torch.autograd.grad(((target - W @ h[1, 0]) ** 2).sum() / 2 + 0.6 * (W**2).sum() / 2, W)
    W = W.detach()
    assert close(features.fictitious_step(W, h[1, 0], 1, 0.6, 0.05), W - 0.05 * slope)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), eta=st.sampled_from([1.0, 1e-2, 1e-4]), mu=st.floats(0.0, 20.0))
def test_eq_4_is_definition_1_at_any_step(seed, eta, mu):
    W, h, h_prime = (normal([seed], name, *shape)[0] for name, shape in (("W", (3, 5)), ("h", (5,)), ("g", (5,))))
    s = features.s_rel(W @ h, W @ h_prime, h @ h_prime, h @ h, 2, mu)
    measured = features.change_ratio(W, features.fictitious_step(W, h, 2, mu, eta), h_prime, h)
    assert close(s, measured, 1e-7)
    if mu == 0:
        assert close(s, (h @ h_prime).abs() / (h @ h), 1e-9)


def test_the_printed_first_line_depends_on_the_step(classifier):
    h, W, _ = classifier
    ratios = [
        features.change_ratio(W, features.fictitious_step(W, h[0, 0], 0, 0.5, eta), h[1, 0], h[0, 0], crossed=True)
        for eta in (0.1, 1e-9)
    ]
    assert (ratios[0] - ratios[1]).abs() > 1e-2
    assert close(ratios[1], 1.0, 1e-6)


# Section 4


@pytest.fixture
def relu_gate():
    X, w_star = normal([2], "X", 500, 4)[0], normal([2], "w*", 4)[0]
    M, z = gate.gate_moments(X, w_star)
    return X, w_star, M, z


def test_the_gate_flow_solves_eq_5(relu_gate):
    X, w_star, M, z = relu_gate
    w = normal([3], "w", 4)[0]
    assert close(z, M @ w_star)
    assert close(gate.gate_rate(w, X, w_star, 1.7), 1.7 * (z - M @ w))
    end = gate.gate_flow(w[None], w_star, M, 1.7, torch.tensor([0.8], dtype=w.dtype))[0, 0]
    assert close(end, rk4(lambda v: gate.gate_rate(v, X, w_star, 1.7), w, 0.8, 400), 1e-9)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), step=st.floats(1e-3, 2.0))
def test_exact_changes_and_bounds_of_the_gate(seed, step):
    w, w_star, x, x_prime = normal([seed], "v", 4, 3)[0]
    moved = gate.gate_step(w, x, w_star, step)
    for point in (x, x_prime):
        change = gate.gate_change(w, moved, point)
        assert close(gate.exact_change(w - w_star, point, x, w_star, step, "right"), change, 1e-9)
        for form in ("projection", "norm"):
            assert change <= gate.change_bound(w - w_star, point, x, w_star, step, form) + 1e-9
    longer = [gate.change_bound(w - w_star, x_prime, c * x, w_star, step, "norm") for c in (1, 3)]
    assert close(longer[1], 9 * longer[0])  # |<x, x'>| |x|: quadratic in the length of x


def test_the_stated_bound_of_lemma_4_2_can_be_violated():
    w_star, w, x = (torch.tensor(v, dtype=torch.float64) for v in ([1.0, 0.0], [0.5, 0.0], [10.0, 0.0]))
    change = gate.gate_change(w, gate.gate_step(w, x, w_star, 0.01), x)
    assert close(change, 0.01 * 5 * 100)
    assert close(gate.change_bound(w - w_star, x, x, w_star, 0.01, "projection"), change)
    assert close(gate.change_bound(w - w_star, x, x, w_star, 0.01, "printed"), change / 10)


def test_open_gates_attain_the_late_bound():
    w_star, x, x_prime = (torch.tensor(v, dtype=torch.float64) for v in ([1.0, 1.0], [2.0, 1.0], [1.0, 3.0]))
    w = w_star + 1e-3
    moved = gate.gate_step(w, x, w_star, 0.1)
    ratio = gate.gate_change(w, moved, x_prime) / gate.gate_change(w, moved, x)
    assert close(ratio, gate.late_bound(x_prime, x), 1e-9) and close(gate.late_bound(x_prime, x), 1.0)


def test_alpha_as_printed_does_not_know_the_time():
    w_star, x, x_prime = (torch.tensor(v, dtype=torch.float64) for v in ([1.0, 1.0], [2.0, 1.0], [1.0, 3.0]))
    error = torch.tensor([-3.0, -3.0], dtype=torch.float64)  # both gates are closed: nothing moves at x'
    assert gate.exact_change(error, x_prime, x, w_star, 1e-3, "right") == 0
    assert gate.exact_change(error, x_prime, x, w_star, 1e-3, "printed") > 0
    with pytest.raises(InputError, match="alpha"):
        gate.exact_change(error, x_prime, x, w_star, 1e-3, "other")


# Section 5


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_step_limit_and_expansion_of_homogeneous_predictors(d):
    W, beta, beta_prime = normal([d], "v", 3, 2, 5)[0]
    residual = torch.tensor(0.7, dtype=torch.float64)
    W.requires_grad_()
    out, out_prime = flows.predict(W, beta, d), flows.predict(W, beta_prime, d)
    slope, slope_prime = (torch.autograd.grad(v, W)[0] for v in (out, out_prime))
    W = W.detach()
    moved = flows.step(W, beta, residual, 0.05, d)
    assert close(moved, W + 0.05 * residual * slope)
    assert close(flows.s_rel_limit(W, beta_prime, beta, d), (slope * slope_prime).sum().abs() / (slope**2).sum())
    change = flows.predict(moved, beta_prime, d) - flows.predict(W, beta_prime, d)
    assert close(flows.expanded_change(W, beta_prime, beta, residual, 0.05, d), change)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), d=st.integers(1, 4))
def test_theorem_5_1_bounds_the_limit(seed, d):
    W, beta, beta_prime = normal([seed], "v", 3, 3, 4)[0]
    bound = flows.proximity(beta_prime, beta) * flows.bound_factor(W, beta, d)
    assert flows.s_rel_limit(W, beta_prime, beta, d) <= bound * (1 + 1e-12)
    assert close(flows.proximity(beta_prime, beta), flows.proximity(beta, beta_prime))


def test_flow_rate_is_minus_the_gradient_of_the_risk():
    W, beta, target = normal([0], "W", 3, 4)[0], normal([0], "b", 9, 3, 4)[0], normal([0], "t", 9)[0]
    W.requires_grad_()
    (slope,) = torch.autograd.grad(((target - flows.predict(W, beta, 3)) ** 2).mean() / 2, W)
    assert close(flows.flow_rate(W.detach(), beta, target, 0.4, 3), -0.4 * slope)


@pytest.mark.parametrize("low, high", [(0.1, 0.9), (1.1, 3.0)])
def test_squared_weights_follow_their_logistic_equation(low, high):
    a, b = uniform([0], "a", 5, low=0.5, high=3)[0], uniform([0], "b", 5, low=0.5, high=2)[0]
    start = uniform([0], "s", 5, low=low, high=high)[0] * a / b
    times = torch.tensor([0.0, 0.2, 1.0, 1e4], dtype=a.dtype, requires_grad=True)
    v = flows.squared_weights(times, a, b, start, 0.6)
    assert close(v[0], start) and close(v[-1], a / b)
    for q in range(5):
        (rate,) = torch.autograd.grad(v[:, q].sum(), times, retain_graph=True)
        expected = 4 * 0.6 * v[:, q] * (a[q] - b[q] * v[:, q])  # d(w^2)/dt = 2 w * 2 theta (a w - b w^3)
        assert close(rate, expected.detach(), 1e-9)


def test_eq_14_at_its_ends_is_a_ratio_of_integers():
    x, x_prime = (3, -2, 5), (-1, 4, 7)
    s = flows.s_rel_example(
        torch.tensor([0.0, float("inf")], dtype=torch.float64),
        torch.tensor(x_prime, dtype=torch.float64),
        torch.tensor(x, dtype=torch.float64),
    )
    for value, weights in zip(s, ((Fraction(1, 2), 2, 4), (1, 4, 9)), strict=True):
        top = abs(sum(w * p * q for w, p, q in zip(weights, x_prime, x, strict=True)))
        assert close(value, float(Fraction(top) / sum(w * q * q for w, q in zip(weights, x, strict=True))), 1e-14)


def test_eq_14_is_eq_13():
    times = torch.linspace(0, 3000, 7, dtype=torch.float64)
    a, start = (torch.tensor(v, dtype=torch.float64) for v in (flows.EXAMPLE_A, flows.EXAMPLE_START))
    squared = flows.squared_weights(times, a, torch.ones_like(a), start, 0.002)
    x, x_prime = normal([0], "x", 2, 4, 3)[0]
    assert close(flows.s_rel_example(times, x_prime, x, 0.002), flows.s_rel_diagonal(squared, x_prime, x), 1e-13)


def test_the_finite_step_on_a_diagonal_is_definition_1():
    w, x, x_prime = normal([4], "v", 3, 6)[0]
    residual = torch.tensor(1.3, dtype=torch.float64)
    W, beta, beta_prime = torch.diag(w), torch.diag(x), torch.diag(x_prime)
    moved = flows.step(W, beta, residual, 0.05, 2)
    top, bottom = (flows.predict(moved, b, 2) - flows.predict(W, b, 2) for b in (beta_prime, beta))
    assert close(flows.s_rel_step_diagonal(w**2, residual, x_prime, x, 0.05), (top / bottom).abs(), 1e-10)
    limit = flows.s_rel_step_diagonal(w**2, residual, x_prime, x, 0.0)
    assert close(limit, flows.s_rel_diagonal(w[None] ** 2, x_prime, x)[0])


# Theorem 5.3, Lemma B.1


@pytest.fixture
def symmetric():
    f_prime, f = normal([5], "f", 2, 40, 2)[0]
    sizes = uniform([5], "sizes", 4, 40, low=0.3, high=3)[0]
    return flows.Symmetric(f_prime, f, sizes[:2].T, sizes[2], sizes[3])


def test_the_factorised_form_needs_x_in_its_denominator(symmetric):
    times = torch.tensor([0.0, 0.2, 1.0, 50.0], dtype=torch.float64)
    s = flows.s_rel_symmetric(symmetric, times)
    assert close(flows.s_rel_factorised(symmetric, times, "corrected"), s, 1e-9)
    assert ((flows.s_rel_factorised(symmetric, times, "printed") / s - 1).abs() > 0.01).double().mean() > 0.8
    same = symmetric._replace(f_prime=torch.stack([symmetric.f_prime[:, 0], symmetric.f[:, 1]], 1))
    assert close(flows.s_rel_factorised(same, times, "printed"), flows.s_rel_symmetric(same, times), 1e-9)
    front, _, _ = flows.symmetric_parts(symmetric, "corrected")
    assert close(flows.s_rel_symmetric(symmetric, times[-1:])[:, 0], front, 1e-9)
    with pytest.raises(InputError, match="form"):
        flows.symmetric_parts(symmetric, "other")


def test_the_corrected_bound_holds_rises_and_starts_where_it_says(symmetric):
    times = torch.linspace(0, 20, 300, dtype=torch.float64)
    bound, t2 = flows.symmetric_bound(symmetric, times, "corrected")
    s = flows.s_rel_symmetric(symmetric, times)
    late = times >= t2[:, None]
    assert (bound <= s * (1 + 1e-12))[late].all() and (bound > 0)[late].all()
    assert (bound.diff(dim=-1) >= 0).all()
    _, k1, _ = flows.symmetric_parts(symmetric, "corrected")
    swap = k1 < 0
    b1 = symmetric.beta2 * torch.where(swap, 1 - k1, k1)
    q2 = 4 * torch.where(swap, symmetric.a[:, 1], symmetric.a[:, 0])
    waits = t2 > 0
    assert waits.any() and close((2 * b1 * torch.exp(-q2 * t2))[waits], symmetric.alpha2[waits])


def test_lemma_b_1_with_numbers_by_hand():
    one = torch.ones(1, dtype=torch.float64)
    times = torch.tensor([0.0, 1.0], dtype=torch.float64)
    bound = flows.lemma_bound(2 * one, one, 0.5 * one, 1.5 * one, 0 * one, one, 0 * one, times)[0]
    assert close(bound[0], 1 / (2 + 0.5 + 1.5))
    assert close(bound[1], 1 / (2.5 + 1.5 * torch.exp(-times[1])))
