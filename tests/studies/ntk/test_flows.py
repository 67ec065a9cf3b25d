"""Flows, thresholds and regimes: closed forms against integration, counterexamples, limits."""

from __future__ import annotations

import math
from types import SimpleNamespace as Size

import pandas as pd
import pytest
import torch

from traindyn.studies.ntk import flows, networks, regimes, thresholds

SEEDS = [1, 2]
THEOREM = Size(m=40, n=3, d=5, alphas=[0.1, 1.0, 10.0], time=8.0, steps=400, parts=8, shown=2.0)


def test_lipschitz_constant_threshold_and_radius():
    p = flows.problem(SEEDS, 40, 3, 5)
    V, W = (networks.weights(SEEDS, 40, 5, name) for name in ("V", "W"))
    J = [networks.jacobian(U, p.a, p.X, "tanh").flatten(2) for U in (V, W)]
    change = torch.linalg.matrix_norm(J[0] - J[1], ord=2)
    assert (change <= p.L * (V - W).norm(dim=(1, 2))).all()
    s = torch.linalg.svdvals(networks.jacobian(p.W0, p.a, p.X, "tanh").flatten(2))
    torch.testing.assert_close(torch.stack([s[:, -1], s[:, 0]]), torch.stack([p.low, p.high]))
    # at the threshold the distance bound is a quarter of sigma_min / L: twice what the proof needs
    alpha = flows.threshold(p, 3)
    torch.testing.assert_close(flows.radius(p, alpha), p.low / (4 * p.L))


def test_both_flows_keep_to_the_theorem_at_the_threshold_and_not_far_below():
    found = flows.theorem(SEEDS, THEOREM)
    at = found.xs("threshold", level="alpha")
    assert (at[["loss_w", "loss_u", "distance_w", "distance_u"]] <= 1).all().all() and (at["left"] < 1e-6).all()
    assert (found.xs(0.1, level="alpha")["loss_w"] > 1).all()
    alone = flows.theorem([2], THEOREM).xs(2, level="seed")
    pd.testing.assert_frame_equal(found.xs(2, level="seed"), alone, rtol=1e-9)
    read = flows.summary(found)
    assert (read["smallest"] == 1).all() and (abs(read["product_ratio"] - 1) < 0.05).all()
    assert (abs(read[["moved_slope", "jacobian_slope"]] + 1) < 0.2).all().all()


def test_the_tangent_flow_in_closed_form_and_its_limit():
    found = flows.setup(SEEDS, Size(m=40, n=3, d=5, alpha=2.0, steps=150))
    assert (found[["gradient_gap", "mended_gap"]] < 1e-12).all().all()
    assert (found["closed_gap"] < 1e-6).all() and (found["printed_gap"] > 1e-4).all()
    p = flows.problem(SEEDS, 40, 3, 5)
    alpha = torch.full((2,), 5.0, dtype=torch.float64)
    residual, distance = flows.tangent_path(p, alpha, torch.tensor([0.0, 60.0], dtype=torch.float64))
    torch.testing.assert_close(residual[0], -p.y)
    assert residual[1].abs().max() < 1e-12 and distance[0].abs().max() == 0
    shortest = (p.y * torch.linalg.solve(p.K0, p.y)).sum(-1).sqrt() / alpha
    torch.testing.assert_close(distance[1], shortest)


def test_eigen_directions_decay_at_their_own_rates():
    found = flows.directions(1, THEOREM, [50.0])
    p = flows.problem([1], 40, 3, 5)
    values = torch.linalg.eigvalsh(p.K0[0]).flip(0)
    last = found[(found["tau"] == 2.0)].set_index(["model", "direction"])["component"]
    for k, value in enumerate(values, 1):
        expected = math.exp(-2 * 2.0 * value / values[-1])
        assert last["tangent", k] == pytest.approx(expected, abs=1e-9)
        assert last["network", k] == pytest.approx(expected, abs=1e-2)


def test_pseudoinverse_interpolates_with_full_rank_alone():
    found = flows.pseudoinverse(SEEDS, Size(m=20, n=4, d=5, alpha=2.0))
    assert (found[["residual", "scaled_mended"]] < 1e-20).all().all()
    assert (found["deficient"] > 1e-12).all() and (found["limit_gap"] > 0.1).all()
    assert found["scaled"].tolist() == pytest.approx([0.5, 0.5])  # alpha y - y, over |y|^2


def test_counterexamples():
    numbers, table = thresholds.saturating(Size(c=0.02, time=20.0, steps=2000))
    assert numbers["printed_threshold"] == pytest.approx(4 / (3 * math.sqrt(3)) * 48 * 0.02)
    assert numbers["mended_threshold"] == pytest.approx(4 / (3 * math.sqrt(3)) * 48)
    assert numbers["loss"] > 0.5 and numbers["printed_ratio"] > 1e6 and set(table["curve"]) == {"loss", "printed bound"}
    numbers, table = thresholds.at_w_instead_of_u(Size(time=20.0, steps=2000))
    w = math.sqrt(1 + 2 / 24) - 1  # where 24 (w + w^2/2) = 1
    level = table[table["curve"] == "tangent at $w(t)$"]["loss"].iloc[-1]
    assert level == pytest.approx((24 * w - 1) ** 2 / 2, rel=1e-6)
    assert numbers["tangent_at_w"] > 1e3 and max(numbers["network"], numbers["tangent_at_u"]) <= 1 + 1e-12


