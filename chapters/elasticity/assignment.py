"""What students do not see of the assignment: hidden inputs, what they should give, and the claim's criterion.

Expected results come from the library or from more digits, never from the model solutions, which are checked by them.
Tolerances: formulas in float64 are right to 1e-12, so 1e-6 costs nobody a point. A finite step of 1e-3 leaves 1e-10 of
cancellation. The divergences of close distributions are asked to 1e-5, as the statement says: at a distance of 1e-7 the
naive sum was wrong by 9 % to a factor of 19, the stable one by 4e-16.
"""

from __future__ import annotations

import mpmath
import numpy as np
import torch
from torch import nn

from traindyn.measure.elasticity import s_rel
from traindyn.run.course.compare import close
from traindyn.run.course.questions import NotAllowed, Part, Question, Rubric, Spec, Study

EARLY, LATE = 0.5, 3.0


# ---- 1. the limit of a small step


def jacobians(zero):
    def inputs(rng, variant):
        found = []
        for n, p in ((4, 9), (7, 3)):
            J = rng.standard_normal((n, p)) * rng.uniform(0.1, 5, (n, 1))
            if zero:
                J[rng.integers(n)] = 0
            found.append({"J": J})
        return found

    return inputs


def over_the_diagonal(arguments, variant):
    J = arguments["J"]
    found = np.full((len(J), len(J)), np.nan)
    for a, at in enumerate(J):
        for i, on in enumerate(J):
            if on.any():
                found[a, i] = abs(at @ on) / (on @ on)
    return found


LIMIT = Question(
    "limit",
    (
        Part("ratios", 2, "gradients of different lengths", jacobians(False), over_the_diagonal, close(1e-6)),
        Part("undefined", 1, "a gradient that vanishes", jacobians(True), over_the_diagonal, close(1e-6)),
    ),
)


# ---- 2. a fictitious step


class Network(nn.Module):
    """The given network as a module."""

    def __init__(self, w, gain):
        super().__init__()
        self.W, self.b, self.v = (nn.Parameter(part) for part in (w[:24].reshape(8, 3), w[24:32], w[32:]))
        self.gain = gain

    def forward(self, X):
        return self.gain * torch.tanh(X @ self.W.T + self.b) @ self.v


def steps(low, high):
    def inputs(rng, variant):
        return [
            {
                "w": rng.standard_normal(40),
                "X": rng.standard_normal((n, 3)),
                "y": 3 * rng.standard_normal(n),
                "lr": float(np.exp(rng.uniform(np.log(low), np.log(high)))),
            }
            for n in (3, 6)
        ]

    return inputs


def by_library(arguments, variant):
    w, X, y = (torch.from_numpy(arguments[name]) for name in ("w", "X", "y"))
    return s_rel(Network(w.clone(), variant["gain"]), X, X, y, arguments["lr"])


STEP = Question(
    "elasticity",
    (
        Part("small", 2, "a small rate", steps(1e-3, 1e-2), by_library, close(1e-5)),
        Part("large", 3, "a rate that is not small", steps(0.1, 0.5), by_library, close(1e-5)),
    ),
    tensors=True,
)


# ---- 3. a divergence


def logits(apart, large=0.0):
    def inputs(rng, variant):
        found = []
        for n, c in ((3, 2), (4, 10)):
            old = 2 * rng.standard_normal((n, c)) + large * rng.standard_normal((n, 1))
            found.append({"new": old + apart * rng.standard_normal((n, c)), "old": old})
        return found

    return inputs


def with_fifty_digits(arguments, variant):
    found = []
    with mpmath.workdps(50):
        for new, old in zip(arguments["new"], arguments["old"], strict=True):
            new, old = ([mpmath.exp(mpmath.mpf(float(z))) for z in row] for row in (new, old))
            p, q = ([z / mpmath.fsum(row) for z in row] for row in (new, old))
            found.append(float(mpmath.fsum(a * mpmath.log(a / b) for a, b in zip(p, q, strict=True))))
    return np.array(found)


def relative(result, expected):
    """Every divergence to its own relative 1e-5: they may differ by orders of magnitude."""
    if (reason := close(1.0)(result, expected)) is not None:
        return reason
    return close(0.0, 1e-5)(np.asarray(result, dtype=float) / expected, np.ones_like(expected))


def also_apart(rng, variant):
    return logits(1e-7)(rng, variant) + logits(1e-4)(rng, variant)


