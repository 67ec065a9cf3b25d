"""Training leaves what a plain torch loop leaves: running statistics, chance from the run's seed, untouched data."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from traindyn import compute
from traindyn.learn.train import Probe, fit

X = torch.randn(12, 4, dtype=torch.float64, generator=compute.generator(0))
y = torch.randn(12, dtype=torch.float64, generator=compute.generator(1))


def build(*middle):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), *middle, nn.Tanh(), nn.Linear(6, 1), nn.Flatten(0)).double()


def loop(model, steps):
    model = copy.deepcopy(model)
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        (model(X) - y).square().mean().backward()
        optimiser.step()
    return model


@pytest.mark.parametrize("trace", [True, False])
@pytest.mark.parametrize("probed", [True, False])
def test_running_statistics_are_counted_once_per_update(trace, probed):
    model = build(nn.BatchNorm1d(6))
    counts = Probe(lambda state: {"count": state.model[1].num_batches_tracked.clone() + 0 * state.model(state.X).sum()})
    run = fit(model, X, y, lr=0.1, steps=5, trace=trace, probes={"p": counts} if probed else None)
    expected, got = loop(model, 5), run.models[0]
    assert got[1].num_batches_tracked == 5 and model[1].num_batches_tracked == 0
    torch.testing.assert_close(got.eval()(X), expected.eval()(X), rtol=1e-9, atol=1e-12)
    if probed:
        assert run.frame["count"].tolist() == [0, 1, 2, 3, 4, 5]  # the state after so many updates


def test_chance_is_the_seeds_and_nobody_elses():
    def losses(elsewhere, **options):
        torch.manual_seed(elsewhere)
        before = torch.get_rng_state()
        run = fit(build(nn.Dropout(0.5)), X, y, lr=0.1, steps=6, vary=["order"], **options)
        assert torch.equal(torch.get_rng_state(), before)
        return run.frame.groupby("seed")["batch_loss"].agg(list)

    first = losses(1, seeds=[3, 4], batch_size=12, replacement=False)
    assert first.equals(losses(2, seeds=[3, 4], batch_size=12)) and first[3] != first[4]
    looked = losses(5, seeds=[3, 4], batch_size=12, probes={"p": Probe(lambda s: {"f": s.model(s.X).sum()})})
    assert looked.equals(first) and losses(6, seeds=[4], together=2)[4] == first[4]


@pytest.mark.parametrize("trace", [True, False])
def test_layers_that_work_in_place_leave_the_data_alone(trace):
    Z = X.clone()
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 1), nn.Flatten(0)).double()
    look = {"p": Probe(lambda state: {"f": state.model(state.X).sum()})}
    fit(model, Z, y, lr=0.1, steps=3, trace=trace, probes=look)
    assert torch.equal(Z, X)


class Moody(nn.Module):
    """Replays of its step give other numbers: it counts its calls."""

    def __init__(self):
        super().__init__()
        self.a, self.calls = nn.Linear(4, 1), 0

    def forward(self, x):
        self.calls += 1
        return self.a(x).squeeze(1) * (1 + self.calls)


def test_a_recorded_step_is_compared_with_the_written_one():
    run = fit(Moody(), X, y, lr=0.001, steps=4)
    assert not run.meta["traced"] and "other numbers" in run.meta["eager"]
    assert fit(build(), X, y, lr=0.1, steps=2).meta["traced"]


def test_the_record_says_how_it_was_made():
    run = fit(build(nn.Dropout(0.5)), X, y, lr=[0.1, 0.2], steps=2, schedule=[(1, 0.05)], stop=0.01, vary=["order"])
    assert run.meta["schedule"] == [[1, 0.05]] and run.meta["vary"] == ["order"] and run.meta["stop"]["loss"] == 0.01
    assert run.meta["together"] == 1 and "cannot be mapped over" in run.meta["apart"][0]
    assert fit(build(), X, y, lr=0.1, steps=1, trace=False).meta["eager"] == "trace=False"
    assert np.isfinite(run.summary["loss"]).all()
