"""The three-dimensional example of Dan et al. (2021), Eq. 14: its figures, the conjectures on it, and its SGD."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import normal
from traindyn.studies.elasticity import closed_form_flows as flows
from traindyn.studies.elasticity.tables import per_seed

FIG10_POINT = (-1.0, -11.0, 1.0)
FIG11_POINT = (1.01, 0.999, 1.2)  # x' of both panels
FIG11_SAMPLED = {"a": (1.0, -1.0, 1.0), "b": (1.0, -11.0, 1.0)}  # x
THETA = 0.001  # the source's time scale in every figure of Section 5, and the step size of its SGD


def _point(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def ray(times: Sequence[float], theta: float = THETA) -> pd.DataFrame:
    """Return S_rel along the ray of Figure 10, x = x' + sqrt(z) (1, 1, 1) with z = 1..100, and at z = 0.

    Args:
        times: times at which Eq. 14 is read;  theta: its time scale.

    Returns:
        Columns time, z, distance, s_rel.
    """
    z = torch.arange(101, dtype=torch.float64)
    x_prime = _point(FIG10_POINT)
    s = flows.s_rel_example(_point(times), x_prime, x_prime + z.sqrt()[:, None], theta)
    grid = pd.MultiIndex.from_product([z.long().tolist(), times], names=["z", "time"]).to_frame(index=False)
    return grid.assign(distance=np.sqrt(3 * grid["z"]), s_rel=s.flatten().numpy())


def rays(
    seeds: Sequence[int], count: int, time: float = 500.0, points: int = 200, theta: float = THETA
) -> pd.DataFrame:
    """Follow Eq. 14 along random rays x' + s u with x' standard normal and u uniform on the sphere.

    Args:
        seeds: `count` rays each;  count: rays;  time, theta: time of Eq. 14 and its scale.
        points: equal steps of s from 0 to sqrt(300), the length of Figure 10; near is s = sqrt(3), its first point.

    Returns:
        For each seed, shares of the rays: "rays_falling" (S at the far end below S near x'), "rays_monotone" (no
        increase anywhere), "interior_maximum" (the largest S lies away from x', so it exceeds S(x', x') = 1),
        "rays_unbeaten" (some point but x' has no strictly closer point with a larger S: against Conjecture 1.1,
        restricted to the ray).
    """
    x_prime, u = normal(seeds, "x-prime", count, 3), normal(seeds, "direction", count, 3)
    u = u / u.norm(dim=-1, keepdim=True)
    lengths = torch.linspace(0, 300**0.5, points + 1, dtype=torch.float64)
    x = x_prime[..., None, :] + lengths[:, None] * u[..., None, :]
    s = flows.s_rel_example(_point([time]), x_prime[..., None, :], x, theta)[..., 0]
    near = flows.s_rel_example(_point([time]), x_prime, x_prime + 3**0.5 * u, theta)[..., 0]
    best_closer = s.cummax(-1).values[..., :-1]
    shares = {
        "rays_falling": s[..., -1] < near,
        "rays_monotone": (s.diff(dim=-1) <= 0).all(-1),
        "interior_maximum": s.argmax(-1) > 0,
        "rays_unbeaten": ~(best_closer > s[..., 1:]).all(-1),
    }
    return per_seed(seeds, {name: share.double().mean(1).tolist() for name, share in shares.items()})


def panels(times: Tensor, theta: float = THETA) -> dict[str, Tensor]:
    """Return Eq. 14 at `times` of shape (T,) for the two pairs of Figure 11, keys "a" and "b"."""
    return {
        name: flows.s_rel_example(times, _point(FIG11_POINT), _point(x), theta) for name, x in FIG11_SAMPLED.items()
    }


def over_time(until: int, theta: float = THETA) -> pd.DataFrame:
    """Return the panels of Figure 11 as a table (panel, t, s_rel) at t = 0, 1, ..., until."""
    t = torch.arange(until + 1, dtype=torch.float64)
    return pd.concat(
        [pd.DataFrame({"panel": name, "t": t, "s_rel": s}) for name, s in panels(t, theta).items()], ignore_index=True
    )


def step_factor(panel: str, theta: float = THETA) -> float:
    """Return eta r x_2 at the start of a panel of Figure 12: how far Definition 1 is from its limit there."""
    x = _point(FIG11_SAMPLED[panel])
    return float(theta * ((_point(flows.EXAMPLE_A) - _point(flows.EXAMPLE_START)) * x).sum() * x[1])


def exact_ends() -> pd.DataFrame:
    """Return S of the two pairs of Figure 11 at t = 0 and t = infinity, by Eq. 14 and from exact weights.

    Columns panel, time, formula, exact; the weights are w^2 = (1/2, 2, 4) and (1, 4, 9).
    """
    rows = []
    for name, x in FIG11_SAMPLED.items():
        s = flows.s_rel_example(_point([0.0, float("inf")]), _point(FIG11_POINT), _point(x))
        for time, value, weights in zip((0.0, float("inf")), s, (flows.EXAMPLE_START, flows.EXAMPLE_A), strict=True):
            top = sum(w * p * q for w, p, q in zip(weights, FIG11_POINT, x, strict=True))
            exact = abs(top) / sum(w * q * q for w, q in zip(weights, x, strict=True))
            rows.append({"panel": name, "time": time, "formula": float(value), "exact": exact})
    return pd.DataFrame(rows)


def windows(times: Tensor, s: Tensor) -> Tensor:
    """Return for each t* the times before it at which S lies below every value from t* on.

    Args:
        times: shape (T,), ascending; the last should be late enough for S to have settled.
        s: shape (..., T).

    Returns:
        Boolean, shape (..., T, T): entry (t*, t). Conjecture 1.2 asks for an interval of such t.
    """
    least_later = s.flip(-1).cummin(-1).values.flip(-1)
    order = torch.arange(len(times))
    return (s[..., None, :] < least_later[..., :, None]) & (order[None, :] < order[:, None])


def common_window(times: Tensor | None = None, theta: float = THETA) -> pd.DataFrame:
    """Scan t* for a window that serves both pairs of Figure 11, and for one that serves each alone.

    Args:
        times: grid of the scan, by default every 2 units up to 8000;  theta: time scale of Eq. 14.

    Returns:
        One row for each t*: t_star, and how long the windows of "a", of "b" and of "both" are, in grid points.
    """
    times = torch.arange(0, 8001, 2, dtype=torch.float64) if times is None else times
    inside = {name: windows(times, s) for name, s in panels(times, theta).items()}
    inside["both"] = inside["a"] & inside["b"]
    return pd.DataFrame({"t_star": times.numpy(), **{name: mask.sum(-1).numpy() for name, mask in inside.items()}})


def random_pairs(
    seeds: Sequence[int], pairs: int, late_from: float = 2000.0, end: float = 6000.0, theta: float = THETA
) -> pd.DataFrame:
    """Read Eq. 14 over time for random standard normal pairs.

    Times: every 5 units to 300, every 25 to `late_from`, then 100 equal steps to `end`.

    Args:
        seeds: `pairs` pairs each;  pairs: number;  late_from, end: the late times are [late_from, end].
        theta: time scale of Eq. 14.

    Returns:
        For each seed, shares of the pairs: "without_window" (no window [t1, t2] of its own and t* as in Conjecture 1.2
        exist: S never dips below its limit), "bounded" (S stays above 0.05 at all late times), "share_falling" (S
        decreases at some late time, by more than 1e-12), "share_predicted" (the late direction agrees with the sign
        of x'_1 x_1 sgn(N) - S x_1^2 at t = infinity, which the slowest mode gives; N is the numerator inside the
        absolute value).
    """
    x, x_prime = normal(seeds, "x", pairs, 3), normal(seeds, "x-prime", pairs, 3)
    grids = (torch.arange(0, 300, 5), torch.arange(300, late_from, 25), torch.linspace(late_from, end, 101))
    times = torch.cat([grid.double() for grid in grids])
    forever = _point([float("inf")])
    shares: dict[str, list] = {"without_window": [], "bounded": [], "share_falling": [], "share_predicted": []}
    for here, there in zip(x, x_prime, strict=True):  # one seed at a time: pairs x times fill the memory
        s = flows.s_rel_example(times, there, here, theta)
        limit = flows.s_rel_example(forever, there, here)[..., 0]
        late = s[..., times >= late_from]
        numerator = (_point(flows.EXAMPLE_A) * there * here).sum(-1)
        upward = torch.sign(numerator) * there[..., 0] * here[..., 0] >= limit * here[..., 0] ** 2
        rising = (late.diff(dim=-1) >= -1e-12).all(-1)
        found = {
            "without_window": ~(s.amin(-1) < limit * (1 - 1e-9)),
            "bounded": late.amin(-1) > 0.05,
            "share_falling": ~rising,
            "share_predicted": rising == upward,
        }
        for name, share in found.items():
            shares[name].append(float(share.double().mean()))
    return per_seed(seeds, shares)


def proximity_check(seeds: Sequence[int], pairs: int, theta: float = THETA) -> pd.DataFrame:
    """Check P(x, x') = max_r |x'_r x_r| of Theorem 5.1 against Eq. 14 at 60 times in [0, 6000] for normal pairs.

    Returns:
        For each seed: "ratio_99" (99th percentile over pairs of the largest S / P over time), "exceeding" (share of
        (pair, time) at which S exceeds factor(x, t) P by more than 1e-12 of it), "outgrowing" (share of pairs whose S
        at some t > 3000 exceeds by 1 % the larger of S(x, x') and S(x', x) over all t <= 3000: another symmetric P),
        "variation" (largest max/min over
        time of that factor), "slope" (mean over pairs of the slope of log S against log P, as the coordinates of x'
        shrink like e, e^2, e^3 with e from 1e-3 to 1e-6, x fixed), "uniform_slope" (the mean slope as x shrinks and x'
        is fixed), "self_proximity" (smallest P(x, x)), "triangle" (share of random triples for which
        P(x, z) > P(x, y) + P(y, z)).
    """
    x, x_prime, y = (normal(seeds, name, pairs, 3) for name in ("x", "x-prime", "y"))
    times = torch.linspace(0, 6000, 60, dtype=torch.float64)
    a, start = _point(flows.EXAMPLE_A), _point(flows.EXAMPLE_START)
    squared = flows.squared_weights(times, a, torch.ones_like(a), start, theta)
    s = flows.s_rel_example(times, x_prime, x, theta)

    def metric(p: Tensor, q: Tensor) -> Tensor:
        return flows.proximity(torch.diag_embed(p), torch.diag_embed(q))

    near = metric(x_prime, x)
    early = times <= 3000
    both = torch.maximum(s[..., early].amax(-1), flows.s_rel_example(times[early], x, x_prime, theta).amax(-1))
    factor = squared.sum(-1) / (squared * (x**2)[..., None, :]).sum(-1)
    scale = torch.tensor([1e-3, 1e-6], dtype=x.dtype)[:, None, None, None]
    shrunk = {"slope": (x_prime * scale ** _point([1, 2, 3]), x), "uniform_slope": (x_prime, x * scale)}
    late = times[-1:]
    slopes = {}
    for name, (p, q) in shrunk.items():
        log_s = flows.s_rel_example(late, p.expand(2, -1, -1, -1), q.expand(2, -1, -1, -1), theta)[..., 0].log()
        log_p = metric(p, q).log()
        slopes[name] = (log_s[1] - log_s[0]) / (log_p[1] - log_p[0])
    columns = {
        "ratio_99": (s.amax(-1) / near).quantile(0.99, dim=1).tolist(),
        "exceeding": (s > factor * near[..., None] * (1 + 1e-12)).double().mean((1, 2)).tolist(),
        "outgrowing": (s[..., ~early].amax(-1) > 1.01 * both).double().mean(1).tolist(),
        "variation": (factor.amax(-1) / factor.amin(-1)).amax(1).tolist(),
        "slope": slopes["slope"].mean(1).tolist(),
        "uniform_slope": slopes["uniform_slope"].mean(1).tolist(),
        "self_proximity": metric(x, x).amin(1).tolist(),
        "triangle": (near > metric(x_prime, y) + metric(y, x)).double().mean(1).tolist(),
    }
    return per_seed(seeds, columns)


def sgd_paths(seeds: Sequence[int], runs: int, steps: int, eta: float = THETA) -> Tensor:
    """Run the SGD of Section 5.1 on Eq. 15, w <- w + 2 eta (sum_p x_p (w*_p^2 - w_p^2)) x * w.

    Each step draws a fresh x ~ N(0, I_3).

    Args:
        seeds: `runs` runs each;  runs, steps: numbers;  eta: step size.

    Returns:
        Squared weights, shape (steps + 1, len(seeds), runs, 3).
    """
    target = _point(flows.EXAMPLE_A)
    w = _point(flows.EXAMPLE_START).sqrt().expand(len(seeds), runs, 3)
    path = [w]
    for x in normal(seeds, "samples", steps, runs, 3).unbind(1):
        residual = (x * (target - w**2)).sum(-1, keepdim=True)
        w = w + 2 * eta * residual * x * w
        path.append(w)
    return torch.stack(path) ** 2


def sgd_s_rel(squared: Tensor, seeds: Sequence[int], eta: float = THETA) -> pd.DataFrame:
    """Return S_rel along the SGD of `sgd_paths`, averaged over runs, for the pairs of Figure 11.

    Args:
        squared: what `sgd_paths` returns;  seeds: its seeds.
        eta: its step size, also of the fictitious step and the theta of Eq. 14.

    Returns:
        Columns panel, measure ("definition 1", "limit" eta -> 0, "eq. 14"), seed, step, s_rel.
    """
    x_prime = _point(FIG11_POINT)
    steps = squared.shape[0]
    flow = panels(torch.arange(steps, dtype=torch.float64), eta)
    frames = []
    for name, values in FIG11_SAMPLED.items():
        x = _point(values)
        residual = ((_point(flows.EXAMPLE_A) - squared) * x).sum(-1)
        measures = {
            "definition 1": flows.s_rel_step_diagonal(squared, residual, x_prime, x, eta).mean(-1),
            "limit": flows.s_rel_diagonal(squared, x_prime, x).mean(-1),
            "eq. 14": flow[name][:, None].expand(-1, len(seeds)),
        }
        grid = {"step": np.repeat(np.arange(steps), len(seeds)), "seed": np.tile(list(seeds), steps)}
        frames += [
            pd.DataFrame({"panel": name, "measure": m, **grid, "s_rel": s.flatten()}) for m, s in measures.items()
        ]
    return pd.concat(frames, ignore_index=True)


def first_within(squared: Tensor, seeds: Sequence[int], radius: float = 1e-6) -> pd.DataFrame:
    """Return for each seed "first_step", from which on all runs satisfy |w - w*| < radius (infinite if never).

    Args:
        squared: what `sgd_paths` returns;  seeds: its seeds;  radius: the source's 1e-6.
    """
    distance = (squared.sqrt() - _point(flows.EXAMPLE_A).sqrt()).norm(dim=-1).amax(-1)  # (T, seeds)
    outside = distance >= radius
    last = torch.where(outside, torch.arange(len(outside))[:, None], -1).amax(0)
    first = [float("inf") if step == len(outside) - 1 else float(step + 1) for step in last.tolist()]
    return per_seed(seeds, {"first_step": first})
