"""Claims, their criteria, and the verdict that follows from them.

A chapter's `claims.yaml` names for every claim the parts that can fail, before anything is run. A run gives each part a
value; the verdict is derived here and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from traindyn.errors import InputError, nearest
from traindyn.files import project_root
from traindyn.report.language import fill, parse

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
        test: the criterion, in the language of `report.criteria`.
        says: the same in words, with places for the numbers of the test.
        reads: which reading of the claim it tests: printed, corrected, weaker, control or sensitivity.
        decides: whether the verdict rests on it.
        quorum: share of the seeds for which it must be true; all of them if None.
        varies: what a sensitivity part varies ("initialisation"); named in the verdict if it changes the outcome.
    """

    name: str
    test: str | None = None
    says: str = ""
    reads: str = "printed"
    decides: bool = True
    quorum: Fraction | None = None
    varies: str | None = None

    @property
    def statement(self) -> str:
        """The criterion in words, with the numbers of its test."""
        return self.says if self.test is None else fill(self.says, self.test)


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
    runs: tuple[str, ...] = ()
    definitions: tuple[str, ...] = ()
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
        """Hash of everything that decides: tests, quorums, roles, seeds, presets, definitions; not the wording."""
        parts = [(p.name, p.test, p.reads, p.decides, str(p.quorum), p.varies) for p in self.parts]
        text = json.dumps(
            [self.id, parts, self.seeds, list(self.decides_at), list(self.definitions), self.not_testable]
        )
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
                "parts": tuple(_part(part, where) for part in parts),
                "errata": tuple(Erratum(**erratum) for erratum in errata),
                "decides_at": tuple(fields.get("decides_at", () if fields.get("not_testable") else PRESETS)),
                **{name: tuple(fields.get(name) or ()) for name in ("coarse", "runs", "definitions")},
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


def _part(entry: Mapping[str, Any], where: str) -> Part:
    fields = dict(entry)
    where = f"{where}, part '{fields.get('name', '?')}'"
    if "statement" in fields:  # a part that is not yet a test
        fields["says"] = fields.pop("statement")
    for name in fields:
        if name not in Part.__dataclass_fields__:
            raise InputError(f"{where}: unknown key '{name}'{nearest(name, Part.__dataclass_fields__)}")
    if fields.get("quorum") is not None:
        fields["quorum"] = Fraction(str(fields["quorum"]))
    if fields.get("reads") == "sensitivity":
        fields.setdefault("decides", False)
    part = Part(**fields)
    if part.test is not None:
        try:
            test = parse(part.test)
            fill(part.says, test)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        if part.quorum not in (None, 1) and not test.bare:
            raise InputError(f"{where}: '{part.test}' is asked once, over all seeds; it cannot have a quorum")
    return part


def _known(where: str, what: str, given: Any, known: tuple[str, ...]) -> None:
    for word in given:
        if word not in known:
            raise InputError(f"{where}: {what} '{word}' is unknown; expected one of {', '.join(known)}")
