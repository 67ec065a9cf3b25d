"""Variations of the two-layer setting: the plane, a frozen top layer, no ReLU, a single output (Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import generator, normal
from traindyn.evidence import table
from traindyn.layers import starts
from traindyn.measure import teacher as measure
from traindyn.studies.student_teacher import students as learn
from traindyn.studies.student_teacher import teachers


def follow(
    seeds: Sequence[int],
    teacher: learn.Nets,
    student: learn.Nets,
    size: SimpleNamespace,
    at: Sequence[int],
    layers: Sequence[int] | None = None,
) -> SimpleNamespace:
    """Train students of a given teacher on normal inputs and record correlations on held-out ones.

    Args:
        seeds: one per run.
        teacher, student: the networks; the student's are changed.
        size: n_train, n_eval, batch, lr, steps.
        at: recorded steps.
        layers: weight layers that move; None: all.

    Returns:
        `seeds`, `steps`; (R, T, m) `best`, `lowest_cosine` and `highest_cosine` (of any student with each teacher, bias
        included);
        (R, T, n) `rho`, `norm`; (R, T) `loss`; (R,) `power`, the loss of a student that outputs 0.
    """
    like = student.weights[0]
    d = like.shape[1]
    X, fresh = (
        learn.INPUTS * normal(seeds, w, n, d).to(like) for w, n in (("data", size.n_train), ("eval", size.n_eval))
    )
    y = teacher(X)
    hidden, target = teacher.layers(fresh)

    def look(net: learn.Nets, runs: slice, step: int) -> dict[str, Tensor]:
        f, out = net.layers(fresh[runs])
        rho = measure.correlate(f, hidden[runs])
        W = torch.cat([net.weights[0], net.biases[0]], 1)
        W_star = torch.cat([teacher.weights[0], teacher.biases[0]], 1)[runs]
        cosine = (W / W.norm(dim=1, keepdim=True).clamp_min(1e-30)).mT @ (W_star / W_star.norm(dim=1, keepdim=True))
        return {
            "best": rho.amax(1),
            "rho": rho.amax(2),
            "norm": net.weights[1].norm(dim=2),
            "lowest_cosine": cosine.amin(1),
            "highest_cosine": cosine.amax(1),
            "loss": (target[runs] - out).square().sum(-1).mean(1) / 2,
        }

    found, steps = learn.train(
        student, learn.from_set(X, y, seeds, size.batch), size.steps, size.lr, look, at, layers=layers
    )
    return SimpleNamespace(
        seeds=list(seeds), steps=steps, power=(target.square().sum(-1).mean(1) / 2).cpu().numpy(), **found
    )


def plane(seeds: Sequence[int], size: SimpleNamespace, n: int | None = None) -> SimpleNamespace:
    """Train students of 2 teachers in the plane (Figure 2); float64.

    Args:
        seeds: one run each.
        size: outputs, n (students), std, n_train, n_eval, batch, lr, steps.
        n: students, other than `size.n`.

    Returns:
        What `follow` returns, with `teacher` and `student` (the trained networks).
    """
    turn = torch.stack(
        [2 * torch.pi * torch.rand(1, dtype=torch.float64, generator=generator(s, "turn")) for s in seeds]
    )
    apart = (
        torch.stack([torch.rand(1, dtype=torch.float64, generator=generator(s, "apart")) for s in seeds]) * 1.9 + 0.6
    )
    angle = torch.cat([turn, turn + apart], 1)
    drawn = teachers.two_layer(seeds, 2, 2, size.outputs)
    teacher = learn.Nets([torch.stack([angle.cos(), angle.sin()], 1), drawn.weights[1]], drawn.biases)
    student = learn.students(seeds, [2, size.n if n is None else n, size.outputs], size.std)
    found = follow(seeds, teacher, student, size, learn.epochs(size.steps, 1.3, 100))
    return SimpleNamespace(**vars(found), teacher=teacher, student=student)


def covered(run: SimpleNamespace, cover: float, matched: float, opposite: float = 0.99) -> pd.DataFrame:
    """Return per seed what Figure 2 is read by.

    Args:
        run: of `plane`.
        cover, matched: correlations above which a teacher is covered by a student, and from which a student is matched.
        opposite: minus the cosine below which a student counts as antipodal to a teacher.

    Returns:
        `covered` (share of the teachers), `ratio` and `early_ratio` (largest |v| of students that are not matched over
        the largest |v|, at the end and at 8 % of the training; 0 if there is none), `missed` (teachers that are not
        covered), `antipodal` (those among them that some student is antipodal to).
    """
    early = int(np.argmax(run.steps >= 0.08 * run.steps[-1]))

    def ratio(at: int) -> np.ndarray:
        loose = np.where(run.rho[:, at] < matched, run.norm[:, at], 0)
        return loose.max(1) / run.norm[:, at].max(1)

    hit = run.best[:, -1] > cover
    found = {
        "covered": hit.mean(1),
        "ratio": ratio(-1),
        "early_ratio": ratio(early),
        "missed": (~hit).sum(1),
        "antipodal": (~hit & (run.lowest_cosine[:, -1] < -opposite)).sum(1),
    }
    return table(pd.DataFrame({"seed": run.seeds, **found}))


def antipodes(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Count teachers in the plane that no student covers, and those that some student is antipodal to.

    Args:
        seeds: one run each, for every number of students.
        size: as for `plane`, with widths (numbers of students), covered and matched.

    Returns:
        Columns: students, outcome ("opposite", "missed"), teachers (of all seeds together).
    """
    rows = []
    for n in size.widths:
        counts = covered(plane(seeds, size, n), size.covered, size.matched).sum()
        rows += [(n, "opposite", counts["antipodal"]), (n, "missed", counts["missed"])]
    return pd.DataFrame(rows, columns=["students", "outcome", "teachers"]).sort_values(
        "outcome", ascending=False, kind="stable"
    )


