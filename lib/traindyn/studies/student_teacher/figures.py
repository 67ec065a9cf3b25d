"""Drawings of the chapter on student and teacher; a width has one look in all of them, and so has a teacher."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
import matplotlib.ticker
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from traindyn.report import plots

WIDTHS = plots.looks(["1x", "2x", "5x", "10x"])
WEAKEST = 20  # teachers, over whose ranks the colours from strong (dark) to weak (light) are spread
TEACHER = (1.0, 0.86, 0.45)  # a broad pale band, which students' dark lines run on
ROWS = {"rho": "all channels", "thinned": "thinned"}


def teacher_colour(rank: int) -> tuple[float, ...]:
    """Return the colour of a teacher in every figure: dark for the strongest (rank 0), light for weak ones."""
    return mpl.colormaps["plasma"](0.88 * math.log(1 + rank) / math.log(WEAKEST))


def below(ax: Axes, columns: int, **options: object) -> None:
    """Put the legend of a panel below it, where it hides no line."""
    with plots.style():
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=columns, **options)


def one_scale(axes: Sequence[Axes]) -> None:
    """Give all panels the widest of their ranges, so that rows can be compared."""
    for get, put in (("get_xlim", "set_xlim"), ("get_ylim", "set_ylim")):
        ends = [getattr(ax, get)() for ax in axes]
        for ax in axes:
            getattr(ax, put)(min(low for low, _ in ends), max(high for _, high in ends))


def profile(found: pd.DataFrame) -> Figure:
    """Draw the five students of `critical.profile`, and their sum on the teacher."""
    fig, axes = plots.panels(1, 2, height=3.2, titles=["five students", "their sum"], sharey=True)
    teacher, total = (found[found["node"] == name] for name in ("teacher", "sum of the five"))
    students = found[~found["node"].isin(["teacher", "sum of the five"])]
    along = "position along $w^*$"
    plots.curves(axes[0], students, "t", "value", "node", None, along, "contribution", legend=False)
    axes[1].plot(teacher["t"], teacher["value"], color=TEACHER, lw=7, label="teacher")
    axes[1].plot(total["t"], total["value"], color="0.15", lw=1.4, label="sum of the five")
    axes[1].set_xlabel(along)
    for ax, columns in zip(axes, (3, 2), strict=True):
        below(ax, columns)
    return fig


def approach(path: pd.DataFrame) -> Figure:
    """Draw the gradient and the bound of `critical.approach` over steps, one thin line per seed."""
    fig, axes = plots.panels(1, 2, titles=["largest per-sample gradient", "worst angle, in units of the proof's bound"])
    labels = (r"$\epsilon$", r"$\sin\theta\,\alpha\,/\,(MK\epsilon)$")
    for ax, name, label in zip(axes, ("gradient", "bound"), labels, strict=True):
        for _, one in path.groupby("run"):
            ax.plot(one["step"], one[name], color=plots.PALETTE[0], lw=1, alpha=0.7)
        ax.set(xscale="log", yscale="log", xlabel="step $t$", ylabel=label)
    return fig


def pull(found: pd.DataFrame) -> Figure:
    """Draw errors of direction and length of `angles.expected` over the angle; the length does not depend on norms."""
    fig, axes = plots.panels(1, 2, titles=["direction of the printed bracket", "length of the mended formula"])
    label = r"angle $\theta$ [rad]"
    plots.curves(
        axes[0], found, "theta", "printed_error", "norms", None, label, "error [rad]", legend=r"$\|w^*\|,\ \|w\|$"
    )
    plots.curves(axes[1], found, "theta", "ratio", band="range", xlabel=label, ylabel="estimate / formula")
    axes[1].axhline(1, color="0.25", lw=1, ls=":")
    return fig


def turning(found: pd.DataFrame) -> Figure:
    """Draw the largest final angle to w^* of `flows.common` over the initial norm."""
    fig, axes = plots.panels()
    ax, table = axes[0], found.reset_index()
    label = "largest final angle to $w^*$ [rad]"
    plots.curves(ax, table, "norm", "angle", band="range", xlabel="initial norm", ylabel=label, log="xy")
    low = table["norm"].min()
    known = table["norm"].unique()
    scale = table[table["norm"] == low]["angle"].mean() / low
    ax.plot(known, scale * known, ":", color="0.25", lw=1.2, label="proportional")
    with plots.style():
        ax.legend()
    return fig


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
    """Draw the nodes of `tables.cloud`: fan-out over best correlation, one scale for all (Figure 3)."""
    fig = plots.facets(found, "correlation", "norm", cols="width", rows="epoch", kind="points", ylabel=r"$\|v_k\|$")
    one_scale(fig.axes)
    return fig


def deep_cloud(found: pd.DataFrame) -> Figure:
    """Draw the nodes of `deep.cloud`: E beta_kk over best correlation, layer by layer, one scale for all (Figure 5)."""
    fig = plots.facets(
        found.assign(beta=found["fan-out"] ** 2), "correlation", "beta", cols="step", rows="layer", kind="points",
        height=1.9, ylabel=r"$E\,\beta_{kk}$", log="y",
    )  # fmt: skip
    one_scale(fig.axes)
    return fig


def trajectories(found: pd.DataFrame) -> Figure:
    """Draw the students of `tables.trajectories`: correlation with the strongest teacher, and with that of the end.

    One line per student, in the colour of the teacher at which it ends (Figure 4).
    """
    fig, axes = plots.panels(1, 2, titles=["with the strongest teacher", "with the teacher where it ends"], sharey=True)
    for ax, name in zip(axes, ("lead", "own"), strict=True):
        for (teacher, _), one in found.groupby(["teacher", "student"]):
            dash = plots.DASHES[teacher % len(plots.DASHES)]
            ax.plot(one["updates"], one[name], color=teacher_colour(teacher), ls=dash, label=f"{teacher}")
        ax.set(xscale="log", xlabel="updates")
    axes[0].set_ylabel("a student's correlation")
    handles = dict(zip(*axes[1].get_legend_handles_labels()[::-1], strict=True))
    with plots.style():
        axes[1].legend(handles.values(), handles, title="ends at")
    return fig


def recovery(found: pd.DataFrame) -> Figure:
    """Draw the rates of `tables.rates` over teachers, one panel per decay and epoch (Figure 6)."""
    fig = plots.facets(found, "teacher", "rate", cols="at", hue="width", ylabel="recovery rate", look=WIDTHS)
    for ax in fig.axes:
        ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5, integer=True))
    return fig


def best(found: pd.DataFrame, shown: int = 7) -> Figure:
    """Draw the best correlation with some teachers of `tables.best` over epochs, strong ones dark (Figure 7)."""
    last = int(found["teacher"].max())
    few = sorted({round((last + 1) ** (i / (shown - 1))) - 1 for i in range(shown)})
    fig, axes = plots.panels(height=3.4)
    for teacher in few:
        one = found[found["teacher"] == teacher]
        dash = plots.DASHES[few.index(teacher) % len(plots.DASHES)]
        axes[0].plot(one["epoch"], one["best"], color=teacher_colour(teacher), ls=dash, label=f"{teacher}")
    axes[0].set(xscale="log", xlabel="epoch", ylabel="best student's correlation")
    with plots.style():
        axes[0].legend(title="teacher")
    return fig


def losses(found: pd.DataFrame, last: float = 100) -> Figure:
    """Draw the decimal logarithm of the held-out loss over epochs (Figure 11)."""
    fig, axes = plots.panels()
    label, shown = r"$\log_{10}$ held-out loss", found[found["epoch"] <= last]
    plots.curves(axes[0], shown, "epoch", "log10_loss", hue="width", band="sd", ylabel=label, look=WIDTHS)
    return fig


def images(found: pd.DataFrame) -> Figure:
    """Draw the mean best correlation of `images.experiment` over steps, all channels and thinned (Figure 8)."""
    kept = ["seed", "width", "step", "layer"]
    label = "mean best correlation"
    shown = found.rename(columns=ROWS).melt(kept, list(ROWS.values()), "channels", label)
    shown["layer"] = "layer " + shown["layer"].astype(str)
    fig = plots.facets(shown, "step", label, cols="layer", rows="channels", hue="width", band="range", look=WIDTHS)
    one_scale(fig.axes)
    return fig


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
    fig, axes = plots.panels(1, len(seeds), height=4.0, titles=[f"seed {seed}" for seed in seeds])
    look = plots.looks(lines.loc[lines["kind"] == "student", "node"])
    for ax, (_, part) in zip(axes, lines.groupby("seed"), strict=True):
        for node, line in part.groupby("node", sort=False):
            teacher = line["kind"].iloc[0] == "teacher"
            color = TEACHER if teacher else plots.PALETTE[look[node] % len(plots.PALETTE)]
            style = {"lw": 7, "solid_capstyle": "butt"} if teacher else {"ls": plots.DASHES[1 + look[node] % 4]}
            label = None if teacher else f"{line['norm'].iloc[0]:.2f}"
            ax.plot(line["x"], line["y"], color=color, label=label, zorder=1 + (not teacher), **style)
        ax.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
        below(ax, 3, title=r"$\|v_k\|$")
    fig.draw_without_rendering()  # the layout of axes with a fixed aspect settles at the second draw
    return fig
