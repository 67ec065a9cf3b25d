"""Drawings of the chapter on student and teacher; a width has one look in all of them."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from traindyn.report import plots

WIDTHS = plots.looks(["1x", "2x", "5x", "10x"])


def profile(found: pd.DataFrame) -> Figure:
    """Draw the five students of `critical.profile`, and their sum beside the teacher."""
    fig, axes = plots.panels(1, 2, titles=["five students", "their sum"], sharey=True)
    sums = found["node"].isin(["teacher", "sum of the five"])
    for ax, part, label in zip(axes, (found[~sums], found[sums]), ("contribution", ""), strict=True):
        plots.curves(ax, part, "t", "value", hue="node", xlabel="position along $w^*$", ylabel=label)
    return fig


def approach(path: pd.DataFrame) -> Figure:
    """Draw the gradient and the bound of `critical.approach` over steps, one line per seed."""
    fig, axes = plots.panels(1, 2, titles=["largest per-sample gradient", "angle, in units of the bound"])
    labels = (r"$\epsilon$", r"$\sin\theta\,\alpha/\epsilon$, worst teacher")
    for ax, name, label in zip(axes, ("gradient", "bound"), labels, strict=True):
        plots.curves(ax, path, "step", name, hue="run", log="xy", ylabel=label, legend=False)
    return fig


def pull(found: pd.DataFrame) -> Figure:
    """Draw errors of direction and length of `angles.expected` over the angle."""
    fig, axes = plots.panels(1, 2, titles=["direction of the printed bracket", "length of the mended formula"])
    titles = (r"$\|w^*\|,\ \|w\|$", False)
    names = {"printed_error": "error [rad]", "ratio": "estimate / formula"}
    for ax, (name, label), title in zip(axes, names.items(), titles, strict=True):
        plots.curves(ax, found, "theta", name, "norms", "range", r"angle $\theta$ [rad]", label, legend=title)
    return fig


def turning(found: pd.DataFrame) -> Figure:
    """Draw the angles of `flows.common`, one panel per initial norm."""
    return plots.facets(
        found, "t", "angle", cols="initial norm", hue="node", xlabel="time", ylabel="angle to $w^*$ [rad]"
    )


def race(paths: pd.DataFrame) -> Figure:
    """Draw the log ratios of `flows.breaking` over time."""
    fig, axes = plots.panels()
    label = r"$\ln(\|w_1\|/\|w_k\|)$"
    plots.curves(axes[0], paths, "t", "log ratio", hue="eps", xlabel="time", ylabel=label, legend=r"$\epsilon$")
    return fig


def escape(slow: pd.DataFrame) -> Figure:
    """Draw the escape times of `flows.slow_start` over the initial angle."""
    fig, axes = plots.panels()
    plots.curves(axes[0], slow, "eps", "time", hue="setting", xlabel=r"$\epsilon$ [rad]", log="xy")
    ticks = sorted(slow["eps"].unique())
    axes[0].set_xticks(ticks, ticks)
    axes[0].minorticks_off()
    return fig


def cloud(found: pd.DataFrame) -> Figure:
    """Draw the nodes of `tables.cloud`: fan-out over best correlation (Figure 3)."""
    return plots.facets(found, "correlation", "norm", cols="width", rows="epoch", kind="points", ylabel=r"$\|v_k\|$")


def deep_cloud(found: pd.DataFrame) -> Figure:
    """Draw the nodes of `deep.cloud`: fan-out over best correlation, layer by layer (Figure 5)."""
    label = r"$\sqrt{E\,\beta_{kk}}$"
    return plots.facets(
        found, "correlation", "fan-out", cols="step", rows="layer", kind="points", height=1.9, ylabel=label
    )


def trajectories(found: pd.DataFrame) -> Figure:
    """Draw the students of `tables.trajectories`, one panel per teacher (Figure 4)."""
    order = plots.looks(sorted(found["student"].unique()))
    label = "best correlation"
    return plots.facets(
        found, "updates", "correlation", cols="teacher", hue="student", log="x", ylabel=label, look=order
    )


def recovery(found: pd.DataFrame) -> Figure:
    """Draw the rates of `tables.rates` over teachers, one panel per decay and epoch (Figure 6)."""
    return plots.facets(found, "teacher", "rate", cols="at", hue="width", ylabel="recovery rate", look=WIDTHS)


def best(found: pd.DataFrame, shown: int = 7) -> Figure:
    """Draw the best correlation with some teachers of `tables.best` over epochs (Figure 7)."""
    last = int(found["teacher"].max())
    few = sorted({round((last + 1) ** (i / (shown - 1))) - 1 for i in range(shown)})
    fig, axes = plots.panels(height=3.4)
    some = found[found["teacher"].isin(few)]
    label = "best student's correlation"
    plots.curves(axes[0], some, "epoch", "best", hue="teacher", log="x", ylabel=label, legend="teacher")
    return fig


def losses(found: pd.DataFrame) -> Figure:
    """Draw the decimal logarithm of the held-out loss over epochs (Figure 11)."""
    fig, axes = plots.panels()
    label = r"$\log_{10}$ held-out loss"
    plots.curves(axes[0], found, "epoch", "log10_loss", hue="width", band="sd", ylabel=label, look=WIDTHS)
    return fig


def images(found: pd.DataFrame) -> Figure:
    """Draw the mean best correlation of `images.experiment` over steps, all channels and thinned (Figure 8)."""
    kept = ["seed", "width", "step", "layer"]
    shown = found.melt(kept, ["rho", "thinned"], "statistic", "mean best correlation")
    return plots.facets(
        shown, "step", "mean best correlation", cols="layer", rows="statistic", hue="width", band="range", look=WIDTHS
    )


def counts(found: pd.DataFrame, most: int) -> Figure:
    """Draw how many of `most` teachers are missed, and how many have an antipodal student (`variants.antipodes`)."""
    fig, axes = plots.panels()
    plots.curves(axes[0], found, "students", "teachers", hue="outcome", ylabel=f"of {most} teachers")
    return fig


def plane(lines: pd.DataFrame) -> Figure:
    """Draw the boundaries of teachers and students of `variants.plane_lines`, one panel per seed (Figure 2).

    A student has one colour in every panel; each panel's legend gives its fan-out there.
    """
    seeds = list(lines["seed"].unique())
    fig, axes = plots.panels(1, len(seeds), height=3.2, titles=[f"seed {seed}" for seed in seeds])
    look = plots.looks(lines.loc[lines["kind"] == "student", "node"])
    for ax, (_, part) in zip(axes, lines.groupby("seed"), strict=True):
        for node, line in part.groupby("node", sort=False):
            teacher = line["kind"].iloc[0] == "teacher"
            color = "0.2" if teacher else plots.PALETTE[look[node] % len(plots.PALETTE)]
            style = {"lw": 3, "alpha": 0.5} if teacher else {"ls": "--"}
            label = None if teacher else f"{line['norm'].iloc[0]:.2f}"
            ax.plot(line["x"], line["y"], color=color, label=label, **style)
        ax.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
        ax.legend(fontsize=7, title=r"$\|v_k\|$")
    fig.draw_without_rendering()  # the layout of axes with a fixed aspect settles at the second draw
    return fig
