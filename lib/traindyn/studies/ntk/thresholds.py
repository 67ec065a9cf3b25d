r"""How large alpha has to be in Theorem 12: the power of sigma_min, by counterexample, by units, and for networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from traindyn.evidence import table
from traindyn.measure.ode import rk4_path
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.ntk import flows, networks


def at_w_instead_of_u(size: Any) -> tuple[dict[str, float], pd.DataFrame]:
    r"""Follow f(w) = w + w^2/2 from 0 with y = 1 at the threshold: sigma = L = 1, R_0 = 1/2, alpha = sqrt(576) = 24.

    Returns:
        `tangent_at_w`, `tangent_at_u`: the largest tangent loss over R_0 exp(-tau) up to tau = `size.time`, evaluated
        at w(t) as printed and at u(t); `network`: the same of the network's loss. A tidy table for the figure.
    """
    alpha = math.sqrt(1152 / 2)
    unit = 2 / alpha**2

    def field(_: float, w: Tensor) -> Tensor:
        return -unit * alpha * (1 + w) * (alpha * (w + w.square() / 2) - 1)

    w = rk4_path(field, torch.zeros(1, dtype=torch.float64), size.time / size.steps, size.steps)[:, 0]
    tau = torch.linspace(0, size.time, size.steps + 1, dtype=torch.float64)
    u = (1 - torch.exp(-2 * tau)) / alpha
    losses = {
        "network": (alpha * (w + w.square() / 2) - 1).square() / 2,
        "tangent_at_w": (alpha * w - 1).square() / 2,
        "tangent_at_u": (alpha * u - 1).square() / 2,
    }
    bound = torch.exp(-tau) / 2
    names = {"network": "network at $w(t)$", "tangent_at_w": "tangent at $w(t)$", "tangent_at_u": "tangent at $u(t)$"}
    frame = [pd.DataFrame({"tau": tau, "loss": loss, "curve": names[name]}) for name, loss in losses.items()]
    frame.append(pd.DataFrame({"tau": tau, "loss": bound, "curve": "bound"}))
    return {name: (loss / bound).max().item() for name, loss in losses.items()}, pd.concat(frame)


def saturating(size: Any) -> tuple[dict[str, float], pd.DataFrame]:
    r"""Follow f(v) = tanh(c v) from 0 with y = 2 and alpha = 1: it can never reach y, whatever the printed threshold.

    sigma_min = sigma_max = c, L = c^2 max|tanh''|, R_0 = 2.

    Returns:
        `printed_threshold`, `mended_threshold` (powers 2 and 3; alpha = 1 has to reach them), `loss` at the end, and
        `printed_ratio`: that loss over R_0 exp(-tau). A tidy table of the loss and of its bound.
    """
    c = size.c
    L, R0 = c**2 * networks.TANH_CURVATURE, 2.0
    printed, mended = (L * math.sqrt(1152 * c**2 * R0) / c**power for power in (2, 3))

    def field(_: float, v: Tensor) -> Tensor:
        return -2 / c**2 * c * (1 - torch.tanh(c * v).square()) * (torch.tanh(c * v) - 2)

    v = rk4_path(field, torch.zeros(1, dtype=torch.float64), size.time / size.steps, size.steps)[:, 0]
    tau = torch.linspace(0, size.time, size.steps + 1, dtype=torch.float64)
    loss, bound = (torch.tanh(c * v) - 2).square() / 2, R0 * torch.exp(-tau)
    numbers = {"printed_threshold": printed, "mended_threshold": mended}
    numbers |= {"loss": loss[-1].item(), "printed_ratio": (loss[-1] / bound[-1]).item()}
    curves = {"loss": loss, "printed bound": bound}
    return numbers, pd.concat([pd.DataFrame({"tau": tau, "loss": v, "curve": name}) for name, v in curves.items()])


def units(seeds: Sequence[int], size: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""Measure the weights in other units, v = w/c, and see which threshold stays; and how it falls with the width.

    g(v) = f(c v) has the same outputs and, up to the unit of time, the same flow. Its Jacobian at w_0/c is taken by
    automatic differentiation; the Lipschitz constant of v -> c J(c v) is c^2 L.

    Returns:
        Per seed: `shift_2`, `shift_3` (relative change of the threshold with power 2 and 3 for c = `size.c`), and
        `slope` (log-log slope of the threshold with power 3 in the width); a tidy table of thresholds by width.
    """
    seeds, c = list(seeds), size.unit
    p = flows.problem(seeds, size.m, size.n, size.d)
    rows = []
    for i, seed in enumerate(seeds):

        def outputs(v: Tensor, i=i) -> Tensor:
            return networks.output(c * v[None], p.a[i : i + 1], p.X[i : i + 1], "tanh")[0]

        J = torch.autograd.functional.jacobian(outputs, p.W0[i] / c).flatten(1)
        s = torch.linalg.svdvals(J)
        one = flows.Problem(*(part[i : i + 1] for part in p))
        other = one._replace(low=s[-1:], high=s[:1], L=c**2 * one.L)
        shifts = [(flows.threshold(other, k) / flows.threshold(one, k) - 1).abs().item() for k in (2, 3)]
        rows.append((seed, *shifts))
    found = pd.DataFrame(rows, columns=["seed", "shift_2", "shift_3"]).set_index("seed")
    parts = [
        pd.DataFrame(
            {"seed": seeds, "width": m, "threshold": flows.threshold(flows.problem(seeds, m, size.n, size.d), 3)}
        )
        for m in size.widths
    ]
    frame = pd.concat(parts)
    found["slope"] = loglog_slope(frame["width"], frame["threshold"], by=frame["seed"]).value
    return table(found.reset_index()), frame
