"""Networks, tasks and runs of the chapter on catapults: what its figures train, and what they look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from traindyn.errors import choose
from traindyn.learn import data, models
from traindyn.learn.models import Network
from traindyn.learn.train import Cyclical, Stop, fit
from traindyn.measure import probes
from traindyn.measure.spectrum import network_critical_lr, relative

BIASES = {"none": False, "zero": "zero", "normal": "normal"}
NET_NAMES = {
    "fcn": "fully connected, depth {depth}, width {width}",
    "torch": "fully connected, PyTorch's parameterisation, depth {depth}, width {width}",
    "cnn": "convolutional, depth {depth}, {width} channels",
    "wrn": "residual network of depth 10, {base} channels widened {width} times, no normalisation",
    "vit": "vision transformer of depth {depth}, {width} features",
    "myrtle": "Myrtle network of depth 5, {width} channels",
}
BATCHES = probes.coming_batch()  # a look for `follow` that asks only for the coming batch's critical rate
SPACES = (1, 2, 5, 10)  # numbers of leading directions that are told apart
DIVERGED = 1e6  # a training loss above this has diverged
FOLLOWED = ["step", "loss", "lr", "rate", "ratio", "start", "critical", "batch_critical", "norm", "defect", "within"]
TRACED = 100  # runs of at least so many steps are worth recording as a graph first
NAMES = {
    "patches": "patches of two photographs (china, flower)",
    "digits": "digits of scikit-learn",
    "mnist5k": "MNIST (5000 images)",
    "cifar10_lossless4k": "CIFAR-10",
    "svhn_test_part": "SVHN (part of the test set)",
    "rank2": "the rank-2 regression task",
}


@lru_cache(maxsize=32)
def _images(name: str, classes: tuple[Any, ...], n: int, side: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return n images in float64 and their labels: -1 and 1 for two classes, one-hot for more. Not to be changed."""
    many = len(classes) > 2
    found = data.load(
        name,
        classes=list(classes) or None,
        n_train=n,
        n_test=0,
        seed=seed,
        labels="onehot" if many else "pm1",
        size=side,
        dtype=torch.float64,
    )
    return found.X_train, found.y_train


