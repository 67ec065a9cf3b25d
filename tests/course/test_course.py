"""A course from end to end: built, handed in, graded, graded again; scores are read back from the gradebook."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from traindyn.errors import InputError
from traindyn.run import cli
from traindyn.run.course import assignment, build, course, grade, gradebook, lanes
from traindyn.run.course.judge import Judge

pytestmark = pytest.mark.usefixtures("kept_workers")
ROSTER = "id,first_name,last_name,email,variant\nada,Ada,Lovelace,a@b.c,\nbob,Bob,<b>,,1\n"
HOSTILE = {
    "loop": {"scale": "def scale(x):\n    while True: pass"},
    "memory": {"scale": "def scale(x):\n    kept = []\n    while True: kept.append(bytearray(2**27))"},
    "forks": {"scale": "import os\ndef scale(x):\n    while True: os.fork()"},
    "exit": {"scale": "import os\nos._exit(0)"},
    "sys-exit": {"scale": "import sys\ndef scale(x): sys.exit('all points')"},
    "syntax": {"scale": "def scale(x:"},
    "prints": {"scale": "def scale(x):\n    print('x' * 10**7)\n    return FACTOR * x"},
    "leaks": {"scale": "def scale(x):\n    raise ValueError(' '.join(map(repr, x.ravel().tolist())))"},
    "script": {"scale": "def scale(x): return '<script>alert(1)</script>'", "why": "<script>alert(2)</script>\ud800"},
    "forges": {"scale": "import os\ndef scale(x):\n    os.write(3, b'TDC1' + bytes(9000))\n    return x"},
    "formula": {"scale": "raise Exception('=1+1')"},
}
EARNED = {"prints": 3}


@pytest.fixture(scope="module")
def built(toy_root, tmp_path_factory):
    """A course with the toy assignment, as it was built; tests copy it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINDYN_ROOT", str(toy_root))
        folder = tmp_path_factory.mktemp("course") / "c1"
        roster = folder.parent / "students.csv"
        roster.write_text(ROSTER)
        build.build(folder, roster=roster)
    return folder


@pytest.fixture
def own(built, toy, tmp_path):
    """A copy of the built course."""
    return Path(shutil.copytree(built, tmp_path / "c1"))


@pytest.fixture
def hand_in(own, toy, write):
    """A function that hands in a notebook with these answers."""

    def handed(student, answers, when=None, name="bare.ipynb", variant="0", **more):
        folder = own / "submitted" / student / "bare"
        if answers is not None:
            write(toy, folder / name, answers, variant=variant, **more)
        folder.mkdir(parents=True, exist_ok=True)
        if when:
            (folder / "timestamp.txt").write_text(when)
        return folder

    return handed


def scores(folder: Path) -> dict[str, dict[str, float]]:
    """Return student -> cell -> score, and "total" as nbgrader counts, from the gradebook."""
    from nbgrader.api import Gradebook

    with Gradebook(course.load(folder).database) as book:
        found = {}
        for sent in book.assignment_submissions("bare"):
            found[sent.student.id] = {one.name: one.score for one in sent.notebooks[0].grades}
            found[sent.student.id]["total"] = max(0.0, sent.score - sent.late_submission_penalty)
            found[sent.student.id]["waiting"] = sent.needs_manual_grade
        return found


def lines(path: Path) -> dict[str, dict[str, str]]:
    return {row["student"]: row for row in csv.DictReader(path.read_text().splitlines())}


# ---- built


def test_a_course_has_releases_without_solutions_notes_with_them_and_a_secret(built, toy):
    cells = json.loads((built / "release" / "bare" / "bare.ipynb").read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells)
    assert "### BEGIN" not in text and "the factor decides" not in text and "law of large numbers" not in text
    assert text.count("YOUR CODE HERE") == 3 and "YOUR ANSWER HERE" in text and "FACTOR = 2" in text
    assert "the factor decides" in (built / "notes" / "bare.md").read_text()
    assert "which is the word" in (built / "notes" / "bare.md").read_text()
    assert "Files: " in (built / "notes" / "isolation.md").read_text()
    assert stat.S_IMODE((built / "secret.txt").stat().st_mode) == 0o600
    personal = (built / "personal" / "bob" / "bare.ipynb").read_text()
    assert (
        "FACTOR = 3" in personal and "the factor decides" not in personal and not (built / "personal" / "ada").exists()
    )


