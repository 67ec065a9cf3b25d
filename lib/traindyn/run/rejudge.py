"""`traindyn judge`: a run's verdicts derived again from its stored numbers, and by which threshold they changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from traindyn import files
from traindyn.errors import InputError
from traindyn.report.claims import load_ledger
from traindyn.report.judge import again
from traindyn.report.words import number, real


def report(run: str | Path, claims: str | Path | None = None) -> list[str]:
    """Judge a run with a ledger and return what came out otherwise than when it was made, line by line.

    Args:
        run: the folder of a finished run.
        claims: the ledger; the chapter's own if None.

    Raises:
        InputError: the folder holds no finished run, the run kept no evidence, or lacks a number that a test asks for.
    """
    found = stored(Path(run))
    ledger = load_ledger(found["chapter"], claims)
    known = {claim.id: claim for claim in ledger}
    records = {record["id"]: record for record in found["claims"]}
    lines, changed, judged = [], 0, 0
    for claim in ledger:
        if claim.id not in records:
            lines.append(f"{claim.id}: not in this run; run it again")
            continue
        judged += 1
        before, after = records[claim.id], again(claim, records[claim.id], found["preset"])
        if after["verdict"] != before["verdict"]:
            changed += 1
            lines.append(f"{claim.id}: {before['verdict']} -> {after['verdict']}{_why(after)}")
            lines += _differences(before, after)
    lines += [f"{name}: no longer in the ledger" for name in records if name not in known]
    return [*lines, f"{changed} of {judged} verdicts changed ({found['chapter']}, {found['preset']})"]


def stored(run: Path) -> dict[str, Any]:
    """Return the `claims.json` of a finished run.

    Raises:
        InputError: there is none, or it holds outcomes without the numbers behind them.
    """
    path = run / "claims.json"
    if not path.is_file():
        raise InputError(f"{run} is not a finished run: it has no claims.json; expected the folder of `traindyn run`")
    try:
        found = files.read_json(path)
        schema = found["schema"]
        found["chapter"], found["preset"], [record["id"] for record in found["claims"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read as the claims of a run; run it again") from error
    if schema < 2:
        raise InputError(f"{run} holds outcomes, not evidence; run it again")
    return found


def provenance(run: Path) -> dict[str, Any]:
    """Return the `provenance.json` of a finished run.

    Raises:
        InputError: there is none that can be read.
    """
    try:
        found = files.read_json(run / "provenance.json")
        found["chapter"], found["preset"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run} is not a finished run: it has no provenance.json that can be read") from error
    return found


def _why(record: Mapping[str, Any]) -> str:
    return f" ({record['why']})" if record["why"] else ""


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return one line per part that came out otherwise, with the value and both thresholds."""
    lines = []
    for name, part in after["parts"].items():
        old = before["parts"].get(name)
        if old is None:
            lines.append(f"    {name}: new, {_outcome(part)}: {_compared(part)}")
        elif old["outcome"] != part["outcome"]:
            lines.append(f"    {name}: {_outcome(old)} ({_compared(old)}) -> {_outcome(part)} ({_compared(part)})")
    lines += [f"    {name}: no longer asked" for name in before["parts"] if name not in after["parts"]]
    return lines


def _outcome(part: Mapping[str, Any]) -> str:
    return {True: "met", False: "not met", None: "not in this run"}[part["outcome"]]


def _compared(part: Mapping[str, Any]) -> str:
    if part["value"] is None:
        return part.get("reason") or "no number"
    value, threshold = (number(real(part[key]), 4) for key in ("value", "threshold"))
    return f"{value} {part['operator']} {threshold}"
