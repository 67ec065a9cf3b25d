"""`traindyn sweep`: a chapter at every point of a grid, on several workers, begun again where it was left.

A point's run is kept by content, like every run: what is finished and unchanged is not executed again. A sweep's folder
holds `sweep.json` (what it is), `points/` (a small table per point) and `sweep.parquet`, made from these at the end.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from traindyn import files
from traindyn.errors import InputError
from traindyn.run import dispatch, execute, gather, keys, remote, tasks
from traindyn.run.dispatch import Where
from traindyn.run.grid import Grid
from traindyn.run.notebook import How, shown
from traindyn.run.remote import Around
from traindyn.run.tasks import DONE, FAILURES, Result, Task

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is left to do of a sweep.

    Attributes:
        grid: its points.
        folder: the sweep's own folder.
        tasks: every point.
        kept: points whose finished run stands.
        failed: points that failed before with the same content and are not tried again, with how they ended.
        changed: what has changed since the sweep was begun ("the library"), if anything.
        begun: whether it was begun before.
        surroundings: a key for each thing beside parameters and sizes that the runs depend on.
        elsewhere: whether another cluster's workers execute it.
        damaged: files of the sweep that cannot be read; they are set aside.
    """

    grid: Grid
    folder: Path
    tasks: Sequence[Task]
    kept: frozenset[int]
    failed: dict[int, Result]
    changed: tuple[str, ...]
    begun: bool
    surroundings: dict[str, str]
    elsewhere: bool = False
    damaged: tuple[Path, ...] = ()

    @property
    def waiting(self) -> list[Task]:
        """The points that are executed."""
        return [task for task in self.tasks if task.point not in self.kept and task.point not in self.failed]


def plan(
    grid: Grid,
    out: str | Path | None = None,
    how: How | None = None,
    retry_failed: bool = False,
    force: bool = False,
    around: Around | None = None,
) -> Plan:
    """Return what is left to do of a sweep. Nothing is created.

    Args:
        grid: the points.
        out: the sweep's folder, which then holds the runs too; `_build/sweeps/<chapter>/<preset>-<key>` if None, and
            the runs go where `traindyn run` puts them.
        how: limits of a point.
        retry_failed: try points again that failed before; those whose worker was lost always are.
        force: execute every point, and let another sweep's folder be used.
        around: what runs depend on where they will be executed, by device; as on this machine if None.

    Raises:
        InputError: `out` holds something else, or the device is not there.
    """
    how = replace(how or How(), owner=secrets.token_hex(4))
    name = f"{grid.preset}-{files.content_key({}, grid.axes, grid.fixed)[:8]}"
    own = files.project_root() / "_build" / "sweeps" / grid.chapter / name
    folder = execute.place(out) if out is not None else own
    elsewhere, around, found = around is not None, around or _around(grid), []
    for number, resolved in enumerate(grid.points):
        device = resolved.parameters.get("device", "auto")
        run = execute.default_out(resolved)
        run = folder / "runs" / run.name if out is not None else run
        table = folder / "points" / f"{number:05d}-{run.name}.parquet"
        key = keys.run_key(resolved, how, around[device])
        replaces = force or out is not None
        found.append(
            Task(number, run.name, grid.values(number), resolved, run, table, key, how, replaces, strict=elsewhere)
        )
    before = _before(folder, grid, force)
    execute.check_writable(folder)
    kept, failed = set(), {}
    damaged = [task.table for task in found if task.table.is_file() and gather.read_point(task.table) is None]
    if (folder / "sweep.json").is_file() and not before and not force:
        damaged.append(folder / "sweep.json")
    for task in found if not force else []:
        if execute.is_current(task.out, task.key):
            kept.add(task.point)
            continue
        row = gather.read_point(task.table) if before and not retry_failed else None
        if row and row["key"] == task.key and row["status"] not in (DONE, "lost"):
            failed[task.point] = Result(task.point, row["status"], row["message"] or "", row["seconds"] or 0.0)
    now = _by_thing(around)
    changed = [name for name, value in now.items() if before and before.get("surroundings", {}).get(name) != value]
    return Plan(
        grid, folder, found, frozenset(kept), failed, tuple(changed), bool(before), now, elsewhere, tuple(damaged)
    )


def devices(grid: Grid) -> list[str]:
    """Return the devices that the points of a grid ask for."""
    return list(dict.fromkeys(point.parameters.get("device", "auto") for point in grid.points))


def _around(grid: Grid) -> Around:
    """Return what the points depend on beside parameters and sizes, for each device that they ask for."""
    return {device: keys.surroundings(grid.chapter, device) for device in devices(grid)}


def _by_thing(around: Around) -> dict[str, str]:
    names = next(iter(around.values()))
    return {name: files.content_key({}, [entry[name] for entry in around.values()]) for name in names}


def changed_meanwhile(plan: Plan) -> str:
    """Return what has changed since a plan was made, as it is listed ("the library"); empty if nothing has."""
    if plan.elsewhere:
        return ""
    now = _by_thing(_around(plan.grid))
    return _listed([name for name, value in now.items() if plan.surroundings[name] != value])


