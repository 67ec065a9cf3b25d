"""Values on the wire: what can be sent arrives as it was, and nothing that arrives can do harm."""

from __future__ import annotations

import io
import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from traindyn.run.course import frames


def through(data: bytes):
    stream = io.BytesIO(data)

    def receive(size: int) -> bytes:
        found = stream.read(size)
        if len(found) < size:
            raise EOFError
        return found

    return frames.read(receive)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values_arrive_as_they_were(value):
    assert through(frames.pack(value)) == value


@pytest.mark.parametrize("dtype", frames.DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 4)])
def test_arrays_arrive_bit_by_bit(dtype, shape):
    value = np.asarray(np.random.default_rng(0).random(shape) * 9, dtype=dtype)
    found = through(frames.pack({"a": [value, value.T]}))["a"]
    for one, other in zip(found, (value, value.T), strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other)


def test_tensors_arrive_as_arrays_and_scalars_as_numbers():
    leaf = torch.arange(3.0, requires_grad=True)
    found = through(frames.pack({"a": leaf * 2, "b": np.float32(0.5), "c": torch.tensor(2), 4: (1, 2)}))
    assert np.array_equal(found["a"], [0, 2, 4]) and found["b"] == 0.5 and found["c"] == 2 and found["4"] == [1, 2]


class Odd:
    pass


@pytest.mark.parametrize(
    "value",
    [object(), Odd(), {(1, 2): 3}, {"__array__": 1}, np.array(["a"]), np.array([object()]), np.ones(2, complex), 2**70,
     torch.ones(2, dtype=torch.complex64), set(), b"bytes", lambda: 1, np.broadcast_to(1.0, (10**5, 10**5)),
     [0] * (frames.ITEMS + 1), "x" * (frames.TEXT + 1)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_cannot_be_sent_is_refused(value):
    with pytest.raises(frames.BadFrame):
        frames.pack(value)


def test_a_list_in_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(frames.BadFrame):
        frames.pack(value)


def framed(tree, raw: bytes = b"", magic: bytes = frames.MAGIC) -> bytes:
    text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    return frames.HEAD.pack(magic, len(text), len(raw)) + text + raw


@pytest.mark.parametrize(
    "data",
    [
        framed({}, magic=b"PICK"),
        framed(b"{"),
        framed(b"\xff\xfe"),
        framed(b"[" * 100_000),
        framed(b"9" * 5000),
        framed({"__array__": ["float64", [10**9, 10**9], 0]}, bytes(8)),
        framed({"__array__": ["float64", [2], 0]}, bytes(8)),
        framed({"__array__": ["float64", [1], 8]}, bytes(8)),
        framed({"__array__": ["float64", [-1], 0]}, bytes(8)),
        framed({"__array__": ["float64", [1.0], 0]}, bytes(8)),
        framed({"__array__": ["O", [1], 0]}, bytes(8)),
        framed({"__array__": ["float64", [1] * 40, 0]}, bytes(8)),
        framed({"__array__": 3}),
        framed({"__array__": ["float64", "ab", 0]}),
        framed({"__array__": [[], [], 0]}),
        framed(pickle.dumps(Odd())),
        frames.HEAD.pack(frames.MAGIC, 2**31, 0),
        frames.HEAD.pack(frames.MAGIC, 2, 2**31) + b"{}",
    ],
    ids=range(18),
)
def test_bytes_that_are_no_frame_are_refused_before_they_cost_memory(data):
    with pytest.raises(frames.BadFrame):
        through(data)


def test_a_frame_that_breaks_off_is_the_end():
    with pytest.raises(EOFError):
        through(frames.pack([1, 2])[:-1])


@given(st.binary(max_size=200))
def test_random_bytes_do_nothing_else(data):
    with pytest.raises((frames.BadFrame, EOFError)):
        through(data)
    with pytest.raises((frames.BadFrame, EOFError)):
        through(framed(data[:50], data[50:]) if not _is_json(data[:50]) else b"")


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
