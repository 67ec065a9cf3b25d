"""Typed sizes of experiments: what `chapters/<name>/sizes.py` declares, read without importing torch or numpy.

A chapter's `sizes.py` declares one frozen class per kind of experiment and binds names to classes:

    class Fcn(Experiment):
        net: Literal["fcn"] = "fcn"
        n: Scale[int] = Field(gt=0, description="samples")

    SIZES = {"fcn": Fcn}

A field with one allowed value (`Literal`) is a constant: it stands in no preset and cannot be changed, but is compared
with what the source prints.
"""

from __future__ import annotations

import ast
import contextlib
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import annotated_types
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from traindyn.errors import InputError, choose, nearest

T = TypeVar("T")


@dataclass(frozen=True)
class Mark:
    """What a field means for a verdict."""

    name: str


LARGEST = 2**63  # no count, width or seed of torch's is larger
SCALE = Mark("scale")
DEFINITION = Mark("definition")
Scale = Annotated[T, SCALE]  # may be smaller than the source's: samples, width, steps
Definition = Annotated[T, DEFINITION]  # decides what counts as a spike, as aligned, as converged


class Experiment(BaseModel):
    """The sizes of one experiment: frozen, no unknown field, no conversion but of an integer to a float."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    def changed(self, **changes: Any) -> Self:
        """Return these sizes with some of them changed, checked like the others.

        Raises:
            InputError: a name is not a size of this experiment, or a value has the wrong type or is out of range.
        """
        return checked(type(self), {**dict(self), **changes}, type(self).__name__, "sizes")


def models(folder: Path) -> dict[str, type[Experiment]]:
    """Return the experiments that `sizes.py` of a chapter's folder declares; none if there is no such file.

    Raises:
        InputError: the file cannot be read or does not bind SIZES to {name: Experiment}.
    """
    path = folder / "sizes.py"
    if not path.is_file():
        return {}
    about = path.stat()
    return dict(_load(path.resolve(), about.st_mtime_ns, about.st_size))


@lru_cache(maxsize=32)
def _load(path: Path, *state: int) -> dict[str, type[Experiment]]:
    module = types.ModuleType(f"traindyn_sizes_{path.parent.name}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # pydantic looks up annotations there
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)  # leaves no __pycache__
    except Exception as error:
        raise InputError(f"{path}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    found = getattr(module, "SIZES", None)
    if not isinstance(found, dict) or not all(
        isinstance(model, type) and issubclass(model, Experiment) for model in found.values()
    ):
        raise InputError(f"{path}: expected SIZES = {{name: a subclass of traindyn.sizes.Experiment, ...}}")
    return found


def inferred(presets: Iterable[Mapping[str, Mapping[str, Any]]]) -> dict[str, type[Experiment]]:
    """Return classes for a chapter without `sizes.py`, guessed from its values: their types, and positive if all are.

    Args:
        presets: {experiment: {key: value}} of each preset.
    """
    values: dict[str, dict[str, list[Any]]] = {}
    for preset in presets:
        for experiment, sizes in preset.items():
            for key, value in sizes.items():
                values.setdefault(experiment, {}).setdefault(key, []).append(value)
    return {
        experiment: create_model(
            experiment, __base__=Experiment, **{key: _guessed(found) for key, found in fields.items()}
        )
        for experiment, fields in values.items()
    }


def _guessed(values: list[Any]) -> Any:
    kinds = {type(value) for value in values if value is not None}
    kind = float if kinds == {int, float} else next(iter(kinds), str) if len(kinds) < 2 else Any
    positive = kind in (int, float) and all(value is None or value > 0 for value in values)
    return (kind | None if None in values and kind is not Any else kind, Field(gt=0) if positive else ...)


def marked(model: type[Experiment], mark: Mark) -> list[str]:
    """Return the names of the fields that carry a mark."""
    return [name for name, info in model.model_fields.items() if mark in info.metadata]


def constants(model: type[Experiment]) -> dict[str, Any]:
    """Return the fields that have one allowed value, with that value."""
    return {name: info.default for name, info in model.model_fields.items() if _constant(info)}


def checked(model: type[Experiment], values: Mapping[str, Any], name: str, where: str) -> Any:
    """Return the sizes of one experiment as its typed object.

    Args:
        model: its class.
        values: {field: value}, every field that is no constant.
        name: the experiment's.
        where: what the values come from, for messages ("presets.yaml of catapults, laptop").

    Raises:
        InputError: a field is missing or unknown, or a value has the wrong type or is out of range; one line that
            names experiment, field and what was expected.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise InputError(_line(model, error.errors(), name, where)) from error
    except TypeError as error:  # a range that does not fit its type
        raise InputError(f"sizes.py, class {model.__name__}: {error}") from error