def _before(folder: Path, grid: Grid, force: bool) -> dict[str, Any]:
    """Return the `sweep.json` of an earlier start of the same sweep; empty if there is none."""
    path = folder / "sweep.json"
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                f"--out {folder} holds files that are not a sweep; choose a folder that does not exist yet"
            )
        return {}
    try:
        found = files.read_json(path)
    except ValueError:  # set aside when the sweep runs
        return {}
    now = _described(grid)
    different = [key for key, value in now.items() if found.get(key) != value]
    if different and not force:
        raise InputError(
            f"{folder} holds another sweep: its {different[0]} is {found.get(different[0])}, not {now[different[0]]}; "
            "choose another folder, or use it with --force"
        )
    return found if not different else {}


def _described(grid: Grid) -> dict[str, Any]:
    axes = {name: list(values) for name, values in grid.axes.items()}
    return {"chapter": grid.chapter, "preset": grid.preset, "axes": axes, "fixed": dict(grid.fixed)}


def run(
    plan: Plan, where: Where, say: Say, bar: bool = False, fail_fast: bool = False
) -> tuple[dict[int, Result], str]:
    """Execute what is left of a sweep and gather its table.

    Args:
        plan: from `plan`.
        where: the workers.
        say: called with lines for the user.
        bar: show a progress bar.
        fail_fast: stop at the first failure.

    Returns:
        How every point ended that was reached, and why not all were: "interrupted", "the scheduler is gone", or "".

    Raises:
        InputError: another process sweeps into the same folder, or a worker does not see it.
    """
    results = {point: Result(point, DONE) for point in plan.kept} | dict(plan.failed)
    waiting = plan.waiting
    execute.make_folder(plan.folder)
    with (
        files.locked(plan.folder / ".sweep.lock", f"sweeping into {shown(plan.folder)}"),
        dispatch.noted_interrupts() as interrupted,
        _shared(plan, where),
    ):
        for path in plan.damaged:
            files.set_aside(path)
        about = {**_described(plan.grid), "surroundings": plan.surroundings, "points": len(plan.tasks)}
        files.write_json(plan.folder / "sweep.json", about)
        for task in plan.tasks:
            if task.point in plan.kept and (gather.read_point(task.table) or {}).get("key") != task.key:
                tasks.record(task, results[task.point])
        progress = tqdm(total=len(waiting), unit="run", disable=not bar, dynamic_ncols=True, desc=plan.grid.chapter)
        arriving = dispatch.executed(waiting, where, fail_fast, interrupted)
        with progress, closing(arriving), _told_gone() as gone:
            for result in arriving:
                results[result.point] = result
                failures = sum(one.status != DONE for one in results.values())
                progress.update()
                progress.set_postfix_str(f"{failures} failed" if failures else "", refresh=False)
                if not bar or result.status != DONE:
                    said = "done" if result.status == DONE else f"{FAILURES[result.status]}: {result.message}"
                    line = f"{plan.grid.label(result.point)}: {said} ({result.seconds:.1f} s)"
                    (progress.write if bar else say)(f"[{len(results)}/{len(plan.tasks)}] {line}")
        for task in waiting:  # finished, but its worker was stopped before it could say so
            if task.point not in results and execute.is_current(task.out, task.key):
                results[task.point] = Result(task.point, DONE)
                tasks.record(task, results[task.point])
        values = plan.grid.values(0)
        gather.gather([task.table for task in plan.tasks], plan.folder / "sweep.parquet", values)
    return results, "interrupted" if interrupted.is_set() else gone[0] if gone else ""


@contextmanager
def _told_gone() -> Iterator[list[str]]:
    """Give a list that has a line afterwards if the scheduler was gone in the middle."""
    told: list[str] = []
    try:
        yield told
    except dispatch.SchedulerGone:
        told.append("the scheduler is gone")


def _shared(plan: Plan, where: Where) -> AbstractContextManager[None]:
    """Make sure that other machines see what is written here."""
    if where.cluster is None or not plan.waiting:
        return nullcontext()
    return remote.seen_by_all(where.cluster, plan.folder, [task.out.parent for task in plan.waiting])


def summary(plan: Plan, results: dict[int, Result]) -> list[str]:
    """Return how a sweep ended, in lines: counts, then every failure with its log."""
    ended = [result for _, result in sorted(results.items())]
    counts = {word: sum(result.status == word for result in ended) for word in (DONE, *FAILURES)}
    said = [f"{counts[DONE]} of {len(plan.tasks)} points done"]
    said += [f"{count} {FAILURES[word]}" for word, count in counts.items() if word != DONE and count]
    lines = [", ".join(said)]
    for result in ended:
        if result.status not in (DONE, "stopped"):
            log = plan.tasks[result.point].log
            where = f"; log: {shown(log)}" if log.is_file() and str(shown(log)) not in result.message else ""
            lines.append(f"  {plan.grid.label(result.point)}: {FAILURES[result.status]}: {result.message}{where}")
    return lines


def opening(plan: Plan) -> list[str]:
    """Return what is about to happen, in lines."""
    done, failed, left = len(plan.kept), len(plan.failed), len(plan.waiting)
    lines = [f"{plan.grid.chapter}: {len(plan.tasks)} points at preset {plan.grid.preset}, {left} to run"]
    if plan.changed:
        lines.append(f"  since this sweep was begun {_listed(plan.changed)} changed: what is out of date is run again")
    elif plan.begun:
        lines.append("  the sweep goes on where it was left")
    for path in plan.damaged:
        lines.append(f"  {shown(path)} cannot be read: set aside as {path.name}.corrupt, made anew")
    if done:
        lines.append(f"  {done} finished before")
    if failed:
        lines.append(f"  {failed} failed before; --retry-failed tries them again")
    return lines


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
