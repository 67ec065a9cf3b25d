"""What the figures on gradient descent are read by: spikes, shares of the rise, phases, largest usable rates."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch

from traindyn.compute import generator
from traindyn.learn import models
from traindyn.learn.models import taylor
from traindyn.learn.train import Stop, fit
from traindyn.measure.ntk import empirical_ntk
from traindyn.measure.spectrum import times_critical
from traindyn.studies.catapults import tasks


def single(frame: pd.DataFrame, space: int = 5) -> pd.DataFrame:
    """Read a catapult off every seed's run.

    Args:
        frame: of `tasks.follow`.
        space: number of leading directions s.

    Returns:
        One row per seed: peak and final (loss over the initial loss), rise (largest factor by which the loss climbs
        above what it had come down to, before it has come down to a tenth of its start), kernel (||K|| at the end over
        its start), edge (critical rate at the end over the rate), share (of the upward variation in L_{>s}), steps_up
        (steps at which L_{>s} rises), worst (its largest relative one-step rise), defect, converged (not diverged).
    """
    rows = []
    for seed, run in frame.groupby("seed"):
        loss, rest = run["loss"].to_numpy(), run[f"rest_{space}"]
        up, down = tasks.rises(run[f"lead_{space}"]), tasks.rises(rest)
        change = rest.diff()
        floor = np.minimum.accumulate(np.nan_to_num(loss, nan=np.inf))
        rows.append(
            {
                "seed": seed,
                "peak": np.nanmax(loss) / loss[0],
                "final": loss[-1] / loss[0],
                "rise": np.nanmax((loss / floor)[floor > 0.1 * loss[0]]),
                "kernel": run["norm"].iloc[-1] / run["norm"].iloc[0],
                "edge": run["critical"].iloc[-1] / run["rate"].iloc[-1],
                "share": down / (up + down) if up + down else 0.0,
                "steps_up": int((change > 0).sum()),
                "worst": float((change / rest.shift()).max()),
                "defect": float(run["defect"].max()),
                "converged": run["outcome"].iloc[0] != "diverged",
            }
        )
    return pd.DataFrame(rows)


def shares(frame: pd.DataFrame, spaces: Sequence[int] = tasks.SPACES) -> pd.DataFrame:
    """Return `single` for several numbers of leading directions, with a column s."""
    present = [s for s in spaces if f"rest_{s}" in frame]
    return pd.concat([single(frame, s).assign(s=s) for s in present], ignore_index=True)


def phases(frame: pd.DataFrame, starts: Sequence[int], space: int = 10) -> pd.DataFrame:
    """Read every phase of a run with a rising rate.

    Args:
        frame: of `tasks.follow`.
        starts: first steps of the phases.
        space: number of leading directions.

    Returns:
        One row per seed and phase: rise (largest loss in the phase over the loss at its start), norm (||K|| at its
        last step over the start of the run), share and worst of L_{>space}, end (loss at its last step over the
        initial loss), loss (the same, absolute), ratio (of the phase's rate to the critical one at the start).
    """
    rows = []
    for seed, run in frame.groupby("seed"):
        run = run.set_index("step")
        stops = [*starts[1:], int(run.index.max())]
        for phase, (first, last) in enumerate(zip(starts, stops, strict=True), 1):
            part = run.loc[first:last]
            if len(part) < 2:
                continue
            lead, rest = part[f"lead_{space}"], part[f"rest_{space}"]
            up, down = tasks.rises(lead), tasks.rises(rest)
            rows.append(
                {
                    "seed": seed,
                    "phase": phase,
                    "rise": part["loss"].max() / part["loss"].iloc[0],
                    "norm": part["norm"].iloc[-1] / run["norm"].iloc[0],
                    "share": down / (up + down) if up + down else 0.0,
                    "worst": float((rest.diff() / rest.shift()).max()),
                    "end": part["loss"].iloc[-1] / run["loss"].iloc[0],
                    "loss": part["loss"].iloc[-1],
                    "ratio": part["ratio"].iloc[0],
                }
            )
    return pd.DataFrame(rows)


def outcome(frame: pd.DataFrame) -> list[str]:
    """Say for every seed how a run ended: diverged, collapsed, converged (below 1 % of the initial loss) or open.

    Collapse: ||K|| is below 1 % of its start; the network has been thrown to small weights, where gradient descent
    hardly moves it any more.
    """
    words = []
    for _, run in frame.groupby("seed"):
        last = run.iloc[-1]
        if last["outcome"] == "diverged":
            words.append("diverged")
        elif last["norm"] < 0.01 * run["norm"].iloc[0]:
            words.append("collapsed")
        else:
            words.append("converged" if last["loss"] < 0.01 * run["loss"].iloc[0] else "open")
    return words


def drift(seeds: Sequence[int], size: SimpleNamespace, dtype: torch.dtype, device: Any, bias: str) -> pd.DataFrame:
    """Train at half the critical rate for several depths and widths, and read how far ||K|| moves.

    Args:
        seeds: one run each.
        size: attributes of `tasks.follow`, and nets: [[depth, [widths]], ...].
        dtype, device, bias: as in `tasks.follow`.

    Returns:
        One row per depth, width and seed: drift (| ||K||(T)/||K||(0) - 1 |), rises (steps at which the loss rises),
        peak (largest loss over the initial one).
    """
    rows = []
    for depth, widths in size.nets:
        for width in widths:
            own = SimpleNamespace(**{**vars(size), "depth": depth, "width": width})
            frame = tasks.follow(seeds, own, [(0, 0.5)], dtype, device, bias, every=0)
            for seed, run in frame.groupby("seed"):
                norms = run["norm"].dropna()
                moved = abs(norms.iloc[-1] / norms.iloc[0] - 1)
                row = {"depth": depth, "width": width, "seed": seed, "drift": moved}
                row |= {"rises": int((run["loss"].diff() > 0).sum()), "peak": run["loss"].max() / run["loss"].iloc[0]}
                rows.append(row)
    return pd.DataFrame(rows)


def shrinks(table: pd.DataFrame) -> bool:
    """Return whether the mean drift falls from each width to the next at every depth."""
    means = table.groupby(["depth", "width"])["drift"].mean()
    return all(bool((means.loc[depth].sort_index().diff().dropna() < 0).all()) for depth in table["depth"].unique())


def survival(
    seeds: Sequence[int],
    size: SimpleNamespace,
    dtype: torch.dtype,
    device: Any,
    bias: str = "none",
    quadratic: bool = False,
) -> pd.DataFrame:
    """Train at a grid of rates and read which of them diverge, and which end where.

    Args:
        seeds: one run per rate each.
        size: attributes of `tasks.follow`, and ratios (rates over the critical rate at the start).
        dtype, device, bias: as in `tasks.follow`.
        quadratic: train the second-order Taylor model of a two-layer network (its gates are fixed at the start).

    Returns:
        One row per seed and ratio: diverged, final (loss at the end over the initial one; NaN if it diverged).
    """
    frames = []
    for seed in seeds:
        X, y = (t.to(device) for t in tasks.task(seed, size, dtype))
        model = tasks.network(size, bias)
        if quadratic:
            model = taylor.quadratize(models.TwoLayer(X.shape[1], size.width))
        run = fit(
            model,
            X,
            y,
            lr=[times_critical(ratio) for ratio in size.ratios],
            steps=size.steps,
            seeds=[seed],
            dtype=dtype,
            stop=Stop(diverged=tasks.DIVERGED),
            record=[0],
            progress=False,
        )
        loss = run.frame.groupby("run")["loss"]
        gone = (run.summary["outcome"] == "diverged").to_numpy()
        final = np.where(gone, np.nan, (loss.last() / loss.first()).to_numpy())
        frames.append(pd.DataFrame({"seed": seed, "ratio": size.ratios, "diverged": gone, "final": final}))
    return pd.concat(frames, ignore_index=True)


def limits(table: pd.DataFrame, low: float, high: float) -> pd.DataFrame:
    """Read `survival` per seed.

    Args:
        table: of `survival`.
        low, high: two ratios of the grid.

    Returns:
        One row per seed: bounded (survives `low` and diverges at `high`), first (lowest ratio that diverges; NaN if
        none does), usable (largest ratio that ends below a tenth of the initial loss; 0 if none does).
    """
    rows = []
    for seed, run in table.groupby("seed"):
        gone = run.set_index("ratio")["diverged"]
        rows.append(
            {
                "seed": seed,
                "bounded": bool(not gone[low] and gone[high]),
                "first": run.loc[run["diverged"], "ratio"].min(),
                "usable": run.loc[run["final"] < 0.1, "ratio"].max() if (run["final"] < 0.1).any() else 0.0,
            }
        )
    return pd.DataFrame(rows)


def scan(seed: int, size: SimpleNamespace, dtype: torch.dtype) -> pd.DataFrame:
    """Return n/||K|| at the start on the rank-2 task for depths, bias laws, input factors and output biases.

    Args:
        seed: of data and weights.
        size: attributes n, dim, width, depths.
        dtype: of the computation.

    Returns:
        One row per setting: depth, hidden bias, output bias, input factor, critical.
    """
    X, _ = tasks.task(seed, size, dtype)
    laws = [("none", False), ("zero", False), ("normal", False), ("zero", True)]
    rows = []
    for depth in size.depths:
        for law, out in laws:
            for factor in (1.0, 2**0.5):
                model = models.FCN(
                    size.dim, size.width, depth, bias=tasks.BIASES[law], output_bias="zero" if out else False
                ).to(dtype)
                model.reset(generator(seed, "init"))
                K = empirical_ntk(model, factor * X)
                rows.append(
                    {
                        "depth": depth,
                        "hidden bias": law,
                        "output bias": "zero" if out else "none",
                        "input factor": round(factor, 3),
                        "critical": len(X) / torch.linalg.eigvalsh(K)[-1].item(),
                    }
                )
    return pd.DataFrame(rows)