def test_the_release_of_nbgrader_is_the_one_that_students_of_variants_get(built, toy):
    """Two ways of clearing solutions agree, cell by cell."""
    from traindyn.run.course import release

    cells = json.loads((built / "release" / "bare" / "bare.ipynb").read_text())["cells"]
    ours = release.notebook(toy, "0").cells
    assert ["".join(cell["source"]).strip() for cell in cells] == [cell.source.strip() for cell in ours]


def test_the_gradebook_knows_students_points_and_cells(built, toy_root, monkeypatch):
    from nbgrader.api import Gradebook

    monkeypatch.setenv("TRAINDYN_ROOT", str(toy_root))
    with Gradebook(course.load(built).database) as book:
        assert {one.id: one.last_name for one in book.students} == {"ada": "Lovelace", "bob": "<b>"}
        points = {one.name: one.max_score for one in book.find_notebook("bare", "bare").grade_cells}
    assert points == {"test-scale": 3, "test-total": 2, "test-study": 4, "why": 2}


@pytest.mark.long
def test_building_again_keeps_secret_dates_and_what_was_handed_in(own, hand_in, right):
    hand_in("ada", right)
    secret = (own / "secret.txt").read_text()
    (own / "course.yaml").write_text("due: {bare: 2027-01-15}\n")
    grade.grade(own)
    build.build(own)
    assert (own / "secret.txt").read_text() == secret and "2027" in (own / "course.yaml").read_text()
    assert scores(own)["ada"]["total"] == 9


# ---- graded


def test_right_partial_wrong_and_empty_are_graded_and_read_back(own, hand_in, right):
    hand_in("ada", right)
    hand_in("bob", {**right, "why": ""}, variant="1")
    hand_in("cyd", {**right, "study": right["study"].replace("900", "9"), "total": "def total(x): return 0"})
    hand_in("dan", {})
    hand_in("eve", None)
    found = grade.grade(own, jobs=2)
    assert [one.student.id for one in found] == ["ada", "bob", "cyd", "dan", "eve"] and not any(o.fault for o in found)
    book = scores(own)
    assert {name: row["total"] for name, row in book.items()} == {"ada": 9, "bob": 9, "cyd": 5, "dan": 0, "eve": 0}
    assert book["cyd"]["test-study"] == 2 and book["ada"]["waiting"] and not book["bob"]["waiting"]
    table = lines(own / "grades.csv")
    assert table["ada"]["total"] == "9" and table["ada"]["of"] == "11" and table["ada"]["waiting"] == "why"
    assert "no notebook was handed in" in table["eve"]["notes"]
    parts = list(csv.DictReader((own / "parts.csv").read_text().splitlines()))
    assert len(parts) == 5 * 6
    assert sorted(path.name for path in (own / "summary" / "bare").iterdir()) == ["scale.svg", "study.svg", "total.svg"]
    page = (own / "feedback" / "cyd" / "bare" / "bare.html").read_text()
    assert "5 of 11 points" in page and "measured" in page and "asked ≤ 0.03" in page


def test_hostile_submissions_cost_themselves_alone_and_leak_nothing(own, hand_in, right, toy):
    for name, answers in HOSTILE.items():
        hand_in(name, {**right, **answers})
    hand_in("ada", right)
    hand_in("not-utf-8", {**right, "total": "# Größe\n" + right["total"]}, encoding="latin-1")
    hand_in("renamed", right, name="my homework (final).IPYNB")
    with contextlib.suppress(OSError):  # a name that cannot be written down is no student's
        (own / "submitted" / os.fsdecode(b"\xff") / "bare").mkdir(parents=True)
    (own / "submitted" / "link").symlink_to(own / "submitted" / "ada")
    (hand_in("empty", None) / "bare.ipynb").write_bytes(b"")
    (hand_in("folder", None) / "bare.ipynb").mkdir()
    hand_in("=cmd()", {})
    found = {one.student.id: one for one in grade.grade(own, jobs=2)}
    assert not any(one.fault for one in found.values())
    earned = {name: one.graded.earned for name, one in found.items()}
    assert earned == {
        **{name: 6 + EARNED.get(name, 0) for name in HOSTILE},
        **{"ada": 9, "not-utf-8": 9, "renamed": 9, "empty": 0, "folder": 0, "=cmd()": 0},
    }
    assert {name: row["total"] for name, row in scores(own).items()} == earned
    hidden = [
        repr(abs(x))[:9]
        for variant in ("0", "1")
        for name, part in (("scale", "any"), ("scale", "negative"), ("total", "sum"))
        for arguments, _ in Judge(toy, course.load(own).secret)._draw(name, part, variant)
        for x in arguments["x"].ravel().tolist()
    ]
    written = [*(own / "feedback").rglob("*.html"), *own.glob("*.csv"), *(own / "summary").rglob("*.svg")]
    assert len(written) > len(HOSTILE)
    for path in written:
        text = path.read_text()
        assert not [one for one in hidden if one in text], path
        assert path.suffix == ".svg" or "<script" not in text or path.suffix == ".csv", path
    assert "'=cmd()" in (own / "grades.csv").read_text()
    assert "my homework (final).IPYNB" in (own / "feedback" / "renamed" / "bare" / "bare.html").read_text()


