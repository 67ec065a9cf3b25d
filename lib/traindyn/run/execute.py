"""One execution of a chapter: a folder that is complete or absent, skipped when nothing it depends on has changed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import psutil

from traindyn import files, parameters
from traindyn.errors import InputError
from traindyn.parameters import Resolved
from traindyn.run.keys import run_key
from traindyn.run.notebook import PLAINLY, How, RunFailed, run_notebook, shown

_LEFT = re.compile(r"\.part-(?:old-)?([A-Za-z0-9]+)-([0-9]+)-([0-9]+)")


def default_out(resolved: Resolved) -> Path:
    """Return where a run goes unless told otherwise: `_build/runs/<chapter>/<preset>[-<short key>]`."""
    name = resolved.preset
    if not resolved.is_preset:
        name += f"-{files.content_key({}, resolved.parameters, resolved.sizes)[:8]}"
    return files.project_root() / "_build" / "runs" / resolved.chapter / name


def execute(
    resolved: Resolved,
    out: str | Path | None = None,
    device: str = "auto",
    force: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    bar: bool = False,
    how: How = PLAINLY,
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
        how: limits of time and memory, another kernel, report mode.

    Returns:
        The folder.

    Raises:
        InputError: no such device, a data set that the sizes name is not here or is damaged, `out` cannot be written,
            holds something else, is a link, or is being written by another process; or a cell raised an InputError.
        RunFailed: a cell failed, or the kernel died or was ended at a limit; the log's path is in the message. What
            the run had made until then is left beside its place as `<name>.failed`.
    """
    resolved = _on_device(resolved, device)
    key = run_key(resolved, how)
    given = out is not None
    out = place(out) if out is not None else default_out(resolved)
    if is_current(out, key) and not force:
        progress(f"{resolved.chapter}: nothing has changed since the run in {shown(out)}")
        return out
    wrong = damage(out, key)
    _check_place(out, overwrite=force or not given or bool(wrong))
    _check_data(resolved)
    made = make_folder(out.parent)
    try:
        with files.locked(out.with_name(f".{out.name}.lock"), f"running into {shown(out)}"):
            _clean_leftovers(out)
            if wrong and damage(out, key):
                aside = files.set_aside(out)
                progress(f"{resolved.chapter}: {wrong}; set aside as {shown(aside)}, running it again")
            return _run(resolved, out, key, progress, bar, how)
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # not empty: there is a log of what failed
                folder.rmdir()
        raise


def _run(resolved: Resolved, out: Path, key: str, progress: Callable[[str], None], bar: bool, how: How) -> Path:
    """Execute into `out`, whose lock is held."""
    part = out.with_name(f"{out.name}.part-{_process_tag()}")
    log, failed = out.with_name(f"{out.name}.log"), out.with_name(f"{out.name}.failed")
    own = "" if resolved.is_preset else ", with parameters of your own"
    progress(f"{resolved.chapter}: running at preset {resolved.preset}{own}")
    start = time.perf_counter()
    shutil.rmtree(failed, ignore_errors=True)
    try:
        part.mkdir()
        label = {
            "preset": resolved.preset,
            "sizes": resolved.sizes,
            "is_preset": resolved.is_preset,
            "out": str(part),
            "key": key,
        }
        book = run_notebook(resolved.chapter, resolved.parameters, label, part, log, bar, how)
        nbformat.write(book, part / f"{resolved.chapter}.ipynb")
        wall = time.perf_counter() - start
        _finish(part, resolved, key, wall)
        _replace(part, out)
        shutil.rmtree(files.project_root() / "_build" / "kept" / key, ignore_errors=True)
    except RunFailed as error:
        (part / ".kernel.log").unlink(missing_ok=True)
        if error.kind == "stopped" or not any(part.iterdir()):
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.rename(failed)
        raise
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    progress(f"{resolved.chapter}: done in {wall:.0f} s, {shown(out)}")
    return out


def described(resolved: Resolved, out: str | Path | None, device: str, how: How = PLAINLY) -> list[str]:
    """Return what `execute` would run with the same arguments, in lines. Nothing is created."""
    resolved = _on_device(resolved, device)
    key = run_key(resolved, how)
    folder = place(out) if out is not None else default_out(resolved)
    state = "nothing has changed since this run" if is_current(folder, key) else "would run"
    lines = [f"{resolved.chapter} at preset {resolved.preset}, into {shown(folder)}: {state}"]
    lines += [f"  {name} = {value!r}" for name, value in resolved.parameters.items()]
    for experiment, sizes in resolved.sizes.items():
        lines.append(f"  {experiment}: " + ", ".join(f"{name}={value!r}" for name, value in sizes.items()))
    return lines


def place(out: str | Path) -> Path:
    """Return `--out DIR` as an absolute path.

    Raises:
        InputError: it is empty, or no name that the system allows.
    """
    if not str(out).strip():
        raise InputError("--out is empty; give a folder that does not exist yet")
    found = Path(out).expanduser().absolute()
    try:
        found.exists()
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise InputError(f"--out {out}: {said}; choose another folder") from error
    return found


def _on_device(resolved: Resolved, device: str) -> Resolved:
    if device == "auto":
        return resolved
    if "device" not in parameters.declared(parameters.source(resolved.chapter)):
        raise InputError(f"chapter '{resolved.chapter}' has no parameter 'device'; leave --device out")
    return replace(resolved, parameters={**resolved.parameters, "device": device})


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
        "claims_sha256": files.sha256_file(part / "claims.json"),
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
    return _key(out) == key and not lost_files(out)


def _about(out: Path) -> dict[str, Any]:
    try:
        found = files.read_json(out / "provenance.json")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _key(out: Path) -> str | None:
    """Return the key of the finished run in `out`, or None if there is none that can be read."""
    return _about(out).get("key")


def damage(out: Path, key: str) -> str:
    """Return what is wrong with the run in `out`, in words: its provenance, or a file of this very content."""
    if (out / "provenance.json").is_file() and _key(out) is None:
        return f"the provenance.json of the run in {shown(out)} cannot be read"
    lost = lost_files(out) if _key(out) == key else []
    return f"the run in {shown(out)} has lost {lost[0]}" if lost else ""


def lost_files(out: Path) -> list[str]:
    """Return the files that a finished run had and that are gone, have another size, or (claims) another content."""
    about = _about(out)
    sizes, lost = about.get("files", {"claims.json": None}), []
    for name, size in sizes.items():
        path = out / name
        if not path.is_file() or (size is not None and path.stat().st_size != size):
            lost.append(name)
    if not lost and (wanted := about.get("claims_sha256")) and files.sha256_file(out / "claims.json") != wanted:
        lost.append("claims.json")
    return lost


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
    check_writable(out)


def check_writable(out: Path) -> None:
    """Raise if a folder cannot be made at `out`, as far as permissions say."""
    above = next(parent for parent in (out, *out.parents) if parent.exists() or parent.is_symlink())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"cannot write to {above}; choose another folder with --out DIR")


def make_folder(folder: Path) -> list[Path]:
    """Make a folder with its parents; return those that were made, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; choose another folder with --out") from error
    return missing


def _check_data(resolved: Resolved) -> None:
    """Raise if a registered set that the sizes name (a size called `data`: one name or a list) is missing or damaged.

    Other names, of synthetic data say, are the chapter's own business, and so is a set of an experiment with a size
    `optional` that is true: the run goes on without it.
    """
    wanted = [size["data"] for size in resolved.sizes.values() if "data" in size and not size.get("optional")]
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
