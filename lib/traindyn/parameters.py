"""A notebook's parameters and the sizes of its experiments: read, checked, never executed.

The cell tagged `parameters` declares one parameter a line, `name: type = default  # meaning with unit, range`; a range
is written in words (`above 0`, `at least 1`, `below 1`, `at most 2`, `in [0, 1]`, `one of a, b, c`), since papermill's
reader loses a parameter whose comment has an equals sign. `sizes.py` declares the sizes of the experiments,
`presets.yaml` holds what the presets change and what the source prints.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traindyn import presets, sizes
from traindyn.errors import InputError, choose, import_extra, nearest
from traindyn.files import project_root, read_text
from traindyn.presets import PRESETS, Preset

TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list}
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_SIGNS = {"at least": ">=", "at most": "<=", "above": ">", "below": "<"}
_BOUND = re.compile(rf"\b(at least|at most|above|below)\s+({_NUMBER})")
_SIGN = re.compile(rf"[<>]\s*{_NUMBER}\s*$")
_INTERVAL = re.compile(rf"\bin\s*([\[(])\s*({_NUMBER})\s*,\s*({_NUMBER})\s*([\])])")
_CHOICE = re.compile(r"\bone of\s+(.+)$")
_TRAILING = re.compile(rf"(?:[,;]\s*|\s+and\s+|^)(?:{_BOUND.pattern}|{_INTERVAL.pattern}|{_CHOICE.pattern})\s*$")


@dataclass(frozen=True)
class Parameter:
    """One declared parameter.

    Attributes:
        name: its name in the notebook.
        type: the annotation as written: "int", "float", "str", "bool", "list[float]", "int | None", ...
        default: value at the laptop preset.
        meaning: what it is, with its unit (the comment without the range).
        range: the range as written ("above 0", "one of a, b"), empty if none.
        bounds: pairs of comparison and number that a value has to satisfy.
        choices: allowed words, empty if any.
    """

    name: str
    type: str
    default: Any
    meaning: str = ""
    range: str = ""
    bounds: tuple[tuple[str, float], ...] = ()
    choices: tuple[str, ...] = ()

    def check(self, value: Any) -> Any:
        """Return `value` as this parameter's type: an integer or a numeric string is fine where a float is wanted.

        Raises:
            InputError: wrong type, not finite, or out of range.
        """
        value = as_type(self.name, self.type, value)
        for item in value if isinstance(value, list) else [value]:
            if item is None:
                continue
            if self.choices and item not in self.choices:
                raise InputError(
                    f"parameter '{self.name}': '{item}' is not allowed{nearest(str(item), self.choices)}; "
                    f"expected one of {', '.join(self.choices)}"
                )
            if not all(_holds(item, sign, limit) for sign, limit in self.bounds):
                raise InputError(f"parameter '{self.name}': {item} is out of range; expected {self.range}")
        return value


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
    order = re.findall(r"chapters/(\w+)/", read_text(toc)) if toc.is_file() else []
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


def notebook(path: str | Path) -> Any:
    """Return a chapter's text as a notebook.

    Raises:
        InputError: it cannot be read, or is not what jupytext reads.
    """
    jupytext, text = import_extra("jupytext", "reading a chapter"), read_text(path)
    try:
        return jupytext.reads(text, fmt="md")
    except Exception as error:  # jupytext and its parsers raise errors of every kind
        raise InputError(f"{path} is not a notebook in MyST: {' '.join(str(error).split())}") from error


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
    cells = [cell for cell in notebook(path).cells if is_parameters(cell)]
    if len(cells) != 1:
        raise InputError(f"{path.name} has {len(cells)} cells tagged 'parameters'; expected one")
    text = cells[0].source
    lines, found = text.splitlines(), {}
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        raise InputError(f"{path.name}, parameters cell, line {error.lineno}: {error.msg}") from error
    for node in body:
        where = f"{path.name}, parameters cell, line {node.lineno}"
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.value is None:
            raise InputError(f"{where}: expected `name: type = literal  # meaning, range`")
        try:
            default = ast.literal_eval(node.value)
        except ValueError as error:
            raise InputError(f"{where}: the default of '{node.target.id}' has to be a literal") from error
        comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode().strip().lstrip("#").strip()
        if "=" in comment or _SIGN.search(comment):
            raise InputError(
                f"{where}: write the range of '{node.target.id}' in words (at least 1, above 0, at most 2, below 1); "
                "papermill's reader loses a parameter whose comment has an equals sign"
            )
        if node.end_lineno != node.lineno:
            raise InputError(f"{where}: '{node.target.id}' needs one line; papermill's reader loses one of several")
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


def models(chapter: str) -> dict[str, type[sizes.Experiment]]:
    """Return the experiments that a chapter's `sizes.py` declares: {name: class of its sizes}.

    A chapter without that file, a draft say, has classes guessed from its presets.
    """
    folder = source(chapter).parent
    if found := sizes.models(folder):
        return found
    raw = presets.read(folder / "presets.yaml")
    return sizes.inferred(
        {
            name: {**raw["base"].get(name, {}), **(values or {})}
            for name, values in (raw[preset].get("sizes") or {}).items()
        }
        for preset in PRESETS
    )


def load_presets(chapter: str) -> dict[str, Preset]:
    """Read a chapter's `presets.yaml`.

    Returns:
        smoke, laptop and paper, each with the sizes of all experiments that the chapter's `sizes.py` declares.

    Raises:
        InputError: a file cannot be read, or a preset, parameter or size in it is missing, unknown or wrong.
    """
    path = source(chapter)
    raw = presets.read(path.with_name("presets.yaml"))
    known = declared(path)
    return presets.presets(raw, models(chapter), lambda values: validate(known, values), chapter)


def source_settings(chapter: str) -> dict[str, dict[str, Any]]:
    """Return what the source prints per experiment, as `source:` of `presets.yaml` says; None: it does not say.

    Raises:
        InputError: as in `load_presets`, or a key is neither a size nor a parameter.
    """
    path = source(chapter)
    raw = presets.read(path.with_name("presets.yaml"))
    return presets.source(raw, models(chapter), declared(path), chapter)


def sized(chapter: str, experiment: str, values: Mapping[str, Any]) -> sizes.Experiment:
    """Return the sizes of one experiment as the typed, frozen object of the chapter's `sizes.py`.

    Raises:
        InputError: no such experiment, or a size is missing, unknown, of the wrong type or out of range.
    """
    known = models(chapter)
    model = known[choose("experiment", experiment, known)]
    return sizes.checked(model, values, experiment, f"sizes of {chapter}")


def resolve(chapter: str, preset: str = "laptop", overrides: Sequence[str] | Mapping[str, Any] = ()) -> Resolved:
    """Return what a run of `chapter` at `preset` with `overrides` is. Nothing is created.

    Args:
        chapter: name of a chapter.
        preset: smoke, laptop or paper.
        overrides: `name=value` for a parameter or `experiment.key=value` for a size, or a mapping of such names.

    Raises:
        InputError: unknown chapter, preset or name (the nearest is named), wrong type, or out of range.
    """
    return resolve_all(chapter, preset, [overrides])[0]


def resolve_all(chapter: str, preset: str, points: Sequence[Sequence[str] | Mapping[str, Any]]) -> list[Resolved]:
    """Return what several runs of a chapter at one preset are, one per entry of `points`; files are read once.

    Args:
        chapter, preset: as in `resolve`.
        points: the overrides of each run, as in `resolve`.

    Raises:
        InputError: as in `resolve`.
    """
    known = declared(source(chapter))
    models = sizes.models(source(chapter).parent)
    chosen = load_presets(chapter)[choose("preset", preset, PRESETS)]
    plain = {name: parameter.default for name, parameter in known.items()} | dict(chosen.parameters)
    return [_resolved(chapter, preset, known, models, plain, chosen.sizes, overrides) for overrides in points]


def _resolved(
    chapter: str,
    preset: str,
    known: Mapping[str, Parameter],
    models: Mapping[str, type[sizes.Experiment]],
    plain: Mapping[str, Any],
    plain_sizes: Mapping[str, Mapping[str, Any]],
    overrides: Sequence[str] | Mapping[str, Any],
) -> Resolved:
    parameters, own = dict(plain), {name: dict(value) for name, value in plain_sizes.items()}
    for name, value in pairs(overrides):
        if "." in name:
            experiment, _, key = name.partition(".")
            model = models[choose("experiment", experiment, models)]
            choose(f"size of '{experiment}'", key, model.model_fields)
            value = sizes.from_text(model, key, value) if isinstance(value, str) else value
            changed = sizes.checked(model, own[experiment] | {key: value}, experiment, "sizes of this run")
            own[experiment] = changed.model_dump()
        else:
            parameters |= validate(known, {name: value})
    is_preset = parameters == plain and own == {name: dict(value) for name, value in plain_sizes.items()}
    return Resolved(chapter, preset, parameters, own, is_preset)


def pairs(overrides: Sequence[str] | Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return `name=value` texts, or a mapping, as (name, value).

    Raises:
        InputError: a text has no equals sign or no name.
    """
    if isinstance(overrides, Mapping):
        return list(overrides.items())
    pairs = []
    for text in overrides:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise InputError(f"'{text}' is not a parameter; expected name=value, for example -p n_seeds=5")
        pairs.append((name.strip(), value.strip()))
    return pairs


