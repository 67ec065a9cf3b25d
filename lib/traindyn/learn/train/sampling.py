"""What an update sees: the order of mini-batches; data that are shared, one set per seed, or fresh at every step."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from traindyn.compute import chunk_size, generator
from traindyn.errors import InputError

REPLACED_BLOCK = 256  # steps drawn at once with replacement
BLOCK = 128  # updates prepared at once: their samples are drawn on the CPU and moved to the device together


def cast(values: Any, dtype: torch.dtype | None, device: torch.device | str | None) -> Tensor:
    """Return `values` as a tensor on `device`; floating-point ones in `dtype` (None: as they are)."""
    values = torch.as_tensor(values)
    return values.to(device=device, dtype=dtype if values.is_floating_point() else None)


def as_data(name: str, values: Any) -> Tensor:
    """Return a tensor or an array as a tensor outside of inference mode.

    Raises:
        InputError: it is neither.
    """
    if not isinstance(values, Tensor | np.ndarray | list | tuple):
        hint = f"; give {name}.to_numpy()" if hasattr(values, "to_numpy") else ""
        raise InputError(f"{name}: expected a tensor or an array, got {type(values).__name__}{hint}")
    try:
        found = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: cannot be made a tensor ({str(error).splitlines()[0]})") from error
    if not found.ndim or not len(found):
        raise InputError(f"{name}: expected at least one sample along the first axis, got shape {tuple(found.shape)}")
    return found.clone() if found.is_inference() else found


def pair(values: Any) -> tuple[Tensor, Tensor]:
    """Return what a data function gave as inputs and targets of equal number.

    Raises:
        InputError: it is no such pair.
    """
    if not isinstance(values, tuple | list) or len(values) != 2:
        raise InputError(f"X: the function returned {type(values).__name__}; expected (X, y)")
    X, y = as_data("X", values[0]), as_data("y", values[1])
    if len(X) != len(y):
        raise InputError(f"X has {len(X)} samples and y has {len(y)}; expected as many")
    return X, y


class Source:
    """Where the runs of one `fit` take their data from.

    Args:
        X, y: tensors shared by all runs; or both with a leading axis over the seeds; or X = data(seed) -> (X, y);
            or X = stream(generator, seed) -> (X, y), a fresh batch for every update.
        seeds: the data seed of every seed of the fit, in order.
        seed_axis: whether X and y have the leading seed axis; None: they do if both begin with (len(seeds), n),
            there is more than one seed, and X has at least three axes.

    Raises:
        InputError: y is missing or does not fit X, or the seed axis does not fit the seeds.
    """

    def __init__(self, X: Any, y: Any, seeds: list[int], seed_axis: bool | None = None) -> None:
        self.seeds, self.draw, self.given, self.streams = seeds, None, None, False
        if callable(X):
            if y is not None:
                raise InputError("y: expected None where X is a function; it returns (X, y)")
            needed = [p for p in inspect.signature(X).parameters.values() if p.default is p.empty and p.kind in (0, 1)]
            self.given, self.streams, self.per_seed = X, len(needed) >= 2, True
            self.draw = lambda *args: pair(X(*args))
            self._sets: dict[int, tuple[Tensor, Tensor]] = {}
            return
        if y is None:
            raise InputError("y: expected targets beside the tensor X (or X as a function seed -> (X, y))")
        self.X, self.y = as_data("X", X), as_data("y", y)
        if seed_axis is None:
            both = self.X.ndim >= 3 and self.y.ndim >= 2 and self.X.shape[:2] == self.y.shape[:2]
            seed_axis = both and self.X.shape[0] == len(seeds) > 1
        if seed_axis and not self.X.shape[0] == self.y.shape[0] == len(seeds):
            raise InputError(
                f"seed axis: X and y begin with {self.X.shape[0]} and {self.y.shape[0]}, but there are {len(seeds)} "
                "seeds"
            )
        self.per_seed = seed_axis
        axis = 1 if seed_axis else 0
        if self.X.shape[axis] != self.y.shape[axis]:
            raise InputError(f"X has {self.X.shape[axis]} samples and y has {self.y.shape[axis]}; expected as many")

    def of(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the training set of seed number `index` (of a stream: a first batch), uncast."""
        if self.draw is None:
            return (self.X[index], self.y[index]) if self.per_seed else (self.X, self.y)
        seed = self.seeds[index]
        if self.streams:
            return self.draw(generator(seed, "data"), seed)
        if seed not in self._sets:
            self._sets[seed] = self.draw(seed)
        return self._sets[seed]


