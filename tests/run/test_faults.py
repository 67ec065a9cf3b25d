"""Faults, each for real: what is killed, cut short, full or taken twice is told, never believed, and made again."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from traindyn import files, parameters
from traindyn.run import cli, dispatch, execute, grid, sweep, tasks

# a run that takes a while in the middle of its files, and records numbers that follow from its seed
CELL = """import json, pathlib, random, time
draw = random.Random(seed)
pathlib.Path("half.csv").write_text("\\n".join(str(draw.random()) for _ in range(1000)))
time.sleep(PAUSE)
pathlib.Path("table.csv").write_text("\\n".join(str(draw.random()) for _ in range(1000)))
rows = [[seed + i, draw.random()] for i in range(3)]
record = dict(id="bare.a", verdict="holds", why="", setting=None, parts={}, seeds=3, close=False)
record["evidence"] = {"peak": {"cases": [], "seeded": True, "rows": rows}}
about = {"schema": 2, "chapter": "bare", "preset": _run["preset"], "parameters_are_preset": True}
pathlib.Path(_run["out"], "claims.json").write_text(json.dumps({**about, "claims": [record]}))"""
KILLS = 20


@pytest.fixture
def book(bare_book):
    """The bare book with such a run; returns a function that writes it with another pause, and cells before it."""

    def write(pause: float = 0.0, before: str = "pass") -> Path:
        root = bare_book(before)
        path = root / "chapters" / "bare" / "bare.md"
        text = path.read_text()
        last = text.rindex("```{code-cell} ipython3\n") + len("```{code-cell} ipython3\n")
        path.write_text(text[:last] + CELL.replace("PAUSE", str(pause)) + "\n```\n")
        return root

    return write


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "traindyn.run.cli", *words]


def begin(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command(*words), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


RUN = ("run", "bare", "--preset", "smoke")


def in_its_cell(root: Path) -> tuple[subprocess.Popen[str], Path]:
    """Begin a run, wait until its cell has written a table, and return its process and the folder of the runs."""
    process, place = begin(*RUN), root / "_build" / "runs" / "bare"
    end = time.monotonic() + 180
    while not list(place.glob("smoke.part-*/half.csv")) and time.monotonic() < end:
        time.sleep(0.05)
    return process, place


def content(run: Path) -> dict[str, bytes]:
    """Return what a run computed, byte by byte."""
    return {path.name: path.read_bytes() for path in run.iterdir() if path.suffix in (".csv", ".json")
            and path.name != "provenance.json"}  # fmt: skip


def kernels(root: Path) -> list[psutil.Process]:
    """Return the kernels that work below a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "ipykernel" in " ".join(process.cmdline()) and process.cwd().startswith(str(root)):
                found.append(process)
    return found


