"""`traindyn archive RUN`: a finished run's small tables, verdicts and provenance, kept in `data/results/`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from traindyn import files, parameters
from traindyn.errors import InputError
from traindyn.report.claims import load_ledger
from traindyn.run import execute, results
from traindyn.run.rejudge import provenance

LARGEST = 2_000_000  # bytes of a whole archived run; the repository keeps it


def archive(run: str | Path, force: bool = False) -> tuple[Path, list[str]]:
    """Put a run into `data/results/<chapter>/<preset>/`, in the place of an older one.

    Args:
        run: the folder of a finished run.
        force: archive a run whose tree was changed.

    Returns:
        The folder, and the tables that are too large to be kept.

    Raises:
        InputError: the run is unfinished or has lost a file, has parameters of its own, was made from a changed tree,
            does not say which data it read, or lacks a number that the ledger asks for.
    """
    run = Path(run)
    about = checked(run, force)
    place = files.project_root() / "data" / "results" / about["chapter"] / about["preset"]
    part = place.with_name(f".{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "tables").mkdir(parents=True)
    try:
        # evidence of thousands of rows is three times as long with a line for each number
        found = json.loads((run / "claims.json").read_text(encoding="utf-8"))
        packed = files.write_text(part / "claims.json", json.dumps(found, separators=(",", ":"), ensure_ascii=False))
        files.write_json(part / "provenance.json", {**about, "claims_sha256": files.sha256_file(packed)})
        left = LARGEST - sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
        too_large = []
        for path in sorted((run / "tables").glob("*.csv"), key=lambda path: path.stat().st_size):
            left -= path.stat().st_size
            if left < 0:
                too_large.append(path.name)
            else:
                shutil.copyfile(path, part / "tables" / path.name)
        shutil.rmtree(place, ignore_errors=True)
        part.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return place, too_large


def checked(run: Path, force: bool = False) -> dict[str, Any]:
    """Return a run's `provenance.json`, after making sure that it can be archived.

    Raises:
        InputError: as in `archive`.
    """
    about = provenance(run)
    chapter, preset = about["chapter"], about["preset"]
    if lost := execute.lost_files(run):
        raise InputError(f"{run} has lost {lost[0]}; run it again")
    if chapter not in parameters.chapters() or preset not in parameters.PRESETS:
        raise InputError(f"{run} is a run of chapter '{chapter}' at preset '{preset}', which is not in this book")
    if not about.get("parameters_are_preset"):
        raise InputError(f"{run} has parameters of its own; only runs of a preset are archived")
    git = about.get("git") or {}
    if not git.get("commit"):
        raise InputError(f"{run} was not made from a git checkout: nobody could say from which code")
    if git.get("changed") and not force:
        raise InputError(f"{run} was made from a tree with changes; commit them and run it again, or give --force")
    for name, entry in (about.get("data") or {}).items():
        if not _named(entry) and not (entry.get("draws") and all(map(_named, entry["draws"]))):
            raise InputError(f"{run} does not say which arrays of data set '{name}' it read; run it again")
    results.read_outcome(run, load_ledger(chapter))  # raises where a test asks for what the run does not have
    return about


def _named(entry: dict[str, Any]) -> bool:
    """Whether what a run says of its data, or of one draw from a set that every seed splits anew, has a checksum."""
    return any("sha256" in key or key == "digest" for key in entry)
