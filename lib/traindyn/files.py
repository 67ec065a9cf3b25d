"""Files that are complete or absent: atomic writes, locks, checksums, content keys, setting a corrupt file aside."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from traindyn.errors import InputError


def checkout() -> Path | None:
    """Return the project's folder ($TRAINDYN_ROOT, or two above the package), or None if there is no checkout."""
    root = Path(os.environ.get("TRAINDYN_ROOT") or Path(__file__).resolve().parents[2])
    return root if (root / "chapters").is_dir() else None


def project_root() -> Path:
    """Return the folder that holds `chapters/`, `book/` and `data/`: two above the package, or $TRAINDYN_ROOT.

    Raises:
        InputError: there is no `chapters/` folder there (the library was installed without its book).
    """
    if (root := checkout()) is None:
        place = os.environ.get("TRAINDYN_ROOT") or Path(__file__).resolve().parents[2]
        raise InputError(
            f"no chapters/ folder under {place}; expected a checkout of the book: install with pip install -e . "
            "or set TRAINDYN_ROOT"
        )
    return root


@contextlib.contextmanager
def locked(path: str | Path, doing: str) -> Iterator[None]:
    """Hold a lock file while the block runs; the system lets go of it when the process ends, however it ends.

    Two processes never hold the same lock. The file names its holder and is removed at the end. Where the system has
    no such locks (Windows), nothing is held.

    Args:
        path: the lock file; its folder is made.
        doing: what the holder does, for the message ("building the book at preset smoke").

    Raises:
        InputError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    path = Path(path)
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - open as long as the lock is held
        except FileNotFoundError:  # another process has just taken its empty folder away
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            holder = handle.read().strip() or "?"
            handle.close()
            raise InputError(f"another process ({holder}) is {doing}; wait until it has ended") from None
        # the one before may have removed the file between our two calls: then what we hold is no longer the lock
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle.fileno()), os.stat(path)):
                break
        handle.close()
    try:
        handle.truncate(0)
        handle.write(f"process {os.getpid()}")
        handle.flush()
        yield
    finally:
        path.unlink(missing_ok=True)
        handle.close()


@contextlib.contextmanager
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


def read_text(path: str | Path, what: str = "") -> str:
    """Return the text of a file that a person wrote.

    Args:
        path: the file.
        what: what it is, for the message ("the ledger").

    Raises:
        InputError: it cannot be read or is not UTF-8.
    """
    named = f"{what} {path}".strip()
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {named}: not a text file in UTF-8; save it as one") from error
    except OSError as error:
        raise InputError(f"cannot read {named}: {error.strerror}") from error


class _Once(yaml.SafeLoader):
    """Reads YAML in which no key may stand twice: the second would win without a word."""


class _OnceAsText(yaml.BaseLoader):
    """The same, with every scalar left as text."""


def _mapping(loader: Any, node: Any, deep: bool = False) -> Any:
    names = [str(key.value) for key, _ in node.value]
    if same := next((name for name in names if names.count(name) > 1), None):
        raise yaml.YAMLError(f"'{same}' stands there twice, in line {node.start_mark.line + 1} and below; keep one")
    if isinstance(loader, yaml.SafeLoader):
        loader.flatten_mapping(node)
    pairs = [[loader.construct_object(one, deep=True) for one in pair] for pair in node.value]
    return {key: value for key, value in pairs}


for _loader in (_Once, _OnceAsText):
    _loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_yaml(path: str | Path, what: str = "", as_text: bool = False) -> Any:
    """Return what a YAML file holds.

    Args:
        path, what: as in `read_text`.
        as_text: leave every scalar as it is written.

    Raises:
        InputError: as in `read_text`, or it is not YAML, or has a key twice.
    """
    text = read_text(path, what)
    named = f"{what} {path}".strip()
    try:
        return yaml.load(text, Loader=_OnceAsText if as_text else _Once)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{named} is not YAML: {' '.join(str(error).split())}") from error
    except (RecursionError, TypeError) as error:  # brackets in brackets; a mapping as a key
        raise InputError(f"{named} is not YAML that can be read ({type(error).__name__})") from error


def read_toml(path: str | Path, what: str = "") -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises:
        InputError: as in `read_text`, or it is not TOML.
    """
    try:
        return tomllib.loads(read_text(path, what))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{what} {path} is not TOML: {error}".strip()) from error


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


def content_key(named: Mapping[str, Path], *extra: Any) -> str:
    """Return a hexadecimal key that changes when a file's name or bytes, or one of `extra`, changes.

    Args:
        named: {name: file}; the name is what stands in the key, so give a path relative to what may be moved.
        extra: values that have a JSON form.
    """
    digest = hashlib.sha256()
    for name, path in sorted(named.items()):
        digest.update(f"{name}\0{sha256_file(path)}\0".encode())
    digest.update(json.dumps(extra, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def relative(paths: Iterable[Path], folder: Path, prefix: str = "") -> dict[str, Path]:
    """Return {prefix + path relative to `folder`, with slashes: path} of those paths that are files."""
    return {prefix + path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}


def set_aside(path: Path) -> Path:
    """Rename a file or folder that cannot be believed to `NAME.corrupt` (or `.corrupt-2`, ...); return the new path."""
    count = 1
    while (target := path.with_name(f"{path.name}.corrupt" + (f"-{count}" if count > 1 else ""))).exists():
        count += 1
    path.rename(target)
    return target
