"""The experiments of the student-teacher chapter: exact constructions, closed forms and readings known by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from traindyn.studies.student_teacher import (
    angles,
    critical,
    deep,
    evidence,
    flows,
    images,
    observers,
    readings,
    relus,
    rule,
    tasks,
    variants,
)


def recorded(best, rho=None, pick=None, norm=None, epochs=None, loss=None):
    """Looks like a trained experiment."""
    best = np.asarray(best, dtype=float)
    seeds, times = best.shape[:2]
    rho = np.zeros((seeds, times, 1)) if rho is None else np.asarray(rho, dtype=float)
    return tasks.Trained(
        p=1.0, factor=1, epochs=np.arange(times) if epochs is None else np.asarray(epochs), best=best, rho=rho,
        pick=np.zeros(rho.shape, dtype=int) if pick is None else np.asarray(pick),
        norm=np.ones(rho.shape) if norm is None else np.asarray(norm, dtype=float), balance=np.ones(rho.shape),
        loss=np.ones((seeds, times)) if loss is None else np.asarray(loss, dtype=float), power=np.ones(seeds),
    )  # fmt: skip


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
    assert rule.batch_ranks(5) == [5, 5, 5, 5, 1]
    # a float reference on a matrix whose rank is known
    M = np.array([[1, 1, 0], [0, 1, 1], [1, 2, 1]])
    assert rule._rank_mod(M, 1_000_003) == 2 == np.linalg.matrix_rank(M)


def test_rule_flow_and_pieces_in_small():
    size = SimpleNamespace(student=[4, 5, 5, 3], teacher=[4, 7, 6, 3], samples=50)
    flow = rule.gradient_flow([0], size).iloc[0]
    assert flow["gap"] < 1e-12 < flow["ungated"] and flow["sign_mended"] < 1e-15 < flow["sign_as_printed"]
    found = rule.recursive_rule([0], size).iloc[0]
    assert found["widths"] < 1e-12 and found["jacobian"] < 1e-12 and found["as_printed"] > 0.1 and found["shape_error"]
    pieces = rule.pieces([0], SimpleNamespace(student=[2, 4, 4, 2], teacher=[2, 3, 3, 2], samples=2000, pairs=200))
    assert pieces["spread"][0] < 1e-12 and pieces["violations"][0] == 0 and pieces["pairs"][0] > 100
    assert rule.chord_gap() == pytest.approx(0.5)


def test_relus():
    units = relus.independence([0], 4, [6], 500).iloc[0]
    assert units["six"] < 1e-12 and units["residual"] < 1e-12 < units["generic_6"]
    local = relus.local_independence([0], 3, 5, 800, 1.0).iloc[0]
    assert local["antipodal"] < 1e-12 and local["missing"] < 1e-12 and local["generic"] > 1e-5
    assert relus.hyperplanes([0], 50, 4)["gap"][0] < 1e-12
    assert relus.ball_ratios(50) >= 1
    assert relus.misalignment([1], 60, 500)["violations"][0] == 0
    pair = relus.antipodal_instance()
    assert pair["eps"] < 2e-9 and pair["bias_gap"] == pytest.approx(0.6)


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
    found = angles.expected(0, size)
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
    table, _ = flows.common([0, 1], SimpleNamespace(nodes=3, d=5, step=0.05, time=30.0), [0.03, 0.01])
    assert (table["rises"] == 0).all() and (table["late"] < 1e-6).all()
    assert flows.angle_slope(table) == pytest.approx(np.ones(2), abs=0.15)


def test_readings():
    best = np.zeros((2, 4, 3))
    best[:, 1:, 0], best[0, 2:, 1], best[1, 3, 1] = 0.99, 0.96, 0.97
    run = recorded(best)
    assert readings.recovery(run, 2).tolist() == [2 / 3, 1 / 3]
    assert readings.recovery(run, 9) is None
    assert readings.cover_time(run).tolist() == [[1, 2, 4], [1, 3, 4]]
    assert readings.cover_time(run, 2).tolist() == [[1, 2, 3], [1, 3, 3]]
    assert readings.order(run)[0] == pytest.approx(1)
    assert readings.order(recorded(np.zeros((1, 4, 3))))[0] == 0
    rho, norm = [[[0.99, 0.99, 0.5, 0.9]]], [[[2.0, 4.0, 0.3, 2.0]]]
    shape = readings.l_shape(recorded(np.ones((1, 1, 2)), rho, norm=norm), 0)
    assert shape["ratio"] == pytest.approx(0.1) and shape["corner"] == pytest.approx(0.25)
    followers = readings.followers(recorded(np.ones((1, 1, 2)), rho, [[[0, 0, 1, 1]]]), 0)
    assert followers.tolist() == [[2, 0]]


def test_evidence_waits_for_the_epochs_it_reads():
    short = {f: recorded(np.zeros((2, 3, 20))) for f in (1, 5)}
    for made in (
        evidence.strong_first(short, short[5]), evidence.focus_shifting(short),
        evidence.recovery(short, short, short),
        evidence.stuck(short, short[1], short[1]),
        evidence.faster(short), evidence.evolution(short[5], None),
        evidence.losses(short),
    ):  # fmt: skip
        assert all(value is None for value in made["parts"].values())


def test_recovery_rates_are_compared_cell_by_cell():
    epochs = [0, 5, 100]
    runs = {}
    for factor, found in ((1, 6), (5, 12), (10, 18)):
        best = np.zeros((3, 3, 20))
        best[:, 1, :found], best[:, 2, : found + 2] = 0.99, 0.99
        runs[factor] = recorded(best, epochs=epochs)
    steep = {f: recorded(np.zeros((3, 3, 20)), epochs=epochs) for f in (1, 5)}
    made = evidence.recovery(runs, {1: runs[5], 5: runs[10]}, steep)
    assert all(value is True for value in made["parts"].values()), made["parts"]
    assert made["measured"]["decay_drop_1x"] == pytest.approx(0.6)
    worse = evidence.recovery({1: runs[10], 5: runs[5], 10: runs[1]}, {1: runs[1]}, {1: runs[1]})
    assert not worse["parts"]["width"] and not worse["parts"]["gain"] and not worse["parts"]["decay"]
    stuck = evidence.stuck(runs, runs[1], runs[10])
    assert stuck["parts"]["stuck"] is True and stuck["parts"]["wide"] is False and stuck["parts"]["twice"] is None


def test_gap_of_the_losses_in_decades():
    epochs = [0, 1, 5, 20, 100]
    runs = {
        f: recorded(np.zeros((3, 5, 20)), epochs=epochs, loss=np.tile([10.0, 5.0, 1e-1, 1e-2, end], (3, 1)))
        for f, end in ((1, 1e-3), (10, 1e-5))
    }
    made = evidence.losses(runs)
    assert made["measured"]["gap_decades"] == pytest.approx(2)
    assert made["parts"]["close"] is False and made["parts"]["absolute"] is True and made["parts"]["epoch-5"] is True


def test_small_runs_of_the_trained_experiments():
    size = SimpleNamespace(d=10, m=4, outputs=6, n_train=300, n_eval=200, epochs=2, epoch=100)
    one = tasks.experiment([0, 1], size, 1.0, 2, torch.float64)
    wide = tasks.experiment([0, 1], size, 1.0, 4, torch.float64)
    assert one.best.shape == (2, 3, 4) and wide.rho.shape == (2, 3, 16)
    assert (one.loss[:, -1] < one.loss[:, 0]).all() and np.allclose(one.power, wide.power)  # the same teachers
    plane = variants.plane(
        [0, 1], SimpleNamespace(outputs=4, n=4, std=0.01, n_train=200, n_eval=100, batch=8, lr=0.03, steps=200)
    )
    assert variants.plane_numbers(plane)["covered"].shape == (2,)
    trained = deep.train(
        [0], SimpleNamespace(
            d=6, scale=10.0, outputs=8, batch=16, lr=0.1, late_lr=0.1, steps=100, records=3, n_eval=200
        ),
        [12, 12], [4, 4], torch.float64,
    )  # fmt: skip
    best = deep.mean_best(trained)
    assert best.shape[0] == 2 and (best[0, :, -1] > best[0, :, 0]).all()


def test_expected_beta_is_the_mean_of_the_squared_jacobian():
    from traindyn.measure import teacher
    from traindyn.studies.student_teacher import students

    net = students.students([0], [5, 6, 7, 3], 0.5)
    X = torch.randn(1, 120, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    *f, _ = net.layers(X)
    found = deep.top_down(net, f)
    V = teacher.top_down([W[0] for W in net.weights], [(part[0, :100] > 0).double() for part in f])
    for beta, v in zip(found, V, strict=True):
        assert torch.allclose(beta[0], v.square().sum(1).mean(0), atol=1e-12)


def test_thinning_undoes_the_gain_of_a_maximum_over_more_nodes():
    rho = torch.rand(400, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    few = float(rho[:10].amax(0).mean())
    assert float(rho.amax(0).mean()) > few + 0.05
    assert float(images.thinned(rho, 0)) == pytest.approx(few, abs=0.03)


def test_observers_are_independent_and_copies_are_not():
    size = SimpleNamespace(d=3, students=2000, teachers=10, samples=4000, compared=50, counts=[500, 1000, 2000])
    found = observers.observers([0, 1], size)
    assert (found["agree"] > 0.9).all() and (found["z_copies"] > 5).all() and (found["slope_gap"] < 0.05).all()
    assert (found[["z_2", "z_3", "z_4"]].abs() < 3).all().all()
    assert (found["relu_zero"] > 0.3).all() and (found["plane_zero"] < 0.01).all()
