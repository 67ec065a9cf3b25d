"""Local elasticity against its definition, done slowly, and against its limits."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from traindyn import losses
from traindyn.compute import generator
from traindyn.errors import InputError
from traindyn.learn.models import FCN, ResNet
from traindyn.measure import elasticity


def net(out_dim: int = 1, seed: int = 0, activation: str = "tanh") -> FCN:
    model = FCN(4, 9, 3, out_dim, activation, "standard", "torch", "torch", init="torch", generator=generator(seed))
    return model.double()


def points(n: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, 4, generator=generator(seed), dtype=torch.float64)


def slow_change(model, x_prime, x, y, lr, loss):
    """One fictitious step after the other, on a copy, by torch's own optimiser."""
    changes = []
    for point, label in zip(x, y, strict=True):
        moved = copy.deepcopy(model)
        losses.value(loss, moved(point[None]), label[None]).backward()
        torch.optim.SGD(moved.parameters(), lr).step()
        with torch.no_grad():
            changes.append(moved(x_prime) - model(x_prime))
    return torch.stack(changes, 1)


def test_definition_1_is_what_it_says():
    model, x_prime, x = net(), points(5), points(3, 2)
    y = torch.tensor([1.0, -2.0, 0.3], dtype=torch.float64)
    top = slow_change(model, x_prime, x, y, 0.1, "half_sum").abs()
    bottom = slow_change(model, x, x, y, 0.1, "half_sum").diagonal().abs()
    torch.testing.assert_close(elasticity.s_rel(model, x_prime, x, y, 0.1), top / bottom, rtol=1e-10, atol=0)


def test_definition_2_is_what_it_says():
    model, x_prime, x, y = net(3), points(5), points(4, 2), torch.tensor([0, 2, 1, 0])

    def kl(at):
        old = model(at).detach()
        new = old[:, None] + slow_change(model, at, x, y, 0.1, "cross_entropy")
        p, q = new.softmax(-1), old.softmax(-1)[:, None]
        return (p * (p / q).log()).sum(-1)

    expected = kl(x_prime) / kl(x).diagonal()
    torch.testing.assert_close(elasticity.s_rel_kl(model, x_prime, x, y, 0.1), expected, rtol=1e-9, atol=0)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), lr=st.floats(1e-4, 0.5))
def test_a_point_is_as_elastic_as_itself(seed, lr):
    model, x = net(seed=seed), points(4, seed)
    s = elasticity.s_rel(model, x, x, x.abs().sum(-1), lr)
    torch.testing.assert_close(s.diagonal(), torch.ones(4, dtype=torch.float64), rtol=1e-9, atol=0)
    labels = torch.tensor([0, 1, 2, 0])
    s = elasticity.s_rel_kl(net(3, seed), x, x, labels, lr)
    torch.testing.assert_close(s.diagonal(), torch.ones(4, dtype=torch.float64), rtol=1e-6, atol=0)


def test_limits_are_reached_at_first_order():
    model, x_prime, x = net(), points(6), points(5, 2)
    y = x.abs().sum(-1)
    limit = elasticity.s_rel_limit(model, x_prime, x)
    gaps = [(elasticity.s_rel(model, x_prime, x, y, lr) - limit).abs().max() for lr in (1e-4, 1e-5)]
    assert 8 < gaps[0] / gaps[1] < 12
    model, labels = net(3), torch.tensor([0, 1, 2, 1, 0])
    limit = elasticity.s_rel_kl_limit(model, x_prime, x, labels)
    gaps = [((elasticity.s_rel_kl(model, x_prime, x, labels, lr) - limit) / limit).abs().max() for lr in (1e-2, 1e-3)]
    assert 8 < gaps[0] / gaps[1] < 12


def test_definition_1_of_a_linear_model_does_not_depend_on_label_step_or_scale():
    weight = torch.nn.Linear(4, 1, bias=False).double()
    model = torch.nn.Sequential(weight, torch.nn.Flatten(0))
    x_prime, x = points(6), points(5, 2)
    expected = (x_prime @ x.T).abs() / x.square().sum(-1)
    for y, lr in [(torch.ones(5, dtype=torch.float64), 0.1), (points(5, 3)[:, 0], 1e-3)]:
        torch.testing.assert_close(elasticity.s_rel(model, x_prime, x, y, lr), expected, rtol=1e-9, atol=1e-12)