def test_feedback_needs_no_network_and_shows_no_hidden_test(own, hand_in, right):
    from bs4 import BeautifulSoup

    hand_in("bob", {**right, "why": "<img src=x onerror=alert(1)>"}, variant="1")
    grade.grade(own)
    text = (own / "feedback" / "bob" / "bare" / "bare.html").read_text()
    page = BeautifulSoup(text, "html.parser")
    assert not page.find_all(["script", "img", "link", "iframe", "object", "form"])
    assert not re.findall(r"https?://", text) and "default-src 'none'" in text
    assert not [
        tag for tag in page.find_all(True) for name in tag.attrs if name.startswith("on") or name in ("src", "href")
    ]
    assert "&lt;b&gt;" in text and "close(1e-6)" not in text and "law of large" not in text


def test_grading_again_changes_nothing_and_keeps_marks_made_by_hand(own, hand_in, right):
    from nbgrader.api import Gradebook

    hand_in("ada", right)
    hand_in("bob", {**right, "total": "def total(x): return 0"}, variant="1")
    grade.grade(own)
    kept = [path for path in own.rglob("*") if path.is_file() and path.suffix in (".html", ".csv", ".svg")]
    before = {path: path.read_bytes() for path in kept}
    grade.grade(own)
    assert {path: path.read_bytes() for path in kept} == before
    with Gradebook(course.load(own).database) as book:
        mark = book.find_grade("why", "bare", "bare", "ada")
        mark.manual_score, mark.needs_manual_grade = 1.5, False
        book.find_comment("why", "bare", "bare", "ada").manual_comment = "A <good> answer."
        book.find_grade("test-total", "bare", "bare", "bob").manual_score = 1
        book.db.commit()
    for _ in range(2):
        grade.grade(own)
        found = scores(own)
        assert found["ada"]["total"] == 10.5 and not found["ada"]["waiting"]
        assert found["bob"]["test-total"] == 1 and found["bob"]["total"] == 8
    page = (own / "feedback" / "ada" / "bare" / "bare.html").read_text()
    assert "10.5 of 11 points" in page and "A &lt;good&gt; answer." in page
    assert lines(own / "grades.csv")["ada"]["by_hand"] == "1.5"
    assert "Marked by hand" in (own / "feedback" / "bob" / "bare" / "bare.html").read_text()


def test_a_better_submission_replaces_the_automatic_marks(own, hand_in, right):
    hand_in("ada", {})
    grade.grade(own)
    assert scores(own)["ada"]["total"] == 0
    hand_in("ada", right)
    grade.grade(own)
    assert scores(own)["ada"]["total"] == 9


def test_late_submissions_cost_by_days_begun_never_more_than_the_most(own, hand_in, right):
    (own / "course.yaml").write_text("due: {bare: 2027-01-15 18:00 +01:00}\nlate: {per_day: 0.1, most: 0.25}\n")
    hand_in("ada", right, "2027-01-15 17:10:00 UTC")  # ten minutes: grace
    hand_in("bob", right, "2027-01-15 17:20:00 UTC", variant="1")
    hand_in("cyd", right, "2027-01-16 17:20:00 UTC")
    hand_in("dan", right, "2027-02-16 17:20:00 UTC")
    hand_in("eve", right, "no time at all")
    hand_in("fay", right)
    grade.grade(own, jobs=2)
    found = {name: row["total"] for name, row in scores(own).items()}
    assert found == pytest.approx({"ada": 9, "bob": 8.1, "cyd": 7.2, "dan": 6.75, "eve": 9, "fay": 9})
    assert "being late" in (own / "feedback" / "dan" / "bare" / "bare.html").read_text()


def test_a_fault_of_our_own_is_told_and_stops_nobody(own, hand_in, right, monkeypatch, capfd):
    hand_in("ada", right)
    hand_in("bob", right, variant="1")
    real = Judge.grade

    def fails(self, read, lane, variant=None):
        if variant == "1":
            raise RuntimeError("a bug")
        return real(self, read, lane, variant)

    monkeypatch.setattr(Judge, "grade", fails)
    assert cli.main(["course", "grade", str(own), "--jobs", "1"]) == 1
    out, err = capfd.readouterr()
    assert "bob, bare: could not be graded (RuntimeError: a bug)" in err and "2 submissions" in out
    assert scores(own)["ada"]["total"] == 9 and "bob" not in scores(own)


