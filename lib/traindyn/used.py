"""What a run has used, noted where it is used and read when the run's provenance is written.

A process keeps one record. Nothing depends on it: a note changes no number, and a notebook need not think of it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

_DATA: dict[str, dict[str, Any]] = {}


def note_data(about: Mapping[str, Any], draw: Mapping[str, Any]) -> None:
    """Note that a data set was loaded; a draw that was noted before is not noted twice.

    Args:
        about: what holds for the set whatever is drawn from it: "name", file, checksum, source, licence ...
        draw: what was drawn: classes, counts, seed, digest ...
    """
    entry = _DATA.setdefault(about["name"], {**copy.deepcopy(dict(about)), "draws": []})
    if (plain := copy.deepcopy(dict(draw))) not in entry["draws"]:
        entry["draws"].append(plain)


def data() -> dict[str, dict[str, Any]]:
    """Return {name: facts about the set, with its `draws`} of everything that this process has loaded."""
    return copy.deepcopy(_DATA)


def forget() -> None:
    """Empty the record: for tests, which run many things in one process."""
    _DATA.clear()
