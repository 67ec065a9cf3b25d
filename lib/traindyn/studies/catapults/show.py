"""What stands below the figures of the chapter on catapults: captions, and the archived run beside the live one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from traindyn.studies.catapults import figures, tasks

RUN_ALT = (
    "Against the step: training loss of every seed, norm of the kernel with the critical norm dotted, and the loss of "
    "one seed in the {} leading and in all other directions."
)


def run(
    ch: Any,
    name: str,
    frame: pd.DataFrame,
    size: Any,
    says: str,
    space: int = 5,
    experiment: str = "",
    older: bool = True,
) -> None:
    """Show a run as a figure of the chapter, with the archived run below it where there is one.

    A run that was left out is not drawn, and the archived one stands alone; without either nothing is shown.

    Args:
        ch: the chapter.
        name: of the figure.
        frame: of `tasks.follow`.
        size: of the run.
        says: first sentence of the caption.
        space: number of leading directions s.
        experiment: name of the archived run's sizes; the figure's name if empty.
        older: whether to show the archived run.
    """
    data, table = figures.kept(frame, space), ch.archived(name) if older else None
    runs = {
        name: part for name, part in {"this run": data, "archived": table}.items() if part is not None and len(part)
    }
    words = [says] + [tasks.about(frame, size)] * (len(frame) > 0)
    if table is not None:
        words += ["Below, the archived run:" if len(runs) > 1 else "The archived run:"]
        words += [tasks.about(table, ch.archived_size(experiment or name))]
    if not runs:
        return
    first = next(iter(runs.values()))
    words.append(f"Dotted: where the rate is critical. By eigenspace: seed {figures.typical(first)['seed'].iloc[0]}.")
    drawn = figures.rows(runs if len(runs) > 1 else {"": first}, space)
    ch.figure(name, drawn, caption=" ".join(words), alt=RUN_ALT.format(space), data=first)


def nets(ch: Any, name: str, runs: Mapping[str, pd.DataFrame], sizes: Mapping[str, Any], says: str, space: int) -> None:
    """Show runs of several networks as one figure, a row for each; arguments as in `run`."""
    parts = {net: figures.kept(frame, space) for net, frame in runs.items() if len(frame)}
    words = [says, *(f"{net}: {tasks.about(runs[net], sizes[net])}" for net in parts)]
    drawn, older = dict(parts), ch.archived(name)
    if older is not None:
        drawn |= {f"archived {net}": part for net, part in older.groupby("network", sort=False)}
        words.append("Archived: on CIFAR-10.")
    if drawn:
        ch.figure(
            name,
            figures.rows(drawn, space),
            caption=" ".join([*words, "Dotted: where the rate is critical."]),
            alt="One row per network, against the step: training loss, norm of the kernel, loss by eigenspace.",
            data=pd.concat([part.assign(network=net) for net, part in parts.items()]) if parts else older,
        )


def staircase(ch: Any, frame: pd.DataFrame, size: Any) -> None:
    """Open the chapter: the archived run at rates that rise step by step, or this one where there is none."""
    older = ch.archived("extended")
    drawn = figures.kept(frame, 10) if older is None else older
    said = tasks.about(frame, size) if older is None else tasks.about(older, ch.archived_size("extended"))
    ch.figure(
        "staircase",
        figures.staircase(drawn),
        caption=f"Gradient descent at {schedule(list(zip(size.times, size.ratios, strict=True)))}. {said} Dotted: the "
        "norm at which the rate is critical.",
        alt="Left: training loss against the step, a peak after nearly every raise. Right: norm of the kernel, down a "
        "staircase.",
        data=drawn,
    )
    last = drawn.groupby("seed").tail(1)
    edge = last["start"] * last["seed"].map(drawn.groupby("seed")["norm"].first()) / (last["norm"] * last["rate"])
    ch.glue("stairs_ratio", last["ratio"].mean())
    ch.glue("stairs_edge_least", edge.min())
    ch.glue("stairs_edge_most", edge.max())


def two_numbers(ch: Any, runs: pd.DataFrame) -> None:
    """Show the model of two numbers."""
    ch.figure(
        "two-numbers",
        figures.two_numbers(runs),
        caption="The model of two numbers at four rates, in units of its critical rate at the start. Right: the kernel "
        "times the rate; dotted, where it is critical. Drawn until the loss reaches $10^4$.",
        alt="Left: loss against the step. Right: kernel times rate against the step, one line per rate.",
        data=runs,
    )


def by_hand(ch: Any, frame: pd.DataFrame, size: Any) -> None:
    """Show the run of the first section."""
    ch.figure(
        "by-hand",
        figures.by_hand(frame),
        caption=f"Loss and $\\|K\\|$ of the loop above: one seed, {size.n} samples of {tasks.NAMES[size.data]} in "
        f"{size.dim} dimensions, {size.depth} layers of width {size.width}. Dotted: the norm at which the rate is "
        "critical.",
        alt="Left: training loss against the step, logarithmic. Right: norm of the kernel, the critical one dotted.",
        data=frame,
    )


def critical(ch: Any, gaps: pd.DataFrame, size: Any) -> None:
    """Show Appendix C.1."""
    ch.figure(
        "critical",
        figures.by_width(gaps, "gap", r"relative gap to $n/\|K\|$"),
        caption="Appendix C.1: relative gap between $2/\\lambda_{\\max}$ of the Hessian and $n/\\|K\\|$ at random "
        f"weights; {size.n} normal points in {size.dim} dimensions. Lines: mean, bands: range over "
        f"{gaps['seed'].nunique()} seeds.",
        alt="Relative gap against width on logarithmic scales, one line for each depth.",
        data=gaps,
    )


def drift(ch: Any, frame: pd.DataFrame, size: Any) -> None:
    """Show how far the kernel's norm moves below the critical rate."""
    ch.figure(
        "drift",
        figures.by_width(frame, "drift", r"change of $\|K\|$, relative"),
        caption=f"How far $\\|K\\|$ moves in {size.steps} steps at half the critical rate, by depth and width. "
        f"Data: {tasks.NAMES[size.data]}, {size.n} samples. Lines: mean, bands: range over {frame['seed'].nunique()} "
        "seeds.",
        alt="Relative change of the kernel's norm against width on logarithmic scales, one line for each depth.",
        data=frame,
    )


