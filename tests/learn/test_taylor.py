"""Taylor models against autograd, remainder orders, closed forms; general quadratic models; the two-layer NQM."""

import copy
import io
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian, jacrev, vmap

from traindyn.compute import generator
from traindyn.errors import InputError
from traindyn.layers import Activation, Linear
from traindyn.learn.models import FCN, Network, ResNet
from traindyn.learn.taylor import NQM, QuadraticModel, linearize, quadratize


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed, "x"), dtype=torch.float64)


def smooth(out_dim: int = 1) -> FCN:
    options = {"activation": "tanh", "bias": "normal", "output_bias": "zero"}
    return FCN(3, 7, 3, out_dim, generator=generator(0, "init"), **options).double()


def direction(model: nn.Module, seed: int = 1) -> list[torch.Tensor]:
    draw = generator(seed, "direction")
    steps = [torch.randn(p.shape, generator=draw, dtype=torch.float64) for p in model.parameters()]
    size = math.sqrt(sum(float(s.square().sum()) for s in steps))
    return [s / size for s in steps]


def move(model: nn.Module, steps: list[torch.Tensor], radius: float) -> None:
    with torch.no_grad():
        for p, s in zip((p for p in model.parameters() if p.requires_grad), steps, strict=True):
            p.add_(radius * s)


