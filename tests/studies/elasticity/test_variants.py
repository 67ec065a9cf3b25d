"""The five readings of Definition 2, against torch itself and against closed forms."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from traindyn.errors import InputError
from traindyn.measure import elasticity
from traindyn.studies.elasticity import variants


@pytest.fixture
def case():
    """A small network in float64, six points of three classes, and the positions of two that are stepped on."""
    draws = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=draws, dtype=torch.float64))
    x = torch.randn(6, 4, generator=draws, dtype=torch.float64)
    return model, x, torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([1, 4])


@pytest.mark.parametrize(("name", "optimizer"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)])
def test_a_step_is_torchs(case, name, optimizer):
    model, x, y, sampled = case
    before, after, _ = variants.stepped(model, x, y, sampled, 0.01)
    assert torch.allclose(before, model(x).detach())
    for column, point in enumerate(sampled.tolist()):
        moved = copy.deepcopy(model)
        F.cross_entropy(moved(x[[point]]), y[[point]]).backward()
        optimizer(moved.parameters(), lr=0.01).step()
        assert torch.allclose(after[name][column], moved(x), rtol=1e-9)


@pytest.mark.filterwarnings("ignore:reduction. 'mean'")
def test_every_ratio_against_torchs_own_functions(case):
    model, x, y, sampled = case
    before, after, _ = variants.stepped(model, x, y, sampled, 0.01)
    found = variants.ratios(before, after, sampled)
    old, new = before.softmax(-1), after["adam"].softmax(-1)
    for column, point in enumerate(sampled.tolist()):
        kl = F.kl_div(old.log(), new[column], reduction="none").sum(-1)
        released = torch.stack([F.kl_div(n, o) for n, o in zip(new[column], old, strict=True)])
        change = F.mse_loss(new[column], old, reduction="none").mean(-1).sqrt()
        assert torch.allclose(found["adam"][:, column], kl / kl[point], rtol=1e-6)
        assert torch.allclose(found["released"][:, column], released / (released[point] + 1e-8))
        assert torch.allclose(found["softmax"][:, column], change / change[point])


def test_a_small_step_approaches_the_limit(case):
    model, x, y, sampled = case
    limit, own = variants.limits(model, x, y)["limit"]
    wanted = elasticity.kl_limit(model, x, x, y)
    assert torch.allclose(limit, wanted[0]) and torch.allclose(own, wanted[1])
    finite = variants.ratios(*variants.stepped(model, x, y, sampled, 1e-6))["finite"]
    assert torch.allclose(finite, (limit / own)[:, sampled], rtol=1e-4)


def test_without_the_label(case):
    model, x, y, _ = case
    found = variants.limits(model, x, y)
    other, own = found["other label"]
    wanted = elasticity.kl_limit(model, x, x, (y + 1) % 3)
    assert torch.allclose(other, wanted[0]) and torch.allclose(own, wanted[1])
    relabelled = variants.limits(model, x, (y + 2) % 3)
    assert torch.allclose(found["kernel"][0], relabelled["kernel"][0])
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(model(x[[i]])[0, c], list(model.parameters()))])
        for i in (0, 3)
        for c in range(3)
    ]
    gram = torch.stack(rows) @ torch.stack(rows).T
    assert found["kernel"][0][0, 3].item() == pytest.approx(gram[:3, 3:].square().sum().item())


def test_the_released_expression_does_not_vanish_and_shrinks_with_the_change():
    uniform, certain = torch.full((3,), 1 / 3, dtype=torch.float64), torch.tensor([1.0, 0, 0], dtype=torch.float64)
    assert variants.unchanged(uniform).item() == pytest.approx(-(math.log(3) + 1 / 3) / 3)
    assert variants.unchanged(certain).item() == pytest.approx(-1 / 3)
    sizes = [abs(variants.released_change(variants.softmax_of(logit, 0, 0), certain).item()) for logit in (9, 3, 1, 0)]
    assert sizes == sorted(sizes, reverse=True)  # the farther from the confident prediction, the smaller


def test_blocks_leave_out_a_point_with_itself():
    classes, sampled = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 2, 3])
    ratio = torch.arange(12, dtype=torch.float64).reshape(4, 3)
    found = variants.class_blocks(ratio, classes, sampled, 2)
    assert found["off_diagonal"].tolist() == [[3.0, 3.0], [7.5, (8 + 10) / 2]]
    assert found["median"][1, 1] == 8  # of 8 and 10, torch's lower median


def test_a_step_has_to_be_positive(case):
    with pytest.raises(InputError, match="lr"):
        variants.stepped(*case, 0.0)
