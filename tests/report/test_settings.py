"""A setting follows from sizes: the source's own, smaller, or a stand-in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Literal

import pytest
from pydantic import Field

from traindyn import parameters
from traindyn.errors import InputError
from traindyn.report.settings import Kin, check_runs, kin, setting
from traindyn.sizes import Experiment, Scale


class Fcn(Experiment):
    data: str
    classes: list[int]
    side: Scale[int] = Field(gt=0)
    n: Scale[int] = Field(gt=0)
    net: Literal["fcn"] = "fcn"
    depth: int
    width: Scale[int]
    widths: Scale[list[int]] = [64, 256]


class Cnn(Fcn):
    net: Literal["cnn"] = "cnn"


MODELS = {"fcn": Fcn, "cnn": Cnn, "own": Fcn}
SIZES = {"data": "cifar10", "classes": [7, 9], "side": 32, "n": 128, "depth": 5, "width": 1024}
PARAMETERS = {"lr_ratio": 1.67, "bias": "none"}
SOURCE = {
    "fcn": {**SIZES, "net": "fcn", "lr_ratio": 1.67, "bias": None},
    "cnn": {**SIZES, "net": "cnn", "width": 512, "depth": 5},
    "own": {"n": None, "bias": None},
}
DATA = {"cifar10_lossless4k": Kin("cifar10"), "cifar10_full_jpeg": Kin("cifar10", True), "mnist5k": Kin("mnist", True)}


def of(runs=("fcn",), parameters=PARAMETERS, source=SOURCE, cnn=None, **changes):
    sizes = {"fcn": SIZES | changes, "cnn": SIZES | {"width": 512} | (cnn or {}), "own": SIZES}
    return setting(runs, sizes, parameters, source, MODELS, DATA)


def test_the_sources_own_setting_lists_what_is_open():
    found = of()
    assert (found.word, found.differs, found.open, found.said) == ("source", (), ("bias",), "")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"data": "cifar10_lossless4k"}, "source"),
        ({"width": 4096, "n": 500}, "source"),
        ({"width": 512}, "smaller"),
        ({"side": 16}, "smaller"),
        ({"data": "cifar10_full_jpeg"}, "smaller"),
        ({"data": "mnist5k"}, "stand-in"),
        ({"depth": 6}, "stand-in"),
        ({"classes": [0, 1]}, "stand-in"),
        ({"width": 512, "depth": 4}, "stand-in"),
    ],
)
def test_scale_may_be_smaller_and_everything_else_must_be_equal(changes, word):
    found = of(**changes)
    assert found.word == word and {item.key for item in found.differs} <= set(changes)


def test_a_parameter_of_ones_own_is_another_setting():
    assert of(parameters=PARAMETERS | {"lr_ratio": 2.0}).word == "stand-in"
    assert of(parameters=PARAMETERS | {"bias": "zero"}).word == "source"


def test_the_stand_in_is_told_by_the_keys_that_differ():
    found = of(data="mnist5k", side=14, width=512)
    assert found.word == "stand-in"
    assert found.said == "mnist5k at 14x14, width 512; source: cifar10 at 32x32, width 1024"


def test_a_claim_has_the_worst_of_its_runs_and_names_those_that_differ():
    found = of(("fcn", "cnn"), cnn={"data": "mnist5k", "width": 64}, width=512)
    assert found.word == "stand-in" and [item.word for item in found.differs] == ["smaller", "stand-in", "smaller"]
    assert found.said == "fcn: width 512; source: width 1024; cnn: mnist5k, width 64; source: cifar10, width 512"
    assert found.open == ("fcn.bias",)


@pytest.mark.parametrize("runs", [(), ("own",)])
def test_nothing_printed_is_the_sources_setting(runs):
    found = of(runs)
    assert (found.word, found.printed, found.said) == ("source", False, "no setting printed")
    assert found.open == (("n", "bias") if runs else ())


@pytest.mark.parametrize(
    ("ours", "word"), [([64, 256], "source"), ([64, 256, 1024], "source"), ([64], "smaller"), ([64, 512], "source")]
)
def test_a_list_of_scale_is_compared_place_by_place_or_by_what_it_contains(ours, word):
    assert of(source={"fcn": {"widths": [64, 256]}}, widths=ours).word == word


def test_a_constant_is_compared_although_no_preset_has_it():
    assert of(source={"fcn": {"net": "resnet18"}}).word == "stand-in"


def test_sets_of_several_names_are_compared_one_by_one():
    class Many(Experiment):
        data: list[str]

    def word(names):
        printed = {"many": {"data": ["cifar10", "mnist"]}}
        return setting(["many"], {"many": {"data": names}}, {}, printed, {"many": Many}, DATA).word

    assert word(["mnist", "cifar10_lossless4k"]) == "source"
    assert word(["mnist5k", "cifar10"]) == "smaller" and word([]) == "smaller"
    assert word(["digits", "cifar10"]) == "stand-in"


def test_the_registry_says_what_a_set_consists_of():
    known = kin()
    assert known["cifar10_lossless4k"] == Kin("cifar10") and known["cifar10_full_jpeg"] == Kin("cifar10", True)
    assert known["mnist5k"] == Kin("mnist", True) and "cifar10" not in known


def claim(kind="figure", runs=("fcn",), not_testable=None):
    return SimpleNamespace(id="toy.one", kind=kind, runs=runs, not_testable=not_testable)


def test_the_ledger_and_the_notebook_agree_on_the_experiments():
    check_runs([claim(), claim("theorem", ()), claim(runs=(), not_testable="a list of slips")], {"fcn"}, MODELS)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (claim(runs=()), "'toy.one' is a figure and has no runs"),
        (claim("table", ()), "'toy.one' is a table and has no runs"),
        (claim(runs=("cnn",)), "never asks ch.size('cnn')"),
        (claim(runs=("fcnn",)), "did you mean 'fcn'"),
    ],
)
def test_a_claim_without_its_experiments_is_refused(wrong, words):
    with pytest.raises(InputError) as caught:
        check_runs([wrong], {"fcn"}, MODELS)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("chapter", parameters.chapters())
@pytest.mark.parametrize("preset", ["smoke", "laptop", "paper"])
def test_every_chapter_has_a_setting_for_each_of_its_experiments(chapter, preset):
    resolved = parameters.resolve(chapter, preset)
    source = parameters.source_settings(chapter)
    models = parameters.models(chapter)
    for name in models:
        found = setting([name], resolved.sizes, resolved.parameters, source, models)
        assert (
            found.word in ("source", "smaller", "stand-in")
            and (found.said == "") == (found.word == "source")
            or (not found.printed)
        )
