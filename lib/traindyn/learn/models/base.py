"""What all networks of the book share: initial weights that can be drawn again, outputs of shape (n,) or (n, c)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """A module that can draw its initial weights again: `reset(generator)` resets every layer in order."""

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draw all initial weights afresh.

        Args:
            generator: a CPU generator; None uses torch's global one.
        """
        for module in self.modules():
            if hasattr(module, "reset") and not isinstance(module, Network):
                module.reset(generator)


def squeeze_single(out: Tensor, out_dim: int) -> Tensor:
    """Return outputs (n, 1) as (n,) where the network has one output, else as they are."""
    return out.squeeze(-1) if out_dim == 1 else out
