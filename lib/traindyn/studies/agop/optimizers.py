"""Seven optimisers on one task: does the alignment of the features go with the test loss (Figure 4.11, Table C.1)?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from traindyn import evidence
from traindyn.studies.agop import tasks, training
from traindyn.studies.agop.relu import network
from traindyn.studies.agop.tables import rows_of

# names of Table C.1 -> names and options of torch.optim, whose defaults fill in what is not printed
RULES = {
    "SGD": ("SGD", {}),
    "GD": ("SGD", {}),
    "SGD+M": ("SGD", {"momentum": 0.9}),
    "Adadelta": ("Adadelta", {}),
    "Adagrad": ("Adagrad", {}),
    "RMSprop": ("RMSprop", {}),
    "Adam": ("Adam", {}),
}


def compare(seeds: Sequence[int], size: Any, dtype: torch.dtype) -> pd.DataFrame:
    """Train one network with every optimiser of a row of Table C.1, until the training loss is below `stop`.

    Args:
        seeds: samples, weights and order.
        size: attributes of `tasks.synthetic`, and width, depth, batch, optimizers (names), rates (one per name), steps
            (epochs at most), gd_steps, stop.
        dtype: of the training.

    Returns:
        One row per seed and optimiser: lr, test, alignment, validation, steps, reached, finite.
    """
    rows = []
    for seed in seeds:
        task = tasks.synthetic(seed, size, dtype)
        for name, lr in zip(size.optimizers, size.rates, strict=True):
            rule, options = RULES[name]
            net = network(seed, size.d, size, dtype)
            whole = name == "GD"
            batch = size.n if whole else size.batch
            run = training.sgd(
                net, task, lr, batch, seed, steps=size.gd_steps if whole else size.steps * (size.n // batch),
                stop=size.stop, every=20 if whole else 0, optimizer=rule, options=options,
            )  # fmt: skip
            rows.append({"seed": seed, "optimizer": name, "lr": lr} | training.result(run, net, task))
    names = ["seed", "optimizer", "lr", "test", "alignment", "validation", "steps", "reached", "finite"]
    return rows_of(rows, names)


def correlations(found: pd.DataFrame, least: int = 6) -> pd.DataFrame:
    """Return per seed the correlations of test loss and alignment over the optimisers that reached the training loss.

    Args:
        found: of `compare`.
        least: with fewer points than this nothing is said (NaN).

    Returns:
        Per seed: rank (Spearman), pearson, inner (Spearman without the two optimisers of extreme alignment), points
        (that reached the loss), every (Spearman over all finite runs, reached or not).
    """
    rows = []
    for seed, part in found.groupby("seed"):
        row = {"seed": seed, "points": float(part["reached"].sum())}
        done = part[part["reached"] == 1].sort_values("alignment")
        enough = len(done) >= least
        row["rank"] = float(spearmanr(done["test"], done["alignment"])[0]) if enough else math.nan
        row["pearson"] = float(np.corrcoef(done["test"], done["alignment"])[0, 1]) if enough else math.nan
        inner = done.iloc[1:-1]
        row["inner"] = float(spearmanr(inner["test"], inner["alignment"])[0]) if enough else math.nan
        ok = part[part["finite"] == 1]
        row["every"] = float(spearmanr(ok["test"], ok["alignment"])[0]) if len(ok) >= least else math.nan
        rows.append(row)
    return evidence.table(rows_of(rows, ["seed", "points", "rank", "pearson", "inner", "every"]))
