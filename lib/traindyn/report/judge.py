"""From evidence to a verdict: derived here and nowhere else, by the ledger's present tests from a run's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass, replace
from typing import Any

from traindyn.errors import InputError
from traindyn.report.claims import CORRECTED, FAILS, HOLDS, NOT_TESTABLE, UNDECIDED, Claim, Part
from traindyn.report.close import moved
from traindyn.report.columns import Evidence, evidence_from_json, evidence_to_json, number_to_json
from traindyn.report.criteria import Outcome, evaluate, parse

SCHEMA = 2


def judge(
    claim: Claim,
    evidence: Evidence,
    preset: str,
    setting: Any = None,
    note: str = "",
    definitions: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Derive a claim's verdict from the numbers of a run.

    All deciding printed parts true: holds. A printed part false and every deciding corrected or weaker part true:
    holds with correction. A printed part false otherwise: fails. A control false, fewer seeds than asked, a deciding
    part that cannot be said, or a preset outside `decides_at`: undecided.

    Args:
        claim: its entry in the ledger.
        evidence: the numbers, as `columns.gather` or `columns.evidence_from_json` returns them.
        preset: smoke, laptop or paper.
        setting: in what setting the run was made: a mapping or dataclass with word, differs and open.
        note: a sentence for the reader, kept as it is.
        definitions: the values that the claim's definitions had in the run; kept as they are.

    Returns:
        The claim's entry of `claims.json`.

    Raises:
        InputError: a test asks for a name that the evidence does not have.
    """
    outcomes = {part.name: _outcome(claim, part, evidence) for part in claim.parts}
    verdict, why = derive(claim, preset, outcomes)
    closeness = {
        part.name: part.decides and _is_close(claim, part, evidence, preset, outcomes, verdict) for part in claim.parts
    }
    return {
        "id": claim.id,
        "verdict": verdict,
        "why": why,
        "setting": _setting(setting),
        "parts": {name: _part(found, closeness[name]) for name, found in outcomes.items()},
        "evidence": evidence_to_json(evidence),
        "seeds": _fewest(claim, outcomes),
        "close": any(closeness.values()),
        "depends_on": depends_on(claim, outcomes),
        "criterion_sha256": claim.criterion_sha256,
        "definitions": dict(definitions or {}),
        "note": note,
    }


def again(claim: Claim, record: Mapping[str, Any], preset: str, setting: Any = None) -> dict[str, Any]:
    """Return the record of a claim, judged from its stored evidence.

    Args:
        claim: its present ledger entry.
        record: its entry of the run's `claims.json`.
        preset: of the run.
        setting: derived anew, from what the source prints now; as it was recorded if None.

    Raises:
        InputError: the run lacks a number that a test asks for.
    """
    evidence = evidence_from_json(record["evidence"])
    setting = setting or record.get("setting")
    try:
        return judge(claim, evidence, preset, setting, record.get("note", ""), record.get("definitions"))
    except InputError as error:
        raise InputError(f"{error}; the run does not have it: run it again") from error


def verdict_of(claim: Claim, evidence: Evidence, preset: str) -> str:
    """Return a claim's verdict alone, as `judge` derives it.

    Raises:
        InputError: as in `judge`.
    """
    return derive(claim, preset, {part.name: _outcome(claim, part, evidence) for part in claim.parts})[0]


def seeds_behind(claim: Claim, evidence: Evidence) -> int | None:
    """Return the fewest seeds behind a part that decides, or None if none depends on seeds.

    Raises:
        InputError: as in `judge`.
    """
    return _fewest(claim, {part.name: _outcome(claim, part, evidence) for part in claim.parts})


def _fewest(claim: Claim, outcomes: Mapping[str, Outcome]) -> int | None:
    found = (outcomes[part.name].seeds for part in claim.parts if part.decides)
    return min((seeds for seeds in found if seeds is not None), default=None)