def survival(ch: Any, tables: Mapping[str, pd.DataFrame], sizes: Sequence[Any]) -> None:
    """Show Remark 4.3.1, and the archived run's."""
    names = ("five layers", "two layers", "quadratic model, two layers")
    table = pd.concat([frame.assign(model=name) for name, frame in zip(names, tables.values(), strict=True)])
    widths = ", ".join(str(size.width) for size in sizes)
    ch.figure(
        "survival",
        figures.survival(table),
        caption="Remark 4.3.1: where gradient descent ends at a multiple of the critical rate, one point per seed; "
        f"crosses at the top: diverged. Data: {tasks.NAMES[sizes[0].data]}, {sizes[0].n} samples, widths {widths}; "
        f"{sizes[0].steps} steps (five layers) and {sizes[1].steps} steps.",
        alt="Three panels: final over initial loss against the rate: five layers, two layers, a quadratic model.",
        data=table,
    )
    _archived(ch, "survival", figures.survival, "CIFAR-10, width 1024 (quadratic model: 512).")


def shares(ch: Any, spaces: pd.DataFrame) -> None:
    """Show what the complement carries of the rise, for several runs, and the archived run's."""
    ch.figure(
        "shares",
        figures.shares(spaces),
        caption="How much of the upward variation the complement carries, and how often it rises, against the number "
        f"of leading directions; lines: mean, bands: range over {spaces['seed'].nunique()} seeds. Runs of the figures "
        "above.",
        alt="Left: share of the rise in the complement against s. Right: number of steps at which it rises.",
        data=spaces,
    )
    _archived(ch, "shares", figures.shares, "CIFAR-10 and the rank-2 task, width 1024.")


