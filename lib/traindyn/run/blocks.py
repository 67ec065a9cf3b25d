"""Many seeds of a preset, in disjoint blocks: a pool from which seeds are redrawn, and how stable verdicts are.

A block is a run of the chapter with its own first seed. The stride between first seeds is the largest number of seeds
that any experiment takes, so no seed is in two blocks. The pool is archived in `data/results/<chapter>/seeds/`:
`evidence.csv`, one row per claim, number, seed and case, and `about.json`.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traindyn import files
from traindyn.errors import InputError
from traindyn.parameters import Resolved
from traindyn.report.claims import Claim
from traindyn.report.columns import Column, Evidence, evidence_from_json, number_to_json, plain_case
from traindyn.report.judge import seeds_behind
from traindyn.report.stability import FEWEST, POOL, interval, seeds_of, stability
from traindyn.report.words import setting_word

SEEDS = "seeds"  # the folder below data/results/<chapter>/; no run reads it
FIRST = 100  # criteria are chosen on seeds below, which are never in a pool
DRAWS = 200
MOST = 1150  # numbers of a claim that an archived pool keeps
Claims = Mapping[str, Evidence]


@dataclass(frozen=True)
class Pool:
    """Evidence of many seeds: by claim id, with what `about.json` says."""

    evidence: Claims
    about: Mapping[str, Any]

    def seeds(self, claim: str) -> int:
        """Return how many seeds there are for a claim."""
        return len(_seeds(self.evidence.get(claim, {})))


def folder(chapter: str) -> Path:
    """Return where a chapter's pool is archived."""
    return files.project_root() / "data" / "results" / chapter / SEEDS


def first_seed(resolved: Resolved) -> int:
    """Return the first seed of the first block: the preset's own, if it is not among those criteria are chosen on."""
    return max(resolved.parameters["seed"], FIRST)


def evidence_of(run: Path) -> dict[str, dict[str, Column]]:
    """Return the evidence of a finished run by claim id."""
    found = files.read_json(run / "claims.json")
    return {record["id"]: evidence_from_json(record["evidence"]) for record in found["claims"]}


def stride(resolved: Resolved, evidence: Claims) -> int:
    """Return the largest number of seeds that an experiment takes: as declared, and as a run shows it.

    Args:
        resolved: a block; its parameter `n_seeds` and its sizes called `seeds` or `runs` declare numbers of seeds.
        evidence: what that block measured.
    """
    declared = [size for sizes in resolved.sizes.values() for name, size in sizes.items() if name in ("seeds", "runs")]
    counts = [resolved.parameters["n_seeds"], *(count for count in declared if isinstance(count, int))]
    reached = [seed - resolved.parameters["seed"] + 1 for columns in evidence.values() for seed in _seeds(columns)]
    return max([*counts, *reached])


def needed(records: Iterable[Mapping[str, Any]]) -> int:
    """Return how many blocks give every claim at least 15 seeds and three times what decides it.

    Args:
        records: the claims of the first block, judged.
    """
    return max((math.ceil(max(FEWEST, POOL * n) / n) for record in records if (n := record["seeds"])), default=1)


def disagreements(one: Claims, other: Claims) -> list[str]:
    """Return what two blocks say differently: numbers without a seed, and rows of a seed that both contain.

    Such a number depends on its block: on seed arithmetic, data drawn once per block, or an average over seeds.
    """
    found = []
    for claim in one.keys() & other.keys():
        for name in one[claim].keys() & other[claim].keys():
            mine, theirs = one[claim][name].rows, other[claim][name].rows
            for case in mine.keys() & theirs.keys():
                for seed in mine[case].keys() & theirs[case].keys():
                    a, b = mine[case][seed], theirs[case][seed]
                    if not _same(a, b):
                        where = "" if seed is None else f", seed {seed}"
                        at = f"[{', '.join(map(str, case))}]" if case else ""
                        found.append(f"{claim}: {name}{at}{where}: {a:.10g} and {b:.10g}")
    return sorted(found)


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12)


def joined(blocks: Sequence[Claims]) -> dict[str, dict[str, Column]]:
    """Return the evidence of several blocks as one."""
    found: dict[str, dict[str, Column]] = {}
    for block in blocks:
        for claim, columns in block.items():
            mine = found.setdefault(claim, {})
            for name, column in columns.items():
                rows = {case: dict(row) for case, row in mine[name].rows.items()} if name in mine else {}
                for case, row in column.rows.items():
                    rows.setdefault(case, {}).update(row)
                mine[name] = Column(column.levels, column.seeded, rows)
    return found


def _numbers(columns: Mapping[str, Column]) -> int:
    return sum(len(row) for column in columns.values() for row in column.rows.values())


