"""`traindyn sweep --plot`: what a sweep measured against what was swept, with bands over seeds."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from traindyn import files
from traindyn.errors import InputError, choose, import_extra
from traindyn.report.claims import load_ledger
from traindyn.report.language import parse
from traindyn.run import sweep_archive


def draw(folder: Path, axes: Sequence[str], wanted: Sequence[str] = ()) -> list[Path]:
    """Draw one figure per claim: each of its quantities against the first swept number.

    Runs that differ in their first seed alone are one curve, with mean and 95 % band over all their seeds. A second
    swept parameter has a colour and a dash for each of its values; cases have columns of their own.

    Args:
        folder: of the sweep, with its `sweep.parquet`.
        axes: what was swept, in order.
        wanted: claims (with or without the chapter's name), quantities, or both: these quantities of these claims;
            everything that has numbers if empty.

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
    paths = []
    for claim, quantity, figure in figures(sweep_archive.chosen(frame, wanted), swept):
        paths.append(folder / "figures" / f"{claim.partition('.')[2]}-{quantity}.svg")
        files.write_text(paths[-1], figure)
    return paths


def check_names(chapter: str, wanted: Sequence[str]) -> None:
    """Raise before a sweep runs if its ledger knows no claim or quantity of some name.

    Raises:
        InputError: a name is unknown.
    """
    known: set[str] = set()
    for claim in load_ledger(chapter):
        known |= {claim.id, claim.id.partition(".")[2]}
        known |= {name for part in claim.parts for name in parse(part.test).names}
    for name in wanted:
        choose("claim or quantity", name, sorted(known))


def figures(frame: Any, swept: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Give (claim, quantity, SVG) for every quantity with numbers.

    Args:
        frame: rows of evidence with columns `p.NAME`, claim, quantity, case, seed, number.
        swept: what was swept but the seed, in order.
    """
    for (claim, quantity), rows in frame.groupby(["claim", "quantity"], sort=False):
        rows = rows[rows.number.notna() & (rows.number.abs() != float("inf"))]
        if len(rows):
            yield claim, quantity, _figure(rows, claim, quantity, swept)


def _figure(rows: Any, claim: str, quantity: str, swept: Sequence[str]) -> str:
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
    target = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "traindyn"}):  # the same figure is the same text
        grid.savefig(target, format="svg", metadata={"Date": None})
    plt.close(grid.figure)
    return target.getvalue()


def _labels(rows: Any, names: Sequence[str]) -> list[str]:
    """Return for each row the values of the other swept parameters, as a legend has them."""
    return [
        ", ".join(f"{name.removeprefix('p.')}={value}" for name, value in zip(names, row, strict=True))
        for row in (rows[list(names)].itertuples(index=False, name=None) if names else [()] * len(rows))
    ]
