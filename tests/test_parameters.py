"""Parameters are read without executing anything, and every mistake is one line that names the way out."""

from __future__ import annotations

import ast

import jupytext
import papermill
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traindyn import parameters
from traindyn.errors import InputError
from traindyn.parameters import Parameter, read_range

CELL = """
seed: int = 100       # first of the consecutive seeds
n_seeds: int = 3      # repetitions, at least 1
lr: float = 0.5       # rate in units of 2 / top eigenvalue, above 0
share: float = 0.25   # fraction kept, in [0, 1]
law: str = "torch"    # one of torch, he, xavier
widths: list[int] = [16, 32]  # hidden widths, at least 1
cap: float | None = None      # largest rate
fast: bool = False
"""
SIZES = """
from pydantic import Field, PositiveFloat
from traindyn.sizes import Experiment, Scale

class Figure(Experiment):
    width: Scale[int] = Field(gt=0, description="units")
    rates: list[PositiveFloat]
    tol: float

SIZES = {"fig-1": Figure}
"""
PRESETS = """
smoke: {cost: {minutes: 1, memory_gb: 1}, parameters: {n_seeds: 2}, sizes: {fig-1: {width: 8, rates: [0.1], tol: 1}}}
laptop: {sizes: {fig-1: {width: 16, rates: [0.1, 0.2], tol: 0.5}}}
paper: {sizes: {fig-1: {width: 64, rates: [0.1], tol: 0.5}}}
"""


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """A project with one chapter `demo`; returns a function that writes its cell and presets."""
    folder = tmp_path / "chapters" / "demo"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TRAINDYN_ROOT", str(tmp_path))

    def write(cell: str = CELL, presets: str = PRESETS, sizes: str = SIZES):
        header = "---\njupytext: {text_representation: {extension: .md, format_name: myst}}\n"
        header += "kernelspec: {name: python3, display_name: Python 3, language: python}\n---\n"
        text = f"{header}\n# Demo\n\n```{{code-cell}} ipython3\n:tags: [parameters]\n\n{cell.strip()}\n```\n"
        (folder / "demo.md").write_text(text)
        (folder / "presets.yaml").write_text(presets)
        (folder / "sizes.py").write_text(sizes)
        return folder / "demo.md"

    write()
    return write


def test_a_cell_declares_names_types_defaults_meanings_and_ranges(demo):
    found = parameters.declared(demo())
    assert list(found) == ["seed", "n_seeds", "lr", "share", "law", "widths", "cap", "fast"]
    assert found["lr"] == Parameter(
        "lr", "float", 0.5, "rate in units of 2 / top eigenvalue", "above 0", ((">", 0.0),), ()
    )
    assert found["share"].bounds == ((">=", 0.0), ("<=", 1.0))
    assert found["law"].choices == ("torch", "he", "xavier")
    assert found["cap"].type == "float | None" and found["cap"].default is None
    assert found["fast"].meaning == ""


@pytest.mark.parametrize(
    ("comment", "meaning", "bounds"),
    [
        ("a share, above 0 and below 1", "a share", {(">", 0.0), ("<", 1.0)}),
        ("steps above 0, in (0, 1]", "steps above 0", {(">", 0.0), ("<=", 1.0)}),
        ("at least 1e-3", "", {(">=", 1e-3)}),
        ("rates above the critical one, at most 2", "rates above the critical one", {("<=", 2.0)}),
        ("n / ||K(0)||", "n / ||K(0)||", set()),
    ],
)
def test_the_range_is_what_stands_at_the_end_of_the_comment(comment, meaning, bounds):
    read = read_range(comment)
    assert read[0] == meaning and set(read[2]) == bounds


def test_the_laptop_preset_is_the_notebooks_defaults(demo):
    resolved = parameters.resolve("demo", "laptop")
    assert resolved.is_preset
    assert resolved.parameters == {name: p.default for name, p in parameters.declared(demo()).items()}
    assert resolved.sizes == {"fig-1": {"width": 16, "rates": [0.1, 0.2], "tol": 0.5}}
    assert parameters.resolve("demo", "smoke").parameters["n_seeds"] == 2


def test_overrides_reach_parameters_and_sizes(demo):
    given = ["lr=1e-3", "n_seeds=5", "widths=[4, 8]", "fast=true", "law='he'", "cap=2", "fig-1.width=4", "fig-1.tol=2"]
    resolved = parameters.resolve("demo", "smoke", given)
    expected = {"lr": 1e-3, "n_seeds": 5, "widths": [4, 8], "fast": True, "law": "he", "cap": 2.0}
    assert {name: resolved.parameters[name] for name in expected} == expected
    assert isinstance(resolved.parameters["cap"], float)
    assert resolved.sizes["fig-1"] == {"width": 4, "rates": [0.1], "tol": 2.0}
    assert not resolved.is_preset
    assert parameters.resolve("demo", "smoke", {"lr": 1, "fig-1.rates": [0.5]}).parameters["lr"] == 1.0


