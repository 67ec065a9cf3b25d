"""What the figures on gradient descent are read by: spikes, shares of the rise, phases, largest usable rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch

from traindyn.learn import models
from traindyn.learn.models import taylor
from traindyn.learn.train import Stop, fit
from traindyn.measure.curves import upward_variation
from traindyn.measure.spectrum import network_critical_lr, relative
from traindyn.studies.catapults import tasks


def single(frame: pd.DataFrame, space: int = 5) -> pd.DataFrame:
    """Read a catapult off every seed's run.

    Args:
        frame: of `tasks.follow`.
        space: number of leading directions s.

    Returns:
        One row per seed: peak and final (loss over the initial loss), norm (||K|| at the end over its start), edge
        (critical rate at the end over the rate), share (of the upward variation in L_{>s}), steps_up (steps at which
        L_{>s} rises), worst (its largest relative one-step rise), defect (largest, of the split). A run that diverged
        has peak = final = norm = inf and edge = 0.
    """
    rows = []
    for seed, run in frame.groupby("seed"):
        loss, rest = run["loss"].to_numpy(), run[f"rest_{space}"]
        up, down = upward_variation(run[f"lead_{space}"]), upward_variation(rest)
        change = rest.diff()
        gone = diverged(run)
        rows.append(
            {
                "seed": seed,
                "peak": math.inf if gone else loss.max() / loss[0],
                "final": math.inf if gone else loss[-1] / loss[0],
                "norm": math.inf if gone else run["norm"].iloc[-1] / run["norm"].iloc[0],
                "edge": 0.0 if gone else run["critical"].iloc[-1] / run["rate"].iloc[-1],
                "share": down / (up + down) if up + down else 0.0,
                "steps_up": int((change > 0).sum()),
                "worst": float((change / rest.shift()).max()),
                "defect": float(run["defect"].max()),
            }
        )
    return tasks.rows_of(rows, "peak", "final", "norm", "edge", "share", "steps_up", "worst", "defect")


def diverged(run: pd.DataFrame) -> bool:
    """Return whether the run of one seed diverged."""
    return bool(run["outcome"].iloc[0] == "diverged")


def climb(frame: pd.DataFrame, fallen: float) -> pd.DataFrame:
    """Return per seed the largest factor by which the loss climbs above what it had come down to; inf if it diverged.

    Args:
        frame: of `tasks.follow`.
        fallen: a climb that begins below this share of the initial loss does not count.
    """
    rows = []
    for seed, run in frame.groupby("seed"):
        loss = run["loss"].to_numpy()
        floor = np.minimum.accumulate(np.nan_to_num(loss, nan=np.inf))
        height = math.inf if diverged(run) else (loss / floor)[floor > fallen * loss[0]].max()
        rows.append({"seed": seed, "climb": height})
    return tasks.rows_of(rows, "climb")


def shares(frame: pd.DataFrame, spaces: Sequence[int] = tasks.SPACES) -> pd.DataFrame:
    """Return `single` for several numbers of leading directions, with a column s."""
    present = [s for s in spaces if f"rest_{s}" in frame]
    return pd.concat([single(frame, s).assign(s=s) for s in present], ignore_index=True)


def shares_of(runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return `shares` of several runs, with a column run."""
    return pd.concat([shares(frame).assign(run=name) for name, frame in runs.items()], ignore_index=True)


def phases(frame: pd.DataFrame, starts: Sequence[int], space: int = 10) -> pd.DataFrame:
    """Read every phase of a run with a rising rate.

    Args:
        frame: of `tasks.follow`.
        starts: first steps of the phases.
        space: number of leading directions.

    Returns:
        One row per seed and phase: peak (largest loss in the phase over the loss at its start), norm (||K|| at its
        last step over the start of the run), loss (at its last step), share and worst of L_{>space} as in `single`,
        ratio (of the phase's rate to the critical one at the start; NaN if it was not reached). From the phase in
        which a run diverges on, norm = loss = inf; that phase has peak = inf, those after it, never reached, peak = 0.
    """
    rows = []
    for seed, run in frame.groupby("seed"):
        gone, run = diverged(run), run.set_index("step")
        end = int(run.index.max())
        for phase, (first, last) in enumerate(zip(starts, [*starts[1:], end], strict=True), 1):
            part, over = run.loc[first:last], gone and end <= last
            row = {"seed": seed, "phase": phase, "peak": 0.0, "norm": math.inf, "loss": math.inf}
            row |= {"share": 0.0, "worst": 0.0, "ratio": math.nan}
            if len(part) > 1 and first < end:
                lead, rest = part[f"lead_{space}"], part[f"rest_{space}"]
                up, down = upward_variation(lead), upward_variation(rest)
                row |= {
                    "peak": math.inf if over else part["loss"].max() / part["loss"].iloc[0],
                    "norm": math.inf if over else part["norm"].iloc[-1] / run["norm"].iloc[0],
                    "loss": math.inf if over else part["loss"].iloc[-1],
                    "share": down / (up + down) if up + down else 0.0,
                    "worst": float((rest.diff() / rest.shift()).max()),
                    "ratio": part["ratio"].iloc[0],
                }
            rows.append(row)
    return tasks.rows_of(rows, "phase", "peak", "norm", "loss", "share", "worst", "ratio")


