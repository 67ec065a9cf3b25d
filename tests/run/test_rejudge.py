"""A run's verdicts are derived again from its numbers, with the present or another ledger."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from traindyn import evidence as ev
from traindyn.report.claims import load_ledger
from traindyn.report.columns import gather
from traindyn.report.judge import judge
from traindyn.run import cli

LEDGER = """- id: toy.contraction
  where: Section 1
  kind: theorem
  states: It contracts.
  parts:
    - {name: ratio, test: "ratio <= 0.5", says: "at most {%}"}
"""


@pytest.fixture
def run(tmp_path, toy_book):
    """A finished run of a ledger beside it."""
    (tmp_path / "claims.yaml").write_text(LEDGER)
    table = ev.table(pd.DataFrame({"seed": [1, 2, 3], "ratio": [0.4, 0.45, 0.5]}))
    records = [judge(claim, gather(table), "smoke") for claim in load_ledger("toy", tmp_path / "claims.yaml")]
    content = {"schema": 2, "chapter": "toy", "preset": "smoke", "parameters_are_preset": True, "claims": records}
    (tmp_path / "claims.json").write_text(json.dumps(content))
    return tmp_path


def test_with_the_same_ledger_nothing_changes(run, capsys):
    assert cli.main(["judge", str(run), "--claims", str(run / "claims.yaml")]) == 0
    assert capsys.readouterr().out == "0 of 1 verdicts changed (toy, smoke)\n"


def test_with_another_threshold_the_change_and_its_threshold_are_told(run, capsys):
    (run / "claims.yaml").write_text(LEDGER.replace("0.5", "0.45"))
    assert cli.main(["judge", str(run), "--claims", str(run / "claims.yaml")]) == 0
    out = capsys.readouterr().out
    assert "toy.contraction: holds -> fails" in out and "1 of 1 verdicts changed" in out
    assert "ratio: met (0.5 <= 0.5) -> not met (0.5 <= 0.45)" in out


def test_what_the_run_lacks_is_one_line_and_status_2(run, capsys):
    (run / "claims.yaml").write_text(LEDGER.replace("ratio <=", "ratios <="))
    assert cli.main(["judge", str(run), "--claims", str(run / "claims.yaml")]) == 2
    said = capsys.readouterr().err
    assert "no evidence is called 'ratios'" in said and "run it again" in said and said.count("\n") == 1


def test_a_run_of_the_old_form_and_no_run_are_refused(run, capsys):
    (run / "claims.json").write_text(json.dumps({"schema": 1, "chapter": "toy", "preset": "smoke", "claims": []}))
    assert cli.main(["judge", str(run)]) == 2
    assert "holds outcomes, not evidence; run it again" in capsys.readouterr().err
    (run / "claims.json").write_text("[")
    assert cli.main(["judge", str(run)]) == 2
    assert cli.main(["judge", str(run / "nowhere")]) == 2
    assert "not a finished run" in capsys.readouterr().err