def task(seed: int, size: Any, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return the training set of one seed: inputs (n, ...) and targets.

    Args:
        seed: fixes which samples are drawn.
        size: attributes data ("rank2" or an image set), n; dim (of rank2), or classes and side; net decides whether
            images are flattened.
        dtype: of inputs and targets.

    Returns:
        X (n, d) or (n, channels, h, w), and y (n,) or (n, k): the caller's own.
    """
    if size.data == "rank2":
        X, y, _ = data.polynomial(2, size.n, size.dim, 0.1, seed, torch.float64)
        return X.to(dtype), y.to(dtype)
    X, y = (t.clone() for t in _images(size.data, tuple(size.classes), size.n, size.side, seed))
    return (X.flatten(1) if size.net in ("fcn", "torch") else X).to(dtype), y.to(dtype)


def network(size: Any, X: Tensor, y: Tensor, bias: str = "none") -> Network:
    """Return the network of an experiment, not yet drawn.

    Args:
        size: attributes net (one of `NET_NAMES`) and width, and what that net asks for: depth, base.
        X, y: a training set of `task`; only shapes matter.
        bias: of the hidden layers, in the NTK parameterisation: "none", "zero" or "normal".
    """
    choose("net", size.net, NET_NAMES)
    choose("bias", bias, BIASES)
    shape, out, law = tuple(X.shape[1:]), 1 if y.ndim == 1 else y.shape[1], BIASES[bias]
    if size.net == "fcn":
        return models.FCN(shape[0], size.width, size.depth, out, bias=law)
    if size.net == "torch":
        return models.FCN(
            shape[0], size.width, size.depth, out, "relu", "standard", bias="torch", output_bias="torch", init="torch"
        )
    if size.net == "cnn":
        return models.CNN(shape, size.width, size.depth, out, bias=law)
    if size.net == "wrn":
        return models.WideResNet(shape, out, 10, size.width, base=size.base, bias=law)
    if size.net == "myrtle":
        return models.Myrtle5(shape, out, size.width, bias=law)
    return models.ViT(shape, out, size.depth, size.width, heads=4)


def start(seed: int, size: Any, bias: str, dtype: torch.dtype) -> tuple[Network, Tensor, Tensor]:
    """Return network and training set of one seed as `follow` starts from them, on the CPU."""
    X, y = task(seed, size, dtype)
    return models.drawn(network(size, X, y, bias), seed, dtype), X, y


def over_scalar(seeds: Sequence[int], size: Any, bias: str, dtype: torch.dtype) -> pd.Series:
    """Return kn/||K_kn|| over k n/||K|| at the start: of k outputs, and of one output on the same images.

    Args:
        seeds: one pair of fully connected networks each.
        size: attributes of `task` (with k classes) and `network`.
        bias, dtype: as in `follow`.

    Returns:
        Series over the seeds.
    """
    found = {}
    for seed in seeds:
        many, X, y = start(seed, size, bias, dtype)
        one = network_critical_lr(
            models.drawn(models.FCN(X.shape[1], size.width, size.depth, bias=BIASES[bias]), seed, dtype), X
        )
        found[seed] = (network_critical_lr(many, X, loss="mse_entries") / (y.shape[1] * one)).item()
    return pd.Series(found)


def follow(
    size: Any,
    rates: float | Sequence[tuple[int, float]] | Mapping[int, float] | Cyclical,
    *,
    seeds: Sequence[int],
    dtype: torch.dtype,
    device: Any = "cpu",
    bias: str = "none",
    every: int = 1,
    until: float | None = None,
    look: Any = None,
    record: int = 1,
) -> pd.DataFrame:
    """Train once per seed at rates that are multiples of the critical rate at that seed's start.

    Args:
        size: attributes of `task` and `network`, and steps, batch (0: full batch).
        rates: a multiple of eta_crit(w_0); [(step, multiple), ...], the first at step 0, each from its step on; {seed:
            multiple}; or `Cyclical` between two `relative` rates.
        seeds: one run each; a seed fixes data, initial weights and the order of batches. Without seeds nothing is
            trained, and the table has no rows.
        dtype, device: of the training.
        bias: as in `network`.
        every: steps between two looks at the kernel; 0: at the start and the end only.
        until: training loss at which to stop; None: only at divergence, a loss beyond `DIVERGED`.
        look: what is recorded beside the loss, in place of `measure.probes.kernel`.
        record: steps between two losses on the whole training set. Rises are counted step by step, so 1.

    Returns:
        One row per seed and recorded step: the columns of `Run.frame` and of `measure.probes.kernel`, start (eta_crit
        at w_0), ratio (rate / start) and outcome.
    """
    if not seeds:
        return rows_of([], *FOLLOWED, *(f"{part}_{s}" for part in ("lead", "rest") for s in SPACES), "outcome")
    X, y = task(seeds[0], size, dtype)
    first, schedule = _plan(rates)
    run = fit(
        network(size, X, y, bias),
        lambda seed: task(seed, size, dtype),
        loss="mse" if y.ndim == 1 else "mse_entries",
        lr=first,
        schedule=schedule,
        batch_size=size.batch or None,
        steps=size.steps,
        stop=Stop(loss=until, diverged=DIVERGED),
        probes={"kernel": look or probes.kernel(SPACES, every, [0], diverged=DIVERGED)},
        record=record,
        seeds=list(seeds),
        dtype=dtype,
        device=device,
        progress=False,
        trace=size.steps >= TRACED,
    )
    frame = run.frame.merge(run.summary[["run", "outcome"]], on="run")
    frame = frame.rename(columns={"reference": "start"})
    frame["ratio"] = frame["rate"] / frame["start"]
    return frame


def rows_of(rows: Sequence[Mapping[str, Any]], *columns: str) -> pd.DataFrame:
    """Return rows as a table with a column seed and these; no rows, for runs that were left out, are one of numbers."""
    frame = pd.DataFrame(list(rows), columns=["seed", *columns])
    return frame if rows else frame.astype(float)


def _plan(rates: Any) -> tuple[Any, Any]:
    """Return what `fit` calls lr and schedule."""
    if isinstance(rates, Cyclical):
        return rates.low, rates
    if isinstance(rates, Mapping):
        return {seed: relative(ratio) for seed, ratio in rates.items()}, None
    if isinstance(rates, int | float):
        return relative(rates), None
    (_, first), *later = rates
    return relative(first), [(step, relative(ratio)) for step, ratio in later] or None


def cycle(low: float, high: float, period: int) -> Cyclical:
    """Return rates for `follow`: triangular between two multiples of eta_crit(w_0)."""
    return Cyclical(relative(low), relative(high), period)


def follower(seeds: Sequence[int], dtype: torch.dtype, device: Any, bias: str) -> Callable[..., pd.DataFrame]:
    """Return `follow` with seeds, precision, device and bias law filled in; each can still be named otherwise."""
    return partial(follow, seeds=seeds, dtype=dtype, device=device, bias=bias)


def about(frame: pd.DataFrame, size: Any) -> str:
    """Say for a caption what was trained: data, network, samples, batch, rates absolute and relative, seeds."""
    first = frame[frame["step"] == 0]
    rate, start = first["rate"], first["start"]
    changing = bool((frame.groupby("seed")["rate"].nunique() > 1).any())
    batch = f"batches of {size.batch}" if size.batch else "full batches"
    data_set = NAMES.get(size.data, size.data)
    if size.data == "rank2":
        data_set += f" in {size.dim} dimensions"
    else:
        data_set += f" at {size.side}x{size.side}, classes {', '.join(map(str, size.classes))}"
    gone = sorted(frame.loc[frame["outcome"] == "diverged", "seed"].unique()) if "outcome" in frame else []
    return (
        f"{data_set[:1].upper()}{data_set[1:]}; {size.n} samples, {batch}; {NET_NAMES[size.net].format(**vars(size))}; "
        f"$\\eta$ = {rate.min():.3g} to {rate.max():.3g}{' at first' * changing}, "
        f"$n/\\|K\\|$ = {start.min():.3g} to {start.max():.3g} at the start; "
        f"seeds {frame['seed'].min()} to {frame['seed'].max()}"
        f"{', of which diverged: ' + ', '.join(map(str, gone)) if gone else ''}."
    )


def variant(size: Any, **changes: Any) -> SimpleNamespace:
    """Return sizes with some of them changed or added."""
    return SimpleNamespace(**{**vars(size), **changes})
