"""Training in the span of the inputs: against weights, automatic differentiation and the library's Taylor models."""

import pytest
import torch
from torch.nn import functional as F

from traindyn.errors import InputError
from traindyn.learn import models
from traindyn.learn.models import taylor
from traindyn.measure.ntk import empirical_ntk
from traindyn.studies.quadratic import deep, spans

N, D, M, TESTS = 6, 4, 9, 3
FUNCTIONS = {"relu": torch.relu, "tanh": torch.tanh, "swish": F.silu}


def data(outputs=1):
    rng = torch.Generator().manual_seed(3)
    X, T = (torch.randn(k, D, generator=rng, dtype=torch.float64) for k in (N, TESTS))
    return X, torch.randn(N, outputs, generator=rng, dtype=torch.float64), T


def weights(outputs=1):
    """The weights that `spans.start` draws for seed 5."""
    at = spans.start(5, torch.eye(D, dtype=torch.float64), M, outputs=outputs)
    return at.z * D**0.5, at.v


def own_model(f, w0, order):
    """f itself, or its Taylor polynomial at w0 by repeated automatic differentiation along w - w0."""
    if order is None:
        return lambda w: f(*w)

    def model(w):
        step = tuple(a - b for a, b in zip(w, w0, strict=True))
        total, scale, g = f(*w0), 1.0, f
        for k in range(1, order + 1):
            scale /= k
            g = (lambda inner: lambda *at: torch.func.jvp(inner, at, step)[1])(g)
            total = total + scale * g(*w0)
        return total

    return model


@pytest.mark.parametrize("act", spans.ACTIVATIONS)
def test_derivatives_of_activations_are_those_of_automatic_differentiation(act):
    z = torch.linspace(-2, 2, 9, dtype=torch.float64) + 0.01
    f = FUNCTIONS[act]
    for order in range(4):
        found = spans.ACTIVATIONS[act](z, order)
        assert torch.allclose(torch.zeros_like(z) if found is None else found, f(z), atol=1e-12)
        f = (lambda inner: lambda z: torch.func.jvp(inner, (z,), (torch.ones_like(z),))[1])(f)


@pytest.mark.parametrize("act", spans.ACTIVATIONS)
@pytest.mark.parametrize("model", spans.MODELS)
@pytest.mark.parametrize("outputs", [1, 3])
def test_steps_are_gradient_descent_on_the_weights(model, act, outputs):
    X, y, T = data(outputs)
    u0, v0 = weights(outputs)
    net = spans.TwoLayer(spans.start(5, X, M, T, outputs), model, act)

    def function(inputs):
        return lambda u, v: FUNCTIONS[act](inputs @ u.T / D**0.5) @ v / M**0.5

    order = spans.MODELS[model]
    own = {name: own_model(function(part), (u0, v0), order) for name, part in (("train", X), ("test", T))}
    w = (u0.clone().requires_grad_(), v0.clone().requires_grad_())
    for _ in range(4):
        f = own["train"](w)
        assert torch.allclose(net.value(), f, atol=1e-11)
        assert torch.allclose(net.test(), own["test"](w), atol=1e-11)
        slopes = torch.autograd.grad((f - y).square().sum() / 2, w)
        length = net.step(net.value() - y, 0.3)
        assert length == pytest.approx(0.3 * float(sum(g.square().sum() for g in slopes)) ** 0.5, rel=1e-9)
        w = tuple((a - 0.3 * g).detach().requires_grad_() for a, g in zip(w, slopes, strict=True))
    J = torch.autograd.functional.jacobian(lambda u, v: own["train"]((u, v)).flatten(), w)
    K = sum(part.flatten(1) @ part.flatten(1).T for part in J)
    assert torch.allclose(net.kernel(), K, atol=1e-10)


def test_the_frozen_network_is_the_librarys_quadratic_model():
    X, y, T = data()
    net = models.FCN(D, M, 2).double()
    first, second = net.parameters()
    u0, v0 = weights()
    first.data, second.data = u0, v0.T
    ours, theirs = spans.TwoLayer(spans.start(5, X, M, T), "quad"), taylor.NQM(net)
    for _ in range(3):
        f = theirs(X)
        grads = torch.autograd.grad((f - y[:, 0]).square().sum() / 2, list(theirs.network.parameters()))
        ours.step(ours.value() - y, 0.5)
        for part, g in zip(theirs.network.parameters(), grads, strict=True):
            part.data -= 0.5 * g
    assert torch.allclose(ours.test()[:, 0], theirs(T), atol=1e-12)


