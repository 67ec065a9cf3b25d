"""The structured tangent kernel against the Gram matrix of the Jacobian, and what it must refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from traindyn.errors import InputError
from traindyn.layers import Linear
from traindyn.learn.models import CNN, FCN, Myrtle5, ResNet, ResNet18, TwoLayer, ViT, WideResNet
from traindyn.learn.models.dag import densenet
from traindyn.learn.models.taylor import NQM, linearize, quadratize
from traindyn.measure.ntk import empirical_ntk
from traindyn.measure.ntk.plan import plan_for
from traindyn.measure.ntk.products import Outer, gradient_cost, gram_cost, outer_product

D = torch.float64


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=D, generator=torch.Generator().manual_seed(seed))


def jacobian(model, X, names=None):
    """(n, c, P) by one backward pass per sample and output."""
    leaves = [p for name, p in model.named_parameters() if p.requires_grad and (names is None or name in names)]
    with torch.enable_grad():
        out = model(X).reshape(len(X), -1)
        rows = [
            torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
            for value in out.flatten()
        ]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).view(*out.shape, -1)


def gram(model, X, X2=None, outputs="trace", names=None):
    J = jacobian(model, X, names)
    J2 = J if X2 is None else jacobian(model, X2, names)
    if outputs == "full":
        return J.flatten(0, 1) @ J2.flatten(0, 1).T
    return torch.einsum("icp,jcp->ij", J, J2)


def agree(K, expected, tol=1e-10):
    assert K.shape == expected.shape
    assert (K - expected).abs().max() <= tol * expected.abs().max().clamp(min=1e-30)


def check(model, X, X2=None, method="structured", **options):
    """All forms of the kernel of one model agree with the Jacobian's Gram matrix."""
    for outputs in ("trace", "full"):
        for other in [None] if X2 is None else [None, X2]:
            expected = gram(model, X, other, outputs)
            agree(empirical_ntk(model, X, other, outputs=outputs, method=method, **options), expected)
            agree(empirical_ntk(model, X, other, outputs=outputs, method=method, chunk=2), expected)


