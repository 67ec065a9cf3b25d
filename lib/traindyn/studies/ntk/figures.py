"""Drawings of the chapter on the tangent kernel; a scaling, a model and a domain have one look in all of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from traindyn.report import plots

SCALINGS = plots.looks(["kernel regime", "mean field"])
MODELS = plots.looks(["limit kernel", "its own kernel", "trained network"])
NAMES = {"ntk": "kernel regime", "mean_field": "mean field"}


def _radians(ax: Axes, last: float = math.pi) -> None:
    ticks = [0, last / 4, last / 2, 3 * last / 4, last]
    names = {1: ["0", "π/4", "π/2", "3π/4", "π"], 2: ["0", "π/2", "π", "3π/2", "2π"]}[round(last / math.pi)]
    ax.set_xticks(ticks, names)


def _guide(ax: Axes, x: pd.Series, y: float, power: float, label: str, legend: bool = True) -> None:
    """Draw a power law through y at the smallest x."""
    ends = np.array([x.min(), x.max()], dtype=float)
    ax.plot(ends, y * (ends / ends[0]) ** power, color="0.25", linestyle=(0, (1, 1.5)), linewidth=1.2, label=label)
    if legend:
        with plots.style():
            ax.legend()


def shapes(found: pd.DataFrame) -> Figure:
    """Draw `kernels.shapes`: one panel per width, one thin line per network, the limit as a heavy one."""
    widths = list(found["width"].unique())
    fig, axes = plots.panels(1, len(widths), 2.9, [f"width {m}" for m in widths], sharey=True)
    for ax, (_, part) in zip(axes, found.groupby("width"), strict=True):
        for k, (_, one) in enumerate(part.groupby("seed")):
            label = "networks" if k == 0 else None
            ax.plot(one["angle"], one["kernel"], color=plots.PALETTE[0], lw=0.9, alpha=0.6, label=label)
        limit = part[part["seed"] == part["seed"].iloc[0]]
        ax.plot(limit["angle"], limit["limit"], color=plots.PALETTE[1], lw=2.4, ls="--", label="limit")
        ax.set_xlabel(r"angle between $x$ and $x'$")
        _radians(ax)
    axes[0].set_ylabel("tangent kernel $k_m(x, x')$")
    with plots.style():
        axes[-1].legend()
    return fig


def regression(found: pd.DataFrame, samples: pd.DataFrame) -> Figure:
    """Draw `by_hand.regression` of one seed, one panel per width, with the samples."""
    widths = list(found["width"].unique())
    fig, axes = plots.panels(1, len(widths), 2.9, [f"width {m}" for m in widths], sharey=True)
    for ax, (_, part) in zip(axes, found.groupby("width"), strict=True):
        plots.curves(ax, part, "angle", "value", hue="model", xlabel="position", ylabel="", legend=False, look=MODELS)
        ax.plot(samples["angle"], samples["value"], "o", color="0.15", ms=4, label="samples", zorder=5)
        _radians(ax, 2 * math.pi)
    axes[0].set_ylabel("prediction")
    plots.legend_below(fig, axes)
    return fig


def distances(gaps: pd.DataFrame) -> Figure:
    """Draw `by_hand.farthest` over the width."""
    fig, axes = plots.panels()
    label = "distance from the limit kernel's"
    plots.curves(axes[0], gaps, "width", "distance", "model", "range", log="xy", ylabel=label, look=MODELS)
    first = gaps[gaps["width"] == gaps["width"].min()]["distance"].mean()
    _guide(axes[0], gaps["width"], first, -0.5, "$m^{-1/2}$")
    return fig


def activations(found: pd.DataFrame) -> Figure:
    """Draw Figure 2 of the lecture."""
    fig, axes = plots.panels(height=2.4)
    plots.curves(axes[0], found, "x", "value", hue="function", xlabel="$z$", ylabel=r"$\sigma(z)$", legend=True)
    return fig


def errors(found: pd.DataFrame) -> Figure:
    """Draw the parts of `basics.errors` over gradient steps."""
    fig, axes = plots.panels(height=3.2)
    shown = found[found["step"] > 0]
    plots.curves(axes[0], shown, "step", "norm", "part", log="xy", ylabel="norm, mean over seeds", legend=True)
    return fig


def remainders(random: pd.DataFrame, radius: float) -> Figure:
    """Draw `expansion.random_moves`: the remainder of a random and of the worst move of one length, by width."""
    fig, axes = plots.panels(1, 2, 3.0, ["tanh", "ReLU"], sharey=True)
    guides = {"tanh": (-0.5, "$m^{-1/2}$"), "relu": (-1 / 6, "$m^{-1/6}$")}
    for ax, name in zip(axes, guides, strict=True):
        part = random[random["activation"] == name]
        plots.curves(ax, part, "width", "gap", "move", "range", log="xy", ylabel="", xlabel="width $m$", legend=False)
        worst = part[(part["move"] == "worst") & (part["width"] == part["width"].min())]["gap"].mean()
        _guide(ax, part["width"], worst, *guides[name])
    axes[0].set_ylim(1e-7, 2)  # where a random move happens to pass no kink the ReLU's remainder is zero
    axes[0].set_ylabel(rf"$|f - \tilde f|$ at $\|W - W_0\|_F = {radius:g}$")
    return fig


def supremum(
    found: pd.DataFrame, limit: Callable[[float, float], float], bound: Callable[[float, float], float]
) -> Figure:
    """Draw the suprema of `expansion.supremum` with their limit and the printed bound, functions of (radius, m)."""
    radii = list(found["radius"].unique())
    fig, axes = plots.panels(1, len(radii), 2.9, [f"$B = {radius:g}$" for radius in radii])
    for ax, (radius, part) in zip(axes, found.groupby("radius"), strict=True):
        m = np.array(sorted(part["width"].unique()), dtype=float)
        curves = {"supremum": part.groupby("width")["supremum"].mean().to_numpy()}
        curves |= {"limit": [limit(radius, k) for k in m], "printed bound": [bound(radius, k) for k in m]}
        for k, (name, values) in enumerate(curves.items()):
            ax.plot(m, values, color=plots.PALETTE[k], ls=plots.DASHES[k], marker=plots.MARKERS[k], ms=4, label=name)
        ax.set(xscale="log", yscale="log", xlabel="width $m$")
    axes[0].set_ylabel(r"$\sup\,|f - \tilde f|$")
    with plots.style():
        axes[0].legend()
    return fig


def fourier(coefficients: pd.DataFrame, fits: pd.DataFrame) -> Figure:
    """Draw the kernel's Fourier coefficients on both domains, and the best fits of cos(3 phi)."""
    fig, axes = plots.panels(1, 2, 3.1, ["Fourier coefficients of the kernel", r"best fit of $\cos 3\varphi$"])
    names = {"slice": "one coordinate fixed", "circle": "whole circle"}
    few = coefficients[coefficients["frequency"] <= 12].assign(domain=lambda f: f["domain"].map(names))
    for k, (name, part) in enumerate(few.groupby("domain", sort=False)):
        at = part["frequency"] + 0.3 * (k - 0.5)
        axes[0].bar(at, part["coefficient"].clip(lower=1e-6), 0.3, color=plots.PALETTE[k], label=name, bottom=0)
    axes[0].set(yscale="log", ylim=(1e-5, 1), xlabel="frequency", ylabel="coefficient")
    shown = fits.assign(curve=fits["curve"].map({"target": "target", **names}))
    look = plots.looks([*names.values(), "target"])
    plots.curves(axes[1], shown, "angle", "value", hue="curve", xlabel=r"$\varphi$", ylabel="", legend=True, look=look)
    _radians(axes[1], 2 * math.pi)
    with plots.style():
        axes[0].legend()
    return fig


