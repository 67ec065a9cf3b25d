"""Ranges, exact versions and the environments are of one piece, and nothing in the tree points outside it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import traindyn
from traindyn import parameters

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT.get("optional-dependencies", {})
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


PINS = {canonical(line.split("==")[0]): line.split("==")[1] for line in LINES}


def test_constraints_are_exact_and_portable():
    for line in LINES:  # no index, no file, no local part such as +cpu
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line
    assert PINS["torch"] == "2.13.0"
    assert "traindyn" not in PINS


@pytest.mark.parametrize("text", [*PROJECT["dependencies"], *(item for extra in EXTRAS.values() for item in extra)])
def test_every_direct_dependency_has_a_range_and_a_pin_inside_it(text):
    requirement = Requirement(text)
    operators = {clause.operator for clause in requirement.specifier}
    assert ">=" in operators and "<" in operators, f"{text}: give the tested range"
    assert Version(PINS[canonical(requirement.name)]) in requirement.specifier


def needed_by(texts: list[str]) -> set[str]:
    """Return the names of everything that requirements bring along, as far as it is installed here."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in texts]
    while waiting:
        requirement = waiting.pop()
        for extra in requirement.extras or {""}:
            name = canonical(requirement.name)
            if f"{name}[{extra}]" in found:
                continue
            found.add(f"{name}[{extra}]")
            try:
                below = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                continue
            for one in map(Requirement, below):
                if one.marker is None or one.marker.evaluate({"extra": extra}):
                    waiting.append(one)
    return {name.split("[")[0] for name in found}


@pytest.mark.skipif(metadata.version("torch").split("+")[0] != PINS["torch"], reason="other than the pinned packages")
@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_constraints_pin_everything_that_an_extra_brings(extra):
    names = needed_by([*PROJECT["dependencies"], *EXTRAS.get(extra, [])])
    assert not names - set(PINS), "run pip freeze in a fresh environment and add these"


def test_the_makefile_and_the_environment_ask_for_the_extras_that_they_use():
    makefile = (ROOT / "Makefile").read_text()
    asked = [set(found.split(",")) for found in re.findall(r"-e '\.\[([a-z,]+)\]'", makefile)]
    assert len(asked) == 4 and all({"book", "data", "dev"} <= extras <= set(EXTRAS) for extras in asked)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_library_alone_asks_for_no_notebook_page_or_data_package():
    names = {canonical(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert not names & {canonical(Requirement(text).name) for extra in EXTRAS.values() for text in extra}
    assert not {"jupyter-book", "papermill", "ipykernel", "scikit-learn", "mlxtend", "datasets", "nbval"} & names


def test_the_lowest_versions_are_the_lower_bounds():
    spec = importlib.util.spec_from_file_location("lowest", ROOT / "tests" / "lowest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.lowest("torch>=2.4,<3") == "torch==2.4"
    with pytest.raises(ValueError, match="lower bound"):
        module.lowest("torch<3")


def test_the_conda_environment_installs_through_the_same_files():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *_, pip = environment["dependencies"]
    assert pip["pip"][0] == "-c constraints.txt"
    extras = re.fullmatch(r"-e \.\[(.*)\]", pip["pip"][1]).group(1).split(",")
    assert set(extras) == set(EXTRAS)


def test_the_version_is_one():
    assert PROJECT["version"] == traindyn.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == traindyn.__version__


def test_the_table_of_contents_names_every_chapter_and_only_those():
    listed = re.findall(r"chapters/(\w+)/\1\b", (ROOT / "_toc.yml").read_text())
    assert listed == parameters.chapters(ROOT)


@pytest.mark.parametrize("chapter", parameters.chapters(ROOT))
def test_a_chapter_has_a_ledger_presets_with_their_cost_and_a_reference(chapter):
    folder = ROOT / "chapters" / chapter
    assert {"claims.yaml", "presets.yaml", "expected.txt"} <= {path.name for path in folder.iterdir()}
    costs = [set(preset.cost) for preset in parameters.load_presets(chapter).values()]
    assert [cost - {"gpu_minutes"} for cost in costs] == [{"minutes", "memory_gb"}] * 3


def tracked() -> list[Path]:
    done = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_outputs_data_or_large_files_are_committed():
    for path in tracked():
        reference = path.is_relative_to(ROOT / "tests") and path.suffix == ".npz"  # numbers of another library
        assert reference or path.suffix not in (".ipynb", ".npz", ".npy", ".pt", ".pkl", ".zip", ".gz"), path
        # one row per claim, seed and number; tables of curves
        kept = path.name in ("evidence.csv", "claims.json") or path.parent.name == "tables"
        evidence = path.is_relative_to(ROOT / "data" / "results") and kept
        assert path.stat().st_size < (1_000_000 if evidence else 500_000), path
