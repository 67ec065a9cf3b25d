"""Drawings of the chapter on the transition to linearity; a kind of network has one look in all of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import networkx as nx
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from traindyn.learn.models import dag
from traindyn.report import plots

KINDS = plots.looks(["FCN", "half-dropped DenseNet", "residual", "convolutional", "tanh output", "narrow layer"])
SETTINGS = {
    "tanh": "deciding",
    "relu": "ReLU",
    "slow": "slower",
    "fast": "faster",
    "refed": "input fed again",
    "original": "old in-degree",
}
WIDTH = "width $m$"


def _widths(ax: Axes, found: pd.DataFrame, column: str = "width") -> None:
    ticks = sorted(found[column].unique())
    shown = ticks[:: 1 + (len(ticks) - 1) // 6]
    ax.set_xticks(shown, [f"{tick:g}" for tick in shown])
    ax.xaxis.set_minor_locator(NullLocator())


def _plain(ax: Axes, axes: str) -> None:
    """Label logarithmic axes with numbers 1, 2, 5, 10 ... instead of powers."""
    for name in axes:
        axis = getattr(ax, f"{name}axis")
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())


def guide(
    ax: Axes, found: pd.DataFrame, y: str, power: float, label: str, x: str = "width", dots: Sequence[float] = (1, 1.5)
) -> None:
    """Draw a power law through the mean of y at the least x, as a thin dotted line."""
    ticks = np.array(sorted(found[x].unique()), dtype=float)
    start = found[found[x] == ticks[0]][y].mean()
    ax.plot(
        ticks, start * (ticks / ticks[0]) ** power, color="0.25", linestyle=(0, tuple(dots)), linewidth=1.2, label=label
    )
    with plots.style():
        ax.legend()


def decay(found: pd.DataFrame) -> Figure:
    """Draw norms over widths, one line per network, with the printed exponent."""
    fig, axes = plots.panels(height=3.4)
    label = r"Hessian norm $\|H_f\|$"
    plots.curves(axes[0], found, "width", "norm", "network", "range", WIDTH, label, "xy", look=KINDS)
    first = found[found["network"] == found["network"].iloc[0]]
    guide(axes[0], first, "norm", -0.5, "$m^{-1/2}$")
    _widths(axes[0], found)
    _plain(axes[0], "y")
    axes[0].set_ylim(bottom=axes[0].get_ylim()[0] / 5)  # room for the legend below all curves
    with plots.style():
        axes[0].legend(loc="lower left", ncols=3)
    return fig


def layers(edges: Sequence[tuple[Hashable, Hashable]], tight: Sequence[Hashable] = ()) -> Figure:
    """Draw a graph without order, and in the layers of the code's own grouping (Figures 2.1 and 2.3)."""
    graph = nx.DiGraph(edges)
    grouped = dag.longest_path_layers(edges)
    levels = {v: level for level, layer in enumerate(grouped) for v in layer}
    nx.set_node_attributes(graph, levels, "layer")
    places = [nx.circular_layout(graph), nx.multipartite_layout(graph, subset_key="layer")]
    fig, axes = plots.panels(1, 2, titles=["the graph", "its layers, by the longest path from an input"], height=3.2)
    inputs = {v for v in graph if graph.in_degree(v) == 0}
    kinds = [plots.PALETTE[7] if v in inputs else plots.PALETTE[3] if v in tight else plots.PALETTE[0] for v in graph]
    colors = [tuple(0.45 * part + 0.55 for part in color) for color in kinds]  # pale, so that names are legible
    for ax, place in zip(axes, places, strict=True):
        skips = [(u, v) for u, v in graph.edges if levels[v] - levels[u] > 1]
        plain = [edge for edge in graph.edges if edge not in skips]
        common = {"ax": ax, "node_size": 420, "arrowsize": 9, "edge_color": "0.35"}
        nx.draw_networkx_edges(graph, place, plain, **common)
        nx.draw_networkx_edges(graph, place, skips, style="dashed", connectionstyle="arc3,rad=0.18", **common)
        nx.draw_networkx_nodes(graph, place, node_color=colors, node_size=420, ax=ax, edgecolors="0.2", linewidths=0.8)
        nx.draw_networkx_labels(graph, place, font_size=9, ax=ax)
        ax.set_axis_off()
        ax.margins(0.12)
    low = min(y for _, y in places[1].values())
    for level, layer in enumerate(grouped):
        x = places[1][layer[0]][0]
        axes[1].annotate(
            str(level), (x, low), xytext=(0, -26), textcoords="offset points", ha="center", annotation_clip=False
        )
    return fig


