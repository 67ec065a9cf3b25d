"""Points of a sweep handed to a cluster, one per worker at a time, and their results taken as they arrive."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from traindyn.run import cluster, remote, tasks
from traindyn.run.tasks import DONE, Result, Task

PATIENCE = 30  # seconds without the scheduler's answer after which a sweep gives up


@dataclass(frozen=True)
class Where:
    """Where points are executed: in a number of processes of this machine, or by an existing scheduler's workers."""

    workers: int = 1
    cluster: remote.Cluster | None = None


@contextmanager
def noted_interrupts() -> Iterator[threading.Event]:
    """Note Ctrl-C and SIGTERM in an event while the block runs; the second one ends the process as usual.

    Raised wherever the leading thread happens to be, an interrupt gets lost in the cluster's own callbacks, or leaves
    locks of its threads behind.
    """
    noted, before = threading.Event(), {}

    def note(number: int, frame: Any) -> None:
        noted.set()
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.getsignal(number) or signal.SIG_DFL
            if before[number] != signal.SIG_IGN:  # in the background of a shell that has it ignored
                signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class SchedulerGone(Exception):
    """The scheduler does not answer any more."""


def executed(waiting: Sequence[Task], where: Where, fail_fast: bool, interrupted: threading.Event) -> Iterator[Result]:
    """Give results as they arrive until all are there, one failed that may not, or `interrupted` is set.

    A full disk stops the sweep: the next points would find it full too.

    No more points are handed out than there are workers.

    Raises:
        SchedulerGone: it does not answer any more.
    """
    if not waiting:
        return
    left = deque(waiting)
    with _client(where, len(waiting)) as (client, room, options):
        running: dict[Any, Task] = {}
        arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stopping = False
        silent = 0.0
        try:
            while (left and not stopping) or running:
                while left and not stopping and len(running) < room():
                    task = left.popleft()
                    name = f"traindyn-{task.how.owner}-{task.point}"
                    future = client.submit(tasks.perform, task, key=name, pure=False, **options)
                    running[future] = task
                    future.add_done_callback(arrived.put)
                if interrupted.is_set():
                    return
                silent = 0.0 if client.status == "running" else silent or time.monotonic()
                if silent and time.monotonic() - silent > PATIENCE:
                    raise SchedulerGone
                try:
                    future = arrived.get(timeout=0.2)
                except queue.Empty:
                    continue
                if client.status != "running" and future.status != "finished":
                    continue  # cancelled with the connection, which says nothing about the point
                result = _result(future, running.pop(future))
                future.release()
                stopping = (fail_fast and result.status != DONE) or result.status == "disk"
                yield result
                if stopping:
                    return
        finally:
            if running and client.status == "running":
                _stop(client, list(running), waiting[0].how.owner)


@contextmanager
def _client(where: Where, points: int) -> Iterator[tuple[Any, Callable[[], int], dict[str, Any]]]:
    """Give a client, a function that says how many points may be out at once, and options of a submission."""
    if where.cluster is None:
        count = min(where.workers, points)
        with cluster.local(count) as client:
            yield client, lambda: count, {}
    else:
        options = {"resources": dict(where.cluster.resources)} if where.cluster.resources else {}
        yield where.cluster.client, remote.room(where.cluster), options


def _result(future: Any, task: Task) -> Result:
    """Return how a point ended; what its worker could not write any more is written here."""
    if future.status == "finished":
        return future.result()
    error = future.exception() if future.status == "error" else None
    kind = type(error).__name__
    lost = error is None or kind in ("KilledWorker", "CommClosedError", "CancelledError", "FutureCancelledError")
    status = "lost" if lost else "error"
    said = "its worker was killed (out of memory, perhaps)" if lost else f"{kind}: {error}"
    result = Result(task.point, status, said)
    tasks.record(task, result)
    return result


def _stop(client: Any, futures: list[Any], sweep: str) -> None:
    """End the kernels that still run for this sweep and wait for their workers to clear up behind them."""
    with suppress(Exception):
        client.run(tasks.stop, sweep, wait=True)
        end = time.monotonic() + 15
        while time.monotonic() < end and any(not future.done() for future in futures):
            time.sleep(0.1)
        client.cancel(futures)
