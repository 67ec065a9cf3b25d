"""Archived runs are whole, and can be judged by the criteria that stand in the ledgers today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from traindyn.report.claims import VERDICTS, load_ledger
from traindyn.run.results import records

RESULTS = Path(__file__).resolve().parents[1] / "data" / "results"
ARCHIVED = sorted(path.parent for path in RESULTS.glob("*/*/claims.json"))


@pytest.mark.parametrize("folder", ARCHIVED, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_an_archived_run_fits_its_ledger(folder):
    run = json.loads((folder / "claims.json").read_text())
    chapter = folder.parent.name
    assert run["schema"] in (1, 2) and (run["chapter"], run["preset"]) == (chapter, folder.name)
    assert run["parameters_are_preset"] and (folder / "provenance.json").is_file()
    assert all(record["verdict"] in VERDICTS for record in run["claims"])
    claims = load_ledger(chapter, RESULTS.parents[1] / "chapters" / chapter / "claims.yaml")
    judged = records(run, claims)  # raises where a test asks for numbers that the run lacks
    assert {claim.id for claim in claims} == set(judged), "run it again"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 2_000_000
