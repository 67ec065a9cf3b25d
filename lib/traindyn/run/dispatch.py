"""Points of a sweep handed to a cluster, one per worker at a time, and their results taken as they arrive."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from traindyn.run import cluster, tasks
from traindyn.run.tasks import DONE, Result, Task


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


def executed(waiting: Sequence[Task], workers: int, fail_fast: bool, interrupted: threading.Event) -> Iterator[Result]:
    """Give results as they arrive until all are there, one failed that may not, or `interrupted` is set.

    No more points are handed out than there are workers.
    """
    if not waiting:
        return
    left = deque(waiting)
    with cluster.local(min(workers, len(waiting))) as client:
        running: dict[Any, Task] = {}
        arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def hand_out() -> None:
            task = left.popleft()
            future = client.submit(tasks.perform, task, key=f"point-{task.point}", pure=False)
            running[future] = task
            future.add_done_callback(arrived.put)

        try:
            for _ in range(min(workers, len(left))):
                hand_out()
            while running and not interrupted.is_set():
                try:
                    future = arrived.get(timeout=0.2)
                except queue.Empty:
                    continue
                result = _result(future, running.pop(future))
                future.release()
                if left and not (fail_fast and result.status != DONE):
                    hand_out()
                yield result
                if fail_fast and result.status != DONE:
                    break
        finally:
            if running:
                _stop(client, list(running))


def _result(future: Any, task: Task) -> Result:
    """Return how a point ended; what its worker could not write any more is written here."""
    if future.status == "finished":
        return future.result()
    error = future.exception()
    lost = type(error).__name__ in ("KilledWorker", "CommClosedError", "CancelledError", "FutureCancelledError")
    status = "lost" if lost else "error"
    said = "its worker was killed (out of memory, perhaps)" if lost else f"{type(error).__name__}: {error}"
    result = Result(task.point, status, said)
    tasks.record(task, result)
    return result


def _stop(client: Any, futures: list[Any]) -> None:
    """End the kernels that still run and wait for their workers to clear up behind them."""
    with suppress(Exception):
        client.run(tasks.stop, wait=True)
        end = time.monotonic() + 15
        while time.monotonic() < end and any(not future.done() for future in futures):
            time.sleep(0.1)
