"""Training many students at once against one nn.Module after the other: python bench/teacher.py

The common setting of the source (100 inputs, 50 outputs, 20 teachers, batch 16, float64), six seeds. The loop is what
one would write: an nn.Sequential per seed, MSE by autograd, torch's SGD, the same batches. CPU seconds of this
process on one thread, per step and seed; wanted: 10 times fewer at 1x, 5 times fewer at 10x.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from traindyn.studies.student_teacher import students, teachers

SEEDS = range(6)
D, M, C, BATCH, LR = 100, 20, 50, 16, 0.01


def one_by_one(start: students.Nets, batches: list[tuple[Tensor, Tensor]]) -> list[nn.Module]:
    """Train one module per seed by automatic differentiation."""
    trained = []
    for run in range(start.runs):
        first, second = (nn.Linear(*W.shape[1:], dtype=W.dtype) for W in start.weights)
        model = nn.Sequential(first, nn.ReLU(), second)
        with torch.no_grad():
            for layer, W, b in zip((first, second), start.weights, start.biases, strict=True):
                layer.weight.copy_(W[run].T)
                layer.bias.copy_(b[run, 0])
        optimizer = torch.optim.SGD(model.parameters(), LR)
        for X, y in batches:
            loss = (model(X[run]) - y[run]).square().sum(1).mean() / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        trained.append(model)
    return trained


def main() -> None:
    """Print one line per width."""
    torch.set_num_threads(1)
    teacher = teachers.two_layer(SEEDS, D, M, C, 1.0)
    print(f"{'width':>6}{'loop, us':>11}{'together, us':>14}{'ratio':>8}{'gap':>10}")
    for factor, steps in ((1, 600), (2, 400), (5, 300), (10, 200)):
        start = students.students(SEEDS, [D, factor * M, C])
        draw = students.online(teacher, SEEDS, BATCH, 1.5)
        X, y = draw(slice(0, len(SEEDS)), 0, steps)
        best = [float("inf"), float("inf")]
        for _ in range(3):
            begin = time.process_time()
            modules = one_by_one(start, list(zip(X, y, strict=True)))
            best[0] = min(best[0], time.process_time() - begin)
            nets = start.to(torch.float64)
            begin = time.process_time()
            students.train(
                nets,
                lambda runs, first, count, X=X, y=y: (X[first : first + count, runs], y[first : first + count, runs]),
                steps,
                LR,
                lambda net, runs, step: {"none": net.biases[0]},
                [steps],
            )
            best[1] = min(best[1], time.process_time() - begin)
        gap = max(float((m[0].weight.T - W).abs().max()) for m, W in zip(modules, nets.weights[0], strict=True))
        each = [1e6 * seconds / steps / len(SEEDS) for seconds in best]
        print(f"{factor:5}x{each[0]:11.0f}{each[1]:14.0f}{each[0] / each[1]:7.1f}x{gap:10.1e}")


if __name__ == "__main__":
    main()
