"""Layers: what their parameterisation promises, and that a generator fixes the draw."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from traindyn.errors import InputError
from traindyn.layers import ACTIVATIONS, Activation, Conv, GroupNorm, LayerNorm, Linear, activations
from traindyn.learn.models import FCN


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("bias", [False, "normal"])
def test_both_parameterisations_are_the_same_function_of_their_effective_weight(bias):
    x = torch.randn(3, 50, generator=seeded(1), dtype=torch.float64)
    ntk = Linear(50, 4, parameterization="ntk", bias=bias, generator=seeded()).double()
    standard = Linear(50, 4, parameterization="standard", bias=bias, generator=seeded()).double()
    assert torch.allclose(ntk.weight / math.sqrt(50), standard.weight)
    assert torch.allclose(ntk(x), standard(x))


@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
def test_convolution_is_torchs_with_the_multiplier(parameterization):
    layer = Conv(
        4, 6, 3, stride=2, groups=2, parameterization=parameterization, bias="normal", generator=seeded()
    ).double()
    x = torch.randn(2, 4, 9, 8, generator=seeded(1), dtype=torch.float64)
    expected = F.conv2d(x, layer.weight * layer.scale, layer.bias, 2, 1, 1, 2)
    assert torch.allclose(layer(x), expected)
    assert layer.scale == (1 / math.sqrt(2 * 9) if parameterization == "ntk" else 1)


@pytest.mark.parametrize(
    ("init", "variance"),
    [("normal", 4 / 400), ("torch", 1 / 1200), ("he", 2 / 400), ("he_out", 2 / 400), ("xavier", 2 / 800)],
)
@pytest.mark.parametrize("parameterization", ["ntk", "standard"])
def test_variance_of_the_effective_weight(init, variance, parameterization):
    layer = Linear(400, 400, init=init, init_std=2.0, parameterization=parameterization, generator=seeded())
    assert (layer.weight * layer.scale).var().item() == pytest.approx(variance, rel=0.02)


def test_reset_repeats_a_draw_in_every_precision():
    layer = Linear(5, 3, bias="torch", generator=seeded(7))
    before = [p.clone() for p in layer.parameters()]
    layer.reset(seeded(8))
    assert not torch.equal(layer.weight, before[0])
    layer.reset(seeded(7))
    assert all(torch.equal(p, q) for p, q in zip(layer.parameters(), before, strict=True))
    layer.double().reset(seeded(7))
    assert all(torch.equal(p.float(), q) for p, q in zip(layer.parameters(), before, strict=True))


def test_normalisations_reset_to_the_identity_map():
    for layer in (LayerNorm(4), GroupNorm(2, 4)):
        with torch.no_grad():
            layer.weight.mul_(3)
            layer.bias.add_(1)
        layer.reset()
        assert torch.equal(layer.weight, torch.ones(4)) and torch.equal(layer.bias, torch.zeros(4))


def test_activations_gives_every_hidden_layer_and_leaves_no_hook():
    model = FCN(4, [5, 6], 3, generator=seeded())
    seen = activations(model, torch.randn(2, 4))
    assert [tuple(a.shape) for a in seen] == [(2, 5), (2, 6)]
    with pytest.raises(RuntimeError):
        activations(model, torch.randn(2, 3))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_elementwise_and_known_by_name(name):
    z = torch.linspace(-2, 2, 9, dtype=torch.float64)
    assert torch.equal(Activation(name)(z)[3:5], Activation(name)(z[3:5]))


def test_unknown_names_are_refused_with_the_nearest_one():
    with pytest.raises(InputError, match="did you mean 'relu'"):
        Activation("rleu")
    with pytest.raises(InputError, match="parameterization"):
        Linear(2, 2, parameterization="mup")
    with pytest.raises(InputError, match="bias"):
        Linear(2, 2, bias="ones")