def none_left(root: Path) -> bool:
    """Return whether kernels end by themselves soon after their parent."""
    end = time.monotonic() + 60
    while kernels(root) and time.monotonic() < end:
        time.sleep(0.2)
    return not kernels(root)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB; skipped where one may not be mounted."""
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    options = {"capture_output": True}
    if not mount or subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], **options).returncode:
        pytest.skip("no file system may be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], **options)


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("provenance.json", lambda path: path.write_bytes(path.read_bytes()[:40]), "provenance.json of the run"),
        ("claims.json", lambda path: path.write_text(path.read_text().replace("holds", "fails")), "lost claims.json"),
        ("table.csv", lambda path: path.write_bytes(path.read_bytes()[:-1]), "lost table.csv"),
    ],
)
def test_a_spoilt_result_is_named_set_aside_and_made_again(book, capsys, name, spoil, said):
    out = book() / "mine"
    assert cli.main([*RUN, "--out", str(out)]) == 0
    before, spoilt = content(out), out / name
    spoil(spoilt)
    rest = spoilt.read_bytes()
    assert cli.main([*RUN, "--out", str(out)]) == 0
    told = capsys.readouterr().err
    assert said in told and f"set aside as {out}.corrupt, running it again" in told
    assert content(out) == before and (out.with_name("mine.corrupt") / name).read_bytes() == rest


def test_a_spoilt_file_of_a_sweep_is_named_set_aside_and_made_again(book, monkeypatch, capsys):
    book()
    monkeypatch.setattr(dispatch, "executed", lambda waiting, *how: (tasks.perform(one) for one in waiting))
    words = ["sweep", "bare", "--preset", "smoke", "-p", "seed=1,2"]
    assert cli.main(words) == 0
    plan = sweep.plan(grid.grid("bare", "smoke", parameters.pairs(["seed=1,2"])))
    before = pd.read_parquet(plan.folder / "sweep.parquet")
    point = plan.tasks[1].table
    for path in (point, plan.folder / "sweep.json"):
        path.write_bytes(path.read_bytes()[:50])
    assert cli.main(words) == 0
    said = capsys.readouterr()
    for path in (point, plan.folder / "sweep.json"):
        assert f"{path} cannot be read: set aside as {path.name}.corrupt" in said.err
        assert path.with_name(f"{path.name}.corrupt").stat().st_size == 50
    assert said.out.startswith("2 of 2 points done") and "2 finished before" in said.err
    pd.testing.assert_frame_equal(pd.read_parquet(plan.folder / "sweep.parquet"), before)


def test_a_run_killed_in_its_cell_is_not_believed_and_the_next_clears_up(book, capsys):
    root = book(pause=240)
    process, place = in_its_cell(root)
    assert [path.name for path in place.iterdir() if path.name == "smoke"] == []
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(place.glob("smoke.part-*")) and none_left(root)
    book()
    assert cli.main(list(RUN)) == 0
    assert {path.name for path in place.iterdir()} == {"smoke"}


def test_a_second_run_into_the_same_folder_is_told(book, capsys):
    root = book(pause=240)
    process, place = in_its_cell(root)
    assert cli.main(list(RUN)) == 2
    said = capsys.readouterr().err
    assert f"another process (process {process.pid}) is running into" in said and said.count("\n") == 1
    process.terminate()
    assert process.wait(timeout=90) == 143 and not place.exists() and none_left(root)


def test_a_full_disk_and_a_disk_that_is_read_only_are_told(book, small_disk, capsys):
    book(before="import pathlib\npathlib.Path('large').write_bytes(b'1' * 3 * 2**20)")
    assert cli.main([*RUN, "--out", str(small_disk / "mine")]) == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said and "Traceback" not in said.splitlines()[-1]
    assert not (small_disk / "mine").exists()
    for path in small_disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for words in (RUN, ("sweep", *RUN[1:], "-p", "seed=1,2")):
        assert cli.main([*words, "--out", str(small_disk / "mine")]) == 2
        said = capsys.readouterr().err
        assert f"cannot write to {small_disk}" in said and said.count("\n") == 1


@pytest.mark.long
def test_a_sweep_stops_at_a_full_disk_and_goes_on_when_there_is_room(book, small_disk):
    full = "import pathlib\nif seed == 2: pathlib.Path('large').write_bytes(b'1' * 3 * 2**20)"
    book(before=full)
    words = (
        "sweep",
        "bare",
        "--preset",
        "smoke",
        "-p",
        "seed=1:5",
        "--workers",
        "1",
        "--out",
        str(small_disk / "mine"),
    )
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=600)
    assert done.returncode == 1 and "1 of 4 points done, 1 disk full" in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    done = subprocess.run(command(*words, "--retry-failed"), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "4 of 4 points done" in done.stdout and "1 finished before" in done.stderr


@pytest.mark.long
def test_a_run_killed_at_random_moments_ends_the_same(book):
    root = book(pause=0.5)
    start = time.monotonic()
    assert begin(*RUN).wait() == 0
    whole = time.monotonic() - start
    place = root / "_build" / "runs" / "bare"
    wanted = content(place / "smoke")
    draw, seen = random.Random(19), []
    for _ in range(KILLS):
        shutil.rmtree(place / "smoke", ignore_errors=True)
        process = begin(*RUN)
        time.sleep(draw.uniform(0, whole))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (place / "smoke").exists():  # the moment lay after the end
            assert content(place / "smoke") == wanted
            assert execute.is_current(place / "smoke", execute.run_key(parameters.resolve("bare", "smoke")))
        seen.append({path.name.split("-")[0] for path in place.glob("smoke*")})
    assert any({"smoke.part"} <= names for names in seen)
    assert none_left(root)
    assert begin(*RUN).wait() == 0
    assert content(place / "smoke") == wanted and [path.name for path in place.iterdir()] == ["smoke"]


@pytest.mark.long
def test_a_sweep_killed_at_random_moments_ends_the_same(book):
    root, points = book(pause=0.2), "seed=100:116"
    words = ("sweep", "bare", "--preset", "smoke", "-p", points, "--workers", "2")

    def table() -> pd.DataFrame:
        (path,) = (root / "_build" / "sweeps" / "bare").glob("*/sweep.parquet")
        return pd.read_parquet(path).drop(columns=["seconds", "memory_mb", "key"])

    start, process = time.monotonic(), begin(*words)
    next(line for line in process.stderr if line.startswith("[1/16]"))
    first = time.monotonic() - start  # moments are drawn around it, however fast the machine is
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    wanted = table()
    assert len(wanted) == 16 * 5
    shutil.rmtree(root / "_build")

    draw, counts = random.Random(19), []
    for _ in range(KILLS):
        process = begin(*words)
        time.sleep(draw.uniform(0, 1.5 * first))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        plan = sweep.plan(grid.grid("bare", "smoke", parameters.pairs([points])))
        counts.append(len(plan.kept))
        for task in plan.tasks:
            assert not task.out.exists() or task.point in plan.kept
    assert counts == sorted(counts) and counts[-1] > 0 and none_left(root)  # nothing that was finished is lost
    done = subprocess.run(command(*words), capture_output=True, text=True)
    assert done.returncode == 0 and "16 of 16 points done" in done.stdout, done.stdout + done.stderr
    assert not list((root / "_build").rglob("*.part-*")) and not list((root / "_build").rglob("*.corrupt"))
    pd.testing.assert_frame_equal(table(), wanted)


@pytest.mark.long
def test_of_two_who_make_the_book_one_is_told(book):
    root = book(pause=20)
    (root / "_toc.yml").write_text("chapters:\n  - file: chapters/bare/bare\n")
    first = begin("book", "--preset", "smoke")
    end = time.monotonic() + 180
    while not list((root / "_build" / "runs" / "bare").glob("smoke.part-*/half.csv")) and time.monotonic() < end:
        time.sleep(0.1)
    second = subprocess.run(command("book", "--preset", "smoke"), capture_output=True, text=True, timeout=180)
    assert second.returncode == 2 and second.stderr.count("\n") == 1
    assert f"another process (process {first.pid}) is making the book at preset smoke" in second.stderr
    first.terminate()
    assert first.wait(timeout=90) == 143 and none_left(root)


def test_an_archived_run_that_is_spoilt_is_named(toy_book):
    folder = toy_book / "data" / "results" / "toy" / "paper"
    folder.mkdir(parents=True)
    try:
        (folder / "provenance.json").write_text("{}")
        (folder / "claims.json").write_text('{"schema": 2, "cla')
        from traindyn.run import results

        with pytest.raises(files.InputError, match=r"toy/paper cannot be read .*; restore it, from git"):
            results.read_outcome(folder, [], archived=True)
    finally:
        shutil.rmtree(toy_book / "data")
