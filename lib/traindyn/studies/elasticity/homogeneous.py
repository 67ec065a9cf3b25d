"""Checks of the theorems on degree-d weight-homogeneous predictors (Dan et al. 2021, Section 5 and Appendix B)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import sympy
import torch
from torch import Tensor

from traindyn.compute import normal, uniform
from traindyn.layers import starts
from traindyn.measure.ode import rk4
from traindyn.studies.elasticity import closed_form_flows as flows


def _share(condition: Tensor) -> list[float]:
    """Return for each seed (first axis) the share of draws for which the condition is true."""
    return condition.flatten(1).double().mean(1).tolist()


def bound_check(seeds: Sequence[int], draws: int, rows: int = 3, n: int = 4) -> dict[str, list]:
    """Check Theorem 5.1 and Eq. 25 on random weights, features and residuals for d = 1, 2, 3, 4.

    Args:
        seeds: random draws each;  draws: for all degrees together;  rows, n: shape of W.

    Returns:
        For each seed: "violations" (share of draws in which the limit of S exceeds the bound by more than 1e-12 of it),
        "finite-step" (largest |S - limit| / max(1, limit) at eta = 1e-7 where the change at x is at least 1e6 machine
        epsilons of the output), "expansion" (largest error of Eq. 25 for d = 3 and eta = 0.1 relative to the sizes of
        its terms) and "equality" (largest |S / bound - 1| for w = n = 1).
    """
    shape = (draws // 4, rows, n)
    found: dict[str, list[Tensor]] = {"violations": [], "finite-step": []}
    for d in (1, 2, 3, 4):
        W, beta, beta_prime = (normal(seeds, f"{name}-{d}", *shape) for name in ("weights", "x", "x-prime"))
        residual = normal(seeds, f"residual-{d}", shape[0])
        limit = flows.s_rel_limit(W, beta_prime, beta, d)
        bound = flows.proximity(beta_prime, beta) * flows.bound_factor(W, beta, d)
        found["violations"].append(limit > bound * (1 + 1e-12))
        W_new = flows.step(W, beta, residual, 1e-7, d)
        top, bottom = (flows.predict(W_new, b, d) - flows.predict(W, b, d) for b in (beta_prime, beta))
        clear = bottom.abs() > 1e6 * torch.finfo(W.dtype).eps * (beta * W**d).abs().sum((-2, -1))
        gap = ((top / bottom).abs() - limit).abs() / limit.clamp(min=1)
        found["finite-step"].append(torch.where(clear, gap, 0.0))
        if d == 3:
            W_new = flows.step(W, beta, residual, 0.1, d)
            direct = flows.predict(W_new, beta_prime, d) - flows.predict(W, beta_prime, d)
            size = (beta_prime.abs() * (W_new.abs() ** d + W.abs() ** d)).sum((-2, -1))
            expansion = (flows.expanded_change(W, beta_prime, beta, residual, 0.1, d) - direct).abs() / size
    one = [normal(seeds, name, draws, 1, 1) for name in ("one-w", "one-x-prime", "one-x")]
    exact = flows.s_rel_limit(*one, 2) / (flows.proximity(*one[1:]) * flows.bound_factor(one[0], one[2], 2))
    return {
        "violations": _share(torch.cat(found["violations"], 1)),
        "finite-step": torch.cat(found["finite-step"], 1).amax(1).tolist(),
        "expansion": expansion.amax(1).tolist(),
        "equality": (exact - 1).abs().amax(1).tolist(),
    }


def flow_check(seeds: Sequence[int], n: int, m: int = 200, theta: float = 0.7, steps: int = 200) -> dict[str, list]:
    """Check Eq. 12 against autograd, and whether zero off-diagonal weights stay zero along it.

    Args:
        seeds: features, targets and weights each;  n: W is n x n;  m: samples of the risk;  theta: time scale.
        steps: Runge-Kutta steps over theta t = 0.1.

    Returns:
        For each seed: "gradient" (largest gap of Eq. 12 to -theta times autograd of the risk, d = 2, dense W),
        "off-diagonal-2" and "off-diagonal-1" (largest off-diagonal entry reached from a diagonal start, d = 2 and 1).
    """
    result: dict[str, list] = {"gradient": [], "off-diagonal-2": [], "off-diagonal-1": []}
    for seed in seeds:
        beta, target = normal([seed], "features", m, n, n)[0], normal([seed], "target", m)[0]
        W = starts([seed], "weights", n, n)[0].requires_grad_()
        risk = ((target - flows.predict(W, beta, 2)) ** 2).mean() / 2
        (slope,) = torch.autograd.grad(risk, W)
        W = W.detach()
        result["gradient"].append(float((flows.flow_rate(W, beta, target, theta, 2) + theta * slope).abs().max()))
        for d in (2, 1):
            rate = partial(flows.flow_rate, beta=beta, target=target, theta=theta, d=d)
            end = rk4(rate, torch.diag(W.diagonal()), 0.1 / theta, steps)
            result[f"off-diagonal-{d}"].append(float((end - torch.diag(end.diagonal())).abs().max()))
    return result


def logistic_check(seeds: Sequence[int], n: int, steps: int) -> dict[str, list]:
    """Check Theorem 5.2: the logistic law against integration, and S_rel against a finite fictitious step.

    Args:
        seeds: a_q, b_q, w_q(0) and points each;  n: dimension;  steps: Runge-Kutta steps to theta t = 2, in three legs.

    Returns:
        For each seed: "weights" (largest gap of w^2 at theta t = 0.1, 0.5, 2 for w(0)^2 < a/b), "above" (the same for
        w(0)^2 in (a/b, 3 a/b), outside the theorem's assumption) and "s-rel" (largest |S - S_step| / max(1, S) at
        eta = 1e-7 over 20 pairs).
    """
    a, b = uniform(seeds, "a", n, low=0.5, high=3), uniform(seeds, "b", n, low=0.5, high=2)
    times = torch.tensor([0.1, 0.5, 2.0], dtype=a.dtype)
    gaps = {}
    for name, low, high in (("weights", 0.05, 0.95), ("above", 1.05, 3.0)):
        start = uniform(seeds, name, n, low=low, high=high) * a / b
        w, reached, before = start.sqrt(), [], 0.0
        for time in times.tolist():
            w = rk4(lambda w: 2 * (a * w - b * w**3), w, time - before, steps // 3)
            reached.append(w**2)
            before = time
        formula = flows.squared_weights(times, a, b, start, 1.0)
        gaps[name] = (formula - torch.stack(reached, 1)).abs().amax((1, 2)).tolist()
        if name == "weights":
            squared = formula
    x, x_prime = normal(seeds, "x", 20, n), normal(seeds, "x-prime", 20, n)
    W = torch.diag_embed(squared.sqrt())[:, None]  # (seeds, 1, T, n, n)
    beta, beta_prime = torch.diag_embed(x)[:, :, None], torch.diag_embed(x_prime)[:, :, None]
    residual = uniform(seeds, "residual", 20, 1, low=0.5, high=2).expand(-1, -1, 3)
    W_new = flows.step(W, beta, residual, 1e-7, 2)
    top, bottom = (flows.predict(W_new, v, 2) - flows.predict(W, v, 2) for v in (beta_prime, beta))
    s = flows.s_rel_diagonal(squared[:, None], x_prime, x)
    gaps["s-rel"] = ((s - (top / bottom).abs()).abs() / s.clamp(min=1)).amax((1, 2)).tolist()
    return gaps


def example_moments(seeds: Sequence[int], samples: int) -> dict[str, list]:
    """Estimate a_q and b_pq of the example of Section 5.1 by Monte Carlo, in standard errors from what is printed.

    Args:
        seeds: one sample of x ~ N(0, I_3) each, with y - alpha(x) = x_1 + 4 x_2 + 9 x_3;  samples: its size.

    Returns:
        For each seed: "a" and "b", the largest distance in standard errors of a_q from (1, 4, 9) and of
        E[beta_qq beta_pp] from the identity; "smallest-a", the smallest estimate of a_q.
    """
    result: dict[str, list] = {"a": [], "b": [], "smallest-a": []}
    truth = torch.tensor(flows.EXAMPLE_A, dtype=torch.float64)
    for seed in seeds:
        x = normal([seed], "sample", samples, 3)[0]
        for name, values, exact in (
            ("a", (x @ truth)[:, None] * x, truth),
            ("b", (x[:, :, None] * x[:, None, :]).flatten(1), torch.eye(3, dtype=x.dtype).flatten()),
        ):
            error = (values.mean(0) - exact).abs() / (values.std(0) / samples**0.5)
            result[name].append(float(error.max()))
            if name == "a":
                result["smallest-a"].append(float(values.mean(0).min()))
    return result


def eq14_symbolic() -> bool:
    """Return whether Eq. 14 equals Eq. 13 with a = (1, 4, 9), b = 1, w(0)^2 = (1/2, 2, 4), by computer algebra."""
    t, theta = sympy.symbols("t theta", positive=True)
    starting = [sympy.Rational(1, 2), 2, 4]
    printed = [
        1 + sympy.exp(-4 * theta * t),
        sympy.Rational(1, 4) + sympy.exp(-16 * theta * t) / 4,
        sympy.Rational(1, 9) + sympy.Rational(5, 36) * sympy.exp(-36 * theta * t),
    ]
    # each printed term is x'_r x_r over its own denominator, so equal weights make equal ratios for all points
    return all(
        sympy.simplify(a / (1 + (sympy.Integer(a) / w - 1) * sympy.exp(-4 * theta * a * t)) - 1 / denominator) == 0
        for a, w, denominator in zip((1, 4, 9), starting, printed, strict=True)
    )


def eq14_gap(seeds: Sequence[int], pairs: int = 5) -> list[float]:
    """Return for each seed the largest |Eq. 14 - Eq. 13| over 20 times in [0, 3000] and random pairs."""
    times = torch.linspace(0, 3000, 20, dtype=torch.float64)
    a, start = (torch.tensor(v, dtype=torch.float64) for v in (flows.EXAMPLE_A, flows.EXAMPLE_START))
    squared = flows.squared_weights(times, a, torch.ones_like(a), start, 0.001)
    x, x_prime = normal(seeds, "x", pairs, 3), normal(seeds, "x-prime", pairs, 3)
    gap = flows.s_rel_example(times, x_prime, x) - flows.s_rel_diagonal(squared, x_prime, x)
    return gap.abs().amax((1, 2)).tolist()


def symmetric_cases(seeds: Sequence[int], draws: int) -> flows.Symmetric:
    """Return random instances of Theorem 5.3: normal features, a_i in [0.3, 3], alpha^2 and beta^2 in [0.2, 3]."""
    ranges = {"a": (0.3, 3.0, (draws, 2)), "alpha2": (0.2, 3.0, (draws,)), "beta2": (0.2, 3.0, (draws,))}
    drawn = {name: uniform(seeds, name, *shape, low=low, high=high) for name, (low, high, shape) in ranges.items()}
    return flows.Symmetric(normal(seeds, "x-prime", draws, 2), normal(seeds, "x", draws, 2), **drawn)


def symmetric_check(seeds: Sequence[int], draws: int, points: int = 200) -> dict[str, list]:
    """Check the lower bound of Theorem 5.3 as printed and corrected, at `points` times up to 20 (theta = 1).

    Returns:
        For each seed, shares of the instances: "printed" and "corrected" (the bound exceeds S at some t >= t2*),
        "sound" (the corrected bound is positive and non-decreasing after t2*), "falling" (S itself decreases somewhere
        after t2*); and, among instances with k1 < 0, "b2-slip" and "b2-mended": the share in which the denominator of
        Eq. 37 exceeds what the proof bounds it by, with b2 = beta^2 k2 as printed and with beta^2 (1 - k2).
    """
    case = symmetric_cases(seeds, draws)
    times = torch.linspace(0, 20, points, dtype=torch.float64)
    s = flows.s_rel_symmetric(case, times)
    shares = {}
    for form in ("printed", "corrected"):
        bound, t2 = flows.symmetric_bound(case, times, form)
        valid = times >= t2[..., None]
        shares[form] = _share(((bound > s * (1 + 1e-9) + 1e-12) & valid).any(-1))
    rising = (bound.diff(dim=-1) >= -1e-15) | ~valid[..., 1:]
    shares["sound"] = _share(rising.all(-1) & ((bound > 0) | ~valid).all(-1))
    moving = (s.diff(dim=-1) < -1e-9) & valid[..., 1:]
    shares["falling"] = _share(moving.any(-1))
    # for k1 < 0 the proof needs: denominator of Eq. 37 <= alpha^2 + b2 e^(-4 a_1 t) + beta^2 e^(-4 a_2 t)
    _, k1, k2 = (part[..., None] for part in flows.symmetric_parts(case, "corrected"))
    e1, e2 = torch.exp(-4 * case.a[..., None] * times).unbind(-2)
    for name, b2 in (("b2-slip", k2), ("b2-mended", 1 - k2)):
        over = (k2 * e2 + (1 - k2) * e1 > b2 * e1 + e2 + 1e-12).any(-1)
        shares[name] = ((over & (k1[..., 0] < 0)).sum(1) / (k1[..., 0] < 0).sum(1)).tolist()
    return shares


def factorised_gap(seeds: Sequence[int], draws: int) -> dict[str, list]:
    """Compare Eq. 37 with Eq. 36, and the prefactor of the remark after Theorem 5.3 with |<x', x>| / |x|^2.

    Returns:
        For each seed: "corrected" (largest error of Eq. 37 relative to the size that S has without cancellation) and
        "printed" (median of the same with beta_22(x')^2, relative to S); "front-corrected" (largest relative error of
        the remark's prefactor), "front-printed" (its median as printed), "limit" (largest |S(infinity) - prefactor|).
    """
    case = symmetric_cases(seeds, draws)
    times = torch.tensor([0.0, 0.1, 0.5, 2.0, 1e4], dtype=torch.float64)
    s = flows.s_rel_symmetric(case, times)
    size = flows.s_rel_symmetric(case._replace(f_prime=case.f_prime.abs(), f=case.f.abs()), times)
    front = (case.f_prime * case.f).sum(-1).abs() / (case.f**2).sum(-1)
    parts = {form: flows.symmetric_parts(case, form)[0] for form in ("printed", "corrected")}
    printed = (flows.s_rel_factorised(case, times, "printed") / s - 1).abs()[..., :-1]
    corrected = (flows.s_rel_factorised(case, times, "corrected") - s).abs() / size
    return {
        "corrected": corrected.amax((1, 2)).tolist(),
        "printed": printed.flatten(1).median(1).values.tolist(),
        "front-corrected": (parts["corrected"] / front - 1).abs().amax(1).tolist(),
        "front-printed": (parts["printed"] / front - 1).abs().median(1).values.tolist(),
        "limit": (s[..., -1] - front).abs().amax(1).tolist(),
    }


def lemma_check(seeds: Sequence[int], draws: int, points: int = 100) -> dict[str, list]:
    """Check Lemma B.1 on random constants, and again with b1 < 0, which it excludes.

    alpha^2, beta^2 in [0.1, 3], b1 and b2 in [0, 3], p^2 and q^2 in [0.1, 4]; t2* is where alpha^2 = b1 e^(-q^2 t), or
    0, plus a random delay; times run to 30 and count only while the denominator stays positive (t > t1*).

    Returns:
        For each seed: "violations" (share of sets whose bound exceeds f somewhere), "falling" (share whose bound
        decreases somewhere) and "negative-b1" (share of violations with b1 replaced by -b1).
    """
    ranges = {"alpha2": (0.1, 3), "beta2": (0.1, 3), "b1": (0, 3), "b2": (0, 3), "p2": (0.1, 4), "q2": (0.1, 4)}
    v = {name: uniform(seeds, name, draws, low=low, high=high) for name, (low, high) in ranges.items()}
    times = torch.linspace(0, 30, points, dtype=torch.float64)
    t2 = (torch.log(v["b1"] / v["alpha2"]) / v["q2"]).clamp(min=0) + uniform(seeds, "delay", draws, low=0.01)
    slow, fast = (torch.exp(-v[name][..., None] * times) for name in ("p2", "q2"))
    alpha2, beta2 = v["alpha2"][..., None], v["beta2"][..., None]

    def mixed(b: Tensor) -> Tensor:
        return alpha2 + b[..., None] * slow + (beta2 - b[..., None]) * fast

    below = mixed(v["b2"])
    positive = (below > 0).flip(-1).cummin(-1).values.flip(-1)  # from here on, the denominator stays positive
    valid = positive & (times >= t2[..., None])
    bound = flows.lemma_bound(**v, t2=t2, times=times)
    found = {}
    for name, b1 in (("violations", v["b1"]), ("negative-b1", -v["b1"])):
        over = bound > mixed(b1).abs() / below.abs() * (1 + 1e-12) + 1e-15
        found[name] = _share((over & valid).any(-1))
    found["falling"] = _share(((bound.diff(dim=-1) < -1e-15) & valid[..., :-1]).any(-1))
    return found
