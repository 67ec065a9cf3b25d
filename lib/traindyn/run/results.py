"""What runs have found: a chapter's ledger beside the verdicts of this build and of the archived runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from traindyn import files, parameters
from traindyn.errors import InputError
from traindyn.report import settings
from traindyn.report.claims import NOT_TESTABLE, UNDECIDED, Claim, load_ledger
from traindyn.report.judge import again, judge
from traindyn.report.words import SETTINGS, setting_word
from traindyn.run import blocks


@dataclass(frozen=True)
class Outcome:
    """One finished run's verdicts.

    Attributes:
        preset: the run's preset.
        archived: whether it comes from `data/results/` rather than from this build.
        is_preset: False if the run had parameters of its own.
        records: the entries of its `claims.json` by claim id, judged with the present ledger; those of schema 1, which
            kept no evidence, as they were recorded and marked `earlier`.
        about: its `provenance.json`.
    """

    preset: str
    archived: bool
    is_preset: bool
    records: Mapping[str, Mapping[str, Any]]
    about: Mapping[str, Any]

    @property
    def earlier(self) -> bool:
        """Whether its verdicts are those of an earlier criterion, which nobody can judge again."""
        return any(record.get("earlier") for record in self.records.values())


@dataclass(frozen=True)
class Findings:
    """One chapter: name, title, ledger, and its runs, this build's first."""

    chapter: str
    title: str
    claims: list[Claim]
    outcomes: list[Outcome]


def read_outcome(folder: Path, claims: list[Claim], archived: bool = False) -> Outcome:
    """Read the verdicts of a finished run.

    Args:
        folder: the run's folder.
        claims: the present ledger, with which its evidence is judged.
        archived: whether it comes from `data/results/`; such a run may lack claims.

    Raises:
        InputError: the run cannot be read, or lacks a claim, or a number that a test asks for.
    """
    try:
        found, about = (files.read_json(folder / name) for name in ("claims.json", "provenance.json"))
        found["preset"], found["parameters_are_preset"], [record["id"] for record in found["claims"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        mend = "restore it, from git for example" if archived else "run it again"
        raise InputError(f"the run in {folder} cannot be read ({type(error).__name__}: {error}); {mend}") from error
    judged = records(found, claims, archived, about)
    if not archived and (missing := [claim.id for claim in claims if claim.id not in judged]):
        raise InputError(
            f"the ledger has claims that the run in {folder} did not check: {', '.join(missing)}; run it again"
        )
    return Outcome(found["preset"], archived, found["parameters_are_preset"], judged, about)


def records(
    found: Mapping[str, Any],
    claims: list[Claim],
    archived: bool = False,
    about: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the records of a `claims.json` by claim id, judged with the present ledger.

    Args:
        found: the content of `claims.json`.
        claims: the ledger; what it does not know any more is left out.
        archived: whether a record without a number that a test asks for stays as it was recorded.
        about: the run's `provenance.json`, from which settings are derived anew.
    """
    known = {claim.id: claim for claim in claims}
    stored = {record["id"]: record for record in found["claims"] if record["id"] in known}
    if found.get("schema", 1) < 2:
        return {name: {**record, "earlier": True} for name, record in stored.items()}
    present = _settings(about) if about and "asked" in about else lambda claim: None
    judged = {
        name: _judged(known[name], record, found["preset"], archived, present(known[name]))
        for name, record in stored.items()
    }
    untested = {name: claim for name, claim in known.items() if claim.not_testable and name not in judged}
    return judged | {name: judge(claim, {}, found["preset"]) for name, claim in untested.items()}


def _settings(about: Mapping[str, Any]) -> Callable[[Claim], settings.Setting]:
    """Return claim -> the setting of a run by the chapter's present `source:` column."""
    chapter = about["chapter"]
    source, models, data_of = parameters.source_settings(chapter), parameters.models(chapter), settings.kin()

    def of(claim: Claim) -> settings.Setting:
        runs = [name for name in claim.runs if name in about["asked"]]
        return settings.setting(runs, about["asked"], about["parameters"], source, models, data_of)

    return of


def _judged(
    claim: Claim, stored: Mapping[str, Any], preset: str, archived: bool, setting: settings.Setting | None
) -> dict[str, Any]:
    try:
        record = again(claim, stored, preset, setting)
    except InputError:
        if not archived:
            raise
        return {**stored, "earlier": True}
    return {**record, "changed": stored["criterion_sha256"] != claim.criterion_sha256}


def findings(chapter: str, run: Path) -> Findings:
    """Read a chapter's ledger, the run in `run`, its archived runs at other presets, and the stability of verdicts."""
    claims = load_ledger(chapter)
    outcomes = [read_outcome(run, claims)]
    for preset in parameters.PRESETS:
        folder = files.project_root() / "data" / "results" / chapter / preset
        if preset != outcomes[0].preset and (folder / "provenance.json").is_file():
            outcomes.append(read_outcome(folder, claims, archived=True))
    pool = blocks.read(chapter)
    outcomes = [
        replace(one, records=blocks.attached(one.records, claims, pool, one.preset)) if one.is_preset else one
        for one in outcomes
    ]
    lines = parameters.source(chapter).read_text(encoding="utf-8").splitlines()
    title = next(line.removeprefix("# ").strip() for line in lines if line.startswith("# "))
    return Findings(chapter, title, claims, outcomes)


def speaking(found: Findings, claim: Claim) -> tuple[Outcome, Mapping[str, Any]]:
    """Return the run that speaks for a claim, and its record.

    Of the runs that decide it, the best setting (source, smaller, stand-in), then the larger preset; if none decides
    it, the same order. Verdicts of an earlier criterion come last.
    """
    runs = [(outcome, outcome.records[claim.id]) for outcome in found.outcomes if claim.id in outcome.records]

    def rank(run: tuple[Outcome, Mapping[str, Any]]) -> tuple[bool, bool, int, int]:
        outcome, record = run
        undecided = record["verdict"] == UNDECIDED
        order = SETTINGS.index(setting_word(record)), -parameters.PRESETS.index(outcome.preset)
        return bool(record.get("earlier")), undecided, *order

    return min(runs, key=rank)


def spoken(found: Findings) -> dict[str, Mapping[str, Any]]:
    """Return each claim's record in the run that speaks for it."""
    return {claim.id: speaking(found, claim)[1] for claim in found.claims}


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
