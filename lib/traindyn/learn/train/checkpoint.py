"""Where a training stands, in one file without pickle, so that a killed run goes on to the same trajectory."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from traindyn.errors import InputError
from traindyn.files import atomic_path, set_aside, sha256_array
from traindyn.learn.train.loop import Loop

FORMAT = "2"


def fingerprint(loop: Loop, settings: dict[str, Any]) -> str:
    """Return a hexadecimal key of everything that a trajectory follows from.

    That is the settings, the rates, the seeds, the initial weights and the data. Functions (rates, probes, a loss, a
    stream) count by their names only.
    """
    feed = loop.feed
    data = [] if feed.streams else [sha256_array(part.detach().cpu().numpy()) for part in (feed.X, feed.y)]
    weights = sha256_array(loop.start_flat.detach().cpu().numpy())
    parts = [settings, [str(_plain(plan)) for plan in loop.plans], loop.seeds, data, weights, str(loop.stack.shapes)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | range):
        return [_plain(item) for item in value]
    return value if isinstance(value, int | float | str | bool | None) else type(value).__name__


def save(loop: Loop, path: Path, key: str) -> None:
    """Write where `loop` stands after a block of steps; the file is complete or the old one stays.

    Args:
        loop: the loop, between two blocks.
        path: the file.
        key: its `fingerprint`.
    """
    recorder = loop.recorder
    tensors: dict[str, Tensor] = {"flat": loop.stack.flat, "active": loop.active}
    tensors |= {f"buffer/{name}": values for name, values in loop.buffers.items()}
    tensors |= {f"row/{name}": torch.stack(values) for name, values in recorder.rows.items() if values}
    tensors |= {"bad_at": torch.as_tensor(loop.bad_at), "bad_loss": torch.as_tensor(loop.bad_loss)}
    tensors |= {f"reference/{index}": values for index, values in enumerate(loop.references)}
    for name, rates in (("rates", loop.exact), ("start_rates", loop.start_rates)):
        tensors[name] = rates if isinstance(rates, Tensor) else torch.tensor(rates, dtype=torch.float64)
    for index, rng in enumerate(loop.feed.generators):
        tensors[f"generator/{index}"] = rng.get_state()
    looks: dict[str, list[int]] = {}
    for name, seen in recorder.seen.items():
        looks[name] = [step for step, _ in seen]
        for at, (_, look) in enumerate(seen):
            for run, part in [("all", look)] if isinstance(look, dict) else enumerate(look):
                tensors |= {f"look/{name}/{at}/{run}/{item}": value for item, value in part.items()}
    state = {
        "first": loop.first,
        "steps": recorder.steps,
        "looks": looks,
        "wall": loop.wall,
    }
    meta = {"format": FORMAT, "key": key, "state": json.dumps(state)}
    with atomic_path(path) as part:
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, part, meta)


def restore(loop: Loop, path: Path, key: str) -> bool:
    """Bring a fresh `loop` to where the file stands; return False if there is none that can be believed.

    A damaged file is set aside, with a warning, and the training begins anew.

    Raises:
        InputError: the file belongs to another training.
    """
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        state = json.loads(meta["state"])
        found = meta["key"]
    except Exception as error:  # whatever half a file makes the reader raise
        aside = set_aside(path).name
        warnings.warn(
            f"{path} cannot be read ({type(error).__name__}); set aside as {aside}, beginning anew", stacklevel=2
        )
        return False
    if meta["format"] != FORMAT or found != key:
        raise InputError(f"{path}: belongs to another training; remove it, or give another folder to checkpoint=")
    device, recorder = loop.stack.flat.device, loop.recorder
    loop.stack.flat.copy_(tensors["flat"])
    loop.active = tensors["active"].to(device)
    for name, values in loop.buffers.items():
        values.copy_(tensors[f"buffer/{name}"])
    recorder.rows = {
        name: list(tensors[f"row/{name}"].to(device)) if f"row/{name}" in tensors else [] for name in recorder.rows
    }
    recorder.steps = state["steps"]
    for name, steps in state["looks"].items():
        recorder.seen[name] = [(step, _look(tensors, f"look/{name}/{at}/", loop)) for at, step in enumerate(steps)]
    for index, rng in enumerate(loop.feed.generators):
        rng.set_state(tensors[f"generator/{index}"])
    loop.bad_at, loop.bad_loss = (np.array(tensors[name].numpy()) for name in ("bad_at", "bad_loss"))
    exact, start = tensors["rates"], tensors["start_rates"]
    loop.hold(exact.to(device) if exact.ndim else exact.item())
    loop.start_rates = start.to(device) if start.ndim else start.item()
    loop.references = [tensors[f"reference/{index}"].to(device) for index in range(len(loop.reference_functions))]
    loop.turn()
    loop.first, loop.wall = state["first"], state["wall"]
    return True


def _look(tensors: dict[str, Tensor], prefix: str, loop: Loop) -> Any:
    """Return what a probe saw at one time: a dict of all runs, or a list of dicts."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name in (name for name in tensors if name.startswith(prefix)):
        run, item = name.removeprefix(prefix).split("/", 1)
        parts.setdefault(run, {})[item] = tensors[name]
    return parts["all"] if "all" in parts else [parts.get(str(run), {}) for run in range(loop.stack.runs)]
