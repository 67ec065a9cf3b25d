"""`traindyn report [DIR ...]`: a scorecard in the terminal, over any set of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from traindyn import files
from traindyn.errors import InputError
from traindyn.report import cards, words
from traindyn.report.claims import load_ledger
from traindyn.run import blocks, results
from traindyn.run.cli_sweep import in_a_line, say
from traindyn.run.notebook import shown

COLORS = {"holds": "green", "holds with correction": "yellow", "fails": "red"}


def report(folders: Sequence[str | Path], console: Console | None = None) -> int:
    """Print one table per run: claim, verdict, the number that decided, margin, seeds, stability.

    Args:
        folders: runs, or folders above runs; all runs of this build if there are none.
        console: where to.

    Returns:
        1 if one of the runs could not be read, else 0.

    Raises:
        InputError: there is no finished run.
    """
    console = console or Console()
    runs = found(folders)
    if not runs:
        places = ", ".join(map(str, folders)) or "_build/runs"
        raise InputError(f"no finished run in {places}; make one: traindyn run CHAPTER --preset smoke")
    status = 0
    for run in runs:
        try:
            table, last = scorecard(run)
        except InputError as error:
            say(f"traindyn: {shown(run)}: {in_a_line(error)}")
            status = 1
            continue
        console.print(table)
        console.print(Text(last), "\n")
    return status


def found(folders: Sequence[str | Path]) -> list[Path]:
    """Return the finished runs in, or below, some folders."""
    places = [Path(folder) for folder in folders] or [files.project_root() / "_build" / "runs"]
    runs = []
    for place in places:
        if (place / "provenance.json").is_file():
            runs.append(place)
        else:
            below = [path.parent for path in sorted(place.rglob("provenance.json"))]
            runs += [path for path in below if not any(".part" in part or ".failed" in part for part in path.parts)]
    return runs


def scorecard(run: Path) -> tuple[Table, str]:
    """Return a run's table and the sentence below it.

    Raises:
        InputError: it cannot be judged with the present ledger.
    """
    try:
        about = files.read_json(run / "provenance.json")
        claims = load_ledger(about["chapter"])
        outcome = results.read_outcome(run, claims, archived=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"not a run of this book ({type(error).__name__}: {error})") from error
    records = outcome.records
    if outcome.is_preset:
        records = blocks.attached(records, claims, blocks.read(about["chapter"]), outcome.preset)
    own = "" if outcome.is_preset else ", parameters of its own"
    table = Table(title=f"{about['chapter']}, {outcome.preset}{own}  ({shown(run)})", title_justify="left")
    for head, justify in (("claim", "left"), ("verdict", "left"), ("decided by", "left"), ("margin", "right")):
        table.add_column(head, justify=justify, overflow="fold")
    table.add_column("seeds", justify="right")
    table.add_column("stable", justify="right")
    for claim in claims:
        if claim.id not in records:
            continue
        record = records[claim.id]
        standing, key = words.standing(record), words.deciding(claim, record)
        decided = f"{key['name']}: {key['value']} {key['asked']}" if key else ""
        stable = record.get("stability")
        table.add_row(
            claim.id.split(".", 1)[1],
            Text(f"{standing.sign} {standing.text}", style=COLORS.get(standing.label, "dim")),
            decided,
            key["margin"] if key else "",
            str(record.get("seeds") or "–"),
            f"{stable['share']:.0%}" if stable else "–",
        )
    return table, cards.headline(list(records.values()))
