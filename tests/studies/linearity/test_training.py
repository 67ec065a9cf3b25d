"""Gradient descent with its kernels: against automatic differentiation and closed forms."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from traindyn.learn.models.dag import DagNet
from traindyn.measure.ntk import empirical_ntk
from traindyn.studies.linearity import ball, nets, training
from traindyn.studies.linearity.orders import random_directions

SEEDS, D, N = [1, 2], 5, 4
IMAGES = {"data": "digits", "classes": [3, 8], "side": 4, "n": 4}


@pytest.mark.parametrize("refeed", [False, True])
def test_the_kernel_is_the_librarys(refeed):
    made = nets.densenet(SEEDS, D, 6, refeed=refeed)
    X = nets.inputs(SEEDS, D, N)
    K = training.kernel(made, training.sweep(made, X))
    for s in range(2):
        masks, seen = [], D
        for layer in made.layers:
            mask = torch.zeros(layer.weight.shape[1], seen, dtype=torch.bool)
            mask[:, layer.reads] = layer.mask[s].bool()
            masks.append(mask)
            seen += layer.weight.shape[1]
        net = DagNet(masks, "tanh").double()
        with torch.no_grad():
            for module, layer in zip(net.layers, made.layers, strict=True):
                module.weight[:, layer.reads] = layer.weight[s]
        assert torch.allclose(net(X[s]), training.sweep(made, X).outputs[s])
        assert torch.allclose(empirical_ntk(net, X[s]).to(K), K[s], atol=1e-10)


def test_one_step_is_gradient_descent():
    made = nets.densenet(SEEDS, D, 6)
    X, y = nets.inputs(SEEDS, D, N), torch.tensor([[1.0, -1, 1, -1]] * 2, dtype=torch.float64)
    K = training.kernel(made, training.sweep(made, X))
    eta = 0.5 / torch.linalg.eigvalsh(K)[:, -1]
    leaves = [layer.weight.clone().requires_grad_() for layer in made.layers]
    watched = replace(made, layers=[replace(layer, weight=w) for layer, w in zip(made.layers, leaves, strict=True)])
    loss = (watched.values(X)[..., 0] - y).square().sum() / 2
    grads = torch.autograd.grad(loss, leaves)
    masks = [layer.mask for layer in made.layers]
    wanted = [w.detach() - eta[:, None, None] * g * mask for w, g, mask in zip(leaves, grads, masks, strict=True)]
    training.descend(made, X, y, 0.5, 1, 1e-9, 1)
    for layer, w in zip(made.layers, wanted, strict=True):
        assert torch.allclose(layer.weight, w, atol=1e-12)


def test_training_stops_and_keeps_its_bounds():
    made = nets.densenet(SEEDS, D, 128)
    X, y = nets.inputs(SEEDS, D, 3), torch.tensor([[1.0, -1, 1]] * 2, dtype=torch.float64)
    found = training.descend(made, X, y, 1.0, 2000, 1e-3, 1)
    assert torch.isfinite(found["steps"]).all() and (found["final"] <= 1e-3).all()
    assert (found["pl"] >= 1 - 1e-9).all()
    losses = torch.stack([look[1] for look in found["path"]])
    assert losses[0].tolist() == [1.0, 1.0]
    # a linear network of one layer has a constant kernel and an exact contraction
    flat = nets.fcn([1], D, [], activation="linear")
    still = training.descend(flat, X[:1], y[:1], 1.0, 50, 1e-12, 1)
    assert still["change"].max() < 1e-12 and still["bound"].max() <= 1e-9


def test_a_run_does_not_depend_on_those_beside_it():
    size = SimpleNamespace(**IMAGES, widths=[64], steps=400, stop=1e-2, every=50)
    many, one = (training.experiment(seeds, size, {"a": training.Setting()}) for seeds in ([1, 2, 3], [2]))
    assert many[0]["steps"].nunique() == 3 and np.isfinite(many[0]["steps"]).all()
    for together, alone in zip(many, one, strict=True):
        a, b = together[together["seed"] == 2].drop(columns="setting"), alone.drop(columns="setting")
        assert np.allclose(a.to_numpy(float), b.to_numpy(float), rtol=1e-8, atol=1e-10)


def test_the_steepest_direction_is_the_gradient():
    made = nets.densenet(SEEDS, D, 6)
    X = nets.inputs(SEEDS, D, N)
    K = training.kernel(made, training.sweep(made, X))
    v = torch.linalg.eigh(K)[1][..., 0]
    step = ball.steepest(made, X, v)
    h = 1e-5

    def value(by):
        moved = made.moved(step, by)
        return torch.einsum("si,sij,sj->s", v, training.kernel(moved, training.sweep(moved, X)), v)

    along = (value(h) - value(-h)) / (2 * h)
    other = random_directions(made, SEEDS)
    moved = [made.moved(other, by) for by in (h, -h)]
    ends = [torch.einsum("si,sij,sj->s", v, training.kernel(m, training.sweep(m, X)), v) for m in moved]
    inner = sum((a * b).sum((1, 2)) for a, b in zip(step, other, strict=True))
    assert (along > 0).all()
    assert torch.allclose((ends[0] - ends[1]) / (2 * h), along * inner, atol=1e-6)


def test_pl_identity_and_ball():
    found = ball.pl_identity(SEEDS, SimpleNamespace(**IMAGES, width=16, points=2))
    assert found["identity"].max() < 1e-12 and found["equality"].max() < 1e-9 and found["quotient"].min() > 1
    lowest = ball.least_eigenvalue(SEEDS, SimpleNamespace(**IMAGES, widths=[16, 32], radius=1.0, draws=1))
    assert (lowest["lowest"] < lowest["start"]).all()


def test_scan_and_settings():
    size = SimpleNamespace(**IMAGES, widths=[8], steps=20, stop=1e-3, every=10, rates=[0.5, 1.0])
    found = training.scan(SEEDS, size, training.Setting())
    assert len(found) == 4 and set(found["rate"]) == {0.5, 1.0}
    varied = training.Setting().varied([0.3, 1.8])
    assert varied["slow"].rate == 0.3 and varied["refed"].refeed and varied["relu"].activation == "relu"
    worst = ball.worst_change(SEEDS, SimpleNamespace(**IMAGES, widths=[8], rounds=2), training.Setting())
    assert (worst["change"] > worst["along"]).all()