# ---- the commands


def test_grade_one_and_try_from_the_command_line(toy, write, right, tmp_path, capfd):
    path = write(toy, tmp_path / "my bare.ipynb", {**right, "total": "def total(x):\n    print('seen')\n    return 0"})
    assert cli.main(["course", "grade-one", str(path), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["earned"] == 7 and found["points"] == 9 and found["chapter"] == "bare"
    assert cli.main(["course", "grade-one", str(path)]) == 0
    assert "7 of 9" in capfd.readouterr().out
    other = path.rename(tmp_path / "homework.ipynb")
    assert cli.main(["course", "grade-one", str(other), "--variant", "1"]) == 0
    assert "7 of 9" in capfd.readouterr().out
    assert cli.main(["course", "try", str(other)]) == 1
    out = capfd.readouterr().out
    assert (
        "passes  scale" in out
        and "FAILS   total: AssertionError was raised: assert total(np.ones(2)) == 2" in out
        and "| seen" in out
    )
    assert cli.main(["course", "try", str(write(toy, tmp_path / "bare.ipynb", right))]) == 0
    assert cli.main(["course", "try", str(write(toy, tmp_path / "bare.ipynb"))]) == 0
    assert "open    scale" in capfd.readouterr().out


def test_check_from_the_command_line(toy, capfd, monkeypatch):
    assert cli.main(["course", "check", "bare"]) == 0
    assert "1 assignments grade as they should" in capfd.readouterr().out
    monkeypatch.setattr(Judge, "_part", lambda *a: "nothing is right")
    assert cli.main(["course", "check"]) == 1
    assert "the solution of 'scale' loses 'any'" in capfd.readouterr().out


def test_try_needs_neither_nbgrader_nor_the_sources_of_assignments(toy, write, right, tmp_path):
    """What a student has: the library, and a notebook."""
    path = write(toy, tmp_path / "bare.ipynb", right)
    code = (
        "import sys\nsys.modules['nbgrader'] = sys.modules['jupytext'] = None\n"
        f"from traindyn.run import cli\nsys.exit(cli.main(['course', 'try', {str(path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
                          env={**__import__("os").environ, "TRAINDYN_ROOT": str(tmp_path)})  # fmt: skip
    assert done.returncode == 0 and "passes  scale" in done.stdout, done.stderr


MISTAKES = [
    ("due: {bare: soon}", "is no date"),
    ("due: [1]", "expected"),
    ("late: {per_day: x}", "late.per_day is 'x'"),
    ("late: {pr_day: 1}", "did you mean 'per_day'?"),
    ("dew: {}", "expected 'due' and 'late'"),
    ("- 1", "expected 'due' and 'late'"),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES)
def test_mistakes_in_the_settings_are_told(own, text, said):
    (own / "course.yaml").write_text(text)
    with pytest.raises(InputError, match=re.escape(said)):
        course.load(own)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name\nada\n", "no column 'id'"),
        ("id,varaint\nada,1\n", "did you mean 'variant'?"),
        ("id\nada\nada\n", "stands there twice"),
        ("id\n../ada\n", "is no id"),
        ("id\n..\n", "is no id"),
        ("id,first_name\n,Ada\n", "line 2: '' is no id"),
        ("", "no column 'id'"),
        ("id,variant\nada,7\n", "unknown variant of the assignment bare '7'"),
    ],
)
def test_mistakes_in_a_roster_are_told_and_nothing_is_built(toy, tmp_path, text, said):
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(InputError, match=re.escape(said)):
        build.build(tmp_path / "c1", roster=tmp_path / "r.csv")
    assert not (tmp_path / "c1").exists()


def test_the_isolation_that_is_given_is_printed(own, hand_in, right, capfd):
    hand_in("ada", right)
    assert cli.main(["course", "grade", str(own), "--jobs", "1"]) == 0
    out = capfd.readouterr().out
    for line in lanes.isolation([assignment.files.project_root() / "chapters", own]):
        assert line in out


def test_nbgrader_finds_its_commands_without_an_activated_environment(monkeypatch):
    monkeypatch.setenv("PATH", os.defpath)
    gradebook.find_commands()
    once = os.environ["PATH"]
    gradebook.find_commands()
    assert Path(shutil.which("alembic")).parent == Path(sys.executable).parent and os.environ["PATH"] == once
