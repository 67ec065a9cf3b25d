"""How the chapter on local elasticity draws: tables in, figures out; one kind of curve, one colour."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from traindyn.report import plots

SMOOTHED = "smoothed elasticity"
PANELS = {"a": "(a) $x=(1,-1,1)$", "b": "(b) $x=(1,-11,1)$"}  # of Figures 11 and 12
VARIANTS = {"printed": "printed $M$", "own_factor": "$M$ of Eq. 3", "small_start": "small start"}  # of Figures 6 to 8
# pairs of Figure 9: title, and how many steps are drawn
PAIRS = {
    "collinear, float32": ("collinear pair, float32", 800),
    "non-collinear": ("non-collinear pair", 300),
    "switching": ("switching pair", 300),
}


def own_and_other(frame: pd.DataFrame) -> Figure:
    """Draw how far a step moves its own class and other classes, from a table of `images.own_and_other`."""
    fig, (ax,) = plots.panels(height=3.0)
    plots.curves(ax, frame, "step", "value", "kind", band="range", log="y", ylabel=SMOOTHED)
    return fig


def classes(frame: pd.DataFrame, statistic: str) -> Figure:
    """Draw one of Figures 1, 2 and 13 from a table of `images.tidy`: one panel per sampled class."""
    shown = frame[frame["statistic"] == statistic]
    return plots.facets(
        shown, "step", "value", cols="sampled class", hue="class of x'", band="range", log="y", ylabel=SMOOTHED
    )


def statistics(frame: pd.DataFrame) -> Figure:
    """Draw own and other classes by every summary of a block, one row per run, from a table of `images.joined`."""
    return plots.facets(
        frame, "step", "value", cols="statistic", rows="run", hue="kind", band="range", log="y", ylabel=SMOOTHED
    )


def distance(cloud: pd.DataFrame) -> Figure:
    """Draw Figure 3, S against the distance at each time, from a table of `regression.cloud_frame`."""
    return plots.facets(cloud, "distance", "srel", cols="t", hue="points", kind="points")


def pairs(curves: pd.DataFrame) -> Figure:
    """Draw Figure 4, S of a near and a far pair over time, from a table of `phases.phase_frame`."""
    laws = list(curves["init"].unique())
    fig, axes = plots.panels(1, len(laws), titles=[f"{law} initialisation" for law in laws], sharey=True)
    for ax, law in zip(axes, laws, strict=True):
        plots.curves(ax, curves[curves["init"] == law], "t", "srel", hue="pair", band="sd")
    return fig


def risks(frame: pd.DataFrame) -> Figure:
    """Draw Figure 5, S above the risks, from a table of `phases.risk_frame`."""
    return plots.facets(frame, "t", "value", cols="init", rows="quantity", hue="curve", band="range", ylabel="")


def features(shown: pd.DataFrame) -> Figure:
    """Draw one of Figures 6 to 8, the loss and S of three variants, from a table of `penalised.thin`."""
    titles = [f"{VARIANTS['printed']}: loss", *(f"{title}: $S$" for title in VARIANTS.values())]
    fig, axes = plots.panels(2, 2, height=2.6, titles=titles)
    for ax, variant in zip(axes, ["printed", *VARIANTS], strict=True):
        of = shown[shown["variant"] == variant]
        common = {"hue": "seed", "xlabel": "iteration $t$"}
        if ax is axes[0]:
            plots.curves(ax, of, "iteration", "loss", log="xy", ylabel="loss, Eq. 3", legend="seed", **common)
        else:
            plots.curves(
                ax, of, "iteration", "relative", log="x", ylabel=r"$S(t)\,/\,S(\mathrm{end})$", legend=False, **common
            )
    axes[2].set_ylim(axes[1].get_ylim())  # the same scale, so that flat looks flat
    return fig


def gate(curve: pd.DataFrame) -> Figure:
    """Draw S over its bound along SGD on a ReLU gate, one panel per pair of inputs, one colour per run.

    Args:
        curve: of `relu_gate.figure9`; outside single precision only resolved steps are drawn.
    """
    fig, axes = plots.panels(1, 3, height=2.7, titles=[title for title, _ in PAIRS.values()])
    for ax, (name, (_, until)) in zip(axes, PAIRS.items(), strict=True):
        shown = curve[(curve["pair"] == name) & (curve["step"] < until) & (curve["resolved"] | ("float32" in name))]
        words = {"xlabel": "SGD step $t$", "ylabel": r"$S$ / bound" if ax is axes[0] else ""}
        ax.axhline(1.0, color="0.25", linestyle=":")
        plots.points(ax, shown, "step", "relative", hue="run", legend="run" if ax is axes[1] else False, **words)
        ax.ticklabel_format(useOffset=False)
    return fig


def widths(movement: pd.DataFrame) -> Figure:
    """Draw how far S moves in training against the width, from a table of `linearised.width_trend`."""
    frame = movement.reset_index()
    drawn = [int(width) for width in frame["width"].unique()]
    fig, (ax,) = plots.panels(height=3.0)
    words = {"xlabel": "width of the two hidden layers", "ylabel": r"max / min of $S$", "legend": "seed"}
    plots.curves(ax, frame, "width", "movement", hue="seed", log="x", **words)
    plots.level(ax, 1.0, "linearised network")
    ax.set_xticks(drawn, drawn)
    ax.minorticks_off()
    return fig


def ray(line: pd.DataFrame, close: int = 9) -> Figure:
    """Draw Figure 10, S along the ray, all of it and up to z = `close`, from a table of `example.ray`."""
    fig, axes = plots.panels(1, 2, titles=["the ray of the source", "close to $x'$ (dotted: 1)"])
    words = {"xlabel": r"$\|x-x'\|_2$", "ylabel": r"$S(x',x)$"}
    for ax, shown in zip(axes, [line, line[line["z"] <= close]], strict=True):
        legend = "time $t$" if ax is axes[0] else False
        plots.curves(ax, shown, "distance", "s_rel", hue="time", legend=legend, **words)
    axes[1].axhline(1.0, color="0.25", linestyle=":")
    return fig


def over_time(curves: pd.DataFrame, ends: pd.DataFrame) -> Figure:
    """Draw Figure 11 from a table of `example.over_time`, with the limits of `example.exact_ends`."""
    fig, axes = plots.panels(1, 2, titles=list(PANELS.values()))
    for ax, name in zip(axes, PANELS, strict=True):
        plots.curves(ax, curves[curves["panel"] == name], "t", "s_rel", xlabel="time $t$", ylabel=r"$S(x',x)$")
        limit = ends[(ends["panel"] == name) & (ends["time"] > 0)]["exact"].iloc[0]
        plots.level(ax, float(limit), r"$t\to\infty$, exact")
    return fig


def sgd(curves: pd.DataFrame) -> Figure:
    """Draw Figure 12, S along SGD beside Eq. 14, from a table of `example.sgd_s_rel`."""
    fig, axes = plots.panels(1, 2, titles=list(PANELS.values()))
    words = {"xlabel": "SGD step $t$", "ylabel": r"$S(x',x)$"}
    for ax, name in zip(axes, PANELS, strict=True):
        shown = curves[curves["panel"] == name]
        plots.curves(ax, shown, "step", "s_rel", "measure", band="range", legend=ax is axes[0], **words)
    return fig
