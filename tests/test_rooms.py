"""The rooms of the library: learn, measure and report never import one another; studies stand above, run on top."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import traindyn

PACKAGE = Path(traindyn.__file__).parent
GROUND = {
    "compute",
    "errors",
    "evidence",
    "files",
    "forward_pass",
    "layers",
    "losses",
    "parameters",
    "presets",
    "sizes",
    "used",
}
MAY_IMPORT = {
    "learn": GROUND | {"learn"},
    "measure": GROUND | {"measure"},
    "report": GROUND | {"report"},
    "studies": GROUND | {"learn", "measure", "studies"},
    "run": GROUND | {"learn", "measure", "report", "run"},
    **{name: GROUND for name in GROUND},
}
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path != Path("__init__.py"))


def imports(path: Path) -> set[str]:
    """Return the dotted names inside traindyn that a module imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "traindyn"):
            assert not node.level, f"{path}: relative import in line {node.lineno}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "traindyn"}
    return found


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_imports_only_from_below(path):
    room = path.parts[0].removesuffix(".py")
    drawn = {"report"} if room == "studies" and path.stem == "figures" else set()
    for name in imports(path):
        target = name.split(".")[1] if "." in name else ""
        if target in ("__version__", ""):
            continue
        assert target in MAY_IMPORT[room] | drawn, f"{path} imports {name}"


def test_studies_of_one_chapter_do_not_import_those_of_another():
    for path in MODULES:
        if path.parts[0] == "studies":
            others = [name for name in imports(path) if name.startswith("traindyn.studies.")]
            assert all(name.split(".")[2] == path.parts[1] for name in others), path
