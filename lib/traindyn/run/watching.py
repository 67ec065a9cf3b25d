"""A kernel watched from outside: the memory of its process tree, its time, and a request to stop."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import psutil

from traindyn.errors import InputError

STOPPED: set[str] = set()  # sweeps that asked this process to end what it runs for them
_EVERY = 0.2


class Watch:
    """Ends a kernel and its children when they take more than they may.

    Used as a context: watching begins when `started` names the kernel's process, and ends with the block.

    Args:
        seconds: the longest time from the start of the block; no limit if None.
        memory: the most bytes of resident memory that the kernel and its children take together; no limit if None.
        owner: the sweep whose request to stop it heeds; none if empty.

    Attributes:
        ended: why the kernel was ended: "time", "memory", "stopped", or empty.
        peak: the most bytes seen.
    """

    def __init__(self, seconds: float | None = None, memory: float | None = None, owner: str = "") -> None:
        if seconds is not None and not seconds > 0:
            raise InputError(f"a time limit of {seconds:g} s; expected a number above 0")
        if memory is not None and not memory > 0:
            raise InputError(f"a memory limit of {memory:g} bytes; expected a number above 0")
        self.seconds, self.memory, self.owner = seconds, memory, owner
        self.ended, self.peak = "", 0
        self._kernel: psutil.Process | None = None
        self._done = threading.Event()

    def __enter__(self) -> Watch:
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *about: object) -> None:
        self._done.set()
        self._thread.join()
        if self._kernel is not None:
            _kill(self._kernel)  # one that is shut down is gone by now; its children may not be

    def started(self, pid: int) -> None:
        """Tell which process the kernel is."""
        with suppress(psutil.NoSuchProcess):
            self._kernel = psutil.Process(pid)

    def said(self) -> str:
        """Return in words why the kernel was ended; empty if it was not."""
        if self.ended == "time":
            return f"it took longer than its {self.seconds:g} s"
        if self.ended == "memory":
            return f"it took {self.peak / 2**30:.2f} GB of memory, its share is {(self.memory or 0) / 2**30:.2f} GB"
        return "it was stopped" if self.ended else ""

    def _look(self) -> None:
        while not self._done.wait(_EVERY):
            if self._kernel is None:
                continue
            self.peak = max(self.peak, _memory(self._kernel))
            if self.owner in STOPPED:
                self.ended = "stopped"
            elif self.memory is not None and self.peak > self.memory:
                self.ended = "memory"
            elif self.seconds is not None and time.monotonic() - self._begun > self.seconds:
                self.ended = "time"
            if self.ended:
                _kill(self._kernel)
                return


def _tree(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return [process, *process.children(recursive=True)]
    return [process]


def _memory(process: psutil.Process) -> int:
    """Return the resident bytes of a process and its children."""
    total = 0
    for one in _tree(process):
        with suppress(psutil.Error):
            total += one.memory_info().rss
    return total


def _kill(process: psutil.Process) -> None:
    for one in reversed(_tree(process)):
        with suppress(psutil.Error):
            one.kill()
