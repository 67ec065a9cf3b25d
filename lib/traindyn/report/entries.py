"""Claims and their criteria: what a chapter's `claims.yaml` may say, declared once.

The ledger names for every claim the parts that can fail, before anything is run. `report.claims` reads it by these
types, `report.judge` derives verdicts from a run's numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, InstanceOf, WithJsonSchema
from pydantic.dataclasses import dataclass

from traindyn.report.language import fill

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
Reads, Preset, Verdict, Status, Consequence = (
    Literal["printed", "corrected", "weaker", "control", "sensitivity"],
    Literal["smoke", "laptop", "paper"],
    Literal["holds", "holds with correction", "fails", "undecided", "not testable"],
    Literal["misprint", "statement", "proof", "setting not given", "may be our copy"],
    Literal["result", "proof", "cosmetic"],
)
_CONFIG = ConfigDict(extra="forbid", populate_by_name=True, use_attribute_docstrings=True)


def _share(value: Any) -> Any:
    return Fraction(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else value


Quorum = Annotated[
    InstanceOf[Fraction],
    BeforeValidator(_share),
    WithJsonSchema({"type": ["string", "number"], "pattern": r"^\d+(/\d+|\.\d+)?$"}),
]


@dataclass(frozen=True, config=_CONFIG)
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
    test: str
    says: str
    reads: Reads = "printed"
    decides: bool = True
    quorum: Quorum | None = None
    varies: str | None = None

    @property
    def statement(self) -> str:
        """The criterion in words, with the numbers of its test."""
        return fill(self.says, self.test)


@dataclass(frozen=True, config=_CONFIG)
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
    status: Status
    consequence: Consequence
    version: str | None = None


@dataclass(frozen=True, config=_CONFIG)
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
    seeds: Annotated[int, Field(ge=1)] = 1
    decides_at: tuple[Preset, ...] = PRESETS
    expect: Mapping[Preset, Verdict] = Field(default_factory=dict)
    because: Mapping[Preset, str] = Field(default_factory=dict)
    coarse: tuple[str, ...] = ()
    tried: str | None = None
    errata: Annotated[
        tuple[Erratum, ...], BeforeValidator(lambda value: [value] if isinstance(value, dict) else value)
    ] = Field(default=(), validation_alias="erratum")
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
