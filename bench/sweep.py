"""What a sweep costs beside its kernels, and whether its memory grows: python bench/sweep.py [points] [workers]

A chapter of the least possible content is run at many seeds by `traindyn sweep`. Printed: wall time, the time that the
kernels themselves ran (from start to shut-down, summed and divided by the workers), what is left over,
and the resident memory of the leading process and of its workers along the way. A second line gives the cost of a point
that starts a process of its own (`traindyn run`) instead of a kernel below a worker that stays.

Measured: 200 points on 2 workers and 2 cores, which other work kept busy all the while (5 s of CPU per point took 12):
1150 s, kernels 1121 s, 2.6 % beside them. The leading process has 344 MiB after 20 points and 348 after 180 (369 while
it makes the table); a worker 393 and 433. A point in a process of its own took 20.5 s, one below a worker 12.1 s.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil

ROOT = Path(__file__).resolve().parents[1]


def project(folder: Path) -> None:
    """Make a project whose only chapter is the toy of the tests."""
    shutil.copytree(ROOT / "tests" / "toy" / "chapters", folder / "chapters")
    shutil.copytree(ROOT / "ipython" / "profile_default", folder / "ipython" / "profile_default")
    os.environ["TRAINDYN_ROOT"] = str(folder)


def traindyn(*words: str) -> list[str]:
    """Return a command line."""
    return [sys.executable, "-m", "traindyn.run.cli", *words]


def resident(process: psutil.Process) -> float:
    """Return the resident MiB of a process, 0 if it is gone."""
    try:
        return process.memory_info().rss / 2**20
    except psutil.Error:
        return 0.0


def main(points: int, workers: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        project(Path(name))
        command = traindyn("sweep", "toy", "--preset", "smoke", "-p", f"seed=200:{200 + points}", "--workers")
        start, seen = time.perf_counter(), []
        process = psutil.Popen([*command, str(workers)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            kernels = [child for child in process.children() if "spawn_main" in " ".join(child.cmdline())]
            seen.append((time.perf_counter() - start, resident(process), max(map(resident, kernels), default=0.0)))
            time.sleep(1)
        wall = time.perf_counter() - start
        assert process.returncode == 0, process.returncode
        (table,) = Path(name).glob("_build/sweeps/toy/*/sweep.parquet")
        frame = pd.read_parquet(table, filters=[("row", "==", "run")])
        busy = frame.seconds.sum() / workers
        memory = pd.DataFrame(seen, columns=["time", "client", "worker"])
        print(
            f"{points} points, {workers} workers: {wall:.0f} s; kernels {busy:.0f} s; beside them {wall / busy - 1:.1%}"
        )
        for part in ("client", "worker"):
            tenths = [group[part].max() for _, group in memory.groupby(memory.time // (wall / 10))]
            print(f"{part} MiB by tenths of the time: " + " ".join(f"{value:.0f}" for value in tenths))
        start = time.perf_counter()
        subprocess.run(traindyn("run", "toy", "--preset", "smoke", "-p", "seed=99999"), check=True, capture_output=True)
        alone = time.perf_counter() - start
        print(
            f"a point in a process of its own {alone:.1f} s, below a worker that stays {frame.seconds.median():.1f} s"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200, int(sys.argv[2]) if len(sys.argv) > 2 else 2)
