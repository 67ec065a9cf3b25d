"""Training, counting and reading at the best validation loss."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from traindyn.learn.train import fit
from traindyn.studies.agop import beyond, conv, ladders, optimizers, sgd, tasks, training
from traindyn.studies.agop.relu import network

SIZE = {"rank": 2, "n": 40, "d": 8, "noise": 0.1, "n_val": 60, "n_test": 60, "width": 24, "depth": 2, "stop": 1e-3}


class Size(SimpleNamespace):
    def changed(self, **changes):
        return Size(**{**vars(self), **changes})


@pytest.fixture
def size() -> Size:
    return Size(**SIZE, batches=[4, 40], gd=1, steps=60, gd_steps=300, every=10)


@pytest.fixture
def task(size):
    return tasks.synthetic(2, size, torch.float64)


def test_sets_come_from_streams_of_their_own_and_know_the_egop(size, task):
    assert not torch.equal(task.X[:40], task.X_val[:40])
    again = tasks.synthetic(2, size.changed(n_val=5), torch.float64)
    assert torch.equal(again.X_test, task.X_test)
    assert torch.equal(task.G.diagonal(), torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0], dtype=torch.float64))
    assert torch.allclose(tasks.synthetic(2, size, torch.float64, 3.0).y, 3 * task.y)


def test_gradient_descent_is_that_of_fit(size, task):
    net = network(5, 8, size, torch.float64)
    model = network(5, 8, size, torch.float64).model
    run = training.sgd(net, task, 1.5, 40, 0, steps=30, stop=0.0, every=5)
    theirs = fit(lambda seed: model, task.X, task.y, lr=1.5, steps=30, seeds=[0], progress=False)
    with torch.no_grad():
        assert torch.allclose(net(task.X), theirs.models[0](task.X), atol=1e-10)
    assert run.outcome == "finished" and run.step == 30


def test_super_critical_steps_are_those_above_the_kernels_rate(size, task):
    net = network(5, 8, size, torch.float64)
    X = task.X[:6]
    held, out = net.forward(X)
    K = net.kernel(held, net.backward(held, torch.ones_like(out)))
    rate = 6 / float(torch.linalg.eigvalsh(K)[-1])
    assert training.super_critical(K, 1.0001 * rate) and not training.super_critical(K, 0.9999 * rate)
    assert not training.super_critical(K, rate)  # within epsilon
    for factor, over in ((0.99, False), (1.01, True)):
        net = network(5, 8, size, torch.float64)
        assert training.one_step(net, X, task.y[:6], factor * rate, count=True)[1] is over


def test_a_run_is_read_at_its_best_validation_loss(size, task):
    net = network(5, 8, size, torch.float64)
    run = training.sgd(net, task, 2.0, 4, 7, steps=300, stop=0.0)
    found = training.result(run, net, task)
    values = [value for _, _, value in run.looks]
    assert found["validation"] == min(values) and found["best_step"] == run.looks[int(np.argmin(values))][0]
    assert training.risk(net, task.X_val, task.y_val) == pytest.approx(min(values))
    assert found["super"] <= run.over <= run.step


def test_a_diverged_run_has_no_alignment(size, task):
    net = network(5, 8, size, torch.float64)
    run = training.sgd(net, task, 500.0, 4, 7, steps=300, stop=0.0)
    found = training.result(run, net, task)
    assert run.outcome == "diverged" and found["test"] == math.inf and math.isnan(found["alignment"])


def test_torch_optimisers_get_the_same_gradients(size, task):
    plain, ruled = (network(5, 8, size, torch.float64) for _ in range(2))
    training.sgd(plain, task, 0.5, 4, 7, steps=25, stop=0.0)
    training.sgd(ruled, task, 0.5, 4, 7, steps=25, stop=0.0, optimizer="SGD")
    assert torch.allclose(plain(task.X), ruled(task.X), atol=1e-10)


def test_branches_of_a_ladder_agree_with_runs_of_their_own(size, task):
    steps = size.changed(tail=20, decay=0.9, steps=400)
    net = network(5, 8, steps, torch.float64)
    two = ladders.climb(net, task, 1.0, [3.0, 4.0], [15, 30], steps)
    net = network(5, 8, steps, torch.float64)
    one = ladders.climb(net, task, 1.0, [3.0], [15], steps.changed(tail=15))
    assert [branch.k for branch in two] == [0, 1, 2] and [branch.before for branch in two] == [0, 15, 30]
    assert two[1].run.losses[:30] == pytest.approx(one[1].run.losses[:30])
    assert all(branch.run.step >= 50 for branch in two)
    assert two[1].run.earlier is not None and two[0].run.earlier is None
    assert all(branch.run.looks[-1][1] < 1e-3 for branch in two if branch.run.outcome == "stopped")


def test_catapults_are_distinct_excursions():
    assert ladders.catapults([1, 0.5, 0.9, 0.4, 0.3, 0.33, 0.2], 1.3) == 1
    assert ladders.catapults([1.0], 1.3) == 0
    assert ladders.catapults([1, 2, 0.5, 1, 0.4], 1.3) == 2


def test_order_and_trends_of_known_numbers():
    rows = [(1, b, 0.1 * i, 0.2 * i, 1 - 0.1 * i, 10 - i, 1.0) for i, b in enumerate([5, 10, 50], 1)]
    found = pd.DataFrame(rows, columns=["seed", "batch", "validation", "test", "alignment", "super", "finite"])
    order = sgd.order(found)
    assert order["fall"].tolist() == pytest.approx([0.2, 0.2]) and order["gain"].tolist() == pytest.approx([0.1, 0.1])
    trend = sgd.trends(found, 3).iloc[0]
    assert (trend["with_test"], trend["with_alignment"], trend["backward"], trend["rises"]) == (1, -1, 0, 2)
    assert sgd.trends(found, 5).empty
    spread = sgd.spreads(found, found.assign(test=found["test"] / 4))
    assert spread["ratio"].tolist() == pytest.approx([0.25])


def test_correlations_need_enough_runs_that_finished():
    rows = [(1, f"o{i}", 1.0 - 0.1 * i, 0.1 * i, 1.0, 1.0) for i in range(7)]
    found = pd.DataFrame(rows, columns=["seed", "optimizer", "test", "alignment", "reached", "finite"])
    told = optimizers.correlations(found).iloc[0]
    assert told["rank"] == pytest.approx(-1) and told["inner"] == pytest.approx(-1) and told["points"] == 7
    found.loc[:1, "reached"] = 0.0
    assert math.isnan(optimizers.correlations(found).iloc[0]["rank"])


def test_the_quadratic_model_has_the_networks_first_step_and_its_own_gradients(size, task):
    net, quad = network(5, 8, size, torch.float64), beyond.frozen(5, task, size, torch.float64)
    assert torch.allclose(net(task.X), quad(task.X), atol=1e-12)
    assert torch.allclose(net.agop(task.X), quad.agop(task.X), atol=1e-12)
    quad.weights[0] += torch.randn(24, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    W, v = (part.clone().requires_grad_() for part in quad.weights)
    X = task.X.clone().requires_grad_()
    gates = (X.detach() @ quad.gates.T > 0).double()
    out = ((X @ W.T) * gates) @ v[0] * (quad.scales[0] * quad.scales[1])
    held, ours = quad.forward(task.X)
    assert torch.allclose(ours, out.detach(), atol=1e-12)
    ones = torch.ones_like(ours)
    expected = torch.autograd.grad(out.sum(), [W, v, X])
    for a, b in zip(quad.gradients(held, quad.backward(held, ones)), expected[:2], strict=True):
        assert torch.allclose(a, b, atol=1e-12)
    assert torch.allclose(quad.slopes(task.X), expected[2], atol=1e-12)


@pytest.mark.parametrize("kind", ["trace", "root"])
def test_penalties_have_the_gradients_of_their_values(kind, size, task):
    net = network(5, 8, size, torch.float64)
    W, v = (part.clone().requires_grad_() for part in net.weights)
    slopes = ((task.X @ W.detach().T > 0) * v[0]) @ W * (net.scales[0] * net.scales[1])
    G = slopes.T @ slopes / len(task.X)
    value = G.trace() if kind == "trace" else torch.linalg.eigvalsh(G).sqrt().sum()
    expected = torch.autograd.grad(value, [W, v])
    found, *ours = beyond.penalty(net, task.X, kind)
    assert found == pytest.approx(float(value.detach()), rel=1e-6)
    for a, b in zip(ours, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-8)


def test_a_traced_network_does_what_the_written_out_one_does(size, task):
    net = network(5, 9, size, torch.float64)
    X = torch.randn(12, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    traced = conv.Traced(network(5, 9, size, torch.float64).model, (9,))
    y = X[:, 0]
    for one in (net, traced):
        held, out = one.forward(X)
        one.descend(held, one.backward(held, (out - y) / 6), 0.7)
    assert torch.allclose(net(X), traced(X), atol=1e-12)
    assert traced.critical(X) == pytest.approx(net.critical(X), rel=1e-3)
    assert torch.allclose(net.agop(X), traced.agop(X), atol=1e-12)


def test_many_classes_train_and_are_counted_as_their_definitions_say(size):
    rng = torch.Generator().manual_seed(0)
    X, labels = torch.randn(12, 16, generator=rng, dtype=torch.float64), torch.arange(12) % 3
    y = torch.nn.functional.one_hot(labels, 3).double()
    task = training.Task(X, y, X, y, X, y, torch.eye(16, dtype=torch.float64), True)
    net, plain = (conv.myrtle(1, task, size.changed(width=3, subset=5), torch.float64) for _ in range(2))
    jacobian = torch.func.jacrev(
        lambda values: torch.func.functional_call(plain.model, values, (X[:5].unflatten(1, (1, 4, 4)),))
    )(dict(plain.model.named_parameters()))
    J = torch.cat([part.flatten(2).flatten(0, 1) for part in jacobian.values()], 1).detach()
    assert net.critical(X) == pytest.approx(5 / float(torch.linalg.matrix_norm(J, 2)) ** 2)

    run = training.sgd(net, task, 0.1, 12, 0, steps=4, stop=0.0, optimizer="SGD")
    values = list(plain.model.parameters())
    for _ in range(4):
        with torch.enable_grad():
            loss = (plain.model(X.unflatten(1, (1, 4, 4))) - y).square().sum(1).mean()
        for value, gradient in zip(values, torch.autograd.grad(loss, values), strict=True):
            value.data -= 0.1 * gradient
    assert torch.allclose(net(X), plain(X), atol=1e-12) and run.step == 4
    assert training.risk(net, X, y) == pytest.approx(float((plain(X) - y).square().sum(1).mean()))
    right = sum(int(row.argmax()) == int(label) for row, label in zip(plain(X), labels, strict=True))
    assert training.risk(net, X, y, True) == pytest.approx(1 - right / 12)
