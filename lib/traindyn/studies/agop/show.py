"""What the notebook's short cells call: runs of several experiments put together, as rows to draw and as evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from traindyn import evidence
from traindyn.studies.agop import beyond, conv, images, ladders, optimizers, sgd
from traindyn.studies.agop.tables import rows_of


def deviations(found: pd.DataFrame, printed: Mapping[str, Mapping[int, float]], suffix: str = "") -> pd.DataFrame:
    """Return per seed and batch size what a run has more than the printed table.

    Args:
        found: of `sgd.over_batches`.
        printed: {"test": {batch: number}, "alignment": {batch: number}}.
        suffix: of the columns' names.

    Returns:
        off_test, off_alignment; batch sizes that are not printed are left out.
    """
    part = found[found["batch"].isin(list(printed["test"]))]
    frame = part[["seed", "batch"]].copy()
    for name in ("test", "alignment"):
        frame[f"off_{name}{suffix}"] = part[name] - part["batch"].map(printed[name])
    return evidence.table(frame, "batch")


def beside(found: pd.DataFrame, printed: Mapping[str, Mapping[int, float]]) -> pd.DataFrame:
    """Return the means over seeds beside the printed table, with their difference in units of the seeds' spread."""
    rows = []
    for batch, part in found.groupby("batch"):
        row = {"batch": int(batch), "seeds": len(part), "super-critical steps": part["super"].mean()}
        for name in ("alignment", "test"):
            ours, spread = part[name].mean(), part[name].std()
            row[name] = ours
            if batch in printed[name]:
                row |= {
                    f"{name}, printed": printed[name][batch],
                    f"{name}, spreads apart": (ours - printed[name][batch]) / spread,
                }
        rows.append(row)
    return pd.DataFrame(rows)


def biases(
    seeds: Sequence[int], size: Any, batches: Sequence[int], dtype: torch.dtype, printed: Any
) -> list[pd.DataFrame]:
    """Train Table 4.1's network with biases that start at zero and as N(0, 1); return `deviations` of both."""
    found = []
    for law in ("zero", "normal"):
        run, _ = sgd.over_batches(seeds, size, dtype, law=law, batches=batches)
        found.append(deviations(run, printed, f"_{law}"))
    return found


def small_rates(
    seeds: Sequence[int], size: Any, tenth: Any, dtype: torch.dtype
) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """Train at eta_crit/2, at eta_crit over size.small and at the rate `tenth.lr`, over batch sizes (Figures 4.10,
    C.23).

    Returns:
        The rows with a column `rate`; per seed `sgd.spreads` of the second and, with the suffix _tenth, of the third
        against the first.
    """
    large, _ = sgd.over_batches(seeds, size, dtype, divisor=size.divisor, patience=size.patience)
    small, _ = sgd.over_batches(seeds, size, dtype, divisor=size.small, patience=size.patience)
    least, _ = sgd.over_batches(list(seeds)[: tenth.seeds], tenth, dtype, lr=tenth.lr, patience=tenth.patience)
    named = {f"crit/{size.divisor:g}": large, f"crit/{size.small:g}": small, f"{tenth.lr:g}": least}
    rows = pd.concat([part.assign(rate=name) for name, part in named.items() if len(part)], ignore_index=True)
    return rows, [sgd.spreads(large, small), sgd.spreads(large, least).add_suffix("_tenth")]


def relative_spread(found: pd.DataFrame) -> pd.DataFrame:
    """Return per seed the spread over batches of the best validation loss, over the labels' variance (relative3)."""
    rows = []
    for seed, part in found.groupby("seed"):
        value = (part["validation"].max() - part["validation"].min()) / part["variance"].iloc[0]
        rows.append((seed, value if np.isfinite(value) else np.inf))
    return evidence.table(rows_of(rows, ["seed", "relative3"]))


def harder(seeds: Sequence[int], size: Any, dtype: torch.dtype) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """Train a deeper network on another polynomial at the printed rate, and at one at which all runs stay finite.

    Returns:
        The rows with a column `rate`; per seed and batch `finite`, per seed `sgd.trends`, both again with the suffix
        _weak.
    """
    printed, _ = sgd.over_batches(seeds, size, dtype, divisor=size.divisor, patience=size.patience)
    weak, _ = sgd.over_batches(seeds, size, dtype, divisor=size.weaker, patience=size.patience)
    named = {f"crit/{size.divisor:g}": printed, f"crit/{size.weaker:g}": weak}
    rows = pd.concat([part.assign(rate=name) for name, part in named.items()], ignore_index=True)
    k = len(size.batches)
    parts = [sgd.numbers(printed)[["finite"]], sgd.trends(printed, k)]
    return rows, parts + [sgd.numbers(weak)[["finite"]].add_suffix("_weak"), sgd.trends(weak, k).add_suffix("_weak")]


