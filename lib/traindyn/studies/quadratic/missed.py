"""What the quadratic model misses at large rates: the cubic term, or the change of gates? Ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from traindyn import evidence
from traindyn.compute import Device
from traindyn.studies.quadratic import images, spans


def study(seeds: Sequence[int], sizes: Mapping[str, Any], dtype: torch.dtype, device: Device = "cpu") -> pd.DataFrame:
    """Train networks, and compare their outputs with their Taylor models at the weights where they end.

    Along the network's own path nothing depends on how a Taylor model would have been trained. With a ReLU, what is
    left after the cubic term is the change of gates and nothing else.

    Args:
        seeds: samples and weights.
        sizes: name of a network -> attributes of `images.task` and `images.maker`, and rates, steps.
        dtype, device: of the training.

    Returns:
        One row per network, seed and rate: root mean square of f - f_quad and of f - f_cubic on the test inputs over
        that of f - f_0 (the start); NaN where training diverged.
    """
    rows = []
    for name, size in sizes.items():
        for seed in seeds:
            found = images.task(seed, size, dtype, device)
            make = images.maker(seed, size, found)
            lam, begin = spans.top_eigenvalue(make("f")), make("f").test()
            for rate in size.rates:
                net = make("f")
                lost = spans.train(net, found.y, rate / lam, size.steps).diverged
                f = net.test()
                moved = float((f - begin).square().mean().sqrt())
                gaps = [float((net.seen_as(m).test() - f).square().mean().sqrt()) / moved for m in ("quad", "cubic")]
                rows.append((name, seed, rate, *((np.nan, np.nan) if lost else gaps)))
    return pd.DataFrame(rows, columns=["network", "seed", "rate", "quadratic", "cubic"])


def evidence_of(found: pd.DataFrame) -> pd.DataFrame:
    """Return per seed and network the mean, over rates above 2, of log(missed with / without the cubic term)."""
    high = found[found["rate"] > 2]
    ratio = np.log(high["cubic"] / high["quadratic"])
    part = high.assign(missed=ratio).groupby(["seed", "network"], as_index=False)["missed"].mean()
    return evidence.table(part, "network")


def answers(table: pd.DataFrame) -> dict[str, str]:
    """Return per network whether the cubic term at least halves what is missed: "yes" in every seed, "no" in none."""
    words = {}
    for name, part in table["missed"].groupby(level="network"):
        halves = part <= np.log(0.5)
        words[str(name)] = "yes" if halves.all() else "undecided" if halves.any() else "no"
    return words


def told(table: pd.DataFrame) -> pd.DataFrame:
    """Return the answers as a table: network, mean share that is still missed, whether it is at most half."""
    names = {"two": "two layers, ReLU", "three": "three layers, ReLU", "tanh": "two layers, tanh"}
    means = np.exp(table["missed"].groupby(level="network").mean())
    words = {"yes": "yes, in every seed", "no": "no, in no seed", "undecided": "in some seeds only"}
    rows = [(names.get(name, name), means[name], words[word]) for name, word in answers(table).items()]
    return pd.DataFrame(rows, columns=["network", "missed with the cubic term / without", "at most half of it"])
