"""The library stands without notebooks, Sphinx and data packages, and has every name that the design promises."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import traindyn
from traindyn.errors import EXTRAS, InputError, import_extra, lacking

# module -> names that other code may rely on; add, do not rename
PROMISED = {
    "traindyn.learn.models": ["FCN", "CNN", "Myrtle5", "WideResNet", "ViT", "ResNet18", "TwoLayer"],
    "traindyn.learn.models.dag": ["DagNet", "densenet"],
    "traindyn.learn.models.taylor": ["linearize", "quadratize"],
    "traindyn.learn.models.quadratic": ["QuadraticModel", "NQM"],
    "traindyn.learn.data": ["load", "Dataset", "polynomial", "parity", "sphere", "teacher"],
    "traindyn.learn.train": ["fit", "Probe", "Run", "State"],
    "traindyn.measure.ntk": ["empirical_ntk"],
    "traindyn.measure.kernels": [],
    "traindyn.measure.lanczos": [],
    "traindyn.measure.probes": [],
    "traindyn.measure.ode": [],
    "traindyn.measure.spectrum": [
        "top_eigs", "split_loss", "critical_lr", "batch_critical_lr", "times_critical", "ntk_top_eig",
        "hessian_top_eig",
    ],
    "traindyn.measure.agop": ["agop", "alignment"],
    "traindyn.measure.elasticity": ["s_rel", "s_rel_kl", "s_rel_smoothed"],
    "traindyn.measure.teacher": ["correlation", "mixing"],
    "traindyn.report.chapter": ["Chapter"],
    "traindyn.report.plots": [],
    "traindyn.compute": ["pick_device", "generator", "memory_budget"],
    "traindyn.losses": [],
    "traindyn.layers": ["activations"],
    "traindyn.parameters": ["resolve"],
}  # fmt: skip
PARAMETERS = {
    ("traindyn.learn.models", "FCN"): "in_dim width depth out_dim activation parameterization bias output_bias "
    "init_std generator",
    ("traindyn.learn.models", "TwoLayer"): "in_dim width train scaling",
    ("traindyn.learn.data", "load"): "name classes n_train n_test seed labels scale size flatten dtype device root",
    ("traindyn.learn.train", "fit"): "model X y loss optimizer lr schedule batch_size replacement steps stop probes "
    "seeds vary dtype device progress",
    ("traindyn.measure.ntk", "empirical_ntk"): "model X X2 params method outputs chunk",
    ("traindyn.measure.elasticity", "s_rel"): "model x_prime x y lr loss",
}  # fmt: skip
METHODS = ["generator", "size", "card", "save", "figure", "check", "verdicts", "verdict_text"]
OTHERS = {"sphinx", "jupyter_book", "jupyter_core", "sphinx_proof", "pyarrow"}
ABSENT = sorted({*EXTRAS, *OTHERS} - {"PIL"})  # matplotlib brings PIL
BLOCK = """
import importlib, importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.mark.parametrize("module", PROMISED)
def test_every_name_that_the_design_prints_is_there(module):
    found = importlib.import_module(module)
    for name in PROMISED[module]:
        assert hasattr(found, name), f"{module}.{name}"


@pytest.mark.parametrize(("place", "names"), PARAMETERS.items(), ids=lambda value: str(value[-1]) if value else "")
def test_parameters_have_the_promised_names(place, names):
    module, name = place
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    assert set(names.split()) <= set(signature.parameters)


def test_a_chapter_has_the_promised_methods():
    from traindyn.report.chapter import Chapter

    assert all(callable(getattr(Chapter, name, None)) for name in METHODS)


def blocked(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process in which the modules of the extras cannot be found."""
    env = {"PYTHONPATH": str(Path(traindyn.__file__).parents[1]), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    text = BLOCK.format(absent=set(ABSENT)) + code
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=env)


def test_all_of_the_library_imports_without_the_extras():
    code = """
import pkgutil, traindyn
for info in pkgutil.walk_packages(traindyn.__path__, "traindyn."):
    if not info.name.startswith("traindyn.run."):
        importlib.import_module(info.name)
import traindyn.run.cli
import torch
from traindyn.learn import models, train, data
from traindyn.measure.ntk import empirical_ntk
model = models.FCN(3, 8, 2)
X = torch.randn(5, 3)
assert empirical_ntk(model, X).shape == (5, 5)
train.fit(model, X, torch.zeros(5), lr=0.1, steps=2, progress=False)
from traindyn.errors import InputError
for call in (lambda: data.load("digits"), lambda: data.load("mnist5k"), lambda: data.load("patches")):
    try:
        call()
    except InputError as error:
        print(error)
"""
    done = blocked(code)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and all("needs the extra [data]" in line for line in lines), done.stdout


@pytest.mark.parametrize(
    ("words", "extra"), [(["run", "elasticity", "--preset", "smoke"], "book"), (["list"], "book"), (["book"], "book")]
)
def test_a_command_that_needs_an_extra_says_which_in_one_line(words, extra):
    done = blocked(f"from traindyn.run import cli\nsys.exit(cli.main({words!r}))")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and f"pip install -e '.[{extra}]'" in done.stderr, done.stderr


def test_a_module_that_no_extra_brings_is_named():
    assert "extra" not in str(lacking("nothing_like_it"))
    with pytest.raises(InputError, match="'nothing_like_it', which is not installed"):
        import_extra("nothing_like_it")
