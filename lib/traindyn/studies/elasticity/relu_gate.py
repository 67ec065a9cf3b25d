"""Experiments on local elasticity of a ReLU gate with exact labels (Dan et al. 2021, Section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from scipy.stats import linregress
from torch import Tensor

from traindyn.compute import normal
from traindyn.evidence import table
from traindyn.layers import starts
from traindyn.measure.ode import relax, rk4
from traindyn.studies.elasticity import closed_form_gate as gate
from traindyn.studies.elasticity.tables import per_seed


def modified_sgd(seeds: Sequence[int], n: int, steps: int, eta: float) -> pd.DataFrame:
    """Run Algorithm 1 on standard normal inputs and fit a geometric rate to |w_t - w*|.

    Args:
        seeds: one run each (w*, start and samples);  n: dimension;  steps: updates;  eta: step length.

    Returns:
        For each seed "slope" and "r2" of the straight line through log(error) against the step while the error exceeds
        1e-12, and the "final" error.
    """
    w_star, w = normal(seeds, "truth", n), starts(seeds, "start", n)
    samples = normal(seeds, "samples", steps, n)
    errors = [(w - w_star).norm(dim=-1)]
    for x in samples.unbind(1):
        w = gate.gate_step(w, x, w_star, eta)
        errors.append((w - w_star).norm(dim=-1))
    rows = []
    for seed, error in zip(seeds, torch.stack(errors, 1).numpy(), strict=True):
        above = np.arange(int(np.argmax(error < 1e-12)) or len(error))
        line = linregress(above, np.log(error[above]))
        rows.append({"seed": seed, "slope": line.slope, "r2": line.rvalue**2, "final": error[-1]})
    return table(pd.DataFrame(rows))


def ode_gap(seeds: Sequence[int], n: int, m: int, steps: int) -> pd.DataFrame:
    """Compare the closed form of Theorem 4.1 with a Runge-Kutta integration of Eq. 5, a sample being the law.

    Args:
        seeds: w*, start and law each;  n: dimension;  m: points of the law;  steps: Runge-Kutta steps up to beta t = 4.

    Returns:
        For each seed: "error" (closed form against integration), "fixed" (largest entry of z - M w*), "distance"
        (|w - w*| at beta t = 200) and "half_line" (the same for a law on a half line, where M is singular).
    """
    w_star, w0, X = normal(seeds, "truth", n), starts(seeds, "start", n), normal(seeds, "law", m, n)
    M, z = gate.gate_moments(X, w_star)
    numeric = rk4(lambda w: gate.gate_rate(w, X, w_star), w0, 4.0, steps)
    times = torch.tensor([4.0, 200.0], dtype=w0.dtype)
    end, limit = gate.gate_flow(w0[:, None], w_star, M, 1.0, times)[:, :, 0].unbind(1)
    line = normal(seeds, "lengths", m, 1).abs() * (w_star / w_star.norm(dim=-1, keepdim=True))[:, None, :]
    flat = gate.gate_flow(w0[:, None], w_star, gate.gate_moments(line, w_star)[0], 1.0, times)[:, -1, 0]
    columns = {
        "error": (end - numeric).abs().amax(-1).tolist(),
        "fixed": (z - (M @ w_star[..., None]).squeeze(-1)).abs().amax(-1).tolist(),
        "distance": (limit - w_star).norm(dim=-1).tolist(),
        "half_line": (flat - w_star).norm(dim=-1).tolist(),
    }
    return per_seed(seeds, columns)


def _flow_pairs(
    seeds: Sequence[int], n: int, times: Tensor, pairs: int, scale: float, acute: bool
) -> dict[str, Tensor]:
    """Return w(t), w(t) - w*, w* and pairs x, x' for an own pair and start at each (seed, time, pair)."""
    w_star = normal(seeds, "truth", n)
    M, _ = gate.gate_moments(normal(seeds, "law", 2000, n), w_star)
    error = relax(M, 1.0, starts(seeds, "start", pairs, n) - w_star[:, None], times)
    shape = (len(times), pairs, n)
    x, x_prime = scale * normal(seeds, "x", *shape), scale * normal(seeds, "x-prime", *shape)
    w_star = w_star[:, None, None, :]
    if acute:  # reflect the points into the half space that the theorem asks for
        x, x_prime = (v * torch.sign((v * w_star).sum(-1, keepdim=True)) for v in (x, x_prime))
    return {"w": w_star + error, "error": error, "w_star": w_star, "x": x, "x_prime": x_prime}


