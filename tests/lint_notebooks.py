"""Lint the code cells of the chapters: ruff passes over Markdown without a word, so they are converted first.

A cell has at most 15 lines: what is longer belongs in the library.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import jupytext

ROOT = Path(__file__).resolve().parents[1]
LINES = 15


def main() -> int:
    """Write every chapter as a notebook under `_build/lint/` and run ruff there; return its exit status."""
    folder = ROOT / "_build" / "lint"
    folder.mkdir(parents=True, exist_ok=True)
    names, long = [], 0
    for path in sorted((ROOT / "chapters").glob("*/*.md")):
        book = jupytext.read(path)
        if "kernelspec" in book.metadata:
            names.append(str(folder / f"{path.parent.name}-{path.stem}.ipynb"))
            if path.stem == "assignment":  # a release has numbers in these places, and its answers stand alone
                for cell in book.cells:
                    cell.source = re.sub(r"\[\[\w+\]\]", "1", cell.source)
                jupytext.write(book, names[-1])
                continue
            jupytext.write(book, names[-1])
            for cell in book.cells:
                count = sum(bool(line.strip()) for line in cell.source.splitlines())
                if cell.cell_type == "code" and count > LINES:
                    print(f"{path.relative_to(ROOT)}: a cell of {count} lines, more than {LINES}: {cell.source[:60]!r}")
                    long += 1
    if not names:
        return 0
    command = [str(Path(sys.executable).with_name("ruff")), "check", "--config", str(ROOT / "pyproject.toml")]
    # imports stand in the first cells, after the parameters; a bare name at the end of a cell shows it
    return subprocess.run([*command, "--ignore", "E402,B018", *names]).returncode or int(bool(long))


if __name__ == "__main__":
    sys.exit(main())
