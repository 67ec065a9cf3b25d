"""Kernels of networks that route, sort, pack, use complex numbers, keep a state: exact, or refused in one line."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from traindyn import forward_pass
from traindyn.errors import InputError
from traindyn.measure.ntk import empirical_ntk
from traindyn.measure.ntk.plan import plan_for

D = torch.float64


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=D, generator=torch.Generator().manual_seed(seed))


class Written(nn.Module):
    """A network as a function of its parts."""

    def __init__(self, rule, **parts):
        super().__init__()
        self.rule = rule
        for seed, (name, part) in enumerate(parts.items(), 1):
            setattr(self, name, nn.Parameter(randn(*part, seed=seed)) if isinstance(part, tuple) else part.double())

    def forward(self, x):
        return self.rule(self, x)


def gram(model, X):
    """The full kernel by one reverse pass per sample and output, every sample sent alone (twice, for squeezes)."""
    model, rows = copy.deepcopy(model), []
    leaves = [p for p in model.parameters() if p.requires_grad]
    for x in X:
        for output in model(torch.stack([x, x]))[0].reshape(-1):
            grads = torch.autograd.grad(output, leaves, retain_graph=True, materialize_grads=True, allow_unused=True)
            rows.append(torch.cat([grad.to_dense().flatten() for grad in grads]))
    J = torch.stack(rows)
    return J @ J.T


def linear(*sizes):
    torch.manual_seed(sum(sizes))
    return nn.Linear(*sizes)


def experts(s, x):
    m, z = x[:, 0] > 0, x.new_zeros(len(x), 3)
    return z.index_put((m,), F.linear(x[m], s.t)).index_put((~m,), F.linear(x[~m], s.u)).tanh()


def sorted_and_back(s, x):
    order = x[:, 1].argsort()
    return s.o(s.a(x[order]).tanh()[order.argsort()])


def packed(s, tokens):
    keep = tokens > 0
    values = s.e(tokens[keep])  # padding removed: no axis counts the samples
    padded = values.new_zeros(*tokens.shape, values.shape[-1]).index_put((keep,), values)
    return s.o(padded.sum(1))


def best_of(s, x):
    h = s.a(x).tanh()
    return s.o(torch.gather(h, 1, h.argsort(1)))


def spectral(s, x):
    return s.o(torch.fft.irfft(torch.fft.rfft(x) * torch.view_as_complex(s.w), n=x.shape[1]))


def phases(s, x):
    return s.o(torch.fft.ifft(torch.fft.fft(x) * torch.polar(torch.ones_like(s.w), s.w)).real)


def distances(s, x):
    return s.o(torch.exp(-torch.cdist(x, s.c, p=1.0)))


TOKENS = torch.randint(0, 7, (9, 6), generator=torch.Generator().manual_seed(0))
STRANGE = {
    "two experts": (Written(experts, t=(3, 4), u=(3, 4)), randn(7, 4, seed=5)),
    "sorted along the batch": (Written(sorted_and_back, a=linear(4, 5), o=linear(5, 2)), randn(7, 4)),
    "padding removed": (Written(packed, e=nn.Embedding(7, 4), o=linear(4, 2)), TOKENS),
    "gathered features": (Written(best_of, a=linear(4, 5), o=linear(5, 2)), randn(6, 4)),
    "gate on Fourier modes": (Written(spectral, w=(4, 2), o=linear(6, 2)), randn(5, 6)),
    "learned phases": (Written(phases, w=(6,), o=linear(6, 2)), randn(5, 6)),
    "distances": (Written(distances, c=(3, 4), o=linear(3, 2)), randn(5, 4)),
    "squeezed": (Written(lambda s, x: s.a(x).squeeze(), a=linear(4, 1)), randn(5, 4)),
    "sparse table": (nn.Sequential(nn.Embedding(7, 4, sparse=True), nn.Flatten(), linear(24, 2)).double(), TOKENS),
    "flipped batch of a copy": (
        Written(lambda s, x: s.o(s.a(x.flip(0)).tanh().flip(0)), a=linear(4, 5), o=linear(5, 1)),
        randn(6, 4),
    ),
}


@pytest.mark.parametrize("options", [{}, {"chunk": 2}, {"method": "jacobian"}], ids=str)
@pytest.mark.parametrize("name", STRANGE)
def test_strange_networks_are_exact(name, options):
    model, X = STRANGE[name]
    K, expected = empirical_ntk(model, X, outputs="full", **options), gram(model, X)
    assert (K - expected).abs().max() <= 1e-8 * expected.abs().max()
    assert all(isinstance(p, nn.Parameter) and p.grad is None for p in model.parameters())


@settings(max_examples=40)
@given(
    signs=st.lists(st.sampled_from([-1.0, 1.0]), min_size=2, max_size=8),
    chunk=st.one_of(st.none(), st.integers(1, 4)),
    late=st.booleans(),
)
def test_routing_by_any_pattern_is_exact(signs, chunk, late):
    X = randn(len(signs), 4, seed=len(signs))
    X[:, 0] = torch.tensor(signs, dtype=D) * X[:, 0].abs()

    def rule(s, x):
        h = s.a(x)
        m = (h if late else x)[:, 0] > 0
        return s.o(torch.where(m[:, None], h, 0).index_put((~m,), s.b(x[~m])).tanh())

    model = Written(rule, a=linear(4, 4), b=linear(4, 4), o=linear(4, 2))
    K, expected = empirical_ntk(model, X, outputs="full", chunk=chunk), gram(model, X)
    assert (K - expected).abs().max() <= 1e-8 * expected.abs().max()


def test_an_attribute_that_changes_is_seen():
    model = Written(lambda s, x: s.o(s.a(x).unflatten(1, (2, 2)).sum(s.axis).tanh()), a=linear(4, 4), o=linear(2, 1))
    X = randn(5, 4)
    for axis in (1, 2, 1):
        model.axis = axis
        expected = gram(model, X)
        assert (empirical_ntk(model, X) - expected).abs().max() <= 1e-8 * expected.abs().max()


def test_more_samples_may_take_another_way():
    def rule(s, x):
        return x * s.w if len(x) <= 4 else torch.addcmul(torch.zeros_like(x), x, s.w)

    model, X = Written(rule, w=(4,)), randn(9, 4)
    expected = gram(model, X)
    assert (empirical_ntk(model, X, outputs="full") - expected).abs().max() <= 1e-8 * expected.abs().max()


def test_ordinary_networks_are_proved_once_and_strange_ones_always(monkeypatch):
    from traindyn.measure.ntk.passes import Pass

    calls = []
    prove = Pass._prove
    monkeypatch.setattr(Pass, "_prove", lambda self, *rest: (calls.append(1), prove(self, *rest)))
    plain = nn.Sequential(linear(4, 5), nn.Tanh(), linear(5, 1)).double()
    for _ in range(3):
        empirical_ntk(plain, randn(6, 4))
    assert len(calls) == 1
    model, X = STRANGE["gathered features"]
    calls.clear()
    for _ in range(3):
        empirical_ntk(model, X)
    assert len(calls) >= 3


def test_a_frozen_layer_does_not_make_a_network_strange():
    model = nn.Sequential(linear(4, 5), nn.ReLU(), nn.Linear(5, 1, bias=False)).double()
    model[2].weight.requires_grad_(False)
    X = randn(6, 4)
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert plan_for(model, X, wanted).steady
    hidden = Written(lambda s, x: s.a(x) + x.detach().flip(0).flip(0) @ s.b, a=linear(4, 2), b=(4, 2))
    assert not plan_for(hidden, X, dict(hidden.named_parameters())).steady


def test_a_plan_that_is_wrong_is_found(monkeypatch):
    from traindyn.measure.ntk import plan as plans

    make = plans.make_plan

    def misplaced(*args):
        found = make(*args)
        for entry in found.entries:
            entry.layout = (entry.layout[0], not entry.layout[1])
        return found

    monkeypatch.setattr(plans, "make_plan", misplaced)
    model = nn.Sequential(linear(4, 5), nn.Unflatten(1, (5, 1)), nn.Tanh(), nn.Conv1d(5, 2, 1), nn.Flatten()).double()
    X = randn(6, 4)
    expected = gram(model, X)
    assert (empirical_ntk(model, X, outputs="full") - expected).abs().max() <= 1e-8 * expected.abs().max()


IMAGES = randn(4, 2, 5, 5)


def counting(s, x):
    s.calls = getattr(s, "calls", 0) + 1
    return s.a(x) / s.calls


def remembering(s, x):
    s.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
    return s.a(x - s.mean)


REMEMBERING = Written(remembering, a=linear(4, 1))
REMEMBERING.register_buffer("mean", torch.zeros(4, dtype=D))
STATES = {
    "dropout": (nn.Sequential(linear(4, 8), nn.Dropout(0.001), linear(8, 1)).double(), randn(5, 4), "random numbers"),
    "functional dropout": (
        Written(lambda s, x: s.a(F.dropout(x, 0.01)), a=linear(4, 1)),
        randn(5, 4),
        "random numbers",
    ),
    "rescaled table": (
        nn.Sequential(nn.Embedding(7, 4, max_norm=1.0), nn.Flatten(), linear(24, 2)).double(),
        TOKENS,
        "max_norm",
    ),
    "a counter": (Written(counting, a=linear(4, 1)), randn(5, 4), "two different outputs"),
    "a running mean": (REMEMBERING, randn(5, 4), "two different outputs"),
    "coupled": (Written(lambda s, x: s.a(x - x.mean(0)), a=linear(4, 1)), randn(5, 4), "depends on the other samples"),
    "a function": (lambda x: x, randn(5, 4), "expected a torch.nn.Module"),
}


@pytest.mark.parametrize("method", ["auto", "jacobian"])
@pytest.mark.parametrize("name", STATES)
def test_what_has_no_kernel_is_refused_and_left_alone(name, method):
    model, X, said = STATES[name]
    before = {key: value.clone() for key, value in model.state_dict().items()} if name != "a function" else {}
    chance = torch.get_rng_state()
    for _ in range(3):
        with pytest.raises(InputError, match=said) as caught:
            empirical_ntk(model, X, method=method)
        assert "\n" not in str(caught.value)
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(value, before[key]) for key, value in (model.state_dict() if before else {}).items())


def test_running_statistics_stay():
    norm = nn.InstanceNorm2d(2, affine=True, track_running_stats=True)
    model = nn.Sequential(norm, nn.Flatten(), linear(50, 2)).double()
    expected = gram(model, IMAGES)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert (empirical_ntk(model, IMAGES, outputs="full") - expected).abs().max() <= 1e-8 * expected.abs().max()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("method", ["auto", "jacobian"])
def test_autocast_around_a_kernel_does_not_reach_it(method):
    model = nn.Sequential(linear(4, 64), nn.Tanh(), linear(64, 3))
    X = randn(5, 4)
    expected = gram(copy.deepcopy(model).double(), X)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        K = empirical_ntk(model, X.float(), outputs="full", method=method)
    assert K.dtype == torch.float32 and (K - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_hooks_on_parameters_are_the_training_s_business():
    model, X = Written(lambda s, x: s.b(x, x), b=nn.Bilinear(4, 4, 2)), randn(5, 4)
    expected = gram(model, X)
    model.b.weight.register_hook(lambda grad: grad.clamp(-0.01, 0.01))
    assert (empirical_ntk(model, X, outputs="full") - expected).abs().max() <= 1e-8 * expected.abs().max()
    assert model.b.weight._backward_hooks
    model(X).sum().backward()
    assert model.b.weight.grad.abs().max() <= 0.01


def test_one_module_under_two_names():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = linear(3, 3).double()
            self.b = self.a
            self.tied = nn.Linear(3, 3).double()
            self.tied.weight = self.a.weight

        def forward(self, x):
            return self.tied(torch.tanh(self.b(torch.tanh(self.a(x))))).sum(1)

    model, X = Twice(), randn(4, 3)
    values = {"b.weight": randn(3, 3, seed=9), "a.bias": randn(3, seed=8)}
    found = forward_pass.call_with(model, values, X)
    assert all(isinstance(p, nn.Parameter) for p in model.parameters()) and model.a is model.b
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.a.weight.copy_(values["b.weight"])
        other.a.bias.copy_(values["a.bias"])
    assert torch.equal(found, other(X))
