"""Drawings of the chapter on catapults and feature learning: losses, alignments, matrices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from traindyn.report import plots
from traindyn.studies.agop.theory import largest_entry

PAIR = {"test": "test loss", "alignment": "AGOP alignment"}
ERROR = {"test": "test error", "alignment": "AGOP alignment"}
SETS = {"usps": "USPS", "fmnist": "Fashion-MNIST", "fashion_mnist": "Fashion-MNIST", "svhn_test_part": "SVHN"}
KINDS = plots.looks(["none", "decay", "trace", "root"])
MODELS = plots.looks(["network", "quadratic model"])


def matrices(blocks: Mapping[str, Tensor]) -> Figure:
    """Draw leading blocks of matrices as heat maps, each over its largest entry.

    Args:
        blocks: title -> matrix.
    """
    fig, axes = plots.panels(1, len(blocks), 2.2, titles=list(blocks))
    for ax, G in zip(axes, blocks.values(), strict=True):
        image = ax.imshow(np.abs(largest_entry(G)), vmin=0, vmax=1, cmap="viridis")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.grid(False)
        for side in ax.spines.values():
            side.set_visible(False)
    bar = fig.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("|entry| / largest")
    return fig


def entries(blocks: Mapping[str, Tensor]) -> pd.DataFrame:
    """Return what `matrices` draws as a tidy table: matrix, row, column, entry."""
    rows = []
    for name, G in blocks.items():
        block = np.abs(largest_entry(G))
        rows += [(name, i, j, block[i, j]) for i in range(len(block)) for j in range(len(block))]
    return pd.DataFrame(rows, columns=["matrix", "row", "column", "entry"])


def first(found: pd.DataFrame) -> Figure:
    """Draw test loss over AGOP alignment, one look per batch size: the chapter's question in one picture."""
    fig, axes = plots.panels()
    plots.points(
        axes[0],
        found.sort_values("batch"),
        "alignment",
        "test",
        "batch",
        "AGOP alignment",
        "test loss",
        legend="batch size",
    )
    return fig


def _over(found: pd.DataFrame, x: str, xlabel: str, ylabels: Mapping[str, str], log: str, hue: str | None) -> Figure:
    fig, axes = plots.panels(1, len(ylabels))
    for ax, (name, label) in zip(axes, ylabels.items(), strict=True):
        good = found[np.isfinite(found[name])]
        if len(good):
            plots.curves(ax, good, x, name, hue, "range", xlabel, label, log, legend=False)
            _marks(ax, good, x, name, hue)
        else:
            ax.text(0.5, 0.5, "no finite run", ha="center", va="center", transform=ax.transAxes)
    if hue and any(ax.lines for ax in axes):
        plots.legend_below(fig, axes, hue, 4)
    return fig


def _marks(ax: Axes, found: pd.DataFrame, x: str, y: str, hue: str | None) -> None:
    for line, (_, part) in zip(ax.lines, found.groupby(hue, sort=False) if hue else [(None, found)], strict=False):
        means = part.groupby(x)[y].mean()
        ax.plot(means.index, means, "o", ms=3.5, color=line.get_color())


def over_batches(found: pd.DataFrame) -> Figure:
    """Draw super-critical steps, test loss and alignment over the batch size (Figures 4.9, C.18, C.21)."""
    labels = {"super": "super-critical steps", **PAIR}
    return _ticks(_over(found, "batch", "batch size", labels, "x", None), found["batch"])


def two_rates(found: pd.DataFrame) -> Figure:
    """Draw test loss and alignment over the batch size at several rates (Figure 4.10)."""
    return _ticks(_over(found, "batch", "batch size", PAIR, "x", "rate"), found["batch"])


def image_batches(found: pd.DataFrame) -> Figure:
    """Draw test error and alignment over the batch size, one line per value of `task` (Figure C.21)."""
    return _ticks(_over(found.replace({"task": SETS}), "batch", "batch size", ERROR, "x", "task"), found["batch"])


def image_ladders(found: pd.DataFrame) -> Figure:
    """Draw test error and alignment over the number of increases, one line per value of `task` (Figures 4.8c, C.16)."""
    return _whole(_over(found.replace({"task": SETS}), "k", "increases of the rate", ERROR, "", "task"))


def _ticks(fig: Figure, values: pd.Series) -> Figure:
    ticks = sorted(values.unique())
    for ax in fig.axes:
        if ax.lines:
            ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    return fig


