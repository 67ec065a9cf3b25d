"""What measures ask of a network: chance, coupling and misfits are refused, and nothing is left behind."""

import pytest
import torch
from torch import nn

from traindyn import forward_pass
from traindyn.compute import generator, seeded
from traindyn.errors import InputError
from traindyn.measure.agop import agop

X = torch.randn(5, 4, generator=generator(0))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5)), "random"),
        (nn.BatchNorm1d(4), "other samples"),
        (nn.BatchNorm1d(4, track_running_stats=False).eval(), "other samples"),
        (nn.Linear(4, 2).double(), "dtype"),
        (nn.Unflatten(1, (2, 2)), "expected an output"),
        (lambda x: (x,), "tuple"),
    ],
)
def test_what_has_no_measure_is_refused_and_left_as_it_was(model, message):
    before = [t.clone() for t in model.buffers()] if isinstance(model, nn.Module) else []
    state = torch.get_rng_state()
    with pytest.raises(InputError, match=message):
        forward_pass.outputs(model, X)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, before, model.buffers() if isinstance(model, nn.Module) else []))


def test_a_layer_that_works_in_place_is_measured_exactly():
    linear = nn.Linear(4, 2)
    Z = X.clone()
    G = agop(nn.Sequential(nn.ReLU(inplace=True), linear), Z)
    torch.testing.assert_close(G, agop(lambda x: linear(torch.relu(x)), X))
    assert torch.equal(Z, X)


def test_seeded_draws_leave_the_generator_alone():
    state = torch.get_rng_state()
    with seeded(1, torch.device("cpu")) as drawn:
        assert not drawn()
        first = torch.rand(3)
        assert drawn()
    with seeded(1, torch.device("cpu")):
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), state)
