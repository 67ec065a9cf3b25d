"""One look for every figure: legible in print and on a dark page, and never by colour alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PALETTE = sns.color_palette("colorblind", 8)
DASHES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
LABELS = {"srel": r"$S_{\mathrm{rel}}$", "t": "step $t$", "loss": "loss", "distance": r"$\|x-x'\|_2$"}

STYLE = {
    "figure.facecolor": "white",  # a dark page shows the figure as a white card, as a printed page does
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": "0.3",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "axes.labelsize": 10,
    "axes.titlesize": 10,
    "font.size": 10,
    "legend.fontsize": 8.5,
    "legend.frameon": True,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "0.9",
    "lines.linewidth": 1.6,
    "svg.hashsalt": "traindyn",  # the same figure gives the same file
}


@contextmanager
def style() -> Iterator[None]:
    """Apply the book's look inside the block."""
    with mpl.rc_context(STYLE):
        yield


def panels(
    rows: int = 1,
    cols: int = 1,
    height: float = 2.8,
    titles: Sequence[str] | None = None,
    sharex: bool | str = False,
    sharey: bool | str = False,
) -> tuple[Figure, list[Axes]]:
    """Return a figure of rows x cols panels and its axes as a flat list.

    Args:
        rows, cols: number of panels.
        height: height of one panel, in inches; the width follows from the page (at most 9.5 inches in all).
        titles: one title per panel.
        sharex, sharey: as in matplotlib.
    """
    with style():
        width = {1: 5.6, 2: 8.4}.get(cols, 9.6)
        fig, axes = plt.subplots(
            rows,
            cols,
            figsize=(width, height * rows),
            sharex=sharex,
            sharey=sharey,
            squeeze=False,
            layout="constrained",
        )
        flat = list(axes.flat)
        for ax, title in zip(flat, titles or [], strict=False):
            ax.set_title(title)
    return fig, flat


def looks(values: Sequence[Any]) -> dict[Any, int]:
    """Return which colour, dash and marker every value of a hue has: its place among all of them.

    Panels of one figure, or figures of one chapter, that are given the same looks show a value alike.
    """
    return {value: index for index, value in enumerate(dict.fromkeys(values))}


def curves(
    ax: Axes,
    frame: pd.DataFrame,
    x: str,
    y: str,
    hue: str | None = None,
    band: str | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    log: str = "",
    legend: bool | str = True,
    look: Mapping[Any, int] | None = None,
    geometric: bool = False,
) -> None:
    """Draw the mean of y over x, one line per value of `hue`, each with its own dashes.

    Args:
        ax: where.
        frame: tidy table.
        x, y, hue: its columns.
        band: None, "range" (minimum to maximum over repetitions) or "sd" (one standard deviation).
        xlabel, ylabel: labels with units; the column's name if None.
        log: "", "x", "y" or "xy".
        legend: whether to show it, or its title.
        look: of `looks`; None: the values of this frame, in their order.
        geometric: draw the geometric mean, which suits a logarithmic scale of y.
    """
    for label, group, place in _groups(frame, hue, look):
        color, dash = PALETTE[place % len(PALETTE)], DASHES[place % len(DASHES)]
        table = group.groupby(x)[y].agg(["mean", "min", "max", "std"])
        if geometric:
            table["mean"] = np.exp(np.log(group[y]).groupby(group[x]).mean())
        ax.plot(table.index, table["mean"], color=color, linestyle=dash, label=label)
        if band == "range":
            ax.fill_between(table.index, table["min"], table["max"], color=color, alpha=0.18, linewidth=0)
        elif band == "sd":
            spread = table["std"].fillna(0)
            ax.fill_between(
                table.index, table["mean"] - spread, table["mean"] + spread, color=color, alpha=0.18, linewidth=0
            )
    _finish(ax, x, y, xlabel, ylabel, log, legend if hue is not None else False)


def points(
    ax: Axes,
    frame: pd.DataFrame,
    x: str,
    y: str,
    hue: str | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    log: str = "",
    legend: bool | str = True,
    look: Mapping[Any, int] | None = None,
) -> None:
    """Draw one point per row, one colour and one marker per value of `hue`; arguments as in `curves`."""
    for label, group, place in _groups(frame, hue, look):
        color, marker = PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)]
        many = len(group) > 300  # thousands of vector markers make a page heavy
        ax.plot(group[x], group[y], marker, ms=3.2, mew=0, alpha=0.6, color=color, label=label, rasterized=many)
    _finish(ax, x, y, xlabel, ylabel, log, legend if hue is not None else False)


