"""What a worker does for one point of a sweep: run it, say in one word how it ended, leave a small table."""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from traindyn import files
from traindyn.errors import InputError
from traindyn.parameters import Resolved
from traindyn.run.notebook import PLAINLY, How

DONE = "done"
# how else a point can end, as the summary says it
FAILURES = {
    "parameter": "wrong parameter",
    "cell": "failed cell",
    "kernel": "kernel died",
    "memory": "out of its memory",
    "time": "out of its time",
    "lost": "lost worker",
    "disk": "disk full",
    "error": "error of the executor",
    "stopped": "stopped",
}


@dataclass(frozen=True)
class Task:
    """One point.

    Attributes:
        point: its number in the grid.
        name: a function of preset, parameters and sizes.
        values: what is swept.
        resolved: the run.
        out: its folder.
        table: its small table.
        key: the run's content key.
        how: limits of time and memory.
        force: replace another run in `out`.
        strict: refuse where the worker's code or data are not those that the key was made of.
    """

    point: int
    name: str
    values: Mapping[str, Any]
    resolved: Resolved
    out: Path
    table: Path
    key: str
    how: How = PLAINLY
    force: bool = False
    strict: bool = False

    @property
    def log(self) -> Path:
        """Where the whole story of a failure lies."""
        return self.out.with_name(f"{self.out.name}.log")


@dataclass(frozen=True)
class Result:
    """How a point ended: a word (`DONE` or of `FAILURES`), a line, seconds, and the worker's memory afterwards."""

    point: int
    status: str
    message: str = ""
    seconds: float = 0.0
    worker_mb: float = field(default=0.0, compare=False)


def perform(task: Task) -> Result:
    """Execute a point in a kernel below this process and write its table; no failure of the point is raised."""
    import psutil

    from traindyn.run import execute, remote, watching
    from traindyn.run.notebook import RunFailed

    start, status, message = time.perf_counter(), DONE, ""
    try:
        how = task.how
        if task.strict:
            _check_worker(task)
            how = replace(how, memory=how.memory or remote.own_share())
        execute.execute(task.resolved, task.out, force=task.force, how=how)
    except InputError as error:
        status, message = "parameter", str(error)
    except RunFailed as error:
        status, message = error.kind, str(error)
    except Exception as error:
        status = "disk" if full(error) else "error"
        message = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    if task.how.owner in watching.STOPPED and status != DONE:
        status = "stopped"
    memory = psutil.Process().memory_info().rss / 2**20
    result = Result(task.point, status, message, time.perf_counter() - start, memory)
    if status != "stopped":
        record(task, result)
    return result


def full(error: BaseException) -> bool:
    """Return whether an error says that a disk, or one's share of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))


def _check_worker(task: Task) -> None:
    """Raise on a worker that came later, and differs from those that were compared at the start."""
    from traindyn.run import keys, remote

    remote.clean()
    if keys.run_key(task.resolved, task.how) != task.key:
        raise RuntimeError("this worker has other code, versions or data than the sweep began with")


def record(task: Task, result: Result) -> None:
    """Write a point's small table."""
    from traindyn.run import gather

    finished = result.status == DONE
    claims = files.read_json(task.out / "claims.json") if finished else None
    about: dict[str, Any] = {"point": task.point, "name": task.name, "status": result.status, "key": task.key}
    about |= {"seconds": result.seconds, "message": result.message}
    if finished:
        found = files.read_json(task.out / "provenance.json")
        about["memory_mb"] = found.get("peak_memory_mb")
        about["seconds"] = found.get("wall_seconds", result.seconds)
    gather.write_point(task.table, about, task.values, claims)


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the process that leads the sweep: a terminal sends it to workers too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def stop(sweep: str) -> None:
    """Ask this worker to end the kernel that it runs for a sweep."""
    from traindyn.run import watching

    watching.STOPPED.add(sweep)
