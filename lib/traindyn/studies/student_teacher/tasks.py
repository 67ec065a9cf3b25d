"""Two-layer students of a two-layer teacher, by width, strength decay and seed (Figures 3, 4, 6, 7 and 11)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from traindyn.compute import normal
from traindyn.measure import teacher as measure
from traindyn.studies.student_teacher import students as learn
from traindyn.studies.student_teacher import teachers


@dataclass
class Trained:
    """What one experiment recorded; R seeds, T recorded epochs, n student and m teacher nodes.

    Attributes:
        seeds: one per run.
        p, factor: decay of the teacher's strength; n = factor * m.
        epochs: (T,), 1 epoch = `epoch` updates; early ones in fractions.
        best: (R, T, m), best correlation of any student with each teacher.
        rho: (R, T, n), best correlation of each student with any teacher.
        pick: (R, T, n), which teacher that is.
        lead: (R, T, n), correlation of each student with the strongest teacher.
        norm: (R, T, n), |v_k|.    balance: (R, T, n), |v_k| / |w_k|.
        loss: (R, T), (1/2) E |f* - f|^2 on held-out inputs.
        power: (R,), the same of a student that outputs 0.
        pairs: (R, T, n, m), correlation of each student with each teacher, if it was asked for.
    """

    seeds: list[int]
    p: float
    factor: int
    epochs: np.ndarray
    best: np.ndarray
    rho: np.ndarray
    pick: np.ndarray
    lead: np.ndarray
    norm: np.ndarray
    balance: np.ndarray
    loss: np.ndarray
    power: np.ndarray
    pairs: np.ndarray | None = None

    def at(self, epoch: float) -> int | None:
        """Return the position of an epoch among the recorded ones, or None if it was not reached."""
        found = np.flatnonzero(self.epochs == epoch)
        return int(found[0]) if found.size else None

    def of(self, seeds: Iterable[int]) -> Trained:
        """Return the runs of some of the seeds, in their order."""
        rows = [self.seeds.index(seed) for seed in seeds]
        names = ("best", "rho", "pick", "lead", "norm", "balance", "loss", "power", "pairs")
        picked = {name: getattr(self, name)[rows] for name in names if getattr(self, name) is not None}
        return replace(self, seeds=[self.seeds[row] for row in rows], **picked)


def experiment(
    seeds: Sequence[int],
    size: SimpleNamespace,
    p: float,
    factor: int,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    *,
    lr: float = 0.01,
    batch: int = 16,
    std: float = 0.005,
    epochs: int | None = None,
    held_out: bool = True,
    pairs: bool = False,
) -> Trained:
    """Train one student per seed in the authors' common setting.

    The same seed has the same teacher directions, inputs and order of batches at every factor and p, so that
    comparisons between them are paired.

    Args:
        seeds: one run each.
        size: d, m, outputs, n_train, n_eval, epochs, epoch (updates in one).
        p: decay of the teacher's strength.
        factor: student nodes per teacher node.
        dtype, device: of the training.
        lr, batch: rate and batch size of SGD.
        std: standard deviation of the student's initial weights.
        epochs: other than `size.epochs`.
        held_out: whether correlations are taken on held-out inputs (Figure 6) or on training inputs (Figure 3).
        pairs: whether all correlations are kept.
    """
    teacher = teachers.two_layer(seeds, size.d, size.m, size.outputs, p).to(dtype, device)
    X, fresh = (
        learn.INPUTS * normal(seeds, w, n, size.d).to(device, dtype)
        for n, w in ((size.n_train, "data"), (size.n_eval, "eval"))
    )
    y = teacher(X)
    looked = fresh if held_out else X[:, : size.n_eval]
    hidden, target = teacher.layers(looked)[0], teacher(fresh)
    nets = learn.students(seeds, [size.d, factor * size.m, size.outputs], std).to(dtype, device)

    def look(student: learn.Nets, runs: slice, step: int) -> dict[str, Tensor]:
        f, out = student.layers(looked[runs])
        rho = measure.correlate(f, hidden[runs])
        out = out if held_out else student(fresh[runs])
        best, pick = rho.max(dim=2)
        v = student.weights[1].norm(dim=2)
        every = {"pairs": rho} if pairs else {}
        return every | {
            "best": rho.amax(1),
            "rho": best,
            "pick": pick,
            "lead": rho[..., 0],
            "norm": v,
            "balance": v / student.weights[0].norm(dim=1).clamp_min(1e-30),
            "loss": (target[runs] - out).square().sum(-1).mean(1) / 2,
        }

    last = (size.epochs if epochs is None else epochs) * size.epoch
    found, times = learn.train(nets, learn.from_set(X, y, seeds, batch), last, lr, look, looks(last, size.epoch))
    power = (target.square().sum(-1).mean(1) / 2).cpu().numpy()
    return Trained(seeds=list(seeds), p=p, factor=factor, epochs=times / size.epoch, power=power, **found)


def looks(last: int, epoch: int, fine: Sequence[tuple[float, int]] = ((1, 20), (5, 4))) -> list[int]:
    """Return the recorded updates: every epoch up to update `last`, and parts of the early ones.

    Strong teachers are found within the first epoch; whole epochs alone could not tell which came first.

    Args:
        last: number of updates.
        epoch: updates in one epoch.
        fine: (up to this epoch, looks per epoch).
    """
    steps = set(range(0, last + 1, epoch))
    for until, parts in fine:
        steps |= {round(i * epoch / parts) for i in range(round(until * parts))}
    return sorted(step for step in steps if step <= last)


def sweep(
    seeds: Sequence[int],
    size: SimpleNamespace,
    p: float,
    factors: Sequence[int],
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    **options,
) -> dict[int, Trained]:
    """Return `experiment` for every factor; options as there."""
    return {factor: experiment(seeds, size, p, factor, dtype, device, **options) for factor in factors}


def small(seed: int, size: Any) -> SimpleNamespace:
    """Return a small case to train by hand: a teacher, a student's start, and the batches of a training; float64.

    Args:
        seed: draws all of it.
        size: d, m, n (students), outputs, samples, batch, std, steps.

    Returns:
        `start` (W_1, b_1, W_2, b_2 of the student), `batches` (a list of (x, y)), `X` (all inputs), `hidden` (the
        teacher's nodes on them); `student`, `draws` (the same for `batched`).
    """
    teacher = teachers.two_layer([seed], size.d, size.m, size.outputs)
    X = learn.INPUTS * normal([seed], "data", size.samples, size.d)
    y = teacher(X)
    student = learn.students([seed], [size.d, size.n, size.outputs], size.std)
    (W, V), (b, c) = student.weights, student.biases
    xs, ys = learn.from_set(X, y, [seed], size.batch)(slice(0, 1), 0, size.steps)
    return SimpleNamespace(
        start=[part[0].clone() for part in (W, b, V, c)],
        batches=list(zip(xs[:, 0], ys[:, 0], strict=True)),
        X=X[0],
        hidden=teacher.layers(X)[0][0],
        student=student,
        draws=(xs, ys),
    )


def batched(case: SimpleNamespace, lr: float) -> Tensor:
    """Train the student of `small` as all others are trained here, and return its correlations (n, m).

    Args:
        case: of `small`; its student is changed.
        lr: rate of SGD.
    """
    xs, ys = case.draws

    def batches(_runs: slice, first: int, count: int) -> tuple[Tensor, Tensor]:
        return xs[first : first + count], ys[first : first + count]

    def look(net: learn.Nets, _runs: slice, _step: int) -> dict[str, Tensor]:
        return {"rho": measure.correlate(net.layers(case.X)[0], case.hidden[None])}

    found, _ = learn.train(case.student, batches, len(xs), lr, look, [len(xs)])
    return torch.as_tensor(found["rho"][0, -1])
