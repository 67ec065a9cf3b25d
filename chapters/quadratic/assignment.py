"""What students do not see of the assignment: hidden inputs, what they should give, and the claim's criterion.

Expected results come from the weights themselves, from more digits or from another form, never from the model
solutions, which are checked by them. Tolerances: formulas are right to 1e-12 in float64, so 1e-6 costs nobody a point.
Heights and ends of 40 flights, computed in two ways, differed by 2e-13; 1e-3 is allowed.
"""

from __future__ import annotations

import math

import mpmath
import numpy as np
import torch

from traindyn.run.course.compare import close, finite_number, same
from traindyn.run.course.questions import NotAllowed, Part, Question, Rubric, Spec, Study

# ---- 1. two equations: by gradient descent on all weights


def rates(low, high, steps):
    def inputs(rng, variant):
        found = []
        for m in (3, 50):
            h, v = rng.standard_normal(m), rng.standard_normal(m)
            g, lam = float(h @ v / math.sqrt(m)), float((h @ h + v @ v) / m)
            found.append({"g": g, "lam": lam, "m": m, "eta": float(rng.uniform(low, high)) / lam, "steps": steps})
        return found

    return inputs


def by_weights(arguments, variant):
    """Two neurons of a network with this g and lambda; the equations know no more of it."""
    g, lam, m, eta, steps = (arguments[name] for name in ("g", "lam", "m", "eta", "steps"))
    # h v = sqrt(m) g and h^2 + v^2 = m lambda for one neuron: (h + v)^2 and (h - v)^2 follow
    plus, minus = math.sqrt(m * lam + 2 * math.sqrt(m) * g), math.sqrt(max(0.0, m * lam - 2 * math.sqrt(m) * g))
    h, v, rows = (plus + minus) / 2, (plus - minus) / 2, []
    for _ in range(steps + 1):
        rows.append((h * v / math.sqrt(m), (h * h + v * v) / m))
        r = rows[-1][0] - variant["y"]
        h, v = h - eta * r * v / math.sqrt(m), v - eta * r * h / math.sqrt(m)
    return np.array(rows)


TWO = Question(
    "descend",
    (
        Part("one step", 2, "one step", rates(0.5, 3.0, 1), by_weights, close(1e-6)),
        Part("many", 2, "many steps, below and above the critical rate", rates(0.5, 3.0, 25), by_weights, close(1e-6)),
    ),
)


# ---- 2. the quadratic model: by nested automatic differentiation


def points(moved):
    def inputs(rng, variant):
        found = []
        for m, d, n in ((4, 3, 2), (9, 2, 5)):
            u0, v0, X = rng.standard_normal((m, d)), rng.standard_normal(m), rng.standard_normal((n, d))
            u, v = u0 + moved * rng.standard_normal((m, d)), v0 + moved * rng.standard_normal(m)
            found.append({"u": u, "v": v, "u0": u0, "v0": v0, "X": X})
        return found

    return inputs


def by_expansion(arguments, variant):
    u, v, u0, v0, X = (torch.from_numpy(arguments[name]) for name in ("u", "v", "u0", "v0", "X"))
    (m, d), start = u0.shape, torch.cat([u0.flatten(), v0])
    step = torch.cat([u.flatten(), v]) - start
    found = []
    for x in X:

        def f(w, x=x):
            return w[m * d :] @ torch.relu(w[: m * d].reshape(m, d) @ x) / math.sqrt(m * d)

        slope, H = torch.autograd.functional.jacobian(f, start), torch.autograd.functional.hessian(f, start)
        found.append((f(start) + slope @ step + step @ H @ step / 2).item())
    return np.array(found)


MODEL = Question(
    "quadratic",
    (
        Part("near", 1, "at the start, where it is the network", points(0.0), by_expansion, close(1e-6)),
        Part("far", 3, "far from the start, where gates would have changed", points(2.0), by_expansion, close(1e-6)),
    ),
)


# ---- 3. weights on samples: with fifty digits


def kernels(ratio, steps, rank=None):
    def inputs(rng, variant):
        found = []
        for n in (3, 6):
            root = rng.standard_normal((n, n if rank is None else rank)) * rng.uniform(0.3, 2, (n, 1))
            K = root @ root.T
            eta = float(ratio * rng.uniform(0.7, 1) / np.linalg.eigvalsh(K)[-1])
            found.append({"K": K, "y": rng.standard_normal(n), "eta": eta, "steps": int(steps)})
        return found

    return inputs


def with_digits(arguments, variant):
    K, y, eta, steps = (arguments[name] for name in ("K", "y", "eta", "steps"))
    with mpmath.workdps(50):
        matrix = mpmath.matrix(K.tolist())
        values, vectors = mpmath.eigsy((matrix + matrix.T) / 2)
        out = mpmath.matrix(len(y), 1)
        for i in range(len(y)):
            value, vector = values[i], vectors[:, i]
            if abs(value) < 1e-12 * abs(values[len(y) - 1]):
                grown = mpmath.mpf(eta) * steps
            else:
                grown = (1 - (1 - mpmath.mpf(eta) * value) ** steps) / value
            out += vector * (grown * mpmath.fsum(vector[j] * float(y[j]) for j in range(len(y))))
        return np.array([float(one) for one in out])


REPRESENTER = Question(
    "weights",
    (
        Part("steps", 2, "a few steps", kernels(1.0, 9), with_digits, close(1e-6)),
        Part("long", 1, "a great many steps", kernels(1.0, 10**9), with_digits, close(1e-4)),
        Part("singular", 1, "a kernel without full rank", kernels(1.0, 500, 2), with_digits, close(1e-5)),
        Part("too large", 1, "a rate that is too large", kernels(3.6, 25), with_digits, close(1e-6)),
    ),
)


