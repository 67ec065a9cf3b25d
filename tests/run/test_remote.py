"""A sweep on an existing scheduler: workers started by hand are compared, used, lost, and live on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest

from traindyn.errors import InputError
from traindyn.run import remote

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends Unix signals")
RECORD = """import json, pathlib, time
time.sleep(PAUSE)
rows = [[seed + i, 0.5 + 0.01 * i] for i in range(3)]
record = dict(id="bare.a", verdict="holds", why="", setting=None, parts={}, seeds=3, close=False)
record["evidence"] = {"peak": {"cases": [], "seeded": True, "rows": rows}}
pathlib.Path(_run["out"], "claims.json").write_text(json.dumps({"schema": 2, "claims": [record]}))"""
QUIET = {"DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical"}


class Hand:
    """A scheduler and workers, each a process of its own, started as a person would."""

    def __init__(self, folder) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        self.processes: list[subprocess.Popen] = []

    def _start(self, kind: str, *words: str, **variables: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(self.file), *words]
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": self.folder}
        process = subprocess.Popen(command, env={**os.environ, **QUIET, **variables}, **options)
        self.processes.append(process)
        return process

    def scheduler(self) -> subprocess.Popen:
        self.file.unlink(missing_ok=True)
        process = self._start("scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1")
        end = time.monotonic() + 60
        while not (self.file.is_file() and self.file.read_text().endswith("}")) and time.monotonic() < end:
            time.sleep(0.1)
        return process

    @property
    def address(self) -> str:
        return json.loads(self.file.read_text())["address"]

    def worker(self, *words: str, **variables: str) -> subprocess.Popen:
        words = words or ("--nthreads", "1")
        return self._start("worker", "--no-nanny", "--no-dashboard", "--local-directory", str(self.folder), *words,
                           **variables)  # fmt: skip

    def wait(self, count: int) -> None:
        """Wait until as many workers are known."""
        from distributed import Client

        with Client(self.address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=90)

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def hand(tmp_path):
    (tmp_path / "dask").mkdir()
    found = Hand(tmp_path / "dask")
    yield found
    found.end()


@pytest.fixture
def book(bare_book):
    """The bare book with runs that take a while and record numbers."""

    def write(pause: float = 0.0):
        root = bare_book("pass")
        path = root / "chapters" / "bare" / "bare.md"
        text = path.read_text()
        last = text.rindex("```{code-cell} ipython3\n") + len("```{code-cell} ipython3\n")
        path.write_text(text[:last] + RECORD.replace("PAUSE", str(pause)) + "\n```\n")
        return root

    return write


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "traindyn.run.cli", "sweep", "bare", "--preset", "smoke", *words]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=600)


def begin(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*words),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def until(process: subprocess.Popen[str], head: str) -> None:
    for line in process.stderr:
        if line.startswith(head):
            return


def frame_of(book) -> pd.DataFrame:
    (path,) = (book / "_build" / "sweeps" / "bare").glob("*/sweep.parquet")
    return pd.read_parquet(path).drop(columns=["seconds", "memory_mb", "key"])


def test_workers_are_compared_first_and_then_used(book, hand, tmp_path):
    root, other = book(), tmp_path / "other"
    shutil.copytree(root, other)
    chapter = other / "chapters" / "bare" / "bare.md"
    mine = chapter.read_text()
    chapter.write_text(mine.replace("0.01 * i", "0.02 * i"))
    hand.scheduler()
    words = ("-p", "seed=100:103", "--scheduler", hand.address)
    lonely = run(*words)
    assert lonely.returncode == 2 and "has no workers; start some: dask worker tcp://" in lonely.stderr
    hand.worker()
    hand.worker(TRAINDYN_ROOT=str(other))
    hand.wait(2)
    told = run(*words)
    assert told.returncode == 2 and told.stderr.count("\n") == 1 and "Traceback" not in told.stderr
    assert "differs from this machine: the chapter's code; its checkout is" in told.stderr
    assert f"{other}" in told.stderr and not (root / "_build").exists()
    chapter.write_text(mine)
    done = run(*words)
    assert done.returncode == 0 and done.stdout.startswith("3 of 3 points done"), done.stderr
    assert not list((root / "_build").rglob(".seen-*"))
    again = run("-p", "seed=100:103", "--scheduler-file", str(hand.file))
    assert again.returncode == 0 and "3 finished before" in again.stderr, again.stderr


def test_a_worker_with_several_threads_or_a_folder_of_its_own_is_told(monkeypatch, tmp_path):
    class Client:
        def __init__(self, threads=1, sees=True, about=None):
            self.threads, self.sees, self.about = threads, sees, about or {}

        def nthreads(self):
            return {"tcp://a:1": 1, "tcp://b:1": self.threads}

        def run(self, function, *given, on_error="raise"):
            if function is remote._sees:
                return {"tcp://a:1": True, "tcp://b:1": self.sees}
            same = {"error": "", "root": "/r", **here}
            return {"tcp://a:1": same, "tcp://b:1": {**same, **self.about}}

    here = {"versions": {"torch": "2.1"}, "around": {"cpu": {"data": "d", "device": "x"}}}
    monkeypatch.setattr(remote, "_about", lambda chapter, devices: {"error": "", **here})

    def cluster(**how):
        return remote.Cluster(Client(**how), "tcp://s:1", {})

    assert remote.checked(cluster(), "bare", ["cpu"]) == here["around"]
    for how, said in (
        ({"threads": 4}, "b:1 runs 4 points at once; start it with --nthreads 1"),
        ({"about": {"versions": {"torch": "2.2"}}}, "b:1 differs from this machine: it has torch 2.2, not 2.1"),
        ({"about": {"versions": {}}}, "it has torch none, not 2.1"),
        ({"about": {"around": {"cpu": {"data": "e", "device": "x"}}}}, "b:1 differs from this machine: data"),
        ({"about": {"around": {"cpu": {"data": "d", "device": "y"}}}}, "b:1 differs from tcp://a:1: device"),
        ({"about": {"error": "no CUDA device"}}, "b:1 cannot take part: no CUDA device"),
    ):
        with pytest.raises(InputError, match=said):
            remote.checked(cluster(**how), "bare", ["cpu"])
    with (
        pytest.raises(InputError, match="b:1 does not see .*; put the sweep on a disk that all share"),
        remote.seen_by_all(cluster(sees=False), tmp_path / "new" / "sweep", [tmp_path / "new" / "runs"]),
    ):
        pass
    assert not (tmp_path / "new").exists()
    with remote.seen_by_all(cluster(), tmp_path / "new", []):
        assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.long
def test_a_sweep_that_loses_a_worker_half_way_ends_complete(book, hand):
    root = book(pause=1.0)
    hand.scheduler()
    first, second = hand.worker(), hand.worker()
    hand.wait(2)
    process = begin("-p", "seed=100:112", "--scheduler", hand.address)
    until(process, "[5/12]")
    kernels = [one for one in psutil.Process(first.pid).children() if "ipykernel" in " ".join(one.cmdline())]
    first.kill()
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0 and out.startswith("12 of 12 points done"), out + err
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in kernels)
    assert second.poll() is None
    found = frame_of(root)
    assert len(found) == 12 * 5 and set(found.query("row == 'run'").status) == {"done"}
    shutil.rmtree(root / "_build")
    assert run("-p", "seed=100:112", "--workers", "2").returncode == 0
    pd.testing.assert_frame_equal(frame_of(root), found)


@pytest.mark.long
def test_a_scheduler_that_is_gone_is_told_and_the_sweep_goes_on_with_another(book, hand):
    book(pause=1.0)
    scheduler = hand.scheduler()
    hand.worker()
    hand.wait(1)
    process = begin("-p", "seed=100:106", "--scheduler", hand.address)
    until(process, "[2/6]")
    scheduler.kill()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 1 and "traindyn: the scheduler is gone; to go on: traindyn sweep" in err, out + err
    assert "Traceback" not in err and " of 6 points done" in out
    hand.scheduler()
    hand.worker()
    hand.wait(1)
    done = run("-p", "seed=100:106", "--scheduler", hand.address)
    assert done.returncode == 0 and done.stdout.startswith("6 of 6 points done"), done.stderr
    assert "finished before" in done.stderr


@pytest.mark.long
def test_an_interrupted_sweep_leaves_the_workers_to_others(book, hand):
    book(pause=1.0)
    hand.scheduler()
    worker = hand.worker()
    hand.wait(1)
    process = begin("-p", "seed=100:106", "--scheduler", hand.address)
    until(process, "[1/6]")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 130 and "Traceback" not in err, err
    assert not [one for one in psutil.Process(worker.pid).children() if "ipykernel" in " ".join(one.cmdline())]
    done = run("-p", "seed=100:103", "--scheduler", hand.address)
    assert done.returncode == 0 and done.stdout.startswith("3 of 3 points done"), done.stderr
