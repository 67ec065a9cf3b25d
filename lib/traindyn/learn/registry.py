"""The registry of data sets: where they come from, and what to do when one is not here."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from traindyn.errors import nearest
from traindyn.learn import sources

REGISTRY = Path(__file__).resolve().parents[3] / "data" / "registry.toml"


def entries() -> dict[str, dict[str, Any]]:
    """Return the registry: {name: entry}. Empty where the library was installed without its book."""
    if not REGISTRY.is_file():
        return {}
    return {entry["name"]: entry for entry in tomllib.loads(REGISTRY.read_text(encoding="utf-8"))["dataset"]}


def missing(name: str, root: str | Path | None = None) -> str:
    """Return the message for a set that is not here: the command that brings it, and the closest offline set."""
    known, here = entries(), sources.local_names(root)
    if name not in known:
        every = list(dict.fromkeys([*here, *known]))
        return f"unknown data set '{name}'{nearest(name, every)}; known: {', '.join(every)}"
    close = next((other for other in known[name].get("offline", []) if other in here), "mnist5k")
    how = (
        f"bring it with: traindyn data fetch {name}"
        if known[name].get("hub")
        else "it cannot be fetched (no checked public source); put its file and a MANIFEST.toml into data/cache"
    )
    return (
        f"data set '{name}' is not here; {how} (or set TRAINDYN_DATA to a folder that has it); closest here: '{close}'"
    )
