"""nbval passes on the verdicts that a chapter computes and fails on one that was altered."""

from __future__ import annotations

import shutil
import subprocess
import sys

import nbformat
import pytest

from traindyn.errors import InputError
from traindyn.run import cli, nbval, notebook

CELL = ":tags: [verdict, nbval-check-output]\n\nprint('bare.first: holds')\nprint('    gap = 0.25')"


def test_a_written_reference_passes_and_an_altered_verdict_fails(bare_book):
    book = bare_book(CELL)
    assert cli.main(["nbval", "--update"]) == 0
    text = (book / "chapters" / "bare" / "expected.txt").read_text()
    assert text == "bare.first: holds\n    gap = 0.25\n"
    assert cli.main(["nbval"]) == 0
    folder = book / "_build" / "nbval"
    altered = nbval.reference_notebook("bare", folder / "runs" / "bare", text.replace("holds", "fails"))
    nbformat.write(altered, folder / "altered.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]
    with notebook.environment(notebook.kernel_environment(book)):
        done = subprocess.run([*command, str(folder)], capture_output=True, text=True, cwd=book)
    assert done.returncode == 1, done.stdout
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 1 and "altered.ipynb" in failed[0], done.stdout
    assert "bare.first: fails" in done.stdout and "bare.first: holds" in done.stdout


def test_a_chapter_without_reference_or_verdict_cell_is_an_error(bare_book, capsys):
    book = bare_book()
    (book / "chapters" / "bare" / "expected.txt").write_text("")
    assert cli.main(["nbval"]) == 2
    assert "exactly one cell tagged 'verdict'" in capsys.readouterr().err
    bare_book(":tags: [verdict, nbval-check-output]\n\nprint(1)")
    (book / "chapters" / "bare" / "expected.txt").unlink()
    with pytest.raises(InputError, match="make refs"):
        nbval.reference_notebook("bare", book / "out")


def test_a_verdict_cell_that_shows_more_than_text_is_an_error(bare_book, capsys):
    bare_book(CELL + "\n1")
    assert cli.main(["nbval", "--update"]) == 2
    assert "has to print text and show nothing else" in capsys.readouterr().err


def test_a_reference_is_judged_by_the_present_ledger(toy_book, tmp_path, monkeypatch):
    """A changed criterion leaves the finished smoke run as it is; its verdict cell would be out of date."""
    root = shutil.copytree(toy_book, tmp_path / "book")  # other tests read the toy book's own run
    monkeypatch.setenv("TRAINDYN_ROOT", str(root))
    ledger, reference = root / "chapters/toy/claims.yaml", root / "chapters/toy/expected.txt"
    assert cli.main(["nbval", "--update"]) == 0
    text, test = reference.read_text(), "abs(ratio - kept) < 1e-12"
    assert test in ledger.read_text()
    ledger.write_text(ledger.read_text().replace(test, "abs(ratio - kept) > 1e-12"))
    assert cli.main(["nbval", "--update"]) == 0
    assert reference.read_text() != text and reference.read_text().count("fails") == text.count("fails") + 1