def drift(size: Any, follow: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Train at half the critical rate for several depths and widths, and read how far ||K|| moves.

    Args:
        size: attributes of `tasks.follow`, and nets: [[depth, [widths]], ...].
        follow: of `tasks.follower`.

    Returns:
        One row per depth, width and seed: drift (| ||K||(T)/||K||(0) - 1 |), rises (steps at which the loss rises),
        peak (largest loss over the initial one).
    """
    rows = []
    for depth, widths in size.nets:
        for width in widths:
            frame = follow(tasks.variant(size, depth=depth, width=width), 0.5, every=0)
            for seed, run in frame.groupby("seed"):
                norms, loss = run["norm"].dropna(), run["loss"]
                row = {"depth": depth, "width": width, "seed": seed, "drift": abs(norms.iloc[-1] / norms.iloc[0] - 1)}
                rows.append(row | {"rises": int((loss.diff() > 0).sum()), "peak": loss.max() / loss.iloc[0]})
    return pd.DataFrame(rows)


def survival(
    size: Any,
    seeds: Sequence[int],
    dtype: torch.dtype,
    device: Any,
    bias: str = "none",
    quadratic: bool = False,
) -> pd.DataFrame:
    """Train at a grid of rates and read which of them diverge, and which end where.

    Args:
        size: attributes of `tasks.follow`, and ratios (rates over the critical rate at the start).
        seeds: one run per rate each.
        dtype, device, bias: as in `tasks.follow`.
        quadratic: train the second-order Taylor model of a two-layer network (its gates are fixed at the start).

    Returns:
        One row per seed and ratio: diverged, final (loss at the end over the initial one; inf if it diverged).
    """
    X, y = tasks.task(seeds[0], size, dtype)
    two = taylor.quadratize(models.TwoLayer(X.shape[1], size.width)) if quadratic else None
    run = fit(
        two or tasks.network(size, X, y, bias),
        lambda seed: tasks.task(seed, size, dtype),
        lr=[relative(ratio) for ratio in size.ratios],
        steps=size.steps,
        seeds=list(seeds),
        dtype=dtype,
        device=device,
        stop=Stop(diverged=tasks.DIVERGED),
        record=[0],
        progress=False,
    )
    loss = run.frame.groupby("run")["loss"]
    found = run.summary[["seed", "lr_ratio"]].rename(columns={"lr_ratio": "ratio"})
    found["diverged"] = (run.summary["outcome"] == "diverged").to_numpy()
    found["final"] = np.where(found["diverged"], np.inf, (loss.last() / loss.first()).to_numpy())
    return found


def limits(table: pd.DataFrame, trained: float) -> pd.DataFrame:
    """Read `survival` per seed.

    Args:
        table: of `survival`.
        trained: a run has trained when it ends below this share of its initial loss.

    Returns:
        One row per seed: diverges_from (lowest ratio that diverges; inf if none does), usable (largest ratio that
        trains; 0 if none does), highest (largest ratio of the grid).
    """
    rows = []
    for seed, run in table.groupby("seed"):
        gone, done = run.loc[run["diverged"], "ratio"], run.loc[run["final"] < trained, "ratio"]
        rows.append(
            {
                "seed": seed,
                "diverges_from": gone.min() if len(gone) else math.inf,
                "usable": done.max() if len(done) else 0.0,
                "highest": run["ratio"].max(),
            }
        )
    return pd.DataFrame(rows)


def scan(size: Any, seeds: Sequence[int], dtype: torch.dtype) -> pd.DataFrame:
    """Return n/||K|| at the start on the rank-2 task for depths, bias laws, input factors and output biases.

    Args:
        size: attributes n, dim, width, depths.
        seeds: of data and weights.
        dtype: of the computation.

    Returns:
        One row per seed and setting: depth, hidden bias, output bias, input factor, critical.
    """
    laws = [("none", False), ("zero", False), ("normal", False), ("zero", True)]
    rows = []
    for seed, depth, (law, out), factor in product(seeds, size.depths, laws, (1.0, 2**0.5)):
        X, _ = tasks.task(seed, size, dtype)
        model = models.FCN(size.dim, size.width, depth, bias=tasks.BIASES[law], output_bias="zero" if out else False)
        rows.append(
            {
                "seed": seed,
                "depth": depth,
                "hidden bias": law,
                "output bias": "zero" if out else "none",
                "input factor": round(factor, 3),
                "critical": network_critical_lr(models.drawn(model, seed, dtype), factor * X).item(),
            }
        )
    return pd.DataFrame(rows)


def closest(scan: pd.DataFrame, printed: float, count: int = 8) -> pd.DataFrame:
    """Return the settings of `scan` whose mean rate over the seeds comes closest to a printed one."""
    by = scan.groupby([name for name in scan.columns if name not in ("seed", "critical")], sort=False)["critical"]
    means = by.agg(["mean", "min", "max"]).reset_index()
    return means.iloc[(means["mean"] - printed).abs().argsort()[:count]]
