"""A sweep resumes, keeps what is finished, and tells apart how points fail; none of them stops the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest

from traindyn import parameters
from traindyn.run import cli, grid, notebook, sweep, tasks

# a run that records one claim with numbers by seed, without the library's imports that take seconds
CLAIMS = """import json, pathlib
rows = [[seed + i, 0.5 + 0.01 * i] for i in range(3)]
part = dict(outcome=True, seeds=3, value=0.5, operator=">=", threshold=0.4, margin=2.0, seed=seed, case=None)
record = dict(id="bare.a", verdict="holds", why="", setting=None, parts={"p": part}, seeds=3, close=False)
record["evidence"] = {"peak": {"cases": [], "seeded": True, "rows": rows}}
pathlib.Path(_run["out"], "claims.json").write_text(json.dumps({"schema": 2, "claims": [record]}))"""
FAULTS = """import os, time, pathlib
pathlib.Path("table.csv").write_text("a")
if seed == 2: raise ZeroDivisionError("no")
if seed == 3: hog = b"1" * (400 * 2**20); time.sleep(60)
if seed == 4: time.sleep(600)
if seed == 5: os._exit(9)
if seed == 6:
    from traindyn.errors import InputError
    raise InputError("seed 6 is none")"""


@pytest.fixture
def book(bare_book):
    """The bare book with a run that fails in its own way at some seeds, and records numbers at the others."""
    root = bare_book(FAULTS)
    path = root / "chapters" / "bare" / "bare.md"
    text = path.read_text()
    last = text.rindex("```{code-cell} ipython3\n") + len("```{code-cell} ipython3\n")
    path.write_text(text[:last] + CLAIMS + "\n```\n")
    return root


def planned(*texts: str, how: notebook.How | None = None, **options) -> sweep.Plan:
    return sweep.plan(grid.grid("bare", "smoke", parameters.pairs(texts)), how=how, **options)


@pytest.mark.parametrize(
    ("seed", "status", "said"),
    [
        (1, "done", ""),
        (2, "cell", "ZeroDivisionError: no"),
        (3, "memory", "GB of memory, its share is 0.29 GB"),
        (4, "time", "it took longer than its 4 s"),
        (5, "kernel", "the kernel died"),
        (6, "parameter", "seed 6 is none"),
    ],
)
def test_a_point_says_how_it_ended_and_leaves_what_it_had(book, seed, status, said):
    how = notebook.How(seconds=4 if seed == 4 else 60, memory=300 * 2**20)
    (task,) = planned(f"seed={seed}", how=how).tasks
    result = tasks.perform(task)
    assert result.status == status and said in result.message
    frame = pd.read_parquet(task.table)
    assert frame.status[0] == status and frame.message.fillna("")[0] == result.message
    assert len(frame) == (5 if status == "done" else 1)
    left = task.out.with_name(f"{task.out.name}.failed")
    assert left.exists() == (status not in ("done", "parameter"))
    if left.exists():
        assert {path.name for path in left.iterdir()} == {"table.csv", "bare.failed.ipynb"}
    assert not [
        child for child in psutil.Process().children(recursive=True) if "ipykernel" in " ".join(child.cmdline())
    ]


def test_a_plan_knows_what_is_finished_what_failed_and_what_changed(book, monkeypatch):
    first = planned("seed=1,2")
    assert len(first.waiting) == 2 and not first.begun and not first.folder.exists()
    for task in first.tasks:
        tasks.perform(task)
    (first.folder / "sweep.json").write_text(
        json.dumps({**sweep._described(first.grid), "surroundings": first.surroundings})
    )
    again = planned("seed=1,2")
    assert (again.kept, set(again.failed), again.waiting, again.changed) == ({0}, {1}, [], ())
    assert [task.point for task in planned("seed=1,2", retry_failed=True).waiting] == [1]
    assert planned("seed=1,2,3").kept == {0}  # another sweep, the same run
    assert sweep.changed_meanwhile(again) == ""
    monkeypatch.setenv("TRAINDYN_MEMORY", "1000")
    assert sweep.changed_meanwhile(again) == "environment variables"
    changed = planned("seed=1,2")
    assert len(changed.waiting) == 2 and changed.changed == ("environment variables",)
    assert "environment variables changed" in "\n".join(sweep.opening(changed))


def test_another_sweep_in_the_same_folder_is_told(book, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    words = ["sweep", "bare", "--preset", "smoke", "--out", str(tmp_path / "mine"), "-p"]
    assert cli.main([*words, "seed=1,2"]) == 2
    assert "holds files that are not a sweep" in capsys.readouterr().err
    (tmp_path / "mine" / "sweep.json").write_text(json.dumps(sweep._described(planned("seed=1,2").grid)))
    assert cli.main([*words, "seed=1,2", "--dry-run"]) == 0
    assert cli.main([*words, "seed=1,3", "--dry-run"]) == 2
    assert "holds another sweep: its axes" in capsys.readouterr().err


def frame_of(book, name="*") -> pd.DataFrame:
    (path,) = (book / "_build" / "sweeps" / "bare").glob(f"{name}/sweep.parquet")
    return pd.read_parquet(path).drop(columns=["seconds", "memory_mb", "key"])


def begin(*words: str) -> subprocess.Popen[str]:
    """Start a sweep in a process of its own; a shell that runs tests in the background has them ignore interrupts."""
    return subprocess.Popen(
        command(*words),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "traindyn.run.cli", "sweep", "bare", "--preset", "smoke", *words]


@pytest.mark.long
def test_one_bad_point_does_not_stop_the_others(book, capfd):
    words = ["sweep", "bare", "--preset", "smoke", "-p", "seed=1:8", "--workers", "2"]
    words += ["--timeout", "20", "--memory", "0.3"]
    assert cli.main(words) == 1
    said = capfd.readouterr()
    assert said.out.startswith(
        "2 of 7 points done, 1 wrong parameter, 1 failed cell, 1 kernel died, 1 out of its memory"
    )
    assert "1 out of its time" in said.out and "Traceback" not in said.err + said.out
    runs = frame_of(book).query("row == 'run'").set_index("p.seed").status.to_dict()
    assert runs == {1: "done", 2: "cell", 3: "memory", 4: "time", 5: "kernel", 6: "parameter", 7: "done"}
    before = {path: path.stat().st_mtime_ns for path in (book / "_build" / "runs").rglob("*") if path.is_file()}
    assert cli.main(words) == 1
    assert "2 finished before" in (said := capfd.readouterr()).err and "5 failed before" in said.err
    assert before == {path: path.stat().st_mtime_ns for path in (book / "_build" / "runs").rglob("*") if path.is_file()}
    assert cli.main([*words[:4], "-p", "seed=9,4,8", "--workers", "1", "--timeout", "3", "--fail-fast"]) == 1
    assert capfd.readouterr().out.startswith("1 of 3 points done, 1 out of its time")


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="sends Unix signals")
def test_a_sweep_that_was_interrupted_and_resumed_equals_an_undisturbed_one(book, tmp_path):
    words = ("-p", "seed=100:140", "--workers", "2")
    process = begin(*words)
    for line in process.stderr:
        if line.startswith("[7/40]"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 130 and "to go on: traindyn sweep bare" in err and "Traceback" not in err
    assert not list((book / "_build" / "runs" / "bare").glob("*.part-*"))
    finished = sum(frame_of(book)["row"] == "run")
    assert 7 <= finished < 40
    resumed = subprocess.run(command(*words), capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stdout
    assert "the sweep goes on where it was left" in resumed.stderr
    assert f"{finished} finished before" in resumed.stderr and "40 of 40 points done" in resumed.stdout
    resumed_frame = frame_of(book)
    other = {**os.environ, "TRAINDYN_ROOT": str(tmp_path / "other")}
    subprocess.run(["cp", "-r", str(book), str(tmp_path / "other")], check=True)
    subprocess.run(["rm", "-rf", str(tmp_path / "other" / "_build")], check=True)
    assert subprocess.run(command(*words), env=other, capture_output=True).returncode == 0
    pd.testing.assert_frame_equal(frame_of(tmp_path / "other"), resumed_frame)
    assert len(resumed_frame) == 40 * 5


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="sends Unix signals")
def test_kernels_die_with_their_worker_and_its_point_alone_is_lost(book):
    process = begin("-p", "seed=4,7,8", "--workers", "1")
    end, kernel = time.monotonic() + 180, None
    while kernel is None and time.monotonic() < end:
        below = psutil.Process(process.pid).children(recursive=True)
        kernel = next((child for child in below if "ipykernel_launcher" in " ".join(child.cmdline())), None)
        time.sleep(0.2)
    assert kernel is not None, "no kernel was started"
    worker = kernel.parent()
    assert worker.pid != process.pid
    time.sleep(2)
    worker.kill()
    out, err = process.communicate(timeout=240)
    assert not psutil.pid_exists(kernel.pid) or kernel.status() == psutil.STATUS_ZOMBIE
    assert process.returncode == 1 and out.startswith("2 of 3 points done, 1 lost worker"), out + err
