"""General quadratic models against closed forms; the two-layer NQM against nested forward mode and the thesis."""

import copy
import math

import pytest
import torch
from torch import nn

from traindyn.compute import generator
from traindyn.errors import InputError
from traindyn.layers import Activation, Linear
from traindyn.learn.models import FCN, Network, TwoLayer
from traindyn.learn.models.quadratic import NQM, QuadraticModel
from traindyn.learn.models.taylor import quadratize


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed, "x"), dtype=torch.float64)


def move(model: nn.Module, steps: list[torch.Tensor], radius: float) -> None:
    with torch.no_grad():
        for p, s in zip((p for p in model.parameters() if p.requires_grad), steps, strict=True):
            p.add_(radius * s)


def test_general_quadratic_model():
    p, n = 7, 5
    X, w = gaussian(n, p), gaussian(p, seed=1)
    dense = gaussian(p, p, seed=2)
    dense = dense + dense.T
    per_sample = torch.einsum("ni,jk->nijk", X, dense)[:, 0]
    diagonal = gaussian(p, seed=3)
    cases = [
        (dense, dense.expand(n, p, p)),
        (diagonal, torch.diag(diagonal).expand(n, p, p)),
        (lambda X: per_sample, per_sample),
        (lambda X: X * diagonal, torch.diag_embed(X * diagonal)),
    ]
    for sigma, matrices in cases:
        model = QuadraticModel(lambda X: X.sin(), sigma, 0.3, dim=p).double()
        with torch.no_grad():
            model.weight.copy_(w)
        expected = X.sin() @ w + 0.15 * torch.einsum("i,nij,j->n", w, matrices, w)
        torch.testing.assert_close(model(X), expected, rtol=1e-12, atol=1e-13)
    bare = QuadraticModel(None, dense, 2.0, init_std=0.5, generator=generator(0, "w"))
    assert bare.weight.dtype == torch.float64 and bare(X).shape == (n,)
    first = bare.weight.detach().clone()
    bare.reset(generator(1, "w"))
    assert not torch.equal(first, bare.weight)
    bare.reset(generator(0, "w"))
    assert torch.equal(first, bare.weight)


def test_quadratic_model_dynamics_in_closed_form():
    # one example, phi = 0, y = 0, Sigma^2 = s I: g' = (1 - lr lam + gamma^2 lr^2 s g^2) g,
    # lam' = lam - lr gamma^2 s g^2 (4 - lr lam)
    p, gamma = 20, 0.1
    signs = torch.randint(0, 2, (p,), generator=generator(0, "signs")).double() * 2 - 1
    s = 1.7
    model = QuadraticModel(None, math.sqrt(s) * signs, gamma, generator=generator(0, "w"))
    x = torch.zeros(1, 1, dtype=torch.float64)

    def state() -> tuple[float, float]:
        (gradient,) = torch.autograd.grad(model(x).sum(), model.weight)
        return float(model(x)), float(gradient.square().sum())

    g, lam = state()
    lr = 2.5 / lam
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(15):
        optimizer.zero_grad()
        model(x).square().sum().div(2).backward()
        optimizer.step()
        g, lam = (
            (1 - lr * lam + gamma**2 * lr**2 * s * g**2) * g,
            lam - lr * gamma**2 * s * g**2 * (4 - lr * lam),
        )
        found = state()
        assert found[0] == pytest.approx(g, rel=1e-9, abs=1e-12) and found[1] == pytest.approx(lam, rel=1e-10)


class Scaled(Network):
    """A two-layer network with an output factor and its own reset, as other parts of the library build it."""

    def __init__(self, d: int, m: int, c: int = 1, bias: bool | str = False):
        super().__init__()
        self.first, self.act = Linear(d, m, bias=bias), Activation("relu")
        self.second = Linear(m, c, bias=bias)
        self.register_buffer("factor", torch.full((1,), 1 / m))

    def reset(self, generator=None):
        self.first.reset(generator)
        with torch.no_grad():
            self.second.weight.copy_(self.first.weight[:, :1].T.sign())

    def forward(self, x):
        return self.factor * self.second(self.act(self.first(x))).squeeze(-1)


