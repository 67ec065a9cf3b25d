"""The judge's side of a worker: it starts it, gives it answers and inputs, watches it, and starts it again if it died.

The judge reads nothing from a worker but frames (`frames`); what a child can send is data, never a score.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from traindyn.run.course import frames, sandbox

START = 120.0  # longest time in which the packages are imported, in seconds
MEMORY = 2**30  # what an answer may take beyond the packages, in bytes
STRANGERS = 3  # processes that an answer may have started when it is stopped (where none can be started: never reached)
SHOWN = 20_000  # characters of output that are kept
FOLDER = 2**26  # bytes that it may write
PATIENCE = 0.1  # how often a worker is looked at, in seconds
SLOWER, SLOWEST = 3.0, 20.0  # clock time for each second of processor time: for one that waits, and for one that works
WORKS = 0.1  # share of its processor time that an answer has used by then if it works: others want the cores, too


class WorkerAbsent(RuntimeError):
    """The worker cannot be started: a fault of this machine, which no answer is to blame for."""


@dataclass
class Failure(Exception):
    """Why an answer gave no result.

    Attributes:
        kind: syntax, raised, returned (what cannot be sent), missing, time, memory, died, garbled, processes or folder.
        type: the built-in class of an exception.
        line: in the answer's cell, if it is known.
        said: the exception's own words, for the student's eyes only: it may hold inputs.
    """

    kind: str
    type: str = ""
    line: int | None = None
    said: str = ""

    def words(self) -> str:
        """Return what a feedback page may say: no word of it is the submission's own."""
        where = f" in line {self.line} of the cell" if self.line else ""
        return {
            "syntax": f"the cell is not Python ({self.type or 'SyntaxError'}{where})",
            "raised": f"{self.type or 'an exception'} was raised{where}",
            "returned": "it returned something that is no number, word, list, mapping, array or tensor, or too much",
            "missing": "the function is not defined in the answer's cell",
            "time": "the time limit was reached",
            "memory": "the memory limit was reached",
            "died": "its process ended before it had answered",
            "garbled": "what came back was no result",
            "processes": "it started other processes",
            "folder": "it wrote more to disk than is allowed",
        }[self.kind]


class Child:
    """A child of the worker that has an answer defined in it, and takes one input after the other."""

    def __init__(self, lane: Lane, pid: int, pipe: socket.socket, out: int, folder: Path, seconds: float) -> None:
        self.lane, self.pid, self.pipe, self.out, self.folder = lane, pid, pipe, out, folder
        self.seconds, self.begun = seconds, time.monotonic()
        self.end = self.begun + SLOWER * seconds + 2
        self.received, self.shown, self.killed = 0, bytearray(), ""
        self.looked = time.monotonic()

    def define(self, given: str, answer: str, entry: str, tensors: bool = False, tests: str = "") -> None:
        """Execute the given code, the answer and tests of it; raise a Failure, also if the function is not defined."""
        job = {"given": given, "answer": answer, "entry": entry, "tensors": tensors, "tests": tests}
        found = self._exchange(job)
        if found.get("defined") is not True:
            raise Failure("missing")

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Return the function's result for these arguments; raise a Failure."""
        found = self._exchange(dict(arguments))
        if "value" not in found:
            raise Failure("garbled")
        return found["value"]

    def output(self) -> str:
        """Return the beginning of what it has printed."""
        self._drain()
        return self.shown.decode("utf-8", "replace")

    def _exchange(self, message: Any) -> dict[str, Any]:
        try:
            self._send(frames.pack(message))
            found = frames.read(self._receive)
        except (EOFError, OSError):
            raise Failure(self.killed or self.lane.died(self)) from None
        except frames.BadFrame:
            self._kill("garbled")
            raise Failure("garbled") from None
        if not isinstance(found, dict):
            raise Failure("garbled")
        if "failed" in found:
            raise _failure(found["failed"])
        return found

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._wait(write=True)
            view = view[self.pipe.send(view[: 2**16]) :]

    def _receive(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            self._wait()
            part = self.pipe.recv(min(2**16, size - len(found)))
            if not part:
                raise EOFError
            found += part
        self.received += size
        if self.received > 2 * frames.RAW:
            raise frames.BadFrame("too much")
        return bytes(found)

    def _wait(self, write: bool = False) -> None:
        """Wait until the pipe is ready; meanwhile keep the child within what the system does not limit by itself."""
        while True:
            if time.monotonic() > self.end and not self._later():
                self._kill("time")
                raise EOFError
            readers = [self.out] if write else [self.out, self.pipe]
            ready, free, _ = select.select(readers, [self.pipe] if write else [], [], PATIENCE)
            if self.out in ready:
                self._drain()
            if time.monotonic() - self.looked > PATIENCE:
                self._look()
            if free or self.pipe in ready:
                return

    def _later(self) -> bool:
        """Give an answer more time that works, and had to share the cores; return whether it has any."""
        last = self.begun + SLOWEST * self.seconds + 2
        with contextlib.suppress(psutil.Error):
            used = psutil.Process(self.pid).cpu_times()
            if used.user + used.system > WORKS * self.seconds and self.end < last:
                self.end = last
                return True
        return False

    def _look(self) -> None:
        self.looked = time.monotonic()
        with contextlib.suppress(psutil.Error):
            if len(self.lane.strangers()) - 1 > STRANGERS:
                self._kill("processes")
                raise EOFError
        if _bytes_in(self.folder) > FOLDER:
            self._kill("folder")
            raise EOFError

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.out, 2**16):
                self.shown += data[: max(0, SHOWN - len(self.shown))]
                if time.monotonic() > self.end:
                    break

    def _kill(self, why: str) -> None:
        self.killed = self.killed or why
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)


