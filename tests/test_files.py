"""Files: content keys of names and bytes, locks that end with their process, one way to the project's folder."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from traindyn import files
from traindyn.errors import InputError

HOLD = """
import sys, time
from traindyn import files
with files.locked(sys.argv[1], "counting"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_key_changes_with_a_name_a_byte_or_a_value_and_not_with_the_place(tmp_path):
    def tree(folder: str, **contents: str) -> dict[str, Path]:
        for name, text in contents.items():
            path = tmp_path / folder / name.replace("_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return files.relative((tmp_path / folder).rglob("*"), tmp_path / folder)

    key = files.content_key(tree("one", a_x="1", b_x="2"), [1])
    assert key == files.content_key(tree("two", a_x="1", b_x="2"), [1])
    assert key != files.content_key(tree("three", a_x="2", b_x="1"), [1])  # same names and bytes, other folders
    assert key != files.content_key(tree("four", a_x="1", c_x="2"), [1])
    assert key != files.content_key(tree("one"), [2])


def test_a_lock_is_held_by_one_and_gone_at_the_end(tmp_path):
    lock = tmp_path / "lock"
    with files.locked(lock, "counting"):
        with (
            pytest.raises(InputError, match=r"another process \(process \d+\) is counting"),
            files.locked(lock, "counting"),
        ):
            pass
        assert lock.exists()
    assert not lock.exists()
    with pytest.raises(ZeroDivisionError), files.locked(lock, "counting"):
        1 / 0  # noqa: B018
    assert not lock.exists()


def test_the_lock_of_a_dead_process_holds_nobody_up(tmp_path):
    lock = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=str(process.pid)), files.locked(lock, "counting"):
        pass
    process.kill()
    process.communicate()
    assert lock.exists()
    with files.locked(lock, "counting"):
        pass
    assert not lock.exists()


def test_many_at_once_never_hold_the_same_lock(tmp_path):
    inside, most, entered, tried = [0], [0], [0], []

    def work() -> None:
        for _ in range(200):
            tried.append(1)
            try:
                with files.locked(tmp_path / "lock", "counting"):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    entered[0] += 1
                    inside[0] -= 1
            except InputError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and entered[0] > 0 and len(tried) == 800


def test_without_a_checkout_the_library_says_so_and_data_still_loads(tmp_path):
    code = (
        "from traindyn import files\nfrom traindyn.errors import InputError\nfrom traindyn.learn import data\n"
        "from traindyn.learn.data import local, registry\n"
        "assert files.checkout() is None and local.cache() is None and registry.entries() == {}\n"
        "assert data.load('digits', n_train=4).X_train.shape == (4, 1, 8, 8)\n"
        "try:\n files.project_root()\nexcept InputError as error:\n print(error)"
    )
    env = {"TRAINDYN_ROOT": str(tmp_path), "PYTHONPATH": str(Path(files.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout and "checkout" in done.stdout


def test_only_one_module_finds_the_root():
    package = Path(files.__file__).parent
    found = [
        path.name for path in package.rglob("*.py") if "__file__).resolve().parents" in path.read_text(encoding="utf-8")
    ]
    assert found == ["files.py"]
