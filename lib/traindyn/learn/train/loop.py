"""The training loop: R runs together, step by step, with nothing read back to the host inside a block of steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from traindyn import losses
from traindyn.compute import chunk_size, generator
from traindyn.errors import InputError
from traindyn.learn.train.ensemble import Stack
from traindyn.learn.train.history import Recorder
from traindyn.learn.train.optim import Rule
from traindyn.learn.train.probes import State
from traindyn.learn.train.sampling import Feed
from traindyn.learn.train.schedules import Cyclical, Multiple, Plan


@dataclass(frozen=True)
class Stop:
    """When a run ends before its last step. Looked at in recorded steps only (divergence: at every step).

    Args:
        loss: stop when the recorded training loss is at most this.
        diverged: a run whose loss exceeds this, or is not finite, has diverged.
        when: State -> truth value (a tensor stays on the device); stop when it is true.
    """

    loss: float | None = None
    diverged: float = math.inf
    when: Callable[[State], Any] | None = None

    @classmethod
    def of(cls, stop: Any) -> Stop:
        """Return `stop` as a `Stop`: None, a `Stop`, a number (the loss), or a function (`when`).

        Raises:
            InputError: it is none of these.
        """
        if stop is None or isinstance(stop, Stop):
            return stop or cls()
        if callable(stop):
            return cls(when=stop)
        if isinstance(stop, int | float) and not isinstance(stop, bool):
            return cls(loss=float(stop))
        raise InputError(f"stop: expected None, a loss, a function of the state or Stop(...), got {stop!r}")


@dataclass
class Outcome:
    """How R runs ended: the recorder, and per run the word, the last step, the loss there, and its rates.

    `start_rates` (R,) is what `lr` was, as a number; `references` are the runs' references that multiples refer to,
    (R,) for each different one.
    """

    recorder: Recorder
    words: list[str]
    ends: np.ndarray
    end_loss: np.ndarray
    wall: float
    start_rates: np.ndarray
    references: dict[Callable[[Any], Any], np.ndarray]


class Loop:
    """R runs that train together.

    Args:
        stack: their networks.
        feed: their data.
        plans: one rate plan per run.
        seeds: one seed per run.
        rule: the optimiser.
        stop: when to end early.
        recorder: takes the rows.
        steps: number of updates.
    """

    def __init__(
        self,
        stack: Stack,
        feed: Feed,
        plans: list[Plan],
        seeds: list[int],
        rule: Rule,
        stop: Stop,
        recorder: Recorder,
        steps: int,
    ) -> None:
        self.stack, self.feed, self.plans, self.seeds = stack, feed, plans, seeds
        self.rule, self.stop, self.recorder, self.steps = rule, stop, recorder, steps
        self.buffers = rule.start(stack.flat)
        self.start_flat = stack.flat.clone()
        self.active = torch.ones(stack.runs, dtype=torch.bool, device=stack.flat.device)
        self.rates: float | Tensor = math.nan  # of the coming update: a number if all runs share it, else (R, 1)
        self.exact: float | Tensor = math.nan  # the same in double precision, as it was given
        self.start_rates: float | Tensor = math.nan  # what `lr` was
        self.references: list[Tensor] = []  # (R,) each, of the different references of the plans' multiples
        self.reference_functions = list(dict.fromkeys(rate.reference for plan in plans for rate in plan.multiples()))
        self._low: Tensor | None = None
        self._high: Tensor | None = None
        # Apple's GPU has no double precision
        self._precise = stack.flat.dtype if stack.flat.device.type == "mps" else torch.float64
        self.first = 0
        self.bad_at = np.full(stack.runs, -1)
        self.bad_loss = np.full(stack.runs, np.nan)
        self.wall = 0.0
        self._sample_bytes = 0
        self._seen: tuple[int, Tensor] = (-1, stack.flat)  # a step, and all runs' outputs on the training set there

    # --- the state that probes, rates and stop rules see

    def _named(self, flat: Tensor, run: int | None) -> dict[str, Tensor]:
        sizes = [shape.numel() for shape in self.stack.shapes.values()]
        parts = zip(self.stack.shapes.items(), flat.split(sizes, 1), strict=True)
        return {name: part.view(-1, *shape) if run is None else part[run].view(shape) for (name, shape), part in parts}

    def state(self, run: int | None, step: int, loss: Tensor | None) -> State:
        """Return the state of one run, or of all with a leading axis (None)."""
        stack, feed = self.stack, self.feed
        chosen = feed.indices(step)
        rates = self.rates
        if run is None:
            X, y, shared = feed.batch(step) if feed.streams else (feed.X, feed.y, feed.shared)
            X = X if stack.passes.overwrites is False else X.clone()
            return State(
                model=stack.bind(0),
                X=X,
                y=y,
                step=step,
                seed=tuple(self.seeds),
                lr=rates.squeeze(1) if isinstance(rates, Tensor) else rates,
                batch=chosen,
                loss=loss,
                loss_name=stack.loss,
                params=stack.params,
                initial=self._named(self.start_flat, None),
                predict=stack.predict if shared else lambda Z: stack.predict(Z, shared=Z is not X),
                shared=shared,
                forward=lambda: self._outputs(None, step, X, shared),
            )
        X, y = feed.of_run(run, step)
        X = X if stack.passes.overwrites is False else X.clone()
        model = stack.bind(run)
        return State(
            model=model,
            X=X,
            y=y,
            step=step,
            seed=self.seeds[run],
            lr=rates[run, 0] if isinstance(rates, Tensor) else rates,
            batch=None if chosen is None else chosen[run],
            loss=None if loss is None else loss[run],
            loss_name=stack.loss,
            params={name: values for name, values in model.named_parameters() if values.requires_grad},
            initial=self._named(self.start_flat, run),
            predict=model,
            forward=lambda: self._outputs(run, step, X, False),
        )

    def _outputs(self, run: int | None, step: int, X: Tensor, shared: bool) -> Tensor:
        """Return the outputs on the training set after `step` updates, of one run or of all (None)."""
        with torch.no_grad():
            if self._seen[0] == step:
                return self._seen[1] if run is None else self._seen[1][run]
            return self.stack.predict(X, shared) if run is None else self.stack.bind(run)(X)

    def _noise(self, purpose: str, step: int) -> int:
        """Return the seed of what the network draws in a pass: of the run's own seed, whatever was drawn before."""
        if self.stack.passes.random is False:
            return 0
        return generator(self.seeds[0], f"{purpose}/{step}").initial_seed()

    def _looking(self, step: int) -> AbstractContextManager[None]:
        """Return a context in which passes leave nothing behind."""
        return self.stack.looking(self._noise("look", step))

    def training_loss(self, step: int) -> Tensor:
        """Return every run's loss on its whole training set, shape (R,), in parts that fit the memory budget.

        Args:
            step: updates made so far; the outputs are kept for the probes of that step.
        """
        stack, feed = self.stack, self.feed
        if callable(stack.loss):
            values = stack.batch_losses(feed.X, feed.y, feed.shared)
            self._seen = (step, stack.outputs)
            return values
        if not self._sample_bytes:
            X, y = feed.of_run(0, 0)
            few = min(16, feed.n)
            self._sample_bytes = stack.bytes_per_run(X[:few], y[:few]) * stack.runs // few
        # what depends on the whole batch, or draws numbers, is not taken apart
        whole = stack.passes.moves or stack.passes.random
        size = feed.n if whole else chunk_size(self._sample_bytes, feed.n, feed.device)
        axis = 0 if feed.shared else 1
        sums: list[Tensor] = []
        seen: list[Tensor] = []
        k = 1
        for X, y in zip(feed.X.split(size, axis), feed.y.split(size, axis), strict=True):
            f = stack.predict(X, feed.shared)
            seen.append(f)
            k = f.shape[2] if f.ndim > 2 else 1
            rows = y.expand(stack.runs, *y.shape) if feed.shared else y
            sums.append(torch.vmap(lambda f_run, y_run: losses.total(stack.loss, f_run, y_run))(f, rows))
        self._seen = (step, torch.cat(seen, 1))
        return torch.stack(sums).sum(0) / losses.divisor(stack.loss, feed.n, k)

    # --- rates

    def _refer(self) -> None:
        """Ask every run for the references of its plan's multiples, at the initial weights."""
        if self.reference_functions and not self.references:
            for reference in self.reference_functions:
                with self._looking(0), torch.enable_grad():
                    values = [reference(self.state(run, 0, None)) for run in range(self.stack.runs)]
                self.references.append(self._column(values).squeeze(1))
            self.turn()

    def turn(self) -> None:
        """Keep the turning points of a cyclical schedule as one number per run, where they are multiples."""
        rule = self.plans[0].rule
        self._low = self._high = None
        if isinstance(rule, Cyclical) and any(isinstance(rate, Multiple) for rate in (rule.low, rule.high)):
            runs = range(self.stack.runs)
            self._low, self._high = (
                self._column([self._resolved(rate, run) for run in runs]) for rate in (rule.low, rule.high)
            )

    def _resolved(self, rate: Any, run: int) -> Any:
        if isinstance(rate, Multiple):
            return rate.ratio * self.references[self.reference_functions.index(rate.reference)][run]
        return rate

    def _column(self, values: list[Any]) -> Tensor:
        like = {"dtype": self._precise, "device": self.stack.flat.device}
        return torch.stack([torch.as_tensor(value, **like).detach().reshape(1) for value in values])

    def _enter(self, step: int) -> None:
        """Let the rates that enter at `step` hold from now on."""
        if step == 0:
            self._refer()
        entering = [plan.entering(step) for plan in self.plans]
        if all(rate is None for rate in entering):
            return
        before = self.exact
        values = []
        for run, rate in enumerate(entering):
            if rate is None:
                rate = before[run, 0] if isinstance(before, Tensor) else before
            elif isinstance(rate, Multiple):
                rate = self._resolved(rate, run)
            elif callable(rate):
                with self._looking(step), torch.enable_grad():
                    rate = rate(self.state(run, step, None))
            values.append(rate)
        self._set_rates(values)
        if step == 0:
            self.start_rates = self.exact

    def _set_rates(self, values: list[Any]) -> None:
        numbers = [value for value in values if not isinstance(value, Tensor)]
        if len(numbers) == len(values) and len(set(numbers)) == 1:
            self.hold(float(numbers[0]))
        else:
            self.hold(self._column(values))

    def hold(self, exact: float | Tensor) -> None:
        """Let these rates hold: a number, or (R, 1) in double precision."""
        self.exact = exact
        self.rates = exact.to(self.stack.flat.dtype) if isinstance(exact, Tensor) else exact

    def _rule_rates(self, step: int) -> None:
        """Ask the schedule for the rates of update `step`."""
        schedule = self.plans[0].rule
        if isinstance(schedule, Cyclical):
            self.hold(schedule.at(step, self._low, self._high))
        elif schedule is not None and step % getattr(schedule, "every", 1) == 0:
            with self._looking(step), torch.enable_grad():
                self._set_rates([schedule(self.state(run, step, None)) for run in range(self.stack.runs)])

    # --- the loop

    def _blocks(self) -> Iterator[tuple[int, int]]:
        changes = {step for plan in self.plans for step, _ in plan.changes}
        start = self.first
        while start < self.steps:
            stop = min([self.steps, start + self.feed.block_steps, *(step for step in changes if step > start)])
            yield start, stop
            start = stop

    def _note(self, step: int, batch_loss: Tensor) -> None:
        """Record a row, call the probes and mark the runs whose stop rule holds; leave the networks as they are."""
        with self._looking(step):
            self._look(step, batch_loss)

    def _look(self, step: int, batch_loss: Tensor) -> None:
        known = self.feed.full_batch or self.feed.streams
        if known or self.recorder.wants_loss(step):
            full = batch_loss if known else self.training_loss(step)
        else:
            full = batch_loss.new_full((self.stack.runs,), math.nan)
        exact = self.exact
        given = batch_loss.new_full((1,), exact, dtype=self._precise) if not isinstance(exact, Tensor) else exact[:, 0]
        if self.stop.loss is not None:
            self.active = self.active & ~(full <= self.stop.loss)
        if self.stop.when is not None:
            ended = [self.stop.when(self.state(run, step, full)) for run in range(self.stack.runs)]
            ended = torch.stack([torch.as_tensor(e, device=full.device).bool().reshape(()) for e in ended])
            self.active = self.active & ~ended
        self.recorder.row(step, loss=full, batch_loss=batch_loss, rate=given, stop=~self.active)
        self.recorder.look(
            step, lambda run: self.state(run, step, full), lambda: self.stack.flat.isfinite().all(1).cpu().numpy()
        )

    def _update(self, step: int) -> Tensor:
        """Note the state, make update `step`, and return the batch losses (R,) before it."""
        X, y, shared = self.feed.batch(step)
        due, stack = self.recorder.due(step), self.stack
        before = stack.kept() if due and stack.fixed and stack.passes.moves is not False else {}
        values, gradients = stack.losses_and_gradients(X, y, shared, self._noise("update", step))
        if self.feed.full_batch or self.feed.streams:
            self._seen = (step, stack.outputs)
        after = stack.kept() if before and stack.passes.moves else {}
        if after:
            stack.put(before)  # the state after `step` updates has not seen this update's batch
        self._rule_rates(step)
        if due:
            self._note(step, values)
        stack.put(after)
        rates = self.rates
        if self.stop.loss is not None or self.stop.when is not None:
            # a stopped run keeps its weights: it moves at rate zero while the others go on
            rates = rates * self.active.to(values.dtype)[:, None]
        self.rule.move(self.stack.flat, gradients, self.buffers, rates, step)
        return values

    def _mark_diverged(self, start: int, batch_losses: list[Tensor]) -> None:
        """Find the runs that diverged in a block that began at `start`: the only read from the device."""
        values = torch.stack(batch_losses).cpu().numpy()
        bad = ~(values <= self.stop.diverged) | ~np.isfinite(values)
        for run in np.flatnonzero(bad.any(0) & (self.bad_at < 0)):
            at = int(bad[:, run].argmax())
            self.bad_at[run], self.bad_loss[run] = start + at, values[at, run]

    def _stopped(self) -> np.ndarray:
        """Return the step at which each run's stop rule held first, or -1."""
        if not self.recorder.steps:
            return np.full(self.stack.runs, -1)
        flags = torch.stack(self.recorder.rows["stop"]).cpu().numpy()
        return np.where(flags.any(0), np.asarray(self.recorder.steps)[flags.argmax(0)], -1)

    def _all_ended(self) -> bool:
        return bool(((self.bad_at >= 0) | (self._stopped() >= 0)).all())

    def _check(self, step: int) -> None:
        """Look at the targets' values once: those of the training set, or of a stream's first batch."""
        stack, feed = self.stack, self.feed
        if callable(stack.loss) or stack.flat.device.type == "meta":
            return
        X, y, shared = feed.batch(step)
        classes = None
        if stack.loss == "cross_entropy":
            with self._looking(step):
                f = stack.predict(X, shared)
            losses.check_shapes(stack.loss, f[0], y if shared else y[0])
            classes = f.shape[-1]
        losses.check_targets(stack.loss, y if feed.streams else feed.y, classes)

    def run(self, after_block: Callable[[int, Loop], None] = lambda done, loop: None) -> Outcome:
        """Train to the end, from where the loop stands.

        Args:
            after_block: called with the number of updates made in a block and this loop, after the block.

        Returns:
            the outcome of every run.
        """
        began = time.perf_counter() - self.wall
        beginning = self.first
        with torch.no_grad():
            for start, stop in self._blocks():
                if self._all_ended():
                    break
                self.feed.prepare(start, stop)
                if start == beginning:
                    self._check(start)
                self._enter(start)
                self._mark_diverged(start, [self._update(step) for step in range(start, stop)])
                self.first, self.wall = stop, time.perf_counter() - began
                after_block(stop - start, self)
            if not self._all_ended():
                self.feed.prepare(self.steps, self.steps + 1)
                self._enter(self.steps)
                with self._looking(self.steps):
                    values = self.stack.batch_losses(*self.feed.batch(self.steps))
                if self.feed.full_batch or self.feed.streams:
                    self._seen = (self.steps, self.stack.outputs)
                self._rule_rates(self.steps)
                self._note(self.steps, values)
                self._mark_diverged(self.steps, [values])
        stopped = self._stopped()
        diverged = (self.bad_at >= 0) & ((stopped < 0) | (self.bad_at <= stopped))
        ends = np.where(diverged, self.bad_at, np.where(stopped >= 0, stopped, self.steps))
        words = np.where(diverged, "diverged", np.where(stopped >= 0, "stopped", "finished")).tolist()
        start = self.start_rates
        start = start[:, 0].cpu().numpy() if isinstance(start, Tensor) else np.full(self.stack.runs, start)
        found = (values.cpu().double().numpy() for values in self.references)
        references = dict(zip(self.reference_functions, found, strict=True))
        return Outcome(self.recorder, words, ends, self.bad_loss, time.perf_counter() - began, start, references)
