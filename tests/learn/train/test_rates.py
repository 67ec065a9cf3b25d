"""Rates: multiples of a run's own critical rate, rates per seed, and rates that stand in the frame as given."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from traindyn.errors import InputError
from traindyn.learn.models import FCN, drawn
from traindyn.learn.train import Cyclical, Probe, fit
from traindyn.measure.ntk import empirical_ntk
from traindyn.measure.spectrum import critical_lr, relative, times_critical

D = torch.float64


def data(seed, out=2):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(12, 4, dtype=D, generator=rng), torch.randn(12, out, dtype=D, generator=rng)


def net(out=2):
    return FCN(4, 8, 3, out, "tanh")


def start(seed, loss, X=None):
    X = data(seed)[0] if X is None else X
    return critical_lr(empirical_ntk(drawn(net(), seed, D), X, outputs="full"), n=12, loss=loss).item()


@pytest.mark.parametrize("loss", ["mse", "mse_entries", "half_sum"])
@pytest.mark.parametrize("together", [1, 4])
def test_relative_rates_are_multiples_of_each_runs_own_start(loss, together):
    run = fit(
        net(), data, loss=loss, lr=[relative(0.5), relative(0.2)], schedule=[(2, relative(0.1)), (4, 0.01)], steps=5,
        seeds=[3, 4], together=together,
    )  # fmt: skip
    assert run.meta["together"] == together
    for seed, rows in run.frame.groupby("seed"):
        own = start(seed, loss)
        np.testing.assert_allclose(rows["reference"], own, rtol=1e-10)
        for ratio, part in rows.groupby("lr_ratio"):
            np.testing.assert_allclose(part["rate"], [ratio * own] * 2 + [0.1 * own] * 2 + [0.01] * 2, rtol=1e-10)
            np.testing.assert_allclose(part["lr"], ratio * own, rtol=1e-10)
    assert run.summary["ratio_2"].tolist() == [0.1] * 4 and run.summary["rate_4"].tolist() == [0.01] * 4
    np.testing.assert_allclose(run.summary["rate_2"], 0.1 * run.summary["reference"], rtol=1e-12)


def test_relative_rates_train_as_the_same_numbers_would():
    asked = fit(
        net(), data, lr=relative(0.5), schedule=Cyclical(relative(0.1), relative(0.9), 4), steps=6, seeds=[3, 4]
    )
    for seed in (3, 4):
        own = start(seed, "mse")
        given = fit(net(), data, lr=0.5, schedule=Cyclical(0.1 * own, 0.9 * own, 4), steps=6, seeds=[seed])
        rows = asked.frame[asked.frame["seed"] == seed]
        np.testing.assert_allclose(rows["loss"], given.frame["loss"], rtol=1e-9)
        np.testing.assert_allclose(rows["rate"], given.frame["rate"], rtol=1e-9)


def test_the_reference_is_asked_once_per_run_at_its_initial_weights():
    calls = []

    def norm(state):
        calls.append((state.seed, state.step))
        return sum((p - state.initial[name]).square().sum() for name, p in state.params.items()) + state.seed

    @dataclass(frozen=True)
    class Own:
        ratio: float
        reference: object = norm

    schedule = [(2, Own(0.3)), (3, Own(0.4))]
    run = fit(net(), data, lr=0.01, schedule=schedule, steps=4, seeds=[3, 4])
    assert sorted(calls) == [(3, 0), (4, 0)] and run.summary["reference"].tolist() == [3, 4]
    assert run.summary["lr_ratio"].isna().all() and run.summary["ratio_3"].tolist() == [0.4, 0.4]


def test_times_critical_asks_the_moment_and_relative_the_start():
    X, y = data(0)
    run = fit(net(), X, y, lr=relative(0.9), schedule=[(30, times_critical(0.5)), (31, relative(0.5))], steps=32)
    rates = run.frame.set_index("step")["rate"]
    assert rates[31] == pytest.approx(0.5 * run.summary["reference"][0]) and abs(rates[30] / rates[31] - 1) > 1e-3
    assert relative(0.3) == relative(0.3) and relative(0.3) != relative(0.9) and hash(relative(0.3)) is not None
    assert times_critical(0.3) != times_critical(0.9)


def test_rates_per_seed():
    X, y = data(0)
    run = fit(net(), X, y, lr={3: 0.1, 4: [0.2, 0.3]}, schedule=[(2, {3: 0.01, 4: 0.02})], steps=3, seeds=[3, 4])
    assert run.summary[["seed", "lr", "rate_2"]].values.tolist() == [[3, 0.1, 0.01], [4, 0.2, 0.02], [4, 0.3, 0.02]]
    alone = fit(net(), X, y, lr=0.3, schedule=[(2, 0.02)], steps=3, seeds=[4])
    np.testing.assert_allclose(run.frame[run.frame["lr"] == 0.3]["loss"], alone.frame["loss"], rtol=1e-12)
    with pytest.raises(InputError, match="none is given for seed 5"):
        fit(net(), X, y, lr={3: 0.1}, steps=1, seeds=[3, 5])


@pytest.mark.parametrize("dtype", [torch.float32, D])
def test_rates_stand_in_the_frame_as_they_were_given(dtype):
    X, y = data(0)
    run = fit(net(), X.to(dtype), y.to(dtype), lr=[0.1, 0.3], schedule=[(2, 0.7)], steps=3, seeds=[1, 2])
    assert len(run.frame[run.frame["lr"] == 0.1]) == 8 and (run.frame["rate"] == 0.3).sum() == 4
    assert (run.frame["rate"] == 0.7).sum() == 8 and run.frame["rate"].dtype == np.float64
    waves = fit(net(), X, y, lr=0.1, schedule=Cyclical(0.0, 0.4, 4), steps=2)
    assert (waves.frame["lr"] == 0.1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": relative(math.nan)}, "finite"),
        ({"lr": {}}, "none is given"),
        ({"lr": "fast"}, "learning rate"),
    ],
)
def test_mistakes_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        fit(net(), *data(0), steps=1, **options)
    with pytest.raises(InputError, match="function"):
        Cyclical(lambda state: 0.1, 0.2, 4)
    with pytest.raises(InputError, match="period"):
        Cyclical(0.1, 0.2, 1)
    with pytest.raises(InputError, match="taken"):
        fit(net(), *data(0), lr=0.1, steps=1, probes={"x": Probe(lambda s: {"reference": s.loss})})


def test_drawn_is_what_fit_draws():
    X, y = data(0)
    model = net()
    before = [p.clone() for p in model.parameters()]
    run = fit(model, X, y, lr=0.1, steps=0, seeds=[5])
    copy = drawn(model, 5, D)
    assert all(torch.equal(a, b) for a, b in zip(copy.parameters(), run.models[0].parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    with pytest.raises(InputError, match="reset"):
        drawn(torch.nn.Linear(2, 1), 0)
