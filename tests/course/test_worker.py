"""The worker against hostile answers: each ends as what it is, in its time, and the next answer is answered."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from traindyn.run.course import frames, lanes, sandbox
from traindyn.run.course.judge import Judge
from traindyn.run.course.lanes import Failure, Lane, isolation

GIVEN = "import numpy as np\nimport torch"
WALLS = pytest.mark.skipif(not all(sandbox.report().values()), reason="this system has no Landlock or no seccomp")


def run(lane: Lane, code: str, seconds: float = 1.0, **arguments):
    """Return the result of `f(**arguments)`, or what kind of failure it was."""
    with lane.child(seconds) as child:
        try:
            child.define(GIVEN, code, "f")
            return child.call(arguments)
        except Failure as failure:
            return failure.kind


def test_an_answer_gets_its_arguments_and_answers(lane):
    found = run(lane, "def f(x, n):\n    return {'a': torch.from_numpy(x) * n, 'b': [n, None, 'w']}", x=np.ones(2), n=3)
    assert np.array_equal(found["a"], [3, 3]) and found["b"] == [3, None, "w"]


def test_every_answer_has_a_process_and_a_folder_of_its_own(lane):
    assert run(lane, "np.sum = lambda x: 7\nopen('left', 'w').write('x')\ndef f(): return np.sum([1])") == 7
    assert run(lane, "import os\ndef f(): return [float(np.sum([1, 1])), os.listdir('.')]") == [2.0, []]


LOOP = "def f():\n    while True: pass"
PIPE = "import os, struct\ndef f():\n    os.write(3, {})\n    {}"
HOSTILE = {
    "infinite loop": (LOOP, {"time"}),
    "loop while defining": ("while True: pass", {"time"}),
    "sleep": ("import time\ndef f(): time.sleep(1000)", {"time"}),
    "catches everything": ("def f():\n    while True:\n        try:\n            while True: pass\n"
                           "        except BaseException: pass", {"time"}),
    "ignores signals": ("import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n"
                        "    except (OSError, ValueError): pass\n" + LOOP, {"time"}),
    "regular expression": ("import re\ndef f(): return re.match('(a+)+$', 'a' * 60 + 'b')", {"time"}),
    "memory at once": ("def f(): return len(bytearray(2**40))", {"memory"}),
    "memory bit by bit": ("def f():\n    kept = []\n    while True: kept.append(bytearray(2**26))", {"memory"}),
    "memory in tensors": ("def f(): return torch.ones(2**33).sum()", {"raised", "memory"}),
    "exit": ("import sys\ndef f(): sys.exit(0)", {"raised"}),
    "exit while defining": ("import sys\nsys.exit(0)", {"raised"}),
    "hard exit": ("import os\ndef f(): os._exit(0)", {"died"}),
    "hard exit while defining": ("import os\nos._exit(0)", {"died"}),
    "abort": ("import os\ndef f(): os.abort()", {"died"}),
    "segmentation fault": ("import ctypes\ndef f(): ctypes.string_at(0)", {"died"}),
    "recursion": ("def f(): return f()", {"raised"}),
    "syntax": ("def f(:", {"syntax"}),
    "null byte": ("def f(): return '\0'\0", {"syntax", "raised"}),
    "deep syntax": ("x = " + "(" * 5000 + ")" * 5000, {"syntax", "memory", "raised"}),
    "not defined": ("g = 1", {"missing"}),
    "not a function": ("f = 3", {"missing"}),
    "own exception": ("class Odd(BaseException):\n    def __str__(self): raise self\ndef f(): raise Odd", {"raised"}),
    "object": ("def f(): return object()", {"returned"}),
    "in itself": ("def f():\n    a = []\n    a.append(a)\n    return a", {"returned"}),
    "too large": ("def f(): return np.zeros(2**23)", {"returned"}),
    "equal to all": ("class All:\n    def __eq__(self, other): return True\ndef f(): return All()", {"returned"}),
    "complex": ("def f(): return 1j", {"returned"}),
    "writes to the pipe": (PIPE.format("b'x' * 10000", "return 1"), {"garbled"}),
    "closes the pipe": ("import os\ndef f():\n    os.close(3)\n    return 1", {"died", "garbled", "raised"}),
    "an endless frame": (PIPE.format("struct.pack('>4sII', b'TDC1', 2**31, 0)", "while True: os.write(3, b' ' * 9999)"),
                         {"garbled"}),
    "a long frame without end": (PIPE.format("struct.pack('>4sII', b'TDC1', 999, 0)", "while True: pass"), {"time"}),
    "another frame": (PIPE.format(frames.pack({"score": 1e9}), "return 1"), {"garbled"}),
    "a frame that is a list": (PIPE.format(frames.pack([1]), "return 1"), {"garbled"}),
    "a failure that is none": (PIPE.format(frames.pack({"failed": {"kind": "full marks"}}), "return 1"), {"garbled"}),
    "the library": ("from traindyn.measure.kernels import relu_ntk\ndef f(): return 1", {"raised"}),
    "a patched builtin": ("import builtins\nbuiltins.isinstance = lambda *a: True\ndef f(): return 'x'",
                          {"garbled", "returned", "died", "raised"}),
    "fills a disk": ("def f():\n    for n in range(999): open(f'{n}', 'wb').write(bytes(2**24))", {"folder", "raised"}),
    "many files": ("def f():\n    for n in range(10**9): open(f'{n}', 'w').close()", {"folder", "time", "raised"}),
    "a long file": ("def f():\n    with open('a', 'wb') as file:\n        while True: file.write(bytes(2**20))",
                    {"raised", "folder"}),
}  # fmt: skip


@pytest.mark.parametrize("wall", [pytest.param(True, marks=WALLS), False], ids=["behind the wall", "without"])
def test_hostile_answers_end_as_what_they_are(wall):
    """One worker for all of them: each costs only itself."""
    ended = {}
    with Lane(wall=wall, memory=2**28) as lane:
        assert run(lane, "def f(): return 1") == 1
        for name, (code, kinds) in HOSTILE.items():
            if not wall and kinds == {"time"} and name != "infinite loop":  # limits are the same without the wall
                continue
            start = time.monotonic()
            found = run(lane, code)
            assert found in kinds, (name, found)
            assert time.monotonic() - start < 15, name
            ended[name] = lane.started
            assert run(lane, "def f(): return 1") == 1, name
        assert lane.started == 1, ended
        assert not lane.strangers()


def test_megabytes_of_output_are_read_and_thrown_away(lane):
    code = "def f():\n    for _ in range(2000): print('x' * 10_000)\n    return 1"
    with lane.child(5) as child:
        child.define(GIVEN, code, "f")
        assert child.call({}) == 1
        assert len(child.output()) == 20_000


FORK = "import os\ndef f():\n    while True:\n        try: os.fork()\n        except OSError as e: raise MemoryError"
SPAWN = "import subprocess, sys\ndef f(): return subprocess.run([sys.executable, '-c', '1']).returncode"
THREADS = "import threading\ndef f():\n    t = threading.Thread(target=int)\n    t.start(); t.join()\n    return 1"


@WALLS
def test_behind_the_wall_no_process_starts_and_threads_do(lane):
    for code in (
        FORK,
        SPAWN,
        "import os\ndef f(): return 1 / (os.system('true') == 0)",
        "import os\ndef f(): os.execv('/bin/true', ['true'])",
    ):
        assert run(lane, code) in ("raised", "memory")
    assert run(lane, THREADS) == 1
    assert not lane.strangers()


def test_without_a_wall_a_fork_bomb_is_counted_and_killed():
    name = f"bomb{os.getpid()}"  # forks inherit it; lanes of tests beside this one do not have it
    named = f"import os, time\ndef f():\n    open('/proc/self/comm', 'w').write('{name}')\n"
    with Lane(wall=False) as lane:
        assert run(lane, named + "    return open('/proc/self/comm').read().strip()") == name
        assert run(lane, named + "    for _ in range(6): os.fork()\n    time.sleep(60)", 5) == "processes"
        fleeing = named + "    os.setsid() if os.fork() == 0 else 0\n    return 1"
        assert run(lane, fleeing) in (1, "garbled")
        assert run(lane, "def f(): return 1") == 1
    assert not [process for process in psutil.process_iter(["name"]) if process.info["name"] == name]


SECRET = "the hidden inputs"
READS = {
    "a file": "def f(path): return open(path).read()",
    "its folder": "import os\ndef f(path): return os.listdir(os.path.dirname(path))",
    "by way of /proc": "import os\ndef f(path): return open('/proc/self/root' + path).read()",
    "memory": "import os\ndef f(path): return len(open(f'/proc/{os.getppid()}/mem', 'rb').read(1))",
    "environment": "import os\ndef f(path): return open(f'/proc/{os.getppid()}/environ').read()",
    "a link": "import os\ndef f(path):\n    os.symlink(path, 'here')\n    return open('here').read()",
    "a hard link": "import os\ndef f(path):\n    os.link(path, 'here')\n    return open('here').read()",
    "writing": "def f(path): return open(path, 'w').write('mine')",
    "removing": "import os\ndef f(path): return os.remove(path) or 'gone'",
    "renaming": "import os\ndef f(path): return os.rename(path, 'here') or 'gone'",
    "memory map": "import numpy as np\ndef f(path): return np.memmap(path, mode='r')[0]",
}


@WALLS
@pytest.mark.parametrize("way", READS)
def test_behind_the_wall_nothing_outside_can_be_read_or_changed(lane, tmp_path, way):
    path = tmp_path / "assignment.py"
    path.write_text(SECRET)
    assert run(lane, READS[way], path=str(path)) == "raised"
    assert path.read_text() == SECRET


@WALLS
@pytest.mark.parametrize(
    "code",
    [
        "import socket\ndef f(): socket.create_connection(('127.0.0.1', 9))",
        "import socket\ndef f(): socket.socket(socket.AF_UNIX)",
        "import urllib.request\ndef f(): return urllib.request.urlopen('http://127.0.0.1:9').read()",
        "import os, signal\ndef f(): os.kill(os.getppid(), signal.SIGKILL)",
        "import os, signal\ndef f(): os.kill(-1, signal.SIGKILL)",
        "import os, signal\ndef f(): os.kill(1, 0)",
        "import os, signal\ndef f(): os.killpg(os.getpgid(os.getppid()), signal.SIGKILL)",
        "import resource\ndef f(): resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))",
        "import resource\ndef f(): resource.setrlimit(resource.RLIMIT_AS, (2**50, 2**50))",
        "import resource, os\ndef f(): resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
        "import os\ndef f(): os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "import os\ndef f(): os.chroot('.')",
        "import os\ndef f(): os.memfd_create('a')",
    ],
)
def test_behind_the_wall_no_network_and_no_power_over_others(lane, code):
    before = lane.started
    assert run(lane, code) == "raised"
    assert run(lane, "def f(): return 1") == 1 and lane.started == before


def test_a_worker_that_died_is_started_again():
    with Lane() as lane:
        assert run(lane, "def f(): return 1") == 1
        lane.process.kill()
        lane.process.wait()
        assert run(lane, "def f(): return 2") == 2
        assert lane.started == 2


def test_a_worker_that_cannot_start_is_no_student_s_fault(monkeypatch, toy):
    monkeypatch.setattr(lanes.sys, "executable", "/bin/false")
    with Lane() as lane, pytest.raises(lanes.WorkerAbsent, match="/bin/false"):
        Judge(toy, "a").question("total", toy.spec.questions["total"], "def total(x): return 1", lane)


def test_an_answer_that_works_on_a_busy_machine_gets_more_time_and_one_that_waits_does_not(lane, monkeypatch):
    monkeypatch.setattr(lanes, "SLOWER", 0.0)  # as if the cores had been busy with others all the time
    monkeypatch.setattr(lanes, "WORKS", 0.01)
    assert run(lane, "import time\ndef f():\n    while time.process_time() < 3: pass\n    return 1", 9) == 1
    assert run(lane, "import time\ndef f(): time.sleep(20)", 9) == "time"


def test_nothing_of_an_answer_stays_behind(lane, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run(lane, "import os\nos.makedirs('a/b')\nos.symlink('/', 'a/root')\nopen('a/c', 'w').close()\ndef f(): return 1")
    assert os.listdir(tmp_path) == []


def test_what_isolation_is_given_is_said(tmp_path):
    lines = isolation([tmp_path])
    assert len(lines) == 3 and lines[0].startswith("Files: ")
    import sys

    inside = isolation([Path(sys.prefix) / "lib"])
    assert not sandbox.report()["files"] or "lies inside the Python installation" in inside[0]


def test_without_walls_the_instructor_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(sandbox, "report", lambda: dict.fromkeys(("files", "processes", "network"), False))
    text = " ".join(isolation([tmp_path]))
    assert "container or another account" in text and "network is open" in text
