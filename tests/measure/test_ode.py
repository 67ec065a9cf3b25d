"""The integrator: its order, its path, and fields that depend on time."""

import math

import pytest
import torch

from traindyn.errors import InputError
from traindyn.measure.ode import rk4, rk4_path

ONE = torch.ones(2, dtype=torch.float64)


def test_a_field_that_depends_on_time_at_fourth_order():
    gaps = []
    for steps in (20, 40):
        path = rk4_path(lambda t, w: math.cos(t) * w, ONE, 2 / steps, steps)
        exact = torch.sin(torch.linspace(0, 2, steps + 1, dtype=torch.float64)).exp()
        assert path.shape == (steps + 1, 2)
        gaps.append((path[:, 0] - exact).abs().max().item())
    assert 14 < gaps[0] / gaps[1] < 18


def test_the_path_ends_where_the_flow_does():
    path = rk4_path(lambda t, w: -w * w, ONE, 0.1, 10)
    assert torch.equal(path[-1], rk4(lambda w: -w * w, ONE, 1.0, 10)) and torch.equal(path[0], ONE)
    for call in (lambda: rk4(lambda w: w, ONE, 1.0, 0), lambda: rk4_path(lambda t, w: w, ONE, 1.0, 0)):
        with pytest.raises(InputError, match="at least 1"):
            call()
