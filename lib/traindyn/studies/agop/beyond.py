"""Ours: do quadratic models learn features through catapults, and does a penalty on the AGOP do what catapults do?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from traindyn import evidence
from traindyn.studies.agop import tasks, training
from traindyn.studies.agop.relu import Relu, network
from traindyn.studies.agop.training import Run, Task


class Frozen(Relu):
    """The quadratic model of a two-layer ReLU network without biases: its gates are those of the start."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.gates = self.weights[0].clone()

    def forward(self, X: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return [X, h] and the outputs (n,)."""
        h = (X @ self.weights[0].T).mul_(self.scales[0]).mul_(X @ self.gates.T > 0)
        return [X, h], (h @ self.weights[1][0]) * self.scales[1]

    def backward(self, held: Sequence[Tensor], seed: Tensor) -> list[Tensor]:
        """Return seed_i times the derivative of f(x_i) by every layer's z."""
        down = seed[:, None] * (self.weights[1] * self.scales[1])
        return [down * (held[0] @ self.gates.T > 0), seed[:, None]]


def frozen(seed: int, task: Task, size: Any, dtype: torch.dtype) -> Frozen:
    """Draw the quadratic model of a seed: of the network that `relu.network` draws."""
    return Frozen(network(seed, task.X.shape[1], size, dtype).model)


def penalty(net: Relu, X: Tensor, kind: str) -> tuple[float, Tensor, Tensor]:
    """Return a penalty on the AGOP of a two-layer network without biases, and its gradient by both layers.

    Args:
        net: the network.
        X: inputs.
        kind: "trace": Tr G; "root": Tr G^(1/2), which is small for few directions rather than for small slopes.
    """
    s = net.scales[0] * net.scales[1]
    W, v = net.weights[0], net.weights[1][0]
    gates = (X @ W.T > 0).to(X)
    left = gates * (v * s)
    slopes = left @ W
    if kind == "trace":
        value, pull = float(slopes.square().sum() / len(X)), slopes * (2 / len(X))
    else:
        values, vectors = torch.linalg.eigh((slopes.T @ slopes / len(X)).double())
        roots = values.clamp(min=1e-6 * float(values[-1])).sqrt()
        value = float(roots.sum())
        pull = slopes @ ((vectors / roots) @ vectors.T).to(X) / len(X)
    return value, left.T @ pull, (gates * (pull @ W.T)).sum(0)[None] * s


def penalised(seeds: Sequence[int], size: Any, dtype: torch.dtype) -> pd.DataFrame:
    """Train by gradient descent below the critical rate, with and without a penalty on the AGOP.

    Args:
        seeds: samples and weights.
        size: attributes of `tasks.synthetic`, and width, depth (2), share (of n / ||K||, measured anew every 100
        steps; the rate),
            steps, every, strengths (of the penalty, in units of one over its value at the start).

    Returns:
        One row per seed, kind ("none", "decay", "trace", "root") and strength: validation, test, alignment at the best
        validation loss. "decay" is a plain penalty on the squared norm of the weights.
    """
    rows = []
    for seed in seeds:
        task = tasks.synthetic(seed, size, dtype)
        for kind in ("none", "decay", "trace", "root"):
            for strength in size.strengths if kind != "none" else (0.0,):
                net, run = network(seed, size.d, size, dtype), Run()
                _train(net, task, run, kind, strength, size)
                found = training.result(run, net, task)
                kept = {name: found[name] for name in ("validation", "test", "alignment")}
                rows.append({"seed": seed, "kind": kind, "strength": strength} | kept)
    return pd.DataFrame(rows)


def _train(net: Relu, task: Task, run: Run, kind: str, strength: float, size: Any) -> None:
    unit = 1.0
    if kind in ("trace", "root"):
        unit = 1 / penalty(net, task.X, kind)[0]
    elif kind == "decay":
        unit = 1 / sum(float(W.square().sum()) for W in net.weights)
    lr = 0.0
    while True:
        if run.step % 100 == 0:
            critical = net.critical(task.X)
            lr = size.share * critical if math.isfinite(critical) else lr
        held, out = net.forward(task.X)
        residual = out - task.y
        loss = float(residual.square().mean())
        if run.step % size.every == 0 or run.step >= size.steps:
            run.look(net, task, loss)
        if run.step >= size.steps or not loss < training.DIVERGED:
            run.outcome = "finished" if loss < training.DIVERGED else "diverged"
            return
        extra = [None, None]
        if kind in ("trace", "root"):
            extra = penalty(net, task.X, kind)[1:]
        elif kind == "decay":
            extra = [2 * W for W in net.weights]
        signals = net.backward(held, residual * (2 / len(task.y)))
        net.descend(held, signals, lr)
        for W, g in zip(net.weights, extra, strict=True):
            if g is not None:
                W.sub_(g, alpha=lr * strength * unit)
        run.step += 1


def chosen(found: pd.DataFrame) -> pd.DataFrame:
    """Return per seed and kind of penalty what its best strength (on validation data) brings against none.

    Returns:
        Per seed and kind: log_test (log of the test loss over that without penalty), more (alignment minus that
        without), and over_decay (log of the test loss over that of a plain decay of the weights).
    """
    rows = []
    for seed, part in found.groupby("seed"):
        best = part.loc[part.groupby("kind")["validation"].idxmin()].set_index("kind")
        for kind in ("decay", "trace", "root"):
            row = {"seed": seed, "kind": kind, "log_test": math.log(best.loc[kind, "test"] / best.loc["none", "test"])}
            row["more"] = best.loc[kind, "alignment"] - best.loc["none", "alignment"]
            row["over_decay"] = math.log(best.loc[kind, "test"] / best.loc["decay", "test"])
            rows.append(row)
    return evidence.table(pd.DataFrame(rows), "kind")
