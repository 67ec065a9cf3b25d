"""Local folders of data files with a MANIFEST.toml beside them."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import tomllib
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from traindyn.errors import InputError, import_extra
from traindyn.files import checkout, sha256_file
from traindyn.learn.data import arrays as checks
from traindyn.learn.data.builtin import SHIPPED
from traindyn.learn.data.samples import Raw

MANIFEST = "MANIFEST.toml"
_SAMPLES = re.compile(r"(?i)is_test|(x|y|jpeg|offset)(_(train|test|val|valid|validation|dev|extra|all))?")


def cache() -> Path | None:
    """Return the folder data/cache of the checkout, where what was fetched lies; None without a checkout."""
    root = checkout()
    return None if root is None else root / "data" / "cache"


def folders(root: str | Path | None = None) -> list[Path]:
    """Return the folders that are searched for local sets: `root`, $TRAINDYN_DATA, and data/cache of the checkout."""
    given = [root, os.environ.get("TRAINDYN_DATA"), cache()]
    return [Path(folder) for folder in given if folder]


def manifest(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of a folder's MANIFEST.toml; none if it has no such file.

    Raises:
        InputError: the file cannot be read, an entry lacks its name, file or sha256, or its file is not below `folder`.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return []
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("dataset", [])
        for entry in entries:
            if not all(isinstance(entry[key], str) for key in ("name", "file", "sha256")):
                raise KeyError("name, file, sha256")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a manifest of data sets ({error}); see data/README.md for the format") from None
    for entry in entries:
        file = entry["file"]
        # by either system's rules, so that a folder means the same everywhere
        ways = (PurePosixPath(file), PureWindowsPath(file))
        if not file or any(way.is_absolute() or way.drive or way.root or ".." in way.parts for way in ways):
            raise InputError(f"{path}: file '{file}' of '{entry['name']}' points outside {folder}; put it beside")
    return entries


def find_local(name: str, root: str | Path | None = None) -> tuple[Path, dict[str, Any]] | None:
    """Return (file, manifest entry) of the local set called `name`, or None.

    Raises:
        InputError: `root` was given and is no folder, or a manifest cannot be read.
    """
    if root is not None and not Path(root).is_dir():
        raise InputError(f"root: no folder {root}; expected one with data files and a {MANIFEST}")
    for folder in folders(root):
        for entry in manifest(folder):
            if entry["name"] == name:
                return folder / entry["file"], entry
    return None


def local_names(root: str | Path | None = None) -> list[str]:
    """Return the names of all local sets, in the order in which they are found, those of packages last."""
    found = [entry["name"] for folder in folders(root) for entry in manifest(folder)]
    return list(dict.fromkeys([*found, *SHIPPED]))


@lru_cache(maxsize=32)
def _checked(path: Path, sha256: str, stamp: tuple[int, int]) -> None:
    """Compare a file with its checksum, once per (size, time of change)."""
    if (found := sha256_file(path)) != sha256.lower():
        raise InputError(
            f"{path}: checksum {found[:12]}... is not {sha256[:12]}... of {MANIFEST}: the file is damaged or another "
            "one; restore it or fetch it again"
        )


def check_file(path: Path, entry: dict[str, Any]) -> None:
    """Compare a local set's file with its manifest.

    Raises:
        InputError: the file is missing, or its checksum is another one.
    """
    if not path.is_file():
        raise InputError(f"{path}: named in {MANIFEST} but missing; restore it or fetch it again")
    status = path.stat()
    _checked(path, entry["sha256"], (status.st_size, status.st_mtime_ns))


def read_local(path: Path, entry: dict[str, Any]) -> Raw:
    """Return a local set after its checksum was compared.

    Raises:
        InputError: the file is missing, is not the one of the manifest, or cannot be read.
    """
    try:
        check_file(path, entry)
        return _read_csv(path, entry) if str(path).endswith(".gz") else _read_npz(path, entry)
    except InputError:
        raise
    except Exception as error:  # a damaged archive can raise almost anything
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}); expected a data file as in data/README.md, "
            "restore it or fetch it again"
        ) from None


def _meta(path: Path, entry: dict[str, Any]) -> dict[str, Any]:
    kept = ("sha256", "lossless", "source", "citation", "licence", "caveat")
    return {"file": path.name, **{key: entry[key] for key in kept if key in entry}}


def _read_npz(path: Path, entry: dict[str, Any]) -> Raw:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    encoded = any(name.startswith("jpeg") for name in arrays)
    labels, stored = _parts(path, arrays, "jpeg" if encoded else "x")
    labels = {part: checks.whole_labels(entry["name"], y) for part, y in labels.items()}
    offsets = {part: _offsets(path, arrays, part, len(stored[part])) for part in labels} if encoded else {}
    for part, y in labels.items():
        count = len(offsets[part]) - 1 if encoded else len(stored[part])
        if count != len(y):
            raise InputError(f"{path}: {count} samples and {len(y)} labels in part '{part}'")
    labels, stored = _held_out(path, arrays, labels, stored, encoded)
    classes, labels = checks.named_classes(entry, labels)

    def take(part: str, at: np.ndarray) -> np.ndarray:
        if not encoded:
            found = stored[part][at]
            if kind == "image":
                return found.transpose(0, *(axis + 1 for axis in axes))
            return found if kind == "table" or "range" not in entry else found * (checks.LOUDEST / high)
        images = [_decoded(path, key(part, int(i))) for i in (at if len(at) else [0])]
        if len({image.shape for image in images}) > 1:
            raise InputError(f"{path}: images of several sizes; expected one")
        return np.stack(images)[: len(at)]

    def key(part: str, at: int) -> bytes:
        if not encoded:
            return stored[part][at].tobytes()
        return stored[part][offsets[part][at] : offsets[part][at + 1]].tobytes()

    meta = _meta(path, entry)
    if encoded:
        return Raw(entry["name"], "image", labels, take, key, classes, 255, meta)
    samples = list(stored.values())
    if len({(part.dtype, part.shape[1:]) for part in samples}) > 1:
        raise InputError(f"{path}: training and test samples differ in shape or type")
    kind = checks.kind_of(entry, samples[0] if len(samples) == 1 else np.concatenate(samples))
    bounds = [checks.ends(entry, kind, part) for part in samples if part.size]
    axes = checks.axes_of(entry, samples[0].shape[1:]) if kind == "image" else ()
    low, high = bounds[0] or (0.0, float("nan"))
    span = (0.0, float(checks.LOUDEST)) if kind == "audio" else (low, high)
    return Raw(entry["name"], kind, labels, take, key, classes, span[1], meta, span[0])


def _parts(path: Path, arrays: dict[str, Any], samples: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return {part: labels} and {part: samples} of an archive, in which no other samples or labels may stand.

    Raises:
        InputError: an array is missing or left over.
    """
    parts = [part for part in ("train", "test") if f"y_{part}" in arrays] or ["all"]
    end = {part: "" if part == "all" else f"_{part}" for part in parts}
    wanted = [f"{word}{end[part]}" for part in parts for word in ("y", samples)]
    wanted += [f"offset{end[part]}" for part in parts] if samples == "jpeg" else []
    if lacking := [name for name in wanted if name not in arrays]:
        raise InputError(
            f"{path}: no array {lacking[0]}; it has {', '.join(arrays) or 'none'}; expected {', '.join(wanted)}"
        )
    wanted += ["is_test"] if parts == ["all"] else []
    if over := [name for name in arrays if name not in wanted and _SAMPLES.fullmatch(name)]:
        raise InputError(f"{path}: what is the array {over[0]}? expected only {', '.join(wanted)}; take it out")
    for name in wanted:
        if name in arrays and name != "is_test" and arrays[name].ndim == 0:
            raise InputError(f"{path}: {name} is a single number; expected one entry for each sample")
    return ({part: arrays[f"{word}{end[part]}"] for part in parts} for word in ("y", samples))


