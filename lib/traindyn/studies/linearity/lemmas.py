"""Sizes of neurons, first and second derivatives of wide networks, and bounds on the gradient (App. A.2, A.7, A.11)."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import generator, normal
from traindyn.evidence import table
from traindyn.measure.spectral_norms import spectral_norms
from traindyn.measure.worst_case import relu_gap
from traindyn.studies.linearity import nets as make
from traindyn.studies.linearity.curvature import Curvature
from traindyn.studies.linearity.nets import CURVES
from traindyn.studies.linearity.orders import frame, log_factor


def activations(size: SimpleNamespace) -> pd.DataFrame:
    """Lipschitz quotients of sigma, sigma', sigma'' on a grid, and how they grow when its range doubles.

    Returns:
        By activation: `value`, `first`, `second` (largest quotient of neighbours, of sigma, sigma', sigma''), and
        `value_growth`, `first_growth`, `second_growth`: the quotient on the doubled range over that on the range.
    """
    rows = []
    for name in ("tanh", "swish", "softplus", "half_square"):
        found = []
        for reach in (size.reach, 2 * size.reach):
            z = torch.linspace(-reach, reach, size.points * round(reach / size.reach), dtype=torch.float64)
            found.append([float((c[1:] - c[:-1]).abs().max() / (z[1] - z[0])) for c in CURVES[name](z)])
        growth = [b / a if a > 1e-9 else 1.0 for a, b in zip(*found, strict=True)]
        names = ("value", "first", "second")
        rows.append(
            {
                "sigma": name,
                **dict(zip(names, found[0], strict=True)),
                **{f"{n}_growth": g for n, g in zip(names, growth, strict=True)},
            }
        )
    return table(pd.DataFrame(rows), ["sigma"])


def relu_remainder(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    r"""Largest |f - f_lin| of ReLU networks (1/sqrt m) sum_j a_j relu(w_j . x / sqrt d) over a ball of first weights.

    By `measure.worst_case.relu_gap`, exactly, for a_j = +-1. Beside it the same for tanh, at +- the top eigenvector of
    the Hessian in the first weights (a bound from below).

    Returns:
        Tidy: seed, width, relu, and `smooth`: (1/2) R^2 |H| with H as the thesis defines it for tanh in place of ReLU.
        For ReLU itself H is 0 wherever it exists.
    """
    x = make.inputs(seeds, size.inputs)[:, 0]
    length = x.norm(dim=1) / size.inputs**0.5

    def study(width: int) -> dict[str, Tensor]:
        p = (normal(seeds, "relu", width, size.inputs) @ x[..., None])[..., 0] / size.inputs**0.5
        signs = torch.where(normal(seeds, "signs", width) > 0, 1.0, -1.0)
        sides = [
            relu_gap(torch.where(signs == side, p, torch.full_like(p, 1e9)), size.radius * length).value
            for side in (1, -1)
        ]
        bend = CURVES["tanh"](p)[2].abs().amax(1) * length**2 / width**0.5
        return {"relu": torch.stack(sides).amax(0) / width**0.5, "smooth": bend * size.radius**2 / 2}

    return frame(seeds, size.widths, study)


def first_derivatives(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Spectral and Frobenius norms of d f_S / d w^(l') for the neurons that the output of an FCN reads (A.8), (A.9).

    Returns:
        Tidy: seed, width, layer (l' = 1, 2), spectral, frobenius.
    """
    x = make.inputs(seeds, size.inputs)[:, 0]
    parts = []
    for width in size.widths:
        nets = make.fcn(seeds, size.inputs, [width, width])
        (one, two) = nets.layers[:2]
        z1 = (one.weight @ x[..., None])[..., 0] * one.scale
        f1, s1, _ = CURVES["tanh"](z1)
        z2 = (two.weight @ f1[..., None])[..., 0] * two.scale
        s2 = CURVES["tanh"](z2)[1]
        middle = s2[..., None] * two.weight * s1[:, None] * width**-0.5
        reach = x.norm(dim=1) * size.inputs**-0.5
        top = _spectral(middle, seeds) * reach
        whole = middle.square().sum((1, 2)).sqrt() * reach
        length = f1.norm(dim=1) * width**-0.5
        found = {1: (top, whole), 2: (s2.abs().amax(1) * length, s2.norm(dim=1) * length)}
        for layer, (spectral, frobenius) in found.items():
            parts.append(
                pd.DataFrame(
                    {"seed": list(seeds), "width": width, "layer": layer, "spectral": spectral, "frobenius": frobenius}
                )
            )
    return pd.concat(parts, ignore_index=True)


def _spectral(M: Tensor, seeds: Sequence[int]) -> Tensor:
    """Return the spectral norms of matrices (s, m, k) by products with M^T M."""
    start = normal(seeds, "spectral", M.shape[2]).to(M)
    return spectral_norms(lambda v, _: (M.mT @ (M @ v[..., None]))[..., 0], start, tol=1e-4, most=100).value.sqrt()


BLOCKS = [(1, 1), (1, 2), (2, 2), (1, 3), (2, 3), (3, 3)]


def second_derivatives(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Norms of the Hessian's blocks by layers for an FCN of three weight layers, and the matrix variances (A.33).

    Returns:
        Tidy: seed, width, "block 1 1" ... "block 3 3", "variance 2 2", "variance 1 1" and the mixed "variance 1 2"
        (the outer factor from layer 1, the inner one from layer 2), all at l = 2.
    """
    x = make.inputs(seeds, size.inputs)[:, 0]

    def study(width: int) -> dict[str, Tensor]:
        nets = make.fcn(seeds, size.inputs, [width, width])
        curved = Curvature(nets, x)
        found = {f"block {a} {b}": curved.block(seeds, a - 1, b - 1).value for a, b in BLOCKS}
        two = nets.layers[1]
        s1, bends = curved.first[0], curved.second[1]
        reads = curved.reads[1]
        own = reads.square().sum(1, keepdim=True) / width  # |d z_i / d w^(2)|^2
        slopes = two.weight * s1[:, None] * width**-0.5
        lower = slopes.square().sum(2) * (x.square().sum(1, keepdim=True) / size.inputs)  # |d z_i / d w^(1)|^2
        found["variance 2 2"] = (bends**2 * own * own).amax(1) / width
        found["variance 1 2"] = (bends**2 * lower * own).amax(1) / width
        reach = x.square().sum(1) / size.inputs
        inner = _spectral((bends.abs() * lower.sqrt())[..., None] * slopes, seeds) ** 2 * reach
        found["variance 1 1"] = inner / width
        return found

    return frame(seeds, size.widths, study)


def neuron_size(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Largest pre-activation of each layer and |f_S|, over what Lemmas A.11.2 and A.11.3 allow, at w_0 and in a ball.

    Given the layer below, the pre-activations of a layer are independent N(0, |f_S|^2 / m): they are drawn from that
    law, so that no matrix is needed. In the ball each neuron's own weights add at most R |f_S| / sqrt(m).

    Returns:
        Tidy: seed, width, layer, start, ball (over (log m + R)^layer), length (|f_S| / sqrt m over (log m)^(layer-1)).
    """
    parts = []
    for width in size.widths:
        below = make.inputs(seeds, size.inputs)[:, 0]
        for layer in range(1, size.layers + 1):
            rms = below.square().mean(1).sqrt()
            z = rms[:, None] * normal(seeds, f"z-{layer}", width)
            top = z.abs().amax(1)
            row = {"seed": list(seeds), "width": width, "layer": layer}
            row["start"] = top / log_factor(width, 0, layer)
            row["ball"] = (top + size.radius * rms) / log_factor(width, size.radius, layer)
            row["length"] = rms / log_factor(width, 0, layer - 1)
            parts.append(pd.DataFrame(row))
            below = torch.tanh(z) if size.activation == "tanh" else CURVES[size.activation](z)[0]
    return pd.concat(parts, ignore_index=True)


def gradient_bound(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    r"""E|grad f| and E|grad f|^2 of ReLU networks against Proposition 2.4.4, x and w_0 ~ N(0, I).

    C_sigma = 1/2 and r = 1, so the printed bound is min(1, min_j 2^-j) = 2^-L for the square, 2^(-L/2) for the norm.

    Returns:
        Per seed and case (width, depth): `printed`, `corrected` (mean less bound in standard errors of the mean over
        networks), `over_printed`, `over_corrected` (mean over bound), `zero` (share of networks with no gradient).
    """
    rows = []
    for width in size.widths:
        nets = size.narrow if width < size.wide else size.many
        for depth in size.depths:
            for seed in seeds:
                square = torch.cat(
                    [_gradient_squares(seed, width, depth, n, part) for part, n in enumerate(_split(nets, width))]
                )
                bound = 2.0**-depth
                row = {"seed": seed, "width": width, "depth": depth, "zero": float((square == 0).double().mean())}
                for name, values, limit in (("printed", square.sqrt(), bound**0.5), ("corrected", square, bound)):
                    error = values.std() / len(values) ** 0.5
                    row[name] = float((values.mean() - limit) / error)
                    row[f"over_{name}"] = float(values.mean() / limit)
                rows.append(row)
    return table(pd.DataFrame(rows), ["width", "depth"])


def _split(total: int, width: int) -> list[int]:
    most = max(1, 2**22 // width**2)
    return [min(most, total - at) for at in range(0, total, most)]


def _gradient_squares(seed: int, width: int, depth: int, nets: int, part: int) -> Tensor:
    """Return |grad f|^2 of independent networks with inputs and hidden layers of one width."""
    draw = generator(seed, f"gradient-{width}-{depth}-{part}")
    values = [torch.randn(nets, width, generator=draw, dtype=torch.float64)]
    shapes = [width] * (depth - 1) + [1]
    weights, gates = [], []
    for index, out in enumerate(shapes):
        W = torch.randn(nets, out, width, generator=draw, dtype=torch.float64)
        z = (W @ values[-1][..., None])[..., 0] * width**-0.5
        weights.append(W)
        gates.append((z > 0).double() if index + 1 < depth else torch.ones_like(z))
        values.append(gates[-1] * z)
    rho = gates[-1] * width**-0.5
    total = torch.zeros(nets, dtype=torch.float64)
    for index in reversed(range(depth)):
        total += rho.square().sum(1) * values[index].square().sum(1)
        if index:
            rho = (rho[:, None] @ weights[index])[:, 0] * gates[index - 1] * width**-0.5
    return total
