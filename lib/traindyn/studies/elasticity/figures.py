"""How the chapter on local elasticity draws: tables in, figures out; one kind of curve, one colour."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from traindyn.report import plots

SMOOTHED = "smoothed elasticity"
KINDS = {"same class": 0, "other class": 1}
READINGS = {
    "limit": "(a) as printed, small step",
    "finite": "(b) as printed, finite step",
    "adam": "(c) divergence, Adam step",
    "released": "(d) released expression",
    "softmax": "(e) change of the softmax",
}
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
    plots.curves(ax, frame, "step", "value", "kind", band="range", log="y", ylabel=SMOOTHED, look=KINDS, geometric=True)
    _from_zero(ax)
    return fig


def classes(frame: pd.DataFrame, statistic: str) -> Figure:
    """Draw one of Figures 1, 2 and 13 from a table of `images.tidy`: one panel per sampled class."""
    shown = frame[(frame["statistic"] == statistic) & (frame["variant"] == "limit")]
    if shown.empty:
        return nothing()
    how = {"cols": "sampled class", "hue": "class of x'", "band": "range", "log": "y", "ylabel": SMOOTHED}
    return _all_from_zero(plots.facets(shown, "step", "value", geometric=True, **how))


def statistics(frame: pd.DataFrame) -> Figure:
    """Draw own and other classes by every summary of a block, one row per run, from a table of `images.joined`."""
    shown = frame[frame["variant"] == "limit"]
    how = {"cols": "statistic", "rows": "run", "hue": "kind", "band": "range", "log": "y", "ylabel": SMOOTHED}
    return _all_from_zero(plots.facets(shown, "step", "value", look=KINDS, geometric=True, **how))


def variants(frame: pd.DataFrame) -> Figure:
    """Draw own and other classes by every reading of Definition 2, from a table of `images.by_variant`."""
    if frame.empty:
        return nothing()
    named = frame.assign(variant=frame["variant"].map(READINGS))
    how = {"cols": "variant", "hue": "kind", "band": "range", "log": "y", "ylabel": SMOOTHED, "sharey": False}
    fig = _all_from_zero(plots.facets(named, "step", "value", look=KINDS, geometric=True, **how))
    for ax in fig.axes:
        if ax.get_title().startswith("variant "):
            ax.set_title(ax.get_title().removeprefix("variant "))
            ax.axhline(1.0, color="0.25", linestyle=":", linewidth=1)
    return fig


def denominators(frame: pd.DataFrame) -> Figure:
    """Draw why S becomes large: what a step moves at its own point and elsewhere, from `curves` of an experiment."""
    fig, axes = plots.panels(1, 2, titles=["divergence after a step", "largest $S$ of a pair"])
    named = {"own_median": "at its own point", "own_least": "there, smallest", "other_median": "in other classes"}
    long = frame.melt(["seed", "step"], list(named), "of", "value")
    long = long.assign(of=long["of"].map(named))
    words = {"band": "range", "log": "y", "geometric": True}
    plots.curves(axes[0], long, "step", "value", "of", ylabel=r"$2\,\mathrm{KL}/\eta^2$", **words)
    plots.curves(axes[1], frame, "step", "largest", ylabel=r"$S(x',x)$", **words)
    for ax in axes:
        _from_zero(ax)
    return fig


def nothing() -> Figure:
    """Return a panel that says that its data set is not here."""
    fig, (ax,) = plots.panels(height=1.2)
    ax.set_axis_off()
    ax.text(0.5, 0.5, "the data set of this experiment is not here", ha="center", va="center")
    return fig


def _from_zero(ax: Axes) -> None:
    """Give an axis of training steps a logarithmic scale that holds step 0."""
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xlim(left=0)
    ax.set_xlabel("training step")


def _all_from_zero(fig: Figure) -> Figure:
    for ax in fig.axes:
        if ax.axison:
            labelled = ax.get_xlabel()
            _from_zero(ax)
            ax.set_xlabel("training step" if labelled else "")
    return fig


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
