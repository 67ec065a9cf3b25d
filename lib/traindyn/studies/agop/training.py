"""Training to a fixed training loss, with what the chapter's figures read: the iterate of the best validation loss.

A step is super-critical if its rate exceeds b / ||K_batch|| by more than 1e-8: the thesis' count of catapults in
stochastic gradient descent, up to the best validation loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from traindyn.compute import generator
from traindyn.measure.agop import alignment
from traindyn.studies.agop.relu import Relu

EPSILON = 1e-8  # the thesis' epsilon
DIVERGED = 1e6  # a training loss above this has diverged


class Task(NamedTuple):
    """Samples of one seed, and the matrix that an AGOP is compared with."""

    X: Tensor
    y: Tensor
    X_val: Tensor
    y_val: Tensor
    X_test: Tensor
    y_test: Tensor
    G: Tensor
    classify: bool = False  # the error of signs or classes is read, in place of the loss
    other: Tensor | None = None  # a second matrix to compare with


def risk(net: Relu, X: Tensor, y: Tensor, classify: bool = False) -> float:
    """Return the mean square loss (summed over outputs), or the share of wrong signs or classes."""
    out = net(X)
    if classify:
        return float(wrong(out, y).double().mean())
    errors = (out - y).double().square()
    return float((errors if out.dim() == 1 else errors.sum(1)).mean())


def wrong(out: Tensor, y: Tensor) -> Tensor:
    """Return whether signs (n,), or the largest of several outputs (n, classes), are not those of y."""
    return out.sign() != y.sign() if out.dim() == 1 else out.argmax(1) != y.argmax(1)


@dataclass
class Run:
    """One training: losses at the looks, and the best iterate (of the present phase).

    Attributes:
        looks: rows (step, training loss, validation loss or error).
        losses: training loss before every step, where batches are the whole set.
        best: least validation value so far; best_step, best_super: steps and super-critical steps up to it.
        held: weights of that iterate.
        outcome: "stopped" (at the training loss asked for), "diverged", or "finished" (out of steps).
        over: super-critical steps of the whole run.
        step: updates so far.
        earlier: value and weights of the best iterate before the present phase.
    """

    looks: list[tuple[int, float, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    best: float = math.inf
    best_step: int = 0
    best_super: int = 0
    held: list[Tensor] | None = None
    outcome: str = "finished"
    over: int = 0
    step: int = 0
    earlier: tuple[float, list[Tensor]] | None = None

    def begin(self) -> None:
        """Start a phase: `best` and `held` are its own from here on, `earlier` is the best of all phases before."""
        if self.held is not None and (self.earlier is None or self.best < self.earlier[0]):
            self.earlier = self.best, self.held
        self.best, self.held = math.inf, None

    def copy(self) -> Run:
        """Return the same record, to be continued apart from this one."""
        return Run(list(self.looks), list(self.losses), self.best, self.best_step, self.best_super, self.held,
                   self.outcome, self.over, self.step, self.earlier)  # fmt: skip

    def look(self, net: Relu, task: Task, train: float) -> None:
        """Record the losses, and the iterate if its validation loss is the least so far."""
        value = risk(net, task.X_val, task.y_val, task.classify) if math.isfinite(train) else math.inf
        self.looks.append((self.step, train, value))
        if value < self.best:
            self.best, self.best_step, self.best_super = value, self.step, self.over
            self.held = net.copy()


def super_critical(K: Tensor, lr: float, epsilon: float = EPSILON) -> bool:
    """Return whether lr - b / ||K|| > epsilon for the kernel of a batch; bounds on the norm are asked first."""
    b = len(K)
    if lr <= epsilon:
        return False
    level = b / (lr - epsilon)
    if float(K.trace()) <= level:
        return False
    if float(K.sum()) / b > level:
        return True
    if float(K.norm()) <= level:
        return False
    return float(torch.linalg.eigvalsh(K)[-1]) > level


def cosine(G: Tensor, H: Tensor) -> float:
    """Return the alignment of an AGOP with H; NaN for a network that has become constant."""
    return float(alignment(G, H)) if float(G.abs().max()) > 0 else math.nan


def result(run: Run, net: Relu, task: Task) -> dict[str, float]:
    """Return what is read at the best iterate: test value, AGOP alignment (training inputs) with G and `other`, counts.

    A run that diverged has an infinite test value and no alignment (NaN).
    """
    about = {"validation": run.best, "super": run.best_super, "best_step": run.best_step, "steps": run.step}
    about |= {"reached": float(run.outcome == "stopped"), "finite": float(run.outcome != "diverged")}
    if run.outcome == "diverged":
        return about | {"test": math.inf, "alignment": math.nan, "other": math.nan, "validation": math.inf}
    net.restore(run.held)
    about["test"] = risk(net, task.X_test, task.y_test, task.classify)
    G = net.agop(task.X)
    about["other"] = math.nan if task.other is None else cosine(G, task.other)
    return about | {"alignment": cosine(G, task.G)}


def one_step(net: Relu, X: Tensor, y: Tensor, lr: float, count: bool = False) -> tuple[float, bool]:
    """Take one step of gradient descent on a batch; return its loss before the step and whether it is super-critical.

    Args:
        net: changed in place.
        X, y: the batch.
        lr: learning rate for the mean square loss.
        count: compare lr with the batch's critical rate (else the second value is False).
    """
    held, out = net.forward(X)
    signals = net.backward(held, torch.ones_like(out))
    over = count and lr * net.trace(held, signals) > len(y) and super_critical(net.kernel(held, signals), lr)
    residual = out - y
    factor = residual * (2 / len(y))
    net.descend(held, [D.mul_(factor[:, None]) for D in signals], lr)
    return float(residual.square().mean()), over


def sgd(
    net: Relu, task: Task, lr: float, batch: int, seed: int, *, steps: int, stop: float, every: int = 0,
    patience: float = math.inf, optimizer: str | None = None, options: dict[str, Any] | None = None,
) -> Run:  # fmt: skip
    """Train with mini-batches, drawn without replacement in every epoch, until the training loss is below `stop`.

    Args:
        net, task: the network (changed in place) and its samples.
        lr: learning rate for the mean square loss.
        batch: samples of a batch; n or more: gradient descent.
        seed: of the order of the batches.
        steps: at most.
        stop: training loss at which to end.
        every: steps between two looks at training and validation loss; 0: an epoch.
        patience: also end where the least validation loss is older than this multiple of its own step.
        optimizer: None: plain descent with the super-critical steps counted; else a name of `torch.optim`, without.
        options: of that optimiser.
    """
    run, n = Run(), len(task.y)
    rng = generator(seed, "order")
    whole = batch >= n
    every = every or max(1, n // batch)
    rule = _rule(net, optimizer, lr, options or {})
    order, at = torch.empty(0, dtype=torch.long), 0
    look_at = 0
    while True:
        if run.step >= look_at:
            train = risk(net, task.X, task.y)
            run.look(net, task, train)
            look_at = run.step + every
            if not train < DIVERGED:
                run.outcome = "diverged"
                return run
            if train < stop:
                run.outcome = "stopped"
                return run
            if run.step > patience * max(run.best_step, 10 * every) or run.step >= steps:
                return run
        if whole:
            X, y = task.X, task.y
        else:
            if at + batch > len(order):
                order, at = torch.randperm(n, generator=rng), 0
            rows = order[at : at + batch]
            X, y, at = task.X[rows], task.y[rows], at + batch
        if rule is None:
            loss, over = one_step(net, X, y, lr, count=not whole)
            run.over += over
            if not loss < DIVERGED:
                look_at = 0
        else:
            _follow(net, rule, X, y)
        run.step += 1


def _rule(net: Relu, name: str | None, lr: float, options: dict[str, Any]) -> Any:
    if name is None:
        return None
    return getattr(torch.optim, name)([part.requires_grad_(False) for part in net.state], lr=lr, **options)


def _follow(net: Relu, rule: Any, X: Tensor, y: Tensor) -> None:
    held, out = net.forward(X)
    signals = net.backward(held, (out - y) * (2 / len(y)))
    for part, gradient in zip(net.state, net.gradients(held, signals), strict=True):
        part.grad = gradient
    rule.step()


Rate = Callable[[int], float] | float


def descend(
    net: Relu, task: Task, run: Run, lr: Rate, steps: int, *, every: int, stop: float = 0.0,
    look: Callable[[int], None] | None = None,
) -> None:  # fmt: skip
    """Continue a run of gradient descent on the whole set for `steps` steps, or until the loss is below `stop`.

    Args:
        net, task, run: changed in place; the run keeps the loss before every step.
        lr: learning rate, or function of the run's step.
        steps: how many.
        every: steps between two looks at the validation loss.
        stop: training loss at which to end.
        look: called with the step before every look.
    """
    ones = torch.ones_like(task.y)
    end = run.step + steps
    while True:
        held, out = net.forward(task.X)
        residual = out - task.y
        loss = float(residual.square().mean())
        last = run.step >= end or not loss < DIVERGED or loss < stop
        if run.step % every == 0 or last:
            if look is not None:
                look(run.step)
            run.look(net, task, loss)
        if last:
            if not loss < DIVERGED:
                run.outcome = "diverged"
            elif loss < stop:
                run.outcome = "stopped"
            return
        run.losses.append(loss)
        signals = net.backward(held, residual * ones * (2 / len(ones)))
        net.descend(held, signals, lr(run.step) if callable(lr) else lr)
        run.step += 1


def means(values: Sequence[float]) -> float:
    """Return the mean, NaN of none."""
    return float(sum(values) / len(values)) if len(values) else math.nan
