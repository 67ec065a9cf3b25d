"""A notebook in a kernel: its parameters set, the kernel's environment fixed, a failure told in one line."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import jupytext
import nbformat
import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from traindyn import files, parameters
from traindyn.errors import InputError, choose
from traindyn.run.watching import Watch

THREADS = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "OMP_WAIT_POLICY": "PASSIVE",
}
STARTS = 3  # how often a kernel is started until it comes up
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class RunFailed(RuntimeError):
    """A cell failed or the kernel died. The message is one line: where, what, and where the whole story lies.

    Attributes:
        kind: "cell", "disk" (it is full), "kernel" (it died), "time", "memory" or "stopped".
        story: the cell and its traceback, as the log has them.
    """

    def __init__(self, message: str, kind: str = "cell", story: str = "") -> None:
        super().__init__(message)
        self.kind, self.story = kind, story


@dataclass(frozen=True)
class How:
    """How a notebook is run, beside what it is.

    Attributes:
        seconds: the longest it may take; no limit if None.
        memory: the most bytes of memory its kernel and the kernel's children may take together; no limit if None.
        kernel: a Jupyter kernel by name, instead of this very Python.
        report_mode: hide the code in the executed notebook.
        owner: the sweep that may ask for it to be stopped.
    """

    seconds: float | None = None
    memory: float | None = None
    kernel: str | None = None
    report_mode: bool = False
    owner: str = ""

    def key(self) -> list[Any]:
        """Return what of it changes the executed notebook; empty by default."""
        return [value for value in (self.kernel, self.report_mode) if value]


PLAINLY = How()


def shown(path: Path) -> str:
    """Return a path as it is shown to the user: relative to the working directory where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def kernel_environment(root: Path) -> dict[str, str]:
    """Return the environment variables that every kernel of the book gets.

    One thread, so that results and run times do not depend on the number of cores; no TF32 on NVIDIA's GPUs, so that
    float32 means float32; the project's folder, because a kernel works in the run's folder; IPYTHONDIR with a profile
    that keeps the kernel's start-up notice quiet.
    """
    found = {**THREADS, "NVIDIA_TF32_OVERRIDE": "0", "TRAINDYN_ROOT": str(root.absolute())}
    if (root / "ipython").is_dir():
        found["IPYTHONDIR"] = str(root / "ipython")
    return found