DIVERGENCE = Question(
    "divergence",
    (
        Part("apart", 2, "distributions that are far apart", logits(2.0), with_fifty_digits, relative),
        Part("close", 2, "logits that differ by 0.0001 and less", also_apart, with_fifty_digits, relative),
        Part("large", 1, "large logits", logits(1.0, 1000.0), with_fifty_digits, relative),
    ),
)


# ---- 4. blocks


def classes(sizes):
    def inputs(rng, variant):
        found = []
        for counts in sizes:
            labels = np.repeat(rng.choice(20, len(counts), replace=False), counts)
            rng.shuffle(labels)
            S = rng.uniform(0, 2, (len(labels), len(labels)))
            np.fill_diagonal(S, 1)
            found.append({"S": S, "labels": labels})
        return found

    return inputs


def by_pairs(arguments, variant):
    S, labels = arguments["S"], arguments["labels"]
    names, n = sorted(set(labels.tolist())), len(labels)
    pairs = {(a, b): [] for a in names for b in names}
    for i in range(n):
        for j in range(n):
            if i != j:
                pairs[labels[i], labels[j]].append(S[i, j])
    return np.array([[np.mean(pairs[a, b]) if pairs[a, b] else np.nan for b in names] for a in names])


BLOCKS = Question(
    "blocks",
    (
        Part("two", 2, "two classes of equal size", classes([(4, 4), (3, 3)]), by_pairs, close(1e-6)),
        Part("many", 1, "classes of different sizes", classes([(2, 5, 3), (4, 2, 6, 3)]), by_pairs, close(1e-6)),
        Part("single", 1, "a class of one sample", classes([(1, 4), (3, 1, 1)]), by_pairs, close(1e-6)),
    ),
)


# ---- 5. the claim


def squares(seed, t):
    draw = np.random.default_rng(seed)
    start, end = draw.uniform((0.3, 2, 0.3), (0.8, 3, 3)), draw.uniform((2, 0.3, 0.3), (3, 0.8, 3))
    speed, order = draw.uniform(0.2, 1, 3), draw.permutation(3)
    return (end / (1 + (end / start - 1) * np.exp(-speed * t)))[order]


def pair_again(row, seed, variant):
    found = {}
    for name, letters in (("fall", "pq"), ("rise", "rs")):
        x_prime, x = ([row.get(f"{letter}{k}") for k in (1, 2, 3)] for letter in letters)
        if None in (*x_prime, *x):
            raise NotAllowed("rows lack coordinates of the pairs")
        if not all(-3 <= value <= 3 for value in (*x_prime, *x)):
            raise NotAllowed("a coordinate is not between -3 and 3")
        for when, t in (("early", EARLY), ("late", LATE)):
            v = squares(seed, t)
            below = float(np.dot(v, np.square(x)))
            if below < 1e-6:
                raise NotAllowed("an input x is zero")
            found[f"{name}_{when}"] = abs(float(np.dot(v * x_prime, x))) / below
    return found


PHASES = Question(
    "study",
    study=Study(
        claim={
            "id": "course.phases",
            "where": "question 5",
            "kind": "claim",
            "states": "In every such training some influence falls by a fifth and some grows by a fifth.",
            "seeds": 12,
            "parts": [
                {"name": "falls", "test": "fall_late <= 0.8 * fall_early",
                 "says": "the first pair falls to {%} or less"},
                {"name": "rises", "test": "rise_late >= 1.2 * rise_early and rise_early > 0",
                 "says": "the second pair grows to {} times or more"},
                {"name": "bounded", "test": "max(fall_early, rise_late) < 1000", "reads": "control",
                 "says": "both stay below {}"},
            ],
        },
        points={"falls": 3, "rises": 2, "bounded": 1},
        seeds=12,
        again=pair_again,
        rtol=1e-5,
        recomputed=2,
    ),
)  # fmt: skip


ASSIGNMENT = Spec(
    questions={"limit": LIMIT, "step": STEP, "divergence": DIVERGENCE, "blocks": BLOCKS, "phases": PHASES},
    rubrics={
        "label": Rubric(
            4,
            (
                "1: scalar: the derivative of the loss is a common factor and cancels, so the sentence is true",
                "1: classifier: the step carries the vector p - e_y, which depends on the label",
                "1: kernels at x' and x act differently on it, so it does not cancel, and the sentence is false",
                "1: two classes: p - e_y is a multiple of (1, -1) for both labels, and it cancels again",
            ),
        )
    },
    variants={"0": {"gain": 0.5}, "1": {"gain": 0.4}, "2": {"gain": 0.7}, "3": {"gain": 0.6}},
)
