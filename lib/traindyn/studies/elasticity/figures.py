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
VARIANTS = {
    "printed": "printed, normal start",
    "own_factor": "factor of Eq. 3",
    "small_start": "small start",
}  # of Figures 6 to 8
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


def variants(frame: pd.DataFrame) -> Figure:
    """Draw own and other classes by every reading of Definition 2, from a table of `images.by_variant`."""
    if frame.empty:
        return nothing()
    named = frame.assign(variant=frame["variant"].map(READINGS))
    how = {"cols": "variant", "hue": "kind", "band": "range", "log": "y", "ylabel": SMOOTHED, "sharey": False}
    fig = _all_from_zero(plots.facets(named, "step", "value", look=KINDS, geometric=True, **how))
    for ax in fig.axes:
        if ax.axison:
            ax.axhline(1.0, color="0.25", linestyle=":", linewidth=1)
    return fig


def denominators(frame: pd.DataFrame) -> Figure:
    """Draw why S becomes large: what a step moves at its own point and elsewhere, from `curves` of an experiment."""
    if frame.empty:
        return nothing()
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


def phases(frame: pd.DataFrame, by_law: pd.DataFrame) -> Figure:
    """Draw Figures 4 and 5, S of both pairs above the risks, one column per initial law, on a logarithmic time axis.

    Args:
        frame: of `phases.risk_frame`;  by_law: of `phases.by_law`, whose `t90` is marked.
    """
    laws = list(frame["init"].unique())
    fig, axes = plots.panels(2, len(laws), height=2.4, titles=[f"{law} initialisation" for law in laws], sharey="row")
    rows = {"local elasticity": r"$S_{\mathrm{rel}}$", "risk": "risk"}
    for row, (quantity, label) in enumerate(rows.items()):
        for column, law in enumerate(laws):
            ax = axes[row * len(laws) + column]
            shown = frame[(frame["quantity"] == quantity) & (frame["init"] == law)]
            words = {"xlabel": "", "ylabel": "" if column else label, "legend": not column}
            plots.curves(ax, shown, "t", "value", "curve", band="range", **words)
            ax.axvline(by_law.xs(law, level="law")["t90"].median(), color="0.25", linestyle=":", linewidth=1.2)
            ax.set_xscale("symlog", linthresh=10)
            ax.set_xlim(left=0)
            ax.set_xlabel("Adam step" if row else "")
    return fig


def features(shown: pd.DataFrame) -> Figure:
    """Draw Figures 6 to 8, the loss above S, one column per figure, from a table of `penalised.thinned`."""
    numbers = list(shown["figure"].unique())
    fig, axes = plots.panels(
        2, len(numbers), height=2.4, titles=[f"Figure {number}" for number in numbers], sharey="row"
    )
    named = shown.assign(variant=shown["variant"].map(VARIANTS))
    look = plots.looks(VARIANTS.values())
    rows = {"loss_left": "loss still to lose", "relative": r"$S(t)\,/\,S(\mathrm{end})$"}
    for row, (column, label) in enumerate(rows.items()):
        for place, number in enumerate(numbers):
            ax = axes[row * len(numbers) + place]
            words = {"xlabel": "iteration $t$" if row else "", "ylabel": "" if place else label, "look": look}
            words |= {"legend": row == 0 and place == 0, "log": "x", "band": "range"}
            plots.curves(ax, named[named["figure"] == number], "iteration", column, "variant", **words)
    return fig


def choices(shown: pd.DataFrame) -> Figure:
    """Draw S over its end by choices of the released code, from a table of `released_features.curves`."""
    fig, (ax,) = plots.panels(height=3.2)
    words = {"xlabel": "iteration $t$", "ylabel": r"$S(t)\,/\,S(\mathrm{end})$", "log": "xy", "band": "range"}
    plots.curves(ax, shown, "iteration", "relative", "choice", geometric=True, **words)
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
