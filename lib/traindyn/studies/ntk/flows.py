r"""Gradient flow of a network and of its tangent under R(alpha f(w)) = (1/2) |alpha f(w) - y|^2 (section 4.4).

All runs (seeds, scales alpha) advance together. A run's time is counted in units of its own guaranteed decay,
tau = alpha^2 sigma_min^2 t / 2, in which the bound of Theorem 12 is R_0 exp(-tau) for everyone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import normal
from traindyn.evidence import table
from traindyn.measure.ode import rk4_path
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.ntk import networks


class Problem(NamedTuple):
    """Tanh networks with a mirrored start and their data, one slice per run.

    W0 (R, m, d), a (R, m), X (R, n, d), y (R, n); K0, the tangent kernel at the start, (R, n, n); smallest and largest
    singular value of J_0, Lipschitz constant L of the Jacobian, and R_0, each (R,).
    """

    W0: Tensor
    a: Tensor
    X: Tensor
    y: Tensor
    K0: Tensor
    low: Tensor
    high: Tensor
    L: Tensor
    R0: Tensor


def problem(seeds: Sequence[int], m: int, n: int, d: int) -> Problem:
    r"""Return the problems of some seeds: inputs on the sphere, targets N(0, 1).

    With b = max|sigma''| and |x_i| = 1: |J_w - J_v|^2 <= sum_ij (b |(w_j - v_j) . x_i|)^2 / m <= b^2 (n/m) |w - v|^2.
    """
    (W0, a), X, y = networks.mirrored(seeds, m, d), networks.sphere(seeds, n, d), normal(seeds, "labels", n)
    K0 = networks.kernel(W0, a, X, "tanh")
    values = torch.linalg.eigvalsh(K0)
    L = torch.full_like(values[:, 0], networks.TANH_CURVATURE * math.sqrt(n / m))
    return Problem(W0, a, X, y, K0, values[:, 0].sqrt(), values[:, -1].sqrt(), L, y.square().sum(-1) / 2)


def threshold(p: Problem, power: int) -> Tensor:
    """Return L sqrt(1152 sigma_max^2 R_0) / sigma_min^power, the scale from which Theorem 12 speaks."""
    return p.L * (1152 * p.high.square() * p.R0).sqrt() / p.low**power


def radius(p: Problem, alpha: Tensor) -> Tensor:
    """Return the second bound of Theorem 12: 3 sqrt(8 sigma_max^2 R_0) / (alpha sigma_min^2)."""
    return 3 * (8 * p.high.square() * p.R0).sqrt() / (alpha * p.low.square())


def pull(p: Problem, alpha: Tensor, W: Tensor, at: Tensor) -> Tensor:
    """Return -alpha J^T (alpha f - y), (R, m, d): Jacobian at W, outputs `at` (R, n)."""
    residual = alpha[:, None] * at - p.y
    gates = networks.SIGMA["tanh"][1](p.X @ W.mT) * residual[..., None]
    return -alpha[:, None, None] / math.sqrt(p.a.shape[-1]) * p.a[..., None] * (gates.mT @ p.X)


def network_path(p: Problem, alpha: Tensor, time: float, steps: int, parts: int) -> tuple[Tensor, Tensor]:
    """Integrate the network's flow over `time` units of tau by Runge-Kutta.

    Returns:
        tau (parts + 1,) and the weights then, (parts + 1, R, m, d).
    """
    unit = (2 / (alpha * p.low).square())[:, None, None]  # t per tau

    def field(_: float, W: Tensor) -> Tensor:
        return unit * pull(p, alpha, W, networks.output(W, p.a, p.X, "tanh"))

    kept, each = [p.W0], steps // parts
    for _ in range(parts):
        kept.append(rk4_path(field, kept[-1], time / (each * parts), each, keep=False))
    return torch.linspace(0, time, parts + 1, dtype=torch.float64), torch.stack(kept)


def tangent_path(p: Problem, alpha: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    r"""Solve the tangent flow in closed form: r(t) = exp(-alpha^2 K_0 t) r(0), r = alpha f - y, f(w_0) = 0.

    u(t) - w(0) = -(1/alpha) J_0^T K_0^{-1} (r(0) - r(t)), so |u(t) - w(0)|^2 is a sum over eigen-directions of K_0.

    Returns:
        Residuals (T, R, n) and distances |u - w_0| (T, R).
    """
    values, vectors = torch.linalg.eigh(p.K0)
    start = (vectors.mT @ -p.y[..., None])[..., 0]
    decay = torch.exp(-2 * tau[:, None, None] * values / p.low.square()[:, None])
    moved = (start * (1 - decay)).square() / values
    residual = (vectors @ (start * decay)[..., None])[..., 0]
    return residual, moved.sum(-1).sqrt() / alpha


def theorem(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Run both flows at the corrected threshold and at smaller scales, against both bounds of Theorem 12.

    Returns:
        By seed and alpha (a number, or "threshold"): `loss_w`, `loss_u` (largest loss over R_0 exp(-tau) at the
        recorded times after the start, where both are equal), `distance_w`, `distance_u` (largest distance over its
        bound), `moved` (|w - w_0| at the end), `jacobian` (relative change of J in Frobenius norm), `alpha_value`, and
        `left` (loss at the end over its start).
    """
    seeds, scales = list(seeds), [*size.alphas, "threshold"]
    one = problem(seeds, size.m, size.n, size.d)
    p = Problem(*(part.repeat(len(scales), *[1] * (part.dim() - 1)) for part in one))
    at = threshold(one, 3)
    alpha = torch.cat([at if scale == "threshold" else torch.full_like(at, scale) for scale in scales])
    tau, path = network_path(p, alpha, size.time, size.steps, size.parts)
    bound, limit = p.R0 * torch.exp(-tau)[:, None], radius(p, alpha)
    outputs = torch.stack([networks.output(W, p.a, p.X, "tanh") for W in path])
    losses = (alpha[:, None] * outputs - p.y).square().sum(-1) / 2
    distance = (path - p.W0).square().sum((-2, -1)).sqrt()
    residual, distance_u = tangent_path(p, alpha, tau)
    J0, J = (networks.jacobian(W, p.a, p.X, "tanh").flatten(1) for W in (p.W0, path[-1]))
    columns = {
        "loss_w": (losses / bound)[1:].amax(0),
        "loss_u": (residual.square().sum(-1) / 2 / bound)[1:].amax(0),
        "distance_w": (distance / limit).amax(0),
        "distance_u": (distance_u / limit).amax(0),
        "moved": distance[-1],
        "jacobian": (J - J0).norm(dim=1) / J0.norm(dim=1),
        "alpha_value": alpha,
        "left": losses[-1] / p.R0,
    }
    frame = pd.DataFrame({name: values.tolist() for name, values in columns.items()})
    frame["seed"] = seeds * len(scales)
    frame["alpha"] = [str(scale) if isinstance(scale, str) else scale for scale in scales for _ in seeds]
    return table(frame, "alpha")


