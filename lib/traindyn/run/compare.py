"""`traindyn diff RUN_A RUN_B`: parameters, versions, verdicts and evidence of two runs, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from traindyn.report.columns import Evidence, evidence_from_json
from traindyn.report.words import number
from traindyn.run.rejudge import provenance, stored

PARTS = ("parameters", "sizes", "versions", "device", "environment", "data", "git")


def different(a: str | Path, b: str | Path) -> list[str]:
    """Return what two runs differ in, line by line: nothing but a last line if they agree.

    Raises:
        InputError: one of them is not a finished run with evidence.
    """
    one, other = (stored(Path(run)) for run in (a, b))
    about = [provenance(Path(run)) for run in (a, b)]
    lines = [f"a: {a}", f"b: {b}"]
    same = {name: (one.get(name), other.get(name)) for name in ("chapter", "preset")}
    lines += _section("run", {name: pair for name, pair in same.items() if pair[0] != pair[1]})
    for part in PARTS:
        left, right = (_flat(entry.get(part) or {}) for entry in about)
        pairs = {name: (left.get(name, "–"), right.get(name, "–")) for name in {**left, **right}}
        lines += _section(part, {name: pair for name, pair in pairs.items() if pair[0] != pair[1]})
    mine, theirs = ({record["id"]: record for record in run["claims"]} for run in (one, other))
    verdicts = {
        name: tuple(found[name]["verdict"] if name in found else "–" for found in (mine, theirs))
        for name in {**mine, **theirs}
    }
    changed = {name: pair for name, pair in verdicts.items() if pair[0] != pair[1]}
    lines += _section("verdicts", changed)
    moved = []
    for name in mine.keys() & theirs.keys():
        moved += _moved(name, *(evidence_from_json(found[name]["evidence"]) for found in (mine, theirs)))
    if moved:
        lines.append("evidence (largest change over seeds and cases that both have)")
        lines += [f"  {line}" for line in sorted(moved)]
    both = len(mine.keys() & theirs.keys())
    return [*lines, f"{len(changed)} of {both} verdicts and {len(moved)} quantities differ"]


def _section(title: str, pairs: Mapping[str, tuple[Any, Any]]) -> list[str]:
    if not pairs:
        return []
    wide = max(map(len, pairs))
    return [title, *(f"  {name:{wide}}  {_short(a)}  |  {_short(b)}" for name, (a, b) in sorted(pairs.items()))]


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _flat(entry: Mapping[str, Any], head: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in entry.items():
        below = _flat(value, f"{head}{name}.") if isinstance(value, Mapping) else {f"{head}{name}": value}
        found |= below
    return found


def _moved(claim: str, one: Evidence, other: Evidence) -> list[str]:
    """Return one line per quantity whose numbers differ, with the largest relative change."""
    lines = []
    for name in one.keys() & other.keys():
        worst: tuple[float, float, float] | None = None
        for case in one[name].rows.keys() & other[name].rows.keys():
            mine, theirs = one[name].rows[case], other[name].rows[case]
            for seed in mine.keys() & theirs.keys():
                a, b = mine[seed], theirs[seed]
                if a == b or (math.isnan(a) and math.isnan(b)):
                    continue
                size = abs(a - b) / max(abs(a), abs(b)) if math.isfinite(a) and math.isfinite(b) else math.inf
                if worst is None or size > worst[0]:
                    worst = (size, a, b)
        if worst:
            size = "" if math.isinf(worst[0]) else f", {worst[0]:.2g} of it"
            lines.append(f"{claim}: {name}: {number(worst[1], 6)} | {number(worst[2], 6)}{size}")
    return lines