@contextmanager
def environment(changes: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while, and unset MPLBACKEND: with it, figures would vanish from notebooks."""
    before = dict(os.environ)
    os.environ.update(changes)
    os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def prepare(chapter: str, values: dict[str, Any], label: dict[str, Any] | None = None) -> nbformat.NotebookNode:
    """Return a chapter's notebook with its parameters set, and `_run` in a cell of its own where a label is given."""
    book = jupytext.read(parameters.source(chapter))
    for number, cell in enumerate(book.cells):
        if parameters.is_parameters(cell):
            cell.source = parameters.with_values(cell.source, values)
            if label is not None:
                extra = nbformat.v4.new_code_cell(f"_run = {label!r}", metadata={"tags": ["injected-run"]})
                book.cells.insert(number + 1, extra)
            break
    return book


def _manager(errors: IO[bytes], watch: Watch, kernel: str | None) -> type[AsyncKernelManager]:
    """Return a manager of kernels of this very Python, whatever else is called python3 on the machine, or of another.

    It keeps the kernel process's own stderr (notices, crashes) off the terminal and tells `watch` its process.
    """
    spec = kernel_spec(kernel)

    class Manager(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

        async def start_kernel(self, **options: Any) -> None:
            await self._async_start_kernel(**{**options, "stderr": errors})
            if pid := getattr(self.provisioner, "pid", None):
                watch.started(pid)

    return Manager


def kernel_spec(name: str | None) -> KernelSpec:
    """Return how a kernel is started: this very Python if `name` is None, else the Jupyter kernel of that name.

    Raises:
        InputError: no such kernel.
    """
    if name is None:
        return KernelSpec(**{**get_kernel_dict(), "argv": [sys.executable, *get_kernel_dict()["argv"][1:]]})
    known = KernelSpecManager()
    try:
        return known.get_kernel_spec(name)
    except (NoSuchKernel, ValueError):
        choose("kernel", name, sorted(known.find_kernel_specs()))
        raise


def run_notebook(
    chapter: str, values: dict[str, Any], label: dict[str, Any], part: Path, log: Path, bar: bool, how: How = PLAINLY
) -> nbformat.NotebookNode:
    """Execute a chapter's notebook in a kernel.

    Args:
        chapter: the chapter's name.
        values: its parameters.
        label: what `_run` is in the notebook.
        part: the folder it works in.
        log: where the whole story of a failure goes; an older one is removed.
        bar: show a progress bar.
        how: limits, kernel, report mode.

    Returns:
        The executed notebook, without the cell that sets `_run`.

    Raises:
        InputError: a cell raised one, or there is no such kernel.
        RunFailed: a cell failed otherwise, the kernel died, or was ended at a limit. What was executed until then is
            left in `part` as `<chapter>.failed.ipynb`.
    """
    for name in ("papermill", "traitlets"):  # what they log about a kernel is told by us, in a line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    book = prepare(chapter, values, label)
    target, noise = part / f".{chapter}.ipynb", part / ".kernel.log"
    log.unlink(missing_ok=True)
    watch = Watch(how.seconds, how.memory, how.owner)
    try:
        with environment(kernel_environment(files.project_root())), noise.open("wb") as errors, watch:
            options = {"cwd": str(part), "progress_bar": bar, "report_mode": how.report_mode}
            book = _executed(book, target, watch, options, _manager(errors, watch, how.kernel))
    except PapermillExecutionError as error:
        said = _ANSI.sub("", "\n".join(error.traceback))
        number = (error.exec_count or 1) - 1  # the cell that sets `_run` is not the reader's
        story = f"code cell {number} of {chapter}:\n\n{error.source}\n\n{said}\n"
        files.write_text(log, story)
        first = next((line for line in error.source.splitlines() if line.strip()), "").strip()
        value = " ".join(str(error.evalue).split())
        line = (
            f"{chapter}: code cell {number} ('{first[:60]}') failed: {error.ename}: {value[:300]}; "
            f"the traceback is in {shown(log)}"
        )
        if error.ename == InputError.__name__:  # a mistake in what was given, not ours
            raise InputError(line) from error
        _keep(target, part / f"{chapter}.failed.ipynb")
        full = error.ename == "OSError" and f"[Errno {errno.ENOSPC}]" in value
        raise RunFailed(line, "disk" if full else "cell", story) from error
    except (DeadKernelError, RuntimeError) as error:  # the second if it died while it started
        said = _ANSI.sub("", noise.read_text(encoding="utf-8", errors="replace"))
        why = watch.said()
        if watch.ended == "stopped":  # by whoever started it: no failure to be told
            raise RunFailed(f"{chapter}: the kernel was ended, {why}", "stopped") from error
        files.write_text(log, f"{why or type(error).__name__} in {chapter}: {error}\n\n{said}\n")
        _keep(target, part / f"{chapter}.failed.ipynb")
        line = f"{chapter}: the kernel was ended, {why}" if why else f"{chapter}: the kernel died"
        advice = "" if why else " (out of memory, or killed); try a smaller preset or size"
        raise RunFailed(f"{line}{advice}; log: {shown(log)}", watch.ended or "kernel") from error
    target.unlink(missing_ok=True)
    noise.unlink(missing_ok=True)
    return cleaned(book)


def _executed(
    book: nbformat.NotebookNode, target: Path, watch: Watch, options: dict[str, Any], manager: type[AsyncKernelManager]
) -> nbformat.NotebookNode:
    """Execute a notebook; a kernel that does not come up is tried again, since two may have drawn the same port."""
    for left in reversed(range(STARTS)):
        try:
            return papermill.execute_notebook(
                book, str(target), kernel_name="python3", kernel_manager_class=manager, **options
            )
        except RuntimeError as error:
            started = type(error) is not RuntimeError  # nbclient has a kind of its own for one that dies later
            if started or watch.ended or not left:
                raise
    raise AssertionError


def cleaned(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return an executed notebook without the cell that sets `_run` and without what papermill notes in it."""
    book.cells = [cell for cell in book.cells if "injected-run" not in cell.metadata.get("tags", [])]
    book.metadata.pop("papermill", None)
    for cell in book.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
    return book


def _keep(partial: Path, place: Path) -> None:
    """Keep what was executed until a failure under another name."""
    if partial.is_file():
        nbformat.write(cleaned(nbformat.read(partial, as_version=4)), place)
        partial.unlink()