def regimes(found: pd.DataFrame) -> Figure:
    """Draw movement and kernel change of `regimes.compare` over the width, outer layer trained."""
    part = found[found["outer"] == "trained"].assign(scaling=lambda f: f["scaling"].map(NAMES))
    labels = {"moved": "movement of a row of $W$", "drift": "relative change of the kernel"}
    titles = [f"{label}, {name}" for label in ("movement", "kernel") for name in ("tanh", "ReLU")]
    fig, axes = plots.panels(2, 2, 2.7, titles, sharex=True, sharey="row")
    for row, (column, label) in enumerate(labels.items()):
        for col, name in enumerate(("tanh", "relu")):
            one, ax = part[part["activation"] == name], axes[2 * row + col]
            xlabel, ylabel = ("width $m$" if row else "", label if not col else "")
            plots.curves(ax, one, "width", column, "scaling", "range", xlabel, ylabel, "xy", False, SCALINGS)
            start = one[(one["scaling"] == "kernel regime") & (one["width"] == one["width"].min())][column].mean()
            _guide(ax, one["width"], start, -0.5, "$m^{-1/2}$", legend=not (row or col))
    return fig


def features(found: pd.DataFrame) -> Figure:
    """Draw the rows of W before and after training in both regimes (`regimes.features`)."""
    shown = found.assign(scaling=found["scaling"].map(NAMES))
    fig, axes = plots.panels(1, 2, 3.6, list(SCALINGS), sharex=True, sharey=True)
    for ax, name in zip(axes, SCALINGS, strict=True):
        for k, (when, size) in enumerate((("after", 4.0), ("before", 2.2))):
            part = shown[(shown["scaling"] == name) & (shown["when"] == when)]
            style = {"ms": size, "mew": 0, "alpha": 0.6, "rasterized": True, "label": when}
            ax.plot(
                part["x1"], part["x2"], plots.MARKERS[k], color=("0.15", plots.PALETTE[1])[when == "after"], **style
            )
        ax.set(aspect="equal", xlabel="$w_1$", xlim=(-6.5, 6.5), ylim=(-6.5, 6.5))
    axes[0].set_ylabel("$w_2$")
    with plots.style():
        axes[1].legend()
    fig.draw_without_rendering()  # the layout of axes with a fixed aspect settles at the second draw
    return fig


