"""Values on the wire between judge and worker: JSON, and arrays as raw bytes beside it. Nothing is ever unpickled.

The worker loads this file by its path, in a process in which `traindyn` cannot be imported; it needs NumPy alone.
Everything that is read is checked before memory is taken for it: the other side may send what it likes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

MAGIC = b"TDC1"
HEAD = struct.Struct(">4sII")
TEXT = 2**20  # most bytes of the JSON of one frame
RAW = 2**25  # most bytes of the arrays of one frame
DEPTH = 12  # how deep lists and mappings may be nested
ITEMS = 100_000  # most numbers, words and lists in the JSON of one frame
DTYPES = ("bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64")
_ARRAY = "__array__"


class BadFrame(ValueError):
    """What was read, or is to be written, is no frame; the message is one line."""


def pack(value: Any) -> bytes:
    """Return a value as one frame.

    Numbers, booleans, words, None, lists, tuples, mappings with words or whole numbers as keys, NumPy arrays and
    scalars and torch tensors can be sent; tensors arrive as arrays.

    Raises:
        BadFrame: something else is in it, or it is too large.
    """
    arrays: list[bytes] = []
    count = [ITEMS, RAW]
    tree = _down(value, arrays, count, 0)
    text = json.dumps(tree).encode()
    if len(text) > TEXT:
        raise BadFrame(f"more than {TEXT} bytes")
    raw = b"".join(arrays)
    return HEAD.pack(MAGIC, len(text), len(raw)) + text + raw


def read(receive: Callable[[int], bytes]) -> Any:
    """Read one frame.

    Args:
        receive: returns exactly that many bytes, or raises EOFError.

    Raises:
        BadFrame: these are no such bytes.
        EOFError: from `receive`.
    """
    magic, text_size, raw_size = HEAD.unpack(receive(HEAD.size))
    if magic != MAGIC or text_size > TEXT or raw_size > RAW:
        raise BadFrame("no frame, or one that is too large")
    text, raw = receive(text_size), receive(raw_size)
    try:
        tree = json.loads(text)
        return _up(tree, raw, 0)
    except (ValueError, RecursionError, TypeError, KeyError, OverflowError) as error:
        raise BadFrame("no frame: it does not hold what it says") from error


def _down(value: Any, arrays: list[bytes], left: list[int], depth: int) -> Any:
    left[0] -= 1
    if depth > DEPTH or left[0] < 0:
        raise BadFrame("nested too deep, or too many items")
    kind = type(value)
    if value is None or kind in (bool, str, float):
        return value
    if kind is int:
        if abs(value) >= 2**63:
            raise BadFrame("a whole number of more than 63 bits")
        return value
    if kind in (list, tuple):
        return [_down(item, arrays, left, depth + 1) for item in value]
    if kind is dict:
        pairs = []
        for key, item in value.items():
            if type(key) not in (str, int) and not isinstance(key, np.integer):
                raise BadFrame(f"a mapping whose keys are {type(key).__name__}; expected words or whole numbers")
            pairs.append((str(key), _down(item, arrays, left, depth + 1)))
        if any(key == _ARRAY for key, _ in pairs):
            raise BadFrame(f"the key {_ARRAY}")
        return dict(pairs)
    if isinstance(value, np.generic) and value.dtype.name in DTYPES:
        return value.item()
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # a tensor; torch may not be there
        value = value.detach().cpu().resolve_neg().numpy()
    if not isinstance(value, np.ndarray):
        raise BadFrame(f"{kind.__name__}; expected numbers, words, lists, mappings, arrays or tensors")
    if value.dtype.name not in DTYPES:
        raise BadFrame(f"an array of {value.dtype.name}; expected real numbers")
    left[1] -= value.nbytes
    if left[1] < 0:
        raise BadFrame(f"more than {RAW} bytes of arrays")
    start = sum(map(len, arrays))
    arrays.append(np.ascontiguousarray(value).tobytes())
    return {_ARRAY: [value.dtype.name, list(value.shape), start]}


def _up(tree: Any, raw: bytes, depth: int) -> Any:
    if depth > DEPTH + 1:
        raise BadFrame("nested too deep")
    if isinstance(tree, list):
        return [_up(item, raw, depth + 1) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if _ARRAY not in tree:
        return {key: _up(item, raw, depth + 1) for key, item in tree.items()}
    name, shape, start = tree[_ARRAY]
    whole = [*shape, start]
    if name not in DTYPES or len(shape) > 16 or any(type(size) is not int or not 0 <= size <= RAW for size in whole):
        raise BadFrame("an array that is none")
    dtype, count = np.dtype(name), math.prod(shape)
    if start + count * dtype.itemsize > len(raw):
        raise BadFrame("an array longer than its bytes")
    return np.frombuffer(raw, dtype, count, start).reshape(shape).copy()
