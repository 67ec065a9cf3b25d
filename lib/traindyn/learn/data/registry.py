"""The registry of data sets: where they come from, fetching one, and checking what is here."""

from __future__ import annotations

import csv
import gzip
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from traindyn.errors import InputError, choose, import_extra, nearest
from traindyn.files import atomic_path, checkout, read_toml, sha256_file, write_text
from traindyn.learn.data import local, samples
from traindyn.learn.data.builtin import SHIPPED


def registry_file() -> Path | None:
    """Return the checkout's data/registry.toml, or None where the library was installed without its book."""
    root = checkout()
    path = None if root is None else root / "data" / "registry.toml"
    return path if path is not None and path.is_file() else None


def entries() -> dict[str, dict[str, Any]]:
    """Return the registry: {name: entry}. Empty where the library was installed without its book."""
    if (path := registry_file()) is None:
        return {}
    try:
        return {entry["name"]: entry for entry in read_toml(path)["dataset"]}
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a registry of data sets ({error}); see data/README.md for the format") from error


def obtainable(name: str, sha256: str | None = None) -> bool:
    """Return whether the arrays of a set (of its local file with this checksum) can be had from the public set."""
    entry = entries().get(name, {})
    return bool(entry.get("obtainable", name in SHIPPED)) and sha256 not in entry.get("partial_files", [])


def missing(name: str, root: str | Path | None = None) -> str:
    """Return the message for a set that is not here: the command that brings it, and the closest offline set."""
    known, here = entries(), local.local_names(root)
    if name not in known:
        every = list(dict.fromkeys([*here, *known]))
        return f"unknown data set '{name}'{nearest(name, every)}; known: {', '.join(every)}"
    close = next((other for other in known[name].get("offline", []) if other in here), "mnist5k")
    how = (
        f"bring it with: traindyn data fetch {name}"
        if "hub" in known[name]
        else "no command brings it; put its file and a MANIFEST.toml into data/cache (data/README.md says how)"
    )
    return (
        f"data set '{name}' is not here; {how}, or set TRAINDYN_DATA to a folder that has it; closest here: '{close}'"
    )


def require(name: str, root: str | Path | None = None) -> None:
    """Check, without reading it, that a set is here and that its local file is the one of its manifest.

    Raises:
        InputError: it is unknown, not here (the message says what brings it), or its file is missing or damaged.
    """
    if found := local.find_local(name, root):
        local.check_file(*found)
    elif name not in SHIPPED:
        raise InputError(missing(name, root))


def listing(root: str | Path | None = None) -> list[dict[str, Any]]:
    """Return one row per known set: name, here (where it is, or ""), kind, obtainable, fetch (what is to be done)."""
    known, rows = entries(), []
    for name in dict.fromkeys([*local.local_names(root), *known]):
        found, entry = local.find_local(name, root), known.get(name, {})
        there = found is not None and found[0].is_file()
        here = str(found[0]) if there else "package" if name in SHIPPED else ""
        brings = f"traindyn data fetch {name}" if "hub" in entry and not here else ""
        if found and not here:
            brings = f"named in {found[0].with_name(local.MANIFEST)}, but {found[0].name} is missing"
        public = obtainable(name, found[1]["sha256"] if found else None)
        rows.append(
            {"name": name, "here": here, "kind": entry.get("kind", "image"), "obtainable": public, "fetch": brings}
        )
    return rows


def path(name: str, root: str | Path | None = None) -> Path:
    """Return the file of a local set.

    Raises:
        InputError: there is no such file; the message says what brings it.
    """
    if found := local.find_local(name, root):
        return found[0]
    if name in SHIPPED:
        raise InputError(f"data set '{name}' comes with a package and has no file of its own")
    raise InputError(missing(name, root))


def verify(root: str | Path | None = None) -> list[tuple[str, str]]:
    """Return (name, "ok" or what is wrong) of every local set: the file's checksum, and the arrays' digests.

    Raises:
        InputError: a manifest cannot be read.
    """
    known, rows = entries(), []
    for name in local.local_names(root):
        if not (found := local.find_local(name, root)):
            continue
        try:
            raw = local.read_local(*found)
            rows.append((name, _compare(raw, known.get(name, {})) or "ok"))
        except InputError as error:
            rows.append((name, str(error)))
    return rows


def _compare(raw: samples.Raw, entry: dict[str, Any]) -> str:
    """Return what differs between a set's arrays and the registry's digests, or an empty string."""
    for part, expected in entry.get("digest", {}).items():
        if part not in raw.labels:
            return f"has no part '{part}'"
        if samples.digest(raw, part) != expected:
            return f"the arrays of part '{part}' are not those of the registry"
    return ""


