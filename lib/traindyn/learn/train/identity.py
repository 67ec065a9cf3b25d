"""What a thing is, in words that can be compared: functions with their closures, networks with their attributes."""

from __future__ import annotations

import functools
import hashlib
import json
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from traindyn.files import sha256_array

_OWN = frozenset(vars(nn.Module()))  # what every module has; parameters, buffers and children are compared by name
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_DEEP = 12  # levels after which an object counts by its type alone


def digest(value: Any) -> str:
    """Return a hexadecimal key of `describe(value)`."""
    return hashlib.sha256(json.dumps(describe(value), sort_keys=True, default=str).encode()).hexdigest()


def describe(value: Any, containers: bool = True, depth: int = 0, seen: dict[int, Any] | None = None) -> Any:
    """Return what `value` is as numbers, words and lists: equal for things that do the same, different otherwise.

    A function is its module, name, code, defaults and the values that it closes over; an object is its type and its
    attributes; a tensor or an array is its shape, type and a digest of its content. An object met again counts by its
    type alone, and so does what is nested very deeply.

    Args:
        value: anything.
        containers: whether the content of lists, dicts and sets that a function closes over counts. Without it they
            are taken for its memory, which changes while it works.
        depth: levels above this one.
        seen: objects met so far, by identity; held, so that no identity is used twice.
    """
    seen = {} if seen is None else seen

    def inner(item: Any) -> Any:
        return describe(item, containers, depth + 1, seen)

    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | complex):
        return repr(value)
    if depth > _DEEP:
        return _name(type(value))
    if isinstance(value, Tensor):
        return [list(value.shape), str(value.dtype), tensor_digest(value)]
    if isinstance(value, np.ndarray | np.generic):
        array = np.ascontiguousarray(value)
        return [list(array.shape), str(array.dtype), sha256_array(array) if array.dtype != object else str(array)]
    if isinstance(value, Mapping):
        return {str(key): inner(item) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [inner(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((inner(item) for item in value), key=str)
    if isinstance(value, torch.dtype | torch.device | torch.Size):
        return str(value)
    if id(value) in seen:
        return _name(type(value))
    seen[id(value)] = value
    if isinstance(value, nn.Module):
        return {"architecture": architecture(value), "weights": inner(dict(value.state_dict()))}
    if isinstance(value, functools.partial):
        return ["partial", inner(value.func), inner(value.args), inner(value.keywords)]
    if isinstance(value, types.MethodType):
        return ["method", inner(value.__func__), inner(value.__self__)]
    if isinstance(value, types.FunctionType):
        cells = [_cell(cell) for cell in value.__closure__ or ()]
        if not containers:
            cells = [type(cell) if isinstance(cell, list | dict | set) else cell for cell in cells]
        return [
            _name(value),
            _code(value.__code__),
            inner(cells),
            inner(value.__defaults__),
            inner(value.__kwdefaults__),
        ]
    if isinstance(value, type) or callable(value) and hasattr(value, "__qualname__"):
        return _name(value)
    fields = {name: item for name, item in _attributes(value).items() if not name.startswith("__")}
    return [_name(type(value)), inner(fields)]


def tensor_digest(value: Tensor) -> str:
    """Return a hexadecimal key of a tensor's content, of any type."""
    return sha256_array(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def architecture(model: nn.Module) -> list[Any]:
    """Return what a network is apart from the values of its weights and buffers: modules, attributes, shapes."""
    parts: list[Any] = []
    for name, module in model.named_modules():
        plain = {key: describe(item) for key, item in sorted(attributes(module).items())}
        hooks = [describe(list(getattr(module, key).values())) for key in _HOOKS]
        parts.append([name, _name(type(module)), plain, hooks])
    tables = (*model.named_parameters(), *model.named_buffers())
    return parts + [[name, list(t.shape), str(t.dtype), t.requires_grad] for name, t in tables]


def attributes(module: nn.Module) -> dict[str, Any]:
    """Return a module's plain attributes: all but its parameters, buffers, children and torch's own bookkeeping."""
    return {key: value for key, value in vars(module).items() if key not in _OWN or key == "training"}


def alike(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two networks differ in nothing but the values of their weights and buffers.

    Modules, shapes and every plain attribute are compared, functions by their code and closures. What cannot be
    compared counts as different.
    """
    pairs = list(zip(one.named_modules(), other.named_modules(), strict=False))
    if len(pairs) != len(list(one.modules())) or len(pairs) != len(list(other.modules())):
        return False
    for (name, a), (twin, b) in pairs:
        if name != twin or type(a) is not type(b) or not same(attributes(a), attributes(b)):
            return False
        if any(not same(list(getattr(a, key).values()), list(getattr(b, key).values())) for key in _HOOKS):
            return False
    tables = [{**dict(m.named_parameters()), **dict(m.named_buffers())} for m in (one, other)]
    traits = [{k: (t.shape, t.dtype, t.requires_grad) for k, t in table.items()} for table in tables]
    return traits[0] == traits[1]


def same(a: Any, b: Any, depth: int = 0) -> bool:
    """Return whether two values are the same in all that can be compared; in doubt they are not."""
    if a is b:
        return True
    if type(a) is not type(b) or depth > _DEEP:
        return False
    if isinstance(a, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(same(a[key], b[key], depth + 1) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y, depth + 1) for x, y in zip(a, b, strict=True))
    if isinstance(a, types.FunctionType):
        if a.__code__ is not b.__code__ and _code(a.__code__) != _code(b.__code__):
            return False
        ends = [[_cell(c) for c in f.__closure__ or ()] + [f.__defaults__, f.__kwdefaults__] for f in (a, b)]
        return a.__globals__ is b.__globals__ and same(*ends, depth + 1)
    if isinstance(a, nn.Module):
        return alike(a, b) and same(dict(a.state_dict()), dict(b.state_dict()), depth + 1)
    try:
        if bool(a == b):
            return True
    except Exception:  # whatever a foreign comparison does: then they count as different
        return False
    if type(a).__eq__ is object.__eq__ and hasattr(a, "__dict__"):
        return same(vars(a), vars(b), depth + 1)
    return False


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that has no value yet
        return "empty"


def _code(code: types.CodeType) -> list[Any]:
    constants = [_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), constants, list(code.co_names), list(code.co_varnames)]


def _name(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__name__)}"


def _attributes(value: Any) -> dict[str, Any]:
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = getattr(kind, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                found[name] = getattr(value, name)
    return found
