"""Who sees whose boundary: observers in a ball, from data and exactly, and how often there is none (Definition 2)."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import generator
from traindyn.evidence import table


def observed(f: Tensor, f_teacher: Tensor) -> Tensor:
    r"""Return which student sees which teacher's boundary in a data set (Definition 2, as the authors estimate it).

    Student k sees teacher j if among the inputs that switch k on there are some with j on and some with j off.

    Args:
        f: (n, k) activations after the ReLU.  f_teacher: (n, m).

    Returns:
        booleans (k, m).
    """
    on = (f > 0).to(f_teacher)
    both = on.mT @ (f_teacher > 0).to(on)
    return (both > 0) & (on.sum(0)[:, None] - both > 0)


def observes_in_ball(w: Tensor, b: Tensor, w_teacher: Tensor, b_teacher: Tensor, radius: float) -> Tensor:
    r"""Return which student sees which teacher's boundary in the ball |x| < radius, exactly (Definition 2).

    On the hyperplane w_j^*.x + b_j^* = 0 inside the ball, w_k.x + b_k is largest at its point closest to the origin
    plus sqrt(radius^2 - distance^2) along the projection of w_k; the student sees it where that is positive.

    Args:
        w: (d, k), b: (k,): the students.  w_teacher: (d, m), b_teacher: (m,).
        radius: of the ball around the origin.

    Returns:
        booleans (k, m).
    """
    norm = w_teacher.norm(dim=0)
    unit, offset = w_teacher / norm, -b_teacher / norm
    along = w.T @ unit
    across = (w.norm(dim=0)[:, None] ** 2 - along**2).clamp_min(0).sqrt()
    reach = (radius**2 - offset**2).clamp_min(0).sqrt()
    return (along * offset + b[:, None] + across * reach > 0) & (offset.abs() < radius)


def observers(seeds: Sequence[int], size: SimpleNamespace) -> list[pd.DataFrame]:
    """Count who sees whom in a ball, from data and exactly, and how often nobody does (Definition 2).

    Students have random unit weights and biases uniform in [-1.6, 0.2], so many see nothing of a ball of radius 1.

    Returns:
        Per seed: `agree` (share of pairs on which data and geometry agree), `chance` (probability that one student
        sees one teacher), `z_copies` (share of teachers without observer among 8 copies of one student minus the mean
        of (1 - p_j)^8, in standard errors), `slope_gap` (relative gap of the observers' growth with n to the chance),
        `relu_zero`, `plane_zero` (mass of {f_j = 0} as printed, and of {|w.x + b| < 1e-6}).
        Per seed and number n of students that are drawn one by one: `z`, as `z_copies`.
    """
    rows, independent = [], []
    for seed in seeds:
        d, many = size.d, size.students
        draw = generator(seed, "observers")
        unit = torch.randn(size.samples, d, dtype=torch.float64, generator=draw)
        X = unit / unit.norm(dim=1, keepdim=True)
        X = X * torch.rand(size.samples, 1, dtype=torch.float64, generator=draw) ** (1 / d)
        w = torch.randn(d, many, dtype=torch.float64, generator=draw)
        w = w / w.norm(dim=0)
        b = 1.8 * torch.rand(many, dtype=torch.float64, generator=draw) - 1.6
        w_star = torch.randn(d, size.teachers, dtype=torch.float64, generator=draw)
        w_star = w_star / w_star.norm(dim=0)
        b_star = 0.6 * torch.rand(size.teachers, dtype=torch.float64, generator=draw) - 0.3
        exact = observes_in_ball(w, b, w_star, b_star, 1.0)
        few = slice(0, size.compared)
        data = observed((X @ w[:, few] + b[few]).relu(), (X @ w_star + b_star).relu())
        p = exact.double().mean(0)
        row = {"seed": seed, "agree": float((data == exact[few]).double().mean()), "chance": float(p.mean())}
        for n in (2, 3, 4):
            groups = exact[: many // n * n].reshape(-1, n, size.teachers)
            independent.append((seed, n, _excess(~groups.any(1), (1 - p) ** n)))
        copies = exact[: many // 8, None].expand(-1, 8, -1)
        row["z_copies"] = _excess(~copies.any(1), (1 - p) ** 8)
        counts = [float(exact[:n].double().sum(0).mean()) for n in size.counts]
        slope = np.polyfit(size.counts, counts, 1)[0]
        row["slope_gap"] = abs(slope / float(p.mean()) - 1)
        f = X @ w_star + b_star
        row |= {
            "relu_zero": float((f.relu() == 0).double().mean()),
            "plane_zero": float((f.abs() < 1e-6).double().mean()),
        }
        rows.append(row)
    return [
        table(pd.DataFrame(rows)),
        table(pd.DataFrame(independent, columns=["seed", "students", "z"]), "students"),
    ]


def _excess(alone: Tensor, expected: Tensor) -> float:
    """Return (share of groups with nobody - expected) / standard error, averaged over teachers.

    Groups are independent; teachers within a group are not, so the error is taken over groups.
    """
    per_group = alone.double().mean(1)
    return float((per_group.mean() - expected.mean()) / (per_group.std() / len(per_group) ** 0.5))
