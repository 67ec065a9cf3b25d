"""Where and how numbers are computed: device, explicit random generators, precision and a memory budget."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import psutil
import torch

from traindyn.errors import InputError

Device = torch.device | str


def pick_device(name: Device = "auto") -> torch.device:
    """Return the device called `name`.

    Args:
        name: "auto" (cuda, else mps, else cpu), "cpu", "cuda", "cuda:1", "mps", or a `torch.device`.

    Raises:
        InputError: the name is not a device, or this machine has no such device.
    """
    if name == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device '{name}' is not a device; expected auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise InputError(
                f"device '{name}' was asked for, but torch sees {count} CUDA devices; use --device auto or cpu, "
                "or install a CUDA build of torch (make setup TORCH_INDEX=URL)"
            )
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device 'mps' was asked for, but torch sees no Apple GPU here; use --device auto or cpu")
    elif device.type not in ("cpu", "mps", "meta"):
        raise InputError(f"device '{name}' is not supported; expected auto, cpu, cuda, cuda:1 or mps")
    return device


def generator(seed: int, purpose: str = "") -> torch.Generator:
    """Return a CPU generator that depends on `seed` and on what it is for.

    Streams of different purposes ("init", "data", "order", ...) are independent, so drawing more of one never shifts
    another. It lives on the CPU: the same seed gives the same numbers whatever device they are then used on.

    Args:
        seed: any integer.
        purpose: a short word; part of the stream's identity.
    """
    digest = hashlib.sha256(f"{int(seed)}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def normal(seeds: Iterable[int], purpose: str, *shape: int) -> torch.Tensor:
    """Return standard normal numbers of shape (len(seeds), *shape), float64, each slice from its own seed's stream.

    A slice does not depend on which other seeds are drawn beside it, so vectorising over seeds changes no number.

    Args:
        seeds: one integer per slice.
        purpose: as for `generator`.
        shape: shape of one slice.
    """
    return torch.stack([torch.randn(shape, dtype=torch.float64, generator=generator(s, purpose)) for s in seeds])


def uniform(seeds: Iterable[int], purpose: str, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    """Return uniform numbers on [low, high) of shape (len(seeds), *shape), float64, each slice from its own seed.

    Args:
        seeds, purpose, shape: as for `normal`.
        low, high: ends of the interval.
    """
    draws = [torch.rand(shape, dtype=torch.float64, generator=generator(s, purpose)) for s in seeds]
    return low + (high - low) * torch.stack(draws)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[Callable[[], bool]]:
    """Let torch's global generators start from `seed` for a while, and be as before afterwards.

    Args:
        seed: of the generators of the CPU and of `device`.
        device: where the pass runs.

    Yields:
        function () -> whether something was drawn from them since.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or torch.cuda.current_device()])
    before = [generator.get_state() for generator in generators]
    starts = [generator.manual_seed(seed).get_state() for generator in generators]
    try:
        yield lambda: not all(torch.equal(g.get_state(), start) for g, start in zip(generators, starts, strict=True))
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)


@contextmanager
def strict_float32() -> Iterator[None]:
    """Within the block float32 means float32: no TF32 in matrix products or convolutions on CUDA."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def float64_device(device: Device) -> torch.device:
    """Return `device` if it computes in float64, else the CPU (Apple's GPU has no float64)."""
    device = torch.device(device)
    return torch.device("cpu") if device.type == "mps" else device


def in_float64(values: torch.Tensor) -> torch.Tensor:
    """Return the values in float64, on their device or, where that has no float64, on the CPU."""
    return values.to(float64_device(values.device)).double()


def memory_budget(device: Device = "cpu") -> int:
    """Return how many bytes one computation may take on `device`.

    A quarter of what is free there at the moment, at most 2 GiB on a CPU; the environment variable
    `TRAINDYN_MEMORY` (in MiB) overrides it.

    Raises:
        InputError: `TRAINDYN_MEMORY` is not a number above 0.
    """
    if limit := os.environ.get("TRAINDYN_MEMORY"):
        try:
            mebibytes = float(limit)
        except ValueError:
            mebibytes = math.nan
        if not 0 < mebibytes < math.inf:
            raise InputError(f"TRAINDYN_MEMORY: expected a number of MiB above 0, such as 2048, got '{limit}'")
        return int(mebibytes * 2**20)
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 4
    return min(psutil.virtual_memory().available // 4, 2 * 2**30)


def chunk_size(bytes_per_item: int, items: int, device: Device = "cpu", budget: int | None = None) -> int:
    """Return how many of `items` fit the memory budget at once: between 1 and `items`.

    Args:
        bytes_per_item: bytes that one item takes.
        items: how many items there are, >= 1.
        device: where they will lie.
        budget: bytes available; `memory_budget(device)` if None.
    """
    budget = memory_budget(device) if budget is None else budget
    return max(1, min(items, budget // max(1, bytes_per_item)))
