"""Ranges, exact versions and the environments are of one piece, and nothing in the tree points outside it."""

from __future__ import annotations

import re
import subprocess
import tomllib
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


def test_the_conda_environment_installs_through_the_same_files():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *_, pip = environment["dependencies"]
    assert pip["pip"][0] == "-c constraints.txt"
    extras = re.fullmatch(r"-e \.\[(.*)\]", pip["pip"][1]).group(1).split(",")
    assert set(extras) <= set(EXTRAS)


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
    assert costs == [{"minutes", "memory_gb"}] * 3


def tracked() -> list[Path]:
    done = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_outputs_data_or_large_files_are_committed():
    for path in tracked():
        reference = path.is_relative_to(ROOT / "tests") and path.suffix == ".npz"  # numbers of another library
        assert reference or path.suffix not in (".ipynb", ".npz", ".npy", ".pt", ".pkl", ".zip", ".gz"), path
        assert path.stat().st_size < 500_000, path
