"""Exact constructions and closed forms of the student-teacher chapter, known by hand; float64."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from traindyn.compute import generator
from traindyn.layers import activations
from traindyn.learn.models import FCN
from traindyn.measure import teacher as measure
from traindyn.studies.student_teacher import angles, critical, flows, interpolation, observers, relus, rule


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed, "test"))


def net(widths: list[int], seed: int) -> FCN:
    model = FCN(widths[0], widths[1:-1], len(widths) - 1, widths[-1], parameterization="standard")
    model = model.double()
    model.reset(generator(seed))
    return model


def test_the_five_students_are_a_critical_point_without_an_aligned_student():
    for layers in (2, 3):
        point = critical.antipodal(7, 6, 3, layers)
        assert point["gradient"] < 1e-12 and point["loss"] < 1e-25
        assert point["cosine"] < 0.9 and point["absolute_cosine"] > 1 - 1e-12
        assert point["alpha"] > 1e-3 and point["signed_bias_gap"] < 1e-12 < point["bias_gap"]
        assert point["affine_residual"] < 1e-12 < point["unaligned"]
    profile = critical.profile(3).pivot(index="t", columns="node", values="value")
    assert np.allclose(profile["sum of the five"], profile["teacher"], atol=1e-12)


def test_refits_vanish_up_to_sign_only():
    found = critical.refits([1, 2], SimpleNamespace(samples=800, d=5, m=3, spare=6, outputs=4))
    assert found[["groups", "single", "six_signed"]].max().max() < 1e-8
    assert found[["six_positive", "sharing"]].min().min() > 1e-2
    assert found["without"].min() > 1e-3


def test_rank_of_batches():
    assert interpolation.batch_ranks(5) == [5, 5, 5, 5, 1]
    found = interpolation.ranks([4, 5])
    assert (found["rank_missing"] == 0).all() and (found["rank_whole"] == 1).all() and list(found.index) == [4, 5]
    # a float reference on a matrix whose rank is known
    M = np.array([[1, 1, 0], [0, 1, 1], [1, 2, 1]])
    assert interpolation._rank_mod(M, 1_000_003) == 2 == np.linalg.matrix_rank(M)


def test_rule_flow_and_pieces_in_small():
    size = SimpleNamespace(student=[4, 5, 5, 3], teacher=[4, 7, 6, 3], samples=50)
    flow = rule.gradient_flow([0], size).iloc[0]
    assert flow["gap"] < 1e-12 < flow["ungated"] and flow["sign_mended"] < 1e-15 < flow["sign_as_printed"]
    found = rule.recursive_rule([0], size).iloc[0]
    assert found["widths"] < 1e-12 and found["jacobian"] < 1e-12 and found["as_printed"] > 0.1 and found["shape_error"]
    pieces = rule.pieces([0], SimpleNamespace(student=[2, 4, 4, 2], teacher=[2, 3, 3, 2], samples=2000, pairs=200))
    assert pieces["spread"][0] < 1e-12 and pieces["violations"][0] == 0 and pieces["pairs"][0] > 100
    assert pieces["samples"][0] == 2000 > pieces["patterns"][0] and pieces.index.names == ["seed"]
    assert rule.chord_gap() == {"chord_gap": pytest.approx(0.5)}


def test_relus():
    units = relus.independence([0], SimpleNamespace(d=4, units=6, samples=500)).iloc[0]
    assert units["six"] < 1e-12 and units["residual"] < 1e-12 < units["generic"]
    local = relus.local_independence([0], SimpleNamespace(d=3, units=5, samples=800, radius=1.0)).iloc[0]
    assert local["antipodal"] < 1e-12 and local["missing"] < 1e-12 and local["generic"] > 1e-5
    assert relus.hyperplanes([0], SimpleNamespace(pairs=50, d=4))["gap"][0] < 1e-12
    ratios = relus.ball_ratios(50)
    assert ratios["volume_ratio"] >= 1 and ratios["volume_ratio_printed"] == ratios["volume_ratio"] / (2 * math.pi)
    assert relus.misalignment([1], SimpleNamespace(instances=60, samples=500))["violations"][1] == 0
    pair = relus.antipodal_instance()
    assert pair["pair_eps"] < 2e-9 and pair["pair_bias_gap"] == pytest.approx(0.6)


def test_a_unit_among_its_neighbours_is_approximated_in_proportion_to_the_angle():
    coarse, fine = (relus.smallest_sup(0, 2, 2, theta, 300) for theta in (0.1, 0.05))
    assert coarse / fine == pytest.approx(2, rel=0.1)
    assert relus.smallest_sup(0, 2, 3, 0.3, 300, antipodal=True) < 1e-9


def test_the_closed_field_is_the_gradient_of_the_population_loss():
    draw = [
        torch.randn(*s, dtype=torch.float64, generator=torch.Generator().manual_seed(i))
        for i, s in enumerate([(3, 4), (3, 2), (2, 4), (2, 2)])
    ]
    W, V, W_star, V_star = draw

    def kernel(a, b):
        """E[relu(a.x) relu(b.x)], the arc-cosine kernel of degree 1."""
        na, nb = a.norm(dim=1)[:, None], b.norm(dim=1)[None]
        cos = (a @ b.T / (na * nb)).clamp(-1 + 1e-14, 1 - 1e-14)
        theta = torch.acos(cos)
        return na * nb * (theta.sin() + (torch.pi - theta) * cos) / (2 * torch.pi)

    W.requires_grad_()
    # the diagonal |w|^2 / 2 is written out: acos has no derivative at 1
    own = kernel(W, W).triu(1)
    same = ((V @ V.T).triu(1) * own).sum() + (V.square().sum(1) * W.square().sum(1)).sum() / 4
    J = same - ((V @ V_star.T) * kernel(W, W_star)).sum()
    (gradient,) = torch.autograd.grad(J, W)
    field = angles.field(W.detach(), V, W_star, V_star)
    assert torch.allclose(field, -gradient, atol=1e-10)
    found = angles.residue_form([0], SimpleNamespace(n=4, d=5, m=3, outputs=2, samples=1000)).iloc[0]
    assert found["balanced"] < 1e-12 and found["bare"] < 1e-12 and found["printed"] > 0.1


def test_theorem6_case_by_case():
    size = SimpleNamespace(
        laws=angles.LAWS, dims=[3], norms=[(1.0, 1.0), (2.5, 0.4)], angles=[0.6, 2.0], samples=60_000
    )
    found = angles.expected([0], size)
    assert found["error"].max() < 4.5 and found["ratio"].between(0.9, 1.1).all()
    assert found[found["norms"] == "2.5, 0.4"]["printed_error"].max() > 0.2


def test_escape_times_follow_both_laws():
    slow = flows.slow_start([0.1, 0.05, 0.025])
    both, first = (slow[slow["setting"] == name]["time"].to_numpy() for name in ("both layers", "first layer only"))
    assert (both[1:] / both[:-1]).round(1).tolist() == [2.0, 2.0]
    assert np.diff(first) == pytest.approx(2 * np.log(2), rel=0.03)


def test_theorem7_and_the_symmetric_case():
    ratio = flows.log_ratio([0], SimpleNamespace(nodes=3, d=4, step=0.002, steps=300)).iloc[0]
    assert ratio["gap"] < 1e-8 and ratio["direction"] < 1e-3
    table = flows.common([0, 1], SimpleNamespace(nodes=3, d=5, step=0.05, time=30.0, norms=[0.03, 0.01]))
    assert (table["rises"] == 0).all() and (table["late"] < 1e-6).all()
    assert flows.angle_slope(table, 0.03)["slope"].to_numpy() == pytest.approx(np.ones(2), abs=0.15)


def test_observers_are_independent_and_copies_are_not():
    size = SimpleNamespace(d=3, students=2000, teachers=10, samples=4000, compared=50, counts=[500, 1000, 2000])
    found, independent = observers.observers([0, 1], size)
    assert (found["agree"] > 0.9).all() and (found["z_copies"] > 5).all() and (found["slope_gap"] < 0.05).all()
    assert (independent["z"].abs() < 3).all() and list(independent.index.names) == ["seed", "students"]
    assert (found["relu_zero"] > 0.3).all() and (found["plane_zero"] < 0.01).all()


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
    pairs = measure.mixing(student, target, X)
    hidden, theirs = activations(student, X), activations(target, X)
    for (A, B), ours, star, g in zip(pairs, hidden, theirs, grads, strict=True):
        assert torch.allclose(rule.gradient_rule(A, B, ours, star), -g, atol=1e-12)


def test_observers_by_hand():
    # teacher x = 0; students: fires for x > 0.5 (sees nothing in the unit ball of the plane), for y > 0 (sees it)
    w_star, b_star = torch.tensor([[1.0], [0.0]], dtype=torch.float64), torch.zeros(1).double()
    w = torch.tensor([[1.0, 0.0, 0.6], [0.0, 1.0, 0.8]], dtype=torch.float64)
    b = torch.tensor([-0.5, 0.0, -0.9], dtype=torch.float64)
    seen = observers.observes_in_ball(w, b, w_star, b_star, 1.0)
    assert seen[:, 0].tolist() == [False, True, False]
    assert observers.observes_in_ball(w, b, w_star, b_star, 2.0)[:, 0].tolist() == [False, True, True]
    assert not observers.observes_in_ball(w, b, w_star, b_star + 1.5, 1.0).any()  # the boundary misses the ball


def test_data_and_geometry_agree_on_who_sees_whom():
    draw = generator(5)
    angle = 2 * math.pi * torch.rand(20000, dtype=torch.float64, generator=draw)
    r = torch.rand(20000, dtype=torch.float64, generator=draw).sqrt()
    X = torch.stack([r * angle.cos(), r * angle.sin()], 1)
    w, b, w_star, b_star = normal(2, 60), 0.7 * normal(60, seed=1), normal(2, 9, seed=2), 0.3 * normal(9, seed=3)
    data = observers.observed((X @ w + b).relu(), (X @ w_star + b_star).relu())
    exact = observers.observes_in_ball(w, b, w_star, b_star, 1.0)
    assert (data == exact).double().mean() > 0.97
    assert not (data & ~exact).any()  # what data show is there


@given(st.floats(0.05, 3.1), st.floats(0.2, 3), st.floats(0.2, 3))
def test_expected_activation_has_the_degrees_of_the_left_side(theta, norm, other):
    w_star = torch.tensor([norm, 0.0], dtype=torch.float64)
    w = other * torch.tensor([math.cos(theta), math.sin(theta)], dtype=torch.float64)
    value = angles.expected_activation(w_star, w)
    assert torch.allclose(angles.expected_activation(w_star, 5 * w), value)
    assert torch.allclose(angles.expected_activation(3 * w_star, w), 3 * value)
    # the projection on w is the arc-cosine kernel of degree 1, known independently
    kernel = norm * (math.sin(theta) + (math.pi - theta) * math.cos(theta)) / (2 * math.pi)
    assert float(value @ w) / other == pytest.approx(kernel, abs=1e-10)


def test_expected_activation_against_a_sample():
    x = normal(400_000, 3)
    w_star, w = torch.tensor([2.0, 0.0, 0.0], dtype=torch.float64), torch.tensor([-0.5, 0.4, 0.0], dtype=torch.float64)
    terms = x * ((x @ w > 0) * (x @ w_star).relu())[:, None]
    error = (terms.mean(0) - angles.expected_activation(w_star, w)) / (terms.std(0) / len(x) ** 0.5)
    assert error.abs().max() < 4


def test_flat_ends_are_counted_by_seed():
    ends = pd.DataFrame({"seed": [1, 1, 1, 2], "mean_gradient": [1e-9, 1e-8, 0.5, 0.5], "sample": [0.7, 0.3, 0.1, 0.1]})
    found = interpolation.flat_ends(ends, 1e-6)
    assert found["flat_runs"].tolist() == [2, 0] and found["flat_sample"].tolist() == [0.3, math.inf]


def test_the_worst_cases_of_theorem6():
    rows = [(3, "normal", 2, 0.6, 2.0, 1.1, 4.0, 0.3, 0.1), (3, "normal", 2, 0.6, 1.0, 0.98, 1.0, 0.2, 0.4),
            (3, "normal", 2, 2.9, 3.0, 9.0, 1.0, 0.9, 0.2)]  # fmt: skip
    columns = ["seed", "law", "d", "theta", "error", "ratio", "printed_scalar", "printed_error", "slip_error"]
    found = angles.pull(pd.DataFrame(rows, columns=columns), 2.5).loc[3]
    assert found[["errors", "printed_error", "scalar_spread", "slip_error", "compared"]].tolist() == [3, 0.3, 4, 0.4, 3]
    assert found["length_error"] == pytest.approx(0.1)


def test_escape_laws_by_hand():
    eps = np.array([0.4, 0.2, 0.1])
    both = pd.DataFrame({"setting": "both layers", "eps": eps, "time": 3 / eps, "law": 3 / eps / (2 * np.pi)})
    first = pd.DataFrame({"setting": "first layer only", "eps": eps, "time": [1.0, 3.0, 5.0], "law": 1.0})
    slopes, ratio = flows.escape_laws(pd.concat([both, first]))
    assert slopes.loc["both", "slope"] == pytest.approx(-1) and slopes.loc["first", "per_halving"] == 2
    assert ratio["ratio"].to_numpy() == pytest.approx(np.ones(3)) and ratio.index.tolist() == [0.4, 0.2, 0.1]


def test_a_favoured_node_wins_at_its_rate_and_only_for_a_while():
    size = SimpleNamespace(nodes=3, d=4, step=0.1, eps=[0.2], norms=[0.1, 0.01], small=0.01)
    found, paths = flows.breaking([0], size)
    row = found.loc[(0, 0.2, 0.01)]
    assert len(found) == 1 and row["rate"] == pytest.approx(1, abs=0.1) and row["kept"] < 0.95
    assert row["bound"] == pytest.approx(math.log(100)) and set(paths["eps"]) == {"0.2"}


def test_norms_grow_as_activation_and_residue_agree():
    found = angles.norm_growth([0], SimpleNamespace(samples=2000, d=4, n=5, m=3, outputs=2))
    assert (found["gap"] < 1e-10).all() and (found["step"] < 0.01).all()
    assert found.index.tolist() == [(0, "relu"), (0, "linear")]


def test_the_pull_lies_between_for_symmetric_inputs_only():
    lowest = angles.between([0], SimpleNamespace(samples=20_000, angles=5))["lowest"]
    assert lowest[0, "symmetric"] > -3 > lowest[0, "shifted"]


def test_layers_that_grow_from_small_weights_are_balanced():
    size = SimpleNamespace(d=8, n=6, m=3, outputs=4, std=0.005, lr=0.02, steps=800)
    assert angles.balance([0], size)["balance"][0] == pytest.approx(1, abs=0.1)


def test_programs_scale_with_the_angle():
    found = relus.noisy_recovery([1], SimpleNamespace(shapes=[[2, 2]], angles=[0.1, 0.05, 0.025], samples=300)).loc[
        (1, 2, 2)
    ]
    assert found["slope"] == pytest.approx(1, abs=0.1) and found["settled"] == pytest.approx(1, abs=0.25)
    assert (
        found["over_bound"] == pytest.approx(found["constant"] * 20 / math.sqrt(math.pi)) and found["antipodal"] < 1e-9
    )


def test_ends_of_trained_students_by_hand():
    run = SimpleNamespace(
        seeds=[5, 6], steps=np.array([0, 1, 10]), eps=np.array([[2.0, 4.0, 0.02], [1.0, 1.0, 1.0]]),
        cosine=np.array([[[0.1, 0.2]] * 2 + [[0.9999, 0.5]], [[0.1, 0.2]] * 2 + [[1.0, 1.0]]]),
        absolute=np.array([[[0.1, 0.2]] * 2 + [[0.9999, 0.995]], [[0.1, 0.2]] * 2 + [[1.0, 1.0]]]),
        bound=np.array([[[0.1, 0.2], [3.5, 0.1], [1.0, 1.0]], [[1.0, 2.0]] * 3]),
        angle=np.array([[0.9, 0.8, 0.04], [0.6, 0.5, 0.1]]),
        dropped=np.array([[0.9, 0.5, 0.01], [0.8, 0.4, 0.02]]),
        node=np.array([[[0.0] * 3] * 2 + [[0.9999, 0.5, 0.6]], [[0.0] * 3] * 2 + [[1.0, 1.0, 1.0]]]),
        strength=np.array([[[1.0] * 3] * 2 + [[2.0, 0.1, 0.3]], [[1.0] * 3] * 3]),
    )  # fmt: skip
    found = critical.ends(run, 0.9, 0.999)
    assert found["fall"].tolist() == [200, 1] and found["worst_cosine"].tolist() == [0.5, 1]
    assert found["bound"].tolist() == [3.5, 2] and found["opposite"].tolist() == [1, 0]
    assert found["narrowed"].tolist() == pytest.approx([20, 6])  # from where the gradient is largest
    assert found["dropped"].tolist() == [0.01, 0.02] and found["dropped_early"].tolist() == [0.5, 0.4]
    assert found["unaligned_share"][5] == pytest.approx(0.1) and found["unaligned_share"][6] == 0
    path = critical.approach(run)
    assert path["bound"].tolist() == [3.5, 1, 2, 2] and path["step"].min() == 1


def test_the_proofs_constant_is_above_what_a_linear_program_reaches():
    theta, d, K = 0.1, 2, 4
    smallest = relus.smallest_sup(0, d, K, theta, 400)
    reached = math.sin(theta) / smallest
    assert 1 < reached < critical.proof_constant(d, K) and critical.proof_constant(d, 2 * K, 2.0) == pytest.approx(
        critical.proof_constant(d, K)
    )