NETWORKS = {
    "fcn": lambda: FCN(4, 30, 2, generator=generator(0, "init")).double(),
    "biases": lambda: FCN(4, 30, 2, 3, bias="normal", output_bias="normal", generator=generator(0, "init")).double(),
    "scaled": lambda: Scaled(4, 30).double(),
    "torch": lambda: nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 2)).double(),
    "two-layer": lambda: TwoLayer(4, 30, generator=generator(0, "init")).double(),
    "mean-field": lambda: TwoLayer(4, 30, 2, scaling="mean_field", alpha=7.0, generator=generator(0, "init")).double(),
}


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("frozen", [None, 0, 1])
def test_nqm_equals_nested_forward_mode(name, frozen):
    torch.manual_seed(0)
    X, model = gaussian(8, 4), NETWORKS[name]()
    if frozen is not None:
        layer = [m for m in model.modules() if isinstance(getattr(m, "weight", None), torch.Tensor)][frozen]
        for p in layer.parameters():
            p.requires_grad_(False)
    nqm, taylor = NQM(model), quadratize(model)
    trained = [p for p in nqm.parameters() if p.requires_grad]
    assert len(trained) == len(list(taylor.weights.parameters()))
    for seed in range(20):
        steps = [gaussian(*p.shape, seed=seed + 7) for p in trained]
        move(nqm, steps, 1.0)
        move(taylor, steps, 1.0)
        torch.testing.assert_close(nqm(X), taylor(X), rtol=1e-12, atol=1e-12)
    # the network itself has changed gates by now
    with torch.no_grad():
        for p, q in zip((p for p in model.parameters() if p.requires_grad), trained, strict=True):
            p.copy_(q)
    if frozen != 0:
        assert (model(X) - nqm(X)).abs().max() > 1e-2
    weights = gaussian(*nqm(X).shape, seed=99)
    found = torch.autograd.grad((weights * nqm(X)).sum(), trained)
    expected = torch.autograd.grad((weights * taylor(X)).sum(), list(taylor.weights.parameters()))
    for e, f in zip(expected, found, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-11, atol=1e-11)


def test_nqm_formula_of_the_thesis():
    # eq. (3.10), term by term
    m, d = 40, 4
    X, model = gaussian(6, d), FCN(d, m, 2, generator=generator(0, "init")).double()
    nqm = NQM(model)
    u0, v0 = model.layers[0].weight.detach().clone(), model.layers[2].weight.detach()[0].clone()
    du, dv = gaussian(m, d, seed=1), gaussian(m, seed=2)
    move(nqm, [du, dv[None]], 1.0)
    gate, root = (X @ u0.T >= 0).double(), math.sqrt(m * d)
    moved = (X @ du.T) * gate
    expected = model(X).detach() + (moved @ v0 + (X @ u0.T).relu() @ dv + moved @ dv) / root
    torch.testing.assert_close(nqm(X), expected, rtol=1e-12, atol=1e-13)


def test_nqm_single_example_recursion():
    # eq. (3.11)-(3.12) in their printed form, one example and GD on (g - y)^2 / 2
    m, d, y = 300, 7, 1.0
    x, model = gaussian(1, d), FCN(d, m, 2, generator=generator(0, "init")).double()
    nqm = NQM(model)
    weights = [p for p in nqm.parameters() if p.requires_grad]
    c = float(x.square().sum()) / (m * d)

    def state() -> tuple[float, float]:
        grads = torch.autograd.grad(nqm(x).sum(), weights)
        return float(nqm(x)), sum(float(g.square().sum()) for g in grads)

    g, lam = state()
    lr = 2.7 / lam
    for _ in range(30):
        grads = torch.autograd.grad((nqm(x) - y).square().sum() / 2, weights)
        with torch.no_grad():
            for p, step in zip(weights, grads, strict=True):
                p.sub_(lr * step)
        r = g - y
        g, lam = y + (1 - lr * lam + c * lr**2 * r * g) * r, lam - lr * c * (4 * g * r - lr * lam * r**2)
        found = state()
        assert found[0] == pytest.approx(g, rel=1e-10) and found[1] == pytest.approx(lam, rel=1e-10)


