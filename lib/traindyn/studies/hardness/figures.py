"""Drawings of the chapter on hardness; a width, a dimension, a model has one look in all of them."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from traindyn.report import plots

MODELS = plots.looks(["network", "random features", "training error of the network"])
KINDS = {"half": "half of the bits", "full": "all bits", "bits": "half, inputs 0 and 1"}


def gradients(found: pd.DataFrame) -> Figure:
    """Draw `gradients.cloud`: two coordinates of every parity's gradient, one panel per d, on one scale.

    Parities of few bits lie on top.
    """
    dims = sorted(found["d"].unique())
    cols = min(3, len(dims))
    titles = [f"$d$ = {d}: {2**d - 1} parities" for d in dims]
    fig, axes = plots.panels(-(-len(dims) // cols), cols, 2.7, titles=titles, sharex=True, sharey=True)
    for index, (ax, d) in enumerate(zip(axes, dims, strict=False)):
        part = found[found["d"] == d].sort_values("order", ascending=False)
        drawn = ax.scatter(
            part["first"], part["second"], c=part["order"], s=14, cmap="viridis_r", vmin=1, vmax=max(dims), lw=0,
            rasterized=len(part) > 300,
        )  # fmt: skip
        ax.set_xlabel("gradient, direction 1" if index >= len(dims) - cols else "")
        ax.set_ylabel("direction 2" if index % cols == 0 else "")
    fig.colorbar(drawn, ax=axes, label="bits of the parity", shrink=0.8)
    return fig


def wave(found: pd.DataFrame) -> Figure:
    """Draw `parities.wave`: the hats, their sum, and the parity at the integers."""
    fig, axes = plots.panels(height=2.6)
    ax = axes[0]
    for name, part in found[found["part"].str.startswith("hat")].groupby("part"):
        ax.fill_between(part["z"], part["value"], color=plots.PALETTE[0], alpha=0.15, lw=0)
        ax.plot(part["z"], part["value"], color=plots.PALETTE[0], lw=0.9, label="hats" if name == "hat 0" else None)
    whole, dots = found[found["part"] == "network"], found[found["part"] == "parity"]
    ax.plot(whole["z"], whole["value"], color=plots.PALETTE[1], ls="--", label="network")
    ax.plot(dots["z"], dots["value"], "o", color="0.15", label="$(-1)^z$")
    ax.set(xlabel="$z = v^T x$", ylabel="value", ylim=(-1.65, 1.15))
    with plots.style():
        ax.legend(ncols=3, loc="lower center")
    return fig


def rates(least: pd.DataFrame, slow: pd.DataFrame) -> Figure:
    """Draw least gradient norms against Theorem 1's bound, one seed, and the risk under the printed condition."""
    fig, axes = plots.panels(1, 2, titles=["a tanh network", "$R = e^{-\\theta}$"])
    one = least[least["run"] == least["run"].min()]
    plots.curves(axes[0], one, "t", "value", hue="curve", log="xy", xlabel="time $t$", ylabel="gradient norm")
    plots.curves(axes[1], slow, "t", "risk", hue="curve", log="y", xlabel="time $t$", ylabel="risk")
    axes[1].set_ylim(bottom=1e-12)
    return fig


def stays(claimed: pd.DataFrame, ordinary: pd.DataFrame) -> Figure:
    """Draw `stays.escape` over d, and the median displacement of `stays.ordinary` over time."""
    fig, axes = plots.panels(1, 2, titles=[r"counterexample at $t = (d\,\ln 2)/4$", "ordinary networks"])
    label = r"$\log_{10}$ mean squared displacement"
    plots.curves(axes[0], claimed, "d", "value", hue="curve", xlabel="$d$", ylabel=label)
    axes[0].set_ylim(-14, 8)
    plots.curves(axes[1], ordinary, "t", "median", hue="d", band="range", xlabel="time $t$", legend="$d$")
    axes[1].set_ylabel("median displacement")
    return fig


def parity(found: pd.DataFrame) -> Figure:
    """Draw the losses of `online.experiment`, one panel per kind (column `kind`).

    A dimension has one colour in all of them, the darker the larger; one line per seed.
    """
    dims = sorted(found["d"].unique())
    shades = plt.get_cmap("viridis_r")(np.linspace(0.1, 1, len(dims)))
    kinds = list(dict.fromkeys(found["kind"]))
    fig, axes = plots.panels(1, len(kinds), 3.0, titles=[KINDS[kind] for kind in kinds], sharey=True)
    for ax, kind in zip(axes, kinds, strict=True):
        for (_, d), run in found[found["kind"] == kind].groupby(["seed", "d"]):
            place = dims.index(d)
            dash = plots.DASHES[place % len(plots.DASHES)]
            ax.plot(run["step"], run["loss"], color=shades[place], ls=dash, lw=1.1)
        ax.set(xlabel="step", xscale="log")
    axes[0].set_ylabel("hinge loss")
    lines = [
        plt.Line2D([], [], color=shade, ls=plots.DASHES[i % len(plots.DASHES)], lw=1.4)
        for i, shade in enumerate(shades)
    ]
    with plots.style():
        fig.legend(lines, [str(d) for d in dims], title="$d$", loc="outside right center")
    return fig


def steps(found: pd.DataFrame) -> Figure:
    """Draw the steps until a parity is learned over d (index seed, d, kind; column steps), one line per kind."""
    fig, axes = plots.panels(height=2.8)
    known = found.reset_index()
    known = known[np.isfinite(known["steps"])]
    known = known.assign(kind=known["kind"].map(KINDS))
    plots.curves(axes[0], known, "d", "steps", hue="kind", band="range", log="y", xlabel="$d$", legend="parity")
    axes[0].set_ylabel("steps until learned")
    return fig


