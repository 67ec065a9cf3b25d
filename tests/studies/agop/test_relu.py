"""The passes written out, against automatic differentiation and the library."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from traindyn.errors import InputError
from traindyn.learn.models import FCN
from traindyn.measure.agop import agop
from traindyn.measure.ntk import empirical_ntk
from traindyn.studies.agop.relu import Relu, network


def net_of(law: str, depth: int = 3) -> Relu:
    return network(3, 7, SimpleNamespace(width=9, depth=depth), torch.float64, law=law)


@pytest.fixture
def X() -> torch.Tensor:
    return torch.randn(11, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("law", ["none", "zero", "normal", "torch"])
@pytest.mark.parametrize("depth", [2, 4])
def test_passes_agree_with_autograd(law, depth, X):
    net = net_of(law, depth)
    held, out = net.forward(X)
    assert torch.allclose(out, net.model(X).detach(), atol=1e-12)
    seed = torch.linspace(-1, 1, len(X), dtype=torch.float64)
    ours = net.gradients(held, net.backward(held, seed))
    params = dict(net.model.named_parameters())
    theirs = dict(zip(params, torch.autograd.grad(net.model(X) @ seed, list(params.values())), strict=True))
    expected = [g for name, g in theirs.items() if "weight" in name] + [
        g for name, g in theirs.items() if "bias" in name
    ]
    for a, b in zip(ours, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("law", ["none", "normal", "torch"])
def test_kernel_trace_top_and_agop_agree_with_the_library(law, X):
    net = net_of(law)
    held, out = net.forward(X)
    signals = net.backward(held, torch.ones_like(out))
    K = empirical_ntk(net.model, X)
    assert torch.allclose(net.kernel(held, signals), K, atol=1e-11)
    assert net.trace(held, signals) == pytest.approx(float(K.trace()), rel=1e-10)
    values, vectors = torch.linalg.eigh(K)
    value, found = net.top(X, rounds=2000, tolerance=1e-14)
    assert value == pytest.approx(float(values[-1]), rel=1e-8)
    assert abs(float(found[:, 0] @ vectors[:, -1])) == pytest.approx(1, abs=1e-3)
    assert net.critical(X) == pytest.approx(len(X) / float(values[-1]), rel=1e-3)
    assert torch.allclose(net.agop(X), agop(net.model, X), atol=1e-12)


def test_a_step_trains_the_module_and_a_copy_brings_it_back(X):
    net = net_of("normal")
    kept, before = net.copy(), net(X)
    held, out = net.forward(X)
    net.descend(held, net.backward(held, torch.ones_like(out)), 0.01)
    assert not torch.equal(net.model(X).detach(), before)
    assert torch.allclose(net.model(X).detach(), net(X), atol=1e-12)
    net.restore(kept)
    assert torch.equal(net(X), before)


def test_a_dead_network_has_no_critical_rate(X):
    net = net_of("none", 2)
    for part in net.state:
        part.zero_()
    assert net.critical(X) == float("inf")


def test_other_networks_are_refused():
    with pytest.raises(InputError, match="one output"):
        Relu(FCN(4, 5, 2, 3))
    with pytest.raises(InputError, match="ReLU"):
        Relu(FCN(4, 5, 2, activation="tanh"))
