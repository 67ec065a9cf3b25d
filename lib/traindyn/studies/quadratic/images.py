"""Images, sounds and texts: what is trained in the chapter's figures on data, and the small studies on few examples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn import evidence
from traindyn.compute import Device, in_float64
from traindyn.errors import choose
from traindyn.learn import data
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.quadratic import deep, spans


class Task(NamedTuple):
    """Training and test sets: inputs (n, d) or (n, colours, h, w), targets (n, c)."""

    X: Tensor
    y: Tensor
    X_test: Tensor
    y_test: Tensor


@lru_cache(maxsize=64)
def _load(name: str, classes: tuple[int, ...], n: int, n_test: int, side: int, flat: bool, seed: int) -> data.Dataset:
    return data.load(
        name,
        classes=list(classes) or None,
        n_train=n,
        n_test=n_test,
        seed=seed,
        labels="pm1" if len(classes) == 2 else "onehot",
        size=side or None,
        flatten=flat,
        dtype=torch.float64,
    )


def task(seed: int, size: Any, dtype: torch.dtype, device: Device = "cpu") -> Task:
    """Draw the samples of one seed.

    Args:
        seed: which samples.
        size: attributes data, classes (two: targets -1 and 1; none: all of them, one-hot), n, n_test, side (of images,
            mel bands, words; 0: the default), net.
        dtype, device: of everything.
    """
    found = _load(size.data, tuple(size.classes), size.n, size.n_test, size.side, size.net != "cnn", seed)
    y, y_test = (part[:, None] if part.ndim == 1 else part for part in (found.y_train, found.y_test))
    return Task(*(part.to(dtype).to(device) for part in (found.X_train, y, found.X_test, y_test)))


NETS = ("fc", "cnn", "deep")


def maker(seed: int, size: Any, found: Task):
    """Return a function model -> freshly started model of an experiment: all models of a seed start alike.

    Args:
        seed: of the weights.
        size: attributes net ("fc", "cnn", "deep"), width, activation.
        found: the samples.
    """
    choose("net", size.net, NETS)
    if size.net == "deep":
        return lambda model: deep.ThreeLayer(seed, found.X, size.width, found.X_test, model)
    begin = spans.start if size.net == "fc" else spans.conv_start
    at = begin(seed, found.X, size.width, found.X_test, found.y.shape[1])
    return lambda model: spans.TwoLayer(at, model, size.activation)


def ladder(seeds: Sequence[int], size: Any, dtype: torch.dtype, device: Device = "cpu") -> pd.DataFrame:
    """Train a network and its quadratic model on few examples, over widths and rates (Figures 3.2a and B.4b).

    Args:
        seeds: samples and weights.
        size: attributes of `task` and `maker` but width, and widths, rates (learning rate times lambda_max(K(0))),
        steps.
        dtype, device: of the training.

    Returns:
        One row per seed, model, width and rate: peak over first loss, last over first loss, length of the path,
        relative change of the kernel at the end (`change`), last over first top eigenvalue (`end`).
    """
    rows = []
    for seed in seeds:
        found = task(seed, size, dtype, device)
        for width in size.widths:
            make = maker(seed, size.changed(width=width), found)
            K = make("f").kernel()
            lam = float(torch.linalg.eigvalsh(in_float64(K))[-1])
            for model in ("f", "quad"):
                for rate in size.rates:
                    net = make(model)
                    path = spans.train(net, found.y, rate / lam, size.steps)
                    after = net.kernel()
                    ok = not path.diverged and bool(torch.isfinite(after).all())
                    top = float(torch.linalg.eigvalsh(in_float64(after))[-1]) / lam if ok else np.nan
                    change = float((after - K).norm() / K.norm())
                    peak, last = max(path.loss) / path.loss[0], path.loss[-1] / path.loss[0]
                    rows.append((seed, model, width, rate, peak, last, path.length, change, top))
    names = ["seed", "model", "width", "rate", "peak", "last", "length", "change", "end"]
    return pd.DataFrame(rows, columns=names)


def ladder_slopes(found: pd.DataFrame) -> pd.DataFrame:
    """Return per seed, model and rate what the width does.

    Returns:
        Log-log slopes in the width of `length`, `change` and `peak`; over the widths from 1000 on (all of them if there
        are not two) the change of last over first eigenvalue per decade, `end_slope`, and its largest over its smallest
        value minus 1, `end_spread`; the least step of log10 of the peak from one width to the next, `least_step`.
    """
    rows = []
    for (seed, model, rate), part in found.groupby(["seed", "model", "rate"]):
        slopes = [loglog_slope(part["width"], part[name]).value for name in ("length", "change", "peak")]
        wide = part[part["width"] >= 1000] if (part["width"] >= 1000).sum() > 1 else part
        ends = np.polyfit(np.log10(wide["width"]), wide["end"], 1)[0]
        steps = np.diff(np.log10(part.sort_values("width")["peak"])).min()
        rows.append((seed, model, rate, *slopes, ends, wide["end"].max() / wide["end"].min() - 1, steps))
    names = ["seed", "model", "rate", "length", "change", "peak", "end_slope", "end_spread", "least_step"]
    return evidence.table(pd.DataFrame(rows, columns=names), ["model", "rate"])


def kernel_ends(found: pd.DataFrame) -> pd.DataFrame:
    """Return per seed the mean over widths of last over first top eigenvalue of the network, one case per rate."""
    part = found[found["model"] == "f"].groupby(["seed", "rate"], as_index=False)["end"].mean()
    return evidence.table(part.rename(columns={"end": "end_f"}), "rate")


def largest_rates(seeds: Sequence[int], size: Any, dtype: torch.dtype, device: Device = "cpu") -> pd.DataFrame:
    """Return per seed, model and width the rate times lambda_max(K(0)) from which training diverges, by bisection.

    Args:
        seeds: samples and weights.
        size: as for `ladder`, and rounds (halvings of [1.9, 16]).
        dtype, device: of the training.
    """
    rows = []
    for seed in seeds:
        found = task(seed, size, dtype, device)
        for width in size.widths:
            make = maker(seed, size.changed(width=width), found)
            lam = spans.top_eigenvalue(make("f"))
            for model in ("f", "quad"):
                low, high = 1.9, 16.0 if model == "f" else 6.0
                for _ in range(size.rounds):
                    middle = (low + high) / 2
                    lost = spans.train(make(model), found.y, middle / lam, size.steps, bound=1e5).diverged
                    low, high = (low, middle) if lost else (middle, high)
                rows.append((seed, model, width, (low + high) / 2))
    return evidence.table(pd.DataFrame(rows, columns=["seed", "model", "width", "largest"]), ["model", "width"])
