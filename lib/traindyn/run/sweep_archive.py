"""A sweep's numbers kept in `data/results/<chapter>/sweeps/<name>/`, and shown on a page of the book.

`traindyn archive SWEEP [NAME ...]` writes `evidence.csv`, one row per swept values, claim, quantity, case and seed, and
`about.json`: what was swept, by which command, from which code. No run reads them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traindyn import files, parameters
from traindyn.errors import InputError, choose, import_extra
from traindyn.report import words
from traindyn.run import execute

SWEEPS = "sweeps"
LARGEST = 200_000  # bytes of an archived table; the repository keeps it
KEPT = ("versions", "platform", "device", "dtype", "git", "finished")
COLUMNS = ("claim", "quantity", "case", "seed", "number")


@dataclass(frozen=True)
class Archived:
    """An archived sweep: its folder, `about.json`, and its table with columns `p.NAME` and `COLUMNS`."""

    folder: Path
    about: dict[str, Any]
    frame: Any

    @property
    def axes(self) -> list[str]:
        """What was swept, in order."""
        return list(self.about["axes"])


def archive(folder: str | Path, wanted: Sequence[str] = (), force: bool = False) -> Path:
    """Keep what a sweep measured; return where.

    Args:
        folder: of a sweep all of whose points are done.
        wanted: claims (with or without the chapter's name) or quantities to keep, as in `chosen`; all if empty.
        force: although the tree had changes.

    Raises:
        InputError: it is no sweep, is not finished, swept nothing but the seed, was made from a changed tree, a name is
            unknown, or the table is too large.
    """
    pandas = import_extra("pandas")
    folder = Path(folder)
    try:
        sweep = files.read_json(folder / "sweep.json")
        frame = pandas.read_parquet(folder / "sweep.parquet")
        chapter, axes, points = sweep["chapter"], list(sweep["axes"]), sweep["points"]
        runs = frame[frame["row"] == "run"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} is not a sweep with its sweep.json and sweep.parquet ({error})") from error
    if chapter not in parameters.chapters():
        raise InputError(f"{folder} is a sweep of chapter '{chapter}', which is not in this book")
    if not set(axes) - {"seed"}:
        raise InputError(f"{folder} swept {axes[0] if axes else 'nothing'} alone; pools of seeds are made by --seeds")
    if (done := int((runs.status == "done").sum())) < points:
        raise InputError(f"{folder}: {done} of {points} points are done; run the same sweep again to finish it")
    about = _circumstances(folder, sweep, runs)
    git = about.get("git") or {}
    if not git.get("commit"):
        raise InputError(f"{folder} was not made from a git checkout: nobody could say from which code")
    if git.get("changed") and not force:
        raise InputError(f"{folder} was made from a tree with changes; commit them and run it again, or give --force")
    kept = chosen(frame[frame["row"] == "evidence"], wanted)[[f"p.{name}" for name in axes] + list(COLUMNS)]
    text = kept.to_csv(index=False, lineterminator="\n")
    if len(text) > LARGEST:
        raise InputError(f"the table has {len(text) / 1e6:.1f} MB; name the claims to keep: traindyn archive DIR CLAIM")
    place = files.project_root() / "data" / "results" / chapter / SWEEPS / "-".join(axes)
    kept_sweep = {key: sweep[key] for key in ("chapter", "preset", "axes", "fixed", "points")}
    files.write_text(place / "evidence.csv", text)
    files.write_json(place / "about.json", {"schema": 1, **kept_sweep, "command": command(sweep), **about})
    return place


def _circumstances(folder: Path, sweep: dict[str, Any], runs: Any) -> dict[str, Any]:
    """Return versions, device, revision and seconds of a sweep, from its first run."""
    name = runs["name"].iloc[0]
    places = [folder / "runs" / name, files.project_root() / "_build" / "runs" / sweep["chapter"] / name]
    found = next((place for place in places if execute.is_current(place, runs["key"].iloc[0])), None)
    if found is None:
        raise InputError(f"{folder}: the runs are gone or were made again; run the same sweep again")
    said = files.read_json(found / "provenance.json")
    return {**{key: said.get(key) for key in KEPT}, "seconds": round(float(runs.seconds.sum()), 1)}


def chosen(frame: Any, wanted: Sequence[str]) -> Any:
    """Return the rows of some claims, of some quantities, or of some quantities of some claims; all if none is named.

    Raises:
        InputError: a name is unknown.
    """
    short = frame.claim.str.partition(".")[2]
    known = {*short, *frame.claim, *frame.quantity}
    for name in wanted:
        choose("claim or quantity", name, sorted(known))
    claims, quantities = frame.claim.isin(wanted) | short.isin(wanted), frame.quantity.isin(wanted)
    if claims.any() and quantities.any():
        return frame[claims & quantities]
    return frame[claims | quantities] if wanted else frame


def command(sweep: dict[str, Any]) -> str:
    """Return the command that makes a sweep."""
    said = ["traindyn", "sweep", sweep["chapter"], "--preset", sweep["preset"]]
    for name, values in {**sweep["axes"], **{key: [value] for key, value in sweep["fixed"].items()}}.items():
        said += [
            "-p",
            f"{name}={','.join(value if isinstance(value, str) else json.dumps(value) for value in values)}",
        ]
    return shlex.join(said)


def read_all() -> list[Archived]:
    """Return the archived sweeps, by chapter and name.

    Raises:
        InputError: one of them cannot be read.
    """
    pandas, found = import_extra("pandas"), []
    for path in sorted((files.project_root() / "data" / "results").glob(f"*/{SWEEPS}/*/about.json")):
        try:
            about = files.read_json(path)
            frame = pandas.read_csv(path.with_name("evidence.csv"), dtype={"case": str})
            if missing := {*COLUMNS, *(f"p.{name}" for name in about["axes"])} - set(frame.columns):
                raise ValueError(f"no column {min(missing)}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"the sweep in {path.parent} cannot be read ({error}); archive it again") from error
        found.append(Archived(path.parent, about, frame.assign(case=frame.case.fillna(""))))
    return found


def table(one: Archived) -> dict[str, Any]:
    """Return heads and rows of a sweep's table: the spread over seeds for swept values, quantity and case."""
    names = [f"p.{name}" for name in one.axes if name != "seed"]
    cases = (one.frame.case != "").any()
    rows = []
    by = [*names, "claim", "quantity", *(["case"] if cases else [])]
    for values, group in one.frame.groupby(by, sort=False):
        numbers = group.number
        spread = [words.number(value, 3) for value in (numbers.mean(), numbers.min(), numbers.max())]
        shown = [words.number(value, 4) if isinstance(value, float) else value for value in values[: len(names)]]
        named = [{"code": str(value)} for value in (*shown, *values[len(names) :])]
        rows.append([*named, *spread, int(group.seed.nunique()) or "–"])
    heads = [name.removeprefix("p.") for name in by]
    return {"words": [*heads, "mean", "least", "most", "seeds"], "rows": rows}
