"""The same parameters give the same tables, byte by byte, on the CPU of one machine: by hand, in a sweep, and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from traindyn import parameters
from traindyn.run import execute, grid, sweep, tasks

# enough arithmetic for a difference in the order of sums, threads or random numbers to show
CELL = """import torch
generator = torch.Generator().manual_seed(seed)
X = torch.randn(200, 300, generator=generator)
W = torch.randn(300, 100, generator=generator, requires_grad=True)
for _ in range(20):
    loss = (torch.relu(X @ W) @ torch.ones(100) / 100 - X[:, 0]).square().mean()
    (W.grad,) = torch.autograd.grad(loss, W)
    W.data -= 0.5 * W.grad
numbers = [loss.item(), W.square().sum().item(), *torch.linalg.eigvalsh(X.T @ X)[-3:].tolist()]
open("table.csv", "w").write("\\n".join(map(repr, numbers)))"""


def tables(run: Path) -> dict[str, bytes]:
    """Return the tables of a run, byte by byte."""
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*.csv")}


def test_a_run_by_hand_and_in_a_sweep_give_the_same_bytes(bare_book, tmp_path, monkeypatch):
    bare_book(CELL)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # of whoever asks: a kernel has its own
    plain = execute.execute(parameters.resolve("bare", "smoke", ["seed=7"]), tmp_path / "run")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    points = grid.grid("bare", "smoke", parameters.pairs(["seed=7,8"]))
    plan = sweep.plan(points, tmp_path / "sweep")
    assert [tasks.perform(task).status for task in plan.tasks] == ["done", "done"]
    first, second = (tables(task.out) for task in plan.tasks)
    assert first == tables(plain) and set(first) == {"table.csv"} and first != second


@pytest.mark.long
@pytest.mark.parametrize("chapter", parameters.chapters(Path(__file__).resolve().parents[2]))
def test_a_chapter_run_twice_gives_the_same_bytes(chapter, tmp_path):
    resolved = parameters.resolve(chapter, "smoke")
    first, second = (execute.execute(resolved, tmp_path / name) for name in ("first", "second"))
    assert tables(first) == tables(second) and len(tables(first)) > 0
    claims = [(run / "claims.json").read_bytes() for run in (first, second)]
    assert claims[0] == claims[1]