def suffixed(tables: Sequence[pd.DataFrame], suffix: str) -> list[pd.DataFrame]:
    """Return tables with a suffix on every column, to stand beside others in one check."""
    return [table.add_suffix(suffix) for table in tables]


def of_sets(runs: Mapping[str, tuple[pd.DataFrame, Sequence[pd.DataFrame]]]) -> list[pd.DataFrame]:
    """Return the tables of several data sets side by side, every column with the name of its set."""
    return [part for name, (_, found) in runs.items() for part in suffixed(found, f"_{name}")]


def image_sgd(
    seeds: Sequence[int], size: Any, dtype: torch.dtype, make: Any = None, patience: float = np.inf
) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """Train on images over batch sizes; return the rows, and `sgd.trends` with the first and the second reference."""
    options = {"divisor": size.divisor, "task": images.task, "make": make, "patience": patience}
    found, _ = sgd.over_batches(seeds, size, dtype, **options)
    other = found.assign(alignment=found["other"])
    k = len(size.batches)
    return found, [
        sgd.numbers(found)[["finite"]],
        sgd.trends(found, k),
        sgd.trends(other, k)[["with_alignment"]].add_suffix("_other"),
    ]


def many_classes(seeds: Sequence[int], size: Any, dtype: torch.dtype) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """Return `image_sgd` of a Myrtle-5 with one output per class."""
    return image_sgd(seeds, size, dtype, conv.myrtle, size.patience)


def image_gd(
    seeds: Sequence[int], size: Any, dtype: torch.dtype, make: Any = None, relative: bool = False
) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """Train on images with raised rates; return the rows, and per seed `ladders.trends` with both references."""
    found, _, _ = ladders.ladder(seeds, size, dtype, task=images.task, make=make, relative=relative)
    other = ladders.trends(found.assign(alignment=found["other"]))
    return found, [ladders.trends(found), other[["with_alignment", "gain_alignment"]].add_suffix("_other")]


def conv_gd(seeds: Sequence[int], size: Any, dtype: torch.dtype) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """Return `image_gd` of a convolutional network, at the printed rates and (suffix _relative) in units of n / ||K||.

    Returns:
        The rows with a column `task`; the tables of both.
    """
    printed, tables = image_gd(seeds, size, dtype, conv.network)
    relative, others = image_gd(seeds, size, dtype, conv.network, relative=True)
    rows = joined([printed.assign(task="printed rates"), relative.assign(task="in units of n/|K|")])
    return rows, [*tables, *suffixed(others, "_relative")]


def schedules(
    seeds: Sequence[int], size: Any, dtype: torch.dtype
) -> tuple[pd.DataFrame, pd.DataFrame, list[pd.DataFrame]]:
    """Run a printed schedule of a deeper network: scanned, with labels of unit variance, and in units of n / ||K||.

    Returns:
        The ladders' rows with a column `schedule`; the scan; per seed `ladders.trends` of the printed rates with
        labels of unit variance, with the suffix _relative of the rates in units of n / ||K|| and labels as they are,
        and survived and tried (settings of the scan in which no run diverged, and all of them).
    """
    unit = 1 / np.sqrt(ladders.variance(size))
    printed, _, _ = ladders.ladder(seeds, size, dtype, scale=unit)
    relative, _, _ = ladders.ladder(seeds, size, dtype, relative=True)
    scan = ladders.scan(list(seeds)[: size.scanned], size, dtype)
    named = {"printed, unit variance": printed, "in units of n/|K|": relative.assign(test=relative["test"] * unit**2)}
    rows = pd.concat([part.assign(schedule=name) for name, part in named.items()], ignore_index=True)
    counted = scan.groupby("seed")["finite"].agg(survived="sum", tried="count").reset_index()
    return rows, scan, [
        ladders.trends(printed), ladders.steps_of(printed), ladders.trends(relative).add_suffix("_relative"),
        evidence.table(counted if len(counted) else rows_of([], ["seed", "survived", "tried"])),
    ]  # fmt: skip


