"""Inputs on a line, general quadratic models, the ball: closed forms and limits."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from traindyn.measure.worst_case import relu_gap
from traindyn.studies.quadratic import gap, general, line, show, spans


def test_the_network_on_a_line_is_the_network():
    n, m = 12, 30
    u, v, lam, (p2, yp) = line._network(2, 0, n, m)
    draws = line.scalar.rng(2, "figure 3.3/0")
    y = np.where(np.arange(n) < n // 2, -1.0, 1.0)
    x = 2 * y + draws.standard_normal(n)
    X, Y = torch.as_tensor(x)[:, None], torch.as_tensor(y)[:, None]
    U, V = torch.as_tensor(u), torch.as_tensor(v)
    for frozen, model in ((True, "quad"), (False, "f")):
        at = spans.Start(torch.outer(U, X[:, 0]), V[:, None].clone(), U[:, None] @ X[:0].T, X @ X.T, X @ X[:0].T)
        net = spans.TwoLayer(at, model)
        assert np.linalg.eigvalsh(net.kernel().numpy())[-2:] == pytest.approx(np.sort(lam), rel=1e-9)
        lr = 2.4 / lam.max()
        path = line.follow(2, 0, SimpleNamespace(n=n, m=m, steps=15), lr, frozen)
        rest = float(((yp**2 / p2).sum() - n) / -2)  # what lies orthogonal to both directions: (|y|^2 - ...) / 2
        losses = spans.train(net, Y, lr, 15).loss
        assert path["loss"].to_numpy() + rest == pytest.approx(losses, rel=1e-9)
        top = np.linalg.eigvalsh(net.kernel().numpy())[-1]
        assert path[["positive", "negative"]].iloc[-1].max() == pytest.approx(top, rel=1e-9)


def test_identities_on_a_line_hold_and_printed_ones_do_not():
    found = line.identities([1], SimpleNamespace(n=8, m=100, steps=20, rate=2.6)).iloc[0]
    for name in ("g_error", "k_error", "rank", "vectors", "unit_right", "drift", "map", "split"):
        assert found[name] < 1e-12, name
    for name in ("unit", "map_printed", "split_printed", "split_unit"):
        assert found[name] > 1e-3, name
    assert line.printed_scale(3, 20) < 1e-12


def test_thresholds_scale_with_the_loss():
    found = line.thresholds(400, 128, 5000, (0.37, 0.39))
    assert found["half_sum"] == 1 and found["half_mean"] == 0 and 0.1 < found["mean_square"] < 0.9
    assert found["half_mean_he"] == found["mean_square"]


def test_regimes_are_what_they_are_called():
    size = SimpleNamespace(n=128, m=2000, steps=120, gap=[1.04, 1.08], far=1.3)
    table, paths = line.regimes([5], size, True)
    crit = paths.groupby("regime")[["lr", "first", "second"]].first()
    assert 1.04 <= crit["second"].iloc[0] / crit["first"].iloc[0] <= 1.08
    assert crit["lr"]["below"] < crit["first"]["below"] < crit["lr"]["between"] < crit["second"]["between"]
    assert np.isinf(table.loc[(5, "beyond"), "peak"]) and table.loc[(5, "below"), "peak"] <= 1
    assert line.largest([5], 128, 5000)["line"].iloc[0] == pytest.approx(4, abs=0.05)


def test_the_lower_window_leaves_the_second_direction_alone():
    row = line.spikes([1], [4000, 16000]).iloc[0]
    assert row["lost"] == row["flat"] == 0 and row["second"] <= 1.01
    assert np.isnan(line.spikes([1], [4000, 16000], ratio=1.02).iloc[0]["first_low"])  # the window is empty


def test_general_identities_tell_right_from_printed():
    found = general.identities([2]).iloc[0]
    assert found["f_error"] < 1e-11 and found["k_error"] < 1e-12
    assert found["k_printed"] > 0.1 and found["asymmetry"] > 0.1
    plain = general.without_features([2]).iloc[0]
    assert plain["right"] < 1e-12 < 0.1 < plain["printed"]
    form = general.linear_network(5, 3)
    assert form["form"] < 1e-12 and form["cube"] < 1e-12 and form["square_line"] < 1e-12 < 0.1 < form["square"]


def test_the_batch_over_gamma_is_the_single_model():
    size = SimpleNamespace(d=100, steps=30)
    peak, end, gone, floor = general.run([4], [1e-2], [2.0], size)
    one = general.losses(4, 1e-2, 2.0, 30)
    draws = general.rng(4, "figure B.4")
    phi = draws.standard_normal(100)
    phi /= np.linalg.norm(phi)
    sign, w = draws.choice([-1.0, 1.0], 100), draws.standard_normal(100)
    lam = np.sum((phi + 1e-2 * sign * w) ** 2)
    again = general.losses(4, 1e-2, 2.0 * lam, 30)  # the batch takes the rate itself, this one units of 1/lambda
    assert peak[0, 0] == pytest.approx(max(again), rel=1e-9) and one[0] == again[0]
    assert not gone[0, 0] and floor[0, 0] < end[0, 0]


def test_the_first_reversal_is_found():
    steps = line.evidence.table(
        line.pd.DataFrame({"seed": [0, 1, 0, 1], "rate": [2.5, 2.5, 3.0, 3.0], "fall": [1, 1, -3, 1]}), "rate"
    )
    assert general.reverses(steps) == 3.0
    assert np.isnan(general.reverses(steps.loc[[(0, 2.5), (1, 2.5)]]))


def test_distances_in_the_ball_against_brute_force():
    found = gap.distances([3], [8], 0.7).iloc[0]
    draws = gap.rng(3, "ball/8")
    z, v = torch.as_tensor(draws.standard_normal(8)), torch.as_tensor(draws.choice([-1.0, 1.0], 8))

    def f(w):
        return w[8:] @ torch.tanh(w[:8]) / 8**0.5

    w0 = torch.cat([z, v]).requires_grad_()
    H, g = torch.autograd.functional.hessian(f, w0), torch.autograd.grad(f(w0), w0)[0]
    values, vectors = torch.linalg.eigh(H)
    k = int(values.abs().argmax())
    gaps = []
    for sign in (1, -1):
        step = 0.7 * sign * vectors[:, k]
        gaps.append((float((f(w0 + step) - f(w0) - g @ step).detach()), float(step @ H @ step / 2)))
    worst = max(gaps, key=lambda pair: abs(pair[0]))
    assert found["tanh"] == pytest.approx(abs(worst[0]), rel=1e-8)
    assert found["tanh_quad"] == pytest.approx(abs(worst[1]), rel=1e-8)
    sides = [float(relu_gap(z[v == s], 0.7).value) for s in (1, -1) if (v == s).any()]
    assert found["relu"] == pytest.approx(max(sides) / 8**0.5)
    assert gap.ratio(gap.distances([3], [8, 64], 0.7))["ratio"].iloc[0] == pytest.approx(found["bound"])


def test_forms_of_the_quadratic_model_agree_and_its_hessian_is_constant():
    found = show.formula([0], 8, 3, 2).iloc[0]
    assert found["closed"] < 1e-12 and found["nested"] < 1e-12 and found["hessian"] < 1e-12 < found["gates"]


def test_the_hand_made_runs_are_the_librarys():
    size = SimpleNamespace(m=50, d=3)
    u, v, x = show.draw(1, size)
    assert float(x @ x) == pytest.approx(3)
    losses = show.library(u, v, x, 0.3, 20)
    h = torch.relu(u @ x) / 3**0.5
    assert losses["f"][0] == pytest.approx(float(v @ h / 50**0.5 - 1) ** 2 / 2) and len(losses["quad"]) == 20


def test_a_linear_model_diverges_at_twice_one_over_its_eigenvalue():
    found = show.linear_threshold([1], 5, 12).iloc[0]
    assert abs(found["threshold"]) < 1e-3 and found["function_space"] < 1e-12
