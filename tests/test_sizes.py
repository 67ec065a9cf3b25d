"""Sizes are typed once, read without torch, and every mistake names experiment, key and range in one line."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated, Literal

import pytest
from pydantic import Field, PositiveInt

from traindyn import parameters, presets, sizes
from traindyn.errors import InputError
from traindyn.sizes import DEFINITION, SCALE, Definition, Experiment, Scale


class Fcn(Experiment):
    data: str
    n: Scale[int] = Field(gt=0, description="samples")
    widths: Scale[list[PositiveInt]] = Field(min_length=1)
    share: float = Field(ge=0, le=1)
    spike: Definition[float] = Field(gt=0)
    classes: list[int | str] = [7, 9]
    kind: Literal["a", "b"]
    cap: float | None = None
    net: Literal["fcn"] = "fcn"


GOOD = {"data": "cifar10", "n": 128, "widths": [64, 256], "share": 0.5, "spike": 0.1, "kind": "a"}
WHERE = "presets.yaml of toy, laptop"


def test_sizes_are_attributes_of_a_frozen_object():
    found = sizes.checked(Fcn, GOOD, "fcn", WHERE)
    assert (found.n, found.net, found.cap) == (128, "fcn", None)
    with pytest.raises(Exception, match="frozen"):
        found.n = 3
    other = found.changed(n=64)
    assert (found.n, other.n) == (128, 64) and vars(other).keys() == vars(found).keys()
    with pytest.raises(InputError, match=r"'Fcn.n': expected int > 0, got 0"):
        found.changed(n=0)
    with pytest.raises(InputError, match=r"unknown size 'Fcn.m'"):
        found.changed(m=1)


def test_marks_and_constants_are_known():
    assert sizes.marked(Fcn, SCALE) == ["n", "widths"] and sizes.marked(Fcn, DEFINITION) == ["spike"]
    assert sizes.constants(Fcn) == {"net": "fcn"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": -3}, f"{WHERE}, 'fcn.n': expected int > 0, got -3"),
        ({"n": 1.0}, f"{WHERE}, 'fcn.n': expected int > 0, got 1.0"),
        ({"n": True}, f"{WHERE}, 'fcn.n': expected int > 0, got True"),
        ({"n": "12"}, f"{WHERE}, 'fcn.n': expected int > 0, got '12'"),
        ({"n": None}, f"{WHERE}, 'fcn.n': expected int > 0, got None"),
        ({"widths": [64, 0]}, f"{WHERE}, 'fcn.widths': expected list[int > 0] of at least 1, got 0 at position 1"),
        ({"widths": []}, f"{WHERE}, 'fcn.widths': expected list[int > 0] of at least 1, got []"),
        ({"share": 2}, f"{WHERE}, 'fcn.share': expected float >= 0 and <= 1, got 2"),
        ({"share": float("nan")}, f"{WHERE}, 'fcn.share': expected float >= 0 and <= 1, got nan"),
        ({"kind": "c"}, f"{WHERE}, 'fcn.kind': expected one of a, b, got 'c'"),
        ({"net": "cnn"}, f"{WHERE}, 'fcn.net': is always 'fcn' in this experiment, got 'cnn'"),
        ({"wdths": [1]}, f"{WHERE}: unknown size 'fcn.wdths' (did you mean 'widths'?)"),
    ],
)
def test_a_mistake_is_one_line_that_names_experiment_key_and_range(changes, message):
    with pytest.raises(InputError) as caught:
        sizes.checked(Fcn, GOOD | changes, "fcn", WHERE)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_a_missing_size_is_named_with_what_it_takes():
    with pytest.raises(InputError, match="'fcn.n' is missing; expected int > 0"):
        sizes.checked(Fcn, {key: GOOD[key] for key in GOOD if key != "n"}, "fcn", WHERE)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("n", "256", 256),
        ("share", "1e-3", 1e-3),
        ("widths", "[64, 256]", [64, 256]),
        ("widths", "64", [64]),
        ("widths", "64, 256", [64, 256]),
        ("classes", "[cat, 3]", ["cat", 3]),
        ("data", "mnist5k", "mnist5k"),
        ("data", "'007'", "007"),
        ("kind", "b", "b"),
        ("cap", "none", None),
    ],
)
def test_what_a_person_types_becomes_a_value(key, text, value):
    found = sizes.from_text(Fcn, key, text)
    assert found == value and getattr(sizes.checked(Fcn, GOOD | {key: found}, "fcn", WHERE), key) == value


def test_a_range_that_does_not_fit_its_type_is_told_by_class():
    class Names(Experiment):
        data: list[str] = Field(gt=0)

    with pytest.raises(InputError, match="class Names: Unable to apply constraint 'gt'"):
        sizes.checked(Names, {"data": ["digits"]}, "names", WHERE)


def test_annotations_inside_lists_are_spelt_out():
    class Pairs(Experiment):
        pairs: list[Annotated[float, Field(gt=0, lt=1)]]

    assert sizes.expected(Pairs, "pairs") == "list[float > 0 and < 1]"


def test_importing_the_sizes_of_every_chapter_needs_neither_torch_nor_numpy():
    code = (
        "import sys, time; start = time.perf_counter(); from pathlib import Path; from traindyn import sizes\n"
        "first = time.perf_counter() - start\n"
        "assert all(sizes.models(Path(folder)) for folder in sys.argv[1:])\n"
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)\nprint(first)"
    )
    folders = [str(parameters.source(chapter).parent) for chapter in parameters.chapters()]
    done = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SIZES = {'a': int}", "expected SIZES"),
        ("x = 1", "expected SIZES"),
        ("SIZES = {", "SyntaxError"),
        ("import nothing_like_it", "ModuleNotFoundError"),
    ],
)
def test_a_sizes_file_that_cannot_be_used_is_told_in_one_line(tmp_path, text, words):
    assert sizes.models(tmp_path) == {}
    (tmp_path / "sizes.py").write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        sizes.models(tmp_path)
    assert "\n" not in str(caught.value) and not (tmp_path / "__pycache__").exists()


def raw(**changes):
    base = {"fcn": {key: value for key, value in GOOD.items() if key != "n"}}
    each = {name: {"sizes": {"fcn": {"n": n}}} for name, n in (("smoke", 8), ("laptop", 64), ("paper", 128))}
    return {"base": base, **each, "source": {}} | changes


def test_a_preset_is_the_base_with_its_changes():
    found = presets.presets(raw(), {"fcn": Fcn}, dict, "toy")
    assert [found[name].sizes["fcn"]["n"] for name in presets.PRESETS] == [8, 64, 128]
    assert found["paper"].sizes["fcn"]["widths"] == [64, 256] and found["paper"].sizes["fcn"]["net"] == "fcn"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"smoke": {}}, "presets.yaml of toy, smoke: 'fcn.n' is missing"),
        ({"laptop": {"sizes": {"fcn": {"n": 0}}}}, "presets.yaml of toy, laptop, 'fcn.n': expected int > 0, got 0"),
        ({"laptop": {"sizes": {"fcnn": {}}}}, "presets.yaml of toy, laptop: unknown experiment 'fcnn'"),
        ({"paper": {"sizes": {"fcn": {"net": "fcn"}}}}, "'fcn.net' is a constant of sizes.py; leave it out"),
        ({"paper": {"size": {}}}, "unknown key 'size'"),
        ({"base": {"fcn": 3}}, "presets.yaml of toy, base, 'fcn': expected a mapping"),
    ],
)
def test_presets_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(InputError) as caught:
        presets.presets(raw(**changes), {"fcn": Fcn}, dict, "toy")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_source_says_sizes_constants_and_parameters_and_null_where_it_is_silent():
    known = {"rate": parameters.Parameter("rate", "float", 0.5, bounds=((">", 0.0),), range="above 0")}
    printed = {"fcn": {"n": 512, "net": "resnet18", "rate": 2, "widths": None}}
    found = presets.source(raw(source=printed), {"fcn": Fcn}, known, "toy")
    assert found == printed and isinstance(found["fcn"]["rate"], float)


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        ({"fcn": {"width": 3}}, "source: 'fcn.width' is neither a size nor a parameter (did you mean 'widths'?)"),
        ({"fcn": {"n": "many"}}, "source, 'fcn.n': expected int > 0, got 'many'"),
        ({"fcn": {"net": 3}}, "source, 'fcn.net': expected str, got 3"),
        ({"fcm": {"n": 3}}, "source: unknown experiment 'fcm' (did you mean 'fcn'?)"),
        ({"fcn": {"rate": -1}}, "out of range; expected above 0"),
    ],
)
def test_a_source_that_does_not_fit_is_refused(printed, words):
    known = {"rate": parameters.Parameter("rate", "float", 0.5, bounds=((">", 0.0),), range="above 0")}
    with pytest.raises(InputError) as caught:
        presets.source(raw(source=printed), {"fcn": Fcn}, known, "toy")
    assert words in str(caught.value) and "\n" not in str(caught.value)