def test_nqm_reset_and_copy():
    X, model = gaussian(6, 4), Scaled(4, 30).double()
    nqm = NQM(model)
    twin = copy.deepcopy(nqm)
    steps = [gaussian(*p.shape, seed=5) for p in nqm.network.parameters()]
    move(nqm, steps, 1.0)
    model.reset(generator(3, "init"))
    for one in (nqm, twin):
        one.reset(generator(3, "init"))
        torch.testing.assert_close(one(X), model(X), rtol=1e-14, atol=1e-15)
        for p, q in zip(one.network.parameters(), model.parameters(), strict=True):
            assert torch.equal(p, q)
    move(nqm, steps, 1.0)
    taylor = quadratize(model)
    move(taylor, steps, 1.0)
    torch.testing.assert_close(nqm(X), taylor(X), rtol=1e-12, atol=1e-12)
    loaded = NQM(Scaled(4, 30).double())
    loaded.load_state_dict(nqm.state_dict())
    torch.testing.assert_close(loaded(X), nqm(X), rtol=0, atol=0)
    assert not hasattr(NQM(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))), "reset")
    assert nqm.float()(X.float()).dtype == torch.float32


def test_bad_input_is_named():
    with pytest.raises(InputError, match="dim"):
        QuadraticModel(None, lambda X: X, 1.0)
    with pytest.raises(InputError, match="sigma"):
        QuadraticModel(None, torch.ones(3, 4), 1.0)
    with pytest.raises(InputError, match="two linear layers"):
        NQM(FCN(3, 4, 3))
    with pytest.raises(InputError, match="ReLU"):
        NQM(FCN(3, 4, 2, activation="tanh"))


class Written(nn.Module):
    """Two linear layers, a ReLU, and a forward pass of one's own."""

    def __init__(self, rule):
        super().__init__()
        self.a, self.r, self.b, self.rule = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), rule

    def forward(self, x):
        return self.rule(self, x)


TWO_LAYERS = {
    "plain": nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)),
    "skip": Written(lambda s, x: s.b(x + s.r(s.a(x)))),
    "in place": nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 2)),
    "flattened": nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)),
    "tiny outputs": Written(lambda s, x: 1e-14 * s.b(s.r(s.a(x)))),
}
OTHERS = {
    "ReLU after both": nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2), nn.ReLU()),
    "ReLU before both": nn.Sequential(nn.ReLU(), nn.Linear(4, 6), nn.Linear(6, 2)),
    "Tanh on the output": nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2), nn.Tanh()),
    "Tanh before the ReLU": nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.ReLU(), nn.Linear(6, 2)),
    "normalised": nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6, elementwise_affine=False), nn.ReLU(), nn.Linear(6, 2)),
    "applied twice": Written(lambda s, x: s.b(s.r(s.a(s.r(s.a(x)))))),
    "ReLU unused": Written(lambda s, x: s.b(torch.tanh(s.a(x)))),
    "tiny bend": Written(lambda s, x: 1e-14 * torch.tanh(s.b(s.r(s.a(x))))),
    "dropout": nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 2)),
}


@pytest.mark.parametrize("name", TWO_LAYERS)
def test_two_layer_networks_of_any_shape_are_recognised(name):
    model = TWO_LAYERS[name]
    before = [p.clone() for p in model.parameters()]
    state = torch.get_rng_state()
    with torch.no_grad():
        NQM(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("name", OTHERS)
def test_networks_with_the_same_modules_and_another_function_are_refused(name):
    with pytest.raises(InputError, match="two_layer: expected two linear layers"):
        NQM(OTHERS[name])


def test_a_network_of_other_inputs_asks_for_an_example():
    images = Written(lambda s, x: s.b(s.r(s.a(x.mean((2, 3))))))
    with pytest.raises(InputError, match="give example="):
        NQM(images)
    x = torch.randn(3, 4, 2, 2)
    torch.testing.assert_close(NQM(images, x)(x), images(x))
