"""Pools of seeds: disjoint blocks that agree where they must, archived, and shown beside the verdicts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from traindyn import files, parameters
from traindyn.report import cards
from traindyn.report.claims import load_ledger
from traindyn.report.columns import Column
from traindyn.run import blocks, cli, cluster, execute, results

ROOT = Path(__file__).resolve().parents[2]
LEDGER = """- id: bare.often
  where: Figure 1
  kind: theorem
  states: The number is above a half in most seeds.
  seeds: 3
  parts: [{name: p, test: "number > 0.2", says: "above {}"}]
- id: bare.exact
  where: Lemma 1
  kind: theorem
  states: The count is two.
  parts: [{name: c, test: "total == 2", says: "it is {}"}]
"""
# three seeds, each with a number of its own; a count that no seed enters
CELL = """import json, pathlib, random
rows = [[s, random.Random(s).random()] for s in range(seed, seed + n_seeds)]
numbers = {"number": {"cases": [], "seeded": True, "rows": rows}}
counts = {"total": {"cases": [], "seeded": False, "rows": [[None, COUNT]]}}
claims = [dict(id="bare.often", evidence=numbers), dict(id="bare.exact", evidence=counts)]
for claim in claims:
    claim |= dict(verdict="holds", why="", setting=None, parts={}, seeds=3, close=False, criterion_sha256="")
