"""Fixed teacher networks whose nodes are visible in the data and graded in strength."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from traindyn.compute import generator
from traindyn.studies.student_teacher.students import Nets

VALUES = torch.arange(-1, 1.01, 0.25, dtype=torch.float64)  # -1, -0.75, ..., 1, as in the authors' code


def two_layer(seeds: Sequence[int], d: int, m: int, C: int, p: float = 0.0, bias: float = -0.1) -> Nets:
    r"""Draw two-layer teachers whose node j (from 0) has a fan-out of strength 1 / (j + 1)^p.

    Weights are drawn from -1, -0.75, ..., 1; first-layer columns are scaled to norm 1 and repeated directions drawn
    again; row j of the second layer is divided by (j + 1)^p. The row's own norm still varies between nodes.

    Args:
        seeds: one teacher each.
        d, m, C: inputs, nodes, outputs.
        p: decay of the strength, >= 0.
        bias: every bias of both layers.

    Returns:
        The teachers in float64.
    """
    first, second = [], []
    for seed in seeds:
        stream = generator(seed, "teacher")
        W = _columns(d, m, stream)
        V = VALUES[torch.randint(len(VALUES), (m, C), generator=stream)]
        dead = V.norm(dim=1) == 0  # with one output a row can be zero: such a node cannot be recovered by anyone
        V[dead, 0] = 0.25
        first.append(W / W.norm(dim=0))
        second.append(V / torch.arange(1, m + 1, dtype=torch.float64)[:, None] ** p)
    return Nets(
        [torch.stack(first), torch.stack(second)],
        [torch.full((len(seeds), 1, n), bias, dtype=torch.float64) for n in (m, C)],
    )


def _columns(d: int, m: int, stream: torch.Generator) -> Tensor:
    """Draw m columns no two of which are parallel."""
    while True:
        W = VALUES[torch.randint(len(VALUES), (d, m), generator=stream)]
        unit = W / W.norm(dim=0)
        cosine = (unit.T @ unit - torch.eye(m)).abs()
        if bool(torch.isfinite(cosine).all()) and float(cosine.max()) < 0.999:
            return W


def deep(seeds: Sequence[int], widths: Sequence[int], scale: float, samples: int = 4000) -> Nets:
    """Draw deep teachers each of whose nodes is active on half of the inputs x ~ N(0, scale^2 I).

    Rows of weights are drawn from -1, ..., 1 and scaled to norm 1; the bias of a node is minus the median of its
    pre-activation; outputs are shifted and scaled to mean 0 and variance 1.

    Args:
        seeds: one teacher each.
        widths: [d, m_1, ..., C].
        scale: standard deviation of the inputs.
        samples: inputs on which medians and variances are taken.
    """
    nets = Nets([], [])
    f = scale * torch.stack(
        [torch.randn(samples, widths[0], dtype=torch.float64, generator=generator(s, "teacher-inputs")) for s in seeds]
    )
    streams = [generator(seed, "teacher") for seed in seeds]
    for depth, (fan_in, fan_out) in enumerate(zip(widths, widths[1:], strict=False), 1):
        W = torch.stack([_columns(fan_in, fan_out, stream) for stream in streams])
        W = W / W.norm(dim=1, keepdim=True)
        z = f @ W
        if depth < len(widths) - 1:
            b = -z.median(dim=1, keepdim=True).values
            f = (z + b).relu()
        else:
            W = W / z.std(dim=1, keepdim=True)
            b = -(f @ W).mean(dim=1, keepdim=True)
        nets.weights.append(W)
        nets.biases.append(b)
    return nets
