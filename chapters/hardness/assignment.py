"""What students do not see of the assignment: hidden inputs, what they should give, and the claim's criterion.

Expected results come from the definition or are properties, never from the model solutions, which are checked by them.
Tolerances: everything is a formula in float64, right to 1e-12; 1e-6 costs nobody a point. The zigzag of 40 bits adds up
numbers of size 100, which leaves 1e-12. A flow is compared with differences of a fine grid, whose own error is 1e-6 of
a slope of order one; 1e-3 is allowed. Escape times may come from an integration in time: 1e-3.
"""

from __future__ import annotations

import math

import numpy as np

from traindyn.run.course.compare import close, numbers
from traindyn.run.course.questions import NotAllowed, Part, Question, Rubric, Spec, Study

TIMES = np.linspace(0, 20, 20_001)


def arrays(result, count):
    """Return the parts of an answer as arrays of numbers, or None."""
    if not isinstance(result, list) or len(result) != count:
        return None
    found = [numbers(part) for part in result]
    return None if any(part is None or not np.isfinite(part).all() for part in found) else found


# ---- 1. the parity network


def bits(*dims):
    return lambda rng, variant: [{"d": int(d)} for d in (*dims, *rng.integers(5, 40, 2))]


def the_bits(arguments, variant):
    return arguments["d"]


def is_parity(result, d):
    found = arrays(result, 3)
    if found is None or len({part.shape for part in found}) != 1 or found[0].ndim != 1:
        return "expected three arrays of the same length"
    a, w, c = found
    z = np.arange(d + 1)
    error = np.abs(np.maximum(np.outer(z, w) + c, 0) @ a - (-1.0) ** z).max()
    return None if error < 1e-6 else f"largest error {error:.2g} on 0, ..., d"


def is_small(result, d):
    if (reason := is_parity(result, d)) is not None:
        return reason
    neurons = np.count_nonzero(numbers(result[0]))
    return None if neurons <= d + 3 else "more than d + 3 neurons"


PARITY = Question(
    "parity",
    (
        Part("exact", 2, "the parity for several d", bits(2, 3), the_bits, is_parity),
        Part("few", 2, "exact, with d + 3 neurons or fewer", bits(1, 6), the_bits, is_small),
    ),
)


# ---- 2. a halfspace


def halfspaces(rng, variant):
    found = []
    for d in (2, 5, 9):
        w = rng.integers(0, 4, d)
        w[0] += 1
        found.append({"w": w, "b": int(rng.integers(0, w.sum()))})
    return found


def cube(d):
    return 2 * ((np.arange(2**d)[:, None] >> np.arange(d)[::-1]) & 1) - 1


def the_halfspace(arguments, variant):
    return {"w": arguments["w"], "b": arguments["b"]}


def is_step(result, right):
    found = arrays(result, 4)
    w, b = right["w"], right["b"]
    if found is None or found[0].shape != (2,) or found[1].shape != (2, len(w)) or found[2].shape != (2,):
        return "expected a, W, c, norm with two neurons"
    a, W, c, _ = found
    X = cube(len(w))
    error = np.abs(np.maximum(X @ W.T + c, 0) @ a - (X @ w - b - 0.5 >= 0)).max()
    return None if error < 1e-6 else f"largest error {error:.2g} on the cube"


def is_priced(result, right):
    if (reason := is_step(result, right)) is not None:
        return reason
    a, W, c, norm = arrays(result, 4)
    own = (np.abs(a) * (np.abs(W).sum(1) + np.abs(c))).sum()
    if (reason := close(1e-6)(norm, own)) is not None:
        return f"not the path norm of this network: {reason}"
    return None if own <= (4 * right["w"].sum() + 4 * right["b"] + 3) * (1 + 1e-6) else "the path norm is too large"


HALFSPACE = Question(
    "halfspace",
    (
        Part("exact", 3, "the network is the halfspace on the cube", halfspaces, the_halfspace, is_step),
        Part("norm", 2, "exact, and its path norm", halfspaces, the_halfspace, is_priced),
    ),
)


# ---- 3. the variance of the gradient


def tables(dims, p=3):
    def inputs(rng, variant):
        found = []
        for d in dims:
            D = rng.standard_normal((2**d, p))
            D[0] *= 2 ** (d / 3)  # so that the mean over the targets is seen
            found.append({"h": rng.standard_normal(2**d), "D": D})
        return found

    return inputs


def by_transform(arguments, variant):
    """All gradients by a fast Walsh-Hadamard transform, then their variance by its definition."""
    h, D = arguments["h"], arguments["D"]
    table, step = D.copy(), 1
    while step < len(h):
        pairs = table.reshape(-1, 2, step, D.shape[1])
        table = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], 1).reshape(D.shape)
        step *= 2
    every = 2 * (h[:, None] * D).mean(0) - 2 * table / len(h)
    return ((every - every.mean(0)) ** 2).sum(1).mean()