class Function(nn.Module):
    """A network written as a function of its parts."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def parameter(*shape, seed=1):
    return nn.Parameter(randn(*shape, seed=seed))


def build(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double()


IMAGE = (2, 9, 8)
LAYERS = {
    "linear": (lambda: nn.Linear(4, 3), (4,)),
    "linear without bias": (lambda: nn.Sequential(nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Linear(6, 1)), (4,)),
    "ntk linear": (lambda: nn.Sequential(Linear(4, 6, bias="normal"), nn.GELU(), Linear(6, 2)), (4,)),
    "linear over positions": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Flatten(), nn.Linear(30, 2)),
        (3, 2, 4),
    ),
    "positions before samples": (
        lambda: Function(
            lambda s, x: s.b(torch.tanh(s.a(x.transpose(0, 1))).mean(0)), a=nn.Linear(4, 6), b=nn.Linear(6, 2)
        ),
        (3, 4),
    ),
    "conv1d": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 6, 3, stride=2, padding=1, dilation=2, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(24, 2)
        ),
        (2, 9),
    ),
    "conv2d": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
            nn.Tanh(),
            nn.Conv2d(6, 6, 3, groups=6, padding="same", padding_mode="circular"),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 2),
        ),
        IMAGE,
    ),
    "large conv2d": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 18**2, 2)),
        (2, 20, 20),
    ),
    "multiplied weights": (
        lambda: Function(
            lambda s, x: F.linear(F.conv2d(x, s.w * 0.3).tanh().flatten(1), 2 * s.v * 0.1, s.b * 3),
            w=parameter(3, 2, 3, 3),
            v=parameter(2, 3 * 18**2),
            b=parameter(2),
        ),
        (2, 20, 20),
    ),
    "1x1 conv": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 1, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(60, 2)),
        IMAGE,
    ),
    "layer norm": (lambda: nn.Sequential(nn.LayerNorm((3, 4)), nn.Flatten(), nn.Linear(12, 2)), (3, 4)),
    "group norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 6, 3), nn.GroupNorm(3, 6), nn.GELU(), nn.Flatten(), nn.LazyLinear(2)),
        IMAGE,
    ),
    "rms norm and prelu": (
        lambda: nn.Sequential(nn.Linear(4, 6), nn.RMSNorm(6), nn.PReLU(6), nn.Linear(6, 2)),
        (4,),
    ),
    "attention": (
        lambda: Function(
            lambda s, x: s.b(s.a(x, x, x, need_weights=False)[0].mean(1)),
            a=nn.MultiheadAttention(4, 2, batch_first=True),
            b=nn.Linear(4, 2),
        ),
        (3, 4),
    ),
    "cross attention": (
        lambda: Function(
            lambda s, x: s.b(s.a(x, x[:, :2], x[:, :2])[0].mean(1)),
            a=nn.MultiheadAttention(4, 2, batch_first=True),
            b=nn.Linear(4, 2),
        ),
        (3, 4),
    ),
    "transformer layer": (
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.0), nn.Flatten(), nn.Linear(12, 3)
        ),
        (3, 4),
    ),
    "scales and shifts": (
        lambda: Function(
            lambda s, x: (s.c * torch.tanh(s.a * x - s.b) / s.d).sum(1),
            a=parameter(4),
            b=parameter(1, 4),
            c=parameter(1),
            d=parameter(4),
        ),
        (4,),
    ),
    "vector and scalars": (
        lambda: Function(lambda s, x: s.c * torch.tanh(x @ s.a) + s.d, a=parameter(4), c=parameter(), d=parameter()),
        (4,),
    ),
    "einsum": (
        lambda: Function(
            lambda s, x: torch.einsum("nhe,ch->nc", torch.tanh(torch.einsum("nhd,hde->nhe", x, s.a)), s.b),
            a=parameter(2, 4, 3),
            b=parameter(2, 2),
        ),
        (2, 4),
    ),
    "masked weight": (
        lambda: Function(
            lambda s, x: torch.tanh(F.linear(x, s.a * s.m)) @ s.b,
            a=parameter(6, 4),
            m=(randn(6, 4) > 0).to(D),
            b=parameter(6),
        ),
        (4,),
    ),
    "class token": (
        lambda: Function(
            lambda s, x: s.b(torch.tanh(s.l(torch.cat([s.c.expand(len(x), -1, -1), x], 1) + s.p)).mean(1)),
            c=parameter(1, 1, 4),
            p=parameter(1, 4, 4),
            l=nn.Linear(4, 4),
            b=nn.Linear(4, 2),
        ),
        (3, 4),
    ),
    "skip connection": (
        lambda: Function(lambda s, x: s.b(x + torch.tanh(s.a(x))), a=nn.Linear(4, 4), b=nn.Linear(4, 2)),
        (4,),
    ),
    "reused layer": (
        lambda: Function(lambda s, x: s.b(torch.tanh(s.a(torch.tanh(s.a(x))))), a=nn.Linear(4, 4), b=nn.Linear(4, 2)),
        (4,),
    ),
    "reused layer and its transpose": (
        lambda: Function(
            lambda s, x: s.b(torch.tanh(F.linear(torch.tanh(s.a(x)), s.a.weight.t()))),
            a=nn.Linear(4, 4),
            b=nn.Linear(4, 2),
        ),
        (4,),
    ),
    "recurrent network": (
        lambda: Function(lambda s, x: s.b(s.a(x)[0][:, -1]), a=nn.LSTM(4, 5, batch_first=True), b=nn.Linear(5, 2)),
        (3, 4),
    ),
    "weight normalisation": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 2)),
        (4,),
    ),
    "product of parameters": (
        lambda: Function(
            lambda s, x: s.b(torch.tanh(x @ (s.a @ s.c))), a=parameter(4, 2), c=parameter(2, 4), b=nn.Linear(4, 2)
        ),
        (4,),
    ),
    "in place": (
        lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 2)),
        (4,),
    ),
    "zero last layer": (
        lambda: Function(lambda s, x: s.a(x).relu() @ s.w, a=nn.Linear(4, 6), w=nn.Parameter(torch.zeros(6, 2))),
        (4,),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_agrees_with_the_jacobian(name):
    make, shape = LAYERS[name]
    X, X2 = randn(5, *shape), randn(3, *shape, seed=1)
    model = build(lambda: Function(lambda s, x: s.net(x), net=make()))
    model(X)  # a lazy layer takes its size here
    model = model.double()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    data = X.clone()
    check(model, X, X2)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert torch.equal(X, data) and not X.requires_grad
    assert all(p.grad is None for p in model.parameters())


NETWORKS = {
    "fcn": (lambda g: FCN(6, 7, 4, generator=g), (6,)),
    "fcn with biases": (lambda g: FCN(6, 7, 3, 3, bias="normal", output_bias="normal", generator=g), (6,)),
    "resnet": (lambda g: ResNet((1, 8, 8), 3, width=4, blocks=(1, 1), generator=g), (1, 8, 8)),
    "resnet18": (lambda g: ResNet18((1, 8, 8), 1, width=2, generator=g), (1, 8, 8)),
    "cnn": (lambda g: CNN((2, 6, 6), 4, 3, 2, bias="normal", generator=g), (2, 6, 6)),
    "myrtle": (lambda g: Myrtle5((2, 8, 8), 2, channels=4, generator=g), (2, 8, 8)),
    "wide resnet": (lambda g: WideResNet((2, 8, 8), 2, widen=1, base=4, norm="group", generator=g), (2, 8, 8)),
    "vit": (lambda g: ViT((2, 8, 8), 2, depth=2, dim=8, heads=2, generator=g), (2, 8, 8)),
    "two layers": (lambda g: TwoLayer(6, 8, train="first", generator=g), (6,)),
    "random features": (lambda g: TwoLayer(6, 8, out_dim=2, train="second", scaling="mean_field", generator=g), (6,)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_agrees_with_the_jacobian(name):
    make, shape = NETWORKS[name]
    model = make(torch.Generator().manual_seed(0)).double()
    check(model, randn(4, *shape), randn(3, *shape, seed=1))


TOKENS = torch.randint(0, 7, (5, 6), generator=torch.Generator().manual_seed(0))


class Language(nn.Module):
    """Tokens and positions looked up, with or without the table read again at the end."""

    def __init__(self, tied):
        super().__init__()
        self.table, self.position = nn.Embedding(7, 6, padding_idx=2), nn.Embedding(6, 6)
        self.hidden, self.out = nn.Linear(6, 6), nn.Linear(6, 7, bias=False)
        if tied:
            self.out.weight = self.table.weight

    def forward(self, tokens):
        x = self.table(tokens) + self.position(torch.arange(tokens.shape[1]))
        return self.out(torch.tanh(self.hidden(x)).mean(1))


@pytest.mark.parametrize("tied", [False, True])
def test_embeddings_of_tokens_and_positions(tied):
    check(build(lambda: Language(tied)), TOKENS, TOKENS[:3].flip(1))


def test_one_hot_tokens_that_the_graph_cannot_see():
    model = build(
        lambda: Function(lambda s, x: s.net(F.one_hot(x, 7).to(D).flatten(1)), net=nn.Sequential(nn.Linear(42, 3)))
    )
    check(model, TOKENS, TOKENS[:2])


@pytest.mark.parametrize("layer", [nn.ConvTranspose2d(2, 3, 3), nn.InstanceNorm2d(2, affine=True)])
def test_what_no_rule_covers_is_left_to_the_jacobian_and_only_that(layer):
    model = build(lambda: nn.Sequential(layer, nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LazyLinear(2)))
    X = randn(4, 2, 5, 5)
    model(X)
    model = model.double()
    check(model, X, method="auto")
    wanted = dict(model.named_parameters())
    plan = plan_for(model, X, wanted)
    assert plan.uncovered <= {"0.weight", "0.bias"} and "0.weight" in plan.uncovered
    with pytest.raises(InputError, match="0.weight"):
        empirical_ntk(model, X, method="structured")


def test_batch_norm_with_stored_statistics():
    model = build(
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 2))
    )
    model(randn(9, 2, 6, 6, seed=2))
    check(model.eval(), randn(4, 2, 6, 6))


@settings(max_examples=15)
@given(
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    kernels=st.lists(st.sampled_from([1, 3]), min_size=3, max_size=3),
    strides=st.lists(st.integers(1, 2), min_size=3, max_size=3),
    bias=st.booleans(),
    outputs=st.integers(1, 3),
    n=st.integers(1, 5),
)
def test_random_convolutional_networks(widths, kernels, strides, bias, outputs, n):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers, channels = [], 2
        for width, kernel, stride in zip(widths, kernels, strides, strict=False):
            layers += [nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=bias), nn.Softplus()]
            channels = width
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, outputs)).double()
    check(model, randn(n, 2, 7, 7), randn(2, 2, 7, 7, seed=1))


def test_jacobian_method_and_fewer_parameters_than_samples():
    model = FCN(2, 2, 2, bias="normal", generator=torch.Generator().manual_seed(0)).double()
    X = randn(20, 2)
    for outputs in ("trace", "full"):
        agree(empirical_ntk(model, X, method="jacobian", outputs=outputs, chunk=3), gram(model, X, outputs=outputs))
    check(model, X)


def test_layerwise_kernels_add_up_and_frozen_parameters_do_not_count():
    model = FCN(4, 5, 3, 2, bias="normal", generator=torch.Generator().manual_seed(0)).double()
    X = randn(6, 4)
    parts = [empirical_ntk(model, X, params=[name]) for name, _ in model.named_parameters()]
    agree(sum(parts), empirical_ntk(model, X))
    agree(empirical_ntk(model, X, params=["layers.0"]), parts[0] + parts[1])
    model.layers[0].weight.requires_grad_(False)
    agree(empirical_ntk(model, X), sum(parts[1:]))
    with pytest.raises(InputError, match="not trainable"):
        empirical_ntk(model, X, params=["layers.0.weight"])


def test_callers_context_and_memory_order_do_not_matter():
    model = CNN((2, 6, 6), 4, 3, 2, generator=torch.Generator().manual_seed(0)).double()
    X = randn(5, 6, 6, 2).permute(0, 3, 1, 2)
    expected = gram(model, X)
    agree(empirical_ntk(model, X), expected)
    with torch.no_grad():
        agree(empirical_ntk(model, X), expected)
    with torch.inference_mode():
        agree(empirical_ntk(model, X.clone()), expected)
    assert torch.equal(empirical_ntk(model, X[:1]), empirical_ntk(model, X[:1], X[:1]))


def test_the_kernel_follows_the_weights_and_the_width_of_the_batch():
    model = FCN(3, 5, 2, generator=torch.Generator().manual_seed(0)).double()
    for n in (1, 2, 7):
        agree(empirical_ntk(model, randn(n, 3)), gram(model, randn(n, 3)))
    model.reset(torch.Generator().manual_seed(5))
    agree(empirical_ntk(model, randn(4, 3)), gram(model, randn(4, 3)))
    model.layers.insert(1, nn.Linear(5, 5).double())  # the cached plan no longer fits
    agree(empirical_ntk(model, randn(4, 3)), gram(model, randn(4, 3)))


def test_a_graph_that_depends_on_the_number_of_samples():
    def forward(s, x):
        z = F.linear(x, s.w * 0.5) if len(x) > 4 else F.linear(x, s.w) * 0.5
        return s.out(torch.tanh(z))

    model = build(lambda: Function(forward, w=parameter(6, 4), out=nn.Linear(6, 2)))
    for n, n2 in ((3, 3), (9, 3), (9, 9)):
        X, X2 = randn(n, 4), randn(n2, 4, seed=1)
        agree(empirical_ntk(model, X, X2, method="structured"), gram(model, X, X2))
        agree(empirical_ntk(model, X, method="structured", chunk=5), gram(model, X))


def test_memory_budget_cuts_the_kernel_into_blocks(monkeypatch):
    model = CNN((2, 6, 6), 4, 3, 3, readout="mean", generator=torch.Generator().manual_seed(0)).double()
    X, X2 = randn(7, 2, 6, 6), randn(5, 2, 6, 6, seed=1)
    expected = [gram(model, X, X2, outputs) for outputs in ("trace", "full")]
    monkeypatch.setenv("TRAINDYN_MEMORY", "0.02")
    for outputs, K in zip(("trace", "full"), expected, strict=True):
        agree(empirical_ntk(model, X, X2, outputs=outputs), K)
    monkeypatch.setenv("TRAINDYN_MEMORY", "0.0005")
    with pytest.raises(InputError, match="outputs='trace' needs"):
        empirical_ntk(model, X, X2, outputs="full")


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("budget", [2**30, 2000])
def test_both_orders_of_contraction_agree(full, groups, budget):
    def outer(n, seed):
        a = randn(n, groups, 5, 3, seed=seed)
        return Outer(
            lambda lo, hi: a[lo:hi], randn(n, 2, groups, 5, 4, seed=seed + 1), 3, "as", torch.Size([groups, 3, 4])
        )

    u, v = outer(6, 0), outer(4, 5)
    for other in (u, v):
        G, G2 = (f.gradients(0, len(f.signals)).flatten(2) for f in (u, other))
        expected = torch.einsum("icp,jdp->icjd" if full else "icp,jcp->ij", G, G2)
        for order in ("gram", "gradient"):
            agree(outer_product(u, other, full, budget, order).reshape(expected.shape), expected)


def test_the_order_of_contraction_follows_the_shapes():
    def outer(n, positions, width, out):
        a, s = torch.empty(n, 1, positions, width), torch.empty(n, 1, 1, positions, out)
        return Outer(lambda lo, hi: a[lo:hi], s, width, "sa", torch.Size([out, width]))

    dense, early = outer(128, 1, 1024, 1024), outer(8, 1024, 27, 64)
    assert gram_cost(dense, dense, False) < gradient_cost(dense, dense, False) / 100
    assert gradient_cost(early, early, False) < gram_cost(early, early, False) / 10


# ------------------------------------------------------------------------------------------------ refusals


def linear():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("model", "X", "options", "message"),
    [
        (nn.BatchNorm1d(3), torch.randn(4, 3), {}, "statistics of the batch"),
        (nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5)), torch.randn(4, 3), {}, "model.eval"),
        (linear().half(), torch.randn(4, 3).half(), {}, "float16.*model.float"),
        (linear().requires_grad_(False), torch.randn(4, 3), {}, "no trainable parameter"),
        (linear(), torch.randn(4, 3).double(), {}, "X: has dtype torch.float64"),
        (linear(), torch.ones(4, 3, dtype=torch.int64), {}, "X: the model fails.*int64"),
        (linear(), torch.randn(4, 5), {}, r"X: the model fails.*\(4, 5\)|X: the model fails"),
        (linear(), torch.randn(4, 3), {"X2": torch.randn(4, 5)}, "X2: expected samples of shape"),
        (linear(), torch.randn(0, 3), {}, "n >= 1"),
        (linear(), torch.randn(4, 2, 3), {}, "outputs of shape"),
        (linear(), torch.full((4, 3), torch.nan), {}, "NaN or infinity"),
        (linear(), torch.randn(4, 3), {"params": ["0.wieght"]}, "did you mean '0.weight'"),
        (linear(), torch.randn(4, 3), {"params": []}, "names no parameter"),
        (linear(), torch.randn(4, 3), {"method": "hooks"}, "unknown method"),
        (linear(), torch.randn(4, 3), {"outputs": "sum"}, "unknown outputs"),
        (linear(), torch.randn(4, 3), {"chunk": 0}, "chunk"),
        (Function(lambda s, x: s.a(x - x.mean(0)), a=nn.Linear(3, 2)), torch.randn(4, 3), {}, "depends on the other"),
    ],
)
def test_mistakes_are_refused_in_one_line(model, X, options, message):
    with pytest.raises(InputError, match=message) as caught:
        empirical_ntk(model, X, **options)
    assert "\n" not in str(caught.value)


def test_a_failure_inside_the_model_leaves_it_untouched():
    class Fragile(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            self.layer(x)
            raise RuntimeError("no")

    model = Fragile()
    with pytest.raises(InputError, match="no"):
        empirical_ntk(model, torch.randn(4, 3))
    assert model.training and not model._forward_hooks and model.layer.weight.grad is None


# ------------------------------------------------------------------------------------------------ other libraries


def test_neural_tangents_gives_the_same_kernels():
    with np.load(Path(__file__).with_name("neural_tangents.npz")) as stored:
        arrays = {name: torch.from_numpy(stored[name]) for name in stored.files}
    fcn = FCN(5, 6, 3, 2, activation="tanh", bias="zero", output_bias="zero").double()
    cnn = CNN((2, 5, 5), 4, 3, activation="tanh", bias="zero").double()
    for name, model in (("fcn", fcn), ("cnn", cnn)):
        with torch.no_grad():
            for index, p in enumerate(model.parameters()):
                p.copy_(arrays[f"{name}_p{index}"])
        X, X2 = arrays[f"{name}_x"], arrays[f"{name}_x2"]
        agree(model(X).reshape(len(X), -1), arrays[f"{name}_f"])
        agree(empirical_ntk(model, X, X2), arrays[f"{name}_trace"])
        agree(
            empirical_ntk(model, X, X2, outputs="full"),
            arrays[f"{name}_full"].permute(0, 2, 1, 3).flatten(2).flatten(0, 1),
        )


def test_nngeometry_gives_the_same_kernel():
    gram_module = pytest.importorskip("nngeometry.gram")
    model = build(lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)))
    X = randn(5, 2, 6, 6)
    loader = DataLoader(TensorDataset(X, torch.zeros(5)), batch_size=5)
    theirs = gram_module.GramMatrix(model, loader, function=lambda x, _: model(x)).to_torch()  # (c, n, c, n)
    K = empirical_ntk(model, X, outputs="full")
    agree(K, theirs.permute(1, 0, 3, 2).reshape(K.shape), tol=1e-6)  # it keeps single precision inside


@settings(max_examples=12)
@given(seed=st.integers(0, 10_000), width=st.integers(2, 6), depth=st.integers(2, 4), out_dim=st.integers(1, 3))
def test_random_graphs_agree_with_the_jacobian(seed, width, depth, out_dim):
    draws = torch.Generator().manual_seed(seed)
    model = densenet(3, width, depth, 0.4, draws, out_dim=out_dim, activation="tanh").double()
    check(model, randn(4, 3, seed=seed), randn(2, 3, seed=seed + 1), method="auto")


@pytest.mark.parametrize("expand", [linearize, quadratize, NQM], ids=lambda f: f.__name__)
def test_taylor_models_agree_with_the_jacobian(expand):
    model = expand(FCN(3, 8, 2, 2, generator=torch.Generator().manual_seed(0)).double())
    with torch.no_grad():
        for i, p in enumerate(p for p in model.parameters() if p.requires_grad):
            p += 0.1 * randn(*p.shape, seed=i)
    check(model, randn(5, 3), randn(3, 3, seed=1), method="auto")