def check_one(model: type[Experiment], key: str, value: Any, name: str, where: str) -> None:
    """Check one value against the type and the range of its field; a constant may have another value of its type."""
    choose(f"size of '{name}'", key, model.model_fields)
    info = model.model_fields[key]
    if _constant(info):
        if type(value) is not type(info.default):
            raise InputError(f"{where}, '{name}.{key}': expected {type(info.default).__name__}, got {value!r}")
        return
    try:
        model.__pydantic_validator__.validate_assignment(model.model_construct(), key, value)
    except ValidationError as error:
        if own := [part for part in error.errors() if part["loc"][:1] == (key,) and part["type"] != "frozen_field"]:
            raise InputError(_line(model, own, name, where)) from error


def from_text(model: type[Experiment], key: str, text: str) -> Any:
    """Return what a person typed for a field as a value: `256`, `1e-3`, `[64, 256]`, `mnist5k`."""
    kind = _plain(model.model_fields[key].annotation)
    if kind is str or (typing.get_origin(kind) is Literal and all(isinstance(v, str) for v in typing.get_args(kind))):
        return text.strip("'\"")
    value: Any = text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: brackets in brackets
        with contextlib.suppress(yaml.YAMLError, ValueError, RecursionError):
            value = yaml.safe_load(text)  # true, null, [cat, dog]
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise InputError(f"size '{key}': {str(value)[:12]}... is too large; expected less than 2**63")
    value = None if text.strip().lower() == "none" else value
    if typing.get_origin(kind) is list and not isinstance(value, list):
        value = list(value) if isinstance(value, tuple) else [value]
    return value


def expected(model: type[Experiment], key: str) -> str:
    """Return the type and the range of a field in words: `int > 0`, `list[int > 0]`, `one of a, b`."""
    info = model.model_fields[key]
    return _spell(info.annotation, info.metadata)


def _constant(info: FieldInfo) -> bool:
    return typing.get_origin(_plain(info.annotation)) is Literal and not info.is_required()


def _plain(kind: Any) -> Any:
    while typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    return kind


def _spell(kind: Any, metadata: Any = ()) -> str:
    while typing.get_origin(kind) is Annotated:
        kind, *more = typing.get_args(kind)
        metadata = [*metadata, *more]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return repr(inner[0]) if len(inner) == 1 else f"one of {', '.join(map(str, inner))}"
    if origin in (typing.Union, types.UnionType):
        words = " or ".join(_spell(part) for part in inner)
    elif origin is not None:
        words = f"{origin.__name__}[{', '.join(_spell(part) for part in inner)}]"
    else:
        words = "None" if kind is type(None) else getattr(kind, "__name__", str(kind))
    return words + _range(metadata)


def _range(metadata: Any) -> str:
    signs = {"Gt": ("gt", ">"), "Ge": ("ge", ">="), "Lt": ("lt", "<"), "Le": ("le", "<=")}
    found = []
    for item in metadata:
        for part in item.metadata if isinstance(item, FieldInfo) else [item]:
            if type(part).__name__ in signs:
                attribute, sign = signs[type(part).__name__]
                found.append(f" {sign} {getattr(part, attribute)}")
            elif isinstance(part, annotated_types.MinLen):
                found.append(f" of at least {part.min_length}")
    return " and".join(found)


def _line(model: type[Experiment], errors: Any, name: str, where: str) -> str:
    first = errors[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        known = model.model_fields
        return f"{where}: unknown size '{name}.{key}'{nearest(key, known)}; known: {', '.join(known)}"
    if first["type"] == "missing" and len(first["loc"]) == 1:
        return f"{where}: '{name}.{key}' is missing; expected {expected(model, key)}"
    if not key or key not in model.model_fields:
        return f"{where}, '{name}': {first['msg']}"
    inner = [str(part) for part in first["loc"][1:] if isinstance(part, int)]
    place = f" at position {', '.join(inner)}" if inner else ""
    if key in constants(model):
        return (
            f"{where}, '{name}.{key}': is always {constants(model)[key]!r} in this experiment, got {first['input']!r}"
        )
    told = "" if first["type"] != "value_error" else f" ({first['msg']})"
    return f"{where}, '{name}.{key}': expected {expected(model, key)}, got {first['input']!r}{place}{told}"