def near_start(found: pd.DataFrame) -> Figure:
    """Draw the two quantities of `regimes.near_start` over the width after one and two steps, by network."""
    labels = {"moved": r"$\|W - W_0\|_F$", "flips": r"$\sqrt{m}\,\times$ share of flips"}
    fig, axes = plots.panels(1, 2, 3.2, list(labels.values()))
    shown = found.assign(run=found["network"] + ", step " + found["step"].astype(str))
    for ax, name in zip(axes, labels, strict=True):
        plots.curves(ax, shown, "width", name, "run", "range", "width $m$", "", "xy", False)
        ticks = sorted(shown["width"].unique())[:: 1 + shown["width"].nunique() // 4]
        ax.set_xticks(ticks, [f"{m:g}" for m in ticks])
        ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    axes[0].set_ylim(top=4 * shown["moved"].max())  # room for the legend
    with plots.style():
        axes[0].legend(ncols=2, fontsize=7.5, loc="upper left")
    return fig


def directions(found: pd.DataFrame) -> Figure:
    """Draw `flows.directions`: residuals along eigenvectors over time, one panel per scale, network against tangent."""
    scales = list(found["scale"].unique())
    titles = [rf"$\alpha = {scale:.3g}$" for scale in scales]
    fig, axes = plots.panels(1, len(scales), 3.2, titles, sharey=True)
    for ax, (_, part) in zip(axes, found.groupby("scale", sort=False), strict=True):
        for number, one in part.groupby("direction"):
            color = plots.PALETTE[(number - 1) % len(plots.PALETTE)]
            net, flat = (one[one["model"] == model] for model in ("network", "tangent"))
            ax.plot(net["tau"], net["component"], color=color, lw=2.4, alpha=0.55, label=f"direction {number}")
            ax.plot(flat["tau"], flat["component"], color="0.1", ls="--", lw=0.9)
        ax.set_xlabel(r"$\tau = \alpha^2\sigma_{\min}^2\,t/2$")
    axes[0].plot([], [], color="0.1", ls="--", lw=0.9, label="tangent model")
    axes[0].set_ylabel("residual over its start")
    with plots.style():
        axes[0].legend()
    return fig


def slips(at_w: pd.DataFrame, saturating: pd.DataFrame) -> Figure:
    """Draw the two counterexamples of `thresholds` over time."""
    fig, axes = plots.panels(1, 2, 3.0, [r"$f(w) = w + w^2/2$, $\alpha = 24$", r"$f(v) = \tanh(cv)$, $\alpha = 1$"])
    for ax, found in zip(axes, (at_w, saturating), strict=True):
        plots.curves(ax, found, "tau", "loss", hue="curve", xlabel=r"$\tau$", ylabel="", log="y", legend=True)
        ax.set_ylim(bottom=max(1e-9, found["loss"].min()))
    axes[0].set_ylabel("loss")
    return fig


def lazy(found: pd.DataFrame) -> Figure:
    """Draw distance and Jacobian change of `flows.theorem` over alpha."""
    frame = found.reset_index()
    labels = {"moved": r"$\|w(\infty) - w(0)\|$", "jacobian": "relative change of $J$"}
    fig, axes = plots.panels(1, 2, 2.9, list(labels.values()))
    for ax, name in zip(axes, labels, strict=True):
        for _, one in frame.groupby("seed"):
            line = one.sort_values("alpha_value")
            ax.plot(line["alpha_value"], line[name], color=plots.PALETTE[0], alpha=0.5, marker="o", ms=2.5, lw=1)
        ax.set(xscale="log", yscale="log", xlabel=r"$\alpha$")
        middle = frame[frame["alpha_value"] <= 1.0].groupby("alpha_value")[name].mean()
        _guide(ax, frame["alpha_value"][frame["alpha_value"] >= 1], middle.iloc[-1], -1.0, r"$\alpha^{-1}$")
    return fig
