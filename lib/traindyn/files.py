"""Files that are complete or absent: atomic writes, checksums, content keys, and setting a corrupt file aside."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from traindyn.errors import InputError


def project_root() -> Path:
    """Return the folder that holds `chapters/`, `book/` and `data/`: two above the package, or $TRAINDYN_ROOT.

    Raises:
        InputError: there is no `chapters/` folder there (the library was installed without its book).
    """
    root = Path(os.environ.get("TRAINDYN_ROOT") or Path(__file__).resolve().parents[2])
    if not (root / "chapters").is_dir():
        raise InputError(
            f"no chapters/ folder under {root}; expected a checkout of the book: install with pip install -e . "
            "or set TRAINDYN_ROOT"
        )
    return root


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` if the block ends well, else remove it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part" + path.suffix, dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)  # mkstemp makes it private; a result is for everybody
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` to `path` atomically, in UTF-8, and return the path."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write `value` as indented JSON to `path` atomically. NaN and infinity become null: JSON has neither."""
    return write_text(path, json.dumps(_finite(value), indent=1, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Return the value in a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def sha256_file(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_array(array: np.ndarray) -> str:
    """Return the hexadecimal SHA-256 of an array: its dtype, its shape and its bytes in C order."""
    array = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(array.tobytes())
    return digest.hexdigest()


def content_key(paths: Iterable[Path], *extra: Any) -> str:
    """Return a hexadecimal key that changes when a file's name or bytes, or one of `extra`, changes.

    Args:
        paths: files; the order does not matter.
        extra: values that have a JSON form.
    """
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.name}\0{sha256_file(path)}\0".encode())
    digest.update(json.dumps(extra, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def set_aside(path: Path) -> Path:
    """Rename a file or folder that cannot be believed to `NAME.corrupt` (or `.corrupt-2`, ...); return the new path."""
    count = 1
    while (target := path.with_name(f"{path.name}.corrupt" + (f"-{count}" if count > 1 else ""))).exists():
        count += 1
    path.rename(target)
    return target