about = {"schema": 2, "chapter": "bare", "preset": _run["preset"], "parameters_are_preset": _run["is_preset"]}
pathlib.Path(_run["out"], "claims.json").write_text(json.dumps({**about, "claims": claims}))"""


@pytest.fixture
def book(bare_book):
    """The bare book with evidence; returns a function that writes it with another count."""
    root = bare_book()
    folder = root / "chapters" / "bare"
    (folder / "claims.yaml").write_text(LEDGER)
    text = (folder / "bare.md").read_text()
    text = text.replace(
        "seed: int = 1  # the seed", "seed: int = 100  # the seed\nn_seeds: int = 3  # seeds, at least 1"
    )
    last = text.rindex("```{code-cell} ipython3\n") + len("```{code-cell} ipython3\n")

    def write(count: str = "2"):
        (folder / "bare.md").write_text(text[:last] + CELL.replace("COUNT", count) + "\n```\n")
        return root

    write()
    return write


def block(book, *overrides: str) -> dict:
    return blocks.evidence_of(execute.execute(parameters.resolve("bare", "smoke", overrides)))


def test_blocks_agree_on_what_no_seed_enters_and_on_a_seed_that_both_contain(book):
    assert blocks.disagreements(block(book), block(book, "seed=102")) == []
    book("len(rows) + seed % 2")
    said = blocks.disagreements(block(book), block(book, "seed=101"))
    assert said == ["bare.exact: total: 3 and 4"]
    a, b = ({"x.a": {"n": Column((), True, {(): {1: value}})}} for value in (0.5, 0.6))
    assert blocks.disagreements(a, b) == ["x.a: n, seed 1: 0.5 and 0.6"]
    assert blocks.disagreements(a, a) == []


def test_the_stride_is_the_largest_number_of_seeds_that_an_experiment_takes(book):
    resolved = parameters.resolve("bare", "smoke")
    assert blocks.stride(resolved, {}) == 3
    wide = {"x.a": {"n": Column((), True, {(): {100: 1.0, 109: 1.0}})}}
    assert blocks.stride(resolved, wide) == 10
    more = parameters.Resolved("bare", "smoke", resolved.parameters, {"match": {"seeds": 12, "width": 99}}, True)
    assert blocks.stride(more, wide) == 12
    assert blocks.first_seed(resolved) == 100
    early = parameters.Resolved("bare", "smoke", {"seed": 7}, {}, True)
    assert blocks.first_seed(early) == 100  # criteria are chosen on seeds below


def test_a_pool_keeps_its_numbers(book):
    evidence = {
        "bare.often": {
            "number": Column(("width",), True, {(64.0,): {100: 0.1 + 0.2, 101: math.inf}, ("a b",): {100: -math.inf}}),
            "empty": Column(("epoch",), True, {}),
        },
        "bare.exact": {"total": Column((), False, {(): {None: 2.0}})},
    }
    place = blocks.write("bare", evidence, {"preset": "smoke"})
    assert {path.name for path in place.iterdir()} == {"evidence.csv", "about.json"}
    pool = blocks.read("bare")
    assert pool.evidence == evidence and pool.seeds("bare.often") == 2 and pool.about["preset"] == "smoke"
    undefined = {"bare.exact": {"total": Column((), False, {(): {None: math.nan}})}}
    blocks.write("bare", undefined, {"preset": "smoke"})
    assert math.isnan(blocks.read("bare").evidence["bare.exact"]["total"].rows[()][None])


def test_a_pool_does_not_keep_thousands_of_numbers_of_one_claim(book):
    many = {"bare.many": {"x": Column((), True, {(): {seed: 0.5 for seed in range(blocks.MOST + 1)}})}}
    few = {"bare.few": {"x": Column((), True, {(): {seed: 0.5 for seed in range(blocks.MOST)}})}}
    blocks.write("bare", many | few, {"preset": "smoke"})
    assert set(blocks.read("bare").evidence) == {"bare.few"}


def in_one_process(monkeypatch) -> None:
    """Execute points here and now: what a cluster does is tested elsewhere."""
    from traindyn.run import dispatch, tasks

    monkeypatch.setattr(cluster, "memory_share", lambda workers: 2**33)
    monkeypatch.setattr(dispatch, "executed", lambda waiting, *how: (tasks.perform(one) for one in waiting))


def test_seeds_are_archived_and_shown_with_the_verdicts(book, monkeypatch, capsys):
    in_one_process(monkeypatch)
    root = book()
    assert cli.main(["sweep", "bare", "--preset", "smoke", "--seeds"]) == 0
    said = capsys.readouterr().out
    place = root / "data" / "results" / "bare" / "seeds"
    pool = blocks.read("bare")
    assert pool.seeds("bare.often") == 15 and pool.about["first_seeds"] == [100, 103, 106, 109, 112]
    assert pool.about["stride"] == 3 and "sizes" in pool.about and "git" in pool.about
    counted = json.loads((place / "about.json").read_text())["stability"]["bare.often"]
    assert counted["n"] == 3 and counted["pool"] == 15 and sum(counted["verdicts"].values()) == counted["draws"]
    assert "of redraws of 3 from 15 seeds" in said

    found = results.findings("bare", execute.execute(parameters.resolve("bare", "smoke")))
    record = found.outcomes[0].records["bare.often"]
    expected = counted["verdicts"].get(record["verdict"], 0) / counted["draws"]
    assert record["stability"]["share"] == expected and 0 <= record["stability"]["low"] <= expected
    shown = cards.shown({"show": "claim", "id": "bare.often"}, found.claims, found.outcomes[0].records)
    assert f"repeated in {100 * expected:.0f} % of redraws" in shown and "from 15 seeds at smoke" in shown
    shown = cards.shown({"show": "claim", "id": "bare.exact"}, found.claims, found.outcomes[0].records)
    assert "no seed enters it" in shown

    before = (place / "evidence.csv").read_bytes()
    assert cli.main(["sweep", "bare", "--preset", "smoke", "--seeds"]) == 0  # every block is kept
    assert "would" not in capsys.readouterr().err and (place / "evidence.csv").read_bytes() == before


def test_a_number_of_seeds_is_taken_as_it_is_given_and_told_where_it_is_too_few(book, monkeypatch, capsys):
    in_one_process(monkeypatch)
    ledger = book() / "chapters" / "bare" / "claims.yaml"
    six = "  seeds: 6\n"  # of three a run: decided by nothing here, and never enough for a share
    ledger.write_text(LEDGER.replace("  seeds: 3\n", six, 1))
    assert cli.main(["sweep", "bare", "--preset", "smoke", "--seeds", "16"]) == 0
    said = capsys.readouterr()
    assert (
        blocks.read("bare").seeds("bare.often") == 18 and "6 blocks, first seeds 100 to 115 in steps of 3" in said.err
    )
    assert "too few seeds, or not decided" not in said.err and "bare.often: undecided" in said.out
    monkeypatch.setattr(blocks, "FEWEST", 30)
    assert cli.main(["sweep", "bare", "--preset", "smoke", "--seeds", "16"]) == 0
    said = capsys.readouterr()
    assert "10 blocks would serve every claim" in said.err
    assert "too few seeds, or not decided at this preset: bare.often; more seeds: --seeds" in said.err


def test_a_changed_criterion_redraws_and_another_preset_or_setting_shows_none(book):
    claims = load_ledger("bare")
    rows = {100 + i: i / 15 for i in range(15)}
    evidence = {"bare.often": {"number": Column((), True, {(): rows})}}
    about = {"preset": "smoke", "settings": {"bare.often": "source"}, "stability": {}}
    pool = blocks.Pool(evidence, about)
    record = {"bare.often": {"verdict": "holds", "seeds": 3, "setting": None}}
    found = blocks.attached(record, claims, pool, "smoke")["bare.often"]["stability"]
    assert found["seeds"] == 15 and 0.2 < found["share"] < 0.8  # all of three above 0.2: (11 choose 3) / (15 choose 3)
    assert "stability" not in blocks.attached(record, claims, pool, "laptop")["bare.often"]
    smaller = {"bare.often": {**record["bare.often"], "setting": {"word": "smaller"}}}
    assert "stability" not in blocks.attached(smaller, claims, pool, "smoke")["bare.often"]
    five = {"bare.often": {**record["bare.often"], "seeds": 6}}
    assert "stability" not in blocks.attached(five, claims, pool, "smoke")["bare.often"]  # 18 seeds would be needed


def test_a_number_that_depends_on_its_block_is_told_and_left_out(book, monkeypatch, capsys):
    in_one_process(monkeypatch)
    book("seed")
    assert cli.main(["sweep", "bare", "--preset", "smoke", "--seeds"]) == 1
    assert "depends on its block, its claim is left out: bare.exact: total: 100 and 103" in capsys.readouterr().err
    assert set(blocks.read("bare").evidence) == {"bare.often"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "6"], "needs at least 15 seeds"),
        (["--seeds", "-p", "seed=1"], "without -p"),
        (["--seeds", "-1"], ""),
    ],
)
def test_too_few_seeds_and_parameters_of_ones_own_are_told(book, capsys, words, said):
    assert cli.main(["sweep", "bare", "--preset", "smoke", *words]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
    assert not (files.project_root() / "_build").exists()


@pytest.mark.long
@pytest.mark.parametrize("chapter", parameters.chapters(ROOT))
def test_blocks_of_a_chapter_agree(chapter, tmp_path):
    """Two runs at smoke whose seeds overlap: what no seed enters and the rows of shared seeds are the same."""
    found = []
    for first in (100, 101):
        run = parameters.resolve(chapter, "smoke", {"seed": first, "n_seeds": 2})
        found.append(blocks.evidence_of(execute.execute(run, tmp_path / str(first))))
    assert blocks.disagreements(*found) == []
