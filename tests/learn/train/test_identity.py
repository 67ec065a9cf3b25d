"""What counts as the same network, the same function, the same training."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from traindyn import compute
from traindyn.errors import InputError
from traindyn.learn.models import FCN
from traindyn.learn.train import Probe, fit
from traindyn.learn.train.identity import alike, digest
from traindyn.measure.spectrum import relative, times_critical

X = torch.randn(12, 4, dtype=torch.float64, generator=compute.generator(0))
y = torch.randn(12, dtype=torch.float64, generator=compute.generator(1))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.5, "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=5,
)


@given(VALUES, VALUES)
def test_closures_count_by_the_values_in_them(a, b):
    def of(value):
        return lambda f, t: (f, t, value)

    equal = repr(a) == repr(b) or (a == b and digest(a) == digest(b))
    assert (digest(of(a)) == digest(of(b))) == equal
    assert (digest(functools.partial(of, a)) == digest(functools.partial(of, b))) == equal


def test_code_tensors_and_rates_count():
    assert digest(lambda f: f + 1) != digest(lambda f: f + 2)
    assert digest(torch.ones(3)) == digest(torch.ones(3)) != digest(torch.ones(3).double())
    assert digest(np.arange(3)) != digest(np.arange(3) + 1)
    assert digest(times_critical(0.3)) != digest(times_critical(0.9)) != digest(relative(0.9))
    loop = []
    loop.append(lambda: loop)  # a circle ends
    assert digest(loop)


class Scaled(nn.Module):
    def __init__(self, seed, **plain):
        super().__init__()
        self.a = nn.Linear(4, 1)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.a.reset_parameters()
        vars(self).update(plain)

    def forward(self, x):
        return self.a(x).squeeze(1) * getattr(self, "_factor", 1.0)


def test_any_plain_attribute_makes_networks_differ():
    assert alike(Scaled(1), Scaled(2)) and not alike(Scaled(1, _factor=1.0), Scaled(1, _factor=2.0))
    assert not alike(Scaled(1), Scaled(1, table=[1, 2])) and alike(
        Scaled(1, t=[1, {"a": X}]), Scaled(2, t=[1, {"a": X}])
    )
    assert not alike(Scaled(1), Scaled(1).eval())
    hooked = Scaled(1)
    hooked.a.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert not alike(Scaled(1), hooked)


@pytest.mark.parametrize("together", [None, 1, 2, 4])
def test_networks_that_differ_are_never_trained_as_one_another(together):
    def build(seed):  # the first and the last are alike
        return Scaled(seed, _factor=2.0 if seed in (2, 3) else 1.0)

    run = fit(build, X, y, lr=0.1, steps=3, seeds=[1, 2, 3, 4], together=together)
    for seed in (1, 2, 3, 4):
        alone = fit(build, X, y, lr=0.1, steps=3, seeds=[seed])
        np.testing.assert_allclose(run.frame[run.frame["seed"] == seed]["loss"], alone.frame["loss"], rtol=1e-12)
    assert run.meta["together"] <= 2 and (together == 1 or "differ" in run.meta["apart"][0])


def network(activation="tanh"):
    return FCN(4, 6, 2, activation=activation)


BASE = {"model": network(), "X": X, "y": y, "lr": 0.1, "loss": "mse", "optimizer": "sgd"}


def weighted(factor):
    return lambda f, t: factor * (f - t).square().mean()


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        ({}, {"model": network("relu")}, "architecture"),
        ({}, {"loss": "half_mse"}, "loss"),
        ({"loss": weighted(1.0)}, {"loss": weighted(2.0)}, "loss"),
        ({}, {"optimizer": "adam"}, "rule"),
        ({}, {"X": X + 1e-9}, "data"),
        ({}, {"y": -y}, "data"),
        ({"lr": times_critical(0.3)}, {"lr": times_critical(0.9)}, "rates"),
        ({"lr": relative(0.3)}, {"lr": relative(0.9)}, "rates"),
        ({}, {"seeds": [3, 5]}, "seeds"),
        ({}, {"stop": 0.1}, "stop"),
        ({}, {"probes": {"p": Probe(lambda s: {"a": s.loss})}}, "probes"),
    ],
)
def test_another_trainings_checkpoint_is_refused_by_name(tmp_path, first, second, named):
    def run(options):
        options = {"seeds": [3, 4], "together": 2, **BASE, **options}
        return fit(options.pop("model"), options.pop("X"), options.pop("y"), steps=3, checkpoint=tmp_path, **options)

    whole = run(first)
    again = run(first)
    np.testing.assert_array_equal(whole.frame["loss"], again.frame["loss"])
    with pytest.raises(InputError, match=f"another training .*{named}"):
        run(second)
