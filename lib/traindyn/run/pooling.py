"""`traindyn sweep CHAPTER --seeds N`: blocks of seeds executed, compared, archived with the stability of verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from traindyn import files
from traindyn.errors import InputError
from traindyn.report.claims import load_ledger
from traindyn.report.stability import FEWEST, POOL
from traindyn.report.words import setting_word
from traindyn.run import blocks, grid, results, sweep
from traindyn.run.notebook import shown

Planned = Callable[[grid.Grid], sweep.Plan]
Run = Callable[[sweep.Plan], bool]
KEPT = ("versions", "platform", "device", "dtype", "git", "finished", "sizes")


def pool(chapter: str, preset: str, wanted: int, plan: Planned, run: Run, say: Callable[[str], None]) -> int:
    """Execute blocks of seeds of a preset and archive them; return the exit status.

    Args:
        chapter, preset: what is run.
        wanted: seeds of an experiment that takes `n_seeds`; 0 for as few as the stability of every claim needs.
        plan: says what is left to do of a grid of blocks.
        run: executes a plan and returns whether all its points are done.
        say: called with lines for the user.

    Raises:
        InputError: fewer seeds than stability needs, or the chapter has no seeds.
    """
    plain = grid.one(chapter, preset, [])
    if not {"seed", "n_seeds"} <= plain.parameters.keys():
        raise InputError(f"chapter '{chapter}' has no parameters 'seed' and 'n_seeds'; --seeds needs both")
    least = max(FEWEST, POOL * plain.parameters["n_seeds"])
    if wanted and wanted < least:
        raise InputError(f"--seeds {wanted}: stability needs at least {least} seeds here, or no number")
    start = blocks.first_seed(plain)
    first = plan(grid.grid(chapter, preset, [("seed", str(start))]))
    if not run(first):
        return 1
    opening = first.tasks[0]
    claims = load_ledger(chapter)
    shown_records = results.read_outcome(opening.out, claims).records
    step = blocks.stride(opening.resolved, blocks.evidence_of(opening.out))
    needed = blocks.needed(shown_records.values())
    count = math.ceil(wanted / plain.parameters["n_seeds"]) if wanted else needed
    took = files.read_json(opening.out / "provenance.json").get("wall_seconds", 0) / 60
    say(
        f"{chapter}: {count} blocks, first seeds {start} to {start + (count - 1) * step} in steps of {step}; the first "
        f"took {took:.1f} minutes" + (f"; {needed} blocks would serve every claim" if count < needed else "")
    )
    tasks = [opening]
    if count > 1:
        rest = grid.grid(chapter, preset, [("seed", f"{start + step}:{start + count * step}:{step}")])
        others = plan(rest)
        if not run(others):
            return 1
        tasks += others.tasks
    found = [blocks.evidence_of(task.out) for task in tasks]
    different = sorted({line for block in found[1:] for line in blocks.disagreements(found[0], block)})
    bad = {line.split(":")[0] for line in different}
    evidence = {name: columns for name, columns in blocks.joined(found).items() if name not in bad and columns}
    told = {name: record for name, record in shown_records.items() if name in evidence}
    about = _about(tasks, preset, step, told)
    about["stability"] = blocks.measured(evidence, claims, told, preset)
    place = blocks.write(chapter, evidence, about)
    for line in _lines(about["stability"], told):
        print(line)
    say(f"the seeds are in {shown(place)}")
    if few := [name for name, one in told.items() if one.get("seeds") and name not in about["stability"]]:
        say(f"too few seeds, or not decided at this preset: {', '.join(few)}; more seeds: --seeds, which goes on")
    for line in different:
        say(f"traindyn: a number depends on its block, its claim is left out: {line}")
    return int(bool(different))


def _about(tasks: list[Any], preset: str, step: int, records: Any) -> dict[str, Any]:
    circumstances = files.read_json(tasks[0].out / "provenance.json")
    parameters = {name: value for name, value in tasks[0].resolved.parameters.items() if name != "seed"}
    return {
        "preset": preset,
        "first_seeds": [task.resolved.parameters["seed"] for task in tasks],
        "stride": step,
        "parameters": parameters,
        **{name: circumstances.get(name) for name in KEPT},
        "settings": {name: setting_word(record) for name, record in records.items()},
    }


def _lines(found: Any, records: Any) -> list[str]:
    lines = []
    for name, one in found.items():
        verdict = records[name]["verdict"]
        share = one["verdicts"].get(verdict, 0) / one["draws"]
        lines.append(f"{name}: {verdict}, repeated in {share:.0%} of redraws of {one['n']} from {one['pool']} seeds")
    return lines
