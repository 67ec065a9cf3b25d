"""What the lecture fixes at the start: the gradient step, the feature map, linear and affine special cases, errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.func import functional_call, grad

from traindyn.compute import normal
from traindyn.evidence import table
from traindyn.layers import starts
from traindyn.learn.models import TwoLayer
from traindyn.measure.curves import log_steps
from traindyn.studies.ntk import networks


def activations() -> pd.DataFrame:
    """Return sigmoid and ReLU, divided by five, on [-10, 10]: x, value, function."""
    x = torch.linspace(-10, 10, 201, dtype=torch.float64)
    curves = {"sigmoid": torch.sigmoid(x), "ReLU / 5": torch.relu(x) / 5}
    return pd.concat([pd.DataFrame({"x": x, "value": y, "function": name}) for name, y in curves.items()])


def gradient_steps(size: Any) -> dict[str, float]:
    r"""Descend on (lambda/2) theta^2 with eta lambda = `size.rate`: torch's SGD, the update of Eq. 2, the mended one.

    Eq. 2 takes the gradient at the new point: theta_k = theta_{k-1} - eta lambda theta_k, solved for theta_k.

    Returns:
        `printed_gap`, `mended_gap`: largest relative difference from torch's SGD over all steps; `growth` and
        `printed_growth`: |theta| after the last step over its start; `euler_gap`: of the printed update from
        (1 + eta lambda)^-k.
    """
    theta = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([theta], lr=size.rate)  # lambda = 1
    printed = mended = 1.0
    printed_gap = mended_gap = euler_gap = 0.0
    for step in range(1, size.steps + 1):
        optimizer.zero_grad()
        (theta.square() / 2).backward()
        optimizer.step()
        printed, mended = printed / (1 + size.rate), mended - size.rate * mended
        printed_gap = max(printed_gap, abs(printed / theta.item() - 1))
        mended_gap = max(mended_gap, abs(mended / theta.item() - 1))
        euler_gap = max(euler_gap, abs(printed * (1 + size.rate) ** step - 1))
    return {
        "printed_gap": printed_gap,
        "mended_gap": mended_gap,
        "growth": abs(theta.item()),
        "printed_growth": abs(printed),
        "euler_gap": euler_gap,
    }


def collapse(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Return by seed and activation `bend`: the largest second difference in x of a two-layer network with biases."""
    W, a = networks.weights(seeds, size.m, size.d), networks.signs(seeds, size.m)
    b = starts(seeds, "bias", size.m)[:, None]
    X, H = normal(seeds, "points", size.points, size.d), normal(seeds, "steps", size.points, size.d)
    rows = []
    for sigma, (value, _) in networks.SIGMA.items():

        def f(Z: torch.Tensor, value=value) -> torch.Tensor:
            return (value(Z @ W.mT + b) @ a[..., None])[..., 0]

        rows += [(s, sigma, v) for s, v in zip(seeds, networks.second_difference(f, X, H).tolist(), strict=True)]
    return table(pd.DataFrame(rows, columns=["seed", "activation", "bend"]), "activation")


