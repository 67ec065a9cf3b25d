r"""Training sets in one dimension: the quadratic model as two scalar systems, and the network on its weights.

With inputs on a line, a neuron sees the positive inputs or the negative ones. So the kernel has rank 2 with
eigenvectors p_1 = x 1(x >= 0) and p_2 = x 1(x < 0), and each direction is a single example with |x| = |p_i| and y = <y,
p_i> / |p_i|: Theorem 3.3.6 and Appendices B.10 to B.12 of Zhu's thesis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from traindyn import evidence
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.quadratic import scalar
from traindyn.studies.quadratic.scalar import narrow

SIDES = ("positive", "negative")


def clusters(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return n inputs of Figure 3.3, x ~ N(-2, 1) with label -1 and N(2, 1) with label 1, half of each."""
    y = np.where(np.arange(n) < n // 2, -1.0, 1.0)
    return 2 * y + scalar.rng(seed, "clusters").standard_normal(n), y


def squares(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return |p_i|^2 and <y, p_i> of both signs, each (2,)."""
    signs = [x >= 0, x < 0]
    return np.array([(x[s] ** 2).sum() for s in signs]), np.array([(x[s] * y[s]).sum() for s in signs])


def _weights(seed: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    draws = scalar.rng(seed, f"line/{m}")
    return draws.standard_normal(m), draws.choice([-1.0, 1.0], m)


def identities(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Compare Appendix B.11 and B.12 with gradient descent on the weights of the quadratic model.

    Args:
        seeds: one network and training set each.
        size: attributes n, m, steps, rate (learning rate times lambda_1(0)).

    Returns:
        Per seed, largest over steps and relative: `g_error`, `k_error` of (B.7), (B.8); `rank` and `vectors`: third
        eigenvalue of K and residual of p_i as eigenvectors; `unit`: error of K = sum lambda_i p_i p_i^T with the p_i as
        printed; `drift` of the residual orthogonal to both; `map`: error of the single-example map of u_i = (2 eta^2/m)
        Pi_i L, w_i = (eta^2/m) <r,p_i><y,p_i>; `map_printed`: with the printed w_i; `split` and `split_printed`: error
        of p^T R p / |p|^2 as <r_pm, g_pm> |p|^2 eta^2/m, and of the printed one, both for the un-normalised p;
        `split_unit`: of the printed one for unit p.
    """
    rows = []
    for seed in seeds:
        x, y = clusters(seed, size.n)
        u, v = _weights(seed, size.m)
        p = np.stack([np.where(x >= 0, x, 0), np.where(x < 0, x, 0)])
        gate = (np.outer(u, x) >= 0).astype(float)
        lr, worst, old, first = None, {}, None, None
        for _ in range(size.steps + 1):
            h = gate * np.outer(u, x)
            g = v @ h / size.m**0.5
            s = v[:, None] * gate * x
            K = (s.T @ s + h.T @ h) / size.m
            lr = size.rate / np.linalg.eigvalsh(K)[-1] if lr is None else lr
            r = g - y
            found = _structure(K, p, r, x, y, lr, size.m)
            if old is not None:
                found |= _predicted(old, K, r, p, y, lr, size.m)
            for name, value in found.items():
                worst[name] = max(worst.get(name, 0.0), float(value))
            old = (K, r)
            rest = r - sum((r @ q) * q / (q @ q) for q in p)
            first = rest if first is None else first
            worst["drift"] = max(worst.get("drift", 0.0), float(np.abs(rest - first).max()))
            u, v = u - lr * (s @ r) / size.m**0.5, v - lr * (h @ r) / size.m**0.5
        rows.append({"seed": seed, **worst})
    return evidence.table(pd.DataFrame(rows))


def _structure(K: np.ndarray, p: np.ndarray, r: np.ndarray, x: np.ndarray, y: np.ndarray, lr: float, m: int) -> dict:
    """Return how far the statements about one moment are off, relative to the numbers they are about."""
    values = np.linalg.eigvalsh(K)
    lam = [q @ K @ q / (q @ q) for q in p]
    top, n2 = values[-1], [q @ q for q in p]
    out = {
        "rank": np.abs(values[:-2]).max() / top,
        "vectors": max(np.linalg.norm(K @ q - k * q) / (top * np.linalg.norm(q)) for q, k in zip(p, lam, strict=True)),
        "unit": np.linalg.norm(K - sum(k * np.outer(q, q) for q, k in zip(p, lam, strict=True))) / np.linalg.norm(K),
        "unit_right": np.linalg.norm(K - sum(k * np.outer(q, q) / (q @ q) for q, k in zip(p, lam, strict=True)))
        / np.linalg.norm(K),
    }
    gaps = {"split": [], "split_printed": [], "split_unit": []}
    for q, square in zip(p, n2, strict=True):
        side = q != 0
        inner = (r[side] @ (r + y)[side]) * lr**2 / m  # Q_p = <r_pm, g_pm> p p^T
        printed = lr**2 / m * ((r @ q) ** 2 + r[side] @ y[side])
        unit = lr**2 / m * ((r @ q) ** 2 / square + r[side] @ y[side])
        whole = max(abs(inner * square), lr**2 / m * square)
        exact = lr**2 / m * ((r @ q) * ((r + y) @ q))  # = inner |p|^2, since g is parallel to p on this side
        gaps["split"].append(abs(exact - inner * square) / whole)
        gaps["split_printed"].append(abs(printed - inner * square) / whole)
        gaps["split_unit"].append(abs(unit - inner * square) / whole)
    return out | {name: max(values) for name, values in gaps.items()}


def _predicted(
    old: tuple[np.ndarray, np.ndarray], K: np.ndarray, r: np.ndarray, p: np.ndarray, y: np.ndarray, lr: float, m: int
) -> dict:
    """Return the errors of one step: (B.7), (B.8), and the map of (B.9), (B.10) with the mended and the printed w."""
    K0, r0 = old
    Q, R, maps, printed = 0, 0, [], []
    for q in p:
        side = (q != 0).astype(float)
        rs, gs = r0 * side, (r0 + y) * side
        Q, R = Q + (rs @ gs) * np.outer(q, q), R + (rs @ K0 @ rs) * np.outer(q, q)
        v = lr * (q @ K0 @ q) / (q @ q)
        u = lr**2 / m * (r0 @ q) ** 2
        image = lr**2 / m * (r @ q) ** 2, lr * (q @ K @ q) / (q @ q)
        for w, into in ((lr**2 / m * (r0 @ q) * (y @ q), maps), (lr**2 / m * (rs @ (y * side)), printed)):
            said = (1 - v + u + w) ** 2 * u, v - u * (4 - v) - 4 * w
            least = (lr**2 / m * (y @ q) ** 2, 0.0)
            into.append(max(abs(a - b) / max(abs(b), c) for a, b, c in zip(said, image, least, strict=True)))
    new = r0 - lr * K0 @ r0 + lr**2 / m * Q @ r0
    k = K0 + lr**2 / m * R - 4 * lr / m * Q
    return {
        "g_error": np.linalg.norm(new - r) / max(np.linalg.norm(r), np.linalg.norm(y)),
        "k_error": np.linalg.norm(k - K) / np.linalg.norm(K),
        "map": max(maps),
        "map_printed": max(printed),
    }


def printed_scale(seed: int, n: int) -> float:
    """Return the relative difference of the printed M of Proposition B.11.2 from max_i |p_i|^2."""
    x, _ = clusters(seed, n)
    parts = []
    for side in (np.where(x >= 0, x, 0), np.where(x <= 0, x, 0)):
        parts.append((np.outer(side, side) ** 2).sum() / (side**2).sum())
    return abs(max(parts) / max(squares(x, x)[0]) - 1)


def spikes(seeds: Sequence[int], widths: Sequence[int], ratio: float = 1.45) -> pd.DataFrame:
    """Check Theorem 3.3.6 in both windows, with |p_1|^2 = ratio |p_2|^2, |p_2| = 1 and <y, p_i> = |p_i|^2 / 2.

    Rates lie in the middle of the windows that the theorem leaves, eps = log m / sqrt m.

    Returns:
        Per seed: `lost` (runs that do not end, both windows), `second` (largest loss along p_2 in the lower window over
        its start or target, whichever is larger, over widths), `second_kernel` (its largest change there); slopes in m
        of peak log m / (m delta^2): `first_low`, `first`, `other`; `flat`: peaks that do not exceed their start; NaN
        where a window is empty.
    """
    eps = np.array([narrow(m) for m in widths])[:, None]
    one, two = scalar.sides(seeds, widths, np.array([ratio, 1.0]))
    y = np.array([ratio**0.5 / 2, 0.5])
    low = ((2 + eps) / one.lam, (2 - eps) / two.lam)
    high = ((2 + eps) / two.lam, (4 - eps) / one.lam)
    found = {}
    for name, (a, b) in {"low": low, "high": high}.items():
        lr = np.where(a < b, (a + b) / 2, np.nan)
        found[name] = [
            (scalar.run(part, lr * part.lam, target, steps=6000), lr * part.lam - 2)
            for part, target in ((one, y[0]), (two, y[1]))
        ]
    m, rows = np.asarray(widths, float), []
    for j, seed in enumerate(seeds):
        row = {"seed": seed}
        runs = [run for part in found.values() for run, _ in part]
        row["lost"] = sum(np.isinf(run.final[:, j]).sum() for run in runs)
        quiet, _ = found["low"][1]
        row["second"] = (quiet.peak[:, j] / np.maximum(quiet.start[:, j], y[1] ** 2 / 2)).max()
        row["second_kernel"] = (quiet.change[:, j] / two.lam[:, j]).max()
        spiking = {"first_low": found["low"][0], "first": found["high"][0], "other": found["high"][1]}
        row["flat"] = sum((run.peak[:, j] <= run.start[:, j]).sum() for run, _ in spiking.values())
        for name, (run, delta) in spiking.items():
            row[name] = loglog_slope(m, run.peak[:, j] * np.log(m) / (m * delta[:, j] ** 2)).value
        rows.append(row)
    return evidence.table(pd.DataFrame(rows))


def thresholds(sets: int, n: int, m: int, printed: tuple[float, float]) -> dict[str, float]:
    """Return where a printed pair of critical rates lies among those of many data sets, for several conventions.

    Args:
        sets: data sets with a network each.
        n, m: examples and width.
        printed: 2/lambda_1 and 2/lambda_2 as the figure prints them.

    Returns:
        `ratio` and one number per convention: share of data sets whose smaller critical rate, and ratio of both,
        lies below the printed one. Conventions: mean square, half of it, half sum, each without and with sqrt 2 in the
        ReLU.
    """
    lam = _thresholds(sets, n, m)
    out = {"ratio": float((lam[0] / lam[1] < printed[1] / printed[0]).mean())}
    for name, factor in {"mean_square": n, "half_mean": 2 * n, "half_sum": 2}.items():
        for suffix, gain in (("", 1), ("_he", 2)):
            out[f"{name}{suffix}"] = float((factor / (gain * lam[0]) < printed[0]).mean())
    return out


def _thresholds(sets: int, n: int, m: int, purpose: str = "thresholds") -> np.ndarray:
    """Return lambda_1 >= lambda_2 of many data sets and networks, (2, sets)."""
    draws = scalar.rng(0, purpose)
    x = draws.standard_normal((sets, n)) + np.where(np.arange(n) < n // 2, -2.0, 2.0)
    active = draws.binomial(m, 0.5, sets)
    lam = [
        (np.where(keep, x**2, 0).sum(1)) * (k + 2 * draws.standard_gamma(k / 2)) / m
        for keep, k in ((x >= 0, active), (x < 0, m - active))
    ]
    return -np.sort(-np.array(lam), axis=0)


def picked(seeds: Sequence[int], n: int, m: int, low: float, high: float) -> list[tuple[int, int]]:
    """Return (seed, attempt) per seed: the first attempt whose two critical rates have a ratio in [low, high]."""
    found = []
    for seed in seeds:
        for attempt in range(400):
            net = _network(seed, attempt, n, m)
            if low <= max(net[2]) / min(net[2]) <= high:
                found.append((seed, attempt))
                break
    return found


def _network(seed: int, attempt: int, n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return weights u, v, both eigenvalues (positive side first), and |p|^2, <y, p>, (2, 2)."""
    draws = scalar.rng(seed, f"figure 3.3/{attempt}")
    y = np.where(np.arange(n) < n // 2, -1.0, 1.0)
    x = 2 * y + draws.standard_normal(n)
    u, v = draws.standard_normal(m), draws.choice([-1.0, 1.0], m)
    p2, yp = squares(x, y)
    lam = np.array([(u[s] ** 2 + v[s] ** 2).sum() for s in (u > 0, u <= 0)]) * p2 / m
    return u, v, lam, np.stack([p2, yp])


def follow(seed: int, attempt: int, size: Any, lr: float, frozen: bool) -> pd.DataFrame:
    """Train the network of Figure B.1, or its quadratic model (Figure 3.3), on its weights.

    Args:
        seed, attempt: of data and network.
        size: attributes n, m, steps.
        lr: learning rate for the loss (1/2) sum of squares.
        frozen: whether gates stay as they were at first.

    Returns:
        One row per step: step, loss (1/2) sum over the two directions, positive and negative eigenvalue.
    """
    u, v, _, (p2, yp) = _network(seed, attempt, size.n, size.m)
    at, rows = u > 0, []
    for t in range(size.steps + 1):
        at = at if frozen else u > 0
        sides = (at, ~at)
        theta = np.array([(u[s] * v[s]).sum() for s in sides]) / size.m**0.5
        lam = np.array([(u[s] ** 2 + v[s] ** 2).sum() for s in sides]) * p2 / size.m
        pull = theta * p2 - yp  # <r, p>
        rows.append((t, (pull**2 / p2).sum() / 2, *lam))
        if not np.isfinite(rows[-1][1]) or rows[-1][1] > 1e12:
            break
        force = lr * np.where(at, *pull) / size.m**0.5
        u, v = u - force * v, v - force * u
    return pd.DataFrame(rows, columns=["step", "loss", *SIDES])


def regimes(seeds: Sequence[int], size: Any, frozen: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run the regimes of Figure 3.3 (gates frozen) or B.1 (free) on data with thresholds as close as printed.

    Args:
        seeds: one data set and network each.
        size: attributes n, m, steps, gap (bounds of the ratio of the critical rates), far (upper rate over the second).
        frozen: as in `follow`.

    Returns:
        Evidence per seed and regime (below: 0.9 of the first critical rate; between: the middle of both; above: `far`
        times the second; beyond: 1.05 x 4/lambda_1, the model only): `first`, `second`, end over start of the larger
        and of the smaller eigenvalue, `peak` of the loss over its start; and the tidy paths.
    """
    rows, paths = [], []
    for seed, attempt in picked(seeds, size.n, size.m, *size.gap):
        lam = _network(seed, attempt, size.n, size.m)[2]
        order = np.argsort(-lam)
        crit = 2 / lam[order]
        rates = {"below": 0.9 * crit[0], "between": crit.mean(), "above": size.far * crit[1], "beyond": 2.1 * crit[0]}
        for name, lr in rates.items():
            path = follow(seed, attempt, size, lr, frozen)
            ends = path[[SIDES[k] for k in order]].iloc[-1].to_numpy() / lam[order]
            peak = path["loss"].max() / path["loss"].iloc[0]
            rows.append((seed, name, *ends, peak if len(path) > size.steps else np.inf))
            named = path.rename(columns={SIDES[order[0]]: "lambda 1", SIDES[order[1]]: "lambda 2"})
            paths.append(named.assign(seed=seed, regime=name, lr=lr, first=crit[0], second=crit[1]))
    table = pd.DataFrame(rows, columns=["seed", "regime", "first", "second", "peak"])
    return evidence.table(table, "regime"), pd.concat(paths, ignore_index=True)


def largest(seeds: Sequence[int], n: int, m: int) -> pd.DataFrame:
    """Return per seed the rate times lambda_1(0) from which the quadratic model of Figure 3.3's data diverges."""
    values = np.array([squares(*clusters(seed, n)) for seed in seeds])  # (seeds, 2, 2)
    one, two = scalar.sides(seeds, [m], values[:, 0].T)
    top = np.maximum(one.lam, two.lam)
    found = []
    for part, k in ((one, 0), (two, 1)):
        y = (values[:, 1, k] / values[:, 0, k] ** 0.5)[None]
        found.append(scalar.bisect(part, y, 2.0, 6.0, "diverges", rounds=14, steps=1000) / part.lam * top)
    return evidence.table(pd.DataFrame({"seed": list(seeds), "line": np.minimum(*found)[0]}))
