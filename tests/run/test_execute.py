"""A run's folder is complete or absent, whatever happens, and is repeated only when something it depends on changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindyn import parameters
from traindyn.errors import InputError
from traindyn.report import provenance
from traindyn.run import cli, execute, keys, notebook

WAIT = "import pathlib, time\npathlib.Path('started').touch()\ntime.sleep(600)"


def run(book: Path, *words: str) -> int:
    return cli.main(["run", "bare", "--preset", "smoke", *words])


def contents(book: Path) -> set[str]:
    return {str(path.relative_to(book)) for path in book.rglob("*") if "ipython" not in path.parts}


def test_a_run_holds_the_notebook_the_claims_and_where_they_came_from(bare_book, capsys):
    book = bare_book("import pathlib\nprint(seed)\nassert pathlib.Path.cwd() == pathlib.Path(_run['out'])")
    assert run(book, "-p", "seed=7", "-p", "fig-1.width=4") == 0
    (out,) = (book / "_build" / "runs" / "bare").glob("smoke-*")
    assert {path.name for path in out.iterdir()} == {"bare.ipynb", "claims.json", "provenance.json"}
    about = json.loads((out / "provenance.json").read_text())
    assert about["parameters"] == {"seed": 7, "device": "cpu"} and about["sizes"] == {"fig-1": {"width": 4}}
    assert about["parameters_are_preset"] is False and about["wall_seconds"] > 0
    notebook = nbformat.read(out / "bare.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code[0].source.splitlines()[0] == "seed: int = 7  # the seed"
    assert code[1].outputs[0].text == "7\n"
    assert str(book) not in (out / "bare.ipynb").read_text()


def test_the_key_sees_what_changes_a_run_and_nothing_else(bare_book, monkeypatch):
    book = bare_book("x = 1")
    folder = book / "chapters" / "bare"

    def key(*overrides: str) -> str:
        return execute.run_key(parameters.resolve("bare", "smoke", overrides))

    first = key()
    bare_book("x = 1", prose="Other words.")
    assert key() == first
    (folder / "claims.yaml").write_text("- {id: bare.a, parts: [{name: p, statement: s}]}\n")
    assert key() == first  # criteria are applied to a finished run
    assert len({key(), key("seed=2"), key("fig-1.width=9")}) == 3
    bare_book("x = 2")
    assert key() != first
    before = key()
    (book / "MANIFEST.toml").write_text('[[dataset]]\nname = "set"\nfile = "set.npz"\nsha256 = "0"\n')
    monkeypatch.setenv("TRAINDYN_DATA", str(book))
    assert key() == before  # a set whose file is missing is not here
    (book / "set.npz").write_bytes(b"")
    assert key() != before


@pytest.mark.parametrize(
    ("name", "value"),
    [("TRAINDYN_PERTURB", "1e-10"), ("TRAINDYN_MEMORY", "100"), ("TRAINDYN_ANYTHING", "1"), ("MKL_CBWR", "COMPATIBLE")],
)
def test_a_variable_that_changes_numbers_is_in_the_key_and_in_the_provenance(bare_book, monkeypatch, name, value):
    bare_book()
    resolved = parameters.resolve("bare", "smoke")
    before = execute.run_key(resolved)
    monkeypatch.setenv(name, value)
    assert execute.run_key(resolved) != before
    assert provenance.environment()[name] == value


def test_the_key_sees_python_the_packages_and_the_device(bare_book, monkeypatch):
    bare_book()
    resolved = parameters.resolve("bare", "smoke")
    keys = {execute.run_key(resolved)}
    assert {"python", "torch", "scipy", "mlxtend", "pillow", "pyarrow"} <= set(provenance.versions())
    monkeypatch.setattr(provenance, "device_name", lambda device: "another GPU")
    keys.add(execute.run_key(resolved))
    for name in provenance.versions():
        with monkeypatch.context() as patch:
            found = provenance.versions() | {name: "0"}
            patch.setattr(provenance, "versions", lambda found=found: found)
            keys.add(execute.run_key(resolved))
    assert len(keys) == 2 + len(provenance.versions())


def test_the_key_holds_the_sources_that_a_chapter_can_reach():
    names = set(keys._library("catapults"))
    assert {"traindyn/compute.py", "traindyn/report/plots.py", "traindyn/report/chapter.py"} <= names
    assert {"traindyn/run/notebook.py", "traindyn/run/execute.py", "traindyn/studies/catapults/gd.py"} <= names
    rooms = {name.split("/")[1] for name in names}
    assert {"learn", "measure"} <= rooms
    assert {name.split("/")[2] for name in names if "/studies/" in name} == {"__init__.py", "catapults"}
    assert not {"traindyn/report/claims.py", "traindyn/report/cards.py", "traindyn/run/book.py"} & names


def test_every_module_of_report_is_known_to_change_a_run_or_not():
    report = Path(execute.__file__).parents[1] / "report"
    assert not set(keys.JUDGING) & set(keys.RECORDING)
    assert {path.stem for path in report.glob("*.py")} <= {*keys.JUDGING, *keys.RECORDING}


def test_a_malformed_memory_budget_is_told_before_anything_runs(bare_book, monkeypatch, capsys):
    bare_book()
    monkeypatch.setenv("TRAINDYN_MEMORY", "2GB")
    assert run(Path()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "expected a number of MiB above 0" in said


def test_the_run_is_not_believed_once_a_file_of_it_is_gone(bare_book, capsys):
    book = bare_book("import pathlib\npathlib.Path('table.csv').write_text('a')")
    assert run(book, "--out", str(book / "mine")) == 0
    for damage in (Path.unlink, lambda path: path.write_text("longer")):
        damage(book / "mine" / "table.csv")
        assert run(book, "--out", str(book / "mine")) == 0
        assert "has lost table.csv" in capsys.readouterr().err
        assert (book / "mine" / "table.csv").read_text() == "a"


@pytest.mark.parametrize("shape", ["dangling", "to a run", "above is one"])
def test_a_link_is_not_a_place_for_a_run(bare_book, tmp_path, capsys, shape):
    book = bare_book()
    link = tmp_path / "link"
    target = tmp_path / ("run" if shape == "to a run" else "nowhere")
    if shape == "to a run":
        assert run(book, "--out", str(target)) == 0
    link.symlink_to(target)
    out = link / "deep" if shape == "above is one" else link
    before = sorted(tmp_path.iterdir())
    assert run(book, "--out", str(out), "--force", "-p", "seed=3") == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("traindyn: ")]
    assert len(said) == 1 and ("is a link" in said[0] or "cannot write" in said[0])
    assert sorted(tmp_path.iterdir()) == before


def test_the_folder_one_is_in_is_not_replaced(bare_book, tmp_path, monkeypatch, capsys):
    book = bare_book()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out in (".", str(tmp_path / "here"), ".."):
        assert run(book, "--out", out) == 2
    assert run(book, "--out", "below") == 0
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["below"]


@settings(max_examples=40)
@given(st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=30))
def test_neighbours_of_any_name_are_left_alone(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("runs")
    for neighbour in (f"smoke.part-{name}", f"smoke{name}", name):
        if neighbour not in (".", "..") and not execute._LEFT.fullmatch(neighbour.removeprefix("smoke")):
            (folder / neighbour).mkdir(exist_ok=True)
    before = set(folder.iterdir())
    execute._clean_leftovers(folder / "smoke")
    assert set(folder.iterdir()) == before


def test_of_two_runs_into_one_folder_at_once_one_is_told(bare_book, capsys):
    book = bare_book(WAIT)
    process, part, _ = begin(book)
    try:
        assert run(book) == 2
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("traindyn: ")]
        assert len(said) == 1 and f"process {process.pid}" in said[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert not any(part.parent.glob("*"))


def test_a_kernel_of_the_same_name_elsewhere_is_not_taken(bare_book, tmp_path, monkeypatch):
    book = bare_book("import sys\nprint(sys.executable)")
    other = tmp_path / "jupyter" / "kernels" / "python3"
    other.mkdir(parents=True)
    spec = {"argv": ["/usr/bin/env", "false"], "display_name": "Other", "language": "python"}
    (other / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    assert run(book) == 0
    assert sys.executable in (book / "_build" / "runs" / "bare" / "smoke" / "bare.ipynb").read_text()


def test_a_finished_run_is_kept_until_forced(bare_book, capsys):
    book = bare_book()
    assert run(book) == 0
    out = book / "_build" / "runs" / "bare" / "smoke"
    first = (out / "provenance.json").stat().st_mtime_ns
    assert run(book) == 0 and (out / "provenance.json").stat().st_mtime_ns == first
    assert "nothing has changed" in capsys.readouterr().err
    key = json.loads((out / "provenance.json").read_text())["key"]
    (out / "provenance.json").write_text('{"key": "tru')  # damaged: not believed
    kept = book / "_build" / "kept" / key  # what a killed run had finished, of no use once the run is
    kept.mkdir(parents=True)
    assert run(book) == 0
    assert json.loads((out / "provenance.json").read_text())["key"] == key and not kept.exists()


def test_a_failing_cell_is_one_line_with_its_log_and_leaves_no_run(bare_book, capsys):
    book = bare_book("x = 1", "y = x / 0")
    assert run(book) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("traindyn:")]
    assert "code cell 3" in line and "y = x / 0" in line and "ZeroDivisionError: division by zero" in line
    log = book / "_build" / "runs" / "bare" / "smoke.log"
    assert str(log) in line and "ZeroDivisionError" in log.read_text() and "\x1b" not in log.read_text()
    assert {path.name for path in log.parent.iterdir()} == {"smoke.log", "smoke.failed"}


def test_a_failing_run_shows_its_traceback_and_leaves_the_partial_notebook_until_the_next(bare_book, capsys):
    book = bare_book("import pathlib\npathlib.Path('table.csv').write_text('a')\nprint('so far')", "y = 1 / 0")
    assert run(book) == 1
    said = capsys.readouterr().err
    assert "code cell 3 of bare:\n\ny = 1 / 0\n" in said and "ZeroDivisionError: division by zero" in said
    left = book / "_build" / "runs" / "bare" / "smoke.failed"
    assert {path.name for path in left.iterdir()} == {"bare.failed.ipynb", "table.csv"}
    partial = nbformat.read(left / "bare.failed.ipynb", as_version=4)
    assert any("so far" in str(cell.get("outputs")) for cell in partial.cells)
    assert not any("_run =" in cell.source for cell in partial.cells)
    bare_book("print('mended')")
    assert run(book) == 0
    assert {path.name for path in left.parent.iterdir()} == {"smoke"}


def test_a_time_limit_ends_the_run(bare_book, capsys):
    book = bare_book("import time\ntime.sleep(60)")
    assert run(book, "--timeout", "3") == 1
    assert "it took longer than its 3 s" in capsys.readouterr().err
    assert not psutil.Process().children(recursive=True)


def test_another_kernel_is_another_run_and_one_that_is_not_there_is_told(bare_book, capsys):
    book = bare_book()
    assert run(book, "--kernel", "no-such-kernel") == 2
    said = capsys.readouterr().err
    assert "unknown kernel 'no-such-kernel'" in said and said.count("\n") == 1 and not (book / "_build").exists()
    resolved = parameters.resolve("bare", "smoke")
    ways = [execute.How(), execute.How(seconds=5, memory=1e9), execute.How(kernel="a"), execute.How(report_mode=True)]
    keys = [execute.run_key(resolved, how) for how in ways]
    assert keys[0] == keys[1] and len(set(keys)) == 3


def test_report_mode_hides_the_code(bare_book):
    book = bare_book("print(1)")
    assert run(book, "--report-mode") == 0
    notebook = nbformat.read(book / "_build" / "runs" / "bare" / "smoke" / "bare.ipynb", as_version=4)
    assert all(cell.metadata.jupyter.source_hidden for cell in notebook.cells if cell.cell_type == "code")


def test_evidence_of_many_seeds_changes_no_run(bare_book):
    book = bare_book()
    before = execute.run_key(parameters.resolve("bare", "smoke"))
    for place, changes in (("seeds", False), ("paper", True)):
        folder = book / "data" / "results" / "bare" / place
        folder.mkdir(parents=True)
        (folder / "evidence.csv").write_text("x")
        assert (execute.run_key(parameters.resolve("bare", "smoke")) != before) is changes


def test_a_kernel_that_dies_is_told_as_that(bare_book, capsys):
    book = bare_book("import os\nos._exit(9)")
    assert run(book) == 1
    assert "the kernel died" in capsys.readouterr().err
    assert not (book / "_build" / "runs" / "bare" / "smoke").exists()


def test_a_kernel_that_does_not_come_up_is_started_again(bare_book, capsys, monkeypatch):
    """Two kernels of one machine may draw the same port; no cell has run by then."""
    book, execute_notebook, tries = bare_book("print(1)"), notebook.papermill.execute_notebook, []

    def flaky(*words, **options):
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return execute_notebook(*words, **options)

    monkeypatch.setattr(notebook.papermill, "execute_notebook", flaky)
    assert run(book) == 0 and len(tries) == 3
    monkeypatch.setattr(notebook.papermill, "execute_notebook", lambda *words, **options: flaky_forever())
    assert run(book, "--force") == 1
    assert "the kernel died" in capsys.readouterr().err


def flaky_forever():
    raise RuntimeError("Kernel died before replying to kernel_info")


def test_a_notebook_without_verdicts_is_not_a_run(bare_book, capsys):
    book = bare_book()
    source = book / "chapters" / "bare" / "bare.md"
    source.write_text(source.read_text().replace("claims.json", "other.json"))
    assert run(book) == 1
    assert "ch.verdicts()" in capsys.readouterr().err
    assert not (book / "_build" / "runs" / "bare" / "smoke").exists()


def begin(book: Path) -> tuple[subprocess.Popen[str], Path, list[psutil.Process]]:
    """Start a run in a process of its own and wait until its kernel is in the cell that sleeps."""
    command = [sys.executable, "-m", "traindyn.run.cli", "run", "bare", "--preset", "smoke"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell that starts the tests in the background has them ignore interrupts, which is inherited
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    runs = book / "_build" / "runs" / "bare"
    deadline = time.monotonic() + 120
    while not (started := list(runs.glob("smoke.part-*/started"))):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.1)
    return process, started[0].parent, psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_nothing(bare_book, sent, status):
    book = bare_book(WAIT)
    process, part, kernels = begin(book)
    process.send_signal(sent)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert "Traceback" not in said
    assert not any(part.parent.glob("*"))
    assert psutil.wait_procs(kernels, timeout=20)[1] == []


def test_what_a_killed_run_leaves_is_never_believed_and_cleared_by_the_next(bare_book):
    book = bare_book(WAIT)
    process, part, kernels = begin(book)
    process.kill()
    process.wait()
    process.stderr.close()
    assert kernels and psutil.wait_procs(kernels, timeout=20)[1] == []  # the kernel does not outlive its parent
    out = part.with_name("smoke")
    assert part.exists() and not out.exists()
    bare_book()
    assert run(book) == 0
    assert [path.name for path in out.parent.iterdir()] == ["smoke"]


def test_only_what_dead_processes_of_this_machine_left_is_cleared(bare_book):
    book = bare_book()
    runs = book / "_build" / "runs" / "bare"
    host = execute._process_tag().split("-")[0]
    dead = runs / f"smoke.part-{host}-{2**22 + 1}-1000"
    reused = runs / f"smoke.part-{host}-{os.getpid()}-1000"  # the number is ours now, the process is not
    living = runs / f"smoke.part-{execute._process_tag()}"
    elsewhere = runs / "smoke.part-othermachine-1-1000"
    for path in (dead, reused, elsewhere):
        path.mkdir(parents=True)
    execute._clean_leftovers(runs / "smoke")
    living.mkdir()
    execute._clean_leftovers(runs / "smoke")
    assert set(runs.iterdir()) == {living, elsewhere}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "bra"], "unknown chapter 'bra' (did you mean 'bare'?)"),
        (["run", "bare", "--preset", "smke"], "unknown preset 'smke' (did you mean 'smoke'?)"),
        (["run", "bare", "-p", "sed=3"], "unknown parameter 'sed' (did you mean 'seed'?)"),
        (["run", "bare", "-p", "seed=x"], "parameter 'seed': expected int, got 'x'"),
        (["run", "bare", "-p", "fig-1.width=-3"], "expected int > 0"),
        (["run", "bare", "--device", "gpu"], "device 'gpu' is not"),
        (["run", "bare", "--device", "cuda:99"], "device 'cuda:99' was asked for"),
        (["run", "bare", "--out", "{book}/chapters"], "holds files that are not a run"),
        (["run", "bare", "--out", "{book}/chapters/bare/bare.md"], "is a file"),
        (["run", "bare", "--out", "{book}/chapters/bare/bare.md/deep"], "cannot write to"),
        (["show", "nothing"], "unknown chapter 'nothing'"),
        (["book", "--preset", "laptp"], "unknown preset 'laptp'"),
        (["walk"], "invalid choice: 'walk'"),
        (["run"], "required: chapter"),
    ],
)
def test_a_mistake_is_one_line_status_2_and_creates_nothing(bare_book, capsys, words, message):
    book = bare_book()
    (book / "_toc.yml").write_text("root: book/intro\n")
    before = contents(book)
    assert cli.main([word.format(book=book) for word in words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("traindyn: ") and said.count("\n") == 1 and message in said, said
    assert contents(book) == before


def test_a_set_that_an_experiment_can_do_without_stops_no_run():
    execute._check_data(SimpleNamespace(sizes={"one": {"data": "celeba", "optional": True}, "two": {"data": "digits"}}))
    with pytest.raises(InputError, match="celeba"):
        execute._check_data(SimpleNamespace(sizes={"one": {"data": "celeba", "optional": False}}))


def test_data_that_is_not_here_or_damaged_is_told_before_anything_runs(bare_book, capsys, tmp_path, monkeypatch):
    book = bare_book(WAIT)
    (book / "data").mkdir()
    shutil.copy(Path(__file__).parents[2] / "data" / "registry.toml", book / "data")
    presets = book / "chapters" / "bare" / "presets.yaml"
    presets.write_text(presets.read_text().replace("{width: 8}", "{data: [digits, celeba, of_my_own]}"))
    sizes = book / "chapters" / "bare" / "sizes.py"
    sizes.write_text(sizes.read_text().replace("width: int = Field(gt=0)", "data: list[str]"))
    before = contents(book)
    assert run(book) == 2
    assert "data set 'celeba' is not here" in capsys.readouterr().err
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "s.npz").write_bytes(b"damaged")
    entry = f'[[dataset]]\nname = "celeba"\nfile = "s.npz"\nsha256 = "{"0" * 64}"\n'
    (tmp_path / "data" / "MANIFEST.toml").write_text(entry)
    monkeypatch.setenv("TRAINDYN_DATA", str(tmp_path / "data"))
    assert run(book) == 2
    said = capsys.readouterr().err
    assert "the file is damaged" in said and said.count("\n") == 1
    assert contents(book) == before


def test_a_mistake_that_a_cell_finds_has_status_2(bare_book, capsys):
    book = bare_book("from traindyn.errors import InputError\nraise InputError('too wide')")
    assert run(book, "--no-bar") == 2
    assert "InputError: too wide" in capsys.readouterr().err
    assert not (book / "_build" / "runs" / "bare" / "smoke").exists()


def test_another_run_is_replaced_only_by_force(bare_book, capsys):
    book = bare_book()
    out = book / "mine"
    assert run(book, "--out", str(out)) == 0
    assert run(book, "--out", str(out), "-p", "seed=2") == 2
    assert "--force" in capsys.readouterr().err
    assert json.loads((out / "provenance.json").read_text())["parameters"]["seed"] == 1
    assert run(book, "--out", str(out), "-p", "seed=2", "--force") == 0
    assert json.loads((out / "provenance.json").read_text())["parameters"]["seed"] == 2


def test_list_show_and_doctor_speak_of_the_chapter(bare_book, capsys):
    bare_book()
    assert cli.main(["list"]) == 0 and cli.main(["show", "bare"]) == 0 and cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("bare", "seed", "the seed", "fig-1: width=8", "torch", "memory", "device"))
