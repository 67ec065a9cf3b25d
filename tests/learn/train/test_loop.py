"""The training loop: nothing is read back to the host in a step, and all of it runs on the tensors' own device."""

from __future__ import annotations

import collections

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from traindyn import compute
from traindyn.learn.models import FCN, ResNet
from traindyn.learn.train.ensemble import Stack
from traindyn.learn.train.history import Recorder
from traindyn.learn.train.identity import alike
from traindyn.learn.train.loop import Loop, Stop
from traindyn.learn.train.optim import OPTIMIZERS, Rule
from traindyn.learn.train.sampling import Feed, Source
from traindyn.learn.train.schedules import plans
from traindyn.learn.train.tracing import record

READS = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "unique_dim", "_unique2"}
COPIES = {"_to_copy", "_pin_memory", "lift_fresh", "lift_fresh_copy"}


class Watch(TorchDispatchMode):
    """Counts scalar reads, copies between devices and tensors away from the device that is watched."""

    def __init__(self, device):
        super().__init__()
        self.device, self.seen, self.operations = torch.device(device), collections.Counter(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        if name in READS:
            self.seen[f"read: {name}"] += 1
        if name in COPIES and (name != "_to_copy" or "device" in (kwargs or {})):
            self.seen[f"copy: {name}"] += 1
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor) and tensor.device != self.device:
                self.seen[f"away: {name}"] += 1
        return out


def loop(device="cpu", runs=3, batch_size=None, optimizer="sgd", stop=None, stream=False, model=None):
    rng = torch.Generator().manual_seed(0)
    X, y = torch.randn(12, 4, generator=rng), torch.randn(12, generator=rng)
    networks = [model() if model else FCN(4, 6, 3, generator=compute.generator(s, "init")) for s in range(runs)]
    if model:
        X = torch.randn(12, 1, 6, 6, generator=rng)
    source = (
        Source(lambda g, seed: (X[:5] + torch.randn(5, 4, generator=g), y[:5]), None, [0, 1, 2]) if stream else None
    )
    source = source or Source(X, y, list(range(3)))
    order = list(range(runs))
    stack = Stack(networks, "mse", torch.float32, torch.device(device))
    feed = Feed(source, order, order, batch_size, False, torch.float32, torch.device(device))
    recorder = Recorder(runs, {}, 10, feed.full_batch, 2, 1)
    rates = [plans([0.1, 0.2, 0.3][run], None)[0] for run in range(runs)]
    return Loop(stack, feed, rates, order, Rule.of(optimizer), Stop.of(stop), recorder, 10)


CASES = {
    "full": {},
    "alone": {"runs": 1},
    "batches-adam": {"batch_size": 5, "optimizer": "adam"},
    "stop": {"stop": 1e-9, "optimizer": "momentum"},
    "stream": {"stream": True},
    "convolutions": {"model": lambda: ResNet((1, 6, 6), 1, width=2, blocks=(1,))},
}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("case", CASES)
def test_a_step_reads_copies_and_strays_nowhere(case, device):
    one = loop(device, **CASES[case])
    with torch.no_grad():
        one.feed.prepare(0, 10)
        one._enter(0)
        one._update(0)  # records the operations; the rates have entered
        with Watch(device) as watch:
            values = [one._update(step) for step in range(1, 6)]
    assert not watch.seen and watch.operations > 50
    assert one.stack.flat.device.type == device and all(value.shape == (one.stack.runs,) for value in values)
    assert one.recorder.steps == [0, 2, 4]


def test_the_watch_sees_what_it_should():
    with Watch("cpu") as watch:
        torch.ones(2).sum().item()
        torch.ones(2).to("meta")
    assert {"read: _local_scalar_dense", "copy: _to_copy", "away: _to_copy"} <= set(watch.seen)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rules_move_every_row_by_its_own_rate(name):
    torch.manual_seed(0)
    p = torch.randn(3, 5, dtype=torch.float64)
    rule, rates = Rule.of(name), torch.tensor([[0.1], [0.0], [0.3]], dtype=torch.float64)
    together, buffers = p.clone(), rule.start(p)
    alone = [(row.clone(), rule.start(row)) for row in p]
    for step in range(4):
        g = torch.randn(3, 5, dtype=torch.float64)
        rule.move(together, g, buffers, rates, step)
        for (row, own), part, rate in zip(alone, g, rates, strict=True):
            rule.move(row, part, own, rate.item(), step)
    torch.testing.assert_close(together, torch.stack([row for row, _ in alone]), rtol=1e-12, atol=0)
    assert torch.equal(together[1], p[1])


def test_rewritten_products_are_the_same_products():
    rng = torch.Generator().manual_seed(0)
    tall, thin, row = (torch.randn(*shape, dtype=torch.float64, generator=rng) for shape in [(400, 7), (7, 3), (1, 9)])

    def step(a, b, c):
        return (a @ b, a[:, :1] @ c, torch.stack([a, 2 * a]) @ torch.stack([b, b]))

    replay, why = record(step, [tall, thin, row])
    assert not why
    assert replay is not step
    for got, want in zip(replay(tall, thin, row), step(tall, thin, row), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-14, atol=1e-14)


def test_what_cannot_be_recorded_runs_as_written():
    def step(a):
        return (a * 2,) if a.sum().item() > 0 else (a * 3,)

    replay, why = record(step, [torch.ones(2)])
    assert replay is step and why
    assert torch.equal(replay(-torch.ones(2))[0], -3 * torch.ones(2))


def test_alike_sees_more_than_shapes():
    assert alike(FCN(3, 4, 2), FCN(3, 4, 2)) and not alike(FCN(3, 4, 2), FCN(3, 5, 2))
    assert not alike(FCN(3, 4, 2), FCN(3, 4, 2, activation="tanh"))
    frozen = FCN(3, 4, 2)
    frozen.layers[0].weight.requires_grad_(False)
    assert not alike(FCN(3, 4, 2), frozen)


def test_frozen_weights_and_buffers_are_each_runs_own():
    def network(seed):
        model = FCN(3, 4, 2, generator=compute.generator(seed, "init"))
        model.layers[0].weight.requires_grad_(False)
        model.register_buffer("extra", torch.full((1,), float(seed)))
        return model

    X = torch.randn(5, 3)
    stack = Stack([network(s) for s in (1, 2)], "mse", torch.float32, torch.device("cpu"))
    assert stack.flat.shape == (2, 4)
    torch.testing.assert_close(stack.predict(X), torch.stack([network(s)(X) for s in (1, 2)]))
    assert stack.bind(1).extra.item() == 2
    torch.testing.assert_close(stack.module(X), network(2)(X))