@pytest.mark.parametrize("model", spans.MODELS)
def test_a_convolution_moves_as_its_kernels_do(model):
    rng = torch.Generator().manual_seed(1)
    X, T = (torch.randn(k, 2, 4, 5, generator=rng, dtype=torch.float64) for k in (3, 2))
    y = torch.randn(3, 1, generator=rng, dtype=torch.float64)
    at = spans.conv_start(2, X, 4, T)
    net = spans.TwoLayer(at, model)
    pick = torch.linalg.lstsq(at.patches[0], at.z.view(20, 4, 3)[:, :, 0]).solution.T  # the kernels that were drawn

    def function(inputs):
        def f(w, v):
            z = F.conv2d(inputs, w.view(4, 2, 3, 3), padding=1) / 18**0.5
            return (z.relu().permute(0, 2, 3, 1).flatten(1) @ v) / 80**0.5

        return f

    w0, order = (pick, at.v), spans.MODELS[model]
    own = [own_model(function(part), w0, order) for part in (X, T)]
    w = tuple(part.clone().requires_grad_() for part in w0)
    for _ in range(3):
        f = own[0](w)
        assert torch.allclose(net.value(), f, atol=1e-10) and torch.allclose(net.test(), own[1](w), atol=1e-10)
        slopes = torch.autograd.grad((f - y).square().sum() / 2, w)
        length = net.step(net.value() - y, 0.2)
        assert length == pytest.approx(0.2 * float(sum(g.square().sum() for g in slopes)) ** 0.5, rel=1e-9)
        w = tuple((a - 0.2 * g).detach().requires_grad_() for a, g in zip(w, slopes, strict=True))
    J = torch.autograd.functional.jacobian(lambda u, v: own[0]((u, v)).flatten(), w)
    assert torch.allclose(net.kernel(), sum(p.flatten(1) @ p.flatten(1).T for p in J), atol=1e-10)


@pytest.mark.parametrize("model", spans.MODELS)
def test_three_layers_against_the_librarys_taylor_models(model):
    X, y, T = data()
    ours = deep.ThreeLayer(4, X, M, T, model)
    net = models.FCN(D, M, 3).double()
    for part, w in zip(net.parameters(), (ours.at[0], ours.at[1], ours.at[2].T), strict=True):
        part.data = w.clone()
    assert torch.allclose(ours.kernel(), empirical_ntk(net, X), atol=1e-10)
    if model == "cubic":
        theirs = None
    else:
        theirs = {"f": lambda net: net, "lin": taylor.linearize, "quad": taylor.quadratize}[model](net)
    for _ in range(3):
        if theirs is not None:
            params = list(theirs.parameters()) if model == "f" else list(theirs.weights.parameters())
            grads = torch.autograd.grad((theirs(X) - y[:, 0]).square().sum() / 2, params)
        ours.step(ours.value() - y, 0.4)
        if theirs is not None:
            for part, g in zip(params, grads, strict=True):
                part.data -= 0.4 * g
    if theirs is not None:
        assert torch.allclose(ours.test()[:, 0], theirs(T), atol=1e-11)
        return
    full = own_model(lambda U, W, v: ((T @ U.T / 2).relu() @ W.T / 3).relu() @ v / 3, ours.at, 3)
    assert torch.allclose(ours.test(), full(ours.w), atol=1e-11)


def test_models_can_be_seen_as_one_another():
    X, y, T = data()
    for net in (spans.TwoLayer(spans.start(5, X, M, T), "f", "tanh"), deep.ThreeLayer(4, X, M, T)):
        for _ in range(3):
            net.step(net.value() - y, 0.1)
        gaps = [(net.seen_as(model).test() - net.test()).norm() for model in ("lin", "quad", "cubic")]
        assert gaps[0] > gaps[1] and (net.seen_as("f").test() - net.test()).norm() == 0


def test_training_reports_what_happens():
    X, y, T = data()
    at = spans.start(5, X, M, T)
    lam = spans.top_eigenvalue(spans.TwoLayer(at))
    path = spans.train(spans.TwoLayer(at, "lin"), y, 2.5 / lam, 200)
    assert path.diverged and len(path.loss) < 200
    seen = []
    path = spans.train(
        spans.TwoLayer(at), y, 0.5 / lam, 10, torch.ones(TESTS, 1).double(), 5, look=lambda _, t: seen.append(t)
    )
    assert not path.diverged and path.steps == [0, 5, 10] and len(path.loss) == 11 and seen == list(range(11))
    every = torch.arange(N).repeat(10, 1)
    same = spans.train(spans.TwoLayer(at), y, 0.5 / lam, 10, batches=every)
    assert same.loss == pytest.approx(path.loss, rel=1e-12) and same.length == pytest.approx(path.length, rel=1e-12)
    one = spans.TwoLayer(at)
    spans.train(one, y, 0.1, 1, batches=torch.tensor([[2]]))
    two = spans.TwoLayer(at)
    r = two.value() - y
    two.step(torch.where(torch.arange(N)[:, None] == 2, r, 0.0) * N, 0.1)
    assert torch.allclose(one.value(), two.value())
    with pytest.raises(InputError, match="y_test"):
        spans.train(spans.TwoLayer(at), y, 0.1, 1, every=1)
    with pytest.raises(InputError, match="model"):
        spans.TwoLayer(at, "cube")


def test_classes_are_counted_as_they_are_coded():
    X, y, T = data(3)
    path = spans.train(spans.TwoLayer(spans.start(5, X, M, T, 3)), y, 0.01, 0, torch.eye(3).double(), every=1)
    f = spans.TwoLayer(spans.start(5, X, M, T, 3)).test()
    assert path.wrong[0] == pytest.approx(float((f.argmax(1) != torch.arange(3)).double().mean()))
