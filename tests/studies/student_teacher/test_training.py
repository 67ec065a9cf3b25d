"""Trained students of the chapter: small runs, and their readings on made-up runs with a known answer."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from traindyn.measure import teacher
from traindyn.studies.student_teacher import (
    attraction,
    critical,
    deep,
    images,
    interpolation,
    students,
    tasks,
    variants,
)


def test_small_runs_of_the_trained_experiments():
    size = SimpleNamespace(d=10, m=4, outputs=6, n_train=300, n_eval=200, epochs=2, epoch=100)
    one = tasks.experiment([0, 1], size, 1.0, 2, torch.float64)
    wide = tasks.experiment([0, 1], size, 1.0, 4, torch.float64)
    assert one.epochs[[0, 1, -1]].tolist() == [0, 0.05, 2] and one.at(1) is not None and one.at(1.5) is not None
    assert one.best.shape == (2, 25, 4) and wide.rho.shape == (2, 25, 16)
    assert ((one.lead <= one.rho + 1e-12) & ((one.pick != 0) | (one.lead == one.rho))).all()
    assert (one.loss[:, -1] < one.loss[:, 0]).all() and np.allclose(one.power, wide.power)  # the same teachers
    plane = variants.plane(
        [0, 1], SimpleNamespace(outputs=4, n=4, std=0.01, n_train=200, n_eval=100, batch=8, lr=0.03, steps=200)
    )
    assert variants.covered(plane, 0.99, 0.95).index.tolist() == [0, 1]
    assert variants.plane_lines(plane)["seed"].unique().tolist() == [0, 1]
    trained = deep.train(
        [0], SimpleNamespace(
            d=6, scale=10.0, outputs=8, batch=16, lr=0.1, late_lr=0.1, steps=100, records=3, n_eval=200
        ),
        [12, 12], [4, 4], torch.float64,
    )  # fmt: skip
    best = deep.mean_best(trained)
    assert best.shape[0] == 2 and (best[0, :, -1] > best[0, :, 0]).all()


def test_expected_beta_is_the_mean_of_the_squared_jacobian():
    net = students.students([0], [5, 6, 7, 3], 0.5)
    X = torch.randn(1, 120, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    *f, _ = net.layers(X)
    found = deep.top_down(net, f)
    V = teacher.top_down([W[0] for W in net.weights], [(part[0, :100] > 0).double() for part in f])
    for beta, v in zip(found, V, strict=True):
        assert torch.allclose(beta[0], v.square().sum(1).mean(0), atol=1e-12)


def test_lowest_gradient_is_that_of_the_squared_error():
    net = students.students([0, 1], [5, 6, 7, 3], 0.5)
    X = torch.randn(2, 40, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first = (X @ net.weights[0] + net.biases[0]).requires_grad_(True)
    hidden = [first.relu()]
    hidden.append((hidden[0] @ net.weights[1] + net.biases[1]).relu())
    residual = 1 - (hidden[1] @ net.weights[2] + net.biases[2])
    (autograd,) = torch.autograd.grad(residual.square().sum() / 2, first)
    assert torch.allclose(-autograd, deep.lowest_gradient(net, hidden, residual.detach()), atol=1e-12)


def test_thinning_undoes_the_gain_of_a_maximum_over_more_nodes():
    rho = torch.rand(400, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    few = float(rho[:10].amax(0).mean())
    assert float(rho.amax(0).mean()) > few + 0.05
    assert float(images.thinned(rho, 0)) == pytest.approx(few, abs=0.03)


def test_a_thousand_runs_start_apart():
    size = SimpleNamespace(
        d=3,
        m=2,
        outputs=2,
        n=8,
        small=1,
        tries=2,
        gd_steps=60,
        gd_lr=0.05,
        large=12,
        sgd_steps=200,
        sgd_lr=0.05,
        flat=1e-6,
    )
    found = interpolation.train([0, 1], size)
    assert found.index.tolist() == [0, 1] and (found["sgd_fall"] > 1).all() and (found["flat_runs"] <= 2).all()
    assert interpolation.train([1], size).loc[1].equals(found.loc[1])  # a seed does not depend on its neighbours


def test_the_plane_by_hand():
    run = SimpleNamespace(
        seeds=[3, 4], steps=np.array([0, 8, 100]),
        rho=np.array([[[0.1, 0.2], [0.9, 0.99], [0.5, 0.99]], [[0.1, 0.2], [0.99, 0.99], [0.99, 0.99]]]),
        norm=np.array([[[1.0, 1.0], [0.5, 1.0], [0.2, 2.0]], [[1.0, 1.0]] * 3]),
        best=np.array([[[0.0, 0.0]] * 2 + [[0.999, 0.98]], [[0.0, 0.0]] * 2 + [[0.999, 0.999]]]),
        lowest_cosine=np.array([[[0.0, 0.0]] * 2 + [[-1.0, -0.995]], [[0.0, 0.0]] * 3]),
    )  # fmt: skip
    found = variants.covered(run, 0.99, 0.95)
    assert found["covered"].tolist() == [0.5, 1] and found["missed"].tolist() == [1, 0]
    assert found["ratio"].tolist() == [0.1, 0] and found["early_ratio"].tolist() == [0.5, 0]
    assert found["antipodal"].tolist() == [1, 0]


def test_layers_of_a_deep_student_by_hand():
    run = SimpleNamespace(
        seeds=[7], depth=2, steps=np.array([0, 5, 9]),
        best_1=np.array([[[0.2, 0.4], [0.7, 0.9], [0.9, 1.0]]]), best_2=np.array([[[0.1], [0.2], [0.3]]]),
        rho_1=np.array([[[0.0] * 3] * 2 + [[0.2, 0.95, 0.99]]]), rho_2=np.array([[[0.0] * 3] * 2 + [[0.9, 0.5, 0.1]]]),
        beta_1=np.array([[[1.0] * 3] * 2 + [[0.04, 1.0, 4.0]]]), beta_2=np.array([[[1.0] * 3] * 2 + [[1.0, 2.0, 3.0]]]),
        incoming=np.array([[[1.0] * 3] * 2 + [[0.5, 1.0, 1.0]]]), gradient=np.array([[2.0, 8.0, 0.5]]),
    )  # fmt: skip
    found = deep.alignment(run).loc[7]
    assert found["start"].tolist() == pytest.approx([0.3, 0.1]) and found["best"].tolist() == pytest.approx([0.95, 0.3])
    assert found["worst"].tolist() == [0.9, 0.3] and found["early"].tolist() == pytest.approx(
        [(0 + 0.5 + 0.65) / 0.7 / 3, (0 + 0.1 + 0.2) / 0.9 / 3]
    )
    assert found["spearman"].tolist() == pytest.approx([1, -1]) and found["fall"].tolist() == [16, 16]
    shape = deep.l_shape(run, 0.6, 0.9).loc[7]
    assert shape.to_dict() == pytest.approx({"ratio": 0.04 / 2.5, "root_ratio": 0.2 / 1.5, "product_ratio": 0.1 / 1.5})
    assert math.isnan(deep.l_shape(run, 0.1, 0.9).loc[7, "ratio"])
    assert len(deep.cloud(run, 2)) == 12


def test_variants_count_recovered_teachers_by_case():
    size = SimpleNamespace(
        d=5, m=2, n=4, factor=2, outputs=[1, 3], factors=[1, 2], power=10.0,
        n_train=40, n_eval=40, batch=8, lr=0.01, steps=2, matched=-1.0,
    )  # fmt: skip
    found = variants.bottom_up([0, 1], size, torch.float64)
    assert (found == 1).all().all() and found.index.tolist()[:2] == [(0, 1, 1), (1, 1, 1)] and len(found) == 8
    assert (variants.outputs([0, 1], size, torch.float64)["share"] == 1).all()
    size.outputs = 3
    gate = variants.no_gate([0], size)
    assert gate.index.tolist() == [(0, "linear"), (0, "relu")] and (gate["recovered"] == 1).all()
    size.matched = 1.0
    assert (variants.no_gate([0], size)["recovered"] == 0).all()


def test_antipodes_are_counted_over_all_seeds():
    size = SimpleNamespace(
        outputs=3,
        n=2,
        widths=[2, 3],
        std=0.01,
        n_train=50,
        n_eval=40,
        batch=8,
        lr=0.03,
        steps=120,
        covered=1.0,
        matched=0.95,
    )
    found = variants.antipodes([0, 1, 2], size)
    assert found[found["outcome"] == "missed"]["teachers"].tolist() == [6, 6] and len(found) == 4


def test_the_five_students_are_the_teacher_and_a_push_moves_them_by_its_share():
    teacher_net, point = attraction.five([0, 1], 4, 3)
    X = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(teacher_net(X), point(X), atol=1e-12)
    moved = attraction.pushed(point, [0, 1], 0.2)
    both = [torch.cat([net.weights[0], net.biases[0]], 1) for net in (moved, point)]
    assert torch.allclose((both[0] - both[1]).norm(dim=1), 0.2 * both[1].norm(dim=1))
    assert torch.allclose((moved.weights[1] - point.weights[1]).norm(dim=2), 0.2 * point.weights[1].norm(dim=2))
    size = SimpleNamespace(
        d=4, outputs=3, pushes=[0.05], n_train=200, n_eval=100, batch=8, lr=0.02, steps=400, aligned=0.99
    )
    found = attraction.attraction([0, 1], size)
    assert (found["opposite"] == 1).all() and (found["found"] == 0).all() and (found["after"] < found["before"]).all()
    assert attraction.attraction([1], size).loc[(1, 0.05)].tolist() == pytest.approx(found.loc[(1, 0.05)].tolist())


def test_contrasts_of_widths_by_hand():
    rows = [
        (seed, width, step, layer, rho + 0.1 * layer, thin, mse, 0.5)
        for seed in (1, 2)
        for width, step, rho, thin, mse in (
            ("1x", 0, 0.2, 0.2, 9.0), ("1x", 50, 0.5, 0.5, 3.0), ("4x", 0, 0.4, 0.2, 9.0), ("4x", 50, 0.6, 0.7, 1.0)
        )
        for layer in (1, 2)
    ]  # fmt: skip
    columns = ["seed", "width", "step", "layer", "rho", "thinned", "mse", "accuracy"]
    grown, layers, ends = images.contrasts(pd.DataFrame(rows, columns=columns))
    assert grown.loc[(1, 4, 2)].tolist() == pytest.approx([0.6, 0.8]) and len(grown) == 8
    assert layers.loc[(2, 1)].to_dict() == pytest.approx({"gain": 0.2, "start": 0.2, "final": 0.1})
    assert ends.loc[1].to_dict() == {"mse": -2, "accuracy": 0}


def test_images_of_a_seed_do_not_depend_on_the_other_seeds():
    size = SimpleNamespace(
        data="digits",
        n_train=40,
        n_test=20,
        channels=[2],
        factors=[1, 2],
        batch=10,
        lr=0.02,
        steps=2,
        teacher_steps=2,
        every=1,
    )
    both, accuracies = images.experiment([0, 1], size, torch.float64, "cpu")
    alone, _ = images.experiment([1], size, torch.float64, "cpu")
    again = both[both["seed"] == 1].reset_index(drop=True)
    assert len(accuracies) == 2 and list(both["width"].unique()) == ["1x", "2x"]
    pd.testing.assert_frame_equal(again[alone.columns], alone, atol=1e-10)
    start = both[(both["step"] == 0) & (both["width"] == "1x")]
    assert (start["rho"] < 0.999).all()  # a 1x student does not start at its teacher's start


def test_share_is_undefined_without_either_kind():
    values, none = np.array([1.0, 2.0]), np.array([False, False])
    assert math.isnan(critical.share(values, none, ~none)) and critical.share(values, ~none, ~none) == 1
    assert critical.share(values, none, ~none, 0.0) == 0 and math.isnan(critical.share(values, ~none, none, 0.0))
