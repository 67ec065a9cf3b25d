"""The repetitions of the chapter on catapults: the same pictures on further data, networks and bias laws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from traindyn.studies.catapults.sgd import hessian_against_kernel

DESCENT = ("digits-fcn", "digits-cnn", "wrn", "multiclass-cnn")
MULTI = ("multi-rank2", "multi-cnn")
SGD = ("sgd-rank2", "sgd-digits", "sgd-large", "sgd-myrtle")  # at the chapter's own rate
SGD_RATED = ("sgd-cnn", "sgd-wrn", "sgd-vit")


def runs(
    size: Callable[[str], Any], follow: Callable[..., pd.DataFrame], lr_ratio: float, until: float
) -> dict[str, pd.DataFrame]:
    """Train every repetition; without seeds all tables are there, and have no rows.

    Args:
        size: name of an experiment -> its sizes.
        follow: of `tasks.follower`, with the seeds of the repetitions.
        lr_ratio: the chapter's rate, in units of n/||K(0)||.
        until: training loss at which SGD stops.

    Returns:
        Tables of `tasks.follow` by name: those of the experiments above, fcn-zero (hidden biases that start at zero),
        rank2-bare (no biases), sgd-torch-fast; from-start-cnn looks at the kernel at its ends only; hessian-cnn is of
        `sgd.hessian_against_kernel`.
    """
    found = {name: follow(size(name), size(name).ratio) for name in DESCENT}
    for name in MULTI:
        own = size(name)
        found[name] = follow(own, list(zip(own.times, own.ratios, strict=True)))
    found |= {name: follow(size(name), lr_ratio, until=until) for name in SGD}
    found |= {name: follow(size(name), size(name).ratio, until=until) for name in SGD_RATED}
    found["fcn-zero"] = follow(size("fcn"), lr_ratio, bias="zero")
    found["rank2-bare"] = follow(size("rank2"), size("rank2").ratio, bias="none")
    found["sgd-torch-fast"] = follow(size("sgd-torch"), size("sgd-torch").fast, until=until)
    found["from-start-cnn"] = follow(size("from-start-cnn"), size("from-start-cnn").ratio, every=0)
    found["hessian-cnn"] = hessian_against_kernel(size("hessian-cnn"), size("hessian-cnn").ratio, follow)
    return found