def directions(seed: int, size: Any, alphas: Sequence[float]) -> pd.DataFrame:
    """Return the residual of one run along the eigenvectors of K_0, over tau, for the network and for its tangent.

    Columns: scale, model, direction (1 is the largest eigenvalue), eigenvalue, tau, component (relative to its start).
    """
    one, parts = problem([seed], size.m, size.n, size.d), []
    values, vectors = torch.linalg.eigh(one.K0[0])
    p = Problem(*(part.repeat(len(alphas), *[1] * (part.dim() - 1)) for part in one))
    scale = torch.tensor(alphas, dtype=torch.float64)
    tau, path = network_path(p, scale, size.shown, size.steps, size.parts)
    outputs = torch.stack([networks.output(W, p.a, p.X, "tanh") for W in path])
    both = {"network": scale[:, None] * outputs - p.y, "tangent": tangent_path(p, scale, tau)[0]}
    for i, alpha in enumerate(alphas):
        for model, residual in both.items():
            component = residual[:, i] @ vectors
            for k in range(size.n):
                found = {"tau": tau, "component": component[:, k] / component[0, k], "model": model, "scale": alpha}
                parts.append(pd.DataFrame({**found, "direction": size.n - k, "eigenvalue": values[k].item()}))
    return pd.concat(parts)