def explicit_taylor(model: nn.Module, X: torch.Tensor, steps: list[torch.Tensor], order: int) -> torch.Tensor:
    """The Taylor polynomial at the model's parameters plus `steps`, with whole Jacobians and Hessians."""
    params = {name: value.detach() for name, value in model.named_parameters()}
    flat = torch.cat([value.flatten() for value in params.values()])
    d = torch.cat([step.flatten() for step in steps])

    def value(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        pieces = w.split([v.numel() for v in params.values()])
        shaped = {k: piece.reshape(v.shape) for (k, v), piece in zip(params.items(), pieces, strict=True)}
        return functional_call(model, shaped, (x[None],))[0]

    out = vmap(value, (None, 0))(flat, X) + vmap(jacrev(value), (None, 0))(flat, X) @ d
    if order == 2:
        out = out + vmap(hessian(value), (None, 0))(flat, X) @ d @ d / 2
    return out


@pytest.mark.parametrize("expand", [linearize, quadratize])
@pytest.mark.parametrize("out_dim", [1, 3])
def test_value_and_gradient_at_the_expansion_point(expand, out_dim):
    X, model = gaussian(5, 3), smooth(out_dim)
    taylor = expand(model)
    torch.testing.assert_close(taylor(X), model(X), rtol=1e-14, atol=1e-14)
    c = torch.randn_like(model(X))
    expected = torch.autograd.grad((c * model(X)).sum(), list(model.parameters()))
    found = torch.autograd.grad((c * taylor(X)).sum(), list(taylor.weights.parameters()))
    for e, f in zip(expected, found, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("expand, order", [(linearize, 1), (quadratize, 2)])
@pytest.mark.parametrize("out_dim", [1, 2])
def test_against_explicit_derivatives(expand, order, out_dim):
    X, model = gaussian(4, 3), smooth(out_dim)
    taylor, steps = expand(model), direction(model)
    expected = explicit_taylor(model, X, [2.5 * s for s in steps], order)
    move(taylor, steps, 2.5)
    torch.testing.assert_close(taylor(X), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("expand, slope", [(linearize, 2), (quadratize, 3)])
def test_order_of_the_remainder(expand, slope):
    X, model = gaussian(6, 3), smooth()
    steps = direction(model)
    radii = [0.4, 0.2, 0.1, 0.05]
    remainders = []
    for radius in radii:
        moved, taylor = copy.deepcopy(model), expand(model)
        move(moved, steps, radius)
        move(taylor, steps, radius)
        remainders.append(float((moved(X) - taylor(X)).norm()))
    slopes = [math.log(remainders[i] / remainders[i + 1]) / math.log(2) for i in range(3)]
    assert abs(slopes[-1] - slope) < 0.1 and abs(slopes[-2] - slope) < 0.2


def test_gradient_of_the_quadratic_model_away_from_the_point():
    X, model = gaussian(4, 3), smooth()
    taylor, steps = quadratize(model), direction(model)
    move(taylor, steps, 1.5)
    c = gaussian(4, seed=3)
    found = torch.autograd.grad((c * taylor(X)).sum(), list(taylor.weights.parameters()))
    shift = [(1.5 * s).requires_grad_(True) for s in steps]
    expected = torch.autograd.grad((c * explicit_taylor(model, X, shift, 2)).sum(), shift)
    for e, f in zip(expected, found, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-11, atol=1e-13)


def test_linear_model_under_gradient_descent_follows_its_kernel():
    X, y, lr = gaussian(6, 3), gaussian(6, seed=1), 0.3
    model = smooth()
    params = {name: value.detach() for name, value in model.named_parameters()}
    J = vmap(jacrev(lambda p, x: functional_call(model, p, (x[None],))[0]), (None, 0))(params, X)
    J = torch.cat([j.flatten(1) for j in J.values()], 1)
    K = J @ J.T
    lr = lr / float(torch.linalg.eigvalsh(K)[-1])
    residual = (model(X) - y).detach()
    taylor = linearize(model)
    optimizer = torch.optim.SGD(taylor.parameters(), lr=lr)
    for _ in range(100):
        optimizer.zero_grad()
        (taylor(X) - y).square().sum().div(2).backward()
        optimizer.step()
        residual = residual - lr * K @ residual
    torch.testing.assert_close(taylor(X) - y, residual, rtol=1e-9, atol=1e-10)


def test_frozen_parameters_are_not_expanded():
    X, model = gaussian(4, 3), smooth()
    model.layers[0].weight.requires_grad_(False)
    taylor = linearize(model)
    names = dict(taylor.weights.named_parameters())
    assert set(names) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert [p for p in taylor.parameters() if p.requires_grad] == list(names.values())
    torch.testing.assert_close(taylor(X), model(X))
    # linear in the last layer alone: the linear model is the network
    model = smooth()
    for p in model.layers[:4].parameters():
        p.requires_grad_(False)
    taylor = linearize(model)
    steps = [torch.ones_like(p) for p in taylor.weights.parameters()]
    move(taylor, steps, 3.0)
    move(model, steps, 3.0)
    torch.testing.assert_close(taylor(X), model(X), rtol=1e-13, atol=1e-13)


def test_reset_rewind_copy_and_state():
    X, model = gaussian(4, 3), smooth()
    taylor = linearize(model)
    start = taylor(X).detach()
    move(taylor, direction(model), 1.0)
    assert (taylor(X) - start).abs().max() > 1e-2
    buffer = io.BytesIO()
    torch.save(taylor.state_dict(), buffer)
    twin, here = copy.deepcopy(taylor), taylor(X).detach()
    taylor.rewind()
    torch.testing.assert_close(taylor(X), start, rtol=0, atol=0)
    torch.testing.assert_close(twin(X), here, rtol=0, atol=0)
    taylor.reset(generator(9, "init"))
    model.reset(generator(9, "init"))
    torch.testing.assert_close(taylor(X), model(X), rtol=1e-14, atol=1e-14)
    taylor.load_state_dict(torch.load(io.BytesIO(buffer.getvalue())))
    torch.testing.assert_close(taylor(X), here, rtol=0, atol=0)
    assert not hasattr(linearize(nn.Sequential(nn.Linear(3, 1))), "reset")
    twin.reset(generator(9, "init"))
    torch.testing.assert_close(twin(X), model(X), rtol=1e-14, atol=1e-14)


def test_the_network_is_copied_and_dtype_follows():
    X, model = gaussian(4, 3), smooth()
    taylor, before = linearize(model), model(X).detach()
    with torch.no_grad():
        model.layers[0].weight.zero_()
    torch.testing.assert_close(taylor(X), before, rtol=1e-14, atol=1e-14)
    assert taylor.float()(X.float()).dtype == torch.float32
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("expand", [linearize, quadratize])
def test_convolutions_and_layer_norm(expand):
    torch.manual_seed(0)
    models = [
        (ResNet((2, 6, 6), 2, width=4, blocks=(1, 1), generator=generator(0, "init")), gaussian(2, 2, 6, 6)),
        (nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.GELU(), nn.Dropout(0.5), nn.Linear(5, 2)), gaussian(3, 3)),
    ]
    for model, X in models:
        model = model.double().eval()
        taylor, moved = expand(model).train(), copy.deepcopy(model)
        torch.testing.assert_close(taylor(X), model(X), rtol=1e-12, atol=1e-12)
        steps = direction(model)
        move(taylor, steps, 1e-4)
        move(moved, steps, 1e-4)
        change = (moved(X) - model(X)).norm()
        assert (taylor(X) - moved(X)).norm() < 1e-3 * change


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
    with pytest.raises(InputError, match="trainable"):
        linearize(nn.Sequential(nn.ReLU()))
    with pytest.raises(InputError, match="eval"):
        linearize(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    with pytest.raises(InputError, match="eval"):
        quadratize(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.1)))
    with pytest.raises(InputError, match="dim"):
        QuadraticModel(None, lambda X: X, 1.0)
    with pytest.raises(InputError, match="sigma"):
        QuadraticModel(None, torch.ones(3, 4), 1.0)
    with pytest.raises(InputError, match="two linear layers"):
        NQM(FCN(3, 4, 3))
    with pytest.raises(InputError, match="ReLU"):
        NQM(FCN(3, 4, 2, activation="tanh"))


BUILDERS = {
    "linear": lambda seed: linearize(FCN(3, 8, 2, generator=generator(seed, "init")).double()),
    "quadratic": lambda seed: quadratize(FCN(3, 8, 2, generator=generator(seed, "init")).double()),
    "nqm": lambda seed: NQM(FCN(3, 8, 2, generator=generator(seed, "init")).double()),
}


@pytest.mark.parametrize("name", list(BUILDERS))
def test_use_inside_other_transformations(name):
    """Kernels, Hessians, input gradients and many seeds at once all differentiate or batch these models again."""
    X = gaussian(5, 3)
    models = [BUILDERS[name](seed) for seed in range(3)]
    for seed, model in enumerate(models):
        move(model, [gaussian(*p.shape, seed=seed) for p in model.parameters() if p.requires_grad], 0.5)
    # many seeds at once
    params, buffers = torch.func.stack_module_state(models)
    stacked = vmap(lambda p, b: functional_call(models[0], (p, b), (X,)))(params, buffers)
    torch.testing.assert_close(stacked, torch.stack([m(X) for m in models]), rtol=1e-12, atol=1e-13)
    # gradients in the parameters, sample by sample, against ordinary backward passes
    model = models[0]
    trained = {k: p for k, p in model.named_parameters() if p.requires_grad}
    J = vmap(jacrev(lambda p, x: functional_call(model, p, (x[None],))[0]), (None, 0))(
        {k: p.detach() for k, p in trained.items()}, X
    )
    for i in range(len(X)):
        rows = torch.autograd.grad(model(X)[i], list(trained.values()))
        for row, key in zip(rows, trained, strict=True):
            torch.testing.assert_close(J[key][i], row, rtol=1e-11, atol=1e-12)
    # Hessian-vector products: zero for the linear model alone
    grads = torch.autograd.grad(model(X).sum(), list(trained.values()), create_graph=True)
    v = [torch.ones_like(p) for p in trained.values()]
    inner = sum((g * w).sum() for g, w in zip(grads, v, strict=True))
    curvature = (
        sum(float(h.square().sum()) for h in torch.autograd.grad(inner, list(trained.values()), materialize_grads=True))
        if inner.requires_grad
        else 0.0
    )
    assert (curvature == 0) == (name == "linear")
    # input gradients, and values without a graph
    Z = X.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(model(Z).sum(), Z)
    step = 1e-6 * gaussian(*X.shape, seed=8)
    change = float((model(X + step) - model(X - step)).sum()) / 2
    assert change == pytest.approx(float((gradient * step).sum()), rel=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(model(X), model(Z).detach(), rtol=0, atol=0)
