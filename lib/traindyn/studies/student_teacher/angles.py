"""The field that moves a two-layer student: norm growth, Theorem 6 by Monte Carlo, and the form of Eq. 8."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import generator, normal
from traindyn.evidence import table
from traindyn.layers import starts
from traindyn.measure import teacher as measure
from traindyn.studies.student_teacher import students as learn
from traindyn.studies.student_teacher import teachers

LAWS = ("normal", "sphere", "student_t")
FREEDOM = 8  # of the multivariate t, so that fourth moments exist


def draws(law: str, n: int, d: int, draw: torch.Generator) -> tuple[Tensor, float]:
    """Return n spherically symmetric points (n, d) and kappa = E|x|^2 / d; laws as in `LAWS`."""
    x = torch.randn(n, d, dtype=torch.float64, generator=draw)
    if law == "sphere":
        return x / x.norm(dim=1, keepdim=True), 1 / d
    if law == "student_t":
        chi = torch.randn(n, FREEDOM, dtype=torch.float64, generator=draw).square().sum(1, keepdim=True)
        return x * (FREEDOM / chi).sqrt(), FREEDOM / (FREEDOM - 2)
    return x, 1.0


def pair(d: int, theta: float, norms: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Return w^* and w at an angle theta with the given norms, in the plane of the first two axes."""
    w_star, w = torch.zeros(2, d, dtype=torch.float64)
    w_star[0] = norms[0]
    w[0], w[1] = norms[1] * np.cos(theta), norms[1] * np.sin(theta)
    return w_star, w


def expected_activation(w_teacher: Tensor, w: Tensor, second_moment: float = 1.0) -> Tensor:
    r"""Return E[x 1(w.x > 0) relu(w^*.x)] for spherically symmetric x (Theorem 6 with its constant and norms mended).

    kappa/(2 pi) [ (pi - theta) w^* + sin(theta) |w^*| w/|w| ],  kappa = E|x|^2 / d.

    Args:
        w_teacher: (..., d).  w: (..., d), not zero.
        second_moment: kappa; 1 for N(0, I).

    Returns:
        (..., d).
    """
    theta = measure.angle(w_teacher, w)[..., None]
    unit = w / w.norm(dim=-1, keepdim=True)
    bracket = (torch.pi - theta) * w_teacher + theta.sin() * w_teacher.norm(dim=-1, keepdim=True) * unit
    return second_moment / (2 * torch.pi) * bracket


