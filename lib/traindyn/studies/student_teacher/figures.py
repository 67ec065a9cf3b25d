"""Drawings of the chapter on student and teacher that are more than a few curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from traindyn.report import plots
from traindyn.report.chapter import Chapter


def archived(ch: Chapter, name: str, says: str, grid: Mapping[str, Any]) -> None:
    """Show a figure of the archived run, where there is one, drawn as the live one.

    Args:
        ch: the chapter.
        name: of the live figure and of the archived table.
        says: the caption.
        grid: arguments of `plots.facets` beyond the table.
    """
    table = ch.archived(name)
    if table is not None:
        alt = "The panels of the previous figure, from the archived run."
        ch.figure(f"{name}-paper", plots.facets(table, **grid), caption=says, alt=alt, data=table)


def plane(lines: pd.DataFrame) -> Figure:
    """Draw the boundaries of teachers and students in the plane, one panel per seed.

    Args:
        lines: of `variants.plane_lines`, with a column seed.
    """
    seeds = list(lines["seed"].unique())
    fig, axes = plots.panels(1, len(seeds), height=3.2, titles=[f"seed {seed}" for seed in seeds])
    for ax, (_, part) in zip(axes, lines.groupby("seed"), strict=True):
        for i, (node, line) in enumerate(part.groupby("node", sort=False)):
            teacher = node.startswith("teacher")
            look = {"color": "0.2", "lw": 3, "alpha": 0.5} if teacher else {"color": plots.PALETTE[i], "ls": "--"}
            ax.plot(line["x"], line["y"], label=None if teacher else f"{line['norm'].iloc[0]:.2f}", **look)
        ax.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
        ax.legend(fontsize=7, title=r"$\|v_k\|$")
    fig.draw_without_rendering()  # the layout of axes with a fixed aspect settles at the second draw
    return fig
