"""How the chapter on catapults draws its tables; what is said below the drawings stands in `show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from traindyn.report import plots
from traindyn.studies.catapults import tasks

KERNEL = r"$\|K\|/\|K_{w_0}\|$"
DOTTED = {"color": "0.25", "linewidth": 1.2, "linestyle": (0, (1, 1.5))}
KEPT = ["seed", "step", "loss", "norm", "rate", "ratio", "start"]


def kept(frame: pd.DataFrame, space: int) -> pd.DataFrame:
    """Return what a figure draws of a run, the steps after a divergence left out: the table behind it."""
    return frame.loc[frame["loss"] <= tasks.DIVERGED, [*KEPT, f"lead_{space}", f"rest_{space}"]]


def typical(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the run of the first seed that ends below its initial loss; of the first seed if there is none."""
    ends = frame.groupby("seed")["loss"].agg(lambda loss: loss.iloc[-1] < loss.iloc[0])
    return frame[frame["seed"] == (ends.idxmax() if ends.any() else frame["seed"].iloc[0])]


def staircase(frame: pd.DataFrame) -> Figure:
    """Draw loss and ||K|| of every seed of a run whose rate is raised again and again; dotted: the critical norm."""
    fig, axes = plots.panels(1, 2, height=3.4)
    by_seed = frame.assign(seed=_named(frame), relative=frame["norm"] / _first(frame, "norm"))
    plots.curves(axes[0], by_seed, "step", "loss", "seed", log="y", legend=False)
    plots.curves(axes[1], by_seed, "step", "relative", "seed", ylabel=KERNEL, log="y", legend=False)
    _critical(axes[1], frame)
    _label(axes)
    plots.legend_below(fig, axes)
    return fig


def two_numbers(runs: pd.DataFrame) -> Figure:
    """Draw loss and kernel of the model of two numbers at several rates: columns ratio, step, loss, norm, eta."""
    shown = runs[runs["loss"] <= 1e4].reset_index(drop=True)
    shown["rate"] = shown["ratio"].astype(str)
    shown["critical"] = shown["norm"] * shown["eta"]
    fig, axes = plots.panels(1, 2)
    plots.curves(axes[0], shown, "step", "loss", "rate", log="y", legend=False)
    plots.curves(axes[1], shown, "step", "critical", "rate", ylabel=r"$\eta\lambda$", log="y", legend=False)
    axes[1].axhline(1, label=r"critical: $\lambda = 1/\eta$", **DOTTED)
    axes[0].set_ylim(1e-6, 1e3)
    axes[1].set_ylim(0.05, 5)
    _label(axes)
    plots.legend_below(fig, axes, r"rate in units of $1/\lambda$ at first")
    return fig


def by_hand(run: pd.DataFrame) -> Figure:
    """Draw loss and ||K|| of one run with columns step, loss, norm, critical_norm (where the rate is critical).

    Marked are the step at which ||K|| first falls below the line, and the one at which it is lowest.
    """
    fig, (one, two) = plots.panels(1, 2, height=3.2)
    plots.curves(one, run, "step", "loss", log="y")
    plots.curves(two, run, "step", "norm", ylabel=r"$\|K\|$")
    level = run["critical_norm"].iloc[0]
    two.axhline(level, label=r"$n/\eta$", **DOTTED)
    under = run.index[run["norm"] < level]
    if len(under):
        steps = run.loc[[under[0], run["norm"].idxmin()], "step"]
        for ax in (one, two):
            for step in steps:
                ax.axvline(step, color="0.6", linewidth=0.8)
            ends = [run["step"].iloc[0], *steps, run["step"].iloc[-1]]
            for number, (first, last) in enumerate(zip(ends[:-1], ends[1:], strict=True), 1):
                where = ((first + last) / 2, 1.02)
                ax.text(*where, str(number), transform=ax.get_xaxis_transform(), ha="center", va="bottom")
    _label([one, two])
    plots.legend_below(fig, [two])
    return fig


