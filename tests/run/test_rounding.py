"""The printed digits of the verdict cells survive rounding: initial weights moved by a relative 1e-10 change none."""

import difflib

import nbformat
import pytest

from traindyn import files, parameters
from traindyn.run import execute, nbval, notebook


@pytest.mark.long
@pytest.mark.parametrize("chapter", parameters.chapters())
def test_verdict_cells_survive_a_relative_change_of_1e_10(chapter, tmp_path, monkeypatch, perturb):
    expected = parameters.source(chapter).with_name("expected.txt").read_text(encoding="utf-8")
    quiet = notebook.kernel_environment
    moved = perturb.profile(files.project_root() / "ipython", tmp_path / "ipython", 1e-10)
    monkeypatch.setattr(notebook, "kernel_environment", lambda root: {**quiet(root), "IPYTHONDIR": str(moved)})
    out = execute.execute(parameters.resolve(chapter, "smoke"), tmp_path / "run")
    book = nbformat.read(out / f"{chapter}.ipynb", as_version=4)
    (output,) = nbval.verdict_cell(chapter, book).outputs
    changed = [line for line in difflib.unified_diff(expected.splitlines(), output.text.splitlines(), n=0, lineterm="")]
    assert not changed, "\n".join(changed)
