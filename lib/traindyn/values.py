"""One declared value: its type and its range, as a parameters cell writes them, and the check of what a user gives."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass
from typing import Any

from traindyn.errors import InputError, nearest

TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list}
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_BOUND = re.compile(rf"(>=|<=|>|<)\s*({_NUMBER})")
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
        range: the range as written ("> 0", "one of a, b"), empty if none.
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


def read_range(comment: str) -> tuple[str, str, tuple[tuple[str, float], ...], tuple[str, ...]]:
    """Split a comment into meaning and range: bounds and choices stand at its end."""
    meaning, written = comment, []
    bounds: list[tuple[str, float]] = []
    choices: tuple[str, ...] = ()
    while match := _TRAILING.search(meaning):
        clause = match.group(0).removeprefix("and").strip(" ,;")
        clause = re.sub(r"^and\s+", "", clause)
        if one := _BOUND.fullmatch(clause):
            bounds.append((one.group(1), float(one.group(2))))
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
        return [as_type(name, inner.rstrip("]"), item) for item in value] if inner else value
    if outer == "str" and isinstance(value, str) and value[:1] in "'\"" and value[:1] == value[-1:]:
        value = value[1:-1]
    if outer == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    want = TYPES[outer]
    if not isinstance(value, want) or (isinstance(value, bool) and want is not bool):
        raise InputError(f"parameter '{name}': expected {annotation}, got {given!r} ({type(given).__name__})")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"parameter '{name}': {value} is not a finite number")
    return value


def _literal(text: str) -> Any:
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _holds(value: Any, sign: str, limit: float) -> bool:
    if not isinstance(value, int | float):
        return True
    return {">": value > limit, ">=": value >= limit, "<": value < limit, "<=": value <= limit}[sign]