def derive(claim: Claim, preset: str, outcomes: Mapping[str, Outcome]) -> tuple[str, str]:
    """Derive a verdict from how its parts came out.

    Args:
        claim: the claim.
        preset: smoke, laptop or paper.
        outcomes: one per part.

    Returns:
        The verdict, and why it is undecided (empty otherwise).
    """
    if claim.not_testable:
        return NOT_TESTABLE, claim.not_testable
    deciding = [(part, outcomes[part.name]) for part in claim.parts if part.decides]
    if preset not in claim.decides_at:
        return UNDECIDED, claim.because.get(preset, f"the {preset} preset does not decide it")
    if unknown := [(part, found) for part, found in deciding if found.outcome is None]:
        lacking = dict.fromkeys(name for _, found in unknown for name in found.missing)
        said = f" ({', '.join(lacking)})" if lacking else ""
        word = "undefined" if all(found.undefined for _, found in unknown) else "not contained"
        return UNDECIDED, f"{word} in this run: {', '.join(part.name for part, _ in unknown)}{said}"
    counted = [found.seeds for _, found in deciding if found.seeds is not None]
    if counted and min(counted) < claim.seeds:
        return UNDECIDED, f"{min(counted)} seeds, the criterion asks for {claim.seeds}"
    if broken := [part.name for part, found in deciding if part.reads == "control" and not found.outcome]:
        return UNDECIDED, f"control failed: {', '.join(broken)}"
    if all(found.outcome for part, found in deciding if part.reads == "printed"):
        return HOLDS, ""
    mended = [found.outcome for part, found in deciding if part.reads in ("corrected", "weaker")]
    return (CORRECTED if mended and all(mended) else FAILS), ""


def depends_on(claim: Claim, outcomes: Mapping[str, Outcome]) -> list[str]:
    """Return what the outcome depends on: what those sensitivity parts vary that came out unlike the printed parts."""
    printed = [outcomes[part.name].outcome for part in claim.parts if part.reads == "printed" and part.decides]
    if None in printed:
        return []
    differing = [
        part.varies for part in claim.parts if part.varies and outcomes[part.name].outcome not in (None, all(printed))
    ]
    return list(dict.fromkeys(differing))


def _outcome(claim: Claim, part: Part, evidence: Evidence) -> Outcome:
    try:
        return evaluate(part.test, evidence, part.quorum)
    except InputError as error:
        raise InputError(f"claim '{claim.id}', part '{part.name}': {error}") from error


def _is_close(
    claim: Claim, part: Part, evidence: Evidence, preset: str, outcomes: Mapping[str, Outcome], verdict: str
) -> bool:
    """Return whether the verdict hangs on one part's margin below 1, or on a tenth of one of its numbers."""
    found = outcomes[part.name]
    if found.outcome is None or verdict in (UNDECIDED, NOT_TESTABLE):
        return False

    def changes(outcome: bool | None) -> bool:
        other = {**outcomes, part.name: replace(found, outcome=outcome)}
        return outcome is not found.outcome and derive(claim, preset, other)[0] != verdict

    if found.margin is not None and -1 <= found.margin <= 1 and changes(not found.outcome):
        return True
    return any(changes(evaluate(test, evidence, part.quorum).outcome) for test in moved(parse(part.test), evidence))


def _part(found: Outcome, close: bool) -> dict[str, Any]:
    return {
        "outcome": found.outcome,
        "seeds": found.seeds,
        "value": number_to_json(found.value),
        "operator": found.operator,
        "threshold": number_to_json(found.threshold),
        "margin": number_to_json(found.margin),
        "seed": found.seed,
        "case": None if found.case is None else list(found.case),
        "reason": found.reason,
        "missing": list(found.missing),
        "close": close,
    }


def _setting(setting: Any) -> dict[str, Any] | None:
    if setting is None:
        return None
    found = asdict(setting) if is_dataclass(setting) else dict(setting)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}