def feature_map(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Compare the feature map as printed, and with 1/sqrt m, with the automatic gradient of `TwoLayer`.

    Returns:
        By seed and width: `printed_ratio` (norm of the printed features over that of the gradient), `root_gap` (that
        ratio over sqrt m, minus 1), `mended_gap` (largest difference of the mended rows, relative), and `kernel_gap`
        (inner products of the mended rows against the printed average over neurons, relative).
    """
    rows = []
    for m in size.widths:
        W, a, X = (
            networks.weights(seeds, m, size.d),
            networks.signs(seeds, m),
            networks.sphere(seeds, 2, size.d, "pair"),
        )
        features = networks.jacobian(W, a, X, "relu")
        for i, seed in enumerate(seeds):
            net = TwoLayer(size.d, m, train="first", scaling="lecture", outer="sign").double()
            rest = {"second.weight": a[i][None]}

            def f(V: torch.Tensor, x: torch.Tensor, net=net, rest=rest) -> torch.Tensor:
                return functional_call(net, {"first.weight": V, **rest}, (x[None],))[0]

            auto = torch.stack([grad(f)(W[i], x) for x in X[i]])
            printed = math.sqrt(m) * features[i]
            ratio = float(printed.norm() / auto.norm())
            gram = torch.einsum("imd,jmd->ij", features[i], features[i])
            average = networks.kernel(W[i : i + 1], a[i : i + 1], X[i : i + 1], "relu")[0]
            rows.append(
                (
                    seed,
                    m,
                    ratio,
                    ratio / math.sqrt(m) - 1,
                    float((features[i] - auto).abs().max() / auto.abs().max()),
                    float((gram - average).abs().max() / average.abs().max()),
                )
            )
    columns = ["seed", "width", "printed_ratio", "root_gap", "mended_gap", "kernel_gap"]
    return table(pd.DataFrame(rows, columns=columns), "width")


def expansions(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Expand a network without biases at W = 0 and at W_0.

    Returns:
        By seed and activation: `bend_zero`, `bend_start` (largest second differences in x of the two expansions), and
        `constant_gap` (largest difference between the expansion at W_0 and <grad f(x; W_0), W>, relative). The ReLU's
        derivative at 0 is 1/2 in the first of them, a subgradient; every other choice only rescales it.
    """
    W0, W = networks.weights(seeds, size.m, size.d), networks.weights(seeds, size.m, size.d, "other")
    a, root = networks.signs(seeds, size.m), math.sqrt(size.m)
    X, H = normal(seeds, "points", size.points, size.d), normal(seeds, "steps", size.points, size.d)
    rows = []
    for sigma, slope in (("relu", 0.5), ("tanh", 1.0)):

        def at_zero(Z: torch.Tensor, slope=slope) -> torch.Tensor:
            return slope * ((Z @ W.mT) @ a[..., None])[..., 0] / root

        def at_start(Z: torch.Tensor, sigma=sigma) -> torch.Tensor:
            return networks.tangent(W, W0, a, Z, sigma)

        inner = (networks.jacobian(W0, a, X, sigma) * W[:, None]).sum((-2, -1))
        gap = (at_start(X) - inner).abs().amax(-1) / inner.abs().amax(-1)
        bends = (networks.second_difference(f, X, H).tolist() for f in (at_zero, at_start))
        rows += [(s, sigma, *rest) for s, *rest in zip(seeds, *bends, gap.tolist(), strict=True)]
    columns = ["seed", "activation", "bend_zero", "bend_start", "constant_gap"]
    return table(pd.DataFrame(rows, columns=columns), "activation")


def errors(seeds: Sequence[int], size: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""Split the error of a random-feature model into approximation, generalisation and optimisation.

    Truth f_*(x) = cos(3 pi x) exp(x / 2) on [-1, 1]; class: `size.m` random ReLU features and their span; f^0 is its
    least-squares fit on a fine grid (the population), f^ that on `size.n` noisy samples, and the learned function is
    where gradient descent on the mean square stands after k steps from zero, with step 1/lambda_max of the Hessian.

    Returns:
        Evidence per seed: `identity` (largest gap in the telescoping sum on the grid), `rises` (looks at which the
        optimisation part grew, in the training norm) and `grid_rises` (the same on the grid); and the norms of all
        parts over the steps, tidy.
    """
    grid = torch.linspace(-1, 1, size.grid, dtype=torch.float64)
    truth = torch.cos(3 * math.pi * grid) * torch.exp(grid / 2)
    w, b = starts(seeds, "feature", size.m), starts(seeds, "feature-bias", size.m)
    x = 2 * torch.sort(torch.special.ndtr(normal(seeds, "samples", size.n)), dim=-1).values - 1
    noise = size.noise * normal(seeds, "noise", size.n)
    steps, rows, curves = log_steps(size.steps, 40), [], []
    for i, seed in enumerate(seeds):
        train, wide = (torch.relu(points[:, None] * w[i] + b[i]) for points in (x[i], grid))
        y = torch.cos(3 * math.pi * x[i]) * torch.exp(x[i] / 2) + noise[i]
        best, fitted = (wide @ _least_squares(wide, truth), _least_squares(train, y))
        # gradient descent on (1/n)|F beta - y|^2 from zero, in the eigen-directions of F F^T, exactly
        U, S, Vh = torch.linalg.svd(train, full_matrices=False)
        live = 1e-10 * S[0] < S  # a feature that no sample switches on is never trained
        U, S, Vh = U[:, live], S[live], Vh[live]
        shrink = 1 - (S / S[0]).square()
        past = None
        for k in steps:
            beta = Vh.T @ ((1 - shrink**k) * (U.T @ y) / S)
            learned = wide @ beta
            parts = {"approximation": truth - best, "generalisation": best - wide @ fitted}
            parts |= {"optimisation": wide @ fitted - learned, "total": truth - learned}
            *three, total = parts.values()
            norms = {name: part.square().mean().sqrt().item() for name, part in parts.items()}
            left = (train @ (fitted - beta)).square().mean().sqrt().item()
            curves += [(seed, k, name, value) for name, value in (*norms.items(), ("optimisation, training", left))]
            now = ((sum(three) - total).abs().max().item(), left, norms["optimisation"])
            past = [now] if past is None else [*past, now]
        gaps, left, outside = map(np.array, zip(*past, strict=True))
        rows.append((seed, gaps.max(), *(int((np.diff(v) > 1e-12).sum()) for v in (left, outside))))
    frame = pd.DataFrame(curves, columns=["seed", "step", "part", "norm"])
    return table(pd.DataFrame(rows, columns=["seed", "identity", "rises", "grid_rises"])), frame


def _least_squares(F: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    # the same cut-off for both fits: ReLU features of one variable are nearly dependent
    return torch.linalg.lstsq(F, y[:, None], rcond=1e-10, driver="gelsd").solution[:, 0]
