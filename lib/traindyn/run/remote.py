"""An existing Dask scheduler and its workers: found, compared with this machine before anything runs, and counted.

A worker is a process started by hand, by SLURM or by whatever else, with a checkout of the book that may be its own. It
has to compute what this machine would: the same package versions, code and data, one thread, and it has to see the
sweep's folder.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traindyn import files
from traindyn.errors import InputError, import_extra
from traindyn.run import execute, keys

ANSWER = 10  # seconds within which a scheduler has to answer
HASH_SEED = "6640"  # what dask's nanny sets PYTHONHASHSEED to, and a run's content key would see
MAY_DIFFER = ("device",)  # of what a run depends on: a machine without a GPU may lead workers that have one
Around = Mapping[str, dict[str, str]]


@dataclass(frozen=True)
class Cluster:
    """A scheduler that answered.

    Attributes:
        client: of distributed.
        address: the scheduler's.
        resources: what a worker has to offer for a point, {"GPU": 1} say.
    """

    client: Any
    address: str
    resources: Mapping[str, float]

    def workers(self) -> int:
        """Return how many workers there are now."""
        return len(self.client.nthreads())


@contextmanager
def connected(
    address: str | None = None, file: str | None = None, resources: Mapping[str, float] | None = None
) -> Iterator[Cluster]:
    """Give a connection to a scheduler; the scheduler and its workers live on.

    Args:
        address: as `tcp://host:8786`, or `tls://...` with Dask's own configuration.
        file: the scheduler's file, instead of an address.
        resources: what a worker has to offer for a point.

    Raises:
        InputError: the address or the file is none, nothing answers there, or no worker is known there.
    """
    distributed = import_extra("distributed", "a sweep")
    for name in ("distributed", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    where = {"scheduler_file": _file(file)} if file is not None else {"address": _address(address or "")}
    place = file if file is not None else address
    try:
        client = distributed.Client(**where, timeout=ANSWER, set_as_default=False)
    except Exception as error:  # of every kind: a name that is none, no route, a refusal, another protocol
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"no Dask scheduler answers at {place} ({said}); start one there: dask scheduler --port 8786"
        ) from error
    try:
        found = Cluster(client, client.scheduler.address, dict(resources or {}))
        if not found.workers():
            raise InputError(
                f"the scheduler at {found.address} has no workers; start some: "
                f"dask worker {found.address} --nworkers 2 --nthreads 1"
            )
        yield found
    finally:
        with suppress(Exception):
            client.close(timeout=5)


def _address(text: str) -> str:
    scheme, sign, rest = text.partition("://")
    host, colon, port = rest.rpartition(":")
    if not sign or scheme not in ("tcp", "tls", "ucx", "ws", "wss") or not host or not port.isdigit():
        raise InputError(f"--scheduler '{text}' is no address; expected tcp://HOST:PORT")
    return text


def _file(text: str) -> str:
    path = Path(text).expanduser()
    try:
        address = files.read_json(path)["address"]
    except OSError as error:
        raise InputError(f"cannot read the scheduler file {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a scheduler file: it has no address; see dask scheduler --help") from error
    _address(str(address))
    return str(path)


def checked(cluster: Cluster, chapter: str, devices: Sequence[str]) -> Around:
    """Compare every worker with this machine; return what runs depend on there, for each device.

    Raises:
        InputError: a worker differs: the message names it and the difference.
    """
    here = _about(chapter, ())
    found = cluster.client.run(_about, chapter, list(devices), on_error="return")
    reference: tuple[str, dict[str, Any]] | None = None
    for worker, said in sorted(found.items()):
        if isinstance(said, BaseException):
            kind = "" if isinstance(said, InputError) else f"{type(said).__name__}: "
            raise InputError(f"worker {worker} cannot take part: {kind}{' '.join(str(said).split())[:300]}")
        if said["error"]:
            raise InputError(f"worker {worker} cannot take part: {said['error']}")
        if (threads := cluster.client.nthreads().get(worker, 1)) != 1:
            raise InputError(f"worker {worker} runs {threads} points at once; start it with --nthreads 1")
        if line := _difference(here, said):
            raise InputError(f"worker {worker} differs from this machine: {line}")
        if reference is None:
            reference = worker, said
        elif other := _among(reference[1], said):
            raise InputError(f"worker {worker} differs from {reference[0]}: {other}; leave one of them out")
    assert reference is not None
    return reference[1]["around"]


def _about(chapter: str, devices: Sequence[str]) -> dict[str, Any]:
    """Return what a process computes with: versions, and for each device what runs depend on (the CPU if none)."""
    from traindyn.report import provenance

    clean()
    try:
        around = {device: keys.surroundings(chapter, device) for device in devices or ["cpu"]}
    except InputError as error:
        return {"error": str(error)}
    return {"error": "", "versions": provenance.versions(), "around": around, "root": str(files.project_root())}


def clean() -> None:
    """Take out of this process's environment what dask's nanny put into it and a run's content key would see."""
    if os.environ.get("PYTHONHASHSEED") == HASH_SEED:
        del os.environ["PYTHONHASHSEED"]


