"""The book as a whole: executed, staged, built, and built again without executing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from traindyn import files
from traindyn.errors import InputError
from traindyn.run import book, cli


def test_a_chapter_in_the_contents_that_is_not_there_is_an_error(toy_book, monkeypatch, tmp_path):
    (tmp_path / "chapters").mkdir()
    (tmp_path / "_toc.yml").write_text((toy_book / "_toc.yml").read_text())
    monkeypatch.setenv("TRAINDYN_ROOT", str(tmp_path))
    with pytest.raises(InputError, match="_toc.yml names chapters/toy/toy"):
        book.listed_chapters()


def test_a_failing_chapter_stops_the_book_and_is_named(bare_book, capfd):
    root = bare_book("1 / 0")
    (root / "_toc.yml").write_text("chapters:\n  - file: chapters/bare/bare\n")
    command = [sys.executable, "-m", "traindyn.run.cli", "book", "--preset", "smoke"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr and "the book was not built: bare failed" in done.stderr
    assert not (root / "_build" / "smoke").exists()


def test_two_books_at_one_preset_at_once_one_is_told(bare_book, capsys):
    root = bare_book()
    (root / "_toc.yml").write_text("chapters:\n  - file: chapters/bare/bare\n")
    (root / "_build").mkdir()
    other = (
        "import sys, time\nfrom traindyn import files\n"
        "with files.locked(sys.argv[1], 'making the book'):\n print('held', flush=True)\n time.sleep(600)"
    )
    lock = root / "_build" / ".book-smoke.lock"
    process = subprocess.Popen([sys.executable, "-c", other, str(lock)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        assert cli.main(["book", "--preset", "smoke"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and f"process {process.pid}" in said and "preset smoke" in said
    finally:
        process.kill()
        process.communicate()
    assert lock.exists()  # of a dead process: the next one takes it
    with files.locked(lock, "making the book"):
        pass
    assert list((root / "_build").iterdir()) == []


def test_the_toy_book_is_built_whole_and_again_without_executing(toy_book, capsys, monkeypatch):
    """Execution, staging, generated pages, Sphinx with warnings as errors; then a change of prose alone."""
    assert book.make("smoke", 1, print) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 of 3 verdicts differ from the recorded ones."
    site = book.site("smoke")
    page = (site / "chapters" / "toy" / "toy.html").read_text()
    assert 'id="toy-contraction"' in page and "<figure" in page and "verdict-holds" in page
    assert (site / "_static" / "mathjax" / "tex-chtml.js").is_file()
    assert "toy.html#toy-slip" in (site / "book" / "errata.html").read_text()
    assert list(site.rglob("toy-descent.csv"))
    source = toy_book / "chapters" / "toy" / "toy.md"
    before = source.read_text()
    claims = toy_book / "chapters" / "toy" / "claims.yaml"
    record = claims.read_text()
    style = toy_book / "book" / "_static" / "book.css"
    look = style.read_text()
    try:
        source.write_text(before.replace("The smallest chapter", "The tiniest chapter"))
        claims.write_text(record.replace("{smoke: holds,", "{smoke: fails,"))
        assert book.make("smoke", 1, print) == 0
        said = capsys.readouterr().out
        assert "1 of 1 chapters have not changed" in said
        assert said.splitlines()[-2:] == [
            "  toy.contraction: expected fails, came out as holds",
            "1 of 3 verdicts differ from the recorded ones.",
        ]
        assert "The tiniest chapter" in (site / "chapters" / "toy" / "toy.html").read_text()
        assert book.verify("smoke", 1, print) == 1
        style.write_text(look + "/* changed */\n")  # no page changes with it
        assert book.make("smoke", 1, print) == 0
        assert "/* changed */" in (site / "_static" / "book.css").read_text()
    finally:
        source.write_text(before)
        claims.write_text(record)
        style.write_text(look)
    assert json.loads((toy_book / "_build/runs/toy/smoke/provenance.json").read_text())["preset"] == "smoke"
