"""The worker: a process that imports the packages once and forks a child for every part of every question.

Started by its path (`python -I worker.py SOCKET`), it never imports `traindyn`, and holds nothing that a student must
not see: a child gets code and one input after the other, and answers with results. It sends no scores.
"""

from __future__ import annotations

import array
import ast
import builtins
import contextlib
import importlib.abc
import importlib.util
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGES = ("numpy", "scipy.linalg", "scipy.optimize", "scipy.stats", "pandas", "matplotlib.pyplot", "torch")
LINES = 3  # of a traceback's end that are told
SAID = 2000  # most characters of what an exception says


def _beside(name: str) -> ModuleType:
    """Load a module that lies beside this one, without its package."""
    spec = importlib.util.spec_from_file_location(f"_course_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Absent(importlib.abc.MetaPathFinder):
    """Makes the library absent: an answer that calls it has not been written by the student."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] == "traindyn":
            raise ModuleNotFoundError("traindyn is not there while answers are graded: write it yourself", name=name)


def main() -> None:
    """Import the packages, then fork a child for every request until the other side hangs up."""
    control = socket.socket(fileno=int(sys.argv[1]))
    frames, sandbox = _beside("frames"), _beside("sandbox")
    sys.meta_path.insert(0, _Absent())
    for name in PACKAGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.set_num_threads(1)
        torch.linalg.svd(torch.ones(2, 2))  # reads what the processor can do, which a child cannot any more
        torch.ones(2, 2).tanh() @ torch.ones(2, 2)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].switch_backend("agg")
    if sys.platform.startswith("linux"):
        sandbox._libc().prctl(36, 1, 0, 0, 0)  # what a child leaves behind becomes ours, so that the judge finds it
    control.sendall(b"ready\n")
    while True:
        text, fds, _, _ = socket.recv_fds(control, 2**16, 2)
        if not text:
            return
        request = json.loads(text)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                control.close()
                _child(request, fds, frames, sandbox)
                status = 0
            except BaseException:
                pass
            finally:
                os._exit(status)
        for handle in fds:
            os.close(handle)
        control.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        control.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _child(request: dict[str, Any], fds: array.array[int] | list[int], frames: ModuleType, sandbox: ModuleType) -> None:
    """Become the child: own session, folder, limits and wall; then define the answer and give it inputs."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    channel, out = fds
    quiet = os.open(os.devnull, os.O_RDONLY)
    os.dup2(quiet, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.dup2(channel, 3)
    os.closerange(4, 4096)
    folder = request["folder"]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(
        {"HOME": folder, "TMPDIR": folder, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1",
         "MPLBACKEND": "agg", "MPLCONFIGDIR": folder}
    )  # fmt: skip
    sys.argv = ["answer"]
    sandbox.limit(request["seconds"], request["memory"])
    if request["wall"]:
        sandbox.close(folder, request["readable"])
    pipe = socket.socket(fileno=3)

    def receive(size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            if not (part := pipe.recv(min(2**16, size - len(found)))):
                raise EOFError
            found += part
        return bytes(found)

    def send(value: Any) -> None:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        pipe.sendall(frames.pack(value))

    job = frames.read(receive)
    space: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
    for name, text in (("given", job["given"]), ("answer", job["answer"])):
        if (failed := _run(text, name, space)) is not None:
            send({"failed": failed})
            return
    if not job["tests"] or not callable(space.get(job["entry"])):
        send({"defined": callable(space.get(job["entry"]))})
    elif (failed := _run(job["tests"], "tests", space)) is not None:
        send({"failed": failed})
    else:
        send({"defined": True})
    while True:
        try:
            arguments = frames.read(receive)
        except EOFError:
            return
        try:
            value = space[job["entry"]](**_tensors(arguments, job["tensors"]))
            message = frames.pack({"value": value})
        except BaseException as error:
            kind = "returned" if isinstance(error, frames.BadFrame) else "raised"
            send({"failed": _told(error, kind)})
            continue
        pipe.sendall(message)


def _tensors(value: Any, wanted: bool) -> Any:
    """Return the value with arrays as torch tensors, if they are wanted so."""
    if not wanted:
        return value
    import numpy as np
    import torch

    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, list):
        return [_tensors(item, True) for item in value]
    if isinstance(value, dict):
        return {key: _tensors(item, True) for key, item in value.items()}
    return value


def _run(text: str, name: str, space: dict[str, Any]) -> dict[str, Any] | None:
    """Execute code in a namespace; return what went wrong, or None."""
    try:
        try:
            tree = ast.parse(text, f"<{name}>")
        except SyntaxError:
            tree = ast.parse(_without_magics(text), f"<{name}>")
        exec(compile(tree, f"<{name}>", "exec"), space)
    except BaseException as error:
        found = _told(error, "syntax" if isinstance(error, SyntaxError) else "raised")
        if name == "tests" and not found["said"]:  # a bare assert says nothing: show it
            steps = [step for step in _steps(error) if step.tb_frame.f_code.co_filename == "<tests>"]
            found["said"] = text.splitlines()[steps[0].tb_lineno - 1].strip() if steps else ""
        return found
    return None


def _without_magics(text: str) -> str:
    """Return code without lines that begin with % or !; lines keep their numbers."""
    lines = []
    for line in text.splitlines():
        bare = line.lstrip()
        lines.append(line[: len(line) - len(bare)] + "pass" if bare.startswith(("%", "!")) else line)
    return "\n".join(lines)


def _steps(error: BaseException) -> Iterator[Any]:
    """Return the steps of a traceback, the outermost first."""
    step = error.__traceback__
    while step is not None:
        yield step
        step = step.tb_next


def _told(error: BaseException, kind: str) -> dict[str, Any]:
    """Return an exception in words that can be sent: kind, the name of its class, line in the answer, what it says."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    for step in _steps(error):
        if step.tb_frame.f_code.co_filename == "<answer>":
            line = step.tb_lineno
    try:
        said = str(error)[:SAID]
    except BaseException:
        said = ""
    bases = [base.__name__ for base in type(error).__mro__ if base.__module__ == "builtins"]
    return {"kind": kind, "type": str(bases[0] if bases else "Exception"), "line": line, "said": said}


if __name__ == "__main__":
    main()
