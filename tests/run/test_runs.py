"""What can be done with finished runs: a scorecard, a comparison, an archive, a page; and plain papermill."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import jupytext
import nbformat
import papermill
import pytest

from traindyn import parameters
from traindyn.run import archive, cli, execute, view


@pytest.fixture(scope="module")
def two(toy_sources, tmp_path_factory):
    """A run of the toy chapter at smoke, and one at another rate."""
    patch = pytest.MonkeyPatch()
    patch.setenv("TRAINDYN_ROOT", str(toy_sources))
    place = tmp_path_factory.mktemp("runs")
    for name, words in (("a", []), ("b", ["rate=0.25", "descent.steps=4"])):
        execute.execute(parameters.resolve("toy", "smoke", words), place / name)
    patch.undo()
    return place


def test_a_scorecard_in_the_terminal(toy_book, two, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.main(["report", str(two)]) == 0
    said = capsys.readouterr().out
    assert "toy, smoke  (" in said and "toy, smoke, parameters of its own" in said
    assert "contraction" in said and "holds with correction" in said and "Of 3 testable claims" in said
    assert cli.main(["report", str(two / "nowhere")]) == 2
    assert "no finished run in" in capsys.readouterr().err


def test_two_runs_side_by_side(toy_book, two, capsys):
    assert cli.main(["diff", str(two / "a"), str(two / "b")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  rate  0.5  |  0.25" in lines and "  descent.steps  3  |  4" in lines
    assert "  toy.contraction: kept: 0.5 | 0.75, 0.33 of it" in lines
    assert lines[-1].startswith("0 of 3 verdicts and 2 quantities differ")
    assert cli.main(["diff", str(two / "a"), str(two / "a")]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == ["0 of 3 verdicts and 0 quantities differ"]
    assert cli.main(["diff", str(two / "a"), str(two)]) == 2
    assert "is not a finished run" in capsys.readouterr().err


def change(run, **about):
    path = run / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | about))


def test_an_archived_run_is_finished_clean_and_says_which_data_it_read(toy_book, two, tmp_path, capsys):
    run = shutil.copytree(two / "a", tmp_path / "a")
    commit = {"commit": "abc", "changed": False}
    place = toy_book / "data" / "results" / "toy" / "smoke"
    for about, said in [
        ({"git": {"commit": None, "changed": None}}, "not made from a git checkout"),
        ({"git": {"commit": "abc", "changed": True}}, "a tree with changes"),
        ({"git": commit, "parameters_are_preset": False}, "parameters of its own"),
        ({"parameters_are_preset": True, "data": {"digits": {"draws": []}}}, "which arrays of data set 'digits'"),
        ({"data": {"digits": {"draws": [{"digest": "1f"}, {"seed": 4}]}}}, "which arrays of data set 'digits'"),
    ]:
        change(run, **about)
        assert cli.main(["archive", str(run)]) == 2
        told = capsys.readouterr().err
        assert said in told and told.count("\n") == 1 and not place.exists()
    each = [{"digest": "1f"}, {"digest": "2e"}]
    change(run, data={"digits": {"sha256": "0", "draws": []}, "patches": {"draws": each}})
    assert cli.main(["archive", str(run)]) == 0
    try:
        assert {path.name for path in place.rglob("*")} == {
            "claims.json",
            "provenance.json",
            "tables",
            "toy-descent.csv",
        }
        (run / "claims.json").unlink()
        with pytest.raises(Exception, match=r"has lost claims\.json"):
            archive.archive(run)
        assert (place / "claims.json").is_file()
    finally:
        shutil.rmtree(toy_book / "data")


def test_a_run_as_a_page_with_its_figures_inside(toy_book, two):
    path = view.write(two / "a", "toy")
    text = path.read_text()
    assert path.name == "toy.html" and "<h1>A toy chapter</h1>" in text
    assert text.count('<figure><img alt="A falling curve." src="data:image/svg+xml;base64,') == 1
    assert "Iterates of gradient descent." in text and 'id="claim-toy-contraction"' in text
    assert "<script" not in text and "http" not in text.replace("http://www.w3.org", "")


def test_hidden_code_is_not_on_the_page(two):
    book = nbformat.read(two / "a" / "toy.ipynb", as_version=4)
    for cell in book.cells:
        cell.metadata["jupyter"] = {"source_hidden": True}
    assert "Chapter(&quot;toy&quot;" not in view.page(book, two / "a", "toy")


@pytest.mark.long
def test_plain_papermill_works_on_a_chapter(toy_book, tmp_path):
    source, target = tmp_path / "toy.ipynb", tmp_path / "out.ipynb"
    jupytext.write(jupytext.read(toy_book / "chapters" / "toy" / "toy.md"), source)
    names = papermill.inspect_notebook(str(source))
    assert set(names) == set(parameters.declared(parameters.source("toy"))) and names["n_seeds"]["default"] == "3"
    command = [sys.executable, "-m", "papermill", "-p", "n_seeds", "2", "--no-progress-bar", str(source), str(target)]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    done = nbformat.read(target, as_version=4)
    said = "".join(output.get("text", "") for cell in done.cells for output in cell.get("outputs", []))
    assert "toy.contraction: undecided" in said  # two seeds, the criterion asks for three
    assert (toy_book / "_build" / "interactive" / "toy" / "claims.json").is_file()  # by hand: never taken for a run
