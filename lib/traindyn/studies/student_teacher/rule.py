"""The gradient rule of deep ReLU students and its piecewise constant coefficients (Lemma 1, Corollary 1)."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import generator, normal, uniform
from traindyn.evidence import table
from traindyn.layers import starts
from traindyn.learn.models import FCN
from traindyn.measure import teacher as measure


def weights(seed: int, widths: Sequence[int], purpose: str) -> list[Tensor]:
    """Return W_1, ..., W_L of one bias-free network, W_l (n_{l-1}, n_l) ~ N(0, 2/n_{l-1}), float64."""
    return [
        (2 / a) ** 0.5 * starts([seed], f"{purpose}-{i}", a, b)[0]
        for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False))
    ]


def forward(layers: list[Tensor], X: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return pre-activations z_1, ..., z_L and activations f_0 = X, ..., f_L (no ReLU at the top)."""
    z, f = [], [X]
    for depth, W in enumerate(layers, 1):
        z.append(f[-1] @ W)
        f.append(z[-1] if depth == len(layers) else z[-1].relu())
    return z, f


def gradient_rule(A: Tensor, B: Tensor, f: Tensor, f_teacher: Tensor) -> Tensor:
    r"""Return g_l(x) = D_l [A_l f_l^* - B_l f_l] (Eq. 3): the descent direction of (1/2)|f_L^* - f_L|^2 at layer l.

    Args:
        A: (n, n_l, m_l).  B: (n, n_l, n_l).
        f: (n, n_l), the student's activations after the ReLU; their signs are the gates.
        f_teacher: (n, m_l).

    Returns:
        (n, n_l).
    """
    inner = torch.einsum("nkj,nj->nk", A, f_teacher) - torch.einsum("nkj,nj->nk", B, f)
    return torch.where(f > 0, inner, 0.0)


