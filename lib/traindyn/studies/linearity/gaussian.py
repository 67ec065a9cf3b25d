"""Norms of Gaussian vectors and matrices with a bounded shift: the tail bounds of Lemmas A.11.4 to A.11.8."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import generator, normal
from traindyn.evidence import table
from traindyn.measure.statistics import loglog_slope


def forms(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    r"""Tails of |a^T b| and |B a| for the worst a in a ball around a_0 ~ N(0, I) (A.26), (A.29) with c = 1/2.

    The worst shift of A.11.4 is R b / |b|, with the sign of a_0^T b; for A.11.7 the shift lies along B's top singular
    vector. Both tails are read at several t in units of |b| and |B|.

    Returns:
        Per seed: `vector`, `matrix`: the largest of tail - bound over the t; `no_shift`: the same for the matrix when
        the term R |B| is left out of the threshold.
    """
    rows = []
    for seed in seeds:
        draw = generator(seed, "forms")
        n = size.dim
        b = torch.randn(n, generator=draw, dtype=torch.float64)
        B = torch.randn(n, n, generator=draw, dtype=torch.float64) / n**0.5
        a = torch.randn(size.draws, n, generator=draw, dtype=torch.float64)
        norm_b = b.norm()
        worst = (a @ b).abs() + size.radius * norm_b
        U, S, V = torch.linalg.svd(B)
        turned = torch.where(a @ V[0] >= 0, 1.0, -1.0)[:, None]
        shifted = ((a + size.radius * turned * V[0]) @ B.T).norm(dim=1)
        gaps: dict[str, list[float]] = {"vector": [], "matrix": [], "no_shift": []}
        for t in size.thresholds:
            bound = 2 * math.exp(-(t**2) / 2)
            gaps["vector"].append(float((worst > t * norm_b + size.radius * norm_b).double().mean()) - bound)
            base = t * S[0] + B.norm()
            gaps["matrix"].append(float((shifted > base + size.radius * S[0]).double().mean()) - bound)
            gaps["no_shift"].append(float((shifted > base).double().mean()) - bound)
        rows.append({"seed": seed, **{name: max(values) for name, values in gaps.items()}})
    return table(pd.DataFrame(rows))


def blocks(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    r"""The quotient of |[B_1 a_1, ..., B_n a_n]| to max|B_i| (sqrt n + R + t) + max|B_i|_F (A.27), (A.28).

    n, m and N are equal and double; B_i are all the same, independent, or of rank one. With R > 0 the shift is along
    the top singular directions of the unshifted W, of Frobenius norm R.

    Returns:
        Per seed and case (kind), of the 1 - 2 exp(-t^2) quantile of the quotient: `early` and `late`, its log-log
        slopes in n over the three smallest and the three largest sizes, and `largest`, its largest value.
    """
    level = 1 - 2 * math.exp(-(size.t**2))
    rows = []
    for seed in seeds:
        for kind in ("equal", "random", "rank one"):
            found = []
            for n in size.sides:
                draw = generator(seed, f"blocks-{kind}-{n}")
                B = _blocks(kind, n, draw)
                A = torch.randn(size.draws, n, n, generator=draw, dtype=torch.float64)  # columns a_i
                W = torch.einsum("imk,dki->dmi", B, A)
                norms = torch.linalg.matrix_norm(B, 2)
                bound = norms.max() * (n**0.5 + size.t) + torch.linalg.matrix_norm(B).max()
                found.append(float(np.quantile((_norm(W) / bound).numpy(), level)))
            ends = (slice(0, 3), slice(-3, None))
            early, late = (loglog_slope(size.sides[end], found[end]).value for end in ends)
            rows.append({"seed": seed, "kind": kind, "early": early, "late": late, "largest": max(found)})
    return table(pd.DataFrame(rows), ["kind"])


def _norm(W: Tensor) -> Tensor:
    """Return spectral norms by the smaller Gram matrix."""
    return torch.linalg.eigvalsh(W.mT @ W)[:, -1].clamp_min(0).sqrt()


def _blocks(kind: str, n: int, draw: torch.Generator) -> Tensor:
    B = torch.randn(n, n, n, generator=draw, dtype=torch.float64) / n**0.5
    if kind == "equal":
        return B[:1].expand(n, n, n)
    if kind == "random":
        return B
    return B[:, :, :1] * B[:, :1, :]


def shifted_blocks(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """The share of draws in which a shift Delta A of norm R adds more to |W| than max|B_i| R (Lemma A.11.6).

    The proof's step is |Delta W| <= |Delta W|_F <= max|B_i| |Delta A|_F. The shift is random.

    Returns:
        Per seed: `step`, the largest |Delta W|_F / (max|B_i| |Delta A|_F).
    """
    rows = []
    n = size.sides[-1]
    for seed in seeds:
        draw = generator(seed, "shift")
        B = _blocks("random", n, draw)
        shift = torch.randn(size.draws, n, n, generator=draw, dtype=torch.float64)
        W = torch.einsum("imk,dki->dmi", B, shift)
        quotient = W.square().sum((1, 2)).sqrt() / (
            torch.linalg.matrix_norm(B, 2).max() * shift.square().sum((1, 2)).sqrt()
        )
        rows.append({"seed": seed, "step": float(quotient.max())})
    return table(pd.DataFrame(rows))


def series(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    r"""Tails of Z = sum (gamma_k + Delta gamma_k) B_k beyond t + R nu (as printed, A.30) and t + R sqrt(nu).

    The scalar case b, nu = b^2 with Delta gamma = R; and matrices, with Delta gamma along the vector that a power
    iteration makes worst for |sum Delta gamma_k B_k|.

    Returns:
        Per seed: `printed`, `scalar`, `matrix`: tail minus bound (d_1 + d_2) exp(-t^2 / 2 nu), the first with the
        printed threshold; `allowed`: the bound of the scalar case.
    """
    rows = []
    for seed in seeds:
        draw = generator(seed, "series")
        gamma = torch.randn(size.draws, generator=draw, dtype=torch.float64)
        Z = ((gamma + size.radius) * size.b).abs()
        nu = size.b**2
        bound = 2 * math.exp(-(size.t**2) / (2 * nu))
        printed = float((size.t + size.radius * nu < Z).double().mean()) - bound
        scalar = float((size.t + size.radius * nu**0.5 < Z).double().mean()) - bound
        B = torch.randn(size.terms, *size.shape, generator=draw, dtype=torch.float64)
        whole = max(
            torch.linalg.eigvalsh(torch.einsum("kij,klj->il", B, B))[-1],
            torch.linalg.eigvalsh(torch.einsum("kij,kil->jl", B, B))[-1],
        )
        root = float(whole) ** 0.5
        along = torch.ones(size.terms, dtype=torch.float64)
        for _ in range(50):
            U, S, V = torch.linalg.svd(torch.einsum("k,kij->ij", along, B))
            along = torch.einsum("i,kij,j->k", U[:, 0], B, V[0])
            along = along / along.norm()
        many = normal([seed], "series-matrix", size.matrices, size.terms)[0]
        signs = torch.where(many @ along >= 0, 1.0, -1.0)[:, None]
        norms = _norm(torch.einsum("dk,kij->dij", many + size.radius * signs * along, B))
        gaps = []
        for t in size.thresholds:
            limit = sum(size.shape) * math.exp(-(t**2) / 2)
            gaps.append(float((norms > (t + size.radius) * root).double().mean()) - limit)
        rows.append({"seed": seed, "printed": printed, "scalar": scalar, "matrix": max(gaps), "allowed": bound})
    return table(pd.DataFrame(rows))
