"""A notebook's parameters and the sizes of its experiments: read, checked, never executed.

The cell tagged `parameters` declares one parameter a line, `name: type = default  # meaning with unit, range`; a range
is written as `> 0`, `>= 1`, `in [0, 1]` or `one of a, b, c`. `presets.yaml` holds what a preset changes and the sizes
of single experiments.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from traindyn.errors import InputError, choose, import_extra, nearest
from traindyn.files import project_root
from traindyn.values import Parameter, as_type, read_range

PRESETS = ("smoke", "laptop", "paper")


@dataclass(frozen=True)
class Preset:
    """One preset of a chapter: changed parameters, sizes of every experiment, expected minutes and GB of memory."""

    parameters: Mapping[str, Any]
    sizes: Mapping[str, Mapping[str, Any]]
    cost: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Resolved:
    """What one run is: chapter, preset it starts from, all parameters and sizes, and whether that is the preset."""

    chapter: str
    preset: str
    parameters: dict[str, Any]
    sizes: dict[str, dict[str, Any]]
    is_preset: bool


def chapters(root: Path | None = None) -> list[str]:
    """Return the names of the chapters under `root` (the project's), in the order of the book's table of contents."""
    root = root or project_root()
    found = sorted(p.name for p in (root / "chapters").iterdir() if (p / f"{p.name}.md").is_file())
    toc = root / "_toc.yml"
    order = re.findall(r"chapters/(\w+)/", toc.read_text(encoding="utf-8")) if toc.is_file() else []
    return sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name))


def source(chapter: str) -> Path:
    """Return the path of a chapter's notebook.

    Raises:
        InputError: no such chapter.
    """
    choose("chapter", chapter, chapters())
    return project_root() / "chapters" / chapter / f"{chapter}.md"


def is_parameters(cell: Any) -> bool:
    """Return whether a notebook cell is the one tagged `parameters`."""
    return cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", [])


def declared(path: str | Path) -> dict[str, Parameter]:
    """Read the parameters that a notebook declares.

    Args:
        path: the chapter's MyST file.

    Returns:
        The parameters by name, in the order of the cell.

    Raises:
        InputError: there is not exactly one cell tagged `parameters`, or a line of it is not an annotated literal
            whose default fits its type and range.
    """
    path = Path(path)
    cells = [cell for cell in import_extra("jupytext", "reading a chapter").read(path).cells if is_parameters(cell)]
    if len(cells) != 1:
        raise InputError(f"{path.name} has {len(cells)} cells tagged 'parameters'; expected one")
    text = cells[0].source
    lines, found = text.splitlines(), {}
    for node in ast.parse(text).body:
        where = f"{path.name}, parameters cell, line {node.lineno}"
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.value is None:
            raise InputError(f"{where}: expected `name: type = literal  # meaning, range`")
        try:
            default = ast.literal_eval(node.value)
        except ValueError as error:
            raise InputError(f"{where}: the default of '{node.target.id}' has to be a literal") from error
        comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode().strip().lstrip("#").strip()
        meaning, written, bounds, choices = read_range(comment)
        parameter = Parameter(node.target.id, ast.unparse(node.annotation), default, meaning, written, bounds, choices)
        try:
            parameter.check(default)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        found[parameter.name] = parameter
    return found


def validate(known: Mapping[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` in the types that `known` declares.

    Raises:
        InputError: a name is not declared (the nearest is named), or a value has the wrong type or is out of range.
    """
    for name in values:
        if name not in known:
            raise InputError(f"unknown parameter '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    return {name: known[name].check(value) for name, value in values.items()}


def with_values(cell: str, values: Mapping[str, Any]) -> str:
    """Return the text of a parameters cell with the defaults replaced by `values`, comments kept in their column."""
    lines = cell.splitlines()
    for node in reversed(ast.parse(cell).body):
        if not isinstance(node, ast.AnnAssign) or node.target.id not in values:
            continue
        value = values[node.target.id]
        if ast.literal_eval(node.value) == value:
            continue
        new = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
        head = lines[node.value.lineno - 1].encode()[: node.value.col_offset].decode()
        last = lines[node.end_lineno - 1].encode()
        before, after = last[: node.end_col_offset].decode(), last[node.end_col_offset :].decode()
        column = len(before) + len(after) - len(after.lstrip())
        line = head + new
        if after.strip():
            line = line.ljust(column) if len(line) + 2 <= column else line + "  "
        lines[node.value.lineno - 1 : node.end_lineno] = [line + after.lstrip()]
    return "\n".join(lines)


def load_presets(chapter: str) -> dict[str, Preset]:
    """Read a chapter's `presets.yaml`.

    Returns:
        smoke, laptop and paper, each with the same experiments and the same keys in its sizes.

    Raises:
        InputError: the file cannot be read, a preset is missing, or the presets differ in experiments, keys or types.
    """
    path = source(chapter).with_name("presets.yaml")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict) or set(raw) != set(PRESETS):
        raise InputError(f"{path}: expected the presets {', '.join(PRESETS)}")
    known = declared(source(chapter))
    presets = {}
    for name in PRESETS:
        entry = raw[name] or {}
        for key in set(entry) - {"cost", "parameters", "sizes"}:
            raise InputError(f"{path}: preset '{name}' has the unknown key '{key}'; expected cost, parameters, sizes")
        values = validate(known, entry.get("parameters") or {})
        sizes = {key: dict(value or {}) for key, value in (entry.get("sizes") or {}).items()}
        presets[name] = Preset(values, sizes, entry.get("cost") or {})
    _same_sizes(path, presets)
    return presets


def resolve(chapter: str, preset: str = "laptop", overrides: Sequence[str] | Mapping[str, Any] = ()) -> Resolved:
    """Return what a run of `chapter` at `preset` with `overrides` is. Nothing is created.

    Args:
        chapter: name of a chapter.
        preset: smoke, laptop or paper.
        overrides: `name=value` for a parameter or `experiment.key=value` for a size, or a mapping of such names.

    Raises:
        InputError: unknown chapter, preset or name (the nearest is named), wrong type, or out of range.
    """
    known = declared(source(chapter))
    presets = load_presets(chapter)
    chosen = presets[choose("preset", preset, PRESETS)]
    parameters = {name: parameter.default for name, parameter in known.items()} | dict(chosen.parameters)
    sizes = {name: dict(value) for name, value in chosen.sizes.items()}
    plain = (dict(parameters), {name: dict(value) for name, value in sizes.items()})
    for name, value in _pairs(overrides):
        if "." in name:
            experiment, _, key = name.partition(".")
            choose("experiment", experiment, sizes)
            choose(f"size of '{experiment}'", key, sizes[experiment])
            sizes[experiment][key] = _check_size(name, value, [p.sizes[experiment][key] for p in presets.values()])
        else:
            parameters |= validate(known, {name: value})
    return Resolved(chapter, preset, parameters, sizes, (parameters, sizes) == plain)


def _pairs(overrides: Sequence[str] | Mapping[str, Any]) -> list[tuple[str, Any]]:
    if isinstance(overrides, Mapping):
        return list(overrides.items())
    pairs = []
    for text in overrides:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise InputError(f"'{text}' is not a parameter; expected name=value, for example -p n_seeds=5")
        pairs.append((name.strip(), value.strip()))
    return pairs


def _check_size(name: str, value: Any, examples: list[Any]) -> Any:
    filled = [example for example in examples if example is not None]
    kinds = {type(example) for example in filled}
    kind = float if kinds == {int, float} else next(iter(kinds), str)
    value = as_type(name, kind.__name__ + (" | None" if len(filled) < len(examples) else ""), value)
    numbers = [item for example in filled for item in (example if isinstance(example, list) else [example])]
    if numbers and all(isinstance(item, int | float) and item > 0 for item in numbers):
        for item in value if isinstance(value, list) else [value]:
            if item is not None and (not isinstance(item, int | float) or item <= 0):
                raise InputError(f"parameter '{name}': {item!r} is out of range; expected a number > 0")
    return value


def _same_sizes(path: Path, presets: Mapping[str, Preset]) -> None:
    first = presets["laptop"].sizes
    for name, preset in presets.items():
        for experiment in sorted(set(first) ^ set(preset.sizes)):
            raise InputError(f"{path}: experiment '{experiment}' is in only one of the presets laptop and {name}")
        for experiment, sizes in preset.sizes.items():
            for key in sorted(set(first[experiment]) ^ set(sizes)):
                raise InputError(f"{path}: '{experiment}.{key}' is in only one of the presets laptop and {name}")
            for key, value in sizes.items():
                types = {type(value), type(first[experiment][key])} - {type(None)}
                if len(types) > 1 and types != {int, float}:
                    raise InputError(f"{path}: '{experiment}.{key}' differs in type between laptop and {name}")