VARIANCE = Question(
    "variance",
    (
        Part("small", 3, "a few bits", tables((1, 3, 6)), by_transform, close(1e-6)),
        Part("large", 2, "16 bits", tables((16,)), by_transform, close(1e-6)),
    ),
    seconds=10,
)


# ---- 4. a slow flow


def times(rng, variant):
    return [{"t": TIMES}]


def nothing(arguments, variant):
    return 0


def flow(result):
    """Return theta, R, slope of an answer, or why it is no gradient flow of a positive function."""
    found = arrays(result, 3)
    if found is None or any(part.shape != TIMES.shape for part in found):
        return "expected three arrays of the shape of t"
    theta, R, slope = found
    if (R <= 0).any():
        return "R is not positive"
    moved, fallen = (np.diff(part) / np.diff(TIMES) for part in (theta, R))
    middle = (slope[1:] + slope[:-1]) / 2
    if (np.abs(moved + middle) > 1e-3 * np.abs(middle) + 1e-9).any():
        return "theta does not follow the flow of this slope"
    if (np.abs(fallen + middle**2) > 2e-3 * middle**2 + 1e-9).any():
        return "R is not a function with this slope: along the flow it falls by the square of it"
    return theta, R, slope


def follows(result, expected):
    found = flow(result)
    return found if isinstance(found, str) else None


def satisfies(result, expected):
    found = flow(result)
    if isinstance(found, str):
        return found
    return None if (np.abs(found[2]) >= found[1] * (1 - 1e-6)).all() else "|R'| is below R somewhere"


def violates(result, expected):
    if (reason := satisfies(result, expected)) is not None:
        return reason
    R = flow(result)[1]
    return None if R[-1] >= 1000 * math.exp(-20) * R[0] else "the loss is not 1000 times as large as the rate allows"


SLOW = Question(
    "slow",
    (
        Part("flow", 2, "a gradient flow of a positive function", times, nothing, follows),
        Part("inequality", 1, "which satisfies the inequality without the square", times, nothing, satisfies),
        Part("violated", 2, "and violates the rate", times, nothing, violates),
    ),
)


# ---- 5. the claim


def escape_again(row, seed, variant):
    few, many = row.get("few"), row.get("many")
    if few is None or many is None or few != int(few) or many != int(many) or not 2 <= few < many <= 200:
        raise NotAllowed("'few' and 'many' are not two whole numbers from 2 to 200, the first one smaller")
    epsilon = float(np.random.default_rng(seed).uniform(0.3, 0.6))
    spent = [math.log(1 + variant["reached"] / (epsilon * 2 ** (-d / 2))) / 2 for d in (few, many)]
    bound = 100 * math.expm1(min(700.0, 100 * spent[1] / 2 ** (many / 2)))
    slope = (spent[1] - spent[0]) / (many - few)
    return {"time_few": spent[0], "time_many": spent[1], "slope": slope, "bound": bound}


def same_bits(rows):
    return None if len({(row.get("few"), row.get("many")) for row in rows}) == 1 else "the bits differ between seeds"


ESCAPE = Question(
    "study",
    study=Study(
        claim={
            "id": "course.escape",
            "where": "question 5",
            "kind": "claim",
            "states": "Training leaves its start after a time that grows by ln 2 / 4 per bit.",
            "seeds": 10,
            "parts": [
                {"name": "linear", "test": "abs(mean(slope) - 0.1733) <= 0.002",
                 "says": "the mean slope is {}, up to {}"},
                {"name": "bound", "test": "bound < 0.001", "says": "the printed bound is below {}"},
                {"name": "positive", "test": "time_few > 0 and time_many > 0", "reads": "control",
                 "says": "both times are above 0"},
            ],
        },
        points={"linear": 3, "bound": 3, "positive": 1},
        seeds=10,
        again=escape_again,
        whole=same_bits,
        rtol=1e-3,
        recomputed=2,
    ),
    seconds=20,
)  # fmt: skip


ASSIGNMENT = Spec(
    questions={"parity": PARITY, "halfspace": HALFSPACE, "variance": VARIANCE, "slow": SLOW, "escape": ESCAPE},
    rubrics={
        "average": Rubric(
            4,
            (
                "1: the average holds at a point that does not depend on f, and the trained weights do",
                "1: each training goes where its own target has a gradient (in words or by the counterexample)",
                "1: in the counterexample only the target's own coordinate grows, and with it its gradient",
                "1: from the start alone: Gronwall, distance of order 2^(-d/2) e^(ct), an escape time of order d",
            ),
        )
    },
    variants={"0": {"reached": 0.1}, "1": {"reached": 0.15}, "2": {"reached": 0.2}, "3": {"reached": 0.12}},
)