def split(run: pd.DataFrame, space: int) -> pd.DataFrame:
    """Return the loss of one run and its two parts as a tidy table: step, part, loss."""
    names = {"loss": "all", f"lead_{space}": f"{space} leading", f"rest_{space}": "rest"}
    parts = [run[["step"]].assign(part=name, loss=run[column]) for column, name in names.items()]
    return pd.concat(parts, ignore_index=True)


def rows(runs: Mapping[str, pd.DataFrame], space: int) -> Figure:
    """Draw one row of three panels per run: loss and ||K|| of every seed, and the loss by eigenspace of one.

    Args:
        runs: name in front of the panel titles ("" for none) -> table of `kept`.
        space: number of leading directions s.
    """
    words = ("loss", "relative kernel norm", f"by eigenspace, s = {space}")
    titles = [f"{name}: {word}" if name else word for name in runs for word in words]
    fig, axes = plots.panels(len(runs), 3, height=3.1 if len(runs) == 1 else 2.5, titles=titles)
    look = plots.looks([f"seed {seed}" for frame in runs.values() for seed in sorted(frame["seed"].unique())])
    for index, frame in enumerate(runs.values()):
        one, two, three = axes[3 * index : 3 * index + 3]
        by_seed = frame.assign(seed=_named(frame), relative=frame["norm"] / _first(frame, "norm"))
        plots.curves(one, by_seed, "step", "loss", "seed", log="y", legend=False, look=look)
        plots.curves(two, by_seed, "step", "relative", "seed", ylabel=KERNEL, log="y", legend=False, look=look)
        _critical(two, frame)
        _parts(three, split(typical(frame), space))
        _fit_to_survivors(frame, {one: by_seed["loss"], two: by_seed["relative"]})
    _label(axes)
    plots.legend_below(fig, axes)
    return fig


def _fit_to_survivors(frame: pd.DataFrame, panels: Mapping[Axes, pd.Series]) -> None:
    """Cut panels off above the runs that came down, where others went up and would flatten them."""
    ends = frame.groupby("seed")["loss"].agg(lambda loss: loss.iloc[-1] <= 10 * loss.iloc[0])
    stay = frame["seed"].map(ends)
    if ends.any() and not ends.all():
        for ax, values in panels.items():
            ax.set_ylim(top=2 * values[stay].max())


def _parts(ax: Axes, parts: pd.DataFrame) -> None:
    """Draw the loss and its two parts, of `split`, in colours that no seed has."""
    styles = (("0.15", "-"), (plots.PALETTE[5], "--"), ("0.55", "-."))
    for (part, rows), (color, dash) in zip(parts.groupby("part", sort=False), styles, strict=True):
        ax.plot(rows["step"], rows["loss"], color=color, linestyle=dash, linewidth=1.4, label=part)
    ax.set(xlabel="step", ylabel="loss", yscale="log")


def _named(frame: pd.DataFrame) -> pd.Series:
    return "seed " + frame["seed"].astype(str)


def _first(frame: pd.DataFrame, column: str) -> pd.Series:
    return frame.groupby("seed")[column].transform("first")


def _critical(ax: Axes, frame: pd.DataFrame) -> None:
    """Draw the norm at which the rate is critical, relative to the start: once, or per seed where rates differ."""
    alike = frame.groupby("step")["ratio"].agg(lambda ratio: ratio.max() - ratio.min()).max() < 1e-3
    for _, run in [(0, typical(frame))] if alike else frame.groupby("seed"):
        ax.step(run["step"], 1 / run["ratio"], where="post", label=r"critical: $n/\eta$", **DOTTED)


