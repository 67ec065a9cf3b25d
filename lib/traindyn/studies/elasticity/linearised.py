"""Local elasticity of a network and of its linearisation, the d = 1 case of Definition 6 (Dan et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap

from traindyn.compute import generator, normal
from traindyn.evidence import table
from traindyn.learn.models import FCN

IN_DIM, DEPTH = 5, 3


def _network(seed: int, width: int) -> tuple[FCN, dict[str, Tensor]]:
    """Return a ReLU network in the NTK parameterisation and its initial parameters, in float64."""
    net = FCN(IN_DIM, width, DEPTH, generator=generator(seed, "network")).double()
    return net, {name: p.detach() for name, p in net.named_parameters()}


def _gradients(net: FCN, params: dict[str, Tensor], X: Tensor) -> Tensor:
    """Return grad_w f(x_i) as rows, shape (n, P)."""
    rows = vmap(grad(lambda p, x: functional_call(net, p, (x[None],))[0]), in_dims=(None, 0))(params, X)
    return torch.cat([row.flatten(1) for row in rows.values()], 1)


def _split(flat: Tensor, like: dict[str, Tensor]) -> dict[str, Tensor]:
    parts = flat.split([p.numel() for p in like.values()])
    return {name: part.view_as(p) for part, (name, p) in zip(parts, like.items(), strict=True)}


def linearised_check(seeds: Sequence[int], width: int, samples: int = 20, steps: int = 100) -> pd.DataFrame:
    """Check that the linearised network is Definition 6 with d = 1, and that its S_rel does not move in training.

    alpha(x) = f(W0, x) - <grad f(W0, x), W0> and beta(x) = grad f(W0, x). Full-batch gradient descent on half_mse with
    rate 1 / (largest eigenvalue of K/n), normal inputs and targets; S by Definition 1 with a unit residual and step 1.

    Args:
        seeds: network and data each;  width: of the two hidden layers;  samples, steps: n and number of updates.

    Returns:
        For each seed: "taylor" (largest gap of alpha + <beta, W> to f(W0) plus the directional derivative towards W at
        the end of training) and "constancy" (largest max/min - 1 of S over training, over all pairs).
    """
    result: dict[str, list] = {"taylor": [], "constancy": []}
    for seed in seeds:
        net, params = _network(seed, width)
        X, y = normal([seed], "inputs", samples, IN_DIM)[0], normal([seed], "targets", samples)[0]
        beta = _gradients(net, params, X)
        W0 = torch.cat([p.flatten() for p in params.values()])
        alpha = net(X).detach() - beta @ W0
        rate = 1 / torch.linalg.eigvalsh(beta @ beta.T / samples)[-1]
        W, seen = W0, []
        for _ in range(steps):
            base = alpha + beta @ W
            moved = alpha[:, None] + beta @ (W[:, None] + beta.T)  # column i: after a step on sample i
            change = (moved - base[:, None]).abs()
            seen.append(change / change.diagonal())
            W = W + rate / samples * beta.T @ (y - base)
        ratio = torch.stack(seen)
        value, slope = jvp(lambda p: functional_call(net, p, (X,)), (params,), (_split(W - W0, params),))  # noqa: B023
        result["taylor"].append(float((alpha + beta @ W - value - slope).abs().max()))
        result["constancy"].append(float((ratio.amax(0) / ratio.amin(0) - 1).max()))
    return table(pd.DataFrame({"seed": list(seeds), **result}))


def width_trend(
    seeds: Sequence[int], widths: Sequence[int], samples: int = 20, steps: int = 200, records: int = 10
) -> pd.DataFrame:
    """Train networks of several widths and record how much their S_rel (small-step limit) moves.

    Same data, rate and loss as `linearised_check`, at each width for the real network.

    Args:
        seeds, samples, steps: as there;  widths: hidden widths;  records: readings of S, equally spaced.

    Returns:
        Evidence by seed and width: movement, the median over pairs of max/min of S = |K(x', x)| / K(x, x) in training.
    """
    rows = []
    for seed in seeds:
        X, y = normal([seed], "inputs", samples, IN_DIM)[0], normal([seed], "targets", samples)[0]
        for width in widths:
            net, params = _network(seed, width)
            seen = []
            for step in range(steps + 1):
                if step % (steps // records) == 0:
                    beta = _gradients(net, params, X)
                    K = beta @ beta.T
                    seen.append(K.abs() / K.diagonal())
                    if step == 0:
                        rate = samples / torch.linalg.eigvalsh(K)[-1]
                weights = [p for p in net.parameters()]
                slopes = torch.autograd.grad(((net(X) - y) ** 2).sum() / (2 * samples), weights)
                with torch.no_grad():
                    for weight, slope in zip(weights, slopes, strict=True):
                        weight -= rate * slope
            ratio = torch.stack(seen)
            movement = ratio.amax(0) / ratio.amin(0)
            off = ~torch.eye(samples, dtype=torch.bool)
            rows.append({"seed": seed, "width": width, "movement": float(movement[off].median())})
    return table(pd.DataFrame(rows), "width")