def planted(ch: Any, steep: pd.DataFrame, size: Any) -> None:
    """Show Figure 4.5: one seed at the middle rate."""
    first = steep["seed"].iloc[0]
    one = steep[(steep["seed"] == first) & (steep["place"] == size.places[len(size.places) // 2])]
    ch.figure(
        "planted",
        figures.planted(one),
        caption="Figure 4.5: training loss with batch size one; marked: steps that use the planted sample. "
        f"n = d = {size.n}, two layers, width {size.width}, output weights fixed; the rate is the geometric middle of "
        f"the two critical rates; seed {first}.",
        alt="Training loss against the step on a logarithmic scale; markers where the planted sample is drawn.",
        data=one,
    )


def thresholds(ch: Any, runs: Mapping[str, pd.DataFrame], size: Any) -> None:
    """Show Figure 4.6a: runs at a low and a high rate."""
    columns = ["seed", "step", "loss", "rate", "batch_critical"]
    low, high = runs
    ch.figure(
        "shallow-rates",
        figures.thresholds(runs),
        caption="Figure 4.6a: critical rates of the batches, the rate in use, and the training loss; above at "
        f"{size.low} of the critical rate, below in the middle between the lowest and the median batch threshold at "
        f"the start. {tasks.about(runs[high], size)} Drawn: the first seed.",
        alt="Two rows, low and high rate: points of the batches' critical rates with the rate as a line, and the loss.",
        data=pd.concat([runs[name][columns].assign(run=name) for name in (low, high)]),
    )


def match(ch: Any, tables: Mapping[str, pd.DataFrame], printed: Mapping[str, str]) -> None:
    """Show Table 4.2 with its base rate, and the archived run's.

    Args:
        ch: the chapter.
        tables: name of a run -> table of `sgd.match`.
        printed: network -> its match rate in the source.
    """
    rates = pd.concat([table.assign(run=name) for name, table in tables.items()], ignore_index=True)
    counts = rates.groupby("run", sort=False)["seed"].nunique()
    most = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
    ch.figure(
        "match",
        figures.match(rates),
        caption="Table 4.2 with its base rate and the excursion view, one point per seed. Printed match rates: "
        f"{', '.join(f'{net} {rate} %' for net, rate in printed.items())}. Seeds: {most}.",
        alt="For each run the match rate, the base rate and the excursion share of every seed as points from 0 to 1.",
        data=rates,
    )
    _archived(ch, "match", figures.match, "CIFAR-10 and the rank-2 task, width 1024; CNN with 32 channels.")


def diagonal(ch: Any, gaps: Mapping[str, pd.DataFrame], sizes: Mapping[str, Any]) -> None:
    """Show Figure C.1."""
    both = pd.concat([frame.assign(network=name) for name, frame in gaps.items()])

    def each(key: str) -> str:
        return ", ".join(str(getattr(size, key)) for size in sizes.values())

    ch.figure(
        "thresholds",
        figures.diagonal(both),
        caption=f"Figure C.1: both thresholds of the coming batch along SGD, every {each('every')} steps; widths "
        f"{each('width')}, batches {each('batch')} ({', '.join(gaps)}); {both['seed'].nunique()} seeds.",
        alt="Scatter plot of the two thresholds of a batch with the diagonal.",
        data=both,
    )


def batches(ch: Any, norms: pd.DataFrame, parts: pd.DataFrame, trained: pd.DataFrame, size: Any) -> None:
    """Show how the batch size moves the batch's critical rate."""
    ch.figure(
        "batches",
        figures.batches(norms, trained, size.sizes),
        caption=f"Left: $\\|K_b\\|/b$ of {size.batches} random batches per size and seed at the start; above the line "
        f"a batch is super-critical. Right: super-critical steps per epoch in {size.steps} steps at half the critical "
        f"rate. Rank-2 task, n = {size.n}, two layers, width {size.width}.",
        alt="Against batch size: norm of the batch kernel, and super-critical steps per epoch.",
        data=parts.merge(trained, on=["seed", "b"]),
    )


def watcher(ch: Any, compared: Mapping[str, pd.DataFrame], answers: Mapping[str, Any]) -> None:
    """Show the optimiser that watches beside constant rates."""
    seeds = next(iter(compared.values()))["seed"].nunique()
    ch.figure(
        "watcher",
        figures.watcher(compared, answers),
        caption=f"Ours: test loss of SGD at constant rates (line: mean, band: range over {seeds} seeds; crosses: rates "
        "at which some seed diverges) and of the optimiser that watches the critical rate, every seed that did not "
        "diverge, drawn at the constant rate it is compared with.",
        alt="One panel for each task: test loss against the constant rate, the watcher's seeds as triangles.",
        data=pd.concat([table.assign(task=name) for name, table in compared.items()]),
    )


def schedule(rates: Sequence[tuple[int, float]]) -> str:
    """Say the rates of a schedule and when they begin, for a caption."""
    steps, ratios = (", ".join(f"{number:g}" for number in column) for column in zip(*rates, strict=True))
    return f"rates {ratios} of the critical one, from the steps {steps} on"


def _archived(ch: Any, name: str, draw: Any, says: str) -> None:
    alt = "The panels of the previous figure, from the archived run."
    ch.archived_figure(name, draw, caption=f"The same from the archived run: {says}", alt=alt)


def gallery(ch: Any, more: Mapping[str, pd.DataFrame]) -> None:
    """Show the repetitions of `gallery.runs`, a figure for each and one for the small networks under SGD."""
    runs_of = {  # figure: (what it repeats, leading directions, experiment)
        "digits-fcn": ("Figure C.3a and b: fully connected, on digits", 5, "digits-fcn"),
        "digits-cnn": ("Figure C.3c and d: convolutional, on digits", 5, "digits-cnn"),
        "wrn": ("Figure C.4c and d: a residual network", 5, "wrn"),
        "rank2-bare": ("Figure C.4a and b without biases", 5, "rank2"),
        "multi-rank2": ("The rank-2 task at rates that are raised twice", 10, "multi-rank2"),
        "multi-cnn": ("Figures 4.4b and C.6b", 10, "multi-cnn"),
        "sgd-digits": ("Figure C.10: SGD on digits", 1, "sgd-digits"),
        "sgd-large": ("Figure C.11a, with fewer points", 1, "sgd-large"),
        "sgd-myrtle": ("Figure C.11c; s = 1 stands for as many directions as there are classes", 1, "sgd-myrtle"),
        "sgd-torch-fast": ("Figure C.9 at a higher rate", 1, "sgd-torch"),
    }
    for name, (says, space, experiment) in runs_of.items():
        size = ch.size(experiment)
        ratio = size.ratio if "ratio" in vars(size) else None
        said = f"{says}, at ratio {ratio}." if ratio else f"{says}."
        if "times" in vars(size):
            said = f"{says}: {schedule(list(zip(size.times, size.ratios, strict=True)))}."
        run(ch, name, more[name], size, said, space, experiment)
    small = {"CNN": "sgd-cnn", "WRN": "sgd-wrn", "ViT": "sgd-vit"}
    says = "Figures 4.7b to d and C.8 with other networks."
    nets(
        ch,
        "sgd-nets",
        {net: more[name] for net, name in small.items()},
        {net: ch.size(name) for net, name in small.items()},
        says,
        1,
    )
