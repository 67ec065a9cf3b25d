"""Local folders of data files with a MANIFEST.toml beside them."""

from __future__ import annotations

import csv
import gzip
import io
import os
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from traindyn.errors import InputError
from traindyn.files import sha256_file
from traindyn.learn.data.builtin import SHIPPED
from traindyn.learn.data.samples import Raw

MANIFEST = "MANIFEST.toml"
CACHE = Path(__file__).resolve().parents[4] / "data" / "cache"  # of a checkout: what was fetched lies here


def folders(root: str | Path | None = None) -> list[Path]:
    """Return the folders that are searched for local sets: `root`, $TRAINDYN_DATA, and data/cache of the checkout."""
    given = [root, os.environ.get("TRAINDYN_DATA"), CACHE]
    return [Path(folder) for folder in given if folder]


def manifest(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of a folder's MANIFEST.toml; none if it has no such file.

    Raises:
        InputError: the file cannot be read, or an entry lacks its name, file or sha256.
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
    if (found := sha256_file(path)) != sha256:
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
    parts = [part for part in ("train", "test") if f"y_{part}" in arrays]
    labels = {part: arrays[f"y_{part}"] for part in parts} if parts else {"all": arrays["y"]}
    encoded = any(name.startswith("jpeg") for name in arrays)
    stored = {part: arrays[("jpeg" if encoded else "x") + ("" if part == "all" else f"_{part}")] for part in labels}
    if "is_test" in arrays:
        held_out = arrays["is_test"]
        positions = {"train": np.flatnonzero(~held_out), "test": np.flatnonzero(held_out)}
        labels, stored = ({part: table["all"][at] for part, at in positions.items()} for table in (labels, stored))
    for part in labels:
        if not encoded and len(stored[part]) != len(labels[part]):
            raise InputError(f"{path}: {len(stored[part])} samples and {len(labels[part])} labels in part '{part}'")

    def take(part: str, at: np.ndarray) -> np.ndarray:
        if not encoded:
            return stored[part][at]
        from PIL import Image

        offsets = arrays["offset" if part == "all" else f"offset_{part}"]

        def decoded(i: int) -> np.ndarray:
            return np.asarray(
                Image.open(io.BytesIO(stored[part][offsets[i] : offsets[i + 1]].tobytes())).convert("RGB")
            )

        return np.stack([decoded(i) for i in at]) if len(at) else decoded(0)[None][:0]

    def key(part: str, at: int) -> bytes:
        if not encoded:
            return stored[part][at].tobytes()
        offsets = arrays["offset" if part == "all" else f"offset_{part}"]
        return stored[part][offsets[at] : offsets[at + 1]].tobytes()

    shape, kind = next(iter(stored.values())).shape, "image"
    if not encoded and len(shape) == 2:
        kind = "audio"
    classes, labels = _classes(entry, labels)
    top = 255 if encoded or next(iter(stored.values())).dtype == np.uint8 else 32768
    return Raw(entry["name"], kind, labels, take, key, classes, top, _meta(path, entry))


def _read_csv(path: Path, entry: dict[str, Any]) -> Raw:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    texts = np.asarray([f"{row['title']} {row['description']}".strip() for row in rows], dtype=object)
    part_of = np.asarray([row.get("part", "all") for row in rows])
    positions = {part: np.flatnonzero(part_of == part) for part in ("all", "train", "test") if part in part_of}
    label = np.asarray([int(row["label"]) for row in rows])
    classes, labels = _classes(entry, {part: label[at] for part, at in positions.items()})

    def take(part: str, at: np.ndarray) -> np.ndarray:
        return texts[positions[part][at]]

    def key(part: str, at: int) -> bytes:
        return texts[positions[part][at]].encode()

    return Raw(entry["name"], "text", labels, take, key, classes, 1, _meta(path, entry))


def _classes(entry: dict[str, Any], labels: dict[str, np.ndarray]) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Return class names and labels 0, 1, ...: labels that are not consecutive are numbered in their order."""
    present = np.unique(np.concatenate(list(labels.values())))
    names = tuple(str(name) for name in entry.get("classes", [str(value) for value in present]))
    if len(present) and present[-1] >= len(names):
        labels = {part: np.searchsorted(present, values) for part, values in labels.items()}
    return names, {part: values.astype(np.int64) for part, values in labels.items()}
