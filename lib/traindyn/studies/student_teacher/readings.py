"""Reading recovery rates, cover times and the L-shape off trained students (Figures 3, 4, 6, 7, 11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

MATCHED = 0.95
WEAK = slice(10, 20)  # the weaker half of 20 teachers


def recovery(run: Any, epoch: float) -> np.ndarray | None:
    """Return the share of recovered teachers per seed after an epoch, (R,), or None if it was not reached."""
    at = run.at(epoch)
    return None if at is None else (run.best[:, at] > MATCHED).mean(axis=1)


def cover_time(run: Any, last: float | None = None) -> np.ndarray:
    """Return the first recorded epoch at which each teacher is recovered, (R, m); one past the last if never."""
    last = run.epochs[-1] if last is None else last
    used = run.epochs <= last
    hit = run.best[:, used] > MATCHED
    first = run.epochs[used][hit.argmax(axis=1)]
    return np.where(hit.any(axis=1), first, last + 1).astype(float)


def order(run: Any, last: float | None = None) -> np.ndarray:
    """Return per seed the Spearman correlation (ties averaged) between teacher index and cover time, (R,)."""
    times = cover_time(run, last)
    # all at once: no order at all
    return np.array([0.0 if np.ptp(row) == 0 else spearmanr(np.arange(len(row)), row).statistic for row in times])


def followers(run: Any, epoch: float, above: float = MATCHED) -> np.ndarray:
    """Return the number of students aligned with each teacher after an epoch, (R, m)."""
    at = run.at(epoch)
    m = run.best.shape[2]
    aligned = run.rho[:, at] > above
    return np.stack([np.bincount(p[a], minlength=m) for p, a in zip(run.pick[:, at], aligned, strict=True)])


def l_shape(run: Any, epoch: float) -> dict[str, float]:
    """Return the L-shape's two numbers over the nodes of all seeds after an epoch.

    Returns:
        `ratio`: median |v| of nodes with correlation < 0.8 over that of nodes > 0.95 (NaN if either is empty);
        `corner`: share of nodes with correlation < 0.95 and |v| above half the aligned median.
    """
    at = run.at(epoch)
    rho, norm = run.rho[:, at].ravel(), run.norm[:, at].ravel()
    low, high = norm[rho < 0.8], norm[rho > MATCHED]
    if not high.size:
        return {"ratio": float("nan"), "corner": float("nan")}
    top = float(np.median(high))
    ratio = float(np.median(low)) / top if low.size else float("nan")
    return {"ratio": ratio, "corner": float(((rho < MATCHED) & (norm > top / 2)).mean())}


def l_shape_evidence(runs: Mapping[int, Any], early: float) -> dict[str, Any]:
    """Return parts and numbers of Figure 3; `early` is the epoch that the end is compared with."""
    parts, measured = {}, {}
    for factor, run in runs.items():
        first, last = l_shape(run, early), l_shape(run, run.epochs[-1])
        measured |= {f"ratio_{factor}x": last["ratio"], f"corner_{factor}x": last["corner"]}
        ratio = None if np.isnan(last["ratio"]) else bool(last["ratio"] < 0.5)
        falls = None if np.isnan(first["ratio"] + last["ratio"]) else bool(last["ratio"] < first["ratio"])
        corner = None if np.isnan(last["corner"]) else bool(last["corner"] < 0.05)
        parts |= {f"ratio-{factor}x": ratio, f"falls-{factor}x": falls, f"corner-{factor}x": corner}
    kept = ["corner-2x", *(f"{name}-{factor}x" for factor in (5, 10) for name in ("ratio", "falls", "corner"))]
    deciding = [parts.get(name) for name in kept]
    single = [parts.get("ratio-1x"), parts.get("corner-1x")]
    return {
        "parts": {
            **{name: parts.get(name) for name in kept},
            "1x": None if None in single else all(single),
            "wide": None if None in deciding else all(deciding),
        },
        "measured": measured,
        "seeds": len(next(iter(runs.values())).best),
    }


def cloud(runs: Mapping[int, Any], epochs: Sequence[float]) -> pd.DataFrame:
    """Return one row per node: width, seed (position), epoch, best correlation, fan-out norm."""
    rows = []
    for factor, run in runs.items():
        for epoch in epochs:
            at = run.at(epoch)
            for seed in range(len(run.rho)):
                rows.append(
                    pd.DataFrame(
                        {
                            "width": f"{factor}x",
                            "epoch": f"epoch {epoch}",
                            "run": seed,
                            "correlation": run.rho[seed, at],
                            "norm": run.norm[seed, at],
                        }
                    )
                )
    return pd.concat(rows, ignore_index=True)


def rates(runs: Mapping[int, Any], epochs: Sequence[float], teachers: Sequence[int] | None = None) -> pd.DataFrame:
    """Return the recovery rate of each teacher over seeds: columns width, p, epoch, teacher, rate."""
    rows = []
    for factor, run in runs.items():
        for epoch in epochs:
            if run.at(epoch) is None:
                continue
            rate = (run.best[:, run.at(epoch)] > MATCHED).mean(axis=0)
            rows += [
                (f"{factor}x", run.p, epoch, j, r) for j, r in enumerate(rate) if teachers is None or j in teachers
            ]
    return pd.DataFrame(rows, columns=["width", "p", "epoch", "teacher", "rate"])


def curves(runs: Mapping[int, Any]) -> pd.DataFrame:
    """Return the held-out loss per width, seed and epoch, with its decimal logarithm."""
    rows = []
    for factor, run in runs.items():
        for seed, loss in enumerate(run.loss):
            rows.append(
                pd.DataFrame({"width": f"{factor}x", "p": run.p, "run": seed, "epoch": run.epochs, "loss": loss})
            )
    frame = pd.concat(rows, ignore_index=True)
    return frame.assign(log10_loss=np.log10(frame["loss"].clip(lower=1e-300)))


def best_curves(run: Any) -> pd.DataFrame:
    """Return the mean over seeds of the best correlation with each teacher over epochs (Figure 7)."""
    mean = run.best.mean(axis=0)
    return pd.concat(
        [pd.DataFrame({"epoch": run.epochs, "teacher": j, "best": mean[:, j]}) for j in range(mean.shape[1])],
        ignore_index=True,
    )


def trajectories(run: Any, seed: int = 0) -> pd.DataFrame:
    """Return each student's correlation with the teacher that it ends at, over epochs (Figure 4), for one seed."""
    final = run.pick[seed, -1]
    rows = [
        pd.DataFrame(
            {
                "epoch": run.epochs,
                "student": k,
                "teacher": int(final[k]),
                "correlation": run.rho[seed, :, k],
                "norm": run.norm[seed, :, k],
            }
        )
        for k in range(run.rho.shape[2])
    ]
    return pd.concat(rows, ignore_index=True)


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of a mean over seeds."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
