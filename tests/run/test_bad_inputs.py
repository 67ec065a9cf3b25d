"""What people get wrong, one row each: exit 2, one clear line on stderr that says how to mend it, nothing created."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from traindyn.run import cli, remote

CELL = """seed: int = 100  # the seed, at least 0
n_seeds: int = 3  # seeds, at least 1
rate: float = 0.5  # learning rate, above 0
law: str = "torch"  # law, one of torch, he
rates: list[float] = [0.1]  # rates, above 0
device: str = "cpu"  # where"""
RUN, SWEEP = ["run", "bare", "--preset", "smoke"], ["sweep", "bare", "--preset", "smoke"]
LONG = "x" * 3000


@pytest.fixture
def book(bare_book, tmp_path, monkeypatch):
    """The bare book with parameters of several types, a finished run beside it, and an empty folder to stand in."""
    root = bare_book()
    path = root / "chapters" / "bare" / "bare.md"
    path.write_text(path.read_text().replace('seed: int = 1  # the seed\ndevice: str = "cpu"  # where', CELL))
    (root / "_toc.yml").write_text("chapters:\n  - file: chapters/bare/bare\n")
    about = {
        "chapter": "bare",
        "preset": "smoke",
        "parameters_are_preset": True,
        "key": "another",
        "files": {"claims.json": None},
    }
    (root / "finished").mkdir()
    (root / "finished" / "provenance.json").write_text(json.dumps(about))
    (root / "finished" / "claims.json").write_text(json.dumps({"schema": 2, **about, "claims": []}))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(remote, "ANSWER", 1)
    monkeypatch.delenv("TRAINDYN_DATA", raising=False)
    monkeypatch.delenv("TRAINDYN_MEMORY", raising=False)
    return root


def write(name: str, content: str | bytes):
    """Return a change of the book: a file with this content, below its root."""

    def change(book: Path, monkeypatch) -> None:
        path = book / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def remove(name: str):
    def change(book: Path, monkeypatch) -> None:
        shutil.rmtree(book / name) if (book / name).is_dir() else (book / name).unlink()

    return change


def set_to(name: str, value: str):
    return lambda book, monkeypatch: monkeypatch.setenv(name, value.replace("BOOK", str(book)))


def link(name: str, to: str):
    return lambda book, monkeypatch: (book / name).symlink_to(book / to)


PRESETS, LEDGER, CHAPTER = "chapters/bare/presets.yaml", "chapters/bare/claims.yaml", "chapters/bare/bare.md"
DATA = set_to("TRAINDYN_DATA", "BOOK/sets")
MODULE = "chapters/bare/assignment.py"
TOY = Path(__file__).resolve().parents[1] / "course" / "toy"


def ASSIGNED(book: Path, monkeypatch) -> None:
    """Give the bare chapter the toy assignment."""
    for name in ("assignment.md", "assignment.py"):
        shutil.copy(TOY / name, book / "chapters" / "bare")


def with_file(name: str, content: str | bytes):
    """Return a change of the book: the toy assignment, and a file."""

    def change(book: Path, monkeypatch) -> None:
        ASSIGNED(book, monkeypatch)
        write(name, content)(book, monkeypatch)

    return change


