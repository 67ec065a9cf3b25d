"""Move every drawn initial weight by a relative amount, to learn which printed digits survive rounding.

In a test's own process: `monkeypatch.setattr(layers, "altered", perturb.by(1e-10))`. In a kernel, `profile` writes an
IPython profile that does it at start-up.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor


def by(relative: float) -> Callable[[Tensor], Tensor]:
    """Return a function that multiplies each number by 1 + relative times a standard normal one, of a fixed stream."""

    def alter(values: Tensor) -> Tensor:
        noise = torch.randn(values.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        return values * (1 + relative * noise)

    return alter


def profile(source: Path, folder: Path, relative: float) -> Path:
    """Copy an IPYTHONDIR and let its kernels perturb what they draw; return the copy."""
    shutil.copytree(source, folder)
    start = folder / "profile_default" / "startup" / "perturb.py"
    here = str(Path(__file__).parent)
    start.write_text(
        f"import sys\nsys.path.insert(0, {here!r})\nimport perturb\nsys.path.remove({here!r})\n"
        f"from traindyn import layers\nlayers.altered = perturb.by({relative!r})\ndel layers, perturb, sys\n"
    )
    return folder