def fetch(name: str, folder: str | Path | None = None, source: str | Path | None = None) -> Path:
    """Download a set through Hugging Face `datasets` (extra `data`) and write it to a local folder with its manifest.

    Args:
        name: a name of the registry.
        folder: where to; None: data/cache of the checkout, or $TRAINDYN_DATA where there is no checkout.
        source: a local directory in the hub's format (parquet files) to read instead of the hub.

    Returns:
        the file that was written.

    Raises:
        InputError: the set is unknown or has no public source, `datasets` is not installed, the source cannot be read,
            or its arrays are not those of the registry; nothing is written then.
    """
    known = entries()
    entry = known[choose("data set", name, known)]
    if "hub" not in entry:
        raise InputError(f"data set '{name}' cannot be fetched: {entry['obtain']}")
    hub, folder = entry["hub"], folder or local.cache() or os.environ.get("TRAINDYN_DATA")
    if folder is None:
        raise InputError("where should the data lie? there is no checkout here; set TRAINDYN_DATA to a folder")
    folder = Path(folder)
    splits, names = _splits(name, hub, source)
    wanted = entry.get("rows") or {part: {"of": part} for part in ("train", "test") if part in splits}
    arrays: dict[str, Any] = {}
    for part, choice in wanted.items():
        table = splits[choice["of"]]
        if spans := choice.get("rows"):
            at = [row for first, last in spans for row in range(first, last + 1)]
            if at[-1] >= len(table):
                raise InputError(
                    f"{name}: the source has {len(table)} rows in '{choice['of']}', row {at[-1]} is wanted"
                )
            table = table.select(at)
        end = "" if part == "all" else f"_{part}"
        arrays[f"y{end}"] = np.asarray(table[hub["label"]], dtype=np.int64)
        arrays[f"x{end}"] = _samples(table[hub["sample"]], entry["kind"], hub.get("resize"))
    text = entry["kind"] == "text"
    file = folder / f"{name}{'.csv.gz' if text else '.npz'}"
    record = {
        "name": name,
        "file": file.name,
        "classes": entry.get("classes", names),
        "source": f"{hub['repo']} (Hugging Face datasets; revision not checked)",
        **{key: entry[key] for key in ("citation", "licence")},
    }
    with atomic_path(file) as part:
        _write_texts(part, arrays) if text else np.savez_compressed(part, **arrays)
        record["sha256"] = sha256_file(part)
        if wrong := _compare(local.read_local(part, record), entry):
            raise InputError(f"{name}: the source does not have what was seen before: {wrong}")
    _enter(folder, record)
    return file


def _splits(name: str, hub: dict[str, Any], source: str | Path | None) -> tuple[Any, list[str]]:
    """Return the hub's splits and class names."""
    datasets = import_extra("datasets", f"fetching '{name}'")
    try:
        where = (str(source),) if source else (hub["repo"], *([hub["config"]] if "config" in hub else []))
        splits = datasets.load_dataset(*where)
        features = next(iter(splits.values())).features
        for column in (hub["sample"], hub["label"]):
            if column not in features:
                raise InputError(f"{name}: the source has no column '{column}'; it has {', '.join(features)}")
    except InputError:
        raise
    except Exception as error:  # network, cache, format: the library raises errors of every kind
        first = (str(error).splitlines() or [""])[0]
        raise InputError(f"{name}: {where[0]} cannot be read ({type(error).__name__}: {first})") from None
    return splits, list(getattr(features[hub["label"]], "names", []))


def _samples(column: Any, kind: str, resize: int | None) -> np.ndarray | list[str]:
    """Return a column's samples: texts, or images as bytes (n, h, w) or (n, h, w, 3)."""
    if kind == "text":
        return [str(text) for text in column]
    Image = import_extra("PIL.Image", "fetching images")
    images = (image.resize((resize, resize), Image.Resampling.BOX) if resize else image for image in column)
    return np.stack([np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB")) for image in images])


def _write_texts(file: Path, arrays: dict[str, Any]) -> None:
    """Write texts and labels as csv.gz; a part column tells train from test where there are both."""
    with open(file, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed:
        handle = io.TextIOWrapper(packed, encoding="utf-8", newline="")
        writer = csv.writer(handle)
        writer.writerow(["part", "label", "title", "description"])
        for name in [key for key in arrays if key.startswith("y")]:
            part = name.removeprefix("y").removeprefix("_") or "all"
            writer.writerows(
                [part, label, "", text] for label, text in zip(arrays[name], arrays["x" + name[1:]], strict=True)
            )
        handle.flush()
        handle.detach()


def _enter(folder: Path, record: dict[str, Any]) -> None:
    """Write a set into the folder's manifest, in place of an entry of the same name."""
    kept = [entry for entry in local.manifest(folder) if entry["name"] != record["name"]]
    blocks = ["# Data sets of this folder; data/README.md says what the fields mean."]
    for entry in [*kept, record]:
        lines = [f"{key} = {_toml(value)}" for key, value in entry.items()]
        blocks.append("\n".join(["[[dataset]]", *lines]))
    write_text(folder / local.MANIFEST, "\n\n".join(blocks) + "\n")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return str(value)
