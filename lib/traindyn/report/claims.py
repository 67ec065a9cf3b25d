"""Reading a chapter's ledger, `claims.yaml`: every mistake in one line, and a lint of its wording."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from traindyn.errors import InputError, nearest
from traindyn.files import project_root, read_yaml
from traindyn.report.entries import (
    CONSEQUENCES,
    CORRECTED,
    FAILS,
    HOLDS,
    NOT_TESTABLE,
    PRESETS,
    READS,
    STATUSES,
    UNDECIDED,
    VERDICTS,
    Claim,
    Erratum,
    Part,
    anchor,
)
from traindyn.report.language import OPERATORS, fill, number, parse

__all__ = [
    "CONSEQUENCES",
    "CORRECTED",
    "FAILS",
    "HOLDS",
    "NOT_TESTABLE",
    "PRESETS",
    "READS",
    "STATUSES",
    "UNDECIDED",
    "VERDICTS",
    "Claim",
    "Erratum",
    "Part",
    "anchor",
    "load_ledger",
    "misdirected",
    "read_claim",
    "schema",
]
_ADAPTER = TypeAdapter(Claim)


def load_ledger(chapter: str, path: str | Path | None = None) -> list[Claim]:
    """Read and check a chapter's `claims.yaml`.

    Args:
        chapter: the chapter's name.
        path: the file; `chapters/<chapter>/claims.yaml` of the project if None.

    Returns:
        The claims, in the ledger's order.

    Raises:
        InputError: the file is missing or not YAML; an entry has an unknown key or word, or a repeated id or part; a
            test is not of the language, or its wording has not one place for each of its numbers.
    """
    path = Path(path) if path else project_root() / "chapters" / chapter / "claims.yaml"
    entries = read_yaml(path, "the ledger")
    if not isinstance(entries, list | None) or not all(isinstance(entry, Mapping) for entry in entries or []):
        raise InputError(f"the ledger {path} is not a list of claims; expected '- id: {chapter}.name' and so on")
    claims = [_claim(entry, path) for entry in entries or []]
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise InputError(f"{path}: claim '{claim.id}' stands there twice")
        seen.add(claim.id)
    return claims


def read_claim(entry: Mapping[str, Any], path: str | Path) -> Claim:
    """Return one entry as a claim, checked as those of a ledger are.

    Args:
        entry: as it stands in a ledger.
        path: the file it stands in, for messages.

    Raises:
        InputError: as `load_ledger`.
    """
    return _claim(entry, Path(path))


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a ledger, which editors check it by while it is written."""
    found = TypeAdapter(list[Claim]).json_schema(mode="validation")
    claim = found["$defs"]["Claim"]["properties"]
    claim["erratum"] = {"anyOf": [{"$ref": "#/$defs/Erratum"}, claim["erratum"], {"type": "null"}]}
    for name in ("decides_at", "parts", "coarse", "runs", "definitions", "expect", "because"):
        claim[name] = {"anyOf": [claim[name], {"type": "null"}]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "The ledger of a chapter", **found}


def _claim(entry: Mapping[str, Any], path: Path) -> Claim:
    where = f"{path.name}: claim '{entry.get('id', '?')}'"
    fields = {name: value for name, value in entry.items() if value is not None and name != "errata"}
    if fields.get("not_testable"):
        fields.setdefault("decides_at", ())
    if isinstance(fields.get("parts"), list):
        fields["parts"] = [_part(part) for part in fields["parts"]]
    try:
        claim = _ADAPTER.validate_python(fields)
    except ValidationError as error:
        raise InputError(f"{where}{_line(error, entry)}") from error
    if len({part.name for part in claim.parts}) < len(claim.parts):
        raise InputError(f"{where}: two parts have the same name")
    if not claim.not_testable and not any(part.decides and part.reads == "printed" for part in claim.parts):
        raise InputError(f"{where}: no deciding printed part; add one, or say why it is `not_testable`")
    for part in claim.parts:
        _check(part, f"{where}, part '{part.name}'")
    return claim


def _part(entry: Any) -> Any:
    if isinstance(entry, Mapping) and entry.get("reads") == "sensitivity":
        return {"decides": False, **entry}
    return entry


def _check(part: Part, where: str) -> None:
    try:
        test = parse(part.test)
        fill(part.says, test)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if part.quorum is not None and not 0 < part.quorum <= 1:
        raise InputError(f"{where}: quorum {part.quorum} is out of range; expected a share such as 4/5")
    if part.quorum not in (None, 1) and not test.bare:
        raise InputError(f"{where}: '{part.test}' is asked once, over all seeds; it cannot have a quorum")


def _line(error: ValidationError, entry: Mapping[str, Any]) -> str:
    """Return the first mistake as the end of one line: where in the claim, what was given, what is expected."""
    first = error.errors()[0]
    place = [part for part in first["loc"] if part != "function-before"]
    key, known, said = str(place[-1]), Claim.__dataclass_fields__, ""
    if place[0] == "parts" and len(place) > 1:
        part = entry["parts"][place[1]]
        said = f", part '{part.get('name', place[1]) if isinstance(part, Mapping) else place[1]}'"
        known = Part.__dataclass_fields__
    elif place[0] in ("erratum", "errata") and len(place) > 1:
        said, known = ", erratum", Erratum.__dataclass_fields__
    match first["type"]:
        case "unexpected_keyword_argument":
            return f"{said}: unknown key '{key}'{nearest(key, known)}; known: {', '.join(known)}"
        case "missing" | "missing_argument":
            return f"{said}: '{key}' is missing"
        case "literal_error":
            word = next((str(item) for item in reversed(place) if not isinstance(item, int) and item != "[key]"), key)
            return f"{said}: {word} {first['input']!r} is unknown; expected one of {first['ctx']['expected']}"
    return f"{said}: '{key}': {first['msg'].splitlines()[0]}, got {first['input']!r}"


_UP = re.compile(r"\b(at least|above|more than|exceeds?|larger than|greater than)\s+\{(?:|%|\+%)\}")
_DOWN = re.compile(r"\b(at most|below|less than|no more than|smaller than|lower than)\s+\{(?:|%|\+%)\}")


def misdirected(claims: Iterable[Claim]) -> list[str]:
    """Return what reads the wrong way round: "at least {}" beside `<`, "at most {}" beside `>`.

    Only parts whose test is one comparison of something with a number are looked at, and no sentence with a negation.
    """
    found = []
    for claim in claims:
        for part in claim.parts:
            tree = parse(part.test).tree
            if re.search(r"\b(no|not|none|never|nowhere|without)\b", part.says, re.IGNORECASE):
                continue
            if not isinstance(tree, ast.Compare) or len(tree.ops) > 1 or isinstance(tree.ops[0], ast.Eq):
                continue
            if number(tree.left) is not None:
                upwards = OPERATORS[type(tree.ops[0])].startswith("<")
            elif number(tree.comparators[0]) is not None:
                upwards = OPERATORS[type(tree.ops[0])].startswith(">")
            else:
                continue
            if words := (_DOWN if upwards else _UP).search(part.says):
                found.append(f"{claim.id}, part '{part.name}': '{words.group(0)}' beside '{part.test}'")
    return found
