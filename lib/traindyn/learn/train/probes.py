"""What a training run lets one look at: the state before an update, and functions of it that are called on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from traindyn import losses
from traindyn.errors import InputError


@dataclass
class State:
    """A training run after `step` updates.

    For a probe with `stacked=True` the tensors carry a leading axis over the R runs that train together, `seed` is
    the tuple of their seeds, `model` is the template without weights of its own, and `predict` gives (R, n, ...).

    Attributes:
        model: the live network; look, do not change it, and do not keep it: it will hold other weights later.
        X, y: the training set (of an online stream: the coming batch); stacked: (R, n, ...) unless `shared`.
        step: updates made so far.
        seed: the run's seed.
        lr: the rate of the coming update: a number, or a 0-dimensional tensor.
        batch: indices of the samples of the coming update, shape (b,); None if it uses all of them.
        loss: loss on the whole training set (stream: on the coming batch), 0-dimensional; NaN in steps whose loss
            `record` leaves out.
        loss_name: which loss: a name of `losses.LOSSES`, or the callable.
        params: trainable weights by name.
        initial: the same at step 0.
        predict: X -> outputs.
        shared: whether stacked X and y are shared by all runs, without a run axis.
        outputs: the network's outputs on X, from the pass that gave the loss where there was one; detached.
    """

    model: nn.Module
    X: Tensor
    y: Tensor
    step: int
    seed: int | tuple[int, ...]
    lr: float | Tensor
    batch: Tensor | None
    loss: Tensor | None
    loss_name: losses.Loss
    params: dict[str, Tensor]
    initial: dict[str, Tensor]
    predict: Callable[[Tensor], Tensor]
    shared: bool = True
    forward: Callable[[], Tensor] | None = field(default=None, repr=False)

    @property
    def outputs(self) -> Tensor:
        """The outputs on X, computed once per step for all probes and the recorder."""
        if self.forward is not None:
            return self.forward()
        with torch.no_grad():
            return self.predict(self.X)


@dataclass(frozen=True)
class Probe:
    """A function of the state, called at chosen steps of a training run.

    Args:
        fn: State -> dict of tensors or numbers (or one of them, which then bears the probe's name). Scalars become
            columns of `Run.frame`, other tensors go to `Run.arrays`. It runs with gradients enabled.
        every: called when the step is a multiple of it; the last step is always looked at. 0: only at `at`.
        at: further steps, or, given alone with every=0, the only ones.
        stacked: fn takes the state of all runs that train together, and returns tensors with a leading run axis.
    """

    fn: Callable[[State], Any]
    every: int = 1
    at: Iterable[int] | None = None
    stacked: bool = False

    def __post_init__(self) -> None:
        if self.every < 0:
            raise InputError(f"Probe: expected every >= 0, got {self.every}")
        object.__setattr__(self, "at", frozenset(int(step) for step in self.at or ()))

    @classmethod
    def of(cls, name: str, given: Any) -> Probe:
        """Return what `fit` was given as a probe: a `Probe`, or anything with fn, every, at and stacked.

        Raises:
            InputError: it is neither.
        """
        if isinstance(given, Probe):
            return given
        if all(hasattr(given, part) for part in ("fn", "every", "at", "stacked")):
            return cls(given.fn, given.every, given.at, given.stacked)
        raise InputError(f"probe '{name}': expected Probe(fn, every=...) or a ready probe, got {type(given).__name__}")

    def due(self, step: int, last: int) -> bool:
        """Return whether the probe looks at `step` of a run of `last` updates."""
        return step == last or step in self.at or (self.every > 0 and step % self.every == 0)


def loss_on(X: Tensor, y: Tensor, loss: losses.Loss = "mse", every: int = 1, name: str = "test_loss") -> Probe:
    """Return a probe of the loss on another set (X, y): column `name`.

    Args:
        X, y: the set, shape (n, ...).
        loss: a name of `losses.LOSSES`, or a callable.
        every: steps between two looks.
        name: the column.
    """

    def fn(state: State) -> dict[str, Tensor]:
        with torch.no_grad():
            return {name: losses.value(loss, state.predict(X), y)}

    return Probe(fn, every)


def error_on(X: Tensor, y: Tensor, every: int = 1, name: str = "test_error") -> Probe:
    """Return a probe of the fraction of misclassified samples of (X, y): column `name`.

    Args:
        X, y: a labelled set; labels as in `losses.error_rate`.
        every: steps between two looks.
        name: the column.
    """

    def fn(state: State) -> dict[str, Tensor]:
        with torch.no_grad():
            return {name: losses.error_rate(state.predict(X), y)}

    return Probe(fn, every)


def weight_distance(every: int = 1) -> Probe:
    """Return a probe of how far the trainable weights moved: ||theta - theta_0||, and its ratio to ||theta_0||.

    Columns `weight_distance` and `weight_distance_relative`; Euclidean norms over all trainable weights together.

    Args:
        every: steps between two looks.
    """

    def fn(state: State) -> dict[str, Tensor]:
        now, start = (
            torch.cat([p.detach().flatten(1) for p in table.values()], 1) for table in (state.params, state.initial)
        )
        moved = (now - start).norm(dim=1)
        return {"weight_distance": moved, "weight_distance_relative": moved / start.norm(dim=1)}

    return Probe(fn, every, stacked=True)
