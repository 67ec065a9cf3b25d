r"""The spectrum of the ReLU kernel on the sphere, in closed form, and what follows for eigenvalues and widths.

A neuron relu(b^T x) on S^{d-1} has the Funk-Hecke coefficients s_l = E[relu(t) P_l(t)], t = b^T x, where P_l is the
Legendre polynomial of dimension d with P_l(1) = 1; the kernel (0.25) has the eigenvalue s_l^2 on the N(d, l) spherical
harmonics of degree l. Rodrigues' formula and two integrations by parts leave one derivative at 0:

.. math::
    |s_l| = c_d\, 2^{-l} \frac{\Gamma(\frac{d-1}{2})}{\Gamma(l + \frac{d-1}{2})} (l-2)!
            \binom{l + \frac{d-3}{2}}{\frac{l-2}{2}} \quad (l \ge 2\ \text{even}), \qquad s_l = 0 \quad (l \ge 3\
            \text{odd})

with c_d = Gamma(d/2) / (sqrt(pi) Gamma((d-1)/2)), s_0 = c_d / (d-1), s_1 = 1/(2d).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from scipy.special import gammaln

from traindyn.compute import generator, normal
from traindyn.evidence import table
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.hardness import wide
from traindyn.studies.hardness.parities import signs


def coefficients(d: int, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return degrees with s_l > 0 up to `most`, in order: l, s_l^2 and the number N(d, l) of harmonics, as floats.

    Args:
        d: dimension of the space, at least 3.
        most: largest degree, at least 2.
    """
    even = np.arange(2, most + 1, 2, dtype=float)
    half, p = (d - 1) / 2, even + (d - 3) / 2
    log_c = gammaln(d / 2) - gammaln(half) - math.log(math.pi) / 2
    j = (even - 2) / 2
    log_s = log_c - even * math.log(2) + gammaln(half) - gammaln(even + half)
    log_s += gammaln(even - 1) + gammaln(p + 1) - gammaln(j + 1) - gammaln(p - j + 1)
    degree = np.concatenate(([0.0, 1.0], even))
    square = np.concatenate(([math.exp(2 * log_c) / (d - 1) ** 2, 1 / (2 * d) ** 2], np.exp(2 * log_s)))
    log_n = np.log(2 * degree + d - 2) + gammaln(degree + d - 2) - gammaln(degree + 1) - gammaln(d - 1)
    return degree, square, np.exp(log_n)


def decay(dims: Sequence[int], degrees: tuple[int, int] = (2000, 20000), most: int = 2_000_000) -> pd.DataFrame:
    """Return how the kernel's eigenvalues and the widths of the ReLU ball fall, asymptotically.

    The n-th eigenvalue is that of the degree at which the multiplicities of non-zero eigenvalues add up to n; the
    width is (sum_{j>n} of the eigenvalues)^(1/2): the L2 distance of every neuron to the first n harmonics.

    Returns:
        Per d: `eigenvalue` and `width` (log-log slopes on n between two degrees), `eigenvalue_gap` (slope + 1 +
        3/(d-1)), `width_gap` (slope + 3/(2(d-1))), `eigenvalue_excess`, `width_excess` (slopes minus the printed -1 -
        1/d and -1/d), `trace_gap` (relative distance of the sum of all eigenvalues to k(x, x) = 1/(2d)).
    """
    rows = []
    for d in dims:
        degree, square, count = coefficients(d, most)
        tail = np.cumsum((square * count)[::-1])[::-1]
        rest = tail[-1] / 3 * degree[-1] / 2  # beyond the largest degree: terms every 2 degrees that fall as l^-4
        trace = tail[0] + rest
        n = np.cumsum(count)
        chosen = (degree >= degrees[0]) & (degree <= degrees[1])
        eigen = float(loglog_slope(n[chosen], square[chosen]).value)
        width = float(loglog_slope(n[:-1][chosen[:-1]], np.sqrt(tail[1:] + rest)[chosen[:-1]]).value)
        own, other = eigen + 1 + 3 / (d - 1), width + 3 / (2 * (d - 1))
        rows.append((d, eigen, width, own, other, eigen + 1 + 1 / d, width + 1 / d, abs(trace * 2 * d - 1)))
    names = ["eigenvalue", "width", "eigenvalue_gap", "width_gap", "eigenvalue_excess", "width_excess", "trace_gap"]
    return table(pd.DataFrame(rows, columns=["d", *names]), "d")