def gradient_flow(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Compare -E[f_{l-1} g_l^T] with the automatic gradient of J = (1/2) E |f_L^* - f_L|^2 (Eq. 1 and 2).

    Returns:
        Per seed: `gap` (largest difference over all weights), `ungated` (the same with a residual that skips the
        gates), `sign_as_printed` and `sign_mended`: largest |g_L -+ dJ/df_L| with g_L = f_L^* - f_L.
    """
    rows = []
    for seed in seeds:
        X = normal([seed], "inputs", size.samples, size.student[0])[0]
        layers, target = weights(seed, size.student, "student"), weights(seed, size.teacher, "teacher")
        layers = [W.requires_grad_() for W in layers]
        z, f = forward(layers, X)
        wanted = forward(target, X)[1][-1]
        J = (wanted - f[-1]).square().sum(1).mean() / 2
        *grads, top = torch.autograd.grad(J, [*layers, f[-1]])
        gap = ungated = 0.0
        g = loose = (wanted - f[-1]).detach()
        for depth in range(len(layers), 0, -1):
            below = f[depth - 1].detach()
            gap = max(gap, float((grads[depth - 1] + below.T @ g / len(X)).abs().max()))
            ungated = max(ungated, float((grads[depth - 1] + below.T @ loose / len(X)).abs().max()))
            W = layers[depth - 1].detach()
            g, loose = (g @ W.T) * (below > 0), loose @ W.T
        residual = (wanted - f[-1]).detach() / len(X)
        rows.append((seed, gap, ungated, float((residual - top).abs().max()), float((residual + top).abs().max())))
    return table(pd.DataFrame(rows, columns=["seed", "gap", "ungated", "sign_as_printed", "sign_mended"]))


def recursive_rule(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Compare g_l of Lemma 1 with automatic gradients, with the teacher's and the student's weights in V^*.

    Returns:
        Per seed the largest relative error over layers: `as_printed` (student's W_l in the recursion of V^*, equal
        widths), `mended` (W_l^*, equal widths), `widths` (W_l^*, different widths), `jacobian` (V_l by automatic
        differentiation against the recursion), and whether `as_printed` has a shape error at different widths.
    """
    rows = []
    for seed in seeds:
        equal = _rule(seed, size.student, size.student, size.samples)
        other = _rule(seed, size.student, size.teacher, size.samples)
        rows.append((seed, equal[0], equal[1], other[1], _jacobian_gap(seed, size), other[0] is None))
    return table(pd.DataFrame(rows, columns=["seed", "as_printed", "mended", "widths", "jacobian", "shape_error"]))


def _rule(seed: int, student: Sequence[int], teacher: Sequence[int], n: int) -> tuple[float | None, float]:
    X = normal([seed], "inputs", n, student[0])[0]
    layers, target = weights(seed, student, "student"), weights(seed, teacher, "teacher")
    z, f = forward([W.requires_grad_() for W in layers], X)
    _, f_star = forward(target, X)
    J = (f_star[-1] - f[-1]).square().sum() / 2
    # d J / d z_l is minus the gated residual g_l of every sample
    wanted = [-g for g in torch.autograd.grad(J, z[:-1])]
    with torch.no_grad():
        V = measure.top_down(layers, [(a > 0).to(a) for a in f[1:-1]])
        gates = [(a > 0).to(a) for a in f_star[1:-1]]
        errors = []
        for recursion in (layers, target):
            try:
                V_star = measure.top_down(recursion, gates)
                found = [
                    gradient_rule(v.mT @ vs, v.mT @ v, a, b)
                    for v, vs, a, b in zip(V, V_star, f[1:-1], f_star[1:-1], strict=True)
                ]
                errors.append(max(float((a - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True)))
            except RuntimeError:  # the student's weights do not fit the teacher's widths
                errors.append(None)
    return errors[0], errors[1]


def _jacobian_gap(seed: int, size: SimpleNamespace) -> float:
    """Return the largest gap between mixing coefficients by automatic differentiation and by the recursion."""
    nets = []
    for widths, purpose in ((size.student, "student"), (size.teacher, "teacher")):
        net = FCN(widths[0], list(widths[1:-1]), len(widths) - 1, widths[-1], parameterization="standard").double()
        net.reset(generator(seed, f"jacobian-{purpose}"))
        nets.append(net)
    X = normal([seed], "inputs", size.samples, size.student[0])[0]
    pairs, by_hand = measure.mixing(*nets, X), []
    with torch.no_grad():
        for net in nets:
            layers = [m.weight.T for m in net.layers if hasattr(m, "weight")]
            by_hand.append(measure.top_down(layers, [(a > 0).to(a) for a in forward(layers, X)[1][1:-1]]))
    return max(
        float((A - V.mT @ Vs).abs().max() / A.abs().max()) for (A, _), V, Vs in zip(pairs, *by_hand, strict=True)
    )


def pieces(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Group inputs by gates and look at the coefficients inside a group and at the groups' convexity (Corollary 1).

    Returns:
        Per seed: `spread` (largest spread of A_1 or B_1 inside a group of equal gates in both networks), `violations`
        (midpoints of two points of a group that leave it), `pairs`, `upper_violations` (the same when only the gates
        of layers >= 2 are grouped), `upper_pairs`, `patterns` (groups seen) among `samples` inputs.
    """
    rows = []
    for seed in seeds:
        nets = [weights(seed, w, name) for w, name in ((size.student, "student"), (size.teacher, "teacher"))]
        X = 2 * uniform([seed], "inputs", size.samples, size.student[0])[0] - 1
        codes = _codes(nets, X, 0)
        group, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)[1:]
        group = group.ravel()
        pairs, violations = _midpoints(nets, X, codes, group, counts, 0, size.pairs, seed)
        upper = _codes(nets, X, 1)
        upper_group, upper_counts = np.unique(upper, axis=0, return_inverse=True, return_counts=True)[1:]
        upper_pairs, upper_violations = _midpoints(
            nets, X, upper, upper_group.ravel(), upper_counts, 1, size.pairs, seed
        )
        full = [i for i in np.argsort(-counts)[:200] if counts[i] > 1]
        spread = max(_spread(nets, X[group == i]) for i in full)
        rows.append((seed, spread, pairs, violations, upper_pairs, upper_violations, len(counts), len(X)))
    columns = ["seed", "spread", "pairs", "violations", "upper_pairs", "upper_violations", "patterns", "samples"]
    return table(pd.DataFrame(rows, columns=columns))


def _codes(nets: list[list[Tensor]], X: Tensor, first: int) -> np.ndarray:
    """Return the gates of all hidden layers above `first` in both networks, packed into bytes, one row per input."""
    gates = [z > 0 for layers in nets for z in forward(layers, X)[0][first:-1]]
    return np.packbits(torch.cat(gates, 1).numpy(), axis=1)


def _midpoints(
    nets: list[list[Tensor]],
    X: Tensor,
    codes: np.ndarray,
    group: np.ndarray,
    counts: np.ndarray,
    first: int,
    most: int,
    seed: int,
) -> tuple[int, int]:
    draw = generator(seed, f"midpoints-{first}")
    by_group = np.argsort(group, kind="stable")
    starts_at = np.concatenate([[0], np.cumsum(counts)[:-1]])
    full = np.flatnonzero(counts > 1)
    chosen = full[torch.randint(len(full), (most,), generator=draw).numpy()]
    ends = torch.rand(2, most, dtype=torch.float64, generator=draw).numpy()
    a, b = starts_at[chosen] + (ends * counts[chosen]).astype(int)
    different = a != b
    a, b = by_group[a[different]], by_group[b[different]]
    moved = _codes(nets, (X[a] + X[b]) / 2, first)
    return len(a), int((moved != codes[a]).any(axis=1).sum())


def _spread(nets: list[list[Tensor]], X: Tensor) -> float:
    V = [measure.top_down(layers, [(a > 0).to(a) for a in forward(layers, X)[1][1:-1]])[0] for layers in nets]
    return max(float((M - M[:1]).abs().max()) for M in (V[0].mT @ V[1], V[0].mT @ V[0]))


def chord_gap() -> dict[str, float]:
    """Return `chord_gap`, a chord's midpoint's distance from the image of [-1, 1] under x -> (relu(x), relu(-x)).

    The image is two segments at a right angle. The chord from x = 1 to x = -1 has its midpoint at (1/2, 1/2).
    """
    x = torch.linspace(-1, 1, 200001, dtype=torch.float64)
    image = torch.stack([x.relu(), (-x).relu()], 1)
    return {"chord_gap": float((image - (image[0] + image[-1]) / 2).norm(dim=1).min())}
