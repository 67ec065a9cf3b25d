"""Registered data sets by name, cut into train and test."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from traindyn import used as used_in_run
from traindyn.compute import generator, pick_device
from traindyn.errors import InputError, choose
from traindyn.learn.data import features as feature_maps
from traindyn.learn.data import local, registry, samples
from traindyn.learn.data.builtin import SHIPPED

LABELS = ("index", "pm1", "onehot")
TEST_SHARE = 0.2  # of a set that has no test part of its own


@dataclass
class Dataset:
    """A labelled set, cut into train and test.

    Attributes:
        X_train, X_test: inputs, (n, channels, h, w), or (n, d) if flattened or text.
        y_train, y_test: labels, as asked for.
        meta: name, classes, counts, scale, features, seed, how it was split, file and checksum, licence, citation,
            caveat; `obtainable`: whether the same arrays can be had from the public set; `digest`: SHA-256 of the
            stored samples that were drawn, in their order.
    """

    X_train: Tensor
    y_train: Tensor
    X_test: Tensor
    y_test: Tensor
    meta: dict[str, Any] = field(default_factory=dict)


def load(
    name: str,
    *,
    classes: Any = None,
    n_train: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
    labels: str = "index",
    scale: str = "standard",
    size: int | None = None,
    flatten: bool = False,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    root: str | Path | None = None,
    features: str | None = None,
) -> Dataset:
    """Return a registered data set: from a package, or from a local folder with a MANIFEST.toml.

    Local folders are searched in the order `root`, $TRAINDYN_DATA, data/cache. Nothing is downloaded here.

    Args:
        name: "digits", "mnist5k", "patches" (shipped with packages), or the name of a local set.
        classes: names or numbers of the classes to keep, in the order of their labels; None: all.
        n_train, n_test: how many samples, drawn at random with equal counts per class (one more in the first classes
            where that does not divide); None: all there are. A set without a test part gives n_test samples to
            it, or a fifth of each class.
        seed: fixes which samples are drawn, and their order.
        labels: "index": int64 (n,), 0, 1, ... in the order of `classes`; "pm1": float (n,), -1 for the first class and
            +1 for the second; "onehot": float (n, classes).
        scale: "standard", "unit", "norm" or "raw"; see `features.rescale`.
        size: side of images (averaged over areas); number of mel bands (32); size of the vocabulary (1000).
        flatten: return inputs as (n, d).
        dtype: of inputs and float labels; None: float32.
        device: None: the CPU.
        root: a folder to look in first.
        features: None, or "logmel" (sound, the default there), "spectrogram", "wave".

    Raises:
        InputError: the set is unknown or not here (the message says what brings it), damaged, not unmistakable, or has
            too few samples; an argument is of the wrong type.
    """
    choose("labels", labels, LABELS)
    n_train, n_test, seed, size = (
        _whole(word, value)
        for word, value in (("n_train", n_train), ("n_test", n_test), ("seed", seed), ("size", size))
    )
    dtype = torch.float32 if dtype is None else dtype
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InputError(f"dtype={dtype!r}: expected a floating-point type of torch, for example torch.float64")
    raw = open_set(name, root)
    chosen = samples.pick_classes(raw, classes)
    if labels == "pm1" and len(chosen) != 2:
        raise InputError(f"labels='pm1': expected two classes, got {len(chosen)}; give classes=[first, second]")
    at = _draw(raw, chosen, n_train, n_test, seed)
    parts = {part: raw.take(stored, positions) for part, (stored, positions) in at.items()}
    if len(parts["train"]) == 0:
        raise InputError(f"{name}: no training samples; expected n_train >= 1")
    train, test, used = feature_maps.extract(raw.kind, features, parts["train"], parts["test"], size)
    low, top = (raw.low, raw.top) if used in ("pixels", "wave", "columns") else (0.0, 1.0)
    train, test = feature_maps.rescale(train, test, scale, top, low)
    device = torch.device("cpu") if device is None else pick_device(device)
    X = [(part.flatten(1) if flatten else part).to(device=device, dtype=dtype) for part in (train, test)]
    index = [torch.as_tensor(_relabel(raw.labels[stored][positions], chosen)) for stored, positions in at.values()]
    y = [_code(values, labels, len(chosen), dtype).to(device) for values in index]
    about = {
        "name": name,
        "obtainable": registry.obtainable(name, raw.meta.get("sha256")),
        **raw.meta,
        "split": "ours, by seed" if "all" in raw.labels else "of the file",
    }
    draw = {
        "classes": [raw.classes[i] for i in chosen],
        "n_train": len(index[0]),
        "n_test": len(index[1]),
        "counts_train": torch.bincount(index[0], minlength=len(chosen)).tolist(),
        "counts_test": torch.bincount(index[1], minlength=len(chosen)).tolist(),
        "seed": seed,
        "labels": labels,
        "scale": scale,
        "features": used,
        "digest": samples.drawn_digest(raw, at.values()),
    }
    used_in_run.note_data(about, draw)
    return Dataset(X[0], y[0], X[1], y[1], {**about, **draw})


def open_set(name: str, root: str | Path | None = None) -> samples.Raw:
    """Return a registered set as it is stored.

    Raises:
        InputError: as for `load`.
    """
    if found := local.find_local(name, root):
        return local.read_local(*found)
    if name in SHIPPED:
        return SHIPPED[name]()
    raise InputError(registry.missing(name, root))


def present(name: str, root: str | Path | None = None) -> bool:
    """Return whether a set of this name is here: with a package, or as an existing file that a manifest names.

    The file is not read: one that is damaged is present, and `load` says so.
    """
    found = local.find_local(name, root)
    return name in SHIPPED or (found is not None and found[0].is_file())


def _whole(word: str, value: Any) -> int | None:
    if value is None and word != "seed":
        return None
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(f"{word}={value!r}: expected a whole number")
    return int(value)


def _draw(
    raw: samples.Raw, chosen: list[int], n_train: int | None, n_test: int | None, seed: int
) -> dict[str, tuple[str, np.ndarray]]:
    """Return {"train" | "test": (stored part, positions)}: disjoint, balanced, in random order."""
    for word, count in (("n_train", n_train), ("n_test", n_test)):
        if count is not None and count < 0:
            raise InputError(f"{word}: expected at least 0, got {count}")
    rng = generator(seed, f"data/{raw.name}")
    pools: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for order, label in enumerate(chosen):
        for part, y in raw.labels.items():
            found = samples.order(raw, part, np.flatnonzero(y == label))
            found = found[torch.randperm(len(found), generator=rng).numpy()]
            if part == "all":
                held = round(TEST_SHARE * len(found)) if n_test is None else _share(n_test, len(chosen), order)
                pools["test"].append(found[:held])
                # from the far end, so that the training samples are the same whatever n_test leaves them
                pools["train"].append(found[held:][::-1])
            else:
                pools[part].append(found)
    drawn = {}
    for part, wanted in (("train", n_train), ("test", n_test)):
        pool = pools[part] or [np.zeros(0, int)] * len(chosen)
        if wanted is not None:
            counts = [_share(wanted, len(chosen), order) for order in range(len(chosen))]
            for label, have, count in zip(chosen, pool, counts, strict=True):
                if len(have) < count:
                    raise InputError(
                        f"{raw.name}: n_{part}={wanted} asks for {count} {part} samples of class "
                        f"'{raw.classes[label]}', which has {len(have)}"
                    )
            pool = [have[:count] for have, count in zip(pool, counts, strict=True)]
        together = np.concatenate(pool)
        stored = "all" if "all" in raw.labels else part
        order = torch.randperm(len(together), generator=rng).numpy()
        drawn[part] = (stored if stored in raw.labels else "train", together[order])
    return drawn


def _share(total: int, classes: int, order: int) -> int:
    return total // classes + (order < total % classes)


def _relabel(y: np.ndarray, chosen: list[int]) -> np.ndarray:
    table = np.full(max(chosen) + 1, -1)
    table[chosen] = np.arange(len(chosen))
    return table[y]


def _code(index: Tensor, labels: str, classes: int, dtype: torch.dtype) -> Tensor:
    if labels == "index":
        return index
    if labels == "pm1":
        return 2 * index.to(dtype) - 1
    return torch.nn.functional.one_hot(index, classes).to(dtype)
