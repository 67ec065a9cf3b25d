"""Taylor models against explicit derivatives, orders of the remainder, and use inside other transformations."""

import copy
import io
import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian, jacrev, vmap
from torch.nn import functional as F

from traindyn.compute import generator
from traindyn.errors import InputError
from traindyn.learn.models import FCN, ResNet
from traindyn.learn.models.taylor import NQM, TaylorModel, linearize, quadratize
from traindyn.learn.train import fit


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
    model = copy.deepcopy(model)  # torch leaves foreign tensors in a module that is registered twice
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


@pytest.mark.parametrize("sharing", ["module", "weight"])
def test_shared_weights_are_one_parameter(sharing):
    torch.manual_seed(0)
    X, inner = gaussian(5, 4), nn.Linear(4, 4)
    second = inner if sharing == "module" else nn.Linear(4, 4)
    second.weight = inner.weight
    model = nn.Sequential(inner, nn.Tanh(), second, nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0)).double()
    taylor, steps = quadratize(model), direction(model)
    assert len(list(taylor.weights.parameters())) == len(list(model.parameters()))
    expected = explicit_taylor(model, X, [1.5 * s for s in steps], 2)
    move(taylor, steps, 1.5)
    for _ in range(2):
        torch.testing.assert_close(taylor(X), expected, rtol=1e-12, atol=1e-12)
    assert all(isinstance(p, nn.Parameter) for p in taylor.parameters())


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


def test_bad_input_is_named():
    with pytest.raises(InputError, match="trainable"):
        linearize(nn.Sequential(nn.ReLU()))
    with pytest.raises(InputError, match="eval"):
        linearize(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    with pytest.raises(InputError, match="eval"):
        quadratize(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.1)))


@pytest.mark.parametrize(
    "middle",
    [
        nn.LayerNorm(6),
        nn.LayerNorm(6, elementwise_affine=False),
        nn.GroupNorm(2, 6),
        nn.RMSNorm(6),
        nn.BatchNorm1d(6).eval(),
        nn.Softmax(-1),
    ],
    ids=lambda module: type(module).__name__,
)
def test_second_order_against_finite_differences_for_layers_with_fused_derivatives(middle):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), copy.deepcopy(middle), nn.Linear(6, 2)).double().eval()
    quadratic = quadratize(model)
    x = torch.randn(4, 3, dtype=torch.float64)
    step = [0.3 * torch.randn_like(p) for p in model.parameters()]

    def along(network: nn.Module, t: float) -> torch.Tensor:
        moved = copy.deepcopy(network)
        with torch.no_grad():
            for p, d in zip((q for q in moved.parameters() if q.requires_grad), step, strict=True):
                p += t * d
            return moved(x)

    h = 1e-3
    bend = [along(network, h) - 2 * along(network, 0) + along(network, -h) for network in (model, quadratic)]
    torch.testing.assert_close(bend[1] / h**2, bend[0] / h**2, rtol=1e-4, atol=1e-5)


class Written(nn.Module):
    """A network as a function of its parts."""

    def __init__(self, rule, **parts):
        super().__init__()
        self.rule = rule
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.rule(self, x)


def square(seed):
    return nn.Parameter(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))


EYE = torch.eye(4, dtype=torch.float64)
WRONG_IN_FORWARD_MODE = {
    "solve": lambda: Written(lambda s, x: torch.linalg.solve(s.w + 4 * EYE, x.T).T, w=square(1)),
    "det": lambda: Written(lambda s, x: torch.linalg.det(s.w + torch.diag_embed(x)), w=square(1)),
    "native_layer_norm": lambda: Written(
        lambda s, x: torch.native_layer_norm(s.a(x), [6], None, None, 1e-5)[0], a=nn.Linear(4, 6).double()
    ),
    "normalised per sample": lambda: Written(
        lambda s, x: F.batch_norm(s.a(x).reshape(1, -1, 3), None, None, training=True).reshape(-1, 6),
        a=nn.Linear(4, 6).double(),
    ),
    "glu": lambda: nn.Sequential(nn.Linear(4, 6), nn.GLU(), nn.Linear(3, 2)).double(),
    "norm": lambda: Written(lambda s, x: (x[:, None] - s.w).norm(dim=-1), w=square(1)),
}


@pytest.mark.parametrize("name", WRONG_IN_FORWARD_MODE)
def test_what_torch_expands_wrongly_is_refused_in_one_line(name):
    X = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = quadratize(WRONG_IN_FORWARD_MODE[name]())
    for _ in range(2):
        with pytest.raises(InputError, match="model: torch") as caught:
            model(X)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="model: torch"):
        TaylorModel(WRONG_IN_FORWARD_MODE[name](), 2, example=X)


@pytest.mark.parametrize("expand", [linearize, quadratize])
def test_fused_attention_is_expanded(expand):
    a = nn.MultiheadAttention(4, 2, batch_first=True)
    model = Written(lambda s, x: s.o(s.a(x, x, x, need_weights=False)[0].mean(1)), a=a, o=nn.Linear(4, 2)).double()
    X = torch.randn(3, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(expand(model)(X), model(X))


def test_a_wrong_expansion_is_found_before_many_are_trained_together():
    X = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(6, 4, dtype=torch.float64)

    def wrong(seed):
        return quadratize(Written(lambda s, x: torch.linalg.solve(s.w + 4 * EYE, x.T).T, w=square(seed)))

    with pytest.raises(InputError, match="forward mode are wrong"):
        fit(wrong, X, y, lr=0.01, steps=2, seeds=[0, 1, 2], progress=False)