def validation(curves: pd.DataFrame, hue: str, n: int = 0) -> Figure:
    """Draw validation values over steps, one line per value of `hue`, of one seed (Figures C.13, C.19).

    Args:
        curves: columns step, validation and hue, of one seed.
        hue: its column.
        n: samples of the training set; given, the axis is in epochs of it, logarithmic, without the start.
    """
    fig, axes = plots.panels()
    shown = curves.copy()
    if n:
        shown["epoch"] = shown["step"] * shown[hue] / n
    shown = shown[np.isfinite(shown["validation"])]
    x, log = ("epoch", "xy") if n else ("step", "y")
    shown = shown[shown[x] > 0] if n else shown
    plots.curves(axes[0], shown, x, "validation", hue, None, x, "validation loss", log, legend=hue)
    return fig


def ladder(found: pd.DataFrame) -> Figure:
    """Draw catapults, test value and alignment over the number of increases (Figures 4.8, C.16, C.17)."""
    return _whole(_over(found, "k", "increases of the rate", {"catapults": "catapults", **PAIR}, "", None))


def ladders(found: pd.DataFrame) -> Figure:
    """Draw test value and alignment over the number of increases, one line per value of `task`."""
    return _whole(_over(found, "k", "increases of the rate", PAIR, "", "task"))


def _whole(fig: Figure) -> Figure:
    for ax in fig.axes:
        ax.xaxis.get_major_locator().set_params(integer=True)
    return fig


def losses(curves: pd.DataFrame) -> Figure:
    """Draw training and validation loss of one ladder over steps, one line per number of increases."""
    fig, axes = plots.panels(1, 2, titles=["training", "validation"])
    for ax, name in zip(axes, ("train", "validation"), strict=True):
        shown = curves[curves[name] < 1e6]  # what diverges leaves the panel
        plots.curves(ax, shown, "step", name, "k", None, "step", "loss", "y", legend="increases")
    return fig


def window(rows: pd.DataFrame) -> Figure:
    """Draw the loss of a stretch and its two parts, with a mark at every super-critical step (Figure C.22)."""
    tasks = list(rows["task"].unique())
    fig, axes = plots.panels(1, len(tasks), titles=tasks)
    names = {"loss": "whole", "lead": r"$\mathcal{L}_{\leq 1}$", "rest": r"$\mathcal{L}_{>1}$"}
    for ax, task in zip(axes, tasks, strict=True):
        part = rows[rows["task"] == task]
        tidy = part.melt(["step"], list(names), "part", "value").replace({"part": names})
        plots.curves(ax, tidy[tidy["value"] > 0], "step", "value", "part", None, "step", "training loss", "y")
        over = part.loc[part["over"].astype(bool), "step"]
        if len(over):
            ax.plot(over, np.full(len(over), 0.02), "|", color="0.4", ms=6, transform=ax.get_xaxis_transform())
    return fig


def optimizers(found: pd.DataFrame) -> Figure:
    """Draw test loss over alignment, one panel per task, one look per optimiser (Figure 4.11)."""
    tasks = list(found["task"].unique())
    fig, axes = plots.panels(1, max(1, len(tasks)), titles=tasks)
    look = plots.looks(list(found["optimizer"].unique()))
    for ax, task in zip(axes, tasks, strict=False):
        part = found[(found["task"] == task) & np.isfinite(found["test"])]
        last = task == tasks[-1]
        plots.points(ax, part, "alignment", "test", "optimizer", "AGOP alignment", "test loss", legend=last, look=look)
    return fig


def compared(found: pd.DataFrame) -> Figure:
    """Draw test loss and alignment of network and quadratic model over the number of increases."""
    return _whole(_over(found, "k", "increases of the rate", PAIR, "", "model"))


def penalties(found: pd.DataFrame) -> Figure:
    """Draw test loss and alignment over the strength of each penalty; a line of its own level for none."""
    fig, axes = plots.panels(1, 2)
    none = found[found["kind"] == "none"]
    for ax, (name, label) in zip(axes, PAIR.items(), strict=True):
        shown = found[found["kind"] != "none"]
        plots.curves(
            ax, shown, "strength", name, "kind", "range", "strength over initial value", label, "x", look=KINDS
        )
        plots.level(ax, float(none[name].mean()), "no penalty")
    return fig
