"""In what setting a run judges a claim: the source's own, smaller, or a stand-in; from sizes, never said by hand.

Per experiment every key that the source prints is compared with the run. All equal, or scale at least as large: source.
A smaller scale, a lossy copy or a part of the data: smaller. Anything else that differs: stand-in. A claim has the
worst of its experiments. What the source leaves open is listed; nothing printed at all counts as source.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traindyn.errors import InputError, choose
from traindyn.files import project_root, read_toml
from traindyn.sizes import SCALE, Experiment, constants, marked

SOURCE, SMALLER, STAND_IN = WORDS = ("source", "smaller", "stand-in")


@dataclass(frozen=True)
class Difference:
    """One key in which a run differs from what the source prints.

    Attributes:
        experiment, key: whose size, or parameter.
        ours, source: both values.
        word: "smaller" or "stand-in".
    """

    experiment: str
    key: str
    ours: Any
    source: Any
    word: str


@dataclass(frozen=True)
class Setting:
    """In what setting a claim is judged.

    Attributes:
        word: "source", "smaller" or "stand-in".
        differs: the keys that make it so.
        open: keys that the source does not say.
        printed: whether the source prints anything about it.
        said: the differences as one sentence without a full stop, or "no setting printed", or empty.
    """

    word: str
    differs: tuple[Difference, ...] = ()
    open: tuple[str, ...] = ()
    printed: bool = True
    said: str = ""


@dataclass(frozen=True)
class Kin:
    """Of which data set another one consists, and whether it has less than that set: lossy pixels, or few samples."""

    of: str
    smaller: bool = False


def kin(path: Path | None = None) -> dict[str, Kin]:
    """Return the registered and shipped sets that consist of another one: {name: of what}."""
    path = path or project_root() / "data" / "registry.toml"
    if not path.is_file():
        return {}
    registry = read_toml(path)
    found = {entry["name"]: entry for entry in registry["dataset"]} | registry.get("shipped", {})
    return {
        name: Kin(entry["of"], entry.get("lossy", False) or entry.get("part", False))
        for name, entry in found.items()
        if "of" in entry
    }


def setting(
    runs: Sequence[str],
    sizes: Mapping[str, Mapping[str, Any]],
    parameters: Mapping[str, Any],
    source: Mapping[str, Mapping[str, Any]],
    models: Mapping[str, type[Experiment]],
    data_of: Mapping[str, Kin] | None = None,
) -> Setting:
    """Return in what setting a run judges a claim.

    Args:
        runs: the experiments that the claim's deciding parts read; none for a theorem.
        sizes: {experiment: {size: value}} of the run.
        parameters: of the run.
        source: {experiment: {key: what the source prints, or None}}.
        models: {experiment: its class}, which marks the keys of scale.
        data_of: as `kin` returns; the registry's if None.

    Raises:
        InputError: an experiment is unknown.
    """
    data_of = kin() if data_of is None else data_of
    differs, unsaid, printed = [], [], False
    for name in runs:
        choose("experiment", name, models)
        scale = marked(models[name], SCALE)
        run = {**parameters, **constants(models[name]), **sizes.get(name, {})}
        for key, theirs in source.get(name, {}).items():
            if theirs is None or run.get(key) is None:
                unsaid.append((name, key))
                continue
            printed = True
            word = _compare(key, run[key], theirs, key in scale, data_of)
            if word != SOURCE:
                differs.append(Difference(name, key, run[key], theirs, word))
    word = max((item.word for item in differs), key=WORDS.index, default=SOURCE)
    said = sentence(differs) if printed else "no setting printed"
    return Setting(word, tuple(differs), _names(unsaid, runs), printed, said)


def check_runs(claims: Iterable[Any], asked: Collection[str], known: Collection[str]) -> None:
    """Check that the ledger and the notebook agree on the experiments behind every claim.

    Args:
        claims: of the ledger; attributes id, kind, runs, not_testable.
        asked: experiments whose sizes the notebook asked for.
        known: experiments of the chapter.

    Raises:
        InputError: a figure or table names no experiment, or a claim names one that is unknown or was never asked for.
    """
    for claim in claims:
        if claim.not_testable:
            continue
        if claim.kind in ("figure", "table") and not claim.runs:
            raise InputError(f"claim '{claim.id}' is a {claim.kind} and has no runs; name the experiments it reads")
        for name in claim.runs:
            try:
                choose("experiment", name, known)
            except InputError as error:
                raise InputError(f"claim '{claim.id}', runs: {error}") from error
            if name not in asked:
                raise InputError(f"claim '{claim.id}' runs '{name}', but the notebook never asks ch.size('{name}')")


def sentence(differs: Sequence[Difference]) -> str:
    """Return differences in words: `mnist5k at 14x14, width 512; source: cifar10 at 32x32, width 1024`.

    Experiments that differ in the same way are told once; if they differ in different ways, each is named.
    """
    told: dict[tuple[str, str], list[str]] = {}
    for name in dict.fromkeys(item.experiment for item in differs):
        own = [item for item in differs if item.experiment == name]
        words = (
            _phrase({item.key: item.ours for item in own}),
            _phrase({item.key: item.source for item in own}),
        )
        told.setdefault(words, []).append(name)
    several = len(told) > 1
    return "; ".join(
        f"{', '.join(names) + ': ' if several else ''}{ours}; source: {theirs}"
        for (ours, theirs), names in told.items()
    )


def _compare(key: str, ours: Any, theirs: Any, scale: bool, data_of: Mapping[str, Kin]) -> str:
    if key == "data":
        return _data(ours, theirs, data_of)
    if _equal(ours, theirs) or (scale and _covers(ours, theirs)):
        return SOURCE
    return SMALLER if scale else STAND_IN


def _data(ours: Any, theirs: Any, data_of: Mapping[str, Kin]) -> str:
    if isinstance(ours, list) or isinstance(theirs, list):
        mine, printed = (value if isinstance(value, list) else [value] for value in (ours, theirs))
        words = [min((_data(own, one, data_of) for own in mine), key=WORDS.index, default=SMALLER) for one in printed]
        return max(words, key=WORDS.index, default=SOURCE)
    if ours == theirs:
        return SOURCE
    mine, printed = (data_of.get(name, Kin(name)) for name in (ours, theirs))
    if mine.of != printed.of:
        return STAND_IN
    return SMALLER if mine.smaller else SOURCE


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_equal, ours, theirs))
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        return isinstance(ours, bool) == isinstance(theirs, bool) and math.isclose(ours, theirs)
    return ours == theirs


def _covers(ours: Any, theirs: Any) -> bool:
    """Return whether something of scale is at least as large: a number, or a list that has all, or place by place."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return all(any(_equal(own, one) for own in ours) for one in theirs) or (
            len(ours) == len(theirs) and all(map(_covers, ours, theirs))
        )
    return isinstance(ours, int | float) and isinstance(theirs, int | float) and ours >= theirs


def _names(unsaid: Sequence[tuple[str, str]], runs: Sequence[str]) -> tuple[str, ...]:
    found = []
    for name, key in unsaid:
        everywhere = len(runs) == 1 or sum(other == key for _, other in unsaid) == len(set(runs))
        found.append(key if everywhere else f"{name}.{key}")
    return tuple(dict.fromkeys(found))


def _phrase(values: Mapping[str, Any]) -> str:
    rest = dict(values)
    words = []
    if "data" in rest:
        words.append(_plain(rest.pop("data")) or "no data")
        if "side" in rest:
            side = rest.pop("side")
            words[0] += f" at {side}x{side}"
    return ", ".join([*words, *(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in rest.items())])


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return (
            "(" + ", ".join(map(_plain, value)) + ")"
            if any(isinstance(v, list) for v in value)
            else (" ".join(map(_plain, value)) or "none")
        )
    return f"{value:g}" if isinstance(value, float) else str(value)
