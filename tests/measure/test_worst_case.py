"""The worst error of a ReLU linearisation: against brute force over all sets, random moves, autograd and its limit."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.func import functional_call, jvp

from traindyn.compute import generator, normal
from traindyn.errors import InputError
from traindyn.learn.models import TwoLayer
from traindyn.measure.statistics import loglog_slope
from traindyn.measure.worst_case import DENSITY, relu_gap, relu_gap_bounds, relu_gap_limit, relu_shift


def brute(p, radius, a=None):
    """Every set of neurons with its best shifts, for both signs of the outer weights."""
    a = torch.ones_like(p) if a is None else a
    best = 0.0
    for sign in (1, -1):
        for size in range(1, len(p) + 1):
            for chosen in map(list, itertools.combinations(range(len(p)), size)):
                if (sign * a[chosen] > 0).all():
                    b = a[chosen].abs()
                    best = max(best, float(radius * b.norm() - b @ p[chosen].abs()))
    return best


def added(p, s):
    """What the neurons add to f - f_lin."""
    return (torch.relu(p + s) - torch.relu(p) - (p > 0) * s).sum(-1)


@pytest.mark.parametrize("m", [1, 2, 3, 5, 8])
def test_the_maximum_is_that_over_all_sets(m):
    p = normal(range(20), "brute", m)
    for radius in (0.0, 0.05, 0.7, 2.0, 10.0):
        found = relu_gap(p, radius)
        assert found.value.tolist() == pytest.approx([brute(row, radius) for row in p], abs=1e-12)
        shift = relu_shift(p, radius)
        assert (shift.norm(dim=-1) <= radius * (1 + 1e-12)).all() and (shift != 0).sum(-1).equal(found.moved)
        torch.testing.assert_close(added(p, shift), found.value, rtol=0, atol=1e-12)


def test_no_move_inside_the_ball_gains_more():
    p, radius = normal(range(3), "p", 6), 1.3
    best = relu_gap(p, radius).value
    s = torch.randn(3, 20000, 6, generator=generator(0, "moves"), dtype=torch.float64)
    s = radius * s / s.norm(dim=-1, keepdim=True)
    through = -p.sign()[:, None] * s.abs()
    for moves in (s, through):
        assert (added(p[:, None], moves) <= best[:, None] + 1e-12).all()
    assert (added(p[:, None], through).amax(-1) > 0.8 * best).all()


def test_it_is_the_supremum_for_a_network_with_equal_signs():
    net = TwoLayer(4, 50, train="first", scaling="lecture", outer="sign", generator=generator(1)).double()
    net.second.weight.data.fill_(1.0)
    x, start = normal([2], "x", 4)[0], net.first.weight.detach()
    p, radius = start @ x, 0.8
    move = relu_shift(p, radius * x.norm())[:, None] * x / x.norm() ** 2
    assert move.norm().item() == pytest.approx(radius)

    def output(W):
        return functional_call(net, {"first.weight": W}, (x[None],))

    value, slope = jvp(output, (start,), (move,))
    expected = relu_gap(p, radius * x.norm()).value.item() / math.sqrt(50)
    assert (output(start + move) - value - slope).item() == pytest.approx(expected, rel=1e-9)


def test_it_tends_to_its_limit_with_exponent_minus_a_sixth():
    assert relu_gap_limit(1.0) == pytest.approx(0.75 * (2 * math.pi) ** (-1 / 6))
    widths = [10**3, 10**4, 10**5]
    means = []
    for m in widths:
        found = relu_gap(normal(range(20), "limit", m), 1.0)
        means.append(found.value.mean().item() / math.sqrt(m))
        assert means[-1] == pytest.approx(relu_gap_limit(1.0, m), rel=0.1)
        assert found.moved.double().mean().item() == pytest.approx((DENSITY * m) ** (2 / 3), rel=0.1)
    assert loglog_slope(widths, means).value == pytest.approx(-1 / 6, abs=0.02)


def test_a_row_does_not_depend_on_its_neighbours_and_radii_broadcast():
    p = normal(range(4), "rows", 9)
    radii = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64)
    table = relu_gap(p[:, None], radii)
    assert table.value.shape == (4, 3)
    for i, radius in itertools.product(range(4), range(3)):
        assert table.value[i, radius] == relu_gap(p[i], float(radii[radius])).value
    assert relu_shift(p[:, None], radii).shape == (4, 3, 9)


@pytest.mark.parametrize("m", [1, 3, 6, 8])
def test_bounds_hold_the_maximum_for_any_outer_weights(m):
    p, a = normal(range(20), "p", m), normal(range(20), "a", m)
    for radius in (0.1, 1.0, 5.0):
        low, high = relu_gap_bounds(p, radius, a)
        exact = torch.tensor([brute(p[i], radius, a[i]) for i in range(20)], dtype=torch.float64)
        assert (low <= exact + 1e-12).all() and (exact <= high + 1e-12).all()
        equal, above = relu_gap_bounds(p, radius, torch.ones_like(p))
        torch.testing.assert_close(equal, relu_gap(p, radius).value, rtol=0, atol=1e-12)
        assert (above >= equal - 1e-12).all()


def test_bounds_close_as_the_width_grows():
    p, a = normal(range(5), "p", 10**4), normal(range(5), "a", 10**4)
    low, high = relu_gap_bounds(p, 1.0, a)
    assert ((high - low) / high < 1e-3).all() and (low > 0).all()
    assert relu_gap_bounds(p[0], 1.0, torch.zeros(10**4, dtype=torch.float64)) == (0, 0)


@pytest.mark.parametrize(
    ("p", "radius", "words"),
    [
        (torch.tensor([1, 2]), 1.0, "floating-point"),
        (torch.zeros(3, 0), 1.0, "m >= 1"),
        (torch.tensor([1.0, math.nan]), 1.0, "finite"),
        (torch.ones(2), -1.0, "at least 0"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(p, radius, words):
    for call in (relu_gap, relu_shift):
        with pytest.raises(InputError, match=words) as caught:
            call(p, radius)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="outer"):
        relu_gap_bounds(torch.ones(3), 1.0, torch.ones(2))
