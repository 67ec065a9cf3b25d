"""Cost of smoothed local elasticity by three routes, as ratios in one run: python bench/elasticity.py

The obvious way takes k fictitious SGD steps one after the other and looks at all points after each of them. The library
takes them side by side (exact at any step size), or reads the limit of a small step off one tangent kernel. CPU seconds
of this process; the k points are images of 14x14 of the chapter's width-8 residual network.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor

from traindyn.compute import generator
from traindyn.learn.models import ResNet
from traindyn.measure import elasticity


def one_after_the_other(model: ResNet, x: Tensor, y: Tensor, lr: float) -> Tensor:
    """Definition 2 as it is written: copy, step, look."""
    with torch.no_grad():
        old = model(x).log_softmax(-1)
    columns = []
    for point, label in zip(x, y, strict=True):
        moved = copy.deepcopy(model)
        optimizer = torch.optim.SGD(moved.parameters(), lr)
        torch.nn.functional.cross_entropy(moved(point[None]), label[None]).backward()
        optimizer.step()
        with torch.no_grad():
            new = moved(x).log_softmax(-1)
        columns.append((new.exp() * (new - old)).sum(-1))
    change = torch.stack(columns, 1)
    return change / change.diagonal()


def cpu_seconds(call: Callable[[], Tensor], repeats: int = 3) -> tuple[float, Tensor]:
    """Return the least CPU time of a few calls, after one that warms up, and the result."""
    result = call()
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        best = min(best, time.process_time() - start)
    return best, result


def main() -> None:
    """Print one line per number of points."""
    torch.set_num_threads(2)
    lr = 1e-3
    print(f"{'points':>7}{'loop, s':>10}{'side by side':>14}{'kernel':>9}{'gap to loop':>13}{'gap of limit':>14}")
    for per_class in (5, 20):
        model = ResNet((1, 14, 14), 3, 8, (1, 1, 1), generator=generator(0, "init")).double()
        x = torch.randn(3 * per_class, 1, 14, 14, generator=generator(1), dtype=torch.float64)
        y = torch.arange(3).repeat_interleave(per_class)
        loop, slow = cpu_seconds(lambda model=model, x=x, y=y: one_after_the_other(model, x, y, lr))
        batched, exact = cpu_seconds(lambda model=model, x=x, y=y: elasticity.s_rel_kl(model, x, x, y, lr))
        kernel, limit = cpu_seconds(lambda model=model, x=x, y=y: elasticity.s_rel_kl_limit(model, x, x, y))
        gap, off = ((exact - slow).abs() / slow).median(), ((limit - slow).abs() / slow).median()
        print(f"{len(x):7}{loop:10.3f}{loop / batched:13.1f}x{loop / kernel:8.1f}x{gap:13.1e}{off:14.1e}")


if __name__ == "__main__":
    main()
