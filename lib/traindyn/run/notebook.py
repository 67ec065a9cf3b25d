"""A notebook in a kernel: its parameters set, the kernel's environment fixed, a failure told in one line."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import jupytext
import nbformat
import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from traindyn import files, parameters
from traindyn.errors import InputError

THREADS = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "OMP_WAIT_POLICY": "PASSIVE",
}
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class RunFailed(RuntimeError):
    """A cell failed or the kernel died. The message is one line: where, what, and where the whole story lies."""


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


def _manager(errors: IO[bytes]) -> type[AsyncKernelManager]:
    """Return a manager of kernels of this very Python, whatever else is called python3 on the machine.

    It keeps the kernel process's own stderr (notices, crashes) off the terminal.
    """
    spec = KernelSpec(**{**get_kernel_dict(), "argv": [sys.executable, *get_kernel_dict()["argv"][1:]]})

    class Manager(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

        async def start_kernel(self, **options: Any) -> None:
            await self._async_start_kernel(**{**options, "stderr": errors})

    return Manager


def run_notebook(
    chapter: str, values: dict[str, Any], label: dict[str, Any], part: Path, log: Path, bar: bool
) -> nbformat.NotebookNode:
    """Execute a chapter's notebook in a kernel.

    Args:
        chapter: the chapter's name.
        values: its parameters.
        label: what `_run` is in the notebook.
        part: the folder it works in.
        log: where the whole story of a failure goes; an older one is removed.
        bar: show a progress bar.

    Returns:
        The executed notebook, without the cell that sets `_run`.

    Raises:
        InputError: a cell raised one.
        RunFailed: a cell failed otherwise, or the kernel died.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    book = prepare(chapter, values, label)
    target, noise = part / f".{chapter}.ipynb", part / ".kernel.log"
    log.unlink(missing_ok=True)
    try:
        with environment(kernel_environment(files.project_root())), noise.open("wb") as errors:
            book = papermill.execute_notebook(
                book,
                str(target),
                cwd=str(part),
                kernel_name="python3",
                progress_bar=bar,
                kernel_manager_class=_manager(errors),
            )
    except PapermillExecutionError as error:
        said = _ANSI.sub("", "\n".join(error.traceback))
        number = (error.exec_count or 1) - 1  # the cell that sets `_run` is not the reader's
        files.write_text(log, f"code cell {number} of {chapter}:\n\n{error.source}\n\n{said}\n")
        first = next((line for line in error.source.splitlines() if line.strip()), "").strip()
        value = " ".join(str(error.evalue).split())
        kind = InputError if error.ename == InputError.__name__ else RunFailed  # a mistake in what was given, or ours
        raise kind(
            f"{chapter}: code cell {number} ('{first[:60]}') failed: {error.ename}: {value[:300]}; "
            f"the traceback is in {shown(log)}"
        ) from error
    except DeadKernelError as error:
        said = noise.read_text(encoding="utf-8", errors="replace")
        files.write_text(log, f"{type(error).__name__} in {chapter}: {error}\n\n{_ANSI.sub('', said)}\n")
        raise RunFailed(
            f"{chapter}: the kernel died (out of memory, or killed); try a smaller preset or size; log: {shown(log)}"
        ) from error
    target.unlink(missing_ok=True)
    noise.unlink(missing_ok=True)
    book.cells = [cell for cell in book.cells if "injected-run" not in cell.metadata.get("tags", [])]
    book.metadata.pop("papermill", None)
    for cell in book.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
    return book
