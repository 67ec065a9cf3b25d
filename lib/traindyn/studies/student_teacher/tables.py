"""Tidy tables behind the figures of trained two-layer students (Figures 3, 4, 6, 7 and 11)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from traindyn.studies.student_teacher import evidence
from traindyn.studies.student_teacher.tasks import Trained

Runs = Mapping[int, Trained]
WIDTHS = (1, 2, 5, 10)


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
        run: what was trained, with all pairs.
        updates: in one epoch.

    Returns:
        Columns: epoch, student, teacher, lead (correlation with the strongest teacher), own (with the one where it
        ends), norm, updates (above 0).
    """
    final = run.pick[0, -1]
    parts: list[dict[str, Any]] = [
        {
            "epoch": run.epochs,
            "student": k,
            "teacher": int(final[k]),
            "lead": run.lead[0, :, k],
            "own": run.pairs[0, :, k, final[k]],
            "norm": run.norm[0, :, k],
            "updates": run.epochs * updates,
        }
        for k in range(run.rho.shape[2])
    ]
    table = pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)
    return table[table["updates"] > 0].sort_values(["teacher", "student", "updates"], ignore_index=True)


def told(runs: Runs, narrow: Trained, matched: float, aligned: float, chased: float) -> dict[str, float]:
    """Return the numbers that the chapter's prose reads off the sweep; NaN where the run is too short for one.

    Args:
        runs: by width.
        narrow: 1x students that were trained longer, perhaps of more seeds.
        matched, aligned, chased: correlations, as in `evidence`.

    Returns:
        By width (`1x`, ...): `early_` and `late_`, the mean share of teachers recovered after 5 and 100 epochs;
        `cover_`, the mean epoch at which the weaker half is; `loss10_` and `loss100_`, decimal logarithm of the median
        held-out loss; `idle_` and `carried_`, mean number of unmatched students after 100 epochs and the sum of their
        fan-out norms. At 5x: `chasing`, `switched` (shares), `first`, `last` (median cover time of the strongest and
        the weakest teacher). At 1x: `short`, `doubled` (mean numbers of missed teachers and doubled students after 200
        epochs).
    """
    found: dict[str, float] = {}
    for width in WIDTHS:
        run = runs.get(width)
        rates = {e: _mean(evidence.recovery(run, e, matched)) if _has(run, e) else math.nan for e in (5, 100)}
        found |= {f"early_{width}x": rates[5], f"late_{width}x": rates[100]}
        cover = evidence.faster({width: run} if run else {}, matched)["cover"]
        found[f"cover_{width}x"] = float(cover.mean())
        for epoch in (10, 100):
            losses = run.loss[:, run.at(epoch)] if _has(run, epoch) else [math.nan]
            found[f"loss{epoch}_{width}x"] = float(np.log10(np.median(losses)))
        loose = run.rho[:, run.at(100)] < matched if _has(run, 100) else None
        found[f"idle_{width}x"] = math.nan if loose is None else _mean(loose.sum(1))
        found[f"carried_{width}x"] = math.nan if loose is None else _mean((run.norm[:, run.at(100)] * loose).sum(1))
    opening, moves = evidence.focus_shifting(runs, chased, aligned)
    _, stuck, _ = evidence.stuck(runs, narrow, {}, matched)
    five = moves.query("width == 5")
    times = evidence.cover_time(runs[5], matched)
    return found | {
        "chasing": float(opening["chasing"].mean()),
        "switched": float((five["switched"] / five["chasers"]).mean()),
        "first": float(np.median(times[:, 0])),
        "last": float(np.median(times[:, -1])),
        "short": float((1 - stuck["share"]).mean() * times.shape[1]),
        "doubled": float(stuck["doubled"].mean()),
    }


def _has(run: Trained | None, epoch: float) -> bool:
    return run is not None and run.at(epoch) is not None


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values))
