"""Reference notebooks for nbval: the chapter as it is, its verdict cell with the committed output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat

from traindyn import files, parameters
from traindyn.errors import InputError
from traindyn.report.claims import load_ledger
from traindyn.run import execute, notebook


def reference_notebook(chapter: str, out: Path, expected: str | None = None) -> nbformat.NotebookNode:
    """Return a chapter's notebook at the smoke preset with `expected` as the output of its verdict cell.

    Args:
        chapter: the chapter's name.
        out: the folder into which the notebook writes when it runs.
        expected: the text; `chapters/<chapter>/expected.txt` if None.

    Raises:
        InputError: there is no reference, or not exactly one cell tagged `verdict`.
    """
    run = parameters.resolve(chapter, "smoke")
    out.mkdir(parents=True, exist_ok=True)
    label = {"preset": "smoke", "sizes": run.sizes, "is_preset": True, "out": str(out), "key": ""}
    book = notebook.prepare(chapter, run.parameters, label)
    cell = verdict_cell(chapter, book)
    if expected is None:
        path = parameters.source(chapter).with_name("expected.txt")
        if not path.is_file():
            raise InputError(f"chapter '{chapter}' has no expected.txt; write it with `make refs` and review it")
        expected = path.read_text(encoding="utf-8")
    cell.execution_count = 1  # nbval wants compared cells to have been run
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=expected)]
    return book


def verdict_cell(chapter: str, book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the one cell tagged `verdict`.

    Raises:
        InputError: there is not exactly one, or it is not tagged `nbval-check-output` as well.
    """
    cells = [cell for cell in book.cells if "verdict" in cell.metadata.get("tags", [])]
    if len(cells) != 1 or "nbval-check-output" not in cells[0].metadata.tags:
        raise InputError(f"chapter '{chapter}': expected exactly one cell tagged 'verdict' and 'nbval-check-output'")
    return cells[0]


def write_notebooks(say: Callable[[str], None]) -> int:
    """Write `_build/nbval/<chapter>.ipynb` for every chapter, and remove the others; return 0."""
    folder = files.project_root() / "_build" / "nbval"
    names = parameters.chapters()
    for stale in folder.glob("*.ipynb"):
        stale.unlink()
    for name in names:
        book = reference_notebook(name, folder / "runs" / name)
        files.write_text(folder / f"{name}.ipynb", nbformat.writes(book))
    say(f"wrote {len(names)} reference notebooks to {notebook.shown(folder)}")
    return 0


def _judged_otherwise(chapter: str, run: Path) -> bool:
    """Return whether a finished run was judged by other criteria than those of the present ledger."""
    then = {record["id"]: record.get("criterion_sha256") for record in files.read_json(run / "claims.json")["claims"]}
    return any(then.get(claim.id) not in (None, claim.criterion_sha256) for claim in load_ledger(chapter))


def update(say: Callable[[str], None]) -> int:
    """Rewrite every chapter's `expected.txt` from a smoke run; return 0.

    Raises:
        InputError: a verdict cell shows more than printed text, which nbval would compare as well.
    """
    for name in parameters.chapters():
        run = parameters.resolve(name, "smoke")
        out = execute.execute(run, progress=say)
        if _judged_otherwise(name, out):  # the verdict cell of a finished run has printed what its ledger said then
            out = execute.execute(run, force=True, progress=say)
        cell = verdict_cell(name, nbformat.read(out / f"{name}.ipynb", as_version=4))
        if any(output.output_type != "stream" or output.name != "stdout" for output in cell.outputs):
            raise InputError(f"chapter '{name}': the cell tagged 'verdict' has to print text and show nothing else")
        text = "".join(output.text for output in cell.outputs)
        path = parameters.source(name).with_name("expected.txt")
        files.write_text(path, text)
        say(f"{name}: wrote {notebook.shown(path)}; review the difference before you commit it")
    return 0
