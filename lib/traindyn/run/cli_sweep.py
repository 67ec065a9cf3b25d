"""The commands on one run with parameters of one's own and on many: `run`, `sweep`."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from typing import Any

from traindyn import parameters
from traindyn.errors import InputError, import_extra

PRESET_HELP = "smoke (seconds), laptop (minutes, what the book shows) or paper (the source's own sizes)"


def add(commands: Any, cores: int) -> None:
    """Add the commands to a parser."""
    one = commands.add_parser("run", help="execute a chapter")
    one.add_argument("chapter")
    _parameters(one, "NAME=VALUE", "a parameter, or a size as EXPERIMENT.KEY=VALUE")
    one.add_argument("--out", metavar="DIR", help="folder of the run, default _build/runs/CHAPTER/PRESET")
    one.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    one.add_argument("--timeout", type=float, metavar="S", help="longest time in seconds")
    one.add_argument("--kernel", metavar="NAME", help="a Jupyter kernel, instead of this very Python")
    one.add_argument("--html", action="store_true", help="also write the run as a page, CHAPTER.html in its folder")
    one.add_argument("--report-mode", action="store_true", help="hide the code in the executed notebook")
    one.add_argument("--dry-run", action="store_true", help="say what would run; create nothing")
    one.add_argument("--force", action="store_true", help="execute although nothing has changed, replace another run")
    one.add_argument("--no-bar", action="store_true", help="no progress bar")
    one.set_defaults(command=_run)

    one = commands.add_parser("sweep", help="execute a chapter at every point of a grid, or with many seeds")
    one.add_argument("chapter")
    _parameters(one, "NAME=VALUES", "values as 64,128,256 or start:stop:step; several -p make a grid")
    one.add_argument(
        "--seeds", type=int, nargs="?", const=0, metavar="N", help="blocks of seeds of the preset instead of a grid"
    )
    one.add_argument("--workers", type=int, metavar="N", help="points executed at once, default one per core")
    one.add_argument("--scheduler", metavar="ADDRESS", help="workers of an existing Dask scheduler, tcp://HOST:PORT")
    one.add_argument("--scheduler-file", metavar="FILE", help="the same, by the file that the scheduler wrote")
    one.add_argument(
        "--resources", metavar="NAME=NUMBER", action="append", default=[], help="what a worker has to offer: GPU=1"
    )
    one.add_argument("--out", metavar="DIR", help="folder of the sweep and its runs, default below _build/")
    one.add_argument("--timeout", type=float, metavar="S", help="longest time of a point in seconds")
    one.add_argument("--memory", type=float, metavar="GB", help="memory of a point, default an equal share")
    one.add_argument("--retry-failed", action="store_true", help="try points again that failed before")
    one.add_argument("--fail-fast", action="store_true", help="stop at the first failure")
    one.add_argument(
        "--plot", nargs="*", metavar="NAME", help="draw evidence against what is swept: all of it, or claims by name"
    )
    one.add_argument("--dry-run", action="store_true", help="list the points; create nothing")
    one.add_argument("--force", action="store_true", help="execute every point again")
    one.add_argument("--no-bar", action="store_true", help="a line per point instead of a progress bar")
    one.set_defaults(command=_sweep, cores=cores)


def _parameters(one: argparse.ArgumentParser, metavar: str, words: str) -> None:
    one.add_argument("--preset", default="laptop", help=PRESET_HELP)
    one.add_argument("-p", dest="overrides", metavar=metavar, action="append", default=[], help=words)
    one.add_argument("-f", dest="file", metavar="FILE", help="a YAML file of these; -p wins")


def _given(options: argparse.Namespace) -> list[tuple[str, Any]]:
    """Return what `-f` and `-p` give; a name that stands in both has the value of `-p`."""
    from traindyn.run import grid

    typed = parameters.pairs(options.overrides)
    names = {name for name, _ in typed}
    read = grid.from_file(options.file) if options.file else []
    return [(name, value) for name, value in read if name not in names] + typed


def _run(options: argparse.Namespace) -> int:
    from traindyn.run import grid

    resolved = grid.one(options.chapter, options.preset, _given(options))
    from traindyn.run import execute  # papermill takes a second to import: not for a mistake in a name
    from traindyn.run.notebook import How, kernel_spec

    if options.kernel:
        kernel_spec(options.kernel)
    how = How(_positive("--timeout", options.timeout), None, options.kernel, options.report_mode)
    if options.dry_run:
        print("\n".join(execute.described(resolved, options.out, options.device, how)))
        return 0
    bar = sys.stderr.isatty() and not options.no_bar
    try:
        out = execute.execute(resolved, options.out, options.device, options.force, progress=say, bar=bar, how=how)
    except execute.RunFailed as error:
        print(f"{error.story}traindyn: {error}", file=sys.stderr)
        return 1
    if options.html:
        from traindyn.run import view

        say(f"the page is {view.write(out, resolved.chapter)}")
    for verdict, count in execute.counted(out).items():
        print(f"{count:4d}  {verdict}")
    return 0


def _sweep(options: argparse.Namespace) -> int:
    from traindyn.run import grid

    given = _given(options)
    points = grid.grid(options.chapter, options.preset, given)
    _check_sweep(options, given)
    if options.plot is not None and not set(points.axes) - {"seed"}:
        raise InputError("--plot needs a swept parameter beside the seed, such as -p width=64,128,256")
    for module in ("distributed", "pyarrow"):
        import_extra(module, "a sweep")
    from traindyn.run import cluster, remote, sweep, sweep_plot
    from traindyn.run.dispatch import Where
    from traindyn.run.notebook import How

    if options.plot:
        sweep_plot.check_names(options.chapter, options.plot)
    memory = options.memory * 2**30 if options.memory else None
    if options.scheduler is None and options.scheduler_file is None:
        workers = options.workers or options.cores
        workers = workers if options.seeds is not None else min(workers, len(points.points))
        how = How(options.timeout, memory or cluster.memory_share(workers))
        return _swept(options, points, how, Where(workers), None)
    offered = _resources(options.resources)
    with remote.connected(options.scheduler, options.scheduler_file, offered) as found:
        around = remote.checked(found, options.chapter, sweep.devices(points))
        return _swept(options, points, How(options.timeout, memory), Where(cluster=found), around)


def _swept(options: argparse.Namespace, points: Any, how: Any, where: Any, around: Any) -> int:
    """Sweep, where it is known by whom; return the exit status."""
    from traindyn.run import pooling, sweep, sweep_plot
    from traindyn.run.notebook import shown

    status = 0

    def execute(plan: Any) -> bool:
        nonlocal status
        for line in sweep.opening(plan):
            say(line)
        bar = sys.stderr.isatty() and not options.no_bar
        status = _told(plan, *sweep.run(plan, where, say, bar, options.fail_fast))
        return status == 0

    def planned(grid: Any) -> Any:
        return sweep.plan(grid, options.out, how, options.retry_failed, options.force, around)

    if options.seeds is not None:
        made = pooling.pool(options.chapter, options.preset, options.seeds, planned, execute, say)
        return status or made
    plan = planned(points)
    if options.dry_run:
        print("\n".join([*sweep.opening(plan), *(f"  {plan.grid.label(task.point)}" for task in plan.waiting)]))
        return 0
    execute(plan)
    if options.plot is not None and status in (0, 1):
        for path in sweep_plot.draw(plan.folder, list(points.axes), options.plot):
            say(f"figure: {shown(path)}")
    return status


def _check_sweep(options: argparse.Namespace, given: Any) -> None:
    """Raise if options do not go together or are out of range."""
    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers {options.workers}; expected at least 1")
    _positive("--memory", options.memory)
    _positive("--timeout", options.timeout)
    if options.seeds is not None and (
        given or options.out or options.dry_run or options.force or options.plot is not None
    ):
        raise InputError("--seeds redraws the seeds of a preset; it goes with --preset alone, without -p, -f, --out")
    if options.scheduler is not None and options.scheduler_file is not None:
        raise InputError("--scheduler and --scheduler-file name the same thing; give one of them")
    elsewhere = options.scheduler is not None or options.scheduler_file is not None
    if elsewhere and options.workers is not None:
        raise InputError("--workers counts processes of this machine; a scheduler has its own: leave it out")
    if options.resources and not elsewhere:
        raise InputError("--resources asks the workers of a scheduler; give --scheduler or leave it out")


def _resources(texts: list[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        name, sign, number = text.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            sign = ""
        if not sign or not name.strip() or not 0 < found[name.strip()] < float("inf"):
            raise InputError(f"--resources '{text}'; expected NAME=NUMBER, such as GPU=1")
    return found


def _told(plan: Any, results: Any, ended: str) -> int:
    """Print how a sweep ended; return the exit status."""
    from traindyn.run import sweep
    from traindyn.run.notebook import shown

    print("\n".join(sweep.summary(plan, results)))
    if changed := sweep.changed_meanwhile(plan):
        say(f"traindyn: while this ran, {changed} changed; the same command runs again what is out of date")
    print(f"table: {shown(plan.folder / 'sweep.parquet')}")
    if ended:
        say(f"traindyn: {ended}; to go on: {_again()}")
        return 130 if ended == "interrupted" else 1
    return int(len(results) < len(plan.tasks) or any(result.status != "done" for result in results.values()))


def _again() -> str:
    return shlex.join(["traindyn", *sys.argv[1:]])


def _positive(name: str, value: float | None) -> float | None:
    if value is not None and not 0 < value < float("inf"):
        raise InputError(f"{name} {value:g}; expected a number above 0")
    return value


def in_a_line(message: object) -> str:
    """Return a message in one line; what is longer than any name, and has no space, is cut in its middle."""
    return re.sub(r"\S{201,}", lambda found: f"{found[0][:60]}...{found[0][-20:]}", " ".join(str(message).split()))


def say(line: str) -> None:
    """Tell the user a line on stderr."""
    print(line, file=sys.stderr, flush=True)
