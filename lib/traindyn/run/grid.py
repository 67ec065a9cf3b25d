"""What a person writes for parameters: values by their declared types, lists, ranges, files; and grids of these.

`width=64,128` are two values, `seed=200:260:10` are 200, 210, ..., 250 (the end is left out, as in Python). A parameter
that is itself a list takes brackets where it is swept: `rates=[0.1,0.2],[0.3]`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traindyn import files, parameters, sizes
from traindyn.errors import InputError
from traindyn.parameters import Resolved

MOST = 100_000
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER})(?::({_NUMBER}))?")


@dataclass(frozen=True)
class Grid:
    """The points of a sweep.

    Attributes:
        chapter, preset: what is run.
        axes: {name: values} of what is swept, in the order in which it was given; the last one varies fastest.
        fixed: {name: value} of what is changed in every point.
        points: one resolved run per point.
    """

    chapter: str
    preset: str
    axes: Mapping[str, Sequence[Any]]
    fixed: Mapping[str, Any]
    points: Sequence[Resolved]

    def values(self, point: int) -> dict[str, Any]:
        """Return {name: value} of what is swept, at one point."""
        return {name: value_of(self.points[point], name) for name in self.axes}

    def label(self, point: int) -> str:
        """Return a point as a person reads it: `width=64 seed=200`."""
        return " ".join(f"{name}={value}" for name, value in self.values(point).items()) or "the preset"


def grid(chapter: str, preset: str, given: Sequence[tuple[str, Any]]) -> Grid:
    """Return the grid that `-p name=values` and a file describe.

    Args:
        chapter, preset: what is run.
        given: (name, text or list of texts), as `pairs` and `from_file` return them.

    Raises:
        InputError: a name is unknown or given twice, a list is empty, a range is none, a value has the wrong type, is
            out of range or stands there twice; one line, nothing created.
    """
    _check_names(given, "give all its values at once: -p {}=1,2,3")
    kinds = types(chapter)
    swept: dict[str, list[Any]] = {}
    for name, value in given:
        texts = _several(name, value, kinds.get(name, ""))
        found = [value_of(one, name) for one in parameters.resolve_all(chapter, preset, [{name: t} for t in texts])]
        if same := next((item for number, item in enumerate(found) if item in found[:number]), None):
            raise InputError(f"parameter '{name}': the value {same!r} stands there twice")
        swept[name] = found
    if (count := math.prod(map(len, swept.values()))) > MOST:
        raise InputError(f"a grid of {count} points; expected at most {MOST}")
    fixed = {name: values[0] for name, values in swept.items() if len(values) == 1}
    axes = {name: values for name, values in swept.items() if len(values) > 1}
    changes = [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]
    return Grid(chapter, preset, axes, fixed, parameters.resolve_all(chapter, preset, changes))


def one(chapter: str, preset: str, given: Sequence[tuple[str, Any]]) -> Resolved:
    """Return the single run that `-p` and a file describe; ranges are for parameters that are lists.

    Raises:
        InputError: as in `parameters.resolve`, or a range is none.
    """
    _check_names(given, "give one value: -p {}=1")
    kinds = types(chapter)
    changes: dict[str, Any] = {}
    for name, value in given:
        if isinstance(value, str) and kinds.get(name, "").startswith("list") and _RANGE.fullmatch(value):
            value = _expanded(name, value)
        if isinstance(value, list) and "." in name:
            value = f"[{', '.join(value)}]"
        changes[name] = value
    return parameters.resolve(chapter, preset, changes)


def from_file(path: str | Path) -> list[tuple[str, Any]]:
    """Return what a YAML file gives: `name: value`, and `experiment: {key: value}` for sizes.

    Scalars stay text, so that the declared type decides what they are: `1e-3` is a number where one is wanted.

    Raises:
        InputError: the file cannot be read, is not YAML, or is no such mapping.
    """
    found = files.read_yaml(path, as_text=True)
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a mapping such as 'n_seeds: 5', got {type(found).__name__}")
    given: list[tuple[str, Any]] = []
    for name, value in found.items():
        below = value.items() if isinstance(value, dict) else [("", value)]
        given += [(f"{name}.{key}" if key else str(name), inner) for key, inner in below]
    for name, value in given:
        flat = isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))
        if not flat and not (isinstance(value, list) and all(isinstance(item, list) for item in value)):
            raise InputError(f"{path}: '{name}' is neither a value nor a list of values")
    return given


def types(chapter: str) -> dict[str, str]:
    """Return {name: type as written} of a chapter's parameters and sizes."""
    found = {name: item.type for name, item in parameters.declared(parameters.source(chapter)).items()}
    for experiment, model in sizes.models(parameters.source(chapter).parent).items():
        found |= {f"{experiment}.{key}": sizes.expected(model, key) for key in model.model_fields}
    return found


def value_of(resolved: Resolved, name: str) -> Any:
    """Return what a parameter or size is in a run."""
    experiment, _, key = name.partition(".")
    return resolved.sizes[experiment][key] if key else resolved.parameters[name]


def _check_names(given: Sequence[tuple[str, Any]], mend: str) -> None:
    names = [name for name, _ in given]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"parameter '{twice}' is given twice; {mend.format(twice)}")


def _several(name: str, value: Any, kind: str) -> list[Any]:
    """Return the texts of the values that one parameter takes in a grid."""
    is_list = kind.startswith("list")
    if isinstance(value, list):
        nested = all(isinstance(item, list) for item in value)
        found: list[Any] = value if nested or not is_list else [value]
        found = [f"[{', '.join(item)}]" if isinstance(item, list) and "." in name else item for item in found]
    elif kind.startswith(("int", "float")) and ":" in value:
        found = _expanded(name, value)
    elif is_list:
        found = _bracketed(value) if value.startswith("[") else [value]
    else:
        found = [item.strip() for item in value.split(",")]
    if not found or any(item == "" for item in found):
        raise InputError(f"parameter '{name}': '{value}' has an empty value; expected a list such as 64,128,256")
    return found


def _bracketed(text: str) -> list[str]:
    """Split `[1,2],[3]` at the commas between brackets."""
    return [item.strip() for item in re.split(r"(?<=\])\s*,\s*(?=\[)", text)]


def _expanded(name: str, text: str) -> list[str]:
    """Return the values of `start:stop` or `start:stop:step`, the stop left out."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise InputError(f"parameter '{name}': '{text}' is not a range; expected start:stop:step, such as 200:260:10")
    whole = not any(part and re.search(r"[.eE]", part) for part in match.groups())
    start, stop, step = (float(part) if part else 1.0 for part in match.groups())
    if not all(math.isfinite(number) for number in (start, stop, step)):
        raise InputError(f"parameter '{name}': the range {text} has no end; expected at most {MOST} values")
    if step == 0 or (count := math.ceil((stop - start) / step - 1e-9)) < 1:
        raise InputError(f"parameter '{name}': the range {text} is empty; the stop is left out, as in Python")
    if count > MOST:
        raise InputError(f"parameter '{name}': the range {text} has {count} values; expected at most {MOST}")
    found = [start + number * step for number in range(count)]
    return [str(int(item)) if whole else f"{item:.12g}" for item in found]
