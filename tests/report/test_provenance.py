"""Provenance: data, environment and threads are recorded without a notebook's help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from traindyn import used
from traindyn.learn import data
from traindyn.report import provenance


def test_what_was_loaded_and_the_environment_are_in_it(monkeypatch, tmp_path):
    used.forget()
    monkeypatch.setenv("TRAINDYN_PERTURB", "1e-10")
    monkeypatch.setenv("TRAINDYN_DATA", str(tmp_path))
    data.load("digits", n_train=10, n_test=0, seed=5)
    data.load("digits", n_train=10, n_test=0, seed=5)
    about = provenance.collect(tmp_path, torch.device("cpu"), torch.float64)
    (draw,) = about["data"]["digits"]["draws"]
    assert draw["seed"] == 5 and draw["counts_train"] == [1] * 10 and len(draw["digest"]) == 64
    assert about["environment"]["TRAINDYN_PERTURB"] == "1e-10" and "TRAINDYN_DATA" not in about["environment"]
    assert about["threads"] == torch.get_num_threads()
    assert {"python", "traindyn", "torch", "mlxtend", "pillow", "scipy"} <= set(about["versions"])


def test_a_chapter_leaves_torch_as_it_was(toy_book, tmp_path):
    code = """
import torch
torch.set_num_threads(2)
torch.backends.cudnn.allow_tf32 = True
from traindyn.report.chapter import Chapter
Chapter("toy", {"seed": 7, "n_seeds": 2, "rate": 0.5, "law": "torch", "device": "cpu"})
assert torch.get_num_threads() == 2 and torch.backends.cudnn.allow_tf32
"""
    library = Path(provenance.__file__).parents[2]
    for value in ("4,2", "", "1"):
        env = {"PYTHONPATH": str(library), "TRAINDYN_ROOT": str(toy_book), "OMP_NUM_THREADS": value}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