def radii(found: pd.DataFrame, at: Sequence[float]) -> Figure:
    """Draw norms over widths at the start and on spheres around it, one panel per network."""
    names = {"fcn": "FCN", "half": "half-dropped DenseNet"}
    parts = [found.assign(norm=found[f"norm {r:g}"], radius=f"R = {r:g}") for r in at]
    tidy = pd.concat(parts).assign(net=found["net"].map(names))
    fig, axes = plots.panels(1, 2, titles=list(names.values()), sharey=True)
    for ax, name in zip(axes, names.values(), strict=True):
        part = tidy[tidy["net"] == name]
        plots.curves(ax, part, "width", "norm", "radius", "range", WIDTH, r"largest $\|H_f\|$ found", "xy")
        guide(ax, part[part["radius"] == f"R = {at[0]:g}"], "norm", -0.5, "$m^{-1/2}$")
        _widths(ax, part)
        _plain(ax, "y")
    axes[1].set_ylabel("")
    return fig


def remainder(found: pd.DataFrame, at: Sequence[float]) -> Figure:
    """Draw |f - f_lin| over widths in the worst direction found and in a random one, one panel per radius."""
    fig, axes = plots.panels(1, len(at), titles=[f"R = {r:g}" for r in at])
    names = {"worst": "top eigenvector", "random": "random direction"}
    for ax, radius in zip(axes, at, strict=True):
        tidy = pd.concat([found.assign(gap=found[f"{key} {radius:g}"], direction=name) for key, name in names.items()])
        label = r"$|f - f_\mathrm{lin}|$"
        plots.curves(ax, tidy, "width", "gap", "direction", "range", WIDTH, label, "xy")
        guide(ax, tidy[tidy["direction"] == names["worst"]], "gap", -0.5, "$m^{-1/2}$")
        _widths(ax, tidy)
    return fig


def change(found: pd.DataFrame, worst: pd.DataFrame | None = None) -> Figure:
    """Draw the kernel's largest relative change over widths (Figure 2.2): along descent, and one unit away at worst."""
    fig, axes = plots.panels(height=3.6)
    tidy = found.assign(where="along gradient descent")
    if worst is not None:
        tidy = pd.concat([tidy, worst.assign(where="worst direction found, at distance 1")])
    label = r"$\max_t \|K_t - K_0\| / \|K_0\|$"
    plots.curves(axes[0], tidy, "width", "change", "where", "range", "hidden size", label, "xy")
    wide = found[found["width"] >= 64]
    guide(axes[0], wide, "change", -1.0, "$m^{-1}$", dots=(4, 1.5, 1, 1.5))
    guide(axes[0], wide if worst is None else worst, "change", -0.5, "$m^{-1/2}$")
    _widths(axes[0], tidy)
    _plain(axes[0], "y")
    return fig


def variants(found: pd.DataFrame) -> Figure:
    """Draw the kernel's change over widths for every setting that the thesis leaves open."""
    fig, axes = plots.panels(height=3.6)
    label = r"$\max_t \|K_t - K_0\| / \|K_0\|$"
    tidy = found.assign(setting=found["setting"].map(SETTINGS))
    plots.curves(
        axes[0], tidy, "width", "change", "setting", None, WIDTH, label, "xy", look=plots.looks([*SETTINGS.values()])
    )
    _widths(axes[0], tidy)
    _plain(axes[0], "y")
    return fig


