"""Checks of the theorems on degree-d weight-homogeneous predictors (Dan et al. 2021, Section 5 and Appendix B)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
import sympy
import torch
from torch import Tensor

from traindyn.compute import normal, uniform
from traindyn.layers import starts
from traindyn.measure.ode import rk4
from traindyn.studies.elasticity import closed_form_flows as flows
from traindyn.studies.elasticity.tables import per_seed


def _share(condition: Tensor) -> list[float]:
    """Return for each seed (first axis) the share of draws for which the condition is true."""
    return condition.flatten(1).double().mean(1).tolist()


def bound_check(seeds: Sequence[int], draws: int, rows: int = 3, n: int = 4) -> pd.DataFrame:
    """Check Theorem 5.1 and Eq. 25 on random weights, features and residuals for d = 1, 2, 3, 4.

    Args:
        seeds: random draws each;  draws: for all degrees together;  rows, n: shape of W.

    Returns:
        For each seed: "violations" (share of draws in which the limit of S exceeds the bound by more than 1e-12 of it),
        "finite_step" (largest |S - limit| / max(1, limit) at eta = 1e-7 where the change at x is at least 1e6 machine
        epsilons of the output), "expansion" (largest error of Eq. 25 for d = 3 and eta = 0.1 relative to the sizes of
        its terms) and "equality" (largest |S / bound - 1| for w = n = 1).
    """
    shape = (draws // 4, rows, n)
    found: dict[str, list[Tensor]] = {"violations": [], "finite_step": []}
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
        found["finite_step"].append(torch.where(clear, gap, 0.0))
        if d == 3:
            W_new = flows.step(W, beta, residual, 0.1, d)
            direct = flows.predict(W_new, beta_prime, d) - flows.predict(W, beta_prime, d)
            size = (beta_prime.abs() * (W_new.abs() ** d + W.abs() ** d)).sum((-2, -1))
            expansion = (flows.expanded_change(W, beta_prime, beta, residual, 0.1, d) - direct).abs() / size
    one = [normal(seeds, name, draws, 1, 1) for name in ("one-w", "one-x-prime", "one-x")]
    exact = flows.s_rel_limit(*one, 2) / (flows.proximity(*one[1:]) * flows.bound_factor(one[0], one[2], 2))
    columns = {
        "violations": _share(torch.cat(found["violations"], 1)),
        "finite_step": torch.cat(found["finite_step"], 1).amax(1).tolist(),
        "expansion": expansion.amax(1).tolist(),
        "equality": (exact - 1).abs().amax(1).tolist(),
    }
    return per_seed(seeds, columns)


def flow_check(seeds: Sequence[int], n: int, m: int = 200, theta: float = 0.7, steps: int = 200) -> pd.DataFrame:
    """Check Eq. 12 against autograd, and whether zero off-diagonal weights stay zero along it.

    Args:
        seeds: features, targets and weights each;  n: W is n x n;  m: samples of the risk;  theta: time scale.
        steps: Runge-Kutta steps over theta t = 0.1.

    Returns:
        For each seed: "gradient" (largest gap of Eq. 12 to -theta times autograd of the risk, d = 2, dense W),
        "off_diagonal_2" and "off_diagonal_1" (largest off-diagonal entry reached from a diagonal start, d = 2 and 1).
    """
    result: dict[str, list] = {"gradient": [], "off_diagonal_2": [], "off_diagonal_1": []}
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
            result[f"off_diagonal_{d}"].append(float((end - torch.diag(end.diagonal())).abs().max()))
    return per_seed(seeds, result)


def logistic_check(seeds: Sequence[int], n: int, steps: int) -> pd.DataFrame:
    """Check Theorem 5.2: the logistic law against integration, and S_rel against a finite fictitious step.

    Args:
        seeds: a_q, b_q, w_q(0) and points each;  n: dimension;  steps: Runge-Kutta steps to theta t = 2, in three legs.

    Returns:
        For each seed: "weights" (largest gap of w^2 at theta t = 0.1, 0.5, 2 for w(0)^2 < a/b), "above" (the same for
        w(0)^2 in (a/b, 3 a/b), outside the theorem's assumption) and "s_rel" (largest |S - S_step| / max(1, S) at
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
    gaps["s_rel"] = ((s - (top / bottom).abs()).abs() / s.clamp(min=1)).amax((1, 2)).tolist()
    return per_seed(seeds, gaps)


def example_moments(seeds: Sequence[int], samples: int) -> pd.DataFrame:
    """Estimate a_q and b_pq of the example of Section 5.1 by Monte Carlo, in standard errors from what is printed.

    Args:
        seeds: one sample of x ~ N(0, I_3) each, with y - alpha(x) = x_1 + 4 x_2 + 9 x_3;  samples: its size.

    Returns:
        For each seed: "standard_errors_a" and "standard_errors_b", the largest distance in standard errors of a_q from
        (1, 4, 9) and of E[beta_qq beta_pp] from the identity; "smallest_a", the smallest estimate of a_q.
    """
    result: dict[str, list] = {"standard_errors_a": [], "standard_errors_b": [], "smallest_a": []}
    truth = torch.tensor(flows.EXAMPLE_A, dtype=torch.float64)
    for seed in seeds:
        x = normal([seed], "sample", samples, 3)[0]
        for name, values, exact in (
            ("a", (x @ truth)[:, None] * x, truth),
            ("b", (x[:, :, None] * x[:, None, :]).flatten(1), torch.eye(3, dtype=x.dtype).flatten()),
        ):
            error = (values.mean(0) - exact).abs() / (values.std(0) / samples**0.5)
            result[f"standard_errors_{name}"].append(float(error.max()))
            if name == "a":
                result["smallest_a"].append(float(values.mean(0).min()))
    return per_seed(seeds, result)


def starts_outside() -> int:
    """Return how many starting weights w_q(0)^2 of the example lie outside (0, a_q / b_q), b = 1."""
    return sum(not 0 < start < a for start, a in zip(flows.EXAMPLE_START, flows.EXAMPLE_A, strict=True))


def eq14_terms_left() -> int:
    """Return how many weights of Eq. 14 differ from those of Eq. 13, by computer algebra.

    Eq. 13 is taken with a = (1, 4, 9), b = 1 and w(0)^2 = (1/2, 2, 4).
    """
    t, theta = sympy.symbols("t theta", positive=True)
    starting = [sympy.Rational(1, 2), 2, 4]
    printed = [
        1 + sympy.exp(-4 * theta * t),
        sympy.Rational(1, 4) + sympy.exp(-16 * theta * t) / 4,
        sympy.Rational(1, 9) + sympy.Rational(5, 36) * sympy.exp(-36 * theta * t),
    ]
    # each printed term is x'_r x_r over its own denominator, so equal weights make equal ratios for all points
    return sum(
        sympy.simplify(a / (1 + (sympy.Integer(a) / w - 1) * sympy.exp(-4 * theta * a * t)) - 1 / denominator) != 0
        for a, w, denominator in zip((1, 4, 9), starting, printed, strict=True)
    )


def eq14_gap(seeds: Sequence[int], pairs: int = 5) -> pd.DataFrame:
    """Return for each seed "gap", the largest |Eq. 14 - Eq. 13| over 20 times in [0, 3000] and random pairs."""
    times = torch.linspace(0, 3000, 20, dtype=torch.float64)
    a, start = (torch.tensor(v, dtype=torch.float64) for v in (flows.EXAMPLE_A, flows.EXAMPLE_START))
    squared = flows.squared_weights(times, a, torch.ones_like(a), start, 0.001)
    x, x_prime = normal(seeds, "x", pairs, 3), normal(seeds, "x-prime", pairs, 3)
    gap = flows.s_rel_example(times, x_prime, x) - flows.s_rel_diagonal(squared, x_prime, x)
    return per_seed(seeds, {"gap": gap.abs().amax((1, 2)).tolist()})


def symmetric_cases(seeds: Sequence[int], draws: int) -> flows.Symmetric:
    """Return random instances of Theorem 5.3: normal features, a_i in [0.3, 3], alpha^2 and beta^2 in [0.2, 3]."""
    ranges = {"a": (0.3, 3.0, (draws, 2)), "alpha2": (0.2, 3.0, (draws,)), "beta2": (0.2, 3.0, (draws,))}
    drawn = {name: uniform(seeds, name, *shape, low=low, high=high) for name, (low, high, shape) in ranges.items()}
    return flows.Symmetric(normal(seeds, "x-prime", draws, 2), normal(seeds, "x", draws, 2), **drawn)


def symmetric_check(seeds: Sequence[int], draws: int, points: int = 200) -> pd.DataFrame:
    """Check the lower bound of Theorem 5.3 as printed and corrected, at `points` times up to 20 (theta = 1).

    Returns:
        For each seed, shares of the instances: "violations_printed" and "violations_mended" (the bound exceeds S at
        some t >= t2*), "unsound" (the mended bound is not positive, or decreases, after t2*), "s_falls" (S itself
        decreases somewhere after t2*), "s_falls_late" (its slowest exponential has a positive coefficient, so that S
        comes down to its limit); and, among instances with k1 < 0, "step_fails_for_negative_k1" and
        "same_mended": the share in which the denominator of Eq. 37 exceeds what the proof bounds it by, with
        b2 = beta^2 k2 as printed and with beta^2 (1 - k2).
    """
    case = symmetric_cases(seeds, draws)
    times = torch.linspace(0, 20, points, dtype=torch.float64)
    s = flows.s_rel_symmetric(case, times)
    shares = {}
    for form, name in (("printed", "violations_printed"), ("corrected", "violations_mended")):
        bound, t2 = flows.symmetric_bound(case, times, form)
        valid = times >= t2[..., None]
        shares[name] = _share(((bound > s * (1 + 1e-9) + 1e-12) & valid).any(-1))
    rising = (bound.diff(dim=-1) >= -1e-15) | ~valid[..., 1:]
    shares["unsound"] = _share(~(rising.all(-1) & ((bound > 0) | ~valid).all(-1)))
    moving = (s.diff(dim=-1) < -1e-9) & valid[..., 1:]
    shares["s_falls"] = _share(moving.any(-1))
    # for k1 < 0 the proof needs: denominator of Eq. 37 <= alpha^2 + b2 e^(-4 a_1 t) + beta^2 e^(-4 a_2 t)
    _, k1, k2 = (part[..., None] for part in flows.symmetric_parts(case, "corrected"))
    # late, S / limit - 1 is (beta^2/alpha^2) (k2 - k1) e^(-4 a_1 t) if a_1 is the smaller rate, else with k1 - k2
    slow_first = case.a[..., 0] < case.a[..., 1]
    shares["s_falls_late"] = _share(torch.where(slow_first, (k2 - k1)[..., 0], (k1 - k2)[..., 0]) > 0)
    e1, e2 = torch.exp(-4 * case.a[..., None] * times).unbind(-2)
    for name, b2 in (("step_fails_for_negative_k1", k2), ("same_mended", 1 - k2)):
        over = (k2 * e2 + (1 - k2) * e1 > b2 * e1 + e2 + 1e-12).any(-1)
        shares[name] = ((over & (k1[..., 0] < 0)).sum(1) / (k1[..., 0] < 0).sum(1)).tolist()
    return per_seed(seeds, shares)


def factorised_gap(seeds: Sequence[int], draws: int) -> pd.DataFrame:
    """Compare Eq. 37 with Eq. 36.

    Returns:
        For each seed: "error_mended" (largest error of Eq. 37 relative to the size that S has without cancellation)
        and "error_printed" (median of the same with beta_22(x')^2, relative to S).
    """
    case = symmetric_cases(seeds, draws)
    times = torch.tensor([0.0, 0.1, 0.5, 2.0], dtype=torch.float64)
    s = flows.s_rel_symmetric(case, times)
    size = flows.s_rel_symmetric(case._replace(f_prime=case.f_prime.abs(), f=case.f.abs()), times)
    printed = (flows.s_rel_factorised(case, times, "printed") / s - 1).abs()
    corrected = (flows.s_rel_factorised(case, times, "corrected") - s).abs() / size
    columns = {
        "error_printed": printed.flatten(1).median(1).values.tolist(),
        "error_mended": corrected.amax((1, 2)).tolist(),
    }
    return per_seed(seeds, columns)


def prefactor_gap(seeds: Sequence[int], draws: int, late: float = 1e4) -> pd.DataFrame:
    """Compare the prefactor of the remark after Theorem 5.3 with |<x', x>| / |x|^2, and with S at a late time.

    Returns:
        For each seed: "front_mended" (largest relative error of the prefactor), "front_printed" (its median as
        printed), "limit_gap" (largest |S(late) - prefactor|).
    """
    case = symmetric_cases(seeds, draws)
    end = flows.s_rel_symmetric(case, torch.tensor([late], dtype=torch.float64))[..., 0]
    front = (case.f_prime * case.f).sum(-1).abs() / (case.f**2).sum(-1)
    parts = {form: flows.symmetric_parts(case, form)[0] for form in ("printed", "corrected")}
    columns = {
        "front_printed": (parts["printed"] / front - 1).abs().median(1).values.tolist(),
        "front_mended": (parts["corrected"] / front - 1).abs().amax(1).tolist(),
        "limit_gap": (end - front).abs().amax(1).tolist(),
    }
    return per_seed(seeds, columns)


def lemma_check(seeds: Sequence[int], draws: int, points: int = 100) -> pd.DataFrame:
    """Check Lemma B.1 on random constants, and again with b1 < 0, which it excludes.

    alpha^2, beta^2 in [0.1, 3], b1 and b2 in [0, 3], p^2 and q^2 in [0.1, 4]; t2* is where alpha^2 = b1 e^(-q^2 t), or
    0, plus a random delay; times run to 30 and count only while the denominator stays positive (t > t1*).

    Returns:
        For each seed: "violations" (share of sets whose bound exceeds f somewhere), "bound_falls" (share whose bound
        decreases somewhere) and "violations_negative_b1" (share of violations with b1 replaced by -b1).
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
    for name, b1 in (("violations", v["b1"]), ("violations_negative_b1", -v["b1"])):
        over = bound > mixed(b1).abs() / below.abs() * (1 + 1e-12) + 1e-15
        found[name] = _share((over & valid).any(-1))
    found["bound_falls"] = _share(((bound.diff(dim=-1) < -1e-15) & valid[..., :-1]).any(-1))
    return per_seed(seeds, found)
