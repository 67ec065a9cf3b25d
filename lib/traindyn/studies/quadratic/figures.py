"""Drawings of the chapter on quadratic models; a model has one look in all of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from traindyn.report import plots
from traindyn.studies.quadratic.show import experiments

NAMES = {"f": "$f$", "lin": "$f_{lin}$", "quad": "$f_{quad}$"}
MODELS = plots.looks(list(NAMES.values()))
RATE = r"learning rate in units of $1/\lambda_{\max}(K(0))$"


def _ticks(ax: Axes, widths: pd.Series) -> None:
    """Label a logarithmic axis at the widths alone: less than a decade would get labels on top of one another."""
    ticks = sorted(widths.unique())
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)


def _critical(fig: Figure) -> Figure:
    """Mark the critical rate, 2, in every panel."""
    for ax in fig.axes:
        if ax.axison:
            ax.axvline(2, color="0.4", linewidth=0.9, linestyle=(0, (1, 2)), zorder=0)
    return fig


def losses(found: pd.DataFrame) -> Figure:
    """Draw the loss over steps, one panel per model, one line per rate (`show.regimes`)."""
    return plots.facets(
        found, "step", "loss", cols="model", hue="rate", wrap=4, log="y", ylabel="loss / first loss", height=2.6
    )


def beside(found: pd.DataFrame) -> Figure:
    """Draw the loss over steps, one line per run."""
    fig, axes = plots.panels()
    plots.curves(axes[0], found, "step", "loss", "run", log="y")
    return fig


def phases(thresholds: pd.DataFrame, peaks: pd.DataFrame) -> Figure:
    """Draw from which rate the loss rises and diverges, over the width, and the peak over the rate for each width."""
    fig, axes = plots.panels(1, 2, titles=["where the regimes meet", "how high the loss flies"])
    shown = thresholds.melt(["seed", "width"], ["rises_from", "diverges_from"], "from", "rate")
    shown = shown.replace({"from": {"rises_from": "loss rises", "diverges_from": "diverges"}})
    plots.curves(axes[0], shown, "width", "rate", "from", "range", "width $m$", r"$\eta\lambda_0$", log="x")
    plots.curves(
        axes[1], peaks, "rate", "peak", "width", None, r"$\eta\lambda_0$", "peak loss", log="y", legend="width $m$"
    )
    return fig


def paths(found: pd.DataFrame) -> Figure:
    """Draw length of the path and change of the kernel of the network over the width, one line per rate."""
    part = found[found["model"] == "f"]
    fig, axes = plots.panels(1, 2, titles=["length of the path", "change of the kernel"])
    for ax, name, label in zip(axes, ("length", "change"), ("length", r"$\|K_T - K_0\| / \|K_0\|$"), strict=True):
        legend = "rate" if name == "length" else False
        plots.curves(ax, part, "width", name, "rate", "range", "width $m$", label, log="xy", legend=legend)
        _ticks(ax, part["width"])
    return fig


def eigenvalues(found: pd.DataFrame) -> Figure:
    """Draw both eigenvalues over steps relative to their start, one row per model and one panel per regime."""
    kept = found[found["regime"] != "beyond"].replace({"model": {"f": NAMES["f"], "f_quad": NAMES["quad"]}})
    kept = kept.rename(columns={f"lambda {i}": rf"$\lambda_{i}$" for i in (1, 2)})
    shown = kept.melt(["seed", "step", "regime", "model"], [r"$\lambda_1$", r"$\lambda_2$"], "eigenvalue", "ratio")
    return plots.facets(
        shown, "step", "ratio", cols="regime", rows="model", hue="eigenvalue", ylabel=r"$\lambda_i(t)/\lambda_i(0)$"
    )


def relative(found: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return one seed's paths of `line.regimes` with eigenvalues over their first values, thinned to 150 steps."""
    part = found[found["seed"] == seed].copy()
    for name in ("lambda 1", "lambda 2"):
        part[name] = part[name] / part.groupby(["model", "regime"])[name].transform("first")
    return part[part["step"] <= 150]


