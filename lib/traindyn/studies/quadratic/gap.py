"""How far a two-layer network is from its linear model in a ball of weights: eq. (3.4) and the remark around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from traindyn import evidence
from traindyn.measure.statistics import loglog_slope
from traindyn.measure.worst_case import relu_gap
from traindyn.studies.quadratic.scalar import rng
from traindyn.studies.quadratic.spans import tanh


def distances(seeds: Sequence[int], widths: Sequence[int], radius: float = 1.0) -> pd.DataFrame:
    """Measure f - f_lin in the ball |w - w_0| <= R around u ~ N(0, I), v = +-1, on one example with |x|^2 = d.

    Tanh: at w_0 + R e and w_0 - R e with e the top eigenvector of the Hessian of f (one neuron, both layers), the
    larger. ReLU: the supremum over the first layer, exactly. |f_quad - f_lin| of the ReLU network is at most R^2 / (2
    sqrt m), with equality where one active neuron moves in both layers.

    Returns:
        One row per seed and width: `tanh`, `tanh_quad` (f_quad - f_lin), `tanh_rest` (f - f_quad), `relu`, and `bound`,
        the ReLU's supremum over sup|H_f| R^2 = R^2 / sqrt m with the thesis' Hessian, which has no kinks.
    """
    rows = []
    for seed in seeds:
        for m in widths:
            draws = rng(seed, f"ball/{m}")
            z, v = torch.as_tensor(draws.standard_normal(m)), torch.as_tensor(draws.choice([-1.0, 1.0], m))
            a, b = v * tanh(z, 2), tanh(z, 1)
            top = a.abs() / 2 + (a**2 / 4 + b**2).sqrt()  # of [[a, b], [b, 0]]
            k = int(top.argmax())
            values, vectors = np.linalg.eigh(np.array([[a[k], b[k]], [b[k], 0.0]]))
            e = radius * vectors[:, np.abs(values).argmax()]
            steps = np.stack([e, -e])
            dz, dv = torch.as_tensor(steps[:, 0]), torch.as_tensor(steps[:, 1])
            exact = (v[k] + dv) * tanh(z[k] + dz, 0) - v[k] * tanh(z[k], 0)
            linear = v[k] * b[k] * dz + dv * tanh(z[k], 0)
            square = a[k] * dz**2 / 2 + b[k] * dv * dz
            worst = int((exact - linear).abs().argmax())
            gaps = [exact - linear, square, exact - linear - square]
            sides = [float(relu_gap(z[v == sign], radius).value) if (v == sign).any() else 0.0 for sign in (1, -1)]
            relu = max(sides) / m**0.5
            rows.append(
                (seed, m, *(float(part[worst].abs()) / m**0.5 for part in gaps), relu, relu * m**0.5 / radius**2)
            )
    return pd.DataFrame(rows, columns=["seed", "width", "tanh", "tanh_quad", "tanh_rest", "relu", "bound"])


def slopes(found: pd.DataFrame) -> pd.DataFrame:
    """Return per seed the log-log slopes in the width of the columns of `distances`."""
    names = ["tanh", "tanh_quad", "tanh_rest", "relu", "bound"]
    rows = [
        {"seed": seed, **{name: loglog_slope(part["width"], part[name]).value for name in names}}
        for seed, part in found.groupby("seed")
    ]
    return evidence.table(pd.DataFrame(rows))


def ratio(found: pd.DataFrame) -> pd.DataFrame:
    """Return per seed and width the ReLU's supremum over the right side of eq. (3.4)."""
    return evidence.table(found[["seed", "width", "bound"]].rename(columns={"bound": "ratio"}), "width")