def test_same_points_twice_or_once_give_the_same_limit():
    model = ResNet((1, 6, 6), 3, 2, (1, 1), generator=generator(0)).double()
    x = torch.randn(6, 1, 6, 6, generator=generator(1), dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    once, own = elasticity.kl_limit(model, x, x, y)
    twice, own_twice = elasticity.kl_limit(model, x.clone(), x, y)
    torch.testing.assert_close(once, twice, rtol=1e-10, atol=0)
    torch.testing.assert_close(own, own_twice, rtol=1e-10, atol=0)


def test_smoothed_blocks():
    classes, k = 3, 4
    at_points = torch.rand(12, 12, generator=generator(0), dtype=torch.float64) + 0.1
    own = at_points.diagonal().clone()
    found = elasticity.s_rel_smoothed(at_points, own, classes)
    ratio = at_points / own
    for c1 in range(classes):
        for c2 in range(classes):
            rows, cols = slice(c1 * k, c1 * k + k), slice(c2 * k, c2 * k + k)
            block = ratio[rows, cols]
            assert torch.isclose(found.mean[c1, c2], block.mean())
            keep = ~torch.eye(k, dtype=torch.bool) if c1 == c2 else torch.ones(k, k, dtype=torch.bool)
            assert torch.isclose(found.off_diagonal[c1, c2], block[keep].mean())
            assert torch.isclose(found.median[c1, c2], block[keep].median())
            top = at_points[rows, cols][keep].mean()
            assert torch.isclose(found.ratio_of_means[c1, c2], top / own[cols].expand(k, k)[keep].mean())
    gap = found.mean - found.off_diagonal - (1 - found.off_diagonal) / k
    assert gap.diagonal().abs().max() < 1e-12


def test_frozen_weights_do_not_move():
    model, x_prime, x = net(), points(5), points(3, 2)
    y = torch.ones(3, dtype=torch.float64)
    everything = elasticity.s_rel(model, x_prime, x, y, 1e-3)
    model.layers[0].weight.requires_grad_(False)
    frozen = elasticity.s_rel(model, x_prime, x, y, 1e-3)
    model.layers[0].weight.requires_grad_(True)
    assert not torch.allclose(everything, frozen)
    expected = slow_change_without_first_layer(model, x_prime, x, y)
    torch.testing.assert_close(frozen, expected, rtol=1e-9, atol=0)


def slow_change_without_first_layer(model, x_prime, x, y):
    frozen = copy.deepcopy(model)
    frozen.layers[0].weight.requires_grad_(False)
    top = slow_change(frozen, x_prime, x, y, 1e-3, "half_sum").abs()
    return top / slow_change(frozen, x, x, y, 1e-3, "half_sum").diagonal().abs()


def test_an_unmoved_sample_is_undefined_not_zero():
    model, x = net(), points(3)
    s = elasticity.s_rel(model, points(2, 5), x, model(x).detach(), 0.1)  # no residual, no step
    assert s.isnan().all()


def test_the_model_is_left_alone_and_chunks_do_not_matter():
    model, x_prime, x = net(activation="relu"), points(5), points(7, 2)
    before = {name: p.clone() for name, p in model.named_parameters()}
    y = x.sum(-1)
    torch.testing.assert_close(
        elasticity.s_rel(model, x_prime, x, y, 0.1, chunk=2),
        elasticity.s_rel(model, x_prime, x, y, 0.1),
        rtol=1e-12,
        atol=0,
    )
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) and p.grad is None


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="as many labels as sampled points"):
        elasticity.s_rel(net(), points(2), points(3), torch.ones(2), 0.1)
    with pytest.raises(InputError, match="square matrix over 4 classes"):
        elasticity.s_rel_smoothed(torch.ones(6, 6), torch.ones(6), 4)


def test_divergence_of_close_and_of_far_distributions():
    old = torch.randn(5, 4, generator=generator(0), dtype=torch.float64)
    far = torch.randn(5, 4, generator=generator(1), dtype=torch.float64)
    p, q = far.softmax(-1), old.softmax(-1)
    torch.testing.assert_close(elasticity.kl_divergence(far, old), (p * (p / q).log()).sum(-1), rtol=1e-12, atol=0)
    # to second order KL(q + dq, q) = Var_q(v) eps^2 / 2 for logits moved by eps v
    v = torch.randn(5, 4, generator=generator(2), dtype=torch.float64)
    variance = (q * v.square()).sum(-1) - (q * v).sum(-1).square()
    close = elasticity.kl_divergence(old + 1e-6 * v, old)
    torch.testing.assert_close(close, variance * 1e-12 / 2, rtol=1e-5, atol=0)
    assert (elasticity.kl_divergence(old.float() + 1e-6 * v.float(), old.float()) >= 0).all()
