"""Whether the antipodal critical point attracts: five students pushed off it and trained again."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import generator, normal
from traindyn.evidence import table
from traindyn.studies.student_teacher import students as learn
from traindyn.studies.student_teacher.variants import follow

SIGNS = (1.0, 1.0, -1.0, 1.0, -1.0)  # fan-outs of -w^*, u_1, -u_1, u_2, -u_2, in units of the teacher's


def five(seeds: Sequence[int], d: int, C: int) -> tuple[learn.Nets, learn.Nets]:
    """Return teachers of one node and the five students that equal them without an aligned one, one pair per seed.

    Args:
        seeds: one pair each.
        d, C: inputs and outputs.
    """
    w = normal(seeds, "node", 1, d + 1)
    w = w / w[..., :-1].norm(dim=-1, keepdim=True)
    side = normal(seeds, "side", 1, d + 1)
    side = side - (side * w).sum(-1, keepdim=True) / w.square().sum(-1, keepdim=True) * w
    u1, u2 = w / 2 + side, w / 2 - side
    W = torch.cat([-w, u1, -u1, u2, -u2], 1).mT
    v = normal(seeds, "top", 1, C)
    signs = torch.tensor(SIGNS, dtype=torch.float64)[:, None]
    top = torch.zeros(len(seeds), 1, C, dtype=torch.float64)
    teacher = learn.Nets([w.mT[:, :-1].clone(), v.clone()], [w.mT[:, -1:].clone(), top.clone()])
    return teacher, learn.Nets([W[:, :-1].clone(), signs * v], [W[:, -1:].clone(), top.clone()])


def pushed(net: learn.Nets, seeds: Sequence[int], push: float) -> learn.Nets:
    """Return a copy whose weight vectors have moved by `push` times their norm, each in a random direction."""
    W, V = (part.clone() for part in net.weights)
    b, c = (part.clone() for part in net.biases)
    both = torch.cat([W, b], 1)
    moved = both + push * _direction(both, seeds, "push-1", 1) * both.norm(dim=1, keepdim=True)
    V = V + push * _direction(V, seeds, "push-2", 2) * V.norm(dim=2, keepdim=True)
    return learn.Nets([moved[:, :-1].clone(), V], [moved[:, -1:].clone(), c])


def _direction(like: Tensor, seeds: Sequence[int], purpose: str, dim: int) -> Tensor:
    noise = torch.stack([torch.randn(like.shape[1:], dtype=like.dtype, generator=generator(s, purpose)) for s in seeds])
    return noise / noise.norm(dim=dim, keepdim=True)


def attraction(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Push the five students off the critical point and train them by SGD; float64.

    Args:
        seeds: one teacher, one construction and one push each.
        size: d, outputs, pushes, n_train, n_eval, batch, lr, steps; aligned, the cosine from which a student counts as
            aligned (or, negative, as antipodal).

    Returns:
        Per seed and push: `before` and `after`, the loss before and after training over that of a student that outputs
        0; `found` (1 if a student is aligned with the teacher at the end) and `opposite` (1 if one is antipodal to it).
    """
    teacher, point = five(seeds, size.d, size.outputs)
    rows = []
    for push in size.pushes:
        run = follow(seeds, teacher, pushed(point, seeds, push), size, [0, size.steps])
        ends = run.loss / run.power[:, None], run.highest_cosine[:, -1, 0], run.lowest_cosine[:, -1, 0]
        for seed, path, high, low in zip(seeds, *ends, strict=True):
            rows.append((seed, push, *path, float(high > size.aligned), float(low < -size.aligned)))
    return table(pd.DataFrame(rows, columns=["seed", "push", "before", "after", "found", "opposite"]), "push")
