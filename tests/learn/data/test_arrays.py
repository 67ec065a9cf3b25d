"""Arrays and labels are what the manifest says, or unmistakable, or refused in one line; no sample is lost."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from traindyn.errors import InputError
from traindyn.files import sha256_file
from traindyn.learn import data

Y = np.arange(20) % 2
RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (20, 4, 5), dtype=np.uint8)


def folder(extra: str = "", **arrays) -> Path:
    where = Path(tempfile.mkdtemp())
    np.savez(where / "s.npz", **arrays)
    entry = f'[[dataset]]\nname = "s"\nfile = "s.npz"\nsha256 = "{sha256_file(where / "s.npz")}"\n{extra}\n'
    (where / "MANIFEST.toml").write_text(entry)
    return where


def load(extra: str = "", **arrays):
    options = {"n_test": 0, "scale": "raw", "dtype": torch.float64, **arrays.pop("options", {})}
    return data.load("s", root=folder(extra, **arrays), **options)


def refused(message: str, extra: str = "", **arrays) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(extra, **arrays)
    assert "\n" not in str(caught.value)


@settings(max_examples=60)
@given(
    hnp.arrays(
        st.sampled_from([np.int8, np.int64, np.uint8, np.uint16, np.int32, np.bool_]),
        st.integers(1, 30),
    ),
    st.sampled_from(["", "fitting", "too few"]),
)
def test_whole_labels_lose_no_sample_or_are_refused(y, names):
    present = np.unique(y.astype(np.int64))
    words = [f"class {'abcdefghijklmnopqrstuvwxyz'[i]}" for i in range(min(len(present), 26))]
    if len(present) > 26:
        names = ""
    words = words[:-1] if names == "too few" else words
    extra = f"classes = {words!r}".replace("'", '"') if names else ""
    try:
        got = load(extra, x=BYTES[np.arange(len(y)) % 20], y=y)
    except InputError as error:
        assert "\n" not in str(error) and names == "too few"
        return
    assert names != "too few"
    expected = [int((y.astype(np.int64) == value).sum()) for value in present]
    assert got.meta["counts_train"] == expected and len(got.X_train) == len(y)
    if not names:
        assert got.meta["classes"] == [str(value) for value in present]


@settings(max_examples=60)
@given(hnp.arrays(st.sampled_from([np.float32, np.float64, np.complex64]), hnp.array_shapes(max_dims=3, max_side=20)))
def test_labels_that_are_not_whole_numbers_are_refused(y):
    refused("labels|samples and", x=BYTES[:1], y=y)


@settings(max_examples=80)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.int64, np.float32, np.float64, np.bool_]),
        st.tuples(st.just(4), *[st.integers(1, 9)] * 2) | st.tuples(st.just(4), *[st.integers(1, 9)] * 3)
        | st.tuples(st.just(4), st.integers(1, 300)) | st.just((4,)) | st.tuples(st.just(4), *[st.integers(1, 3)] * 4),
    )
)  # fmt: skip
def test_an_array_without_a_kind_is_bytes_in_the_documented_shape_or_16_bit_sound_or_refused(x):
    try:
        got = load(x=x, y=np.arange(4) % 2, options={"features": "wave" if x.dtype == np.int16 else None})
    except InputError as error:
        assert "\n" not in str(error)
        return
    if x.dtype == np.int16:
        assert x.ndim == 2 and x.shape[1] >= 256 and got.X_train.shape == x.shape
    else:
        assert x.dtype == np.uint8 and (
            x.ndim == 3 or (x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3))
        )
        assert sorted(got.X_train.flatten().tolist()) == sorted(x.flatten().tolist())


def test_labels_minus_and_plus_one_keep_their_names():
    got = load(x=BYTES, y=2 * Y - 1, options={"labels": "pm1"})
    assert got.meta["classes"] == ["-1", "1"] and got.y_train.sum() == 0
    one = load(x=BYTES, y=2 * Y - 1, options={"classes": [1]})
    assert one.meta["classes"] == ["1"] and len(one.y_train) == 10


def test_names_that_are_numbers_have_to_be_the_labels():
    names = 'classes = ["48 motorcycle", "53 orange", "94 wardrobe"]'
    got = load(names, x=BYTES[:4], y=np.asarray([94, 94, 48, 48]))  # one class is absent
    assert got.meta["counts_train"] == [2, 0, 2]
    assert load(names, x=BYTES[:3], y=np.arange(3)).meta["counts_train"] == [1, 1, 1]
    refused("do not fit", names, x=BYTES[:3], y=np.asarray([48, 53, 95]))
    refused("both fit", 'classes = ["1 a", "0 b"]', x=BYTES[:2], y=np.arange(2))
    digits = "classes = " + str([str(i) for i in range(10)]).replace("'", '"')
    refused("do not fit", digits, x=BYTES[:10], y=np.arange(1, 11))  # is 10 the digit 0, or are all shifted?
    refused("list of names", 'classes = "ab"', x=BYTES, y=Y)
    refused("stands twice", 'classes = ["a", "a"]', x=BYTES, y=Y)


def test_what_the_manifest_says_is_done():
    unit = {"scale": "unit"}
    x = RNG.random((20, 4, 5))
    got = load("range = [0, 1]", x=x, y=Y, options=unit).X_train
    assert sorted(got.flatten().tolist()) == sorted(x.flatten().tolist())
    signed = load("range = [-1, 1]", x=2 * x - 1, y=Y, options=unit).X_train
    torch.testing.assert_close(signed.flatten().sort().values, torch.as_tensor(x).flatten().sort().values)
    refused("expected range", "range = [0, 1]", x=2 * x, y=Y)
    refused("low < high", "range = [1, 0]", x=x, y=Y)
    coloured = RNG.integers(0, 256, (20, 3, 4, 8), dtype=np.uint8)
    first = load('axes = "chw"', x=coloured, y=Y).X_train
    last = load(x=coloured.transpose(0, 2, 3, 1), y=Y).X_train
    assert first.shape == last.shape == (20, 3, 4, 8)
    assert {image.numpy().tobytes() for image in first} == {image.numpy().tobytes() for image in last}
    refused("axes", 'axes = "hw"', x=coloured, y=Y)
    refused("unknown axes", 'axes = "cwh"', x=coloured, y=Y)
    table = load('kind = "table"', x=RNG.random((20, 4)), y=Y)
    assert table.X_train.shape == (20, 4) and table.meta["features"] == "columns"
    refused("give range", 'kind = "table"', x=RNG.random((20, 4)), y=Y, options=unit)
    refused("unknown kind", 'kind = "picture"', x=BYTES, y=Y)
    refused("kind 'table'", 'kind = "table"', x=BYTES, y=Y)
    loud = RNG.uniform(-1, 1, (20, 300))
    sound = load('kind = "sound"\nrange = [-1, 1]', x=loud, y=Y, options={"features": "wave", "scale": "unit"})
    torch.testing.assert_close(sound.X_train.flatten().sort().values, torch.as_tensor(loud).flatten().sort().values)
    refused("shorter than a window", 'kind = "sound"', x=np.zeros((20, 9), np.int16), y=Y)


def test_the_pieces_of_an_archive_fit_one_another():
    mask = Y == 1
    refused("is_test of type int64", x=BYTES, y=Y, is_test=Y)
    refused("is_test of type", x=BYTES, y=Y, is_test=mask[:, None])
    refused("samples and", x=BYTES[:3], y=Y)
    refused("no array x", y=Y, inputs=BYTES)
    refused("what is the array x_valid", x=BYTES, y=Y, x_valid=BYTES)
    refused("what is the array X", x=BYTES, y=Y, X=BYTES)
    refused("differ in shape", x_train=BYTES, y_train=Y, x_test=BYTES[:, :2], y_test=Y)
    refused("NaN", "range = [0, 1]", x=np.full((20, 4, 4), np.nan), y=Y)
    refused("no samples", x=BYTES[:0], y=Y[:0])
    assert len(load(x=BYTES, y=Y, is_test=mask).X_train) == 10
    bad = {"jpeg": np.zeros(9, np.uint8), "y": Y[:2]}
    refused("grow from 0 to 9", **bad, offset=np.asarray([0, 5, 8]))
    refused("cannot be decoded", **bad, offset=np.asarray([0, 5, 9]))
    refused("whole numbers", **bad, offset=np.asarray([0.0, 5.0, 9.0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_train": 100.0}, "n_train=100.0: expected a whole number"),
        ({"n_test": True}, "n_test"),
        ({"seed": None}, "seed"),
        ({"size": 4.5}, "size"),
        ({"classes": 3}, "expected a list"),
        ({"classes": "37"}, "expected a list"),
        ({"classes": {3, 7}}, "expected a list"),
        ({"dtype": "float64"}, "floating-point type"),
        ({"dtype": torch.int64}, "floating-point type"),
        ({"dtype": torch.complex64}, "floating-point type"),
        ({"labels": None}, "labels"),
        ({"scale": 3}, "scale"),
        ({"features": "wave"}, "features"),
    ],
)
def test_a_wrong_argument_is_one_line(options, message):
    with pytest.raises(InputError, match=message) as caught:
        data.load("digits", **{"n_train": 10, **options})
    assert "\n" not in str(caught.value)