class Feed:
    """The data of R runs that train together, on their device.

    Args:
        source: where the data comes from.
        indices: for every run, the position of its seed.
        order_seeds: for every run, the seed of its batch order.
        batch_size: samples per update; None: all of them.
        replacement: draw batches with replacement.
        dtype, device: of the data.
    """

    def __init__(
        self,
        source: Source,
        indices: list[int],
        order_seeds: list[int],
        batch_size: int | None,
        replacement: bool,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.dtype, self.device, self.streams, self.runs = dtype, device, source.streams, len(indices)
        self.orders: list[Order] | None = None
        self.generators: list[torch.Generator] = []  # of a stream: one per data seed
        self._start = 0
        if self.streams:
            kept = sorted(set(indices))
            self.generators = [generator(source.seeds[i], "data") for i in kept]
            self._stream_seeds = [source.seeds[i] for i in kept]
            self._draw: Callable[..., tuple[Tensor, Tensor]] = source.draw
            self._row = torch.tensor([kept.index(i) for i in indices], device=device)
            self.shared = len(kept) == 1
            self.block_steps = BLOCK
            return
        sets = [source.of(i) for i in indices]
        self.shared = all(X is sets[0][0] and y is sets[0][1] for X, y in sets) or not source.per_seed
        self.block_steps = BLOCK
        if self.shared:
            self.X, self.y = (cast(part, dtype, device) for part in sets[0])
        else:
            try:
                self.X, self.y = (
                    torch.stack([cast(part, dtype, device) for part in parts]) for parts in zip(*sets, strict=True)
                )
            except RuntimeError as error:
                raise InputError("the seeds' data sets differ in shape; expected the same for all") from error
        self.n = self.X.shape[0 if self.shared else 1]
        if batch_size is not None and batch_size != self.n or replacement:
            unique = sorted(set(order_seeds))
            self.orders = [Order(self.n, batch_size or self.n, replacement, seed) for seed in unique]
            self._row = torch.tensor([unique.index(seed) for seed in order_seeds], device=device)
            self._runs = torch.arange(self.runs, device=device)[:, None]
            self.block_steps = chunk_size(8 * len(unique) * (batch_size or self.n), BLOCK, device)

    @property
    def full_batch(self) -> bool:
        """Whether every update uses the whole training set."""
        return not self.streams and self.orders is None

    def of_run(self, run: int, step: int) -> tuple[Tensor, Tensor]:
        """Return one run's training set (of a stream: the batch of update `step`)."""
        X, y, shared = self.batch(step) if self.streams else (self.X, self.y, self.shared)
        return (X, y) if shared else (X[run], y[run])

    def prepare(self, start: int, stop: int) -> None:
        """Draw what updates start, ..., stop - 1 need and move it to the device.

        A stream is asked in the order of the steps, so blocks must follow one another.
        """
        self._start = start
        if self.streams:
            drawn = [
                [self._draw(rng, seed) for rng, seed in zip(self.generators, self._stream_seeds, strict=True)]
                for _ in range(start, stop)
            ]
            self._X, self._y = (
                cast(torch.stack([torch.stack([pair[part] for pair in row]) for row in drawn]), self.dtype, self.device)
                for part in (0, 1)
            )
        elif self.orders is not None:
            drawn = torch.stack([order.steps(start, stop) for order in self.orders], 1)
            self._indices = drawn.to(self.device, non_blocking=True)

    def indices(self, step: int) -> Tensor | None:
        """Return the samples of update `step`, shape (R, b), or None if it uses all (or streams)."""
        if self.orders is None:
            return None
        return self._indices[step - self._start].index_select(0, self._row)

    def batch(self, step: int) -> tuple[Tensor, Tensor, bool]:
        """Return the batch of update `step`: X, y, and whether all runs share it (else they have a run axis)."""
        if self.streams:
            X, y = self._X[step - self._start], self._y[step - self._start]
            return (
                (X[0], y[0], True)
                if self.shared
                else (X.index_select(0, self._row), y.index_select(0, self._row), False)
            )
        if self.orders is None:
            return self.X, self.y, self.shared
        chosen = self._indices[step - self._start]
        if self.shared and len(self.orders) == 1:
            return self.X.index_select(0, chosen[0]), self.y.index_select(0, chosen[0]), True
        chosen = chosen.index_select(0, self._row)
        if self.shared:
            return self.X[chosen], self.y[chosen], False
        return self.X[self._runs, chosen], self.y[self._runs, chosen], False


class Order:
    """The mini-batches of one seed.

    Without replacement every epoch is a fresh permutation cut into batches of equal size (the n mod b samples left
    over sit that epoch out); with replacement each batch is b independent uniform draws.

    Args:
        n: number of samples.
        batch_size: samples per update b, between 1 and n.
        replacement: draw with replacement.
        seed: fixes the order.

    Raises:
        InputError: batch_size is not between 1 and n.
    """

    def __init__(self, n: int, batch_size: int, replacement: bool, seed: int) -> None:
        if not 1 <= batch_size <= n:
            raise InputError(f"batch_size: expected 1 to {n} (the number of samples), got {batch_size}")
        self.n, self.size, self.replacement, self.seed = n, batch_size, replacement, seed
        self.period = REPLACED_BLOCK if replacement else n // batch_size
        self._drawn: tuple[int, Tensor] = (-1, torch.empty(0))

    def _period(self, index: int) -> Tensor:
        """Return the batches of one epoch (or block), shape (period, b)."""
        if self._drawn[0] != index:
            rng = generator(self.seed, f"order/{index}")
            if self.replacement:
                drawn = torch.randint(self.n, (self.period, self.size), generator=rng)
            else:
                drawn = torch.randperm(self.n, generator=rng)[: self.period * self.size].view(self.period, self.size)
            self._drawn = (index, drawn)
        return self._drawn[1]

    def steps(self, start: int, stop: int) -> Tensor:
        """Return the samples of updates start, ..., stop - 1: shape (stop - start, b), int64, on the CPU."""
        parts = []
        while start < stop:
            index, offset = divmod(start, self.period)
            count = min(stop - start, self.period - offset)
            parts.append(self._period(index)[offset : offset + count])
            start += count
        return torch.cat(parts)