def expected(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Estimate E[x 1(w.x > 0) relu(w^*.x)] by Monte Carlo and compare with Theorem 6 as printed and mended.

    One sample per law and dimension serves all angles and norms.

    Args:
        seeds: of the samples.
        size: laws, dims, norms (pairs |w^*|, |w|), angles, samples.

    Returns:
        One row per case (seed, law, d, norms, theta): `error` (largest in-plane residual of the mended formula in
        standard errors), `ratio`
        (length of the estimate over that of the formula), `printed_scalar` (best multiple of the printed bracket),
        `printed_error` (angle between the printed bracket and the estimate, radian), `slip_error` (the same for unit
        vectors with the sign that the printed proof arrives at).
    """
    rows = []
    for seed, law, d in product(seeds, size.laws, size.dims):
        x, kappa = draws(law, size.samples, d, generator(seed, f"{law}-{d}"))
        for norms in size.norms:
            for theta in size.angles:
                w_star, w = pair(d, theta, norms)
                terms = x[:, :2] * ((x @ w > 0) * (x @ w_star).relu())[:, None]
                mean, error = terms.mean(0), terms.std(0) / size.samples**0.5
                formula = expected_activation(w_star, w, kappa)[:2]
                printed = norms[0] * norms[1] / 2 * ((np.pi - theta) * w_star + np.sin(theta) * w)[:2]
                slip = (np.pi - theta) * w_star[:2] / norms[0] - np.sin(theta) * w[:2] / norms[1]
                rows.append(
                    {
                        "seed": seed,
                        "law": law,
                        "d": d,
                        "norms": f"{norms[0]:g}, {norms[1]:g}",
                        "theta": theta,
                        "error": float(((mean - formula).abs() / error.clamp_min(1e-12)).max()),
                        "ratio": float(mean.norm() / formula.norm()),
                        "printed_scalar": float((mean @ printed) / (printed @ printed)),
                        "printed_error": float(measure.angle(mean, printed)),
                        "slip_error": float(measure.angle(mean, slip)),
                    }
                )
    return pd.DataFrame(rows)


def pull(found: pd.DataFrame, inner: float) -> pd.DataFrame:
    """Return the worst of the cases of `expected`, per seed.

    Args:
        found: of `expected`.
        inner: largest angle, radian, at which directions and lengths are compared; the vectors nearly vanish beyond.

    Returns:
        `errors` (largest `error`), `slip_error`; over angles below `inner`: `printed_error`, `length_error` (of
        `ratio` against 1); `scalar_spread` (largest over smallest `printed_scalar` among the norms, at the worst law,
        dimension and angle); `compared` (number of cases).
    """
    near = found[found["theta"] < inner].assign(length_error=lambda t: (t["ratio"] - 1).abs())
    scalars = found.groupby(["seed", "law", "d", "theta"])["printed_scalar"].agg(lambda s: s.max() / s.min())
    worst = found.groupby("seed").agg(errors=("error", "max"), slip_error=("slip_error", "max"), compared=("d", "size"))
    worst = worst.join(near.groupby("seed")[["printed_error", "length_error"]].max())
    return table(worst.join(scalars.groupby("seed").max().rename("scalar_spread")).reset_index())


def between(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Estimate the coefficients of the expected vector along w^* and w, over angles (sentence after Theorem 6).

    Returns:
        Per seed and input law ("symmetric", or "shifted": a normal one with mean 1.5 along -w): `lowest`, the smaller
        of the two coefficients at the worst angle, in standard errors.
    """
    rows = []
    for seed in seeds:
        x = torch.randn(size.samples, 3, dtype=torch.float64, generator=generator(seed, "between"))
        for theta in np.linspace(0.1, np.pi - 0.1, size.angles):
            w_star, w = pair(3, theta, (1.0, 1.0))
            basis = torch.linalg.inv(torch.stack([w_star[:2], w[:2]], 1))
            for law, points in (("symmetric", x), ("shifted", x - 1.5 * w)):
                terms = points[:, :2] * ((points @ w > 0) * (points @ w_star).relu())[:, None]
                along = terms @ basis.T
                error = along.std(0) / size.samples**0.5
                rows.append((seed, law, theta, float((along.mean(0) / error.clamp_min(1e-12)).min())))
    found = pd.DataFrame(rows, columns=["seed", "law", "theta", "lowest"])
    return table(found.groupby(["seed", "law"], as_index=False)["lowest"].min(), "law")


def norm_growth(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Compare w_k . dw_k/dt with E[f_k r.v_k] on the same inputs, and with what one small SGD step does (Eq. 6).

    Returns:
        Per seed and kind of network (`relu`, `linear`): `gap` (largest relative gap of the identity, the left side by
        automatic differentiation) and `step` (largest relative gap of the change of |w_k|^2 / 2 in one step, per lr).
    """
    rows = []
    lr = 1e-5
    for seed in seeds:
        X = normal([seed], "inputs", size.samples, size.d)[0]
        target = teachers.two_layer([seed], size.d, size.m, size.outputs)(X)[0]
        for kind in ("relu", "linear"):
            W = (starts([seed], "first", size.d, size.n)[0] / size.d**0.5).requires_grad_()
            V = starts([seed], "second", size.n, size.outputs)[0] / size.n**0.5
            f = X @ W if kind == "linear" else (X @ W).relu()
            r = target - f @ V
            (slope,) = torch.autograd.grad(r.square().sum(1).mean() / 2, W)
            left = -(W * slope).sum(0).detach()
            right = (f * (r @ V.T)).mean(0).detach()
            moved = (W - lr * slope).detach()
            change = (moved.square().sum(0) - W.detach().square().sum(0)) / (2 * lr)
            scale = right.abs().max()
            rows.append(
                (seed, kind, float((left - right).abs().max() / scale), float((change - right).abs().max() / scale))
            )
    return table(pd.DataFrame(rows, columns=["seed", "kind", "gap", "step"]), "kind")


def field(W: Tensor, V: Tensor, W_star: Tensor, V_star: Tensor) -> Tensor:
    r"""Return the population field dw_k/dt of a bias-free two-layer student for x ~ N(0, I), in closed form.

    dw_k/dt = sum_j (v_k.v_j^*) E[x z_k f_j^*] - sum_k' (v_k.v_k') E[x z_k f_k'].

    Args:
        W (n, d), V (n, C): the student's.  W_star (m, d), V_star (m, C): the teacher's.

    Returns:
        (n, d).
    """
    pull = expected_activation(W_star[None], W[:, None])
    push = expected_activation(W[None], W[:, None])
    return torch.einsum("kj,kjd->kd", V @ V_star.T, pull) - torch.einsum("kj,kjd->kd", V @ V.T, push)


def residue(W: Tensor, V: Tensor, W_star: Tensor, V_star: Tensor, balanced: bool) -> Tensor:
    r"""Return r_k of Eq. 8 with psi(t) = (pi - t)/(2 pi) and the nu that Theorem 6 gives.

    Args:
        balanced: divide alpha and beta by |w_k| (fan-outs of norm |w_k|, written as unit vectors), else as printed.
    """
    alpha, beta = V @ V_star.T, V @ V.T
    if balanced:
        alpha, beta = (part / W.norm(dim=1, keepdim=True) for part in (alpha, beta))
    to_teacher, to_student = (measure.angle(W[:, None], other[None]) for other in (W_star, W))
    r = (alpha * (np.pi - to_teacher)) @ W_star - (beta * (np.pi - to_student)) @ W
    nu = (beta * to_student.sin()) @ W.norm(dim=1) - (alpha * to_teacher.sin()) @ W_star.norm(dim=1)
    return (r - nu[:, None] * W / W.norm(dim=1, keepdim=True)) / (2 * np.pi)


def residue_form(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Compare the field with |w_k| r_k, with r_k as printed and for balanced layers (Eq. 8).

    Returns:
        Per seed: `printed` and `balanced` (relative gap between dw_k/dt and |w_k| r_k), `bare` (gap between dw_k/dt
        and r_k as printed), `monte_carlo` (relative gap of the closed field to a sample mean).
    """
    rows = []
    for seed in seeds:
        W, V, W_star, V_star = (
            starts([seed], name, *shape)[0]
            for name, shape in {
                "W": (size.n, size.d), "V": (size.n, size.outputs),
                "W*": (size.m, size.d), "V*": (size.m, size.outputs),
            }.items()
        )  # fmt: skip
        exact = field(W, V, W_star, V_star)
        norm = W.norm(dim=1, keepdim=True)
        gaps = [
            exact - norm * residue(W, V, W_star, V_star, False),
            exact - norm * residue(W, V, W_star, V_star, True),
            exact - residue(W, V, W_star, V_star, False),
        ]
        total = torch.zeros_like(exact)
        for part in range(10):
            x = torch.randn(size.samples // 10, size.d, dtype=torch.float64, generator=generator(seed, f"mc-{part}"))
            f = x @ W.T
            r = (x @ W_star.T).relu() @ V_star - f.relu() @ V
            total += ((r @ V.T) * (f > 0)).T @ x / size.samples
        values = [float(gap.norm() / exact.norm()) for gap in (*gaps, exact - total)]
        rows.append((seed, *values))
    return table(pd.DataFrame(rows, columns=["seed", "printed", "balanced", "bare", "monte_carlo"]))


def balance(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Return per seed `balance`, the median |v_k| / |w_k| of the nodes that training has grown tenfold."""
    teacher = teachers.two_layer(seeds, size.d, size.m, size.outputs, bias=0.0)
    X = learn.INPUTS * normal(seeds, "data", 3000, size.d)
    nets = learn.students(seeds, [size.d, size.n, size.outputs], size.std)
    before = nets.weights[0].norm(dim=1).clone()
    learn.train(
        nets,
        learn.from_set(X, teacher(X), seeds, 16),
        size.steps,
        size.lr,
        lambda net, runs, step: {"bias": net.biases[0]},
        [size.steps],
        biases=False,
    )
    w, v = nets.weights[0].norm(dim=1), nets.weights[1].norm(dim=2)
    found = [float((b[a > 10 * c] / a[a > 10 * c]).median()) for a, b, c in zip(w, v, before, strict=True)]
    return table(pd.DataFrame({"seed": list(seeds), "balance": found}))
