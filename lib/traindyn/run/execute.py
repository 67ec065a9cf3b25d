"""One execution of a chapter: a folder that is complete or absent, skipped when nothing it depends on has changed."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import psutil

from traindyn import compute, files, parameters
from traindyn.errors import InputError
from traindyn.learn.data import local, registry
from traindyn.parameters import Resolved
from traindyn.report import provenance
from traindyn.run import notebook
from traindyn.run.notebook import RunFailed, run_notebook, shown

# modules of `report` that judge evidence, dress it or describe the run: they work on finished runs and do not
# change one; a test has every module stand in one of the two lists
JUDGING = (
    "cards", "claims", "close", "columns", "criteria", "entries", "judge", "language", "margins", "provenance", "rows",
    "settings", "stability", "templating", "terms", "words",
)  # fmt: skip
RECORDING = ("__init__", "chapter", "figures", "outputs", "plots", "showing")
RUNNING = ("execute", "notebook")
_LEFT = re.compile(r"\.part-(?:old-)?([A-Za-z0-9]+)-([0-9]+)-([0-9]+)")


def default_out(resolved: Resolved) -> Path:
    """Return where a run goes unless told otherwise: `_build/runs/<chapter>/<preset>[-<short key>]`."""
    name = resolved.preset
    if not resolved.is_preset:
        name += f"-{files.content_key({}, resolved.parameters, resolved.sizes)[:8]}"
    return files.project_root() / "_build" / "runs" / resolved.chapter / name


def run_key(resolved: Resolved) -> str:
    """Return the key of a run's content: equal keys mean that executing again would change nothing.

    It covers the chapter's code cells, parameters and sizes, the library's sources as far as this chapter can reach
    them, Python and the packages that compute and draw, the archived results and the local data sets, the kind
    and model of the device, and the environment variables that change numbers. Criteria, prose, cards and templates are
    not in it: they are applied to a finished run.

    Raises:
        InputError: the run asks for a device that is not there, or an environment variable is malformed.
    """
    root = files.project_root()
    device = compute.pick_device(resolved.parameters.get("device", "auto"))
    compute.memory_budget()  # a malformed TRAINDYN_MEMORY is told before anything runs
    cells = [
        (cell.source, cell.metadata.get("tags", []))
        for cell in _code_cells(jupytext.read(parameters.source(resolved.chapter)))
    ]
    archived = (root / "data" / "results" / resolved.chapter).rglob("*")
    profile = (root / "ipython" / "profile_default").glob("*.py")
    settings = {**provenance.environment(), **notebook.kernel_environment(root)}
    return files.content_key(
        _library(resolved.chapter) | files.relative(archived, root) | files.relative(profile, root),
        [cells, resolved.parameters, resolved.sizes, resolved.preset],
        [device.type, provenance.device_name(device), platform.system()],
        provenance.versions(),
        {name: value for name, value in settings.items() if name not in (*provenance.PLACES, "IPYTHONDIR")},
        _data_state(),
    )


def execute(
    resolved: Resolved,
    out: str | Path | None = None,
    device: str = "auto",
    force: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    bar: bool = False,
) -> Path:
    """Execute a chapter's notebook into a folder that is complete or absent.

    The folder holds the executed notebook, `tables/`, `figures/`, `claims.json` and, written last, `provenance.json`.
    It is built under another name beside its place and renamed at the end. A finished run of the same content is kept.

    Args:
        resolved: the run, from `parameters.resolve`.
        out: the folder; `default_out(resolved)` if None.
        device: replaces the parameter `device` unless "auto".
        force: execute even if a finished run of the same content is there, and replace another run in `out`.
        progress: called with lines for the user.
        bar: show papermill's progress bar.

    Returns:
        The folder.

    Raises:
        InputError: no such device, a data set that the sizes name is not here or is damaged, `out` cannot be written,
            holds something else, is a link, or is being written by another process; or a cell raised an InputError.
        RunFailed: a cell failed; the log's path is in the message.
    """
    declared = parameters.declared(parameters.source(resolved.chapter))
    if device != "auto":
        if "device" not in declared:
            raise InputError(f"chapter '{resolved.chapter}' has no parameter 'device'; leave --device out")
        resolved = replace(resolved, parameters={**resolved.parameters, "device": device})
    key = run_key(resolved)
    given = out is not None
    out = Path(out).expanduser().absolute() if out is not None else default_out(resolved)
    if is_current(out, key) and not force:
        progress(f"{resolved.chapter}: nothing has changed since the run in {shown(out)}")
        return out
    if lost := _lost(out) if _key(out) == key else []:
        progress(f"{resolved.chapter}: the run in {shown(out)} has lost {lost[0]}; running it again")
    _check_place(out, overwrite=force or not given or bool(lost))
    _check_data(resolved)
    made = _make_folder(out.parent)
    try:
        with files.locked(out.with_name(f".{out.name}.lock"), f"running into {shown(out)}"):
            _clean_leftovers(out)
            return _run(resolved, out, key, progress, bar)
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # not empty: there is a log of what failed
                folder.rmdir()
        raise


def _run(resolved: Resolved, out: Path, key: str, progress: Callable[[str], None], bar: bool) -> Path:
    """Execute into `out`, whose lock is held."""
    part = out.with_name(f"{out.name}.part-{_process_tag()}")
    own = "" if resolved.is_preset else ", with parameters of your own"
    progress(f"{resolved.chapter}: running at preset {resolved.preset}{own}")
    start = time.perf_counter()
    try:
        part.mkdir()
        label = {
            "preset": resolved.preset,
            "sizes": resolved.sizes,
            "is_preset": resolved.is_preset,
            "out": str(part),
            "key": key,
        }
        book = run_notebook(resolved.chapter, resolved.parameters, label, part, out.with_name(f"{out.name}.log"), bar)
        nbformat.write(book, part / f"{resolved.chapter}.ipynb")
        wall = time.perf_counter() - start
        _finish(part, resolved, key, wall)
        _replace(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    progress(f"{resolved.chapter}: done in {wall:.0f} s, {shown(out)}")
    return out


def counted(out: Path) -> dict[str, int]:
    """Return how many claims of a finished run have each verdict."""
    verdicts = [claim["verdict"] for claim in files.read_json(out / "claims.json")["claims"]]
    return {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}


def _finish(part: Path, resolved: Resolved, key: str, wall: float) -> None:
    if not (part / "claims.json").is_file():
        raise RunFailed(
            f"{resolved.chapter}: the notebook ended without claims.json; its last cell calls ch.verdicts()"
        )
    circumstances = part / "circumstances.json"
    about = files.read_json(circumstances) if circumstances.is_file() else {}
    circumstances.unlink(missing_ok=True)
    about |= {
        "chapter": resolved.chapter,
        "preset": resolved.preset,
        "parameters_are_preset": resolved.is_preset,
        "parameters": resolved.parameters,
        "sizes": resolved.sizes,
        "key": key,
        "wall_seconds": round(wall, 1),
        "files": {name: path.stat().st_size for name, path in sorted(files.relative(part.rglob("*"), part).items())},
    }
    files.write_json(part / "provenance.json", about)


def _replace(part: Path, out: Path) -> None:
    """Put `part` in the place of `out`: between the two renames there is no folder, never half of one."""
    old = out.with_name(f"{out.name}.part-old-{_process_tag()}")
    if out.exists():
        out.rename(old)
    part.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def is_current(out: Path, key: str) -> bool:
    """Return whether `out` holds a finished run of this content, with all its files."""
    return _key(out) == key and not _lost(out)


def _about(out: Path) -> dict[str, Any]:
    try:
        found = files.read_json(out / "provenance.json")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _key(out: Path) -> str | None:
    """Return the key of the finished run in `out`, or None if there is none that can be read."""
    return _about(out).get("key")


def _lost(out: Path) -> list[str]:
    """Return the files that a finished run had and that are gone or have another size now."""
    sizes = _about(out).get("files", {"claims.json": None})
    return [
        name
        for name, size in sizes.items()
        if not (out / name).is_file() or (size is not None and (out / name).stat().st_size != size)
    ]


def _check_place(out: Path, overwrite: bool) -> None:
    if out.is_symlink():
        raise InputError(f"--out {out} is a link; give the folder itself")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; expected a folder that does not exist yet")
    if out.exists() and out.resolve() in (Path.cwd().resolve(), *Path.cwd().resolve().parents):
        raise InputError(f"--out {out} holds the folder you are in, which a run replaces; give a folder below it")
    if out.is_dir() and any(out.iterdir()):
        if not (out / "provenance.json").is_file():
            raise InputError(f"--out {out} holds files that are not a run; choose a folder that does not exist yet")
        if not overwrite:
            raise InputError(f"--out {out} holds another run; choose another folder, or replace it with --force")
    above = next(parent for parent in out.parents if parent.exists() or parent.is_symlink())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"cannot write to {above}; choose another folder with --out DIR")


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder with its parents; return those that were made, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; choose another folder with --out") from error
    return missing


def _check_data(resolved: Resolved) -> None:
    """Raise if a registered set that the sizes name (a size called `data`: one name or a list) is missing or damaged.

    Other names, of synthetic data say, are the chapter's own business.
    """
    wanted = [size["data"] for size in resolved.sizes.values() if "data" in size]
    names = {name for entry in wanted for name in ([entry] if isinstance(entry, str) else entry or [])}
    if names:
        from traindyn.learn.data import registry  # imports torch, which most mistakes do not need

        for name in sorted(names & {*registry.entries(), *(row["name"] for row in registry.listing())}):
            registry.require(name)


def _process_tag() -> str:
    started = int(psutil.Process().create_time())
    return f"{re.sub(r'[^A-Za-z0-9]', '', socket.gethostname())}-{os.getpid()}-{started}"


def _clean_leftovers(out: Path) -> None:
    """Remove what dead processes of this machine left beside `out`; another machine's are left alone."""
    here = _process_tag().split("-")[0]
    for path in list(out.parent.iterdir()) if out.parent.is_dir() else []:
        left = _LEFT.fullmatch(path.name.removeprefix(out.name)) if path.name.startswith(out.name) else None
        if left and left.group(1) == here and not _alive(int(left.group(2)), int(left.group(3))):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int, started: int) -> bool:
    try:
        return abs(int(psutil.Process(pid).create_time()) - started) <= 1
    except psutil.Error:
        return False


def _code_cells(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def _library(chapter: str) -> dict[str, Path]:
    """Return the sources a chapter can depend on: all but other chapters' studies, what judges, and most of `run`."""
    package = Path(compute.__file__).parent

    def counts(path: Path) -> bool:
        room, *below = path.relative_to(package).parts
        if room == "run":
            return path.stem in RUNNING
        if room == "report":
            return path.stem not in JUDGING
        return room != "studies" or below[0] in (chapter, "__init__.py")

    return files.relative((path for path in package.rglob("*.py") if counts(path)), package, "traindyn/")


def _data_state() -> list[tuple[str, str]]:
    """Return name and checksum, as the manifests give them, of every local data set; and the registry's checksum."""
    found = [(entry["name"], entry["sha256"]) for folder in local.folders() for entry in local.manifest(folder)]
    if listed := registry.registry_file():
        found.append(("registry", files.sha256_file(listed)))
    return sorted(found)