def optimised(
    sizes: Mapping[str, tuple[Sequence[int], Any]], dtype: torch.dtype
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Compare optimisers on several tasks.

    Args:
        sizes: task -> (seeds, sizes).
        dtype: of the training.

    Returns:
        All rows with a column `task`; task -> `optimizers.correlations`.
    """
    found = {name: optimizers.compare(seeds, size, dtype) for name, (seeds, size) in sizes.items()}
    rows = pd.concat([part.assign(task=name) for name, part in found.items()], ignore_index=True)
    return rows, {name: optimizers.correlations(part) for name, part in found.items()}


def windows(
    sizes: Mapping[str, tuple[Sequence[int], Any]], dtype: torch.dtype, read: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Follow stretches of several tasks; return the first seed's rows, and `sgd.window` with the case `task`."""
    rows, tables = [], {}
    for name, (seeds, size) in sizes.items():
        run, tables[name] = sgd.window(seeds, size, dtype, read)
        rows.append(run[run["seed"] == seeds[0]].assign(task=name))
    return pd.concat(rows, ignore_index=True), evidence.stacked(tables, "task")


def quadratic(seeds: Sequence[int], size: Any, dtype: torch.dtype) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Raise the rate of a network and of its quadratic model alike; return the rows with a column `model`, and their
    gains.

    Returns:
        Rows; per seed and model: gain_test, gain_alignment (with all increases against none), end (alignment with all).
    """
    found = {
        "network": ladders.ladder(seeds, size, dtype, relative=True)[0],
        "quadratic model": ladders.ladder(seeds, size, dtype, relative=True, make=beyond.frozen)[0],
    }
    tables = {name: ladders.trends(part)[["gain_test", "gain_alignment"]] for name, part in found.items()}
    return pd.concat([part.assign(model=name) for name, part in found.items()], ignore_index=True), evidence.stacked(
        tables, "model"
    )


def verdicts(table: pd.DataFrame, names: Mapping[str, str], case: str) -> pd.DataFrame:
    """Return mean, 95 % interval and sign of differences over seeds, one row per case and column.

    Args:
        table: evidence with levels seed and `case`.
        names: column -> words for it.
        case: the level.
    """
    from scipy.stats import t as student

    rows = []
    for value, part in table.groupby(level=case, sort=False):
        for name, words in names.items():
            x = part[name].dropna()
            wide = student.ppf(0.975, max(len(x) - 1, 1)) * x.std() / np.sqrt(max(len(x), 1))
            low, high = x.mean() - wide, x.mean() + wide
            word = "above 0" if low > 0 else "below 0" if high < 0 else "open"
            rows.append(
                {
                    case: value,
                    "number": words,
                    "mean": x.mean(),
                    "low": low,
                    "high": high,
                    "interval": word,
                    "seeds": len(x),
                }
            )
    return pd.DataFrame(rows)


def joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return rows of several tables as one; empty ones are left out."""
    full = [part for part in parts if len(part)]
    return pd.concat(full, ignore_index=True) if full else parts[0]


def none() -> pd.DataFrame:
    """Return the rows of `sgd.over_batches` for an experiment that was not run."""
    return rows_of([], ["seed", "batch", *sgd.NUMBERS])


def no_ladder() -> pd.DataFrame:
    """Return the rows of `ladders.ladder` for an experiment that was not run."""
    return rows_of([], ladders.READ)


def titles(drawn: Mapping[int, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the matrices of `ladders.ladder` with titles, at most four numbers of increases and the true one."""
    steps = [k for k in drawn if k >= 0]
    kept = steps if len(steps) <= 4 else [steps[round(i * (len(steps) - 1) / 3)] for i in range(4)]
    return {f"{k} increases": drawn[k] for k in kept} | {"true": drawn[-1]}


def scanned(scans: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the share of seeds whose printed schedule does not diverge, by setting, one column per task."""
    parts = {
        name: scan.groupby(["first", "scale", "hold"])["finite"].mean() for name, scan in scans.items() if len(scan)
    }
    return pd.DataFrame(parts)


def references(sizes: Mapping[str, Any]) -> pd.DataFrame:
    """Return accuracy and alignment of the reference models of the sets that this preset runs."""
    return pd.DataFrame({name: images.references(size) for name, size in sizes.items() if size.seeds}).T.round(3)
