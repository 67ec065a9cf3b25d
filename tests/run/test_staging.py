"""Staging is faithful and stable: current prose and ledger with a run's outputs, the same bytes if nothing changed."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
import yaml

from traindyn import parameters
from traindyn.errors import InputError
from traindyn.report.claims import load_ledger
from traindyn.run import execute, results, staging


@pytest.fixture
def run(bare_book):
    """The bare book and its finished run."""
    root = bare_book("print(seed + 1)")
    out = execute.execute(parameters.resolve("bare", "smoke", ["seed=41"]))
    return root, out


def bare(out: Path) -> results.Findings:
    """Return the findings of the bare book, which has no claims."""
    return results.Findings("bare", "Bare", [], [results.Outcome("smoke", False, True, {}, {})])


def test_a_staged_chapter_has_the_current_prose_the_runs_outputs_and_its_parameters(run, bare_book):
    _, out = run
    bare_book("print(seed + 1)", prose="Better words.")
    text = staging.merged(bare(out), out)
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert any("Better words." in cell.source for cell in notebook.cells)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code[0].source.startswith("seed: int = 41  # the seed")
    assert code[1].outputs[0].text == "42\n"
    assert not any("_run =" in cell.source for cell in notebook.cells)
    assert staging.merged(bare(out), out) == text


@pytest.mark.parametrize("cells", [["print(seed + 2)"], ["print(seed + 1)", "2"]])
def test_a_chapter_whose_code_is_not_the_runs_is_refused(run, bare_book, cells):
    bare_book(*cells)
    with pytest.raises(InputError, match="has changed while"):
        staging.merged(bare(run[1]), run[1])


def test_staging_writes_only_what_changed_and_removes_what_is_gone(tmp_path):
    wanted = {Path("a/x.md"): b"1", Path("b.md"): b"2"}
    assert set(staging.sync(tmp_path, wanted)) == set(wanted)
    times = {path: (tmp_path / path).stat().st_mtime_ns for path in wanted}
    assert staging.sync(tmp_path, wanted | {Path("b.md"): b"3"}) == [Path("b.md")]
    assert (tmp_path / "a/x.md").stat().st_mtime_ns == times[Path("a/x.md")]
    assert (tmp_path / "b.md").read_bytes() == b"3"
    assert staging.sync(tmp_path, {Path("b.md"): b"3"}) == [Path("a/x.md")]
    assert staging.sync(tmp_path, {Path("b.md"): b"3"}) == []
    assert not (tmp_path / "a/x.md").exists()


def test_only_what_every_page_shows_makes_all_pages_new():
    assert staging.shared([Path("book/_static/book.css")]) and staging.shared([Path("book/_ext/offline.py")])
    assert not staging.shared([Path("book/scorecard.md"), Path("book/_generated/x.html"), Path("chapters/a/f.svg")])


def test_the_built_book_has_no_note_about_sources_and_is_strict_about_missing_numbers(toy_book):
    source = toy_book / "_config.yml"
    printed = yaml.safe_load(source.read_text())
    assert "nothing was executed" in printed["html"]["announcement"]
    assert printed["sphinx"]["config"]["suppress_warnings"] == ["mystnb.glue"]
    laptop = yaml.safe_load(staging.staged_config(source, "laptop"))
    assert "announcement" not in laptop["html"]
    assert "suppress_warnings" not in laptop["sphinx"]["config"]
    assert laptop["sphinx"]["config"]["html_css_files"] == ["cards.css", "book.css"]
    assert "smoke" in yaml.safe_load(staging.staged_config(source, "smoke"))["html"]["announcement"]


@pytest.fixture(scope="module")
def toy_run(toy_sources):
    """The finished smoke run of the toy chapter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINDYN_ROOT", str(toy_sources))
        return execute.execute(parameters.resolve("toy", "smoke"))


def staged(root: Path, out: Path) -> tuple[dict[str, str], list[Path]]:
    """Return what a reader sees of the toy book, by page, and what was written for it."""
    stage, changed = staging.stage_book([results.findings("toy", out)], {"toy": out}, "smoke")
    pages = {"chapter": (stage / "chapters/toy/toy.ipynb").read_text()}
    for name in ("errata", "scorecard"):
        tables = sorted((stage / "book/_generated").glob(f"{name}-*.html"))
        pages[name] = "".join(path.read_text() for path in tables)
    return pages, changed


