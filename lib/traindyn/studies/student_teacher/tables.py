"""Tidy tables behind the figures of trained two-layer students (Figures 3, 4, 6, 7 and 11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from traindyn.studies.student_teacher.tasks import Trained

Runs = Mapping[int, Trained]


def cloud(runs: Runs, epochs: Sequence[float]) -> pd.DataFrame:
    """Return one row per student node: width, epoch, run (position of the seed), best correlation, fan-out norm."""
    parts = [
        {
            "width": f"{width}x",
            "epoch": f"epoch {epoch}",
            "run": i,
            "correlation": run.rho[i, run.at(epoch)],
            "norm": run.norm[i, run.at(epoch)],
        }
        for width, run in runs.items()
        for epoch in epochs
        for i in range(len(run.seeds))
    ]
    return pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)


def rates(sweeps: Sequence[Runs], matched: float, epochs: Sequence[float] = (5, 100)) -> pd.DataFrame:
    """Return over seeds how often each teacher is recovered: width, p, epoch, teacher, rate, at (a panel)."""
    rows = []
    for runs in sweeps:
        for width, run in runs.items():
            for epoch in (e for e in epochs if run.at(e) is not None):
                rate = (run.best[:, run.at(epoch)] > matched).mean(axis=0)
                at = f"$p$ = {run.p:g}, epoch {epoch}"
                rows += [(f"{width}x", run.p, epoch, j, r, at) for j, r in enumerate(rate)]
    table = pd.DataFrame(rows, columns=["width", "p", "epoch", "teacher", "rate", "at"])
    return table.sort_values(["epoch", "p"], kind="stable")


def losses(runs: Runs) -> pd.DataFrame:
    """Return the held-out loss per width, run and epoch, with its decimal logarithm."""
    parts = [
        pd.DataFrame({"width": f"{width}x", "p": run.p, "run": i, "epoch": run.epochs, "loss": loss})
        for width, run in runs.items()
        for i, loss in enumerate(run.loss)
    ]
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(log10_loss=np.log10(frame["loss"].clip(lower=1e-300)))


def best(run: Trained) -> pd.DataFrame:
    """Return the mean over seeds of the best correlation with each teacher after each epoch (Figure 7)."""
    mean = run.best.mean(axis=0)
    parts = [pd.DataFrame({"epoch": run.epochs, "teacher": j, "best": mean[:, j]}) for j in range(mean.shape[1])]
    table = pd.concat(parts, ignore_index=True)
    return table[table["epoch"] > 0]


def trajectories(run: Trained, updates: int) -> pd.DataFrame:
    """Return the first seed's students, each with the teacher that it ends at, over updates (Figure 4).

    Args:
        run: what was trained.
        updates: in one epoch.

    Returns:
        Columns: epoch, student, teacher, correlation, norm, updates (above 0).
    """
    final = run.pick[0, -1]
    parts: list[dict[str, Any]] = [
        {
            "epoch": run.epochs,
            "student": k,
            "teacher": int(final[k]),
            "correlation": run.rho[0, :, k],
            "norm": run.norm[0, :, k],
            "updates": run.epochs * updates,
        }
        for k in range(run.rho.shape[2])
    ]
    table = pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)
    return table[table["updates"] > 0].sort_values(["teacher", "student", "updates"], ignore_index=True)