def read_range(comment: str) -> tuple[str, str, tuple[tuple[str, float], ...], tuple[str, ...]]:
    """Split a comment into meaning and range: bounds and choices stand at its end."""
    meaning, written = comment, []
    bounds: list[tuple[str, float]] = []
    choices: tuple[str, ...] = ()
    while match := _TRAILING.search(meaning):
        clause = match.group(0).removeprefix("and").strip(" ,;")
        clause = re.sub(r"^and\s+", "", clause)
        if one := _BOUND.fullmatch(clause):
            bounds.append((_SIGNS[one.group(1)], float(one.group(2))))
        elif one := _INTERVAL.fullmatch(clause):
            bounds.append((">=" if one.group(1) == "[" else ">", float(one.group(2))))
            bounds.append(("<=" if one.group(4) == "]" else "<", float(one.group(3))))
        elif one := _CHOICE.fullmatch(clause):
            choices = tuple(word.strip(" '\"") for word in re.split(r",|\bor\b", one.group(1)) if word.strip(" '\""))
        written.insert(0, clause)
        meaning = meaning[: match.start()].rstrip(" ,;")
    return meaning, " and ".join(written), tuple(bounds), choices


def as_type(name: str, annotation: str, value: Any) -> Any:
    words = [word.strip() for word in annotation.split("|")]
    base = next((word for word in words if word != "None"), "None")
    outer, _, inner = base.partition("[")
    if outer not in TYPES:
        raise InputError(f"parameter '{name}' has the type {annotation}; expected {', '.join(TYPES)}, list[...]")
    given = value
    if isinstance(value, str) and outer != "str":
        value = _literal(value)
    if value is None and "None" in words:
        return None
    if outer == "list":
        value = list(value) if isinstance(value, list | tuple) else [value]
        if not value:
            raise InputError(f"parameter '{name}': an empty list; expected at least one value")
        return [as_type(name, inner.rstrip("]"), item) for item in value] if inner else value
    if outer == "str" and isinstance(value, str) and value[:1] in "'\"" and value[:1] == value[-1:]:
        value = value[1:-1]
    if isinstance(value, int) and abs(value) >= sizes.LARGEST:
        raise InputError(f"parameter '{name}': {str(value)[:12]}... is too large; expected less than 2**63")
    if outer == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    want = TYPES[outer]
    if not isinstance(value, want) or (isinstance(value, bool) and want is not bool):
        raise InputError(f"parameter '{name}': expected {annotation}, got {given!r} ({type(given).__name__})")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"parameter '{name}': {value} is not a finite number")
    return value


def _literal(text: str) -> Any:
    if text.lower() in (words := {"true": True, "false": False, "none": None, "null": None}):
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: brackets in brackets
        return text


def _holds(value: Any, sign: str, limit: float) -> bool:
    if not isinstance(value, int | float):
        return True
    return {">": value > limit, ">=": value >= limit, "<": value < limit, "<=": value <= limit}[sign]
