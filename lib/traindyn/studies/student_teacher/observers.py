"""Who sees whose boundary: observers in a ball, from data and exactly, and how often there is none (Definition 2)."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import generator
from traindyn.measure import teacher as measure


def observers(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Count who sees whom in a ball, from data and exactly, and how often nobody does (Definition 2).

    Students have random unit weights and biases uniform in [-1.6, 0.2], so many see nothing of a ball of radius 1.

    Returns:
        Per seed: `agree` (share of pairs on which data and geometry agree), `chance` (probability that one student
        sees one teacher), `z_<n>` (share of teachers without observer among n students minus the mean of
        (1 - p_j)^n, in standard errors), `z_copies` (the same for 8 copies of one student), `slope_gap`
        (relative gap of the observers' growth with n to the chance), `relu_zero`, `plane_zero` (mass of
        {f_j = 0} as printed, and of {|w.x + b| < 1e-6}).
    """
    rows = []
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
        exact = measure.observes_in_ball(w, b, w_star, b_star, 1.0)
        few = slice(0, size.compared)
        data = measure.observed((X @ w[:, few] + b[few]).relu(), (X @ w_star + b_star).relu())
        p = exact.double().mean(0)
        row = {"seed": seed, "agree": float((data == exact[few]).double().mean()), "chance": float(p.mean())}
        for n in (2, 3, 4):
            groups = exact[: many // n * n].reshape(-1, n, size.teachers)
            row[f"z_{n}"] = _excess(~groups.any(1), (1 - p) ** n)
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
    return pd.DataFrame(rows)


def _excess(alone: Tensor, expected: Tensor) -> float:
    """Return (share of groups with nobody - expected) / standard error, averaged over teachers.

    Groups are independent; teachers within a group are not, so the error is taken over groups.
    """
    per_group = alone.double().mean(1)
    return float((per_group.mean() - expected.mean()) / (per_group.std() / len(per_group) ** 0.5))