def setup(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Check the displays of the two flows.

    Returns:
        Per seed: `gradient_gap` (alpha J^T (alpha f - y) against automatic differentiation, relative), `closed_gap`
        (closed form of the tangent flow against Runge-Kutta: largest difference of a residual, relative),
        `printed_gap` and `mended_gap`: the middle term of the u-flow (gradient of the tangent loss at w(t), at u(t))
        against its last one, relative, at the end of the flow's first unit of time.
    """
    seeds = list(seeds)
    p = problem(seeds, size.m, size.n, size.d)
    alpha = torch.full((len(seeds),), size.alpha, dtype=torch.float64)
    W = (p.W0 + 0.1 * networks.weights(seeds, size.m, size.d, "elsewhere")).requires_grad_()
    loss = (alpha[:, None] * networks.output(W, p.a, p.X, "tanh") - p.y).square().sum() / 2
    auto = torch.autograd.grad(loss, W)[0]
    W = W.detach()
    ours = -pull(p, alpha, W, networks.output(W, p.a, p.X, "tanh"))
    gradient_gap = (ours - auto).abs().amax((1, 2)) / auto.abs().amax((1, 2))

    unit = (2 / (alpha * p.low).square())[:, None, None]

    def field(_: float, U: Tensor) -> Tensor:
        return unit * pull(p, alpha, p.W0, networks.tangent(U, p.W0, p.a, p.X, "tanh"))

    U = rk4_path(field, p.W0, 1 / size.steps, size.steps, keep=False)
    tau, path = network_path(p, alpha, 1.0, size.steps, 1)
    by_hand = alpha[:, None] * networks.tangent(U, p.W0, p.a, p.X, "tanh") - p.y
    exact = tangent_path(p, alpha, tau)[0][-1]
    closed_gap = (by_hand - exact).abs().amax(1) / p.y.abs().amax(1)

    def slope(at: Tensor) -> Tensor:
        at = at.clone().requires_grad_()
        tangent = alpha[:, None] * networks.tangent(at, p.W0, p.a, p.X, "tanh") - p.y
        return -torch.autograd.grad(tangent.square().sum() / 2, at)[0]

    last = pull(p, alpha, p.W0, networks.tangent(U, p.W0, p.a, p.X, "tanh"))
    gaps = [(slope(at) - last).abs().amax((1, 2)) / last.abs().amax((1, 2)) for at in (path[-1], U)]
    found = {"gradient_gap": gradient_gap, "closed_gap": closed_gap, "printed_gap": gaps[0], "mended_gap": gaps[1]}
    return table(pd.DataFrame({"seed": seeds, **{name: values.tolist() for name, values in found.items()}}))


def pseudoinverse(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    r"""Check that full row rank lets the tangent model interpolate by J_0^+ y_0.

    Returns:
        Per seed: `residual` (half the squared residual at J^+ y_0 for y_0 = y + J w_0 - f(w_0), network Jacobian, in
        units of |y|^2), `deficient` (the same with one row replaced by a combination of the others), `scaled` (the loss
        of Theorem 12, (1/2)|alpha f_lin(u) - y|^2, at that u for alpha = `size.alpha`), `scaled_mended` (with
        y_0 = y/alpha + J w_0 - f(w_0)), and `limit_gap`: distance of the flow's limit w_0 + J^+ (y - f(w_0)) from
        J^+ y_0, relative to |w_0|.
    """
    rows = []
    W, a = networks.weights(seeds, size.m, size.d, "rank"), networks.signs(seeds, size.m, "rank-outer")
    X, y = networks.sphere(seeds, size.n, size.d, "rank-inputs"), normal(seeds, "labels", size.n)
    J, f = networks.jacobian(W, a, X, "tanh").flatten(2), networks.output(W, a, X, "tanh")
    for i, seed in enumerate(seeds):
        w0, square = W[i].flatten(), y[i].square().sum()

        def loss(u: Tensor, alpha: float, A: Tensor, i=i, w0=w0, square=square) -> float:
            return ((alpha * (f[i] + A @ (u - w0)) - y[i]).square().sum() / 2 / square).item()

        y0 = y[i] + J[i] @ w0 - f[i]
        u = torch.linalg.pinv(J[i]) @ y0
        poor = torch.cat([J[i, :-1], J[i, :-1].mean(0, keepdim=True)])
        poor_u = torch.linalg.pinv(poor) @ (y[i] + poor @ w0 - f[i])
        scaled = torch.linalg.pinv(J[i]) @ (y[i] / size.alpha + J[i] @ w0 - f[i])
        limit = w0 + torch.linalg.pinv(J[i]) @ (y[i] - f[i])
        rows.append(
            (
                seed,
                loss(u, 1.0, J[i]),
                loss(poor_u, 1.0, poor),
                loss(u, size.alpha, J[i]),
                loss(scaled, size.alpha, J[i]),
                ((limit - u).norm() / w0.norm()).item(),
            )
        )
    columns = ["seed", "residual", "deficient", "scaled", "scaled_mended", "limit_gap"]
    return table(pd.DataFrame(rows, columns=columns))


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """Read `theorem` across the scales.

    Returns:
        Per seed: `moved_slope`, `jacobian_slope` (log-log slopes in alpha, from alpha = 1 on), `product_ratio`
        (alpha |w - w_0| at alpha = 10 over that at the threshold; NaN without alpha = 10), `smallest` (the smallest
        alpha from which on the run keeps to all four bounds; infinity if it never does).
    """
    rows = []
    for seed, part in found.groupby("seed"):
        part = part.droplevel("seed").sort_values("alpha_value")
        late = part[part["alpha_value"] >= 1]
        slopes = [loglog_slope(late["alpha_value"], late[name]).value for name in ("moved", "jacobian")]
        product = part["moved"] * part["alpha_value"]
        ratio = product[10.0] / product["threshold"] if 10.0 in product.index else math.nan
        kept = (part[["loss_w", "loss_u", "distance_w", "distance_u"]] <= 1).all(axis=1)
        upwards = int(kept[::-1].cummin().sum())  # how many of the largest scales keep to them without a gap
        smallest = part["alpha_value"].iloc[-upwards] if upwards else math.inf
        rows.append((seed, *slopes, ratio, smallest))
    return table(pd.DataFrame(rows, columns=["seed", "moved_slope", "jacobian_slope", "product_ratio", "smallest"]))
