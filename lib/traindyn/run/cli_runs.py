"""The commands on finished runs: `report`, `diff`, `archive`, `judge`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from traindyn.errors import InputError


def add(commands: Any) -> None:
    """Add the commands to a parser."""
    one = commands.add_parser("report", help="a scorecard of runs in the terminal")
    one.add_argument("runs", nargs="*", metavar="DIR", help="runs or folders above them, default all of this build")
    one.set_defaults(command=_report)

    one = commands.add_parser("diff", help="what two runs differ in: parameters, versions, verdicts, evidence")
    one.add_argument("a", metavar="RUN_A")
    one.add_argument("b", metavar="RUN_B")
    one.set_defaults(command=_diff)

    one = commands.add_parser(
        "archive", help="put a finished run's small tables and verdicts, or a sweep's numbers, into data/results/"
    )
    one.add_argument("run", help="folder of a finished run of a preset, or of a finished sweep")
    one.add_argument("--only", nargs="+", default=[], metavar="NAME", help="of a sweep: these claims or quantities")
    one.add_argument("--force", action="store_true", help="although its tree had changes")
    one.set_defaults(command=_archive)

    one = commands.add_parser("judge", help="derive a run's verdicts again from its stored numbers; say what changed")
    one.add_argument("run", help="folder of a finished run")
    one.add_argument("--claims", metavar="FILE", help="another ledger, default the chapter's own claims.yaml")
    one.set_defaults(command=_judge)


def _report(options: argparse.Namespace) -> int:
    from traindyn.run import terminal

    return terminal.report(options.runs)


def _diff(options: argparse.Namespace) -> int:
    from traindyn.run import compare

    print("\n".join(compare.different(options.a, options.b)))
    return 0


def _archive(options: argparse.Namespace) -> int:
    from traindyn.run import archive, sweep_archive
    from traindyn.run.cli_sweep import say
    from traindyn.run.notebook import shown

    if (Path(options.run) / "sweep.json").is_file():
        print(f"archived in {shown(sweep_archive.archive(options.run, options.only, options.force))}")
        return 0
    if options.only:
        raise InputError(f"--only goes with the folder of a sweep; {options.run} has no sweep.json")
    place, too_large = archive.archive(options.run, options.force)
    print(f"archived in {shown(place)}")
    for name in too_large:
        say(f"left out, too large: tables/{name}")
    return 0


def _judge(options: argparse.Namespace) -> int:
    from traindyn.run import rejudge

    print("\n".join(rejudge.report(options.run, options.claims)))
    return 0
