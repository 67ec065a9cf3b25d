"""fit: trajectories against torch's optimisers, batched against looped, probes, schedules, stops, saving."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from traindyn import compute, losses
from traindyn.errors import InputError
from traindyn.learn.models import FCN, ResNet
from traindyn.learn.train import Cyclical, Probe, Run, Stop, error_on, fit, loss_on, weight_distance
from traindyn.learn.train import parallel as runs_together
from traindyn.learn.train.sampling import Order

DTYPE = torch.float64
TORCH = {
    "sgd": (torch.optim.SGD, {}, 0.05),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}, 0.02),
    "nesterov": (torch.optim.SGD, {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01}, 0.02),
    "dampened": (torch.optim.SGD, {"momentum": 0.8, "dampening": 0.3}, 0.02),
    "rmsprop": (torch.optim.RMSprop, {}, 0.01),
    "rmsprop-centred": (torch.optim.RMSprop, {"centered": True, "momentum": 0.5, "alpha": 0.9}, 0.01),
    "adagrad": (torch.optim.Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.2}, 0.1),
    "adadelta": (torch.optim.Adadelta, {"rho": 0.8}, 1.0),
    "adam": (torch.optim.Adam, {"betas": (0.8, 0.95), "weight_decay": 0.02}, 0.01),
}
RULE_OF = {"nesterov": "sgd", "dampened": "sgd", "rmsprop-centred": "rmsprop"}


def regression(n=24, d=4, out=None, seed=0):
    rng = torch.Generator().manual_seed(seed)
    X = torch.randn(n, d, dtype=DTYPE, generator=rng)
    y = torch.randn(n, *([] if out is None else [out]), dtype=DTYPE, generator=rng)
    return X, y


def net(out=1, width=6, depth=3, d=4):
    return FCN(d, width, depth, out_dim=out, activation="tanh", bias="zero")


def weights(every=1):
    return Probe(lambda state: {"w": torch.cat([p.flatten() for p in state.model.parameters()])}, every)


def drawn(model, seed):
    model = model.to(DTYPE)
    model.reset(compute.generator(seed, "init"))
    return model


@pytest.mark.parametrize("together", [1, None])
@pytest.mark.parametrize("name", TORCH)
def test_trajectories_equal_torch_step_by_step(name, together):
    make, hyper, rate = TORCH[name]
    X, y = regression(out=2)
    run = fit(
        net(2), X, y, loss="mse_entries", optimizer={"name": RULE_OF.get(name, name), **hyper}, lr=[rate, rate / 3],
        steps=25, seeds=[3, 4], probes={"weights": weights()}, together=together,
    )  # fmt: skip
    model = drawn(net(2), 4)
    optimiser = make(model.parameters(), lr=rate / 3, **hyper)
    for step in range(26):
        theta = torch.cat([p.detach().flatten() for p in model.parameters()])
        np.testing.assert_allclose(run.arrays["w"][3, step], theta.numpy(), rtol=1e-10, atol=1e-13)
        optimiser.zero_grad()
        nn.functional.mse_loss(model(X), y).backward()
        optimiser.step()


def test_minibatches_equal_a_plain_loop_over_the_same_order():
    X, y = regression(n=20)
    run = fit(net(), X, y, optimizer="adam", lr=0.01, batch_size=6, steps=8, seeds=[5, 6], record=1)
    model = drawn(net(), 6)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    rows = run.frame[run.frame.seed == 6]
    for step, batch in enumerate(Order(20, 6, False, 6).steps(0, 8)):
        loss = ((model(X[batch]) - y[batch]) ** 2).mean()
        assert rows.batch_loss.iloc[step] == pytest.approx(loss.item(), rel=1e-10)
        assert rows.loss.iloc[step] == pytest.approx(((model(X) - y) ** 2).mean().item(), rel=1e-10)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@pytest.mark.parametrize("replacement", [False, True])
def test_order_is_a_function_of_seed_and_step(replacement):
    order = Order(10, 3, replacement, seed=1)
    whole = order.steps(0, 700)
    assert torch.equal(whole[390:520], Order(10, 3, replacement, seed=1).steps(390, 520))
    if replacement:
        counts = torch.bincount(whole.flatten(), minlength=10)
        assert (counts - 210).abs().max() < 6 * math.sqrt(210)  # binomial
    else:
        for epoch in whole[: 3 * 200].view(200, 9):
            assert len(epoch.unique()) == 9
    with pytest.raises(InputError, match="batch_size"):
        Order(10, 11, replacement, 0)


@pytest.mark.parametrize("case", ["full", "batches", "replacement", "stream", "per-seed", "cross_entropy", "resnet"])
def test_together_equals_one_by_one_whoever_shares_the_batch(case):
    X, y = regression()
    model, options = net(), {"lr": [0.02, 0.1], "steps": 12}
    if case in ("batches", "replacement"):
        options |= {"batch_size": 5, "replacement": case == "replacement", "record": 1}
    if case == "stream":
        X, y = lambda rng, seed: (lambda Z: (Z, Z.sum(1)))(torch.randn(7, 4, dtype=DTYPE, generator=rng)), None
    if case == "per-seed":
        X, y = (lambda seed: regression(seed=seed)), None
    if case == "cross_entropy":
        model, y, options["loss"] = net(3), torch.arange(24) % 3, "cross_entropy"
    if case == "resnet":
        model, X = ResNet((1, 6, 6), 1, width=2, blocks=(1,)), torch.randn(8, 1, 6, 6, dtype=DTYPE)
        y, options["optimizer"] = X.mean((1, 2, 3)), "adam"
    look = {"probes": {"f": Probe(lambda state: {"f": state.model(state.X[:2])}, every=4), "d": weight_distance(3)}}
    one = fit(model, X, y, seeds=[1, 2, 3], together=1, **options, **look)
    all_ = fit(model, X, y, seeds=[1, 2, 3], together=6, **options, **look)
    some = fit(model, X, y, seeds=[3, 2], together=3, **options, **look)
    assert all_.meta["together"] == 6 and one.meta["together"] == 1
    pd.testing.assert_frame_equal(one.frame, all_.frame, rtol=1e-9)
    np.testing.assert_allclose(one.arrays["f"], all_.arrays["f"], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(one.arrays["f"][4:], some.arrays["f"][:2], rtol=1e-8, atol=1e-12)
    for a, b in zip(one.models, all_.models, strict=True):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


def test_replayed_operations_equal_fresh_differentiation():
    X, y = regression()
    runs = [fit(net(), X, y, lr=0.1, steps=10, seeds=[1, 2], trace=trace) for trace in (True, False)]
    np.testing.assert_allclose(runs[0].frame.loss, runs[1].frame.loss, rtol=1e-12)


def test_frame_summary_and_last_state():
    X, y = regression()
    look = {"now": Probe(lambda s: {"norm": s.loss.sqrt(), "two": torch.stack([s.loss, s.loss])}, every=4, at=[1])}
    run = fit(net(), X, y, lr=[0.1, 0.2], steps=10, seeds=[1, 2], probes=look)
    assert list(run.frame.columns[:8]) == ["run", "seed", "lr", "lr_ratio", "step", "rate", "loss", "batch_loss"]
    assert len(run.frame) == 4 * 11 and list(run.summary.outcome) == ["finished"] * 4
    assert list(run.times["two"]) == [0, 1, 4, 8, 10] and run.arrays["two"].shape == (4, 5, 2)
    seen = run.frame[run.frame.norm.notna()]
    assert sorted(seen.step.unique()) == [0, 1, 4, 8, 10]
    np.testing.assert_allclose(seen.norm**2, seen.loss)
    for model, (_, row) in zip(run.models, run.frame[run.frame.step == 10].iterrows(), strict=True):
        assert ((model(X) - y) ** 2).mean().item() == pytest.approx(row.loss, rel=1e-10)
    sparse = fit(net(), X, y, lr=0.1, steps=10, batch_size=5, probes=look)
    assert list(sparse.frame.step) == [0, 1, 4, 8, 10] and sparse.frame.loss.notna().all()
    bare = fit(net(), X, y, lr=0.1, steps=10, batch_size=5, probes=look, record=0)
    assert list(bare.frame.step) == [0, 1, 4, 8, 10] and list(bare.frame.loss.notna()) == [1, 0, 0, 0, 1]


def test_seeds_fix_init_data_and_order_separately():
    def data(seed):
        return regression(seed=seed)

    options = {"lr": 0.05, "steps": 3, "batch_size": 8, "record": 1, "seeds": [1, 2]}
    first = {}
    for vary in [("init",), ("data",), ("order",)]:
        frame = fit(net(), data, vary=vary, **options).frame
        first[vary[0]] = [frame[frame.seed == seed].iloc[0] for seed in (1, 2)]
    assert first["init"][0].loss != first["init"][1].loss
    assert first["data"][0].loss != first["data"][1].loss
    assert first["order"][0].loss == first["order"][1].loss
    assert first["order"][0].batch_loss != first["order"][1].batch_loss
    with pytest.raises(InputError, match="reset"):
        fit(nn.Linear(4, 1), *regression(out=1), lr=0.1, steps=1, seeds=[1, 2])
    given = nn.Linear(4, 1)
    before = given.weight.clone()
    run = fit(given, *regression(out=1), lr=0.1, steps=2)
    assert torch.equal(given.weight, before) and not torch.equal(run.models[0].weight.float(), before)


def test_schedules_and_rate_functions():
    X, y = regression()
    frame = fit(net(), X, y, lr=0.1, schedule=[(3, 0.2), (5, lambda s: 0.01 * s.step)], steps=7, seeds=[1, 2]).frame
    np.testing.assert_allclose(frame[frame.run == 0].rate, [0.1] * 3 + [0.2] * 2 + [0.05] * 3)
    grid = fit(net(), X, y, lr=[0.1, 0.3], schedule=[(2, [0.2, 0.4])], steps=3)
    assert grid.summary[["lr", "rate_2"]].values.tolist() == [[0.1, 0.2], [0.1, 0.4], [0.3, 0.2], [0.3, 0.4]]
    wave = fit(net(), X, y, lr=0.1, schedule=Cyclical(0.0, 0.4, 4), steps=5).frame
    np.testing.assert_allclose(wave.rate, [0, 0.2, 0.4, 0.2, 0, 0.2])

    def critical(state):
        return 2 / state.loss.detach() if state.step else torch.tensor(0.03, dtype=DTYPE)

    critical.ratio = 1.5
    own = fit(net(), X, y, lr=critical, schedule=lambda s: 0.1 * s.loss_name.count("m") / (1 + s.step), steps=3)
    np.testing.assert_allclose(own.frame.rate, [0.1 / (1 + t) for t in range(4)])
    once = fit(net(), X, y, lr=[critical, 0.5], steps=2)
    assert once.summary.lr.tolist() == [0.03, 0.5] and once.summary.lr_ratio[0] == 1.5
    for bad in ([(0, 0.1)], [(2, 0.1), (2, 0.2)], 3, [(1, "x")]):
        with pytest.raises(InputError, match="schedule|learning rate"):
            fit(net(), X, y, lr=0.1, schedule=bad, steps=3)


def test_callable_schedule_changes_the_updates():
    X, y = regression()
    given = fit(net(), X, y, lr=9.0, schedule=lambda s: 0.05 * (s.step + 1), steps=6, seeds=[1, 2])
    listed = fit(net(), X, y, lr=0.05, schedule=[(t, 0.05 * (t + 1)) for t in range(1, 6)], steps=6, seeds=[1, 2])
    np.testing.assert_allclose(given.frame.loss, listed.frame.loss, rtol=1e-12)


@pytest.mark.parametrize("together", [1, 2])
def test_divergence_is_an_outcome(together):
    X, y = regression()

    def touchy(state):
        return {"top": torch.linalg.eigvalsh(torch.outer(f := state.model(state.X), f))[-1]}

    model = FCN(4, 6, 3, activation="quadratic")
    run = fit(model, X, y, lr=[1e-5, 50.0], steps=60, together=together, probes={"k": Probe(touchy, every=5)})
    assert run.summary.outcome.tolist() == ["finished", "diverged"]
    end = run.summary.steps[1]
    tail = run.frame[run.frame.run == 1]
    assert end < 60 and tail.step.max() == end and not math.isfinite(tail.loss.iloc[-1])
    assert np.isfinite(tail.loss.iloc[:-1]).all()
    bounded = fit(model, X, y, lr=50.0, steps=60, stop=Stop(diverged=1e3))
    assert not math.isfinite(run.summary.loss[1])
    assert bounded.summary.outcome[0] == "diverged" and 1e3 < bounded.frame.loss.iloc[-1] < math.inf


@pytest.mark.parametrize("together", [1, 4])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_stopping_holds_the_weights_there(together, optimizer):
    X = torch.eye(4, dtype=DTYPE)
    y = torch.arange(4.0, dtype=DTYPE)
    full = fit(net(), X, y, lr=[0.05, 0.02], steps=300, seeds=[1, 2], optimizer=optimizer)
    run = fit(net(), X, y, lr=[0.05, 0.02], steps=300, seeds=[1, 2], stop=0.5, together=together, optimizer=optimizer)
    assert set(run.summary.outcome) == {"stopped"}
    for index, row in run.summary.iterrows():
        curve = full.frame[full.frame.run == index]
        assert row.steps == curve[curve.loss <= 0.5].step.min()
        assert ((run.models[index](X) - y) ** 2).mean().item() == pytest.approx(row.loss, rel=1e-10)
    when = fit(net(), X, y, lr=0.05, steps=300, stop=lambda s: s.step >= 7)
    assert when.summary.steps[0] == 7 and when.frame.step.max() == 7


def test_ready_probes():
    X, y = regression(n=9)
    labels = y.sign()
    probes = {"test": loss_on(X, y), "e": error_on(X, labels), "d": weight_distance()}
    run = fit(net(), X, y, lr=0.1, steps=5, seeds=[1, 2], probes=probes)
    np.testing.assert_allclose(run.frame.test_loss, run.frame.loss, rtol=1e-12)
    final = run.models[1]
    assert run.frame.test_error.iloc[-1] == ((final(X) > 0) != (labels > 0)).double().mean().item()
    start = drawn(net(), 2)
    moved = math.sqrt(
        sum(((p - q) ** 2).sum().item() for p, q in zip(final.parameters(), start.parameters(), strict=True))
    )
    assert run.frame.weight_distance.iloc[-1] == pytest.approx(moved, rel=1e-10)
    with pytest.raises(InputError, match="taken"):
        fit(net(), X, y, lr=0.1, steps=1, probes={"x": Probe(lambda s: {"loss": s.loss})})


def test_probe_of_all_runs_at_once():
    X, y = regression()

    def fn(state):
        f = state.predict(state.X)
        assert state.shared and state.seed == (1, 2) and state.params["layers.0.weight"].shape == (2, 6, 4)
        return {"same": ((f - state.y) ** 2).mean(1)}

    run = fit(net(), X, y, lr=0.1, steps=3, seeds=[1, 2], together=2, probes={"p": Probe(fn, stacked=True)})
    np.testing.assert_allclose(run.frame.same, run.frame.loss, rtol=1e-12)
    with pytest.raises(InputError, match="stacked"):
        fit(
            net(), X, y, lr=0.1, steps=1, seeds=[1, 2], probes={"p": Probe(lambda s: {"a": s.loss.sum()}, stacked=True)}
        )


def test_probe_errors_are_not_swallowed():
    def broken(state):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fit(net(), *regression(), lr=0.1, steps=1, probes={"p": Probe(broken)})


def test_data_with_a_seed_axis():
    sets = [regression(seed=s) for s in (1, 2)]
    X, y = (torch.stack(part) for part in zip(*sets, strict=True))
    run = fit(net(), X, y, lr=0.1, steps=2, seeds=[1, 2], batch_size=5, record=1)
    by_call = fit(net(), lambda seed: sets[seed - 1], lr=0.1, steps=2, seeds=[1, 2], batch_size=5, record=1)
    pd.testing.assert_frame_equal(run.frame, by_call.frame)


def test_networks_that_differ_in_more_than_weights_train_alone():
    X, y = regression()

    def build(seed):
        return FCN(4, 6, 2, activation="tanh" if seed == 1 else "relu", generator=compute.generator(seed, "init"))

    run = fit(build, X, y, lr=0.1, steps=2, seeds=[1, 2])
    assert run.meta["together"] == 1
    f = build(2).to(DTYPE)(X)  # drawn in float32 here
    assert run.frame[run.frame.seed == 2].loss.iloc[0] == pytest.approx(((f - y) ** 2).mean().item(), rel=1e-6)


@pytest.mark.parametrize("network", ["looks at its values", "draws numbers"])
def test_networks_that_cannot_be_mapped_train_one_by_one(network):
    class Odd(FCN):
        def forward(self, x):
            if network == "draws numbers":
                return super().forward(nn.functional.dropout(x, 0.5))
            return super().forward(x) * (2 if self.layers[0].weight.sum().item() > 0 else 1)

    run = fit(Odd(4, 6, 2), *regression(), lr=0.01, steps=20, seeds=[1, 2, 3])
    assert run.meta["together"] == 1 and set(run.summary.outcome) == {"finished"}
    rough = run.frame[run.frame.run == 0].loss.diff().dropna()
    assert rough.nunique() == 20  # a fresh draw at every step, recorded or not


def test_out_of_memory_is_answered_by_smaller_chunks():
    class Hungry(FCN):
        def forward(self, x):
            if self.layers[0].weight.ndim == 2 and torch._C._functorch.is_batchedtensor(self.layers[0].weight):
                value = torch._C._functorch.get_unwrapped(self.layers[0].weight)
                if value.shape[0] > 2:
                    raise torch.OutOfMemoryError("too many")
            return super().forward(x)

    X, y = regression()
    with pytest.warns(UserWarning, match="going on with 2"):
        run = fit(Hungry(4, 6, 2), X, y, lr=0.1, steps=3, seeds=range(4), together=4, trace=False)
    assert run.meta["together"] == 2
    plain = fit(FCN(4, 6, 2), X, y, lr=0.1, steps=3, seeds=range(4), together=1)
    np.testing.assert_allclose(run.frame.loss, plain.frame.loss, rtol=1e-10)


def test_run_is_saved_and_loaded(tmp_path):
    X, y = regression()
    run = fit(net(), X, y, lr=[0.1, 0.2], steps=4, seeds=[1, 2], probes={"w": weights(2)})
    again = Run.load(run.save(tmp_path / "run"), net().to(DTYPE))
    pd.testing.assert_frame_equal(again.frame, run.frame)
    pd.testing.assert_frame_equal(again.summary, run.summary)
    assert np.array_equal(again.arrays["w"], run.arrays["w"]) and np.array_equal(again.times["w"], run.times["w"])
    assert torch.equal(again.models[3](X), run.models[3](X)) and again.meta["loss"] == "mse"
    assert Run.load(tmp_path / "run").models is None
    with pytest.raises(InputError, match="architecture"):
        Run.load(tmp_path / "run", net(width=7))
    (tmp_path / "run" / "weights.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="cannot be read"):
        Run.load(tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(InputError, match="run.json"):
        Run.load(tmp_path / "run")


def test_shapes_never_broadcast_and_settings_are_checked():
    X, y = regression()
    with pytest.raises(InputError, match="nothing is broadcast"):
        fit(net(), X, y[:, None], lr=0.1, steps=1)
    with pytest.raises(InputError, match="class indices"):
        fit(net(2), X, y, loss="cross_entropy", lr=0.1, steps=1)
    for options, message in [
        ({"optimizer": "adma"}, "adam"),
        ({"optimizer": {"name": "adam", "momentum": 1}}, "hyperparameter"),
        ({"loss": "mes"}, "mse"),
        ({"seeds": [1, 1]}, "different"),
        ({"vary": ["inti"]}, "init"),
        ({"lr": []}, "empty"),
        ({"lr": math.nan}, "finite"),
        ({"stop": "now"}, "stop"),
        ({"batch_size": 25}, "batch_size"),
    ]:
        with pytest.raises(InputError, match=message):
            fit(net(), X, y, **{"lr": 0.1, "steps": 1, **options})


def test_dtype_follows_the_data_and_nothing_is_printed(capsys):
    X, y = regression()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = fit(net(), X.float(), y.float(), lr=0.1, steps=3)
    assert run.models[0](X.float()).dtype == torch.float32 and capsys.readouterr() == ("", "")
    assert fit(net(), X.float(), y.float(), lr=0.1, steps=1, dtype=DTYPE).models[0](X).dtype == DTYPE


def test_loss_callable_equals_the_named_one():
    X, y = regression(out=2)
    a = fit(net(2), X, y, loss="half_mse", lr=0.1, steps=4, seeds=[1, 2], batch_size=7, record=1)
    b = fit(
        net(2), X, y, loss=lambda f, t: (f - t).square().sum() / (2 * len(f)), lr=0.1, steps=4, seeds=[1, 2],
        batch_size=7, record=1,
    )  # fmt: skip
    np.testing.assert_allclose(a.frame.loss, b.frame.loss, rtol=1e-12)
    assert losses.divisor("half_mse", 24, 2) == 48


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("case", ["adam-batches", "stream", "schedule", "stop"])
def test_a_killed_and_resumed_run_is_the_uninterrupted_one_bit_by_bit(monkeypatch, tmp_path, case, together):
    monkeypatch.setattr(runs_together, "CHECKPOINT_SECONDS", 0.0)
    X, y = regression()
    options = {"lr": 0.01, "steps": 300, "seeds": [1, 2, 3], "together": together, "optimizer": "adam"}
    if case == "adam-batches":
        options |= {"batch_size": 5, "record": 50}
    if case == "stream":
        X, y = lambda rng, seed: (lambda Z: (Z, Z.sum(1)))(torch.randn(7, 4, dtype=DTYPE, generator=rng)), None
    if case == "schedule":
        options |= {"lr": lambda s: 0.01 * s.seed, "schedule": [(140, lambda s: 0.1 / (1 + s.loss_name.count("e")))]}
    if case == "stop":
        options |= {"stop": 0.4}
    looks = {"w": weights(100), "d": weight_distance(70)}
    whole = fit(net(), X, y, probes=looks, **options)

    class Killed(Exception):
        pass

    calls = []

    def deadly(state):
        calls.append(state.step)
        if state.step == 200 and state.seed == 2 and len(calls) < 20:
            raise Killed
        return {"w": torch.cat([p.flatten() for p in state.model.parameters()])}

    given = {"w": Probe(deadly, 100), "d": looks["d"]}
    if case != "stop":
        with pytest.raises(Killed):
            fit(net(), X, y, probes=given, checkpoint=tmp_path, **options)
        calls.extend([0] * 20)
    else:
        fit(net(), X, y, probes=looks, checkpoint=tmp_path, **options)  # finished: resuming changes nothing
        given = looks
    assert list(tmp_path.glob("*.safetensors"))
    resumed = fit(net(), X, y, probes=given, checkpoint=tmp_path, **options)
    pd.testing.assert_frame_equal(resumed.frame, whole.frame, check_exact=True)
    assert np.array_equal(resumed.arrays["w"], whole.arrays["w"], equal_nan=True)
    assert all(torch.equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)
    with pytest.raises(InputError, match="another training"):
        fit(net(), X, y, probes=given, checkpoint=tmp_path, **options | {"steps": 299})
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match="set aside"):
        again = fit(net(), X, y, probes=given, checkpoint=tmp_path, **options)
    pd.testing.assert_frame_equal(again.frame, whole.frame, check_exact=True)
