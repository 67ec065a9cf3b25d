"""What a stored array is: said by the manifest or unmistakable, else refused. Nothing here guesses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from traindyn.errors import InputError, choose

KINDS = {"image": "image", "sound": "audio", "audio": "audio", "text": "text", "table": "table"}
AXES = {"hw": (0, 1), "hwc": (0, 1, 2), "chw": (1, 2, 0)}  # to (h, w) or (h, w, c)
COLOURS = (1, 3)
SHORTEST = 256  # samples: a window of the spectrogram
LOUDEST = 32768  # of 16-bit sound
_NUMBER = re.compile(r"(-?\d+)(?: |$)")


def kind_of(entry: Mapping[str, Any], stored: np.ndarray) -> str:
    """Return "image", "audio" or "table" for the array of a set.

    Args:
        entry: its manifest entry; `kind` decides where it stands there.
        stored: the samples, (n, ...).

    Raises:
        InputError: without `kind`: neither bytes of shape (n, h, w) or (n, h, w, colours) nor 16-bit sound
            (n, samples); with it: a shape or type that does not fit.
    """
    shape, name = stored.shape, entry["name"]
    if stored.dtype.kind not in "buif":
        raise InputError(f"{name}: samples of type {stored.dtype}; expected whole or real numbers")
    if stored.size == 0:
        raise InputError(f"{name}: there are no samples in it (shape {shape})")
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        raise InputError(f"{name}: some samples are NaN or infinite; expected finite numbers")
    if "kind" in entry:
        kind = KINDS[choose(f"kind of '{name}'", entry["kind"], KINDS)]
        fits = {"image": stored.ndim in (3, 4), "audio": stored.ndim == 2, "table": stored.ndim == 2, "text": False}
        if not fits[kind]:
            wants = {"image": "(n, h, w) or (n, h, w, c)", "text": "a csv.gz file"}.get(kind, "(n, numbers)")
            raise InputError(f"{name}: kind '{entry['kind']}' with an array of shape {shape}; expected {wants}")
    elif stored.ndim in (3, 4) and (stored.dtype == np.uint8 or "range" in entry or "axes" in entry):
        kind = "image"
    elif stored.ndim == 2 and stored.dtype == np.int16 and shape[1] >= SHORTEST:
        kind = "audio"
    else:
        raise InputError(
            f"{name}: an array of {stored.dtype} and shape {shape} could be several things; say in the manifest what "
            'it is: kind = "image", "sound" or "table", with range = [low, high]'
        )
    wanted = {"image": np.uint8, "audio": np.int16}.get(kind)
    if wanted is not None and stored.dtype != wanted and "range" not in entry:
        raise InputError(
            f"{name}: {entry.get('kind', kind)} of {stored.dtype}; expected {np.dtype(wanted)}, or "
            "range = [low, high] in the manifest"
        )
    return kind


def ends(entry: Mapping[str, Any], kind: str, stored: np.ndarray) -> tuple[float, float] | None:
    """Return the smallest and the largest value a sample can have; None for a table whose manifest gives no range.

    Raises:
        InputError: `range` is not two growing numbers, or a sample lies outside.
    """
    if "range" not in entry:
        return {"image": (0.0, 255.0), "audio": (-float(LOUDEST), float(LOUDEST))}.get(kind)
    given, name = entry["range"], entry["name"]
    numbers = isinstance(given, list) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in given)
    if not numbers or len(given) != 2 or not -np.inf < given[0] < given[1] < np.inf:
        raise InputError(f"{name}: range = {given!r}; expected [low, high] with low < high")
    low, high = float(given[0]), float(given[1])
    if kind == "audio" and low != -high:
        raise InputError(f"{name}: range = {given!r} of sound; expected [-high, high]")
    if stored.min() < low or stored.max() > high:
        raise InputError(
            f"{name}: values from {stored.min():.6g} to {stored.max():.6g}; expected range = {given!r} of the manifest"
        )
    return low, high


def axes_of(entry: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return how the axes of one image go to (h, w) or (h, w, colours).

    Args:
        entry: its manifest entry; `axes` decides where it stands there: "hw", "hwc" or "chw".
        shape: of one image.

    Raises:
        InputError: `axes` does not fit the shape, or it is missing and the colours could be elsewhere than last.
    """
    name = entry["name"]
    if "axes" in entry:
        found = AXES[choose(f"axes of '{name}'", entry["axes"], AXES)]
        if len(found) != len(shape):
            raise InputError(f"{name}: axes = '{entry['axes']}' for images of shape {shape}")
        return found
    if len(shape) == 3 and (shape[2] not in COLOURS or shape[0] in COLOURS):
        raise InputError(
            f"{name}: which axis of images of shape {shape} holds the colours? expected (h, w, 1) or (h, w, 3), or "
            'axes = "hwc" or "chw" in the manifest'
        )
    return tuple(range(len(shape)))


