"""Zero gradients of all batches are zero gradients of all samples (Theorem 1): ranks, and students that end flat."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import normal
from traindyn.evidence import table
from traindyn.studies.student_teacher import students as learn
from traindyn.studies.student_teacher import teachers


def batch_ranks(N: int) -> list[int]:
    """Return the rank of the incidence matrix of all batches of size b among N samples, for b = 1, ..., N, exactly.

    Over a prime field rank can only fall, so full rank there is full rank over the rationals.
    """
    ranks = []
    for b in range(1, N + 1):
        rows = np.zeros((len(batches := list(combinations(range(N), b))), N), dtype=np.int64)
        for row, batch in zip(rows, batches, strict=True):
            row[list(batch)] = 1
        ranks.append(_rank_mod(rows, 1_000_003))
    return ranks


def ranks(sizes: Sequence[int] = (6, 8)) -> pd.DataFrame:
    """Return per number of samples N: `rank_missing` (N minus rank, over all b < N) and `rank_whole` (for b = N)."""
    found = {N: batch_ranks(N) for N in sizes}
    rows = [(N, sum(N - rank for rank in row[:-1]), row[-1]) for N, row in found.items()]
    return table(pd.DataFrame(rows, columns=["samples", "rank_missing", "rank_whole"]), "samples")


def _rank_mod(M: np.ndarray, prime: int) -> int:
    M, rank = M.copy() % prime, 0
    for column in range(M.shape[1]):
        found = np.flatnonzero(M[rank:, column])
        if not found.size:
            continue
        M[[rank, rank + found[0]]] = M[[rank + found[0], rank]]
        M[rank] = M[rank] * pow(int(M[rank, column]), -1, prime) % prime
        rest = np.arange(len(M)) != rank
        M[rest] = (M[rest] - M[rest, column : column + 1] * M[rank]) % prime
        rank += 1
    return rank


def train(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Train an under-sized student by full-batch GD and an over-sized one by SGD (Theorem 1).

    Args:
        seeds: one teacher and data set each.
        size: d, m, outputs, n, small, tries (restarts of GD), gd_steps, gd_lr, large, sgd_steps, sgd_lr; flat, the
            largest entry of a full gradient that counts as zero.

    Returns:
        What `flat_ends` returns, with `sgd_fall`, the largest entry of the per-sample g_1, g_2 before SGD over that
        after it.
    """
    teacher = teachers.two_layer(seeds, size.d, size.m, size.outputs, bias=0.0)
    X = normal(seeds, "inputs", size.n, size.d)
    y = teacher(X)

    def look(net: learn.Nets, inputs: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        f = net.layers(inputs)
        g = wanted - f[1]
        hidden = (g @ net.weights[1].mT) * (f[0] > 0)
        grads = [below.mT @ part / size.n for below, part in ((inputs, hidden), (f[0], g))]
        grads += [hidden.mean(1, keepdim=True), g.mean(1, keepdim=True)]
        return {
            "gradient": torch.stack([part.abs().amax((1, 2)) for part in grads]).amax(0),
            "sample": torch.maximum(g.abs().amax((1, 2)), hidden.abs().amax((1, 2))),
        }

    # a GD run may end at a kink, where no gradient exists: restarts, of which those with a flat end count
    widths = [size.d, size.small, size.outputs]
    small = learn.joined([learn.students(seeds, widths, 0.3, f"try-{i}") for i in range(size.tries)])
    again = [part.repeat(size.tries, 1, 1) for part in (X, y)]
    gd, _ = learn.train(
        small,
        lambda runs, first, count: tuple(part[runs].expand(count, -1, -1, -1) for part in again),
        size.gd_steps,
        size.gd_lr,
        lambda net, runs, step: look(net, *(part[runs] for part in again)),
        [size.gd_steps],
    )
    large = learn.students(seeds, [size.d, size.large, size.outputs], 0.3)
    sgd, _ = learn.train(
        large,
        learn.from_set(X, y, seeds, 16),
        size.sgd_steps,
        size.sgd_lr,
        lambda net, runs, step: look(net, X[runs], y[runs]),
        [0, size.sgd_steps],
    )
    ends = pd.DataFrame(
        {"seed": list(seeds) * size.tries, "mean_gradient": gd["gradient"][:, -1], "sample": gd["sample"][:, -1]}
    )
    fall = pd.Series(sgd["sample"][:, 0] / sgd["sample"][:, -1], index=pd.Index(list(seeds), name="seed"))
    return flat_ends(ends, size.flat).assign(sgd_fall=fall)


def flat_ends(ends: pd.DataFrame, flat: float) -> pd.DataFrame:
    """Return how many runs of a seed end flat, and what single samples say there.

    Args:
        ends: one row per run: seed, mean_gradient (largest entry of the full gradient at the end), sample (largest
            entry of the per-sample g_1, g_2 there).
        flat: largest entry of a full gradient that counts as zero.

    Returns:
        Per seed: `flat_runs`, and `flat_sample`, the smallest `sample` of these (inf where there is none).
    """
    known = ends.assign(flat=ends["mean_gradient"] < flat)
    by_seed = known.assign(sample=known["sample"].where(known["flat"], np.inf)).groupby("seed")
    found = by_seed.agg(flat_runs=("flat", "sum"), flat_sample=("sample", "min"))
    return table(found.reset_index())