def _direct(case: dict[str, Tensor], step: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the changes at x' and x by Definition 1, and the larger output, all of shape (seeds, times, pairs)."""
    w_new = gate.gate_step(case["w"], case["x"], case["w_star"], step)
    above, below = (gate.gate_change(case["w"], w_new, case[point]) for point in ("x_prime", "x"))
    size = torch.stack([torch.relu((w * case[p]).sum(-1)) for w in (case["w"], w_new) for p in ("x", "x_prime")])
    return above, below, size.amax(0)


def lemma_violations(seeds: Sequence[int], n: int, draws: int, step: float = 0.1) -> pd.DataFrame:
    """Count how often the bounds of Lemma 4.2 are exceeded by the change at x' over random pairs, starts and times.

    Args:
        seeds, n: as above;  draws: random (x, x', w(0)) at each of 10 times in [0, 5];  step: eta beta.

    Returns:
        For each seed: "stated", "mended" and "mended_norm" (with the inner product, and with the norm of x): the share
        of draws in violation by more than 1e-12 of the bound's scale; "stated_long_x": among draws with |x| > 1.
    """
    case = _flow_pairs(seeds, n, torch.linspace(0, 5, 10, dtype=torch.float64), draws // 10, 1.0, acute=False)
    change, _, _ = _direct(case, step)
    shares, long = {}, case["x"].norm(dim=-1) > 1
    for name, form in (("stated", "printed"), ("mended", "projection"), ("mended_norm", "norm")):
        bound = gate.change_bound(case["error"], case["x_prime"], case["x"], case["w_star"], step, form)
        over = change > bound + 1e-12 * (1 + bound)
        shares[name] = over.double().mean((1, 2)).tolist()
        if name == "stated":
            shares["stated_long_x"] = ((over & long).sum((1, 2)) / long.sum((1, 2))).tolist()
    return per_seed(seeds, shares)


def growing_product(times: Sequence[float]) -> pd.DataFrame:
    """Return, for v(t) = exp(-M t) (1, -1) with M = diag(1, 2), its inner product with (1, 1) and its norm: by t."""
    t = torch.tensor(times, dtype=torch.float64)
    M = torch.diag(torch.tensor([1.0, 2.0], dtype=t.dtype))
    v = relax(M, 1.0, torch.tensor([[1.0, -1.0]], dtype=t.dtype), t)[:, 0]
    return pd.DataFrame({"t": t, "inner product": v.sum(-1), "norm": v.norm(dim=-1)})


def late_bound_check(seeds: Sequence[int], n: int, pairs: int, step: float = 0.1) -> pd.DataFrame:
    """Check the lower bound of Theorem 4.3 at late times (beta t = 30, 40) and count what happens early (0 to 3).

    Args:
        seeds, n: as above;  pairs: admissible random pairs with their own starts at each time;  step: eta beta.

    Returns:
        For each seed: "late_below" (largest amount by which S falls short of the bound) and "late_gap" (largest
        |S - bound|), both relative to max(1, bound), "late_undefined", "early_undefined" (shares of steps with no
        resolvable change at x), "early_below" (share of the defined early steps at which S is below the bound).
    """
    out: dict[str, list] = {}
    for name, times in (("early", [0.0, 1.0, 2.0, 3.0]), ("late", [30.0, 40.0])):
        case = _flow_pairs(seeds, n, torch.tensor(times, dtype=torch.float64), pairs, 1.0, acute=True)
        above, below, output = _direct(case, step)
        # a smaller change at x is too much rounding of the outputs it is a difference of
        defined = below > 1e8 * torch.finfo(below.dtype).eps * output
        bound = gate.late_bound(case["x_prime"], case["x"])
        gap = torch.where(defined, (above / below - bound) / bound.clamp(min=1), 0.0)
        out[f"{name}_undefined"] = (~defined).double().mean((1, 2)).tolist()
        if name == "late":
            out["late_below"] = (-gap).clamp(min=0).amax((1, 2)).tolist()
            out["late_gap"] = gap.abs().amax((1, 2)).tolist()
        else:
            out["early_below"] = ((gap < -1e-6).sum((1, 2)) / defined.sum((1, 2))).tolist()
    return per_seed(seeds, out)


def exact_gap(seeds: Sequence[int], n: int, pairs: int, step: float = 0.3) -> pd.DataFrame:
    """Compare the exact S_rel of Eqs. 18 and 19, right and as printed, with Definition 1 at ten times in [0, 9].

    Args:
        seeds, n, step: as above;  pairs: random pairs and starts at each time.

    Returns:
        For each seed: "error_right" and "error_printed", the largest |S - S_direct| / max(1, S_direct) where the change
        at x exceeds 1e-4 of the outputs; "undefined", the share of steps with no change at x; "skipped", the share of
        the others that are too small to be resolved.
    """
    case = _flow_pairs(seeds, n, torch.arange(10, dtype=torch.float64), pairs, 1.0, acute=False)
    above, below, output = _direct(case, step)
    usable = below > 1e-4 * output
    direct = above / below
    gaps = {}
    for alpha in ("right", "printed"):
        top, bottom = (
            gate.exact_change(case["error"], case[point], case["x"], case["w_star"], step, alpha)
            for point in ("x_prime", "x")
        )
        error = (top / bottom - direct).abs() / direct.clamp(min=1)
        gaps[f"error_{alpha}"] = torch.where(usable, error, 0.0).amax((1, 2)).tolist()
    nothing = below == 0
    gaps["undefined"] = nothing.double().mean((1, 2)).tolist()
    gaps["skipped"] = (~usable & ~nothing).double().mean((1, 2)).tolist()
    return per_seed(seeds, gaps)


def gate_sgd(
    seeds: Sequence[int], steps: int, batch: int, eta: float, n: int = 10, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Train a ReLU gate on (1/2) mean (y - max(0, <w,x>))^2 by plain mini-batch SGD, w* = (1, ..., 1), x ~ N(0, I).

    Args:
        seeds: one run each (standard normal start, samples);  steps, batch, eta: of the SGD;  n: dimension.
        dtype: precision of the run; the draws are the same in every precision.

    Returns:
        The iterates, shape (len(seeds), steps + 1, n).
    """
    w = starts(seeds, "start", n).to(dtype)
    path = [w]
    for X in normal(seeds, "batches", steps, batch, n).to(dtype).unbind(1):
        out = (X @ w[..., None]).squeeze(-1)
        residual = torch.relu(X.sum(-1)) - torch.relu(out)
        w = w + eta * ((residual * (out > 0))[..., None] * X).mean(1)
        path.append(w)
    return torch.stack(path, 1)


def gate_s_rel(path: Tensor, x_prime: Tensor, x: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """Return S_rel of Definition 1 along SGD of the ReLU gate, and where it can be resolved.

    The fictitious step is a step of that SGD on x alone: w+ = w + eta 1{<w,x> > 0} (y - <w,x>) x, w* = (1, ..., 1).

    Args:
        path: iterates, shape (runs, T, n);  x_prime, x: shapes that broadcast to (runs, n);  eta: step size.

    Returns:
        S (nan or infinite where undefined) and a mask that is true where the change at x exceeds 1e8 machine epsilons
        times the outputs, so that S carries 7 digits or more in float64; both of shape (runs, T).
    """
    x, x_prime = (v.to(path).expand(len(path), -1)[:, None, :] for v in (x, x_prime))
    out = (path * x).sum(-1, keepdim=True)
    w_new = path + eta * ((x.sum(-1, keepdim=True) - out) * (out > 0)) * x
    top, bottom = gate.gate_change(path, w_new, x_prime), gate.gate_change(path, w_new, x)
    size = torch.stack([torch.relu((w * v).sum(-1)) for w in (path, w_new) for v in (x, x_prime)]).amax(0)
    return top / bottom, bottom > 1e8 * torch.finfo(path.dtype).eps * size


def switching_pair(path: Tensor, seeds: Sequence[int], candidates: int = 2000) -> tuple[Tensor, Tensor]:
    """Return for each run a random pair (x', x) whose gate is closed at x' and open at x at the start, open at the end.

    Args:
        path: iterates of `gate_sgd`, shape (runs, T, n);  seeds: its seeds;  candidates: random points to choose from.
    """
    points = normal(seeds, "candidates", candidates, path.shape[-1]).to(path)
    begin = (points @ path[:, 0, :, None]).squeeze(-1)
    acute = points.sum(-1) > 0.5
    chosen = []
    for wanted in (begin < -0.5, begin > 0.5):
        first = (acute & wanted).double().argmax(-1)
        chosen.append(points[torch.arange(len(points)), first])
    return chosen[0], chosen[1]


def figure9(seeds: Sequence[int], steps: int, batch: int, eta: float = 0.05) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Follow S_rel along SGD on a ReLU gate for the pair of Figure 9 and for two pairs that are not collinear.

    Pairs: "collinear" (x = (10, ..., 10), x' = (sqrt 200, ...)), the same in float32 ("collinear, float32"),
    "non-collinear" (x' = (20, 0, 20, 0, ...)) and "switching" (`switching_pair`).

    Args:
        seeds, steps, batch, eta: as for `gate_sgd`.

    Returns:
        The curves (columns pair, run, step, s_rel, bound, resolved, relative), and for each run: "distance" (final
        |w - w*|), "collinear_gap" (largest |S - sqrt 2| at resolved steps), "late_gap" (largest |S - bound| of the
        non-collinear pair at resolved steps with |w - w*| < 0.01), "departure" (largest |S/bound - 1| of the switching
        pair at resolved steps among the first 50), "undefined" (steps at which the printed pair stays put),
        "undefined_32" (the same in float32).
    """
    paths = {dtype: gate_sgd(seeds, steps, batch, eta, dtype=dtype) for dtype in (torch.float64, torch.float32)}
    path = paths[torch.float64]
    ten = torch.full((1, 10), 10.0, dtype=torch.float64)
    twenty = torch.tensor([[20.0, 0.0] * 5], dtype=torch.float64)
    away, open_gate = switching_pair(path, seeds)
    pairs = {
        "collinear": (path, ten * 2**0.5, ten),
        "collinear, float32": (paths[torch.float32], ten * 2**0.5, ten),
        "non-collinear": (path, twenty, ten),
        "switching": (path, away, open_gate),
    }
    frames, gaps, clear = [], {}, {}
    for name, (weights, x_prime, x) in pairs.items():
        s, clear[name] = gate_s_rel(weights, x_prime, x, eta)
        bound = gate.late_bound(x_prime, x).expand(len(s))[:, None]
        gaps[name] = torch.where(clear[name], (s.double() - bound).abs(), 0.0) / (bound if name == "switching" else 1)
        shape = {"run": np.repeat(list(seeds), steps + 1), "step": np.tile(np.arange(steps + 1), len(seeds))}
        columns = {"s_rel": s.flatten(), "bound": bound.expand_as(s).flatten(), "resolved": clear[name].flatten()}
        columns["relative"] = columns["s_rel"] / columns["bound"]
        frames.append(pd.DataFrame({"pair": name, **shape, **columns}))
    distance = (path - 1).norm(dim=-1)
    undefined = [frame.groupby("run", sort=False)["s_rel"].apply(lambda v: int(v.isna().sum())) for frame in frames[:2]]
    columns = {
        "distance": distance[:, -1].tolist(),
        "collinear_gap": gaps["collinear"].amax(1).tolist(),
        "late_gap": torch.where(distance < 0.01, gaps["non-collinear"], 0.0).amax(1).tolist(),
        "departure": gaps["switching"][:, :50].amax(1).tolist(),
        "undefined": undefined[0].tolist(),
        "undefined_32": undefined[1].tolist(),
    }
    return pd.concat(frames, ignore_index=True), per_seed(seeds, columns)


def caption(size: SimpleNamespace) -> str:
    """Return what the figure of `figure9` draws: attribute seeds of `size`."""
    return (
        f"$S$ relative to $|\\langle x,x'\\rangle|/\\lVert x\\rVert^2$ over the first steps of {size.seeds} SGD "
        "runs on a ReLU gate. Left: the source's pair in single precision, all steps, where only rounding can move it. "
        "Middle and right, in double precision at resolved steps: $x'=(20,0,20,0,\\dots)$, and a pair whose gate at "
        "$x'$ is closed at the start."
    )