def edited(root: Path, **changes: str) -> None:
    """Replace pieces of the toy ledger."""
    path = root / "chapters/toy/claims.yaml"
    text = path.read_text()
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


@pytest.fixture
def ledger(toy_book):
    """The toy ledger, put back after the test."""
    path = toy_book / "chapters/toy/claims.yaml"
    text = path.read_text()
    yield path
    path.write_text(text)


def test_an_edited_ledger_changes_chapter_scorecard_and_errata_without_a_run(toy_book, toy_run, ledger):
    before, _ = staged(toy_book, toy_run)
    again, changed = staged(toy_book, toy_run)
    assert again == before and changed == []
    stamp = (toy_run / "claims.json").stat().st_mtime_ns
    edited(
        toy_book,
        states=("The critical rate is 1; it is 2.", "The rate beyond which it diverges."),
        erratum=("the critical rate is $2$", "the rate is twice as large"),
    )
    after, changed = staged(toy_book, toy_run)
    assert "The rate beyond which it diverges." in after["chapter"] and "it is 2." not in after["chapter"]
    assert "The rate beyond which it diverges." in after["scorecard"]
    assert "the rate is twice as large" in after["errata"] and "is $2$" not in after["errata"]
    assert (toy_run / "claims.json").stat().st_mtime_ns == stamp
    assert Path("book/intro.md") not in changed and Path("book/errata.md") not in changed


def test_a_changed_criterion_judges_the_runs_evidence_again(toy_book, toy_run, ledger):
    edited(toy_book, test=("abs(ratio - kept) < 1e-12", "ratio > 0.9"), says=(", to {}", ", above {}"))
    after, _ = staged(toy_book, toy_run)
    cells = nbformat.reads(after["chapter"], as_version=4).cells
    shown = [output for cell in cells for output in cell.get("outputs", []) if "traindyn" in output.get("metadata", {})]
    contraction = next(output for output in shown if output.metadata.traindyn.get("id") == "toy.contraction")
    assert "verdict-fails" in contraction.data["text/html"]
    assert contraction.data["text/plain"].startswith("toy.contraction: fails (ratio 0.5, asked > 0.9")
    assert json.loads((toy_run / "claims.json").read_text())["claims"][0]["verdict"] == "holds"
    printed = next(cell for cell in cells if "verdict" in cell.metadata.get("tags", [])).outputs[0].text
    assert printed.startswith("toy.contraction: fails\n")
    assert after["chapter"].count("<style>@layer") == after["chapter"].count("<style>") == 1  # for the download


def test_a_claim_that_the_run_did_not_check_says_to_run_it_again(toy_book, toy_run, ledger):
    more = "- {id: toy.more, where: x, kind: figure, states: y, parts: [{name: a, test: 'b < 1', says: 'b below 1'}]}\n"
    ledger.write_text(ledger.read_text() + more)
    with pytest.raises(InputError, match="toy.more.*run it again"):
        staged(toy_book, toy_run)
    ledger.write_text(
        ledger.read_text().replace(more, "- {id: toy.more, where: x, kind: x, states: y, not_testable: z}\n")
    )
    assert (
        "toy.more" in staged(toy_book, toy_run)[0]["chapter"] or "toy-more" in staged(toy_book, toy_run)[0]["scorecard"]
    )


def test_an_archived_run_without_a_number_stays_as_it_was_recorded(toy_book, toy_run, ledger):
    edited(toy_book, test=("abs(ratio - kept) < 1e-12", "speed < 1e-12"))
    claims = load_ledger("toy")
    outcome = results.read_outcome(toy_run, claims, archived=True)
    assert outcome.records["toy.contraction"]["earlier"] and outcome.records["toy.contraction"]["verdict"] == "holds"
    assert "earlier" not in outcome.records["toy.slip"]


def test_a_test_that_asks_for_what_the_run_lacks_says_to_run_it_again(toy_book, toy_run, ledger):
    edited(toy_book, test=("abs(ratio - kept) < 1e-12", "speed < 1e-12"))
    with pytest.raises(InputError, match="run it again"):
        staged(toy_book, toy_run)
