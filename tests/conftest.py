"""What every test starts from: one thread, no display, repeatable properties, and a small book to break."""

from __future__ import annotations

import os

os.environ["MPLBACKEND"] = "Agg"  # for drawing in the tests' own process; kernels get theirs without it
os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("book", deadline=None, derandomize=True)
settings.load_profile("book")

ROOT = Path(__file__).resolve().parents[1]
HEADER = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {name: python3, display_name: Python 3, language: python}
---
"""
SIZES = """from pydantic import Field

from traindyn.sizes import Experiment


class Figure(Experiment):
    width: int = Field(gt=0)


SIZES = {"fig-1": Figure}
"""
# stands in for report.chapter, whose imports take seconds
VERDICTS = f"import json, pathlib\npathlib.Path(_run['out'], 'claims.json').write_text({json.dumps({'claims': []})!r})"


@pytest.fixture(scope="session")
def perturb():
    """The module `tests/perturb.py`."""
    spec = importlib.util.spec_from_file_location("perturb", ROOT / "tests" / "perturb.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bare_book(tmp_path, monkeypatch):
    """A project with one chapter `bare` that imports nothing; returns a function that writes its code cells."""
    folder = tmp_path / "book" / "chapters" / "bare"
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "ipython" / "profile_default", tmp_path / "book" / "ipython" / "profile_default")
    (folder / "claims.yaml").write_text("[]\n")
    (folder / "sizes.py").write_text(SIZES)
    (folder / "presets.yaml").write_text("base: {fig-1: {width: 8}}\nsmoke:\nlaptop:\npaper:\n")
    monkeypatch.setenv("TRAINDYN_ROOT", str(tmp_path / "book"))

    def write(*cells: str, prose: str = "Text.") -> Path:
        parameters = ':tags: [parameters]\n\nseed: int = 1  # the seed\ndevice: str = "cpu"  # where'
        blocks = [parameters, *cells, VERDICTS]
        text = "\n\n".join(f"```{{code-cell}} ipython3\n{block}\n```" for block in blocks)
        (folder / "bare.md").write_text(f"{HEADER}\n# Bare\n\n{prose}\n\n{text}\n")
        return tmp_path / "book"

    write()
    return write


@pytest.fixture(scope="session")
def toy_sources(tmp_path_factory):
    """The sources of a whole book whose only chapter is `tests/toy`."""
    root = tmp_path_factory.mktemp("toy")
    shutil.copytree(ROOT / "tests" / "toy" / "chapters", root / "chapters")
    shutil.copytree(ROOT / "book", root / "book", ignore=shutil.ignore_patterns("__pycache__"))
    syllabus = root / "book" / "teaching.md"  # names chapters, which this book does not have
    syllabus.write_text(re.sub(r"\{ref\}`([a-z-]+)`", r"\1", syllabus.read_text()))
    shutil.copytree(ROOT / "ipython" / "profile_default", root / "ipython" / "profile_default")
    shutil.copy(ROOT / "_config.yml", root)
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    inside = [part for part in toc["parts"] if any("chapters/" in entry["file"] for entry in part["chapters"])]
    inside[0]["chapters"] = [{"file": "chapters/toy/toy"}]
    toc["parts"] = [part for part in toc["parts"] if part not in inside[1:]]
    (root / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))
    return root


@pytest.fixture
def toy_book(toy_sources, monkeypatch):
    """The toy book as the project; what a test builds stays for the next one, what it archives does not."""
    monkeypatch.setenv("TRAINDYN_ROOT", str(toy_sources))
    yield toy_sources
    shutil.rmtree(toy_sources / "data", ignore_errors=True)