def landscape(found: pd.DataFrame) -> Figure:
    """Draw both surfaces of `landscape.surfaces` in three dimensions."""
    count = round(len(found) ** 0.5)
    with plots.style():
        fig, axes = plt.subplots(1, 2, figsize=(9.2, 4.3), subplot_kw={"projection": "3d"})
        fig.subplots_adjust(left=0, right=0.94, bottom=0.03, top=0.95, wspace=0.06)
    u, v = (found[name].to_numpy().reshape(count, count) for name in ("u", "v"))
    for ax, name in zip(axes, ("population", "empirical"), strict=True):
        values = found[name].to_numpy().reshape(count, count)
        ax.plot_surface(u, v, values, cmap="viridis", lw=0, rcount=count, ccount=count, vmin=0, vmax=2, rasterized=True)
        ends = [round(float(v), 1) for v in (u.min(), 0, u.max())]
        ax.set(xlabel="$w_1$", ylabel="$w_2$", zlim=(0, 2), title=name, xticks=ends, yticks=ends, zticks=[0, 1, 2])
        ax.set_zlabel("$R_L(w)$")
        ax.view_init(elev=38, azim=-62)
    return fig


def smallest(found: pd.DataFrame, widths: pd.DataFrame) -> Figure:
    """Draw smallest eigenvalues of `spectrum.random_points` over n, and the widths of `spectrum.curve`.

    Dotted: the printed powers n^(-1/d), through the first point.
    """
    fig, axes = plots.panels(1, 2, titles=[r"$\lambda_n(K)$ of $n$ random points", "width of the ReLU ball"])
    look = plots.looks(sorted({*found["d"], *widths["d"]}))
    plots.curves(
        axes[0], found, "n", "smallest", hue="d", band="range", log="xy", xlabel="$n$", legend="$d$", look=look
    )
    plots.curves(axes[1], widths, "n", "width", hue="d", log="xy", xlabel="$n$", legend="$d$", look=look)
    for d, part in found.groupby("d"):
        mean = part.groupby("n")["smallest"].mean()
        printed = mean.iloc[0] * (mean.index / mean.index[0]) ** (-1 / d)
        axes[0].plot(mean.index, printed, ":", color=plots.PALETTE[look[d] % len(plots.PALETTE)], lw=1)
    for d, part in widths.groupby("d"):
        axes[1].plot(part["n"], part["printed"], ":", color=plots.PALETTE[look[d] % len(plots.PALETTE)], lw=1)
    ticks = sorted(found["n"].unique())
    axes[0].set_xticks(ticks, ticks)
    axes[0].minorticks_off()
    axes[0].set_ylabel("smallest eigenvalue")
    axes[1].set_ylabel("distance")
    return fig


def regime(risks: pd.DataFrame, moved: pd.DataFrame, shown: Sequence[int]) -> Figure:
    """Draw the risk of `regime.trajectories` at some widths against both bounds, and displacements over widths."""
    fig, axes = plots.panels(1, 2, titles=["risk over its start", "displacement at the end"])
    part = risks[risks["width"].isin(shown)]
    time = np.array(sorted(part["t"].unique()))
    label = r"$m\,\lambda_n(K)\,t$"
    plots.curves(axes[0], part, "t", "risk", hue="curve", band="range", log="y", xlabel=label, ylabel="", legend=False)
    axes[0].plot(time, np.exp(-time), color="0.25", ls=(0, (1, 1.5)), label="Theorem 10")
    axes[0].plot(time, np.exp(-time / 2), color="0.55", ls=(0, (4, 1.5)), label="Lemma 12")
    axes[0].set_ylim(bottom=1e-7)
    with plots.style():
        axes[0].legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)
    names = {"outer": "mean $|a_j|$", "inner": "mean $|b_j-b_j(0)|$", "total": "all parameters"}
    flat = moved.reset_index().melt(["seed", "width"], list(names), "which", "displacement")
    flat = flat.assign(which=flat["which"].map(names))
    plots.curves(axes[1], flat, "width", "displacement", "which", "range", log="xy", xlabel="width $m$", ylabel="")
    return fig


def figure2(curves: pd.DataFrame, shown: Sequence[int]) -> Figure:
    """Draw `implicit.figure2` at some widths: both models' test errors and the network's training error."""
    names = {"network": "network", "features": "random features", "train": "training error of the network"}
    flat = curves[(curves["step"] > 0) & curves["width"].isin(shown)]
    flat = flat.melt(["seed", "width", "step"], list(names), "model", "error")
    flat = flat.assign(model=flat["model"].map(names), m=flat["width"])
    return plots.facets(
        flat, "step", "error", cols="m", hue="model", band="range", log="xy", ylabel="relative error", look=MODELS
    )


def figure3(compared: pd.DataFrame, swept: pd.DataFrame) -> Figure:
    """Draw `implicit.chosen` over widths, and the sweep over the strength of the penalty."""
    fig, axes = plots.panels(1, 2, titles=["test error", "sweep of the penalty"])
    names = {"plain": "plain GD", "regularised": "path-norm penalty"}
    flat = compared.reset_index().melt(["seed", "width"], list(names), "solution", "error")
    flat = flat.assign(solution=flat["solution"].map(names))
    common = {"band": "range", "log": "xy", "ylabel": "relative test error"}
    plots.curves(axes[0], flat, "width", "error", hue="solution", xlabel="width $m$", **common)
    common["band"] = None
    plots.curves(axes[1], swept, "lambda", "test", hue="width", xlabel=r"$\lambda$", legend="$m$", **common)
    strengths = sorted(swept["lambda"].unique())
    axes[1].set_xticks(strengths, [f"{strength:g}" for strength in strengths])
    axes[1].minorticks_off()
    return fig
