"""Networks: the functions they are said to be, their shapes, and that a generator fixes them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from traindyn.errors import InputError
from traindyn.learn.models import CNN, FCN, Myrtle5, ResNet, ResNet18, TwoLayer, ViT, WideResNet

D = torch.float64
IMAGE = (3, 8, 8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=D, generator=seeded(seed))


NETWORKS = {
    "fcn": (lambda c, g: FCN(5, 6, 3, c, bias="normal", generator=g), (5,)),
    "cnn": (lambda c, g: CNN(IMAGE, [3, 4], 3, c, generator=g), IMAGE),
    "cnn mean": (lambda c, g: CNN(IMAGE, 4, 3, c, readout="mean", bias="normal", generator=g), IMAGE),
    "myrtle": (lambda c, g: Myrtle5(IMAGE, c, channels=4, generator=g), IMAGE),
    "resnet": (lambda c, g: ResNet(IMAGE, c, width=4, blocks=(1, 1), generator=g), IMAGE),
    "resnet18": (lambda c, g: ResNet18(IMAGE, c, width=2, generator=g), IMAGE),
    "wide resnet": (lambda c, g: WideResNet(IMAGE, c, widen=1, base=4, generator=g), IMAGE),
    "wide resnet with norm": (lambda c, g: WideResNet(IMAGE, c, 16, widen=1, base=4, norm="group", generator=g), IMAGE),
    "vit": (lambda c, g: ViT(IMAGE, c, depth=2, dim=8, heads=2, generator=g), IMAGE),
    "two layers": (lambda c, g: TwoLayer(5, 6, c, mirrored=True, outer="sign", generator=g), (5,)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("outputs", [1, 3])
def test_shapes_and_reset(name, outputs):
    make, shape = NETWORKS[name]
    model = make(outputs, seeded(3)).double()
    x = randn(4, *shape)
    f = model(x)
    assert f.shape == ((4,) if outputs == 1 else (4, outputs))
    assert torch.allclose(torch.cat([model(row[None]) for row in x]), f, atol=1e-10)  # samples do not interact
    model.reset(seeded(4))
    assert name == "two layers" or not torch.allclose(model(x), f)


@pytest.mark.parametrize("name", NETWORKS)
def test_reset_draws_every_parameter_again(name):
    make, _ = NETWORKS[name]
    model, again = make(2, seeded(3)), make(2, seeded(3))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    model.reset(seeded(3))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))


def test_fcn_is_its_formula():
    model, x = FCN(5, 6, 3, activation="tanh", generator=seeded()).double(), randn(4, 5)
    W1, W2, W3 = model.parameters()
    hidden = torch.tanh(torch.tanh(x @ W1.T / math.sqrt(5)) @ W2.T / math.sqrt(6))
    assert torch.allclose(model(x), (hidden @ W3.T / math.sqrt(6)).squeeze(1))


def test_cnn_flattens_or_averages_before_the_linear_layer():
    x = randn(2, *IMAGE)
    for readout in ("flatten", "mean"):
        model = CNN(IMAGE, 4, 2, readout=readout, generator=seeded()).double()
        W, v = model.parameters()
        hidden = F.conv2d(x, W / math.sqrt(27), padding=1).relu()
        last = hidden.flatten(1) if readout == "flatten" else hidden.mean((2, 3))
        assert torch.allclose(model(x), (last @ v.T).squeeze(1) / math.sqrt(last.shape[1]))


def test_wide_resnet_has_the_named_depth_and_widths():
    model = WideResNet((3, 32, 32), 10, depth=16, widen=2)
    convs = [p for p in model.parameters() if p.dim() == 4 and p.shape[-1] == 3]
    assert len(convs) == 16 - 3  # the name also counts the linear layer and two of the shortcuts
    assert {p.shape[0] for p in convs} == {16, 32, 64, 128}


def test_attention_agrees_with_torchs():
    from traindyn.learn.models.base import Initial
    from traindyn.learn.models.vit import Attention

    ours = Attention(8, 2, Initial("standard", "normal", False, "normal", 1.0, seeded())).double()
    theirs = nn.MultiheadAttention(8, 2, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.project.weight)
        theirs.in_proj_bias.copy_(ours.project.bias)
        theirs.out_proj.weight.copy_(ours.merge.weight)
        theirs.out_proj.bias.copy_(ours.merge.bias)
    x = randn(3, 5, 8)
    assert torch.allclose(ours(x), theirs(x, x, x)[0])


@pytest.mark.parametrize(
    ("options", "factor", "inner"),
    [
        ({}, 1 / math.sqrt(6), 1 / math.sqrt(5)),
        ({"scaling": "lecture"}, 1 / math.sqrt(6), 1),
        ({"scaling": "mean_field"}, 1 / 6, 1),
        ({"scaling": "plain"}, 1, 1),
        ({"scaling": "lecture", "alpha": 3.0}, 3 / 6, 1),
    ],
)
def test_two_layer_scalings(options, factor, inner):
    model, x = TwoLayer(5, 6, generator=seeded(), **options).double(), randn(4, 5)
    expected = factor * ((inner * x @ model.first.weight.T).relu() @ model.second.weight.T).squeeze(1)
    assert torch.allclose(model(x), expected)


def test_two_layer_starts():
    wide = {"in_dim": 30, "width": 4000, "scaling": "plain", "generator": seeded()}
    assert torch.allclose(TwoLayer(inner="sphere", **wide).first.weight.norm(dim=1), torch.ones(4000))
    balanced = TwoLayer(inner="balanced", outer="balanced", **wide)
    assert balanced.first.weight.var().item() == pytest.approx(1 / (4000 * 30), rel=0.02)
    assert balanced.second.weight.var().item() == pytest.approx(1 / 4000, rel=0.1)
    assert set(TwoLayer(outer="sign", **wide).second.weight.unique().tolist()) == {-1.0, 1.0}
    assert not TwoLayer(outer="zero", **wide).second.weight.any()
    mirrored = TwoLayer(5, 8, mirrored=True, generator=seeded()).double()
    assert mirrored(randn(4, 5)).abs().max() < 1e-12
    assert mirrored.first.weight.std() > 0.5


def test_train_freezes_the_other_layer():
    first, second = TwoLayer(3, 4, train="first"), TwoLayer(3, 4, train="second")
    assert (first.first.weight.requires_grad, first.second.weight.requires_grad) == (True, False)
    assert (second.first.weight.requires_grad, second.second.weight.requires_grad) == (False, True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FCN(3, 4, 0), "depth"),
        (lambda: FCN(3, [4, 4], 2), "width"),
        (lambda: CNN(IMAGE, 4, 1), "depth"),
        (lambda: CNN(IMAGE, 4, 3, kernel=2), "odd kernel"),
        (lambda: CNN(IMAGE, [4], 3), "channels"),
        (lambda: CNN(IMAGE, 4, 3, readout="max"), "unknown readout"),
        (lambda: Myrtle5((3, 6, 6)), "divisible by 4"),
        (lambda: WideResNet(IMAGE, depth=12), "6 k"),
        (lambda: WideResNet(IMAGE, norm="batch"), "unknown norm"),
        (lambda: ViT((3, 9, 8)), "patch"),
        (lambda: ViT(IMAGE, dim=10, heads=4), "heads"),
        (lambda: TwoLayer(3, 5, mirrored=True), "even"),
        (lambda: TwoLayer(3, 4, scaling="ntkk"), "did you mean 'ntk'"),
        (lambda: ResNet18(IMAGE, 2, norm="batch"), "norm"),
    ],
)
def test_mistakes_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_the_resnet18_of_the_image_libraries():
    """The released form: its shapes, its layers' initial laws, and, layer by layer, torch's own arithmetic."""
    model = ResNet18((3, 32, 32), 3, stem="7x7", init="he_out", output_init="torch", generator=seeded(1))
    first = model.features[0]
    assert first.weight.shape == (64, 3, 7, 7) and first.stride == 2
    laws = [(first, 64 * 49), (model.features[3].first, 64 * 9), (model.features[-1].second, 512 * 9)]
    for layer, fan_out in laws:
        reference = torch.empty(layer.weight.shape)
        assert torch.nn.init._calculate_fan_in_and_fan_out(reference)[1] == fan_out
        assert layer.weight.var().item() == pytest.approx(2 / fan_out, rel=0.05)
    assert model.readout.weight.abs().max() <= 512**-0.5
    x = torch.randn(2, 3, 32, 32, generator=seeded(2))
    start = F.max_pool2d(F.relu(F.conv2d(x, first.weight, stride=2, padding=3)), 3, stride=2, padding=1)
    assert start.shape == (2, 64, 8, 8) and torch.allclose(model.features[:3](x), start)
    assert model.features(x).shape == (2, 512, 1, 1) and model(x).shape == (2, 3)
    with pytest.raises(InputError, match="stem"):
        ResNet18((3, 32, 32), 3, stem="5x5")
