"""The command line `traindyn`; the commands on runs and sweeps stand in `cli_sweep` and `cli_runs`."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Sequence

from traindyn import __version__, files, parameters
from traindyn.errors import EXTRAS, InputError, lacking
from traindyn.run import cli_course, cli_runs, cli_sweep
from traindyn.run.cli_sweep import PRESET_HELP, in_a_line, say


class _Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are one line, like every other mistake."""

    def error(self, message: str) -> None:
        raise InputError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 (a run or a check failed), 2 (user's mistake), 130 (Ctrl-C)."""
    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was begun is cleared away
    try:
        options = _parser().parse_args(argv)
        return options.command(options)
    except InputError as error:
        say(f"traindyn: {in_a_line(error)}")
        return 2
    except OSError as error:  # what the system refuses: a full disk, a folder that may not be read
        if isinstance(error, BrokenPipeError):  # `traindyn show x | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        place = f": {error.filename}" if error.filename else ""
        say(f"traindyn: {in_a_line(error.strerror or error)}{in_a_line(place)}; nothing half-written is believed")
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in EXTRAS:
            raise
        print(f"traindyn: {lacking(error.name, 'this command')}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("traindyn: interrupted; nothing was left behind", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="traindyn", description="Training dynamics of over-parameterised networks, executable.")
    parser.add_argument("--version", action="version", version=f"traindyn {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)

    one = commands.add_parser("list", help="the chapters, their presets and what these cost")
    one.set_defaults(command=_list)

    one = commands.add_parser("show", help="a chapter's parameters, presets and sizes")
    one.add_argument("chapter")
    one.set_defaults(command=_show)

    cli_sweep.add(commands, _cores())

    one = commands.add_parser("book", help="execute all chapters and build the pages")
    one.add_argument("--preset", default="laptop", help=PRESET_HELP)
    one.add_argument("--jobs", type=int, default=_cores(), help="chapters executed at once")
    one.set_defaults(command=_book)

    one = commands.add_parser("verify", help="execute all chapters; fail if a verdict is not the expected one")
    one.add_argument("--preset", default="laptop", help=PRESET_HELP)
    one.add_argument("--jobs", type=int, default=_cores(), help="chapters executed at once")
    one.set_defaults(command=_verify)

    cli_runs.add(commands)
    cli_course.add(commands, _cores())

    one = commands.add_parser("nbval", help="write _build/nbval/CHAPTER.ipynb, which pytest --nbval-lax compares")
    one.add_argument("--update", action="store_true", help="rewrite chapters/*/expected.txt from a smoke run instead")
    one.set_defaults(command=_nbval)

    one = commands.add_parser("data", help="data sets: which are known and here, fetch one, check all, where one lies")
    one.add_argument("what", choices=("list", "fetch", "verify", "path"))
    one.add_argument("name", nargs="?", help="the data set, for fetch and path")
    one.set_defaults(command=_data)

    one = commands.add_parser("doctor", help="versions, device, memory and data found")
    one.set_defaults(command=_doctor)
    return parser


def _list(options: argparse.Namespace) -> int:
    for chapter in parameters.chapters():
        costs = ", ".join(f"{name} {_cost(preset)}" for name, preset in parameters.load_presets(chapter).items())
        print(f"{chapter:16} {costs}")
    return 0


def _show(options: argparse.Namespace) -> int:
    declared = parameters.declared(parameters.source(options.chapter))
    rows = [("parameter", "type", "default", "range", "meaning and unit")]
    rows += [(p.name, p.type, repr(p.default), p.range, p.meaning) for p in declared.values()]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        print("  ".join([*map(str.ljust, row[:4], widths), row[4]]).rstrip())
    for name, preset in parameters.load_presets(options.chapter).items():
        changed = ", ".join(f"{key}={value!r}" for key, value in preset.parameters.items())
        print(f"\npreset {name}: {_cost(preset)}{f'; {changed}' if changed else ''}")
        for experiment, sizes in preset.sizes.items():
            print(f"  {experiment}: " + ", ".join(f"{key}={value!r}" for key, value in sizes.items()))
    print(
        f"\ntraindyn run {options.chapter} --preset smoke -p n_seeds=5    # a parameter; sizes as EXPERIMENT.KEY=VALUE"
    )
    return 0


def _cost(preset: parameters.Preset) -> str:
    minutes, memory = preset.cost.get("minutes"), preset.cost.get("memory_gb")
    if minutes is None:
        return "cost not measured"
    time = f"{minutes:g} min" if minutes < 120 else f"{minutes / 60:.3g} h"
    gpu = preset.cost.get("gpu_minutes")
    time += "" if gpu is None else f" on one core, {gpu:g} min on a GPU"
    return f"about {time}" + (f", {memory:g} GB" if memory is not None else "")


def _book(options: argparse.Namespace) -> int:
    from traindyn.run import book

    return book.make(options.preset, _jobs(options), say)


def _verify(options: argparse.Namespace) -> int:
    from traindyn.run import book

    return book.verify(options.preset, _jobs(options), say)


def _jobs(options: argparse.Namespace) -> int:
    if options.jobs < 1:
        raise InputError(f"--jobs {options.jobs}; expected at least 1")
    return options.jobs


def _nbval(options: argparse.Namespace) -> int:
    from traindyn.run import nbval

    return nbval.update(say) if options.update else nbval.write_notebooks(say)


def _data(options: argparse.Namespace) -> int:
    from traindyn.learn.data import registry

    if options.what in ("fetch", "path"):
        if options.name is None:
            raise InputError(f"data {options.what} needs the name of a data set; see traindyn data list")
        print(registry.fetch(options.name) if options.what == "fetch" else registry.path(options.name))
        return 0
    if options.what == "list":
        for row in registry.listing():
            public = "" if row["obtainable"] else "  (these arrays cannot be had from a public source)"
            print(f"{row['name']:20} {row['kind']:7} {row['here'] or row['fetch'] or 'not here'}{public}")
        return 0
    rows = registry.verify()
    for name, said in rows:
        print(f"{name:20} {said}")
    print(f"{sum(said == 'ok' for _, said in rows)} of {len(rows)} local sets are as their manifest says")
    return int(any(said != "ok" for _, said in rows))


def _doctor(options: argparse.Namespace) -> int:
    import platform

    import psutil
    import torch

    from traindyn import compute
    from traindyn.learn import data
    from traindyn.learn.data import local
    from traindyn.report import provenance

    root = files.checkout()
    print(f"traindyn {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print("versions: " + ", ".join(f"{name} {version}" for name, version in provenance.versions().items()))
    device = compute.pick_device("auto")
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    print(f"device: {device}{name}; CUDA devices: {torch.cuda.device_count()}")
    memory, free = psutil.virtual_memory(), shutil.disk_usage(root or ".").free
    print(f"cores: {_cores()}; memory: {_gb(memory.total)}, free {_gb(memory.available)}; free disk: {_gb(free)}")
    print(f"memory of one computation: {_gb(compute.memory_budget(device))} (TRAINDYN_MEMORY=MiB changes it)")
    folder = os.environ.get("TRAINDYN_DATA", "not set")
    print(f"data sets here: {', '.join(filter(data.present, local.local_names()))} (TRAINDYN_DATA: {folder})")
    print(f"chromium (browser tests only): {shutil.which('chromium') or 'not found'}")
    print(f"project: {root}; chapters: {', '.join(parameters.chapters())}" if root else "project: no checkout here")
    return 0


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gb(count: int) -> str:
    return f"{count / 2**30:.1f} GB"


if __name__ == "__main__":
    sys.exit(main())