class Lane:
    """One worker, started when it is needed and again when it died. Not for several threads at once.

    Args:
        wall: close the wall of `sandbox` around every answer; without it the limits and the watch remain.
        memory: bytes that an answer may take.
    """

    def __init__(self, wall: bool = True, memory: int = MEMORY) -> None:
        self.wall, self.memory = wall, memory
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0

    def __enter__(self) -> Lane:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def child(self, seconds: float) -> Iterator[Child]:
        """Give a fresh child with a folder of its own and so many seconds of processor time; it ends with the block."""
        self._start()
        folder = Path(tempfile.mkdtemp(prefix="answer-"))
        ours, theirs = socket.socketpair()
        out, theirs_out = os.pipe()
        os.set_blocking(out, False)
        request = {
            "folder": str(folder),
            "seconds": max(1, round(seconds + 0.5)),
            "memory": self.memory,
            "wall": self.wall,
            "readable": readable(),
        }
        child = None
        try:
            socket.send_fds(self.control, [json.dumps(request).encode()], [theirs.fileno(), theirs_out])
            theirs.close()
            os.close(theirs_out)
            child = Child(self, int(self._line()), ours, out, folder, seconds)
            yield child
        finally:
            ours.close()
            if child is not None:
                self._finish(child)
            os.close(out)
            shutil.rmtree(folder, ignore_errors=True)

    def died(self, child: Child) -> str:
        """Return of what a child died that the judge has not killed."""
        if time.monotonic() > child.end:
            return "time"
        status = self._status(child)
        return "time" if status in (-signal.SIGXCPU, -signal.SIGKILL) else "died"

    def strangers(self) -> list[psutil.Process]:
        """Return the processes below the worker."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def close(self) -> None:
        """End the worker and all that it has started."""
        if self.process is None:
            return
        with contextlib.suppress(psutil.Error):
            for process in self.strangers():
                with contextlib.suppress(psutil.Error):
                    process.kill()
        self.process.kill()
        self.process.wait()
        self.control.close()
        self.process = None

    def _start(self) -> None:
        if self.process is not None and self.process.poll() is None:
            return
        self.close()
        self.control, theirs = socket.socketpair()
        worker = Path(__file__).with_name("worker.py")
        kept = ("PATH", "HOME", "LANG", "SYSTEMROOT", "MPLCONFIGDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "MKL_NUM_THREADS": "1",
                        "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(worker), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=tempfile.gettempdir(),
            start_new_session=True,
        )
        theirs.close()
        self.control.settimeout(START)
        self.started += 1
        try:
            ready = self._line() == "ready"
        except RuntimeError:
            ready = False
        if not ready:
            self.close()
            raise WorkerAbsent(f"the worker did not start with {sys.executable}; is PyTorch installed there?")

    def _line(self) -> str:
        """Read one line from the worker itself, which runs no student's code."""
        found = bytearray()
        while not found.endswith(b"\n"):
            try:
                part = self.control.recv(1)
            except OSError:
                part = b""
            if not part:
                raise RuntimeError("the worker has died")
            found += part
        return found.decode().strip()

    def _status(self, child: Child) -> int:
        """Return the exit status of a child that has ended, or ends now."""
        if not hasattr(child, "status"):
            try:
                child.status = int(self._line())  # type: ignore[attr-defined]
            except (RuntimeError, ValueError):
                child.status = 1  # type: ignore[attr-defined]
                self.close()
        return child.status  # type: ignore[attr-defined]

    def _finish(self, child: Child) -> None:
        child._kill("")
        self._status(child)
        if self.process is None:
            return
        for _ in range(50):  # what it started belongs to the worker now; new ones may come while we kill
            with contextlib.suppress(psutil.Error):
                left = [one for one in self.strangers() if one.status() != psutil.STATUS_ZOMBIE]
                if not left:
                    return
                for process in left:
                    with contextlib.suppress(psutil.Error):
                        process.suspend()
                for process in left:
                    with contextlib.suppress(psutil.Error):
                        process.kill()
        self.close()