def _groups(
    frame: pd.DataFrame, hue: str | None, look: Mapping[Any, int] | None
) -> list[tuple[Any, pd.DataFrame, int]]:
    """Return the parts of a table by the value of a hue, each with its place among the looks."""
    if hue is None:
        return [(None, frame, 0)]
    look = looks([*(look or {}), *frame[hue]])
    return [(value, group, look[value]) for value, group in frame.groupby(hue, sort=False)]


def facets(
    frame: pd.DataFrame,
    x: str,
    y: str,
    cols: str,
    rows: str | None = None,
    hue: str | None = None,
    kind: str = "curves",
    band: str | None = None,
    wrap: int = 3,
    height: float = 2.5,
    sharey: bool = True,
    log: str = "",
    xlabel: str | None = None,
    ylabel: str | None = None,
    look: Mapping[Any, int] | None = None,
    geometric: bool = False,
) -> Figure:
    """Draw one panel per value of a column, or a grid of panels over two columns.

    A value of the hue looks alike in every panel; the legend is that of all of them.

    Args:
        frame: tidy table.
        x, y, hue, band, log, xlabel, ylabel: as in `curves`.
        cols: column whose values are the panels of a row and their titles (a number after the column's name); wrapped
            after `wrap` of them where `rows` is None.
        rows: column whose values are the rows; each row has its own scale of y.
        kind: "curves" or "points".
        wrap: panels in a row.
        height: of one panel, in inches.
        sharey: whether the panels (of a row) share the scale of y.
        look: of `looks`; None: all values of the hue, in their order.
        geometric: as in `curves`; of curves only.
    """
    look = None if hue is None else looks([*(look or {}), *frame[hue]])
    across = list(frame[cols].unique())
    down = [None] if rows is None else list(frame[rows].unique())
    width = min(wrap, len(across)) if rows is None else len(across)
    lines = -(-len(across) // width) * len(down)
    fig, axes = panels(lines, width, height, sharey="row" if rows else sharey, sharex="row" if rows else True)
    for index, (row, col) in enumerate((row, col) for row in down for col in across):
        ax = axes[index]
        part = frame[(frame[cols] == col) & (True if row is None else frame[rows] == row)]
        common = {"xlabel": xlabel, "ylabel": ylabel, "log": log, "legend": False, "look": look}
        if kind == "curves":
            curves(ax, part, x, y, hue, band, geometric=geometric, **common)
        else:
            points(ax, part, x, y, hue, **common)
        ax.set_title(_panel_title(cols, col) if row is None else f"{row}, {col}")
        if index % width:
            ax.set_ylabel("")
        if rows is None and index + width < len(across):
            ax.set_xlabel("")
    spare = axes[len(down) * len(across) :]
    for ax in spare:
        ax.set_axis_off()
    for start in range(0, len(axes), width if rows else len(axes)) if hue else ():
        _shared_legend(axes[start : start + width] if rows else axes, look, hue, (spare or [axes[start]])[0])
    return fig


def _panel_title(name: str, value: Any) -> str:
    """Name a panel: words speak for themselves, a number needs the name of its column."""
    if isinstance(value, str):
        return value
    return f"${name}$ = {value:g}" if len(name) == 1 else f"{name} {value:g}"


def _shared_legend(axes: Sequence[Axes], look: Mapping[Any, int], title: str, place: Axes) -> None:
    """Name in one of some panels what all of them show, in the order of the looks."""
    named: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    order = [str(value) for value in look if str(value) in named]
    with style():
        place.legend([named[label] for label in order], order, title=title, ncols=1 + len(order) // 8)


def legend_below(fig: Figure, axes: Sequence[Axes], title: str | None = None, ncols: int = 9) -> None:
    """Name what all panels show once, below them, where it covers no data; at most `ncols` names in a line."""
    named: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            named[label] = handle
        if ax.get_legend() is not None:
            ax.get_legend().remove()
    with style():
        fig.legend(named.values(), named, title=title, loc="outside lower center", ncols=min(len(named), ncols))


def level(ax: Axes, y: float, label: str) -> None:
    """Draw a horizontal reference line at `y` and name it in the legend."""
    ax.axhline(y, color="0.25", linestyle=(0, (1, 1.5)), linewidth=1.2, label=label)
    with style():
        ax.legend()


def _finish(ax: Axes, x: str, y: str, xlabel: str | None, ylabel: str | None, log: str, legend: bool | str) -> None:
    ax.set_xlabel(LABELS.get(x, x) if xlabel is None else xlabel)
    ax.set_ylabel(LABELS.get(y, y) if ylabel is None else ylabel)
    if "x" in log:
        ax.set_xscale("log")
    if "y" in log:
        ax.set_yscale("log")
    if legend:
        with style():
            ax.legend(title=legend if isinstance(legend, str) else None)