def random_points(seeds: Sequence[int], size: SimpleNamespace) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take the smallest eigenvalue of the kernel matrix of n uniform points, and what the closest pair allows.

    For i != j, lambda_n(K) <= k(x_i, x_i) - k(x_i, x_j): the quadratic form at (e_i - e_j)/sqrt 2.

    Returns:
        Per seed and d: `slope` (log-log in n), `pair_slope` (of the closest pair's value), `above_pair` (numbers of
        points whose smallest eigenvalue exceeds the pair's value by more than rounding).
        For a figure, tidy: run, d, n, smallest, pair.
    """
    rows = []
    for seed in seeds:
        for d in size.dims:
            X = wide.sphere([seed], f"points {d}", max(size.points), d)[0]
            K = wide.limit(X)
            for n in size.points:
                part = K[:n, :n]
                pair = part[0, 0] - (part - torch.diag(part.diagonal())).max()
                rows.append((seed, d, n, float(wide.smallest(part)), float(pair)))
    shown = pd.DataFrame(rows, columns=["seed", "d", "n", "smallest", "pair"])
    fits = []
    for (seed, d), part in shown.groupby(["seed", "d"]):
        slopes = (float(loglog_slope(part["n"], part[name]).value) for name in ("smallest", "pair"))
        fits.append((seed, d, *slopes, int((part["smallest"] > part["pair"] + 1e-12).sum())))
    found = table(pd.DataFrame(fits, columns=["seed", "d", "slope", "pair_slope", "above_pair"]), "d")
    return found, shown.rename(columns={"seed": "run"})


def aligned(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Let two points approach one another, and take antipodal pairs.

    Returns:
        Per seed and d: `spread` (relative spread of lambda_min / theta^2 over small angles), `coincident` (lambda_min
        of two equal points), `singular` (lambda_min of d + 1 antipodal pairs), `regular` (of d pairs).
    """
    rows = []
    for seed in seeds:
        for d in size.dims:
            frame = torch.linalg.qr(normal([seed], f"frame {d}", d, 2)[0]).Q.T
            ratios = []
            for angle in size.angles:
                X = torch.stack((frame[0], math.cos(angle) * frame[0] + math.sin(angle) * frame[1]))
                ratios.append(float(wide.smallest(wide.limit(X))) / angle**2)
            half = wide.sphere([seed], f"pairs {d}", d + 1, d)[0]
            ends = [abs(float(wide.smallest(wide.limit(torch.cat((P, -P)))))) for P in (half, half[:d])]
            same = abs(float(wide.smallest(wide.limit(frame[:1].repeat(2, 1)))))
            rows.append((seed, d, max(ratios) / min(ratios) - 1, same, *ends))
    return table(pd.DataFrame(rows, columns=["seed", "d", "spread", "coincident", "singular", "regular"]), "d")


def parity_width(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Return how far the 2^d parities are from random n-dimensional spaces of functions on {0, 1}^d, in mean square.

    Returns:
        Per seed and d: `gap`, the largest |mean of dist^2 - (1 - n/2^d)| over n = 1, 2^(d/2), 2^(d-1).
    """
    rows = []
    for seed in seeds:
        for d in size.cube_dims:
            chi, worst = signs(d).double(), 0.0
            for n in (1, 2 ** (d // 2), 2 ** (d - 1)):
                basis = torch.randn(2**d, n, dtype=torch.float64, generator=generator(seed, f"space {d} {n}"))
                Q = torch.linalg.qr(basis).Q  # orthonormal for the sum; parities have squared norm 2^d there
                caught = (chi @ Q).square().sum(1) / 2**d
                worst = max(worst, abs(float((1 - caught).mean()) - (1 - n / 2**d)))
            rows.append((seed, d, worst))
    return table(pd.DataFrame(rows, columns=["seed", "d", "gap"]), "d")


def curve(dims: Sequence[int], most: int = 400, far: int = 200_000) -> pd.DataFrame:
    """Return widths over n for a figure: d, n, width (ReLU ball on the sphere), printed (n^(-1/d), same start)."""
    parts = []
    for d in dims:
        degree, square, count = coefficients(d, far)
        tail = np.sqrt(np.cumsum((square * count)[::-1])[::-1])
        n = np.cumsum(count)
        few = degree[:-1] <= most
        printed = n[:-1][few] ** (-1 / d)
        width = tail[1:][few]
        parts.append(
            pd.DataFrame({"d": d, "n": n[:-1][few], "width": width, "printed": printed * width[0] / printed[0]})
        )
    return pd.concat(parts, ignore_index=True)
