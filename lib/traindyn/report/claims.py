"""Claims, their criteria, and the verdict that follows from them.

A chapter's `claims.yaml` names for every claim the parts that can fail, before anything is run. A run gives each part a
value; the verdict is derived here and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from traindyn.errors import InputError, nearest
from traindyn.files import project_root

HOLDS, CORRECTED, FAILS, UNDECIDED, NOT_TESTABLE = VERDICTS = (
    "holds",
    "holds with correction",
    "fails",
    "undecided",
    "not testable",
)
READS = ("printed", "corrected", "weaker", "control", "sensitivity")
PRESETS = ("smoke", "laptop", "paper")
STATUSES = ("misprint", "statement", "proof", "setting not given", "may be our copy")
CONSEQUENCES = ("result", "proof", "cosmetic")


@dataclass(frozen=True)
class Part:
    """One thing that can fail.

    Attributes:
        name: short word, unique in its claim.
        statement: the criterion, in words and numbers.
        reads: which reading of the claim it tests: printed, corrected, weaker, control or sensitivity.
        decides: whether the verdict rests on it.
        quorum: share of the seeds for which it must be true (1: all).
        varies: what a sensitivity part varies ("initialisation"); named in the verdict if it changes the outcome.
    """

    name: str
    statement: str
    reads: str = "printed"
    decides: bool = True
    quorum: Fraction = Fraction(1)
    varies: str | None = None


@dataclass(frozen=True)
class Erratum:
    """What is printed, what we find, and where that is demonstrated.

    Attributes:
        printed, right: text, with TeX between dollars.
        evidence: anchor of the cell that demonstrates it.
        status: one of `STATUSES`.
        consequence: "result" (a stated result changes), "proof" or "cosmetic".
        version: the version of the source that was read.
    """

    printed: str
    right: str
    evidence: str
    status: str
    consequence: str
    version: str | None = None


@dataclass(frozen=True)
class Claim:
    """One entry of a chapter's ledger; see the fields of `claims.yaml` in CONTRIBUTING.md."""

    id: str
    where: str
    kind: str
    states: str
    parts: tuple[Part, ...] = ()
    reported: Any = None
    setup: str | None = None
    seeds: int = 1
    decides_at: tuple[str, ...] = PRESETS
    expect: Mapping[str, str] = field(default_factory=dict)
    because: Mapping[str, str] = field(default_factory=dict)
    coarse: tuple[str, ...] = ()
    tried: str | None = None
    errata: tuple[Erratum, ...] = ()
    not_testable: str | None = None

    @property
    def chapter(self) -> str:
        """The chapter's name: the id up to its first dot."""
        return self.id.split(".", 1)[0]

    @property
    def anchor(self) -> str:
        """The anchor of the claim's cell in its chapter: the id with its first dot as a hyphen, in lower case."""
        return anchor(self.id)

    @property
    def criterion_sha256(self) -> str:
        """Hash of everything that decides: parts, seeds asked for and presets that decide."""
        parts = [(p.name, p.statement, p.reads, p.decides, str(p.quorum), p.varies) for p in self.parts]
        text = json.dumps([self.id, parts, self.seeds, list(self.decides_at), self.not_testable])
        return hashlib.sha256(text.encode()).hexdigest()


def anchor(claim_id: str) -> str:
    """Return the HTML anchor of a claim: `elasticity.conj-1.1-distance` -> `elasticity-conj-1-1-distance`."""
    return claim_id.replace(".", "-").replace("_", "-").lower()  # Sphinx makes ids without underscores


