"""How many runs train at once, and what happens when the device's memory does not hold them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from traindyn import losses
from traindyn.compute import chunk_size
from traindyn.errors import InputError
from traindyn.learn.train import checkpoint
from traindyn.learn.train.ensemble import Passes, Stack
from traindyn.learn.train.history import Recorder
from traindyn.learn.train.identity import alike
from traindyn.learn.train.loop import Loop, Outcome, Stop
from traindyn.learn.train.optim import Rule
from traindyn.learn.train.probes import Probe
from traindyn.learn.train.sampling import Feed, Source
from traindyn.learn.train.schedules import Plan
from traindyn.learn.train.tracing import reason

# Measured by bench/train.py on a CPU: runs are worth stacking while one run's step keeps less than ALONE bytes alive
# (above that the arithmetic dominates and stacking only pushes activations out of the cache), and as many of them as
# keep TOGETHER bytes alive. Constants, not this machine's cache sizes: the same runs share a chunk everywhere.
ALONE = 512 * 1024
TOGETHER = 2 * 2**20

CHECKPOINT_SECONDS = 60.0  # between two checkpoints of runs that train together


DIFFERENT = "the networks differ in more than their weights"


@dataclass(frozen=True)
class Spec:
    """One run: the position of its seed, the seed, and its rates."""

    index: int
    seed: int
    plan: Plan


@dataclass(frozen=True)
class Job:
    """What all runs of one fit have in common; the fields are the arguments of `fit`, checked."""

    build: Callable[[int], nn.Module]
    source: Source
    order_seeds: list[int]
    loss: losses.Loss
    rule: Rule
    stop: Stop
    probes: dict[str, Probe]
    steps: int
    batch_size: int | None
    replacement: bool
    record: Any
    dtype: torch.dtype
    device: torch.device
    trace: bool
    passes: list[tuple[nn.Module, Passes]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def loop(self, specs: list[Spec]) -> Loop:
        """Return the loop that trains these runs together: the first of them, and those after it that are alike."""
        models = [self.first(specs[0].index)]
        for spec in specs[1:]:
            network = self.build(spec.index)
            if not alike(models[0], network):
                self.note(DIFFERENT)
                break
            models.append(network)
        specs = specs[: len(models)]
        stack = Stack(models, self.loss, self.dtype, self.device, self.trace)
        if self.passes and alike(self.passes[0][0], stack.module):
            stack.passes = self.passes[0][1]  # a later chunk replays what the first one recorded
        else:
            self.passes[:] = [(stack.module, stack.passes)]
        feed = self.feed(specs)
        epoch = 1 if feed.streams else max(1, feed.n // (self.batch_size or feed.n))
        recorder = Recorder(len(specs), self.probes, self.steps, feed.full_batch, self.record, epoch)
        plans, seeds = [spec.plan for spec in specs], [spec.seed for spec in specs]
        return Loop(stack, feed, plans, seeds, self.rule, self.stop, recorder, self.steps)

    def first(self, index: int) -> nn.Module:
        """Return the first network of some that train together; a Taylor model proves itself before that."""
        network = self.build(index)
        if hasattr(network, "prove"):
            network.prove(torch.as_tensor(self.source.of(index)[0])[:3])
        return network

    def note(self, why: str) -> None:
        """Keep why runs that were to train together do not."""
        if why not in self.notes:
            self.notes.append(why)

    def feed(self, specs: list[Spec]) -> Feed:
        """Return the data of these runs."""
        indices = [spec.index for spec in specs]
        orders = [self.order_seeds[index] for index in indices]
        return Feed(self.source, indices, orders, self.batch_size, self.replacement, self.dtype, self.device)


@dataclass
class Trained:
    """Runs that trained together: who they were, their networks and how they ended."""

    specs: list[Spec]
    stack: Stack
    outcome: Outcome


def size(job: Job, specs: list[Spec], most: int | None = None) -> int:
    """Return how many of these runs should train at once, at most `most`; why they do not is noted in the job.

    One, if their networks are not alike in everything but their weights, or torch.func.vmap cannot map over them. On an
    accelerator as many as fit the memory budget; on a CPU as many as keep their activations in the cache together.
    With `most` given that many, if they can be mapped over.
    """
    if len(specs) == 1 or most == 1:
        return 1
    first, last = job.first(specs[0].index), job.build(specs[-1].index)
    feed = job.feed(specs[:1])
    feed.prepare(0, 1)
    X, y, shared = feed.batch(0)
    X, y = (X, y) if shared else (X[0], y[0])
    if not alike(first, last):
        job.note(DIFFERENT)
        if most is None:
            return 1
        last = job.build(specs[0].index)  # others may be alike; each chunk looks for itself
    per_run = Stack([first], job.loss, job.dtype, job.device, trace=False).bytes_per_run(X, y)
    try:
        Stack([first, last], job.loss, job.dtype, job.device, trace=False).losses_and_gradients(X, y)
    except (InputError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # it looks at its values, draws numbers, or uses what torch.func.vmap does not know
        job.note(f"cannot be mapped over: {reason(error)}")
        return 1
    if most is not None:
        return most
    if job.device.type != "cpu":
        # two copies of everything for the optimiser's buffers and the temporaries of a step
        return chunk_size(3 * per_run, len(specs), job.device)
    return 1 if per_run > ALONE else max(1, min(len(specs), TOGETHER // per_run))


class _Keeper:
    """What happens after every block of steps: the bar moves on, and now and then the state is written."""

    def __init__(self, job: Job, loop: Loop, folder: Path | None, start: int, progress: Callable[[int], Any]) -> None:
        self.loop, self.progress, self.path = loop, progress, None
        if folder is not None:
            self.path = folder / f"runs-{start:05d}-{loop.stack.runs}.safetensors"
            names = ("loss", "rule", "stop", "steps", "batch_size", "replacement", "record", "probes")
            settings = {name: getattr(job, name) for name in names}
            if job.source.streams:
                settings["stream"] = job.source.given
            self.key = checkpoint.fingerprint(loop, settings)
            if checkpoint.restore(loop, self.path, self.key):
                progress(loop.first * loop.stack.runs)
        self.written = time.monotonic()

    def __call__(self, done: int, loop: Loop) -> None:
        self.progress(done * loop.stack.runs)
        if self.path and (loop.first == loop.steps or time.monotonic() - self.written >= CHECKPOINT_SECONDS):
            checkpoint.save(loop, self.path, self.key)
            self.written = time.monotonic()


def train(
    job: Job, specs: list[Spec], together: int, progress: Callable[[int], Any], folder: Path | None = None
) -> list[Trained]:
    """Train all runs, `together` at a time; halve that wherever the device's memory does not hold them.

    Args:
        job: what they have in common.
        specs: the runs.
        together: how many train at once, >= 1.
        progress: called with the number of updates made, summed over runs.
        folder: where checkpoints are written and looked for; None: nowhere.
    """
    trained: list[Trained] = []
    start = 0
    while start < len(specs):
        part = specs[start : start + together]
        try:
            loop = job.loop(part)
            part = part[: loop.stack.runs]
            outcome = loop.run(_Keeper(job, loop, folder, start, progress))
        except torch.cuda.OutOfMemoryError:
            if together == 1:
                raise
            together = max(1, min(together, len(part)) // 2)
            if job.device.type == "cuda":
                torch.cuda.empty_cache()
            warnings.warn(
                f"the memory of device '{job.device}' does not hold {len(part)} runs at once; going on with {together}",
                stacklevel=3,
            )
            continue
        trained.append(Trained(part, loop.stack, outcome))
        start += len(part)
    return trained