def counts(found: pd.DataFrame) -> Figure:
    """Draw norms over widths by the number of bottleneck neurons, with shared and with distinct parents."""
    names = {"two": "$b = 2$", "sqrt": r"$b = \sqrt{m}$", "half": "$b = m/2$", "all": "$b = m$"}
    tidy = found.assign(b=found["b"].map(names))
    fig, axes = plots.panels(1, 2, titles=["two shared parents", "a parent each"], sharey=True)
    for ax, parents in zip(axes, ("shared", "distinct"), strict=True):
        part = tidy[tidy["parents"] == parents]
        plots.curves(ax, part, "width", "norm", "b", None, WIDTH, r"$\|H_f\|$", "xy")
        guide(ax, part[part["b"] == names["two"]], "norm", -0.5, "$m^{-1/2}$")
        _widths(ax, part)
        _plain(ax, "y")
    axes[0].get_legend().remove()  # the other panel's serves both
    axes[1].set_ylabel("")
    return fig


def descent(looks: pd.DataFrame, setting: str = "tanh") -> Figure:
    """Draw loss, least kernel eigenvalue and the PL quotient along the first seed's runs, one line per width."""
    part = looks[(looks["setting"] == setting) & (looks["seed"] == looks["seed"].min())]
    part = part.assign(pl=part["slope"] / part["least"])
    few = sorted(part["width"].unique())[::2]
    part = part[part["width"].isin(few)]
    titles = ["loss", "least eigenvalue", r"$\|\nabla L\|^2 / (2 \lambda_{\min} L)$"]
    fig, axes = plots.panels(1, 3, titles=titles)
    names = {"loss": "loss / start", "least": r"$\lambda_{\min}(K_t) / \lambda_{\min}(K_0)$", "pl": "quotient"}
    for ax, (name, label) in zip(axes, names.items(), strict=True):
        log = "y" if name != "least" else ""
        plots.curves(
            ax, part, "step", name, "width", None, "step", label, log, legend="width" if name == "loss" else False
        )
    axes[2].axhline(1, color="0.25", linestyle=(0, (1, 1.5)), linewidth=1.2)
    return fig


def smallest(found: pd.DataFrame) -> Figure:
    """Draw the least eigenvalue at the start and the lowest one found in the ball, over widths."""
    fig, axes = plots.panels()
    names = {"start": "at $w_0$", "lowest": "lowest found in the ball"}
    tidy = pd.concat([found.assign(value=found[key], at=name) for key, name in names.items()])
    plots.curves(axes[0], tidy, "width", "value", "at", "range", WIDTH, r"$\lambda_{\min}(K)$", "x")
    axes[0].set_ylim(bottom=0)
    _widths(axes[0], tidy)
    return fig


def notions(found: pd.DataFrame, names: dict[str, str], compared: pd.DataFrame) -> Figure:
    """Draw norms over three notions of width, graph by graph; titles give the rank correlation."""
    best = compared["notion"].iloc[0]
    shown = list(dict.fromkeys(["least", "harmonic", next(k for k, v in names.items() if v == best)]))
    ranks = compared.set_index("notion")["rank correlation"]
    fig, axes = plots.panels(1, len(shown), sharey=True, titles=[f"{names[k]}: {ranks[names[k]]:.2f}" for k in shown])
    for ax, key in zip(axes, shown, strict=True):
        plots.points(ax, found, key, "norm", xlabel=names[key], ylabel=r"$\|H_f\|$", log="xy")
        _plain(ax, "xy")
    for ax in axes[1:]:
        ax.set_ylabel("")
    return fig


def kinks(found: pd.DataFrame) -> Figure:
    """Draw the largest |f - f_lin| of ReLU networks over widths beside half the Hessian's norm for tanh."""
    fig, axes = plots.panels()
    names = {"relu": "ReLU: largest $|f - f_\\mathrm{lin}|$", "smooth": r"tanh: $\frac{1}{2}\|H\|R^2$"}
    tidy = pd.concat([found.assign(gap=found[key], what=name) for key, name in names.items()])
    plots.curves(axes[0], tidy, "width", "gap", "what", "range", WIDTH, "", "xy")
    guide(axes[0], tidy[tidy["what"] == names["relu"]], "gap", -1 / 6, "$m^{-1/6}$")
    guide(axes[0], tidy[tidy["what"] == names["smooth"]], "gap", -0.5, "$m^{-1/2}$", dots=(4, 1.5, 1, 1.5))
    _widths(axes[0], tidy)
    _plain(axes[0], "y")
    return fig
