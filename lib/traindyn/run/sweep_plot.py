"""`traindyn sweep --plot`: what a sweep measured against what was swept, with bands over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from traindyn import files
from traindyn.errors import InputError, choose, import_extra


def draw(folder: Path, axes: Sequence[str], wanted: Sequence[str] = ()) -> list[Path]:
    """Draw one figure per claim: each of its quantities against the first swept number.

    Runs that differ in their first seed alone are one curve, with mean and 95 % band over all their seeds. A second
    swept parameter has a colour and a dash for each of its values; cases have columns of their own.

    Args:
        folder: of the sweep, with its `sweep.parquet`.
        axes: what was swept, in order.
        wanted: claims (with or without the chapter's name) or quantities; everything that has numbers if empty.

    Returns:
        The figures, `figures/<claim>-<quantity>.svg` in the folder.

    Raises:
        InputError: nothing but the seed was swept, a name is unknown, or no run has finished.
    """
    pandas = import_extra("pandas")
    swept = [name for name in axes if name != "seed"]
    if not swept:
        raise InputError("--plot needs a swept parameter beside the seed, such as -p width=64,128,256")
    frame = pandas.read_parquet(folder / "sweep.parquet", filters=[("row", "==", "evidence")])
    if frame.empty:
        raise InputError("--plot: no run of this sweep has finished with numbers")
    known = {name.partition(".")[2] for name in frame.claim.unique()} | set(frame.claim) | set(frame.quantity)
    for name in wanted:
        choose("claim or quantity", name, sorted(known))
    paths = []
    for (claim, quantity), rows in frame.groupby(["claim", "quantity"], sort=False):
        short = claim.partition(".")[2]
        if wanted and not {claim, short, quantity} & set(wanted):
            continue
        rows = rows[rows.number.notna() & (rows.number.abs() != float("inf"))]
        if len(rows):
            paths.append(_figure(folder / "figures" / f"{short}-{quantity}.svg", rows, claim, quantity, swept))
    return paths


def _figure(path: Path, rows: Any, claim: str, quantity: str, swept: Sequence[str]) -> Path:
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt
    import seaborn

    x, *others = (f"p.{name}" for name in swept)
    rows = rows.assign(case=rows.case.fillna(""), curve=_labels(rows, others))
    several = rows.curve.nunique() > 1
    cases = rows.case.nunique() > 1
    grid = seaborn.relplot(
        rows,
        x=x,
        y="number",
        hue="curve" if several else None,
        style="curve" if several else None,
        col="case" if cases else None,
        col_wrap=3 if cases and rows.case.nunique() > 3 else None,
        kind="line",
        markers=several,
        marker=None if several else "o",
        errorbar=("ci", 95),
        seed=0,
        height=3.2,
        aspect=1.2,
        facet_kws={"sharey": False},
    )
    numbers = rows[x].dropna()
    if rows[x].dtype.kind in "if" and (numbers > 0).all() and numbers.max() >= 8 * numbers.min():
        grid.set(xscale="log")
    grid.set_axis_labels(swept[0], quantity)
    grid.figure.suptitle(f"{claim}: mean and 95 % band over {rows.seed.nunique() or 1} seeds", y=1.03, fontsize=9)
    with files.atomic_path(path) as part:
        grid.savefig(part, format="svg", metadata={"Date": None})
    plt.close(grid.figure)
    return path


def _labels(rows: Any, names: Sequence[str]) -> list[str]:
    """Return for each row the values of the other swept parameters, as a legend has them."""
    return [
        ", ".join(f"{name.removeprefix('p.')}={value}" for name, value in zip(names, row, strict=True))
        for row in (rows[list(names)].itertuples(index=False, name=None) if names else [()] * len(rows))
    ]