ELSEWHERE = '{"chapter": "../x", "preset": "smoke", "files": {}}'
CASES: list[tuple[list[str], str, object]] = [
    # names
    ([], "the following arguments are required: COMMAND", None),
    (["rnu", "bare"], "invalid choice: 'rnu'", None),
    (["run"], "required: chapter", None),
    (["run", "bear"], "unknown chapter 'bear' (did you mean 'bare'?); known: bare", None),
    (["run", ""], "unknown chapter ''", None),
    (["run", "../bare"], "unknown chapter '../bare'", None),
    (["run", "bare/../bare"], "unknown chapter", None),
    (["run", "bäre"], "did you mean 'bare'?", None),
    (["run", "bare\nbare"], "unknown chapter", None),
    (["run", LONG], "unknown chapter", None),
    (["show", "bear"], "did you mean 'bare'?", None),
    (["sweep", "bear"], "did you mean 'bare'?", None),
    (["run", "bare", "--preset", "smok"], "did you mean 'smoke'?", None),
    (["run", "bare", "--preset", "../smoke"], "unknown preset", None),
    (["run", "bare", "--preset"], "expected one argument", None),
    ([*RUN, "--colour"], "unrecognized arguments: --colour", None),
    (["book", "--preset", "larger"], "unknown preset 'larger'", None),
    (["verify", "--preset", "larger"], "unknown preset 'larger'", None),
    # parameters and sizes
    ([*RUN, "-p", "sead=1"], "did you mean 'seed'?", None),
    ([*RUN, "-p", "seed"], "expected name=value", None),
    ([*RUN, "-p", "=1"], "expected name=value", None),
    ([*RUN, "-p", "seed=one"], "expected int, got 'one'", None),
    ([*RUN, "-p", "seed=1.5"], "expected int", None),
    ([*RUN, "-p", "seed="], "expected int", None),
    ([*RUN, "-p", "seed=-1"], "expected at least 0", None),
    ([*RUN, "-p", f"seed={10**30}"], "too large", None),
    ([*RUN, "-p", f"seed={'9' * 5000}"], "expected int", None),
    ([*RUN, "-p", "n_seeds=0"], "expected at least 1", None),
    ([*RUN, "-p", "seed=1", "-p", "seed=2"], "is given twice", None),
    ([*RUN, "-p", "rate=nan"], "expected float, got 'nan'", None),
    ([*RUN, "-p", "rate=1e999"], "not a finite number", None),
    ([*RUN, "-p", "rate=0"], "expected above 0", None),
    ([*RUN, "-p", f"rate={10**400}"], "rate", None),
    ([*RUN, "-p", "law=hee"], "did you mean 'he'?", None),
    ([*RUN, "-p", "rates=[]"], "empty", None),
    ([*RUN, "-p", "rates=[1,"], "expected", None),
    ([*RUN, "-p", "rates=[1,a]"], "expected", None),
    ([*RUN, "-p", "rates=[0.1,-1]"], "expected above 0", None),
    ([*RUN, "-p", f"rates={'[' * 3000}"], "expected", None),
    ([*RUN, "-p", "fig-1.widht=3"], "did you mean 'width'?", None),
    ([*RUN, "-p", "fig-2.width=3"], "did you mean 'fig-1'?", None),
    ([*RUN, "-p", "fig-1.width=0"], "width", None),
    ([*RUN, "-p", "fig-1.width=nan"], "width", None),
    ([*RUN, "-p", "fig-1.width=[8]"], "width", None),
    ([*RUN, "-p", "fig-1.=8"], "unknown size", None),
    # a file of parameters
    ([*RUN, "-f", "gone.yaml"], "cannot read gone.yaml: No such file", None),
    ([*RUN, "-f", "."], "cannot read .: Is a directory", None),
    ([*RUN, "-f", "BOOK/p.yaml"], "not a text file", write("p.yaml", b"seed: \xff\xfe")),
    ([*RUN, "-f", "BOOK/p.yaml"], "is not YAML", write("p.yaml", "seed: [1\nrate: {")),
    ([*RUN, "-f", "BOOK/p.yaml"], "is not YAML", write("p.yaml", "seed: \x00")),
    ([*RUN, "-f", "BOOK/p.yaml"], "expected a mapping", write("p.yaml", "- seed")),
    ([*RUN, "-f", "BOOK/p.yaml"], "expected a mapping", write("p.yaml", "")),
    ([*RUN, "-f", "BOOK/p.yaml"], "did you mean 'seed'?", write("p.yaml", "sead: 1")),
    ([*RUN, "-f", "BOOK/p.yaml"], "twice", write("p.yaml", "seed: 1\nseed: 2\n")),
    ([*RUN, "-f", "BOOK/p.yaml"], "is neither a value nor a list", write("p.yaml", "fig-1: {width: {a: 1}}")),
    ([*RUN, "-f", "BOOK/p.yaml"], "is not YAML", write("p.yaml", "seed: " + "[" * 3000)),
    ([*SWEEP, "-f", "BOOK/p.yaml"], "empty", write("p.yaml", "seed: []")),
    # grids
    ([*SWEEP, "-p", "seed="], "has an empty value", None),
    ([*SWEEP, "-p", "seed=1,,2"], "has an empty value", None),
    ([*SWEEP, "-p", "seed=1,two"], "expected int, got 'two'", None),
    ([*SWEEP, "-p", "seed=200:200:10"], "is empty", None),
    ([*SWEEP, "-p", "seed=200:300:0"], "is empty", None),
    ([*SWEEP, "-p", "seed=1:inf"], "is not a range", None),
    ([*SWEEP, "-p", "seed=1,1"], "stands there twice", None),
    ([*SWEEP, "-p", "seed=0:1000000"], "at most", None),
    ([*SWEEP, "-p", f"seed=0:{'9' * 400}"], "at most", None),
    ([*SWEEP, "-p", "rates=[],[1]"], "empty", None),
    ([*SWEEP, "--workers", "0"], "--workers 0", None),
    ([*SWEEP, "--workers", "two"], "invalid int value", None),
    ([*SWEEP, "--memory", "nan"], "--memory nan", None),
    ([*SWEEP, "--memory", "0"], "--memory 0", None),
    ([*SWEEP, "--timeout", "inf"], "--timeout inf", None),
    ([*SWEEP, "--seeds", "6"], "needs at least 15 seeds", None),
    ([*SWEEP, "--seeds", "--plot"], "--seeds", None),
    ([*SWEEP, "--plot"], "needs a swept parameter", None),
    ([*SWEEP, "-p", "rate=1,2", "--plot", "peek"], "unknown claim or quantity", None),
    ([*SWEEP, "--out", "BOOK/chapters"], "holds files that are not a sweep", None),
    ([*SWEEP, "--scheduler", "tcp://127.0.0.1:1"], "no Dask scheduler answers at tcp://127.0.0.1:1", None),
    ([*SWEEP, "--scheduler", "localhost"], "is no address; expected tcp://HOST:PORT", None),
    ([*SWEEP, "--scheduler", "http://host:8786"], "is no address", None),
    ([*SWEEP, "--scheduler", "tcp://host"], "is no address", None),
    ([*SWEEP, "--scheduler", ""], "is no address", None),
    ([*SWEEP, "--scheduler-file", "gone.json"], "cannot read the scheduler file gone.json", None),
    ([*SWEEP, "--scheduler-file", "BOOK/_toc.yml"], "is not a scheduler file", None),
    ([*SWEEP, "--scheduler", "tcp://a:1", "--scheduler-file", "b"], "give one of them", None),
    ([*SWEEP, "--scheduler", "tcp://a:1", "--workers", "2"], "leave it out", None),
    ([*SWEEP, "--scheduler", "tcp://a:1", "--resources", "GPU"], "such as GPU=1", None),
    ([*SWEEP, "--resources", "GPU=1"], "give --scheduler", None),
    # places
    ([*RUN, "--out", "BOOK/_toc.yml"], "is a file; expected a folder", None),
    ([*RUN, "--out", "BOOK/_toc.yml/below"], "cannot write to", None),
    ([*RUN, "--out", "BOOK/chapters"], "holds files that are not a run", None),
    ([*RUN, "--out", "BOOK/finished"], "holds another run", None),
    ([*RUN, "--out", "BOOK/way"], "is a link", link("way", "finished")),
    ([*RUN, "--out", "."], "holds the folder you are in", None),
    ([*RUN, "--out", ""], "--out", None),
    ([*RUN, "--out", "/proc/nowhere/run"], "cannot write to", None),
    ([*RUN, "--out", f"BOOK/{LONG}"], "too long", None),
    ([*SWEEP, "--out", f"BOOK/{LONG}"], "too long", None),
    ([*SWEEP, "--out", ""], "--out", None),
    # how
    ([*RUN, "--timeout", "0"], "--timeout 0", None),
    ([*RUN, "--timeout", "nan"], "--timeout nan", None),
    ([*RUN, "--timeout", "soon"], "invalid float value", None),
    ([*RUN, "--kernel", "matlab"], "unknown kernel 'matlab'", None),
    ([*RUN, "--kernel", "../python3"], "unknown kernel", None),
    ([*RUN, "--device", "gpu"], "expected auto, cpu, cuda", None),
    ([*RUN, "--device", "cuda:99"], "cuda:99", None),
    ([*RUN, "-p", "device="], "expected auto, cpu, cuda", None),
    (["book", "--jobs", "0"], "--jobs 0", None),
    (["verify", "--jobs", "-1"], "--jobs -1", None),
    # the project's own files
    (["list"], "no chapters/ folder", set_to("TRAINDYN_ROOT", "/nowhere")),
    (RUN, "presets.yaml", remove(PRESETS)),
    (RUN, "presets.yaml", write(PRESETS, "smoke: [")),
    (RUN, "presets.yaml", write(PRESETS, b"smoke: \xff")),
    (RUN, "presets.yaml", write(PRESETS, "- smoke\n")),
    (RUN, "presets.yaml", write(PRESETS, "smoke:\nlaptop:\n")),
    (RUN, "did you mean 'rate'?", write(PRESETS, "smoke: {parameters: {rat: 1}}\nlaptop:\npaper:\n")),
    (RUN, "expected above 0", write(PRESETS, "smoke: {parameters: {rate: -1}}\nlaptop:\npaper:\n")),
    (RUN, "did you mean 'fig-1'?", write(PRESETS, "base: {fig-2: {width: 1}}\nsmoke:\nlaptop:\npaper:\n")),
    (RUN, "width", write(PRESETS, "smoke: {sizes: {fig-1: {width: .nan}}}\nlaptop:\npaper:\n")),
    (RUN, "sizes.py", write("chapters/bare/sizes.py", "SIZES = {")),
    (RUN, "sizes.py", write("chapters/bare/sizes.py", b"# \xff\n")),
    (RUN, "sizes.py", write("chapters/bare/sizes.py", "import traindyn_nothing\n")),
    (RUN, "expected SIZES", write("chapters/bare/sizes.py", "SIZES = [1]\n")),
    (RUN, "bare.md", write(CHAPTER, b"# Bare \xff\xfe\n")),
    (RUN, "0 cells tagged 'parameters'", write(CHAPTER, "# Bare\n")),
    (RUN, "bare.md", write(CHAPTER, "---\njupytext: [\n---\n# Bare\n")),
    (
        RUN,
        "parameters cell",
        write(CHAPTER, "# Bare\n\n```{code-cell} ipython3\n:tags: [parameters]\n\nseed: int = (\n```\n"),
    ),
    (["book"], "chapters/gone/gone, which does not exist", write("_toc.yml", "- file: chapters/gone/gone\n")),
    (["book"], "_toc.yml", remove("_toc.yml")),
    (["book"], "_toc.yml", write("_toc.yml", b"\xff")),
    (["list"], "_toc.yml", write("_toc.yml", b"\xff")),
    (RUN, "TRAINDYN_MEMORY", set_to("TRAINDYN_MEMORY", "2GB")),
    (RUN, "TRAINDYN_MEMORY", set_to("TRAINDYN_MEMORY", "nan")),
    (["doctor"], "TRAINDYN_MEMORY", set_to("TRAINDYN_MEMORY", "-1")),
    # runs
    (["report", "gone"], "no finished run in gone", None),
    (["report", "BOOK/_toc.yml"], "no finished run", None),
    (["report", "BOOK/finished"], "1: the ledger", write(LEDGER, "- id: [")),
    (["judge", "gone"], "gone is not a finished run", None),
    (["judge", "BOOK/finished"], "run it again", write("finished/claims.json", '{"schema": 2, "cla')),
    (["judge", "BOOK/finished"], "run it again", write("finished/claims.json", b"\xff\xfe{}")),
    (["judge", "BOOK/finished"], "run it again", write("finished/claims.json", "[]")),
    (["judge", "BOOK/finished"], "run it again", write("finished/claims.json", '{"schema": 2}')),
    (["judge", "BOOK/finished", "--claims", "gone.yaml"], "cannot read the ledger gone.yaml", None),
    (["judge", "BOOK/finished", "--claims", "."], "cannot read the ledger", None),
    (["judge", "BOOK/finished"], "is not YAML", write(LEDGER, "- id: [")),
    (["judge", "BOOK/finished"], "is not a list of claims", write(LEDGER, "id: a\n")),
    (["judge", "BOOK/finished"], "ledger", write(LEDGER, b"- id: \xff\n")),
    (["diff", "BOOK/finished", "gone"], "gone is not a finished run", None),
    (["diff", "BOOK/finished", "BOOK/finished"], "provenance.json", write("finished/provenance.json", '{"chap')),
    (["archive", "gone"], "gone is not a finished run", None),
    (["archive", "BOOK/finished"], "not made from a git checkout", None),
    (["archive", "BOOK/finished"], "is not a finished run", write("finished/provenance.json", "[1]")),
    (["archive", "BOOK/finished"], "not in this book", write("finished/provenance.json", ELSEWHERE)),
    (["archive", "BOOK/finished", "--only", "a"], "--only goes with the folder of a sweep", None),
    (["archive", "BOOK/sweep"], "is not a sweep", write("sweep/sweep.json", "{}")),
    (["report", "BOOK/finished"], "1: make them again", write("data/results/bare/seeds/about.json", '{"a": 1}')),
    # courses
    (["course"], "required: COMMAND", None),
    (["course", "grad"], "invalid choice: 'grad'", None),
    (["course", "build"], "required: DIR", None),
    (["course", "build", "BOOK/c", "--chapters", "bear"], "unknown assignment 'bear'", None),
    (["course", "build", "BOOK/c"], "no chapter has an assignment", None),
    (["course", "build", "BOOK/_toc.yml"], "is a file; expected a folder", ASSIGNED),
    (["course", "build", "BOOK/chapters"], "holds files that are no course", ASSIGNED),
    (["course", "build", "BOOK/c", "--roster", "gone.csv"], "cannot read the roster gone.csv", ASSIGNED),
    (["course", "build", "BOOK/c", "--roster", "BOOK/r"], "not a text file", with_file("r", b"id\n\xff\n")),
    (["course", "build", "BOOK/c", "--roster", "BOOK/r"], "no column 'id'", with_file("r", "name\nada\n")),
    (["course", "build", "BOOK/c", "--roster", "BOOK/r"], "unknown variant", with_file("r", "id,variant\nada,9\n")),
    (["course", "build", "BOOK/c"], "expected ASSIGNMENT", with_file(MODULE, "SPEC = 1\n")),
    (["course", "build", "BOOK/c"], "assignment.py: SyntaxError", with_file(MODULE, "ASSIGNMENT = (\n")),
    (["course", "build", "BOOK/c"], "assignment.md", with_file("chapters/bare/assignment.md", b"\xff")),
    (["course", "grade", "gone"], "gone is no course; make one with: traindyn course build gone", None),
    (["course", "grade", "BOOK"], "is no course", None),
    (["course", "grade", "gone", "--jobs", "0"], "--jobs 0", None),
    (["course", "grade-one", "gone.ipynb"], "cannot read gone.ipynb", None),
    (["course", "grade-one", "BOOK/_toc.yml"], "is not a notebook", None),
    (["course", "grade-one", "BOOK/_toc.yml", "--chapter", "bear"], "unknown assignment 'bear'", ASSIGNED),
    (["course", "grade-one", "BOOK/_toc.yml", "--chapter", "bare", "--variant", "9"], "unknown variant", ASSIGNED),
    (["course", "grade-one", "BOOK/_toc.yml", "--chapter", "bare", "--course", "gone"], "gone is no course", ASSIGNED),
    (["course", "try", "gone.ipynb"], "cannot read gone.ipynb: No such file", None),
    (["course", "try", "BOOK/_toc.yml"], "is not a notebook", None),
    (["course", "try", "BOOK/finished/claims.json"], "is not a notebook", None),
    (["course", "try", "BOOK/n.ipynb"], "no assignment's notebook", write("n.ipynb", '{"cells": [{}]}')),
    (["course", "check", "bear"], "unknown assignment 'bear'", None),
    # data
    (["data", "fetch"], "needs the name of a data set", None),
    (["data", "path", "cifar"], "unknown data set 'cifar'", None),
    (["data", "path", "../digits"], "unknown data set", None),
    (["data", "list"], "MANIFEST.toml", lambda *a: (write("sets/MANIFEST.toml", "[[dataset]")(*a), DATA(*a))),
    (["data", "list"], "MANIFEST.toml", lambda *a: (write("sets/MANIFEST.toml", b"\xff")(*a), DATA(*a))),
    (
        ["data", "list"],
        "points outside",
        lambda *a: (
            write("sets/MANIFEST.toml", '[[dataset]]\nname = "a"\nfile = "../a.npz"\nsha256 = "0"\n')(*a),
            DATA(*a),
        ),
    ),
    (["data", "list"], "registry.toml", write("data/registry.toml", "dataset = [")),
]  # fmt: skip


def name_of(case: tuple[list[str], str, object]) -> str:
    words = " ".join(case[0]).encode("ascii", "backslashreplace").decode().replace("\n", "\\n")
    return f"{words[:60]}: {case[1][:30]}"


@pytest.mark.parametrize("case", CASES, ids=[f"{number:03d} {name_of(case)}" for number, case in enumerate(CASES)])
def test_a_mistake_is_one_line_with_the_mend_and_creates_nothing(book, capfd, monkeypatch, case):
    words, said, change = case
    if change:
        change(book, monkeypatch)
    before = sorted(book.parent.rglob("*"))
    status = cli.main([word.replace("BOOK", str(book)) for word in words])
    out, err = capfd.readouterr()
    assert status == (1 if said.startswith("1: ") else 2), (status, out[-500:], err[-500:])
    lines = err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("traindyn: "), err[-2000:]
    assert said.removeprefix("1: ") in lines[0] and len(lines[0]) < 700, lines[0][:700]
    assert sorted(book.parent.rglob("*")) == before
