"""Drawings of the chapter on local elasticity that are more than a few curves."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from traindyn.report import plots

# pair of inputs: title, and how many steps are drawn
PAIRS = {
    "collinear, float32": ("collinear pair, float32", 800),
    "non-collinear": ("non-collinear pair", 300),
    "switching": ("switching pair", 300),
}


def gate(curve: pd.DataFrame) -> Figure:
    """Draw S over its bound along SGD on a ReLU gate, one panel per pair of inputs, one colour per run.

    Args:
        curve: of `elasticity_gate.figure9`, with a column relative; outside single precision only resolved steps count.
    """
    fig, axes = plots.panels(1, 3, height=2.7, titles=[title for title, _ in PAIRS.values()])
    for ax, (name, (_, until)) in zip(axes, PAIRS.items(), strict=True):
        shown = curve[(curve["pair"] == name) & (curve["step"] < until) & (curve["resolved"] | ("float32" in name))]
        words = {"xlabel": "SGD step $t$", "ylabel": r"$S$ / bound" if ax is axes[0] else ""}
        ax.axhline(1.0, color="0.25", linestyle=":")
        plots.points(ax, shown, "step", "relative", hue="run", legend="run" if ax is axes[1] else False, **words)
        ax.ticklabel_format(useOffset=False)
    return fig