def test_units_leave_the_third_power_alone():
    found, frame = thresholds.units(SEEDS, Size(m=40, n=3, d=5, unit=3.0, widths=[50, 200, 800]))
    assert (found["shift_3"] < 1e-10).all() and found["shift_2"].tolist() == pytest.approx([2.0, 2.0])
    assert (abs(found["slope"] + 0.5) < 0.15).all() and len(frame) == 6


@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("sigma", ["tanh", "relu"])
def test_a_step_is_gradient_descent_on_the_mean_square(sigma, outer):
    X, y = regimes.data(SEEDS, 6, 4)
    assert y.square().mean(-1).tolist() == pytest.approx([1, 1])
    s = regimes.State(networks.weights(SEEDS, 5, 4).requires_grad_(), networks.signs(SEEDS, 5).requires_grad_())
    f = math.sqrt(5) * networks.output(s.W, s.a, X, sigma) * 2.0 / 5
    losses = (f - y).square().mean(-1)
    gW, ga = torch.autograd.grad(losses.sum(), s)
    plain = regimes.State(s.W.detach(), s.a.detach())
    after, loss = regimes.step(plain, X, y, 2.0, 0.3, sigma, outer)
    torch.testing.assert_close(loss, losses.detach())
    torch.testing.assert_close(after.W, plain.W - 0.3 * gW)
    torch.testing.assert_close(after.a, plain.a - 0.3 * ga if outer else plain.a)
    K = regimes.kernel(plain, X, sigma, outer)
    assert (torch.linalg.eigvalsh(K) > -1e-12).all()


def test_regimes_narrow_widths_and_a_fixed_step():
    size = Size(n=8, d=4, stop=0.25, steps=600, short=20, widths=[16, 64])
    slopes, frame = regimes.compare(SEEDS, size, 0.5)
    assert slopes.index.names == ["seed", "activation", "outer"] and frame["moved"].notna().mean() > 0.9
    table = frame[frame["scaling"] == "ntk"].groupby("width")["moved"].mean()
    assert table[64] < table[16]
    stalled, losses = regimes.fixed_step(SEEDS, size, 0.5)
    level = stalled["stalled"].groupby("width").mean()
    assert level[16] < level[64] <= 1 and set(losses["step"]) == {"fixed", "scaled with m"}
    effects, _ = regimes.narrow(SEEDS, Size(n=8, d=4, steps=50, widths=[1, 4]), 0.5)
    assert (effects.xs(1, level="width") == 0).all().all() and (effects.xs(4, level="width")["effect"] > 0).all()
    never = regimes.train(SEEDS, 4, "ntk", "tanh", True, Size(n=8, d=4, stop=1e-9, steps=2), 0.5)
    assert never["moved"].isna().all()


def test_rows_before_and_after_training_in_the_plane():
    found = regimes.features(1, Size(n=12, m=32, steps=300, stop=0.05), 0.5)
    pivot = {key: part[["x1", "x2"]].to_numpy() for key, part in found.groupby(["scaling", "when"])}
    moved = {s: abs(pivot[s, "after"] - pivot[s, "before"]).mean() for s in ("ntk", "mean_field")}
    assert moved["mean_field"] > 2 * moved["ntk"] > 0


def test_first_steps_in_both_parameterisations():
    size = Size(n=6, d=4, widths=[16, 64], looks=[1, 2])
    lecture = regimes.near_start(SEEDS, size, 0.5)
    X = torch.randn(10, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(10) % 10
    practice = regimes.near_start(SEEDS, size, 0.1, (X, labels))
    for found in (lecture, practice):
        assert len(found) == 8 and (found["moved"] > 0).all() and (found["flips"] >= 0).all()
    read = regimes.growth(practice)
    assert read.index.names == ["seed", "step"] and read["moved_most"].notna().all()
    named = regimes.named({"a": lecture, "b": practice})
    assert set(named["network"]) == {"a", "b"}


def test_the_standard_networks_gradients_are_those_of_autograd():
    X = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 9, 9, 4])
    path = regimes._standard(3, 12, 0.1, 2, X, labels)
    W = path[0].clone().requires_grad_()
    A = (networks.starts([3], "standard-outer-12", 10, 12)[0] * math.sqrt(2 / 12)).requires_grad_()
    for step in (1, 2):
        loss = torch.nn.functional.cross_entropy(torch.relu(X @ W.T) @ A.T, labels)
        gW, gA = torch.autograd.grad(loss, (W, A))
        W, A = ((part - 0.1 * g).detach().requires_grad_() for part, g in ((W, gW), (A, gA)))
        torch.testing.assert_close(path[step], W.detach())
