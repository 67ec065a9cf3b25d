"""Where a training stands, in one file without pickle, so that a killed run goes on to the same trajectory."""

from __future__ import annotations

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
from traindyn.files import atomic_path, set_aside
from traindyn.learn.train import identity
from traindyn.learn.train.loop import Loop

FORMAT = "2"


def fingerprint(loop: Loop, settings: dict[str, Any]) -> dict[str, str]:
    """Return a hexadecimal key for everything that a trajectory and its record follow from, by name.

    Functions count by their code and by the values that they close over, networks by their modules and plain
    attributes, data and initial weights by their content. The memory of a probe (lists, dicts and sets that its
    function closes over) does not count.
    """
    feed, stack = loop.feed, loop.stack
    data = "stream" if feed.streams else [identity.tensor_digest(part) for part in (feed.X, feed.y)]
    parts = {
        "architecture": identity.architecture(stack.module),
        "weights": [identity.tensor_digest(values) for values in (loop.start_flat, *stack.fixed.values())],
        "rates": loop.plans,
        "seeds": loop.seeds,
        "data": data,
        "dtype": str(stack.flat.dtype),
    }
    keys = {name: identity.digest(part) for name, part in (parts | settings).items() if name != "probes"}
    probes = {name: identity.describe(probe, containers=False) for name, probe in settings["probes"].items()}
    return keys | {"probes": identity.digest(probes)}


def save(loop: Loop, path: Path, key: dict[str, str]) -> None:
    """Write where `loop` stands after a block of steps; the file is complete or the old one stays.

    Args:
        loop: the loop, between two blocks.
        path: the file.
        key: its `fingerprint`.
    """
    recorder = loop.recorder
    tensors: dict[str, Tensor] = {"flat": loop.stack.flat, "active": loop.active}
    tensors |= {f"buffer/{name}": values for name, values in loop.buffers.items()}
    tensors |= {f"fixed/{name}": values for name, values in loop.stack.fixed.items()}  # running statistics
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
    meta = {"format": FORMAT, "key": json.dumps(key), "state": json.dumps(state)}
    with atomic_path(path) as part:
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, part, meta)


def restore(loop: Loop, path: Path, key: dict[str, str]) -> bool:
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
        found = json.loads(meta["key"]) if meta["format"] == FORMAT else {}
    except Exception as error:  # whatever half a file makes the reader raise
        aside = set_aside(path).name
        warnings.warn(
            f"{path} cannot be read ({type(error).__name__}); set aside as {aside}, beginning anew", stacklevel=2
        )
        return False
    if found != key:
        other = sorted(name for name in {**found, **key} if found.get(name) != key.get(name)) if found else ["format"]
        raise InputError(
            f"{path}: belongs to another training (another {', '.join(other)}); remove it, or give another folder to "
            "checkpoint="
        )
    device, recorder = loop.stack.flat.device, loop.recorder
    loop.stack.flat.copy_(tensors["flat"])
    loop.active = tensors["active"].to(device)
    for name, values in loop.buffers.items():
        values.copy_(tensors[f"buffer/{name}"])
    for name, values in loop.stack.fixed.items():
        values.copy_(tensors[f"fixed/{name}"])
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
