"""What runs have found: a chapter's ledger beside the verdicts of this build and of the archived runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traindyn import files, parameters
from traindyn.report.claims import NOT_TESTABLE, Claim, load_ledger


@dataclass(frozen=True)
class Outcome:
    """One finished run's verdicts.

    Attributes:
        preset: the run's preset.
        archived: whether it comes from `data/results/` rather than from this build.
        is_preset: False if the run had parameters of its own.
        records: the entries of its `claims.json` by claim id.
        about: its `provenance.json`.
    """

    preset: str
    archived: bool
    is_preset: bool
    records: Mapping[str, Mapping[str, Any]]
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Findings:
    """One chapter: name, title, ledger, and its runs, this build's first."""

    chapter: str
    title: str
    claims: list[Claim]
    outcomes: list[Outcome]


def read_outcome(folder: Path, archived: bool = False) -> Outcome:
    """Read the verdicts of the finished run in `folder`."""
    found, about = (files.read_json(folder / name) for name in ("claims.json", "provenance.json"))
    records = {record["id"]: record for record in found["claims"]}
    return Outcome(found["preset"], archived, found["parameters_are_preset"], records, about)


def findings(chapter: str, run: Path) -> Findings:
    """Read a chapter's ledger, the run in the folder `run`, and its archived runs at other presets."""
    outcomes = [read_outcome(run)]
    for preset in parameters.PRESETS:
        folder = files.project_root() / "data" / "results" / chapter / preset
        if preset != outcomes[0].preset and (folder / "provenance.json").is_file():
            outcomes.append(read_outcome(folder, archived=True))
    lines = parameters.source(chapter).read_text(encoding="utf-8").splitlines()
    title = next(line.removeprefix("# ").strip() for line in lines if line.startswith("# "))
    return Findings(chapter, title, load_ledger(chapter), outcomes)


def counts(claims: list[Claim], outcome: Outcome) -> dict[str, int]:
    """Return how many of `claims` have each verdict in a run."""
    found = [outcome.records[claim.id]["verdict"] for claim in claims if claim.id in outcome.records]
    return {verdict: found.count(verdict) for verdict in dict.fromkeys(found)}


def testable(claims: list[Claim]) -> int:
    """Return how many of `claims` can come out either way: the m of "n of m"."""
    return sum(not claim.not_testable for claim in claims)


def is_stale(claim: Claim, outcome: Outcome) -> bool:
    """Return whether the criterion of a claim has changed since the run judged it."""
    return outcome.records[claim.id]["criterion_sha256"] != claim.criterion_sha256


def surprises(claims: list[Claim], outcome: Outcome) -> list[tuple[str, str, str]]:
    """Return (claim id, expected verdict, verdict) of every claim whose verdict is not the recorded one.

    A run with parameters of its own has no expectations, nor has a claim that records none for the preset.
    """
    if not outcome.is_preset:
        return []
    found = []
    for claim in claims:
        expected, verdict = claim.expect.get(outcome.preset), outcome.records[claim.id]["verdict"]
        if expected is not None and verdict != NOT_TESTABLE and verdict != expected:
            found.append((claim.id, expected, verdict))
    return found
