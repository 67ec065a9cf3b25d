"""`fit`: train a network, or many at once, over seeds and learning rates, with probes on the way."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from traindyn import losses
from traindyn.compute import generator, pick_device, strict_float32
from traindyn.errors import InputError, choose
from traindyn.learn.train.loop import Outcome, Stop
from traindyn.learn.train.optim import Rule
from traindyn.learn.train.parallel import Job, Spec, Trained, size, train
from traindyn.learn.train.probes import Probe
from traindyn.learn.train.result import Models, Run
from traindyn.learn.train.sampling import Source
from traindyn.learn.train.schedules import Multiple, Plan, plans, ratio

VARY = ("init", "data", "order")


@torch.inference_mode(False)
def fit(
    model: nn.Module | Callable[[int], nn.Module],
    X: Any,
    y: Tensor | None = None,
    *,
    loss: losses.Loss = "mse",
    optimizer: str | dict[str, Any] = "sgd",
    lr: Any,
    schedule: Any = None,
    batch_size: int | None = None,
    replacement: bool = False,
    steps: int,
    stop: Any = None,
    probes: dict[str, Probe] | None = None,
    seeds: Sequence[int] | None = None,
    vary: Iterable[str] = VARY,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
    record: int | Sequence[int] | None = None,
    seed_axis: bool | None = None,
    together: int | None = None,
    trace: bool = True,
    checkpoint: str | Path | None = None,
) -> Run:
    """Train one run per seed and learning rate by gradient descent, SGD or one of torch's optimisers.

    Args:
        model: a network with `reset(generator)`, or a function seed -> network. A given network is copied, not
            changed; without `seeds` it starts from the weights it has.
        X, y: tensors shared by all runs, (n, ...) and targets; or both with a leading axis over the seeds; or
            X = data(seed) -> (X, y), once per seed; or X = stream(generator, seed) -> (X, y), afresh for every update.
        loss: a name of `losses.LOSSES`, or a callable (f, y) -> scalar tensor.
        optimizer: "sgd", "momentum" (0.9), "rmsprop", "adagrad", "adadelta", "adam", or
            {"name": ..., hyperparameters by torch's names}.
        lr: a number, a list (every rate x every seed is a run), {seed: rate or list of rates}, a function State ->
            number, asked once per run when it enters, or a multiple of the run's own reference
            (`measure.spectrum.relative`), asked once per run at its initial weights.
        schedule: None; [(step, rate), ...], rates as for `lr`; `Cyclical`; or a function State -> rate, asked before
            every update (every k-th, if it has an attribute `every` = k).
        batch_size: samples per update; None: all of them. Batches have equal size: without replacement the
            n mod batch_size samples left over sit an epoch out.
        replacement: draw batches with replacement.
        steps: number of updates, >= 0.
        stop: None, a training loss at which to stop, a function State -> truth value, or `Stop`; looked at in
            recorded steps. A run whose loss is no longer finite has the outcome "diverged".
        probes: {name: Probe}.
        seeds: seeds of the runs; None: a single run with seed 0. A seed fixes the initial weights, the data and the
            order of batches through three independent generators.
        vary: which of "init", "data", "order" vary with the seed; the others are those of the first seed.
        dtype: of weights and data; None: that of X (float32 if X is not floating).
        device: None: that of X.
        progress: show a bar on a terminal (never in a notebook).
        record: steps between two losses on the whole training set, or a list of steps; None: every step for full
            batches, else the probes' steps (without probes: once an epoch). First and last step always have one; rows
            that only a probe asks for are NaN there, which saves passes over large training sets (record=0).
        seed_axis: whether X and y have a leading axis over the seeds; None: as their shapes suggest.
        together: how many runs train at once; None: as many as pay on this device; 1: one after the other.
        trace: record a step's operations once and replay them; False for a model or loss whose Python code changes
            from step to step.
        checkpoint: a folder; every minute the state is written there, and a training that finds its own state there
            goes on from it, to the same trajectory (bit by bit on a CPU). None: nothing is written.

    Returns:
        the record of all runs, in the order seed by seed, rate by rate.

    Raises:
        InputError: the settings do not fit one another.
    """
    rule, stop = Rule.of(optimizer), Stop.of(stop)
    losses.check(loss)
    vary = [choose("what varies with the seed", word, VARY) for word in vary]
    steps = _whole("steps", steps, 0)
    batch_size = None if batch_size is None else _whole("batch_size", batch_size, 1)
    together = None if together is None else _whole("together", together, 1)
    if seeds is not None and (isinstance(seeds, str) or not isinstance(seeds, Iterable)):
        raise InputError(f"seeds: expected a list of integers, got {seeds!r}")
    given = [0] if seeds is None else [_whole("seeds", seed, None) for seed in seeds]
    if not given or len(set(given)) != len(given):
        raise InputError(f"seeds: expected at least one, all different, got {given}")
    own = {word: given if word in vary else [given[0]] * len(given) for word in VARY}
    source = Source(X, y, own["data"], seed_axis)
    if source.streams and batch_size is not None:
        raise InputError("batch_size: expected None for a stream; the stream decides how much it returns")
    first_X, first_y = source.of(0)
    device = torch.as_tensor(first_X).device if device is None else pick_device(device)
    if dtype is None:
        dtype = first_X.dtype if torch.as_tensor(first_X).is_floating_point() else torch.float32
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"dtype: expected float32 or float64, got {dtype}; convert X, or give dtype=torch.float32")
    specs = [Spec(index, seed, plan) for index, seed in enumerate(given) for plan in plans(lr, schedule, seed)]
    job = Job(
        build=_builder(model, seeds is not None, own["init"], dtype),
        source=source,
        order_seeds=own["order"],
        loss=loss,
        rule=rule,
        stop=stop,
        probes={name: Probe.of(name, probe) for name, probe in (probes or {}).items()},
        steps=steps,
        batch_size=batch_size,
        replacement=replacement,
        record=record,
        dtype=dtype,
        device=device,
        trace=trace,
    )
    at_once = size(job, specs, together)
    shown = tqdm(total=len(specs) * steps, unit="step", disable=None if progress else True, leave=False)
    with strict_float32(), shown as bar:
        trained = train(job, specs, at_once, bar.update, Path(checkpoint) if checkpoint else None)
    meta = {
        "loss": loss if isinstance(loss, str) else getattr(loss, "__name__", "callable"),
        "optimizer": {"name": rule.name, **rule.hyper},
        "steps": steps,
        "batch_size": batch_size,
        "replacement": replacement,
        "dtype": str(dtype).removeprefix("torch."),
        "device": device.type,
        "together": max(len(part.specs) for part in trained),
        "apart": job.notes,
        "traced": not any(passes.eager for _, passes in job.passes),
        "eager": "; ".join(passes.eager for _, passes in job.passes if passes.eager),
        "seeds": given,
        "vary": vary,
        "lr": _said(lr),
        "schedule": _said(schedule),
        "stop": {
            "loss": stop.loss,
            "diverged": stop.diverged if math.isfinite(stop.diverged) else None,
            "when": _said(stop.when),
        },
        "record": record if record is None or isinstance(record, int) else list(record),
        "torch": torch.__version__,
    }
    return gather(trained, meta)


def _builder(
    model: nn.Module | Callable[[int], nn.Module], drawn: bool, init_seeds: list[int], dtype: torch.dtype
) -> Callable[[int], nn.Module]:
    """Return the function position of a seed -> freshly drawn network.

    Args:
        model: as in `fit`.
        drawn: seeds were given, so a network with `reset` draws its weights from them.
        init_seeds: the initialisation seed of every position.
        dtype: of the weights, from the draw on: rounding them to float32 first would move a float64 trajectory.
    """
    if not isinstance(model, nn.Module):
        if not callable(model):
            raise InputError(f"model: expected a network or a function seed -> network, got {type(model).__name__}")
        return lambda index: _called(model, init_seeds[index], dtype)
    if drawn and not hasattr(model, "reset") and len(set(init_seeds)) > 1:
        raise InputError(
            "model: a network without reset(generator) cannot start from several seeds; give a function "
            "seed -> network, or vary=('data', 'order')"
        )

    def build(index: int) -> nn.Module:
        network = copy.deepcopy(model).to(dtype)
        if drawn and hasattr(network, "reset"):
            network.reset(generator(init_seeds[index], "init"))
        return network

    return build


def _called(model: Callable[[int], nn.Module], seed: int, dtype: torch.dtype) -> nn.Module:
    """Return model(seed), built with `dtype` as torch's default."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        network = model(seed)
    finally:
        torch.set_default_dtype(before)
    if not isinstance(network, nn.Module):
        raise InputError(f"model: the function returned {type(network).__name__}; expected a torch.nn.Module")
    return network


def _whole(name: str, value: Any, least: int | None) -> int:
    """Return a whole number as int, or refuse it."""
    fine = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not fine or least is not None and value < least:
        wanted = "a whole number" if least is None else f"a whole number, at least {least}"
        raise InputError(f"{name}: expected {wanted}, got {value!r}")
    return int(value)


def _said(value: Any) -> Any:
    """Return a setting as `Run.meta` keeps it: numbers as they are, the rest in words."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _said(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_said(item) for item in value]
    return getattr(value, "__qualname__", None) or repr(value)


def gather(trained: list[Trained], meta: dict[str, Any]) -> Run:
    """Return the record of runs that trained in chunks, in their order."""
    frames, summary, templates = [], [], []
    pieces: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = []
    for part in trained:
        outcome, before = part.outcome, len(summary)
        frame, arrays, times = outcome.recorder.table(
            outcome.ends, np.asarray([word == "diverged" for word in outcome.words]), outcome.end_loss
        )
        frame["run"] += before
        last_loss = frame.groupby("run")["loss"].agg(lambda values: values.iloc[-1])
        for row, spec in enumerate(part.specs):
            run = before + row
            own = {"run": run, "seed": spec.seed, "lr": float(outcome.start_rates[row])}
            own |= {"lr_ratio": ratio(spec.plan.start)} | _rates(spec.plan, outcome, row)
            own |= {"outcome": outcome.words[row], "steps": int(outcome.ends[row]), "loss": float(last_loss[run])}
            summary.append(own | {"wall": outcome.wall / len(part.specs)})
            templates.append(part.stack.module)
        frames.append(frame)
        pieces.append((arrays, times))
    table = pd.DataFrame(summary)
    frame = pd.concat(frames, ignore_index=True)
    labels = table[["run", "seed", "lr", "lr_ratio"]]
    rest = [name for name in frame.columns if name not in labels.columns]
    frame = labels.merge(frame, on="run", how="right")[[*labels.columns, *rest]]
    if "reference" in table:
        frame["reference"] = frame["run"].map(table["reference"])
    counts = [len(part.specs) for part in trained]
    arrays, times = _join(pieces, counts)
    weights = {
        name: torch.cat([{**part.stack.params, **part.stack.fixed}[name] for part in trained])
        for name in (*trained[0].stack.params, *trained[0].stack.fixed)
    }
    return Run(frame, table, arrays, times, Models(templates, weights), meta, weights)


def _rates(plan: Plan, outcome: Outcome, row: int) -> dict[str, float]:
    """Return the columns of a run's later rates, as numbers, and of the reference that multiples refer to."""
    found: dict[str, float] = {}
    own = {rate.reference: float(outcome.references[rate.reference][row]) for rate in plan.multiples()}
    for step, rate in plan.changes:
        if isinstance(rate, Multiple):
            found |= {f"rate_{step}": rate.ratio * own[rate.reference], f"ratio_{step}": rate.ratio}
        elif not callable(rate):
            found[f"rate_{step}"] = rate
    return found | ({"reference": next(iter(own.values()))} if own else {})


def _join(
    pieces: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]], counts: list[int]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the chunks' arrays one after another along the run axis, padded with NaN to the longest time axis."""
    names = {name: None for arrays, _ in pieces for name in arrays}
    joined: dict[str, np.ndarray] = {}
    steps: dict[str, np.ndarray] = {}
    for name in names:
        having = [(arrays[name], times[name]) for arrays, times in pieces if name in arrays]
        # a chunk that ended early has a prefix of the others' times
        steps[name] = max((times for _, times in having), key=len)
        like = having[0][0]
        parts = []
        for (arrays, _), count in zip(pieces, counts, strict=True):
            part = np.full((count, len(steps[name]), *like.shape[2:]), np.nan, like.dtype)
            if name in arrays:
                if arrays[name].shape[2:] != like.shape[2:]:
                    raise InputError(f"probe: '{name}' differs in shape between runs; expected the same for all")
                part[:, : arrays[name].shape[1]] = arrays[name]
            parts.append(part)
        joined[name] = np.concatenate(parts)
    return joined, steps
