"""Which samples an update sees: a function of the seed and the step alone, so any step can be drawn again."""

from __future__ import annotations

import torch
from torch import Tensor

from traindyn.compute import generator
from traindyn.errors import InputError

BLOCK = 256  # steps drawn at once with replacement


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
        self.period = BLOCK if replacement else n // batch_size
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