def test_an_override_by_the_presets_own_value_is_still_the_preset(demo):
    assert parameters.resolve("demo", "laptop", ["n_seeds=3", "fig-1.width=16"]).is_preset


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("n_seed=4", ["n_seed", "did you mean 'n_seeds'"]),
        ("fig-2.width=4", ["fig-2", "did you mean 'fig-1'"]),
        ("fig-1.widht=4", ["widht", "did you mean 'width'"]),
        ("n_seeds=0", ["n_seeds", "out of range", "at least 1"]),
        ("n_seeds=true", ["n_seeds", "expected int"]),
        ("n_seeds=1.5", ["n_seeds", "expected int"]),
        ("lr=fast", ["lr", "expected float", "'fast'"]),
        ("lr=nan", ["lr", "expected float"]),
        ("lr=1e999", ["lr", "finite"]),
        ("lr=-1", ["out of range", "above 0"]),
        ("share=1.5", ["out of range", "in [0, 1]"]),
        ("law=xavir", ["xavir", "did you mean 'xavier'"]),
        ("widths=[4, 0]", ["widths", "out of range"]),
        ("fast=1", ["fast", "expected bool"]),
        ("fig-1.width=0", ["fig-1.width", "> 0"]),
        ("fig-1.width=wide", ["fig-1.width", "expected int"]),
        ("fig-1.rates=[0.1, -1]", ["fig-1.rates", "> 0"]),
        ("lr", ["name=value"]),
    ],
)
def test_a_wrong_override_is_one_clear_line(demo, override, words):
    with pytest.raises(InputError) as caught:
        parameters.resolve("demo", "smoke", [override])
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


@pytest.mark.parametrize(
    ("chapter", "preset", "word"), [("dmo", "smoke", "did you mean 'demo'"), ("demo", "smok", "did you mean 'smoke'")]
)
def test_an_unknown_chapter_or_preset_names_the_nearest(demo, chapter, preset, word):
    with pytest.raises(InputError, match=word):
        parameters.resolve(chapter, preset)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("width: 64, ", "", "fig-1.width"),
        ("width: 64", "width: wide", "paper, .fig-1.width.: expected int > 0, got .wide."),
        ("paper: {sizes: {fig-1:", "paper: {sizes: {fig-9:", "fig-"),
        ("parameters: {n_seeds: 2}", "parameters: {n_seds: 2}", "n_seeds"),
        ("parameters: {n_seeds: 2}", "parameters: {n_seeds: 0}", "out of range"),
        ("parameters: {n_seeds: 2}", "params: {n_seeds: 2}", "unknown key"),
        ("paper:", "papers:", "expected the presets"),
    ],
)
def test_presets_that_do_not_fit_together_are_refused(demo, old, new, word):
    demo(presets=PRESETS.replace(old, new))
    with pytest.raises(InputError, match=word):
        parameters.load_presets("demo")


@pytest.mark.parametrize("cell", ["seed = 3", "seed: int = 1 + len('x')", "seed: int = 'a'", "seed: complex = 1"])
def test_a_cell_that_is_not_a_list_of_typed_literals_is_refused(demo, cell):
    with pytest.raises(InputError, match="demo.md, parameters cell, line 1"):
        parameters.declared(demo(cell=cell))


@pytest.mark.parametrize("comment", ["repetitions, >= 1", "rate, > 0", "p with p = 1 for none", "share, <= 1"])
def test_a_range_with_signs_is_refused_since_papermill_would_lose_the_parameter(demo, comment):
    with pytest.raises(InputError, match="line 1: write the range of 'a' in words .*papermill"):
        parameters.declared(demo(cell=f"a: float = 0.5  # {comment}"))


def test_a_parameter_over_several_lines_is_refused(demo):
    with pytest.raises(InputError, match="'a' needs one line"):
        parameters.declared(demo(cell="a: str = (\n    'word'\n)"))


@pytest.mark.parametrize("chapter", parameters.chapters())
def test_papermills_own_reader_knows_every_parameter(chapter, tmp_path):
    path = parameters.source(chapter)
    jupytext.write(jupytext.read(path), tmp_path / "chapter.ipynb")
    known = papermill.inspect_notebook(tmp_path / "chapter.ipynb")
    declared = parameters.declared(path)
    assert list(known) == list(declared)
    for name, found in known.items():
        assert (found["inferred_type_name"], ast.literal_eval(found["default"])) == (
            declared[name].type,
            declared[name].default,
        )


@given(
    seed=st.integers(-(10**6), 10**6),
    lr=st.floats(1e-9, 1e9),
    widths=st.lists(st.integers(1, 9999), min_size=1),
    law=st.sampled_from(["torch", "he", "xavier"]),
)
def test_values_written_into_the_cell_are_read_back_and_comments_stay(seed, lr, widths, law):
    values = {"seed": seed, "lr": lr, "widths": widths, "law": law}
    text = parameters.with_values(CELL.strip(), values)
    namespace: dict = {}
    exec(text, namespace)
    assert {name: namespace[name] for name in values} == values
    comments = [line.partition("#")[2] for line in text.splitlines()]
    assert comments == [line.partition("#")[2] for line in CELL.strip().splitlines()]
