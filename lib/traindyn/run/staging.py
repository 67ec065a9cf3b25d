"""What Sphinx reads: prose with its generated parts, chapters with a run's outputs and the present ledger's cards.

Everything is laid out under `_build/stage/<preset>/`; a file whose bytes have not changed is not written again, so that
Sphinx reads only what has.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jupytext
import nbformat
import yaml

from traindyn import files, parameters
from traindyn.errors import InputError
from traindyn.report import cards, templating
from traindyn.run import render, results


def stage_book(book: list[results.Findings], runs: dict[str, Path], preset: str) -> tuple[Path, list[Path]]:
    """Lay out everything that Sphinx reads under `_build/stage/<preset>/`; write only what has changed.

    Args:
        book: the findings of every chapter.
        runs: the folder of every chapter's run.
        preset: the preset of the runs.

    Returns:
        The folder, and the files in it that were written or removed.
    """
    root = files.project_root()
    stage = root / "_build" / "stage" / preset
    wanted: dict[Path, bytes] = {}
    for path in (root / "book").rglob("*"):
        if not path.is_file() or "__pycache__" in path.parts:
            continue
        relative, content = path.relative_to(root), path.read_bytes()
        if path.suffix == ".md":
            text, made = render.fill(content.decode("utf-8"), book, path.stem)
            content = text.encode()
            wanted |= {relative.parent / name: one.encode() for name, one in made.items()}
        wanted[relative] = content
    wanted[Path("book/_static/cards.css")] = templating.style().encode()
    wanted[Path("_toc.yml")] = (root / "_toc.yml").read_bytes()
    wanted[Path("_config.yml")] = staged_config(root / "_config.yml", preset).encode()
    for found in book:
        run, folder = runs[found.chapter], Path("chapters") / found.chapter
        wanted[folder / f"{found.chapter}.ipynb"] = merged(found, run).encode()
        for path in [*(run / "figures").rglob("*"), *(run / "tables").rglob("*")]:
            if path.is_file():
                wanted[folder / path.relative_to(run)] = path.read_bytes()
    return stage, sync(stage, wanted)


def merged(found: results.Findings, run: Path) -> str:
    """Return a chapter's current prose with the outputs of a run, as the text of a notebook.

    Outputs that carry a marker (a claim's card, a table of verdicts, ...) are made anew from the run's evidence and the
    present ledger.

    Args:
        found: the chapter's findings, the run's first.
        run: the run's folder.

    Raises:
        InputError: the code cells are not those of the run.
    """
    prose = jupytext.read(parameters.source(found.chapter))
    executed = nbformat.read(run / f"{found.chapter}.ipynb", as_version=4)
    ours, theirs = ([c for c in book.cells if c.cell_type == "code"] for book in (prose, executed))
    if len(ours) != len(theirs):
        raise InputError(f"chapter '{found.chapter}' has changed while it was being run; make the book again")
    for cell, done in zip(ours, theirs, strict=True):
        if cell.source != done.source and not parameters.is_parameters(cell):
            raise InputError(f"chapter '{found.chapter}' has changed while it was being run; make the book again")
        cell.source, cell.outputs, cell.execution_count = done.source, done.outputs, done.execution_count
    marked = [output for cell in ours for output in cell.outputs if (output.get("metadata") or {}).get("traindyn")]
    for output in marked:
        _render_again(output, found)
    if marked:  # for the notebook that is downloaded; on the page the style sheets go before anything in a layer
        data = marked[0]["data"]
        data["text/html"] = f"<style>@layer notebook {{\n{templating.style()}}}</style>\n{data['text/html']}"
    for cell in ours:
        if "verdict" in cell.metadata.get("tags", []):
            _print_again(cell, found)
    for number, cell in enumerate(prose.cells):
        cell.id = f"cell-{number}"  # jupytext draws new ids at every reading, and Sphinx would read the page again
    return nbformat.writes(prose, version=4)


def _render_again(output: nbformat.NotebookNode, found: results.Findings) -> None:
    """Replace the body of an output that carries a marker."""
    marker = output["metadata"]["traindyn"]
    records = found.outcomes[0].records
    output["data"] = {
        "text/html": cards.shown(marker, found.claims, records),
        "text/plain": cards.plain(marker, found.claims, records),
    }


def _print_again(cell: nbformat.NotebookNode, found: results.Findings) -> None:
    """Replace the printed verdicts, which tests compare at smoke, by the present ones."""
    printed = [output for output in cell.outputs if output.output_type == "stream" and output.name == "stdout"]
    if printed:
        printed[0]["text"] = cards.text_lines(found.claims, found.outcomes[0].records) + "\n"


def staged_config(path: Path, preset: str) -> str:
    """Return the configuration of the built book: without the source's notice, and strict about missing numbers.

    Args:
        path: the source's `_config.yml`.
        preset: the preset of the runs; one that is not laptop is announced on every page.
    """
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["html"].pop("announcement", None)
    if preset != "laptop":
        config["html"]["announcement"] = (
            f"Built at the <b>{preset}</b> preset, not at the one the book is meant to be read at."
        )
    sphinx = config["sphinx"]["config"]
    sphinx["html_css_files"] = ["cards.css", *sphinx["html_css_files"]]
    kept = [kind for kind in sphinx.pop("suppress_warnings", []) if kind != "mystnb.glue"]
    if kept:
        sphinx["suppress_warnings"] = kept
    return yaml.safe_dump(config, allow_unicode=True, sort_keys=False)


def sync(stage: Path, wanted: dict[Path, bytes]) -> list[Path]:
    """Make a folder hold exactly the wanted files; return those that were written or removed."""
    changed = []
    for relative, content in wanted.items():
        path = stage / relative
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            changed.append(relative)
    for path in [path for path in stage.rglob("*") if path.is_file()]:
        relative = path.relative_to(stage)
        if relative not in wanted and "__pycache__" not in path.parts:
            path.unlink()
            changed.append(relative)
    return changed


def shared(changed: Sequence[Path]) -> bool:
    """Return whether something has changed that every page needs: a style sheet, a script, an extension.

    Sphinx copies them only when it writes a page; figures, downloads and generated tables it watches by itself.
    """
    return any(path.parts[0] == "book" and path.suffix != ".md" and "_generated" not in path.parts for path in changed)
