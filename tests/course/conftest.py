"""A project with one chapter and the toy assignment, a worker for all tests, and notebooks as students write them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from traindyn.run.course import assignment, grade, lanes, release
from traindyn.run.course.lanes import Lane

TOY = Path(__file__).parent / "toy"


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory):
    """The root of a project whose only chapter is `bare`, with the toy assignment and its wrong answers."""
    root = tmp_path_factory.mktemp("toy") / "project"
    folder = root / "chapters" / "bare"
    folder.mkdir(parents=True)
    (folder / "bare.md").write_text("# Bare\n")
    (root / "_toc.yml").write_text("chapters:\n  - file: chapters/bare/bare\n")
    for name in ("assignment.md", "assignment.py"):
        shutil.copy(TOY / name, folder)
    (root / "tests" / "course").mkdir(parents=True)
    shutil.copy(TOY / "answers.py", root / "tests" / "course" / "bare_answers.py")
    return root


@pytest.fixture
def toy(toy_root, monkeypatch):
    """The toy assignment, in its project."""
    monkeypatch.setenv("TRAINDYN_ROOT", str(toy_root))
    return assignment.load("bare")


@pytest.fixture(scope="session")
def lane():
    """A worker behind its wall."""
    with Lane() as made:
        yield made


@pytest.fixture
def write():
    """A function that writes a notebook: the release version with answers (grade id -> source) in their cells."""

    def notebook(made, path: Path, answers=None, change=None, variant="0", encoding="utf-8") -> Path:
        book = json.loads(__import__("nbformat").writes(release.notebook(made, variant)))
        for cell in book["cells"]:
            name = cell["metadata"].get("nbgrader", {}).get("grade_id")
            if name in (answers or {}):
                cell["source"] = answers[name]
        if change is not None:
            book = change(book) or book
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(json.dumps(book, ensure_ascii=False).encode(encoding, "replace"))
        return path

    return notebook


@pytest.fixture
def right(toy):
    """The model solutions, as a student would write them."""
    clean = {name: toy.solution(name).replace("### BEGIN SOLUTION", "").replace("### END SOLUTION", "")
             for name in toy.spec.questions}  # fmt: skip
    return {**clean, "why": "Because of the law of large numbers."}


class Borrowed:
    """A worker of the session: whoever closes it gives it back."""

    pool: list[Lane] = []

    def __init__(self) -> None:
        self.own = self.pool.pop() if self.pool else Lane()

    def __getattr__(self, name):
        return getattr(self.own, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        if self.own is not None:
            self.pool.append(self.own)
            self.own = Lane()  # not started until it is used


@pytest.fixture
def kept_workers(monkeypatch):
    """Workers are kept from one command to the next: starting one imports torch."""
    monkeypatch.setattr(lanes, "Lane", Borrowed)
    monkeypatch.setattr(grade, "Lane", Borrowed)


@pytest.fixture(scope="session", autouse=True)
def _end_of_kept_workers():
    yield
    for one in Borrowed.pool:
        one.close()