def ball(found: pd.DataFrame) -> Figure:
    """Draw the distances of `gap.distances` over the width."""
    names = {"tanh": "tanh, $f - f_{lin}$", "tanh_rest": "tanh, $f - f_{quad}$", "relu": "ReLU, $f - f_{lin}$"}
    shown = found.rename(columns=names).melt(["seed", "width"], list(names.values()), "network", "distance")
    fig, axes = plots.panels()
    plots.curves(axes[0], shown, "width", "distance", "network", "range", "width $m$", "distance in the ball", log="xy")
    return fig


def along(found: pd.DataFrame) -> Figure:
    """Draw the loss and its part along the top eigenvector over steps, one panel per model (Figures B.2 and B.3)."""
    shown = found.rename(columns={"loss": "all of it", "along": "along $p_1(t)$"})
    shown = shown.replace({"panel": {"f": NAMES["f"], "f_quad": NAMES["quad"]}})
    shown = shown.melt(["panel", "step"], ["all of it", "along $p_1(t)$"], "part of the loss", "loss")
    return plots.facets(shown, "step", "loss", cols="panel", hue="part of the loss", log="y", ylabel=r"$\mathcal{L}$")


def strengths(gamma: pd.DataFrame, rates: pd.DataFrame, width: pd.DataFrame) -> Figure:
    """Draw Figure B.4: peak and last kernel, of the general model over gamma and rate, of networks over width."""
    titles = ["general model", "general model", "two-layer network"]
    fig, axes = plots.panels(2, 3, height=2.5, titles=titles, sharey="row")
    x = (("gamma", r"$\gamma$", "x"), ("rate", r"$\eta$", ""), ("width", "width $m$", "x"))
    for column, (frame, (name, label, log)) in enumerate(zip((gamma, rates, width), x, strict=True)):
        for row, (value, word) in enumerate((("peak", "peak loss"), ("end", r"$\lambda_T/\lambda_0$"))):
            part = frame[np.isfinite(frame[value])]
            hue = "rate" if name == "width" else None
            ax, legend = axes[3 * row + column], "rate" if hue and row == 0 else False
            plots.curves(
                ax, part, name, value, hue, "range", label, word if column == 0 else "",
                log + ("y" if row == 0 else ""), legend=legend,
            )  # fmt: skip
            if name == "width":
                _ticks(ax, part["width"])
    return fig


def sweep(found: pd.DataFrame, value: str = "best", label: str = "best test loss") -> Figure:
    """Draw a best value over the rate for f, f_lin and f_quad, one panel per experiment (Figures 3.4, B.5 to B.13)."""
    shown = found[found["model"].isin(NAMES) & np.isfinite(found[value])].replace({"model": NAMES})
    shown = shown.assign(panel=shown["panel"].map(experiments(shown["panel"].unique())))
    fig = plots.facets(
        shown, "rate", value, cols="panel", hue="model", band="range", sharey=False, look=MODELS, xlabel=RATE,
        ylabel=label,
    )  # fmt: skip
    return _critical(fig)


def released(found: pd.DataFrame) -> Figure:
    """Draw training and test loss of f, f_quad and the shuffled f_quad over steps."""
    runs = {"f": NAMES["f"], "f_quad": NAMES["quad"], "f_quad, shuffled": f"{NAMES['quad']}, shuffled"}
    found, look = found.replace({"run": runs}), plots.looks([*MODELS, runs["f_quad, shuffled"]])
    fig, axes = plots.panels(1, 2, titles=["training set", "test set"])
    for ax, name in zip(axes, ("train", "test"), strict=True):
        plots.curves(ax, found, "step", name, "run", None, "epoch", "mean square error", log="y", look=look)
    return fig


def missed(found: pd.DataFrame) -> Figure:
    """Draw what is missed without and with the cubic term over the rate, one panel per network."""
    names = {"quadratic": "by $f_{quad}$", "cubic": "with the cubic term"}
    networks = {"two": "two layers, ReLU", "three": "three layers, ReLU", "tanh": "two layers, tanh"}
    shown = found.replace({"network": networks}).rename(columns=names)
    shown = shown.melt(["network", "seed", "rate"], list(names.values()), "missed", "share")
    fig = plots.facets(
        shown, "rate", "share", cols="network", hue="missed", band="range", log="y", xlabel=RATE,
        ylabel="missed / movement of $f$",
    )  # fmt: skip
    return _critical(fig)