def _offsets(path: Path, arrays: dict[str, Any], part: str, size: int) -> np.ndarray:
    """Return where each encoded image starts, and the end of the last.

    Raises:
        InputError: they are not growing positions from 0 to the end of the bytes.
    """
    name = "offset" if part == "all" else f"offset_{part}"
    found = arrays[name]
    if found.ndim != 1 or found.dtype.kind not in "ui" or len(found) < 1:
        raise InputError(f"{path}: {name} has type {found.dtype} and shape {found.shape}; expected n + 1 whole numbers")
    found = found.astype(np.int64)
    if found[0] != 0 or found[-1] != size or (np.diff(found) <= 0).any():
        raise InputError(f"{path}: {name} has to grow from 0 to {size}, the number of bytes")
    return found


def _held_out(
    path: Path, arrays: dict[str, Any], labels: dict[str, Any], stored: dict[str, Any], encoded: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cut labels and samples by `is_test`, where there is one.

    Raises:
        InputError: it is not a boolean for every sample, or stands beside encoded images.
    """
    if "is_test" not in arrays:
        return labels, stored
    held_out = arrays["is_test"]
    if encoded:
        raise InputError(f"{path}: is_test beside encoded images; give jpeg_train and jpeg_test instead")
    if held_out.dtype != np.bool_ or held_out.shape != labels["all"].shape:
        raise InputError(
            f"{path}: is_test of type {held_out.dtype} and shape {held_out.shape}; expected a boolean for every sample"
        )
    at = {"train": np.flatnonzero(~held_out), "test": np.flatnonzero(held_out)}
    return ({part: table["all"][rows] for part, rows in at.items()} for table in (labels, stored))


def _decoded(path: Path, content: bytes) -> np.ndarray:
    image = import_extra("PIL.Image", f"reading {path.name}")
    try:
        return np.asarray(image.open(io.BytesIO(content)).convert("RGB"))
    except Exception as error:  # a damaged image can raise almost anything
        raise InputError(f"{path}: an image in it cannot be decoded ({type(error).__name__})") from None


def _read_csv(path: Path, entry: dict[str, Any]) -> Raw:
    if entry.get("kind", "text") != "text":
        raise InputError(f"{path}: kind = '{entry['kind']}' of a csv.gz file; expected text")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values() or not {"label", "title", "description"} <= set(row):
            raise InputError(f"{path}: row {number} does not have the columns label, title, description (and part)")
        if not re.fullmatch(r"[-+]?[0-9]+", row["label"].strip()):
            raise InputError(f"{path}: label {row['label']!r} in row {number}; expected a whole number")
    texts = np.asarray([f"{row['title']} {row['description']}".strip() for row in rows], dtype=object)
    part_of = np.asarray([row.get("part", "all") for row in rows])
    if (found := set(part_of)) - {"train", "test"} and found != {"all"}:
        raise InputError(f"{path}: parts {', '.join(sorted(found))!r}; expected train and test, or all")
    positions = {part: np.flatnonzero(part_of == part) for part in ("all", "train", "test") if part in part_of}
    if not positions:
        raise InputError(f"{entry['name']}: there are no samples in it")
    label = np.asarray([int(row["label"]) for row in rows])
    classes, labels = checks.named_classes(entry, {part: label[at] for part, at in positions.items()})

    def take(part: str, at: np.ndarray) -> np.ndarray:
        return texts[positions[part][at]]

    def key(part: str, at: int) -> bytes:
        return texts[positions[part][at]].encode()

    return Raw(entry["name"], "text", labels, take, key, classes, 1, _meta(path, entry))