def whole_labels(name: str, y: np.ndarray) -> np.ndarray:
    """Return labels as int64 (n,).

    Raises:
        InputError: they are not whole numbers of one axis.
    """
    if y.ndim != 1:
        hint = "one number for each sample"
        raise InputError(f"{name}: labels of shape {y.shape}; expected {hint}, shape ({len(y) if y.ndim else 'n'},)")
    if y.dtype.kind not in "bui":
        raise InputError(f"{name}: labels of type {y.dtype}; expected whole numbers")
    if y.dtype == np.uint64 and len(y) and y.max() > np.iinfo(np.int64).max:
        raise InputError(f"{name}: labels up to {y.max()} are too large")
    return y.astype(np.int64)


def named_classes(
    entry: Mapping[str, Any], labels: Mapping[str, np.ndarray]
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Return class names and labels 0, 1, ... as positions in them.

    Without `classes` in the manifest the names are the labels themselves. With k names the labels are 0 to k-1; or the
    numbers that the names begin with ("48 motorcycle"); or any k numbers, in growing order, of names without numbers.

    Args:
        entry: the manifest entry.
        labels: {part: integers (n,)}.

    Raises:
        InputError: the names do not fit the labels, or fit them in two ways.
    """
    name, present = entry["name"], np.unique(np.concatenate(list(labels.values())))
    if not len(present):
        raise InputError(f"{name}: there are no samples in it")

    def numbered(values: np.ndarray) -> dict[str, np.ndarray]:
        """Return every label's position in `values`."""
        order = np.argsort(values)
        return {part: order[np.searchsorted(values, y, sorter=order)].astype(np.int64) for part, y in labels.items()}

    if "classes" not in entry:
        return tuple(str(value) for value in present), numbered(present)
    given = entry["classes"]
    if not isinstance(given, list) or not all(isinstance(word, str | int) for word in given):
        raise InputError(f"{name}: classes = {given!r} in the manifest; expected a list of names")
    names = tuple(str(word) for word in given)
    if len(set(names)) != len(names):
        raise InputError(f"{name}: a class name stands twice in the manifest")
    numbers = [int(match.group(1)) for word in names if (match := _NUMBER.match(word))]
    places = np.arange(len(names))
    by_place = bool(present[0] >= 0 and present[-1] < len(names))
    if len(numbers) == len(names) == len(set(numbers)):
        by_number = bool(np.isin(present, numbers).all())
        if by_number and by_place and any(numbers[value] != value for value in present):
            raise InputError(f"{name}: are the labels places in `classes` or the numbers in its names? both fit")
        if by_number:
            return names, numbered(np.asarray(numbers))
        if by_place:
            return names, numbered(places)
    elif by_place:
        return names, numbered(places)
    elif len(present) == len(names):
        return names, numbered(present)
    shown = ", ".join(map(str, present[:6])) + (", ..." if len(present) > 6 else "")
    raise InputError(f"{name}: labels {shown} do not fit the {len(names)} class names of the manifest")