def thresholds(runs: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw per run the critical rate of every batch beside the rate in use, and the loss (first seed; Figure 4.6a)."""
    words = ("critical rate of each batch", "loss")
    titles = [f"{name}: {word}" for name in runs for word in words]
    fig, axes = plots.panels(len(runs), 2, height=2.4, titles=titles, sharey="col")
    for index, frame in enumerate(runs.values()):
        one = frame[frame["seed"] == frame["seed"].iloc[0]]
        left, right = axes[2 * index : 2 * index + 2]
        plots.points(left, one, "step", "batch_critical", ylabel=r"$b/\|K_{batch}\|$")
        left.axhline(one["rate"].iloc[0], label=r"rate in use, $\eta$", **DOTTED)
        left.set_ylim(bottom=0)
        plots.curves(right, one, "step", "loss", log="y")
    _label(axes)
    plots.legend_below(fig, axes)
    return fig


def survival(frame: pd.DataFrame) -> Figure:
    """Draw where training ends against the rate, one panel per model; crosses on top: seeds that diverged."""
    models = list(frame["model"].unique())
    fig, axes = plots.panels(1, len(models), titles=models, sharey=True)
    for ax, model in zip(axes, models, strict=True):
        table = frame[frame["model"] == model]
        plots.points(
            ax,
            table[~table["diverged"]],
            "ratio",
            "final",
            xlabel="rate / critical rate",
            ylabel="final / initial loss",
            log="xy",
        )
        gone = table[table["diverged"]]
        ax.plot(gone["ratio"], [3.0] * len(gone), "x", color=plots.PALETTE[3], label="diverged")
        ax.axhline(0.1, label="counts as trained below", **DOTTED)
        _ticks(ax, [ratio for ratio in sorted(table["ratio"].unique()) if ratio != 6.5])  # its label would touch 8
    plots.legend_below(fig, axes)
    return fig


def by_width(frame: pd.DataFrame, column: str, ylabel: str) -> Figure:
    """Draw a column against the width, one line per depth, both scales logarithmic."""
    fig, (ax,) = plots.panels(1, 1)
    look = {"log": "xy", "legend": False, "ylabel": ylabel}
    frame = frame.assign(depth="depth " + frame["depth"].astype(str))
    plots.curves(ax, frame, "width", column, "depth", band="range", **look)
    means = frame.groupby(["depth", "width"], as_index=False)[column].mean()
    plots.points(ax, means, "width", column, "depth", **look)
    _ticks(ax, sorted(frame["width"].unique()))
    plots.legend_below(fig, [ax])
    return fig


def shares(frame: pd.DataFrame) -> Figure:
    """Draw what the complement of the s leading directions carries of the rise, and how often it rises, against s."""
    fig, axes = plots.panels(1, 2)
    words = {
        "share": r"share of the rise in $\mathcal{L}_{>s}$",
        "steps_up": r"steps at which $\mathcal{L}_{>s}$ rises",
    }
    for ax, (column, word) in zip(axes, words.items(), strict=True):
        log = "xy" if column == "share" else "x"
        plots.curves(ax, frame, "s", column, "run", band="range", log=log, ylabel=word, legend=column == "share")
        _ticks(ax, sorted(frame["s"].unique()))
    return fig


def planted(run: pd.DataFrame) -> Figure:
    """Draw the loss of one run of the planted sample, the steps that use it marked (Figure 4.5)."""
    fig, (ax,) = plots.panels(1, 1)
    plots.curves(ax, run, "step", "loss", log="y")
    at = run[run["star"] > 0]
    over = at["rate"] > at["critical"]
    for part, marker, label in ((at[over], "s", "planted, super-critical"), (at[~over], "o", "planted, sub-critical")):
        ax.plot(part["step"], part["loss"], marker, ms=5, color=plots.PALETTE[1 + (marker == "o")], label=label)
    plots.legend_below(fig, [ax])
    return fig


def match(rates: pd.DataFrame) -> Figure:
    """Draw match rate, base rate and excursion view of every run and seed, one panel per pair of share and base.

    Bars mark the means over seeds.
    """
    pairs = {"rises": ("match", "base"), "excursions": ("excursions", "windows")}
    words = {
        "match": "of the rises",
        "base": "of all steps",
        "excursions": "of the excursions",
        "windows": "of stretches",
    }
    fig, axes = plots.panels(1, 2, titles=["rises", "excursions"], sharey=True)
    look = plots.looks(words.values())
    for ax, columns in zip(axes, pairs.values(), strict=True):
        tidy = rates.melt(id_vars=["run", "seed"], value_vars=list(columns), var_name="share", value_name="value")
        tidy["share"] = tidy["share"].map(words)
        named = {"xlabel": "share with a super-critical batch", "ylabel": "", "legend": False, "look": look}
        plots.points(ax, tidy, "value", "run", "share", **named)
        for share, part in tidy.groupby("share", sort=False):
            means = part.groupby("run", sort=False)["value"].mean()
            ax.plot(means, means.index, "|", ms=16, mew=2, color=plots.PALETTE[look[share]])
        ax.set_xlim(-0.03, 1.03)
        ax.set_ylim(rates["run"].nunique() - 0.5, -0.5)  # the first run on top
    plots.legend_below(fig, axes)
    return fig


def diagonal(frame: pd.DataFrame) -> Figure:
    """Draw b/||K_batch|| against the exact threshold of the batch, per network, with the diagonal (Figure C.1)."""
    fig, (ax,) = plots.panels(1, 1)
    words = {"xlabel": r"$2/\lambda_{\max}$ of the batch's Hessian", "ylabel": r"$b/\|K_{batch}\|$"}
    plots.points(ax, frame, "exact", "kernel", "network", log="xy", **words)
    ends = [frame["exact"].min(), frame["exact"].max()]
    ax.plot(ends, ends, color="0.5", linewidth=1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    return fig


def batches(norms: pd.DataFrame, trained: pd.DataFrame, sizes: Sequence[int]) -> Figure:
    """Draw ||K_b||/b of random batches, and super-critical steps per epoch, against the batch size."""
    fig, (left, right) = plots.panels(1, 2)
    plots.points(left, norms, "b", "value", log="xy", xlabel="batch size b", ylabel=r"$\|K_b\|/b$")
    left.axhline(2 * norms["whole"].mean(), label=r"$1/\eta$ at $\eta=\eta_{crit}/2$", **DOTTED)
    words = {"xlabel": "batch size b", "ylabel": "super-critical steps / epoch"}
    plots.points(right, trained, "b", "per_epoch", log="x", **words)
    for ax in (left, right):
        _ticks(ax, sizes)
        ax.set_xlim(min(sizes) / 1.3, max(sizes) * 1.3)
    _label([left])
    plots.legend_below(fig, [left])
    return fig


def watcher(compared: Mapping[str, pd.DataFrame], answers: Mapping[str, Mapping]) -> Figure:
    """Draw the test loss of constant rates and of the optimiser that watches, one panel per task.

    Means stand only where no seed diverged; a cross marks a rate at which some did.
    """
    fig, axes = plots.panels(1, len(compared), titles=list(compared))
    words = {"xlabel": "constant rate / critical rate", "ylabel": "test loss"}
    for ax, (name, table) in zip(axes, compared.items(), strict=True):
        constant = table[table["method"] == "constant"]
        whole = constant[constant.groupby("ratio")["test"].transform("count") == constant["seed"].nunique()]
        plots.curves(ax, whole, "ratio", "test", band="range", log="x", **words)
        gone = sorted(set(constant["ratio"]) - set(whole["ratio"]))
        top = ax.get_ylim()[1]
        ax.plot(gone, [top] * len(gone), "x", color=plots.PALETTE[3], label="diverged in some seed", clip_on=False)
        watched = table.loc[table["method"] == "watcher", "test"].dropna()
        seeds = [answers[name]["best"]] * len(watched)
        ax.plot(seeds, watched, "^", ms=4, color=plots.PALETTE[2], label="watcher, each seed")
        _ticks(ax, sorted(constant["ratio"].unique()))
    plots.legend_below(fig, axes)
    return fig


def _label(axes: Sequence[Axes]) -> None:
    """Label logarithmic axes of y that span little by plain numbers, where matplotlib's own labels collide.

    All lose their minor ticks, which take a good part of the time of drawing.
    """
    for ax in axes:
        low, high = ax.get_ylim()
        if ax.get_yscale() != "log":
            continue
        ax.yaxis.set_minor_locator(NullLocator())
        if high < 60 * low:
            ax.yaxis.set_major_locator(MaxNLocator(4) if high < 4 * low else LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _ticks(ax: Axes, at: Sequence[float]) -> None:
    """Put ticks at these values of x and nowhere else."""
    ax.set_xticks(at, [f"{value:g}" for value in at])
    ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