def _difference(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    for name in sorted({*here["versions"], *there["versions"]}):
        pair = [entry["versions"].get(name, "none") for entry in (there, here)]
        if pair[0] != pair[1]:
            return f"it has {name} {pair[0]}, not {pair[1]}; install from the same constraints.txt"
    (mine,) = here["around"].values()
    for around in there["around"].values():
        for name, value in around.items():
            if name not in MAY_DIFFER and mine[name] != value:
                return f"{name}; its checkout is {there['root']}"
    return ""


def _among(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    for device, around in one["around"].items():
        for name, value in around.items():
            if other["around"][device][name] != value:
                return name
    return ""


@contextmanager
def seen_by_all(cluster: Cluster, folder: Path, places: Sequence[Path]) -> Iterator[None]:
    """Make sure, before the block, that every worker sees what this machine writes into a sweep's folders.

    Raises:
        InputError: one of them does not; folders that were made for the purpose are removed.
    """
    made = [one for place in dict.fromkeys([folder, *places]) for one in execute.make_folder(place)]
    mark = secrets.token_hex(8)
    try:
        for place in dict.fromkeys([folder, *places]):
            path = place / f".seen-{mark}"
            path.write_text(mark)
            try:
                found = cluster.client.run(_sees, str(path), mark, on_error="return")
            finally:
                path.unlink(missing_ok=True)
            if blind := sorted(worker for worker, seen in found.items() if seen is not True):
                raise InputError(
                    f"worker {blind[0]} does not see {place}; put the sweep on a disk that all share: --out DIR"
                )
    except BaseException:
        for one in sorted(made, key=lambda path: -len(path.parts)):
            with suppress(OSError):
                one.rmdir()
        raise
    yield


def _sees(path: str, mark: str) -> bool:
    """Return whether a file that another machine wrote can be read here, and its folder written."""
    end = time.monotonic() + 5  # a network's disk may take a moment to show it
    while True:
        with suppress(OSError):
            return Path(path).read_text() == mark and os.access(Path(path).parent, os.W_OK)
        if time.monotonic() > end:
            return False
        time.sleep(0.2)


def room(cluster: Cluster) -> Callable[[], int]:
    """Return a function that says how many points may be out at once: as many as there are workers."""
    state = {"at": -1e9, "count": 1}

    def count() -> int:
        if time.monotonic() - state["at"] > 2:
            with suppress(Exception):  # a scheduler that does not answer is noticed elsewhere
                state["count"] = max(1, cluster.workers())
            state["at"] = time.monotonic()
        return int(state["count"])

    return count


def own_share() -> float | None:
    """Return the bytes that dask gives to the worker that runs this; None outside of one, or without a limit."""
    distributed = import_extra("distributed", "a sweep")
    try:
        return distributed.get_worker().memory_manager.memory_limit
    except (ValueError, AttributeError):
        return None
