"""The sources themselves are a Jupyter Book: a plain build executes nothing, and warnings are errors."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_plain_jupyter_book_build_of_the_sources_passes_without_executing(tmp_path):
    for name in ("book", "chapters"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, tmp_path)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", ".", "-W", "-n", "--keep-going"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, re.sub(r"\x1b\[[0-9;]*m", "", done.stderr)
    page = (tmp_path / "_build" / "html" / "book" / "scorecard.html").read_text()
    assert "make book" in page and "nothing was executed" in page
