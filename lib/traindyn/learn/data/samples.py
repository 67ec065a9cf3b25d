"""A labelled set as it is stored: its classes, an order and a checksum that do not depend on the file's order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from traindyn.errors import InputError, nearest


@dataclass(frozen=True)
class Raw:
    """A labelled set as it is stored.

    Attributes:
        name: its name.
        kind: "image" (n, h, w) or (n, h, w, c), "audio" (n, samples), "table" (n, numbers), or "text" (strings).
        labels: {part: class indices (n,)}; parts "train" and "test", or only "all" where there is no split.
        take: (part, positions) -> the samples there, decoded.
        key: (part, position) -> bytes that identify the stored sample there.
        classes: class names, by index.
        top: the largest value a sample can have (255 for bytes).
        meta: file, checksum, caveat, licence, citation, as far as they are known.
        low: the smallest value a sample can have.
    """

    name: str
    kind: str
    labels: dict[str, np.ndarray]
    take: Callable[[str, np.ndarray], Any]
    key: Callable[[str, int], bytes]
    classes: tuple[str, ...]
    top: float
    meta: dict[str, Any] = field(default_factory=dict)
    low: float = 0.0


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


def drawn_digest(raw: Raw, drawn: Iterable[tuple[str, np.ndarray]]) -> str:
    """Return the SHA-256 of labelled samples in the order in which they were drawn.

    Args:
        raw: the set.
        drawn: pairs of stored part and positions: the training samples, then the test samples.
    """
    total = hashlib.sha256()
    for part, positions in drawn:
        total.update(b"part")
        for at in positions:
            total.update(hashlib.sha256(b"%d\0" % raw.labels[part][at] + raw.key(part, int(at))).digest())
    return total.hexdigest()


def pick_classes(raw: Raw, classes: Any) -> list[int]:
    """Return the class indices of `classes`: names, or indices; None means all.

    A class "48 motorcycle" answers to its whole name, to "motorcycle" and to the number 48.

    Raises:
        InputError: a class is unknown, or fewer than one or repeated ones are asked for.
    """
    if classes is None:
        return list(range(len(raw.classes)))
    known: dict[Any, int] = {}
    if not isinstance(classes, list | tuple | range | np.ndarray) or np.ndim(classes) != 1:
        raise InputError(f"classes={classes!r}: expected a list of names or numbers, for example ['a', 'b'] or [3, 7]")
    numbered = all(re.fullmatch(r"-?\d+", name.split(" ")[0]) for name in raw.classes)
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
