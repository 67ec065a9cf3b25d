"""`make book`: execute every chapter, stage the executed notebooks with the prose, let Jupyter Book render them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from traindyn import files, parameters
from traindyn.errors import InputError, choose
from traindyn.run import execute, notebook, results, staging

Say = Callable[[str], None]


def make(preset: str, jobs: int, say: Say) -> int:
    """Execute all chapters at a preset and build the pages; return the exit status.

    Args:
        preset: smoke, laptop or paper.
        jobs: chapters executed at once.
        say: called with lines for the user.

    Raises:
        InputError: the preset is unknown, the table of contents names a chapter that is not there, or another process
            makes the book at this preset.
    """
    names = listed_chapters()
    choose("preset", preset, parameters.PRESETS)
    build = files.project_root() / "_build"
    fresh = not build.exists()
    build.mkdir(exist_ok=True)
    try:
        with files.locked(build / f".book-{preset}.lock", f"making the book at preset {preset}"):
            return _make(names, preset, jobs, say)
    finally:
        if fresh and not any(build.iterdir()):
            build.rmdir()


def _make(names: list[str], preset: str, jobs: int, say: Say) -> int:
    """Make the book, whose lock is held."""
    runs = execute_all(names, preset, jobs, say)
    if runs is None:
        return 1
    book = [results.findings(name, runs[name]) for name in names]
    stage, changed = staging.stage_book(book, runs, preset)
    home = site(preset)
    status = build_pages(stage, home.parents[1], staging.shared(changed), say)
    if status:
        return status
    print(f"The book is in {notebook.shown(home / 'index.html')} (file://{home / 'index.html'})")
    print(_report(book))
    return 0


def verify(preset: str, jobs: int, say: Say) -> int:
    """Execute all chapters at a preset; return 1 if a verdict is not the one that its ledger expects, else 0."""
    names = listed_chapters()
    runs = execute_all(names, preset, jobs, say)
    if runs is None:
        return 1
    book = [results.findings(name, runs[name]) for name in names]
    print(_report(book))
    return int(any(results.surprises(found.claims, found.outcomes[0]) for found in book))


def site(preset: str) -> Path:
    """Return the folder of the built pages: `_build/html` at laptop, `_build/<preset>/_build/html` otherwise."""
    build = files.project_root() / "_build"
    return build / "html" if preset == "laptop" else build / preset / "_build" / "html"


def listed_chapters() -> list[str]:
    """Return the chapters in the table of contents.

    Raises:
        InputError: one of them has no notebook.
    """
    toc = files.read_text(files.project_root() / "_toc.yml", "the table of contents")
    known = parameters.chapters()
    names = re.findall(r"chapters/(\w+)/\w+", toc)
    for name in names:
        if name not in known:
            raise InputError(f"_toc.yml names chapters/{name}/{name}, which does not exist; take the line out")
    return names


def execute_all(names: Iterable[str], preset: str, jobs: int, say: Say) -> dict[str, Path] | None:
    """Execute chapters in processes of their own, the most expensive first.

    Returns:
        Each chapter's finished run, or None if one of them failed (it has said why).
    """
    choose("preset", preset, parameters.PRESETS)
    resolved = {name: parameters.resolve(name, preset) for name in names}
    cost = {name: parameters.load_presets(name)[preset].cost.get("minutes", 0) for name in resolved}
    waiting = [
        name
        for name, run in sorted(resolved.items(), key=lambda item: -cost[item[0]])
        if not execute.is_current(execute.default_out(run), execute.run_key(run))
    ]
    if len(waiting) < len(resolved):
        say(f"{len(resolved) - len(waiting)} of {len(resolved)} chapters have not changed since their last run")
    running: list[subprocess.Popen[bytes]] = []

    def one(name: str) -> int:
        command = [sys.executable, "-m", "traindyn.run.cli", "run", name, "--preset", preset]
        command += ["--no-bar"] if len(waiting) > 1 else []  # several bars in one terminal overwrite one another
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        running.append(process)
        return process.wait()

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        futures = [pool.submit(one, name) for name in waiting]
        try:
            statuses = [future.result() for future in futures]
        except BaseException:  # Ctrl-C or SIGTERM: no chapter goes on alone
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()
            raise
    if any(statuses):
        failed = [name for name, status in zip(waiting, statuses, strict=True) if status]
        say(f"traindyn: the book was not built: {', '.join(failed)} failed")
        return None
    return {name: execute.default_out(run) for name, run in resolved.items()}


def build_pages(stage: Path, target: Path, again: bool, say: Say) -> int:
    """Run Jupyter Book with warnings as errors; return its exit status.

    Args:
        stage: the folder with `_config.yml` and `_toc.yml`.
        target: the folder in which Jupyter Book makes `_build/html`.
        again: write all pages, not only those that have changed.
        say: called with lines for the user.
    """
    log = stage.with_name(f"{stage.name}.log")
    command = [shutil.which("jupyter-book", path=Path(sys.executable).parent) or "jupyter-book", "build", str(stage)]
    command += ["--path-output", str(target), "-W", "-n", "--keep-going", *(["--all"] if again else [])]
    say("building the pages")
    with log.open("w", encoding="utf-8") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "NO_COLOR": "1"})
    if done.returncode:
        text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8"))
        found = [
            line for line in text.splitlines() if re.search(r"WARNING|ERROR|[Ee]xception", line)
        ] or text.splitlines()
        say("\n".join(found[-15:]))
        say(f"traindyn: Jupyter Book failed; its log is {notebook.shown(log)}")
    return int(bool(done.returncode))


def _report(book: list[results.Findings]) -> str:
    different = [item for found in book for item in results.surprises(found.claims, found.outcomes[0])]
    lines = [f"  {name}: expected {expected}, came out as {verdict}" for name, expected, verdict in different]
    total = sum(len(found.claims) for found in book)
    return "\n".join([*lines, f"{len(different)} of {total} verdicts differ from the recorded ones."])
