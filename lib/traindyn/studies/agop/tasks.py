"""The chapter's synthetic tasks: samples of training, validation and test set per seed, with the target's EGOP."""

from __future__ import annotations

from typing import Any

import torch

from traindyn.compute import generator
from traindyn.learn import data
from traindyn.studies.agop.training import Task


def synthetic(seed: int, size: Any, dtype: torch.dtype, scale: float = 1.0) -> Task:
    """Draw a task of the thesis: x ~ N(0, I_d), y = f*(x) + noise N(0, 1), validation and test labels noisy as well.

    Args:
        seed: of all three sets, each from a stream of its own.
        size: attributes rank (2, 3, 4 or 0 for the full-rank target), n, d, noise, n_val, n_test.
        dtype: of everything.
        scale: multiplies all labels.
    """
    rank = size.rank or "full"
    sets = []
    for name, n in (("train", size.n), ("validation", size.n_val), ("test", size.n_test)):
        X, y, target = data.polynomial(rank, n, size.d, size.noise, seed=generator(seed, name), dtype=dtype)
        sets += [X, scale * y]
    return Task(*sets, target.egop(size.d, dtype=dtype))
