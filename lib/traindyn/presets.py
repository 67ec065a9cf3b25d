"""The file `presets.yaml`: what the presets share, what each changes, and what the source prints.

base:                                  # per experiment: sizes that the presets share
  fcn: {n: 128, depth: 5}
smoke:
  cost: {minutes: 0.5, memory_gb: 1}
  parameters: {n_seeds: 1}             # what it changes of the notebook's defaults
  sizes:
    fcn: {data: digits, n: 32}         # what it changes of, or adds to, the base
laptop: ...
paper: ...
source:                                # per experiment: what the source prints; null: it does not say
  fcn: {data: cifar10, n: 128, depth: 5, lr_ratio: 1.67}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from traindyn.errors import InputError, choose, nearest
from traindyn.files import read_yaml
from traindyn.sizes import Experiment, check_one, checked, constants

PRESETS = ("smoke", "laptop", "paper")
PARTS = ("base", *PRESETS, "source")


@dataclass(frozen=True)
class Preset:
    """One preset of a chapter: changed parameters, sizes of every experiment, expected minutes and GB of memory.

    `cost` has minutes (on one core), memory_gb and, where a preset is made for one, gpu_minutes.
    """

    parameters: Mapping[str, Any]
    sizes: Mapping[str, Mapping[str, Any]]
    cost: Mapping[str, float] = field(default_factory=dict)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Read a `presets.yaml` as it is written: {base, smoke, laptop, paper, source: mapping}.

    Raises:
        InputError: it cannot be read, is not YAML, or has other keys than these.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict) or not set(PRESETS) <= set(raw) <= set(PARTS):
        raise InputError(f"{path}: expected the presets {', '.join(PRESETS)}, and beside them base and source")
    return {name: _mapping(f"{path}: '{name}'", raw.get(name)) for name in PARTS}


def presets(
    raw: Mapping[str, Mapping[str, Any]],
    models: Mapping[str, type[Experiment]],
    validate: Callable[[Mapping[str, Any]], dict[str, Any]],
    of: str,
) -> dict[str, Preset]:
    """Return smoke, laptop and paper with the sizes of every experiment, each checked by its class.

    Args:
        raw: of `read`.
        models: {experiment: class} of the chapter.
        validate: checks parameters of the notebook.
        of: the chapter's name, for messages.

    Raises:
        InputError: an experiment is unknown or missing, or a parameter or size is unknown, missing, of the wrong type
            or out of range.
    """
    base = _experiments(raw["base"], models, f"presets.yaml of {of}, base")
    found = {}
    for name in PRESETS:
        where, entry = f"presets.yaml of {of}, {name}", raw[name]
        for key in set(entry) - {"cost", "parameters", "sizes"}:
            raise InputError(f"{where}: unknown key '{key}'; expected cost, parameters, sizes")
        parameters = validate(_mapping(f"{where}, parameters", entry.get("parameters")))
        own = _experiments(entry.get("sizes"), models, where)
        sizes = {}
        for experiment, model in models.items():
            values = base.get(experiment, {}) | own.get(experiment, {})
            for key in constants(model).keys() & values.keys():
                raise InputError(f"{where}: '{experiment}.{key}' is a constant of sizes.py; leave it out")
            sizes[experiment] = checked(model, values, experiment, where).model_dump()
        found[name] = Preset(parameters, sizes, _mapping(f"{where}, cost", entry.get("cost")))
    return found


def source(
    raw: Mapping[str, Mapping[str, Any]], models: Mapping[str, type[Experiment]], parameters: Mapping[str, Any], of: str
) -> dict[str, dict[str, Any]]:
    """Return what the source prints, per experiment: {key: value, or None where it does not say}.

    Args:
        raw, models, of: as in `presets`.
        parameters: {name: declared parameter with `check`} of the notebook.

    Raises:
        InputError: a key is neither a size of its experiment nor a parameter, or a value does not fit its type.
    """
    where = f"presets.yaml of {of}, source"
    found = _experiments(raw["source"], models, where)
    for experiment, values in found.items():
        fields = models[experiment].model_fields
        for key, value in values.items():
            if key not in fields and key not in parameters:
                close = nearest(key, [*fields, *parameters])
                raise InputError(f"{where}: '{experiment}.{key}' is neither a size nor a parameter{close}")
            if value is None:
                continue
            if key in fields:
                check_one(models[experiment], key, value, experiment, where)
            else:
                values[key] = parameters[key].check(value)
    return found


def _experiments(entry: Any, models: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    found = {name: _mapping(f"{where}, '{name}'", value) for name, value in _mapping(where, entry).items()}
    for name in found:
        try:
            choose("experiment", name, models)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    return found


def _mapping(where: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise InputError(f"{where}: expected a mapping, got {value!r}")
    return dict(value or {})