def write(chapter: str, evidence: Claims, about: Mapping[str, Any]) -> Path:
    """Archive a pool; return its folder.

    Of a claim with more than `MOST` numbers the evidence is left out, which would weigh megabytes: how stable it is
    has been counted, and stays in `about` as long as its criterion does.
    """
    place = folder(chapter)
    evidence = {claim: columns for claim, columns in evidence.items() if _numbers(columns) <= MOST}
    with files.atomic_path(place / "evidence.csv") as part, part.open("w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(["claim", "name", "seed", "case", "value"])
        for claim, columns in evidence.items():
            for name, column in columns.items():
                for case, row in column.rows.items():
                    text = json.dumps(list(case)) if case else ""
                    for seed, value in row.items():
                        shown = number_to_json(value)
                        rows.writerow([claim, name, "" if seed is None else seed, text, "" if shown is None else shown])
    names = {
        claim: {name: {"cases": list(column.levels), "seeded": column.seeded} for name, column in columns.items()}
        for claim, columns in evidence.items()
    }
    files.write_json(place / "about.json", {"schema": 1, "chapter": chapter, **about, "names": names})
    return place


def read(chapter: str) -> Pool | None:
    """Return a chapter's archived pool, or None if there is none.

    Raises:
        InputError: it cannot be read.
    """
    place = folder(chapter)
    if not (place / "about.json").is_file():
        return None
    try:
        about = files.read_json(place / "about.json")
        found: dict[str, dict[str, Column]] = {
            claim: {name: Column(tuple(item["cases"]), item["seeded"], {}) for name, item in columns.items()}
            for claim, columns in about["names"].items()
        }
        with (place / "evidence.csv").open(encoding="utf-8", newline="") as handle:
            for row in csv.DictReader(handle):
                case = tuple(map(plain_case, json.loads(row["case"]))) if row["case"] else ()
                rows: Any = found[row["claim"]][row["name"]].rows
                number = math.nan if row["value"] == "" else float(row["value"])
                rows.setdefault(case, {})[int(row["seed"]) if row["seed"] else None] = number
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the seeds in {place} cannot be read ({error}); make them again: traindyn sweep") from error
    return Pool(found, about)


def measured(
    pool: Claims, claims: Sequence[Claim], records: Mapping[str, Mapping[str, Any]], preset: str
) -> dict[str, dict[str, Any]]:
    """Return for each claim how often redraws of the pool gave which verdict.

    Args:
        pool: evidence of many seeds by claim id.
        claims: the present ledger.
        records: the verdicts that are shown, by claim id; their number of seeds is that of a redraw.
        preset: of the pool and the records.

    Returns:
        {claim id: n, pool, draws, verdicts, criterion_sha256}; claims without seeds, or whose pool is too small, are
        left out.
    """
    wanted = []
    for claim in claims:
        n = (records.get(claim.id) or {}).get("seeds")
        size = (seeds_behind(claim, pool[claim.id]) or 0) if claim.id in pool else 0
        if n and preset in claim.decides_at and size >= max(FEWEST, POOL * n):
            wanted.append((claim, n))
    shown = {claim.id: records[claim.id]["verdict"] for claim, _ in wanted}
    found = stability(wanted, pool, shown, preset, draws=DRAWS)
    return {
        claim.id: {
            "n": n,
            "pool": seeds_behind(claim, pool[claim.id]),
            "draws": DRAWS,
            "verdicts": dict(found[claim.id].verdicts),
            "criterion_sha256": claim.criterion_sha256,
        }
        for claim, n in wanted
    }


def attached(
    records: Mapping[str, Mapping[str, Any]], claims: Sequence[Claim], pool: Pool | None, preset: str
) -> dict[str, Mapping[str, Any]]:
    """Return records with their stability, where the pool is of the same preset and setting.

    What was counted when the pool was archived is used as long as criterion and number of seeds are the same; else the
    seeds are redrawn now.
    """
    if pool is None or pool.about["preset"] != preset:
        return dict(records)
    kept = pool.about.get("stability", {})
    known = {claim.id: claim for claim in claims}

    def stands(name: str) -> bool:
        now = (records[name].get("seeds"), known[name].criterion_sha256)
        return name in kept and (kept[name]["n"], kept[name]["criterion_sha256"]) == now

    stale = [known[name] for name in records if name in known and name in pool.evidence and not stands(name)]
    try:
        fresh = measured(pool.evidence, stale, records, preset)
    except InputError:  # a test asks for a number that the pool does not have
        fresh = {}
    found: dict[str, Mapping[str, Any]] = {}
    for name, record in records.items():
        counted = kept.get(name) if name in known and stands(name) else fresh.get(name)
        same = setting_word(record) == (pool.about.get("settings") or {}).get(name, "source")
        found[name] = {**record, "stability": _summary(counted, record, preset)} if counted and same else record
    return found


def _summary(counted: Mapping[str, Any], record: Mapping[str, Any], preset: str) -> dict[str, Any]:
    independent = counted["pool"] // counted["n"]
    share = counted["verdicts"].get(record["verdict"], 0) / counted["draws"]
    low, high = interval(share * independent, independent)
    return {"share": share, "low": low, "high": high, "seeds": counted["pool"], "preset": preset}


def _seeds(columns: Evidence) -> list[int]:
    return sorted(frozenset().union(*map(seeds_of, columns.values())))