def load_ledger(chapter: str, path: str | Path | None = None) -> list[Claim]:
    """Read and check a chapter's `claims.yaml`.

    Args:
        chapter: the chapter's name.
        path: the file; `chapters/<chapter>/claims.yaml` of the project if None.

    Returns:
        The claims, in the ledger's order.

    Raises:
        InputError: the file is missing or not YAML, or an entry has an unknown key or word, a repeated id or part.
    """
    path = Path(path) if path else project_root() / "chapters" / chapter / "claims.yaml"
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the ledger {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InputError(f"the ledger {path} is not YAML: {' '.join(str(error).split())}") from error
    claims = [_claim(entry, path) for entry in entries or []]
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise InputError(f"{path}: claim '{claim.id}' stands there twice")
        seen.add(claim.id)
    return claims


def _claim(entry: Mapping[str, Any], path: Path) -> Claim:
    where = f"{path.name}: claim '{entry.get('id', '?')}'"
    fields = dict(entry)
    errata = fields.pop("erratum", None) or []
    errata = [errata] if isinstance(errata, Mapping) else errata
    parts = fields.pop("parts", None) or []
    fields.pop("errata", None)
    for name in fields:
        if name not in Claim.__dataclass_fields__:
            raise InputError(f"{where}: unknown key '{name}'{nearest(name, Claim.__dataclass_fields__)}")
    try:
        claim = Claim(
            **{
                **{name: value for name, value in fields.items() if value is not None},
                "parts": tuple(_part(part) for part in parts),
                "errata": tuple(Erratum(**erratum) for erratum in errata),
                "decides_at": tuple(fields.get("decides_at", () if fields.get("not_testable") else PRESETS)),
                "coarse": tuple(fields.get("coarse") or ()),
            }
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error
    _known(where, "part reads", [part.reads for part in claim.parts], READS)
    _known(where, "decides_at", claim.decides_at, PRESETS)
    _known(where, "expect", claim.expect.values(), VERDICTS)
    _known(where, "erratum status", [erratum.status for erratum in claim.errata], STATUSES)
    _known(where, "erratum consequence", [erratum.consequence for erratum in claim.errata], CONSEQUENCES)
    if len({part.name for part in claim.parts}) < len(claim.parts):
        raise InputError(f"{where}: two parts have the same name")
    if not claim.not_testable and not any(part.decides and part.reads == "printed" for part in claim.parts):
        raise InputError(f"{where}: no deciding printed part; add one, or say why it is `not_testable`")
    return claim


def _part(entry: Mapping[str, Any]) -> Part:
    fields = dict(entry)
    fields["quorum"] = Fraction(str(fields.get("quorum", 1)))
    if fields.get("reads") == "sensitivity":
        fields.setdefault("decides", False)
    return Part(**fields)


def _known(where: str, what: str, given: Any, known: tuple[str, ...]) -> None:
    for word in given:
        if word not in known:
            raise InputError(f"{where}: {what} '{word}' is unknown; expected one of {', '.join(known)}")


def outcome(value: Any) -> bool | None | list[bool]:
    """Return a part's value as plain Python: a boolean, None, or a list of booleans over seeds.

    Raises:
        InputError: it is something else (a number, say: compare it before you check it).
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype != bool or array.ndim > 1 or array.size == 0:
        raise InputError(f"a part is a boolean, None, or booleans over seeds; got {value!r}")
    return array.tolist()


def is_true(part: Part, value: bool | None | list[bool]) -> bool | None:
    """Return whether a part is met: a list of seeds is, when at least the part's quorum of them is true."""
    if isinstance(value, list):
        return sum(value) >= math.ceil(part.quorum * len(value))
    return value


def derive(claim: Claim, preset: str, values: Mapping[str, Any], seeds: int) -> tuple[str, str]:
    """Derive the verdict of a claim from the values of its parts.

    All deciding printed parts true: holds. A printed part false and every deciding corrected or weaker part true:
    holds with correction. A printed part false otherwise: fails. A control false, fewer seeds than asked, a deciding
    part None, or a preset outside `decides_at`: undecided.

    Args:
        claim: the claim.
        preset: smoke, laptop or paper.
        values: one value per part, as `outcome` returns them.
        seeds: number of seeds behind the values.

    Returns:
        The verdict, and why it is undecided (empty otherwise).

    Raises:
        InputError: the names of `values` are not those of the claim's parts.
    """
    if claim.not_testable:
        return NOT_TESTABLE, claim.not_testable
    names = [part.name for part in claim.parts]
    for name in set(values) ^ set(names):
        known = "has no value" if name in names else f"is not in the ledger{nearest(name, names)}"
        raise InputError(f"claim '{claim.id}': part '{name}' {known}; its parts: {', '.join(names)}")
    truth = {part.name: is_true(part, values[part.name]) for part in claim.parts}
    deciding = [part for part in claim.parts if part.decides]
    if preset not in claim.decides_at:
        return UNDECIDED, claim.because.get(preset, f"the {preset} preset does not decide it")
    if missing := [part.name for part in deciding if truth[part.name] is None]:
        return UNDECIDED, f"not contained in this run: {', '.join(missing)}"
    if seeds < claim.seeds:
        return UNDECIDED, f"{seeds} seeds, the criterion asks for {claim.seeds}"
    if broken := [part.name for part in deciding if part.reads == "control" and not truth[part.name]]:
        return UNDECIDED, f"control failed: {', '.join(broken)}"
    if all(truth[part.name] for part in deciding if part.reads == "printed"):
        return HOLDS, ""
    mended = [truth[part.name] for part in deciding if part.reads in ("corrected", "weaker")]
    return (CORRECTED if mended and all(mended) else FAILS), ""


def depends_on(claim: Claim, values: Mapping[str, Any]) -> list[str]:
    """Return what the outcome depends on: what those sensitivity parts vary that differ from the printed outcome."""
    printed = [is_true(part, values[part.name]) for part in claim.parts if part.reads == "printed" and part.decides]
    differing = [
        part.varies
        for part in claim.parts
        if part.varies and is_true(part, values[part.name]) not in (None, all(printed))
    ]
    return list(dict.fromkeys(differing)) if None not in printed else []