def plane_lines(run: SimpleNamespace, count: int = 3) -> pd.DataFrame:
    """Return the boundaries w.x + b = 0 of the first seeds, two points each: columns seed, node, kind, norm, x, y."""
    return pd.concat([_lines(run, i).assign(seed=run.seeds[i]) for i in range(min(count, len(run.seeds)))])


def _lines(run: SimpleNamespace, at: int) -> pd.DataFrame:
    rows = []
    for kind, net in (("teacher", run.teacher), ("student", run.student)):
        W, b, norm = net.weights[0][at], net.biases[0][at, 0], net.weights[1][at].norm(dim=1)
        for k in range(W.shape[1]):
            w = W[:, k] / W[:, k].norm()
            foot = -float(b[k] / W[:, k].norm()) * w
            for reach in (-5.0, 5.0):
                x, y = (foot + reach * torch.stack([-w[1], w[0]])).tolist()
                rows.append((f"{kind} {k}", kind, float(norm[k]), x, y))
    return pd.DataFrame(rows, columns=["node", "kind", "norm", "x", "y"])


def frozen_top(
    seeds: Sequence[int], size: SimpleNamespace, C: int, factor: int, frozen: bool, dtype: torch.dtype
) -> SimpleNamespace:
    """Train with the top layer at random values N(0, 1/(4 factor)), frozen or not (sections 1 and 4.4)."""
    teacher = teachers.two_layer(seeds, size.d, size.m, C).to(dtype)
    student = learn.students(seeds, [size.d, factor * size.m, C], 0.005)
    student.weights[1] = starts(seeds, "top", factor * size.m, C) / (4 * factor) ** 0.5
    return follow(seeds, teacher, student.to(dtype), size, [0, size.steps], layers=[1] if frozen else None)


def bottom_up(seeds: Sequence[int], size: SimpleNamespace, dtype: torch.dtype) -> pd.DataFrame:
    """Return per seed, width and outputs the recovered share with a `frozen` and with a `trained` top layer."""
    rows = []
    for width in size.factors:
        for C in size.outputs:
            runs = [frozen_top(seeds, size, C, width, frozen, dtype) for frozen in (True, False)]
            shares = [(run.best[:, -1] > size.matched).mean(1) for run in runs]
            rows += [(seed, width, C, *pair) for seed, *pair in zip(seeds, *shares, strict=True)]
    return table(pd.DataFrame(rows, columns=["seed", "width", "outputs", "frozen", "trained"]), ["width", "outputs"])


def no_gate(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Train a linear student of a linear teacher and their ReLU twins (section 4.3).

    Returns:
        Per seed and kind: `recovered`, `best` (mean best correlation), `loss` at the end.
    """
    rows = []
    for kind in ("linear", "relu"):
        teacher = teachers.two_layer(seeds, size.d, size.m, size.outputs)
        teacher.linear = kind == "linear"
        student = learn.students(seeds, [size.d, size.n, size.outputs], 0.005, linear=kind == "linear")
        run = follow(seeds, teacher, student, size, [size.steps])
        for i, seed in enumerate(seeds):
            best = run.best[i, -1]
            rows.append((seed, kind, float((best > size.matched).mean()), float(best.mean()), float(run.loss[i, -1])))
    return table(pd.DataFrame(rows, columns=["seed", "kind", "recovered", "best", "loss"]), "kind")


def outputs(seeds: Sequence[int], size: SimpleNamespace, dtype: torch.dtype) -> pd.DataFrame:
    """Train 5x students of p = 1 teachers with 1 to many outputs of the same total power (section 5).

    Returns:
        Per seed and number of outputs: `share` of recovered teachers, `relative_loss` (over the power).
    """
    rows = []
    for C in size.outputs:
        teacher = teachers.two_layer(seeds, size.d, size.m, C, 1.0)
        X = learn.INPUTS * normal(seeds, "power", 2000, size.d)
        power = (teacher(X) - teacher.biases[1]).square().sum(-1).mean(1).sqrt()[:, None, None]
        teacher.weights[1] *= size.power**0.5 / power
        student = learn.students(seeds, [size.d, size.factor * size.m, C], 0.005)
        run = follow(seeds, teacher.to(dtype), student.to(dtype), size, [size.steps])
        for i, seed in enumerate(seeds):
            rows.append(
                (seed, C, float((run.best[i, -1] > size.matched).mean()), float(run.loss[i, -1] / run.power[i]))
            )
    return table(pd.DataFrame(rows, columns=["seed", "outputs", "share", "relative_loss"]), "outputs")