# ---- 4. where it rests: by one step of the equations from a small push


def equilibria(low, high):
    def inputs(rng, variant):
        found = []
        for _ in range(4):
            lam, m = float(rng.uniform(0.2, 5)), int(rng.integers(2, 500))
            eta = float(rng.uniform(low, high)) / lam
            found.append({"lam": lam, "m": m, "eta": eta, "y": float(rng.uniform(-3, 3))})
        return found

    return inputs


def all_kinds(rng, variant):
    return equilibria(0.1, 1.9)(rng, variant)[:2] + equilibria(2.1, 3.9)(rng, variant)[:2]  # so that no word is right


def border(rng, variant):
    return [{"lam": lam, "m": 10, "eta": 2 / lam, "y": 1.0} for lam in (0.5, 4.0)] + equilibria(0.1, 0.9)(rng, variant)


def by_a_push(arguments, variant):
    lam, m, eta, y = (mpmath.mpf(arguments[name]) for name in ("lam", "m", "eta", "y"))
    with mpmath.workdps(50):
        push = mpmath.mpf(10) ** -20
        g = y + push
        factor = float((g - eta * push * lam + eta**2 * push**2 * g / m - y) / push)
    word = "neither" if abs(abs(factor) - 1) < 1e-9 else "stable" if abs(factor) < 1 else "unstable"
    return [factor, word]


def factor_alone(result, expected):
    found = result[0] if isinstance(result, list) and len(result) == 2 else None
    return close(1e-6, 1e-9)(finite_number(found), expected[0])


def word_alone(result, expected):
    return same(result[1] if isinstance(result, list) and len(result) == 2 else None, expected[1])


STATE = Question(
    "rests",
    (
        Part("factor", 2, "the factor of the residual", equilibria(0.1, 3.9), by_a_push, factor_alone),
        Part("word", 1, "stable or not", all_kinds, by_a_push, word_alone),
        Part("border", 1, "also just at the border", border, by_a_push, word_alone),
    ),
)


# ---- 5. the claim


def start(seed, m):
    draw = np.random.default_rng(seed)
    active = draw.binomial(m, 0.5)
    h, v = np.abs(draw.standard_normal(active)), draw.standard_normal(active)
    return float(v @ h / math.sqrt(m)), float((h @ h + v @ v) / m)


def flown(row, seed, variant):
    delta, m, steps = row.get("delta"), row.get("m"), row.get("steps")
    if None in (delta, m, steps) or not (0.01 <= delta <= 1.9 and m == int(m) and 10 <= m <= 10**7):
        raise NotAllowed("'delta' is not between 0.01 and 1.9, or 'm' no whole number from 10 to 10 000 000")
    if steps != int(steps) or not 1 <= steps <= 5000:
        raise NotAllowed("'steps' is no whole number from 1 to 5000")
    y = variant["y"]
    g, lam = start(seed, int(m))
    eta = (2 + delta) / lam
    # in r and v = eta lambda, the residual's own recursion
    r, v, height = g - y, 2 + delta, 0.0
    for _ in range(int(steps)):
        u = eta**2 * r * r / m
        height, w = max(height, u), eta**2 * r / m * (r + y)
        r, v = r * (1 - v + w), v - 4 * w + u * v
        if not abs(r) < 1e12:
            return {"height": math.inf, "end": math.inf, "rest": math.inf}
    # a residual that has come down to rounding has no digits to compare
    rest = row.get("rest", math.nan) if abs(r) < 1e-6 and abs(row.get("rest", 1)) < 1e-6 else abs(r)
    return {"height": height, "end": v, "rest": rest}


def one_choice(rows):
    return None if len({(row.get("delta"), row.get("m"), row.get("steps")) for row in rows}) == 1 else (
        "delta, m or steps differ between seeds"
    )  # fmt: skip


FLIGHT = Question(
    "study",
    study=Study(
        claim={
            "id": "course.flight",
            "where": "question 5",
            "kind": "claim",
            "states": "For small delta the largest u is half of delta squared, and eta lambda ends at 2 - delta.",
            "seeds": 10,
            "parts": [
                {"name": "height", "test": "abs(mean(height / delta ** 2) - 0.5) <= 0.05",
                 "says": "the mean height over $\\delta^{}$ is {}, up to {}"},
                {"name": "end", "test": "abs(mean((2 - end) / delta) - 1) <= 0.1",
                 "says": "from {}, the kernel ends lower by $\\delta$, up to {%} in the mean"},
                {"name": "rest", "test": "rest < 0.01", "reads": "control",
                 "says": "every run comes to rest, below {}"},
            ],
        },
        points={"height": 3, "end": 2, "rest": 1},
        seeds=10,
        again=flown,
        whole=one_choice,
        checked=4,
        rtol=1e-3,
        recomputed=3,
    ),
    seconds=40,
)  # fmt: skip


ASSIGNMENT = Spec(
    questions={"two": TWO, "model": MODEL, "representer": REPRESENTER, "state": STATE, "flight": FLIGHT},
    rubrics={
        "four": Rubric(
            4,
            (
                "1: for large g the change of the kernel is about -(eta g^2/m)(4 - eta lambda)",
                "1: below 4 the kernel falls, and eta lambda comes below 2, where the output shrinks",
                "1: above 4 the kernel grows with the output, and nothing turns round",
                "1: the sentence is true in a window only",
            ),
        )
    },
    variants={"0": {"y": 1}, "1": {"y": 0.5}, "2": {"y": -1}, "3": {"y": 1.5}},
)