def readable() -> list[str]:
    """Return the folders of the Python installation, which an answer has to read."""
    places = {sys.prefix, sys.base_prefix, *(str(Path(part).resolve()) for part in (sys.prefix, sys.base_prefix))}
    return sorted(places)


def isolation(hidden: Sequence[Path]) -> list[str]:
    """Return in sentences what holds an answer here, and what does not.

    Args:
        hidden: the folders that it should not reach.
    """
    found, lines = sandbox.report(), []
    inside = [place for place in hidden for root in readable() if place.resolve().is_relative_to(Path(root).resolve())]
    if not found["files"]:
        lines.append(
            "Files: this system has no Landlock. An answer can read whatever this account can read: the sources of the "
            "assignments, the gradebook, other submissions. Grade untrusted answers in a container or another account."
        )
    elif inside:
        lines.append(
            f"Files: {', '.join(map(str, inside))} lies inside the Python installation, which answers have to read. "
            "Move it elsewhere."
        )
    else:
        lines.append(
            "Files: answers can write in a folder of their own only, and read it, the Python installation and the "
            "system's libraries (Landlock)."
        )
    if found["processes"]:
        lines.append("Processes and network: answers can start no process, signal none and open no socket (seccomp).")
    else:
        lines.append(
            "Processes and network: this system does not filter system calls. Processes are counted and killed; the "
            "network is open to answers. Grade untrusted answers in a container without a network."
        )
    lines.append(
        "Limits: processor and clock time, memory, length of files and output, for every part of every question. A "
        "fault of the system's kernel is not guarded against: for that, a container or a virtual machine."
    )
    return lines


def _failure(told: Any) -> Failure:
    """Return a failure that a child has told; nothing in it is believed but a known word and a small number."""
    if not isinstance(told, dict):
        return Failure("garbled")
    kind = told.get("kind")
    name, line, said = told.get("type"), told.get("line"), told.get("said")
    if kind not in ("syntax", "raised", "returned"):
        return Failure("garbled")
    known = isinstance(name, str) and isinstance(getattr(builtins, name, None), type) and re.fullmatch(r"\w+", name)
    if known and name == "MemoryError":
        return Failure("memory")
    line = line if type(line) is int and 0 < line < 10_000 else None
    return Failure(kind, name if known else "", line, said if isinstance(said, str) else "")


def _bytes_in(folder: Path) -> int:
    """Return how many bytes lie in a folder, as far as they can be counted at once."""
    total = count = 0
    with contextlib.suppress(OSError):
        for place, _, names in os.walk(folder):
            for name in names:
                count += 1
                if count > 20_000:
                    return FOLDER + 1
                with contextlib.suppress(OSError):
                    total += os.lstat(os.path.join(place, name)).st_size
    return total
