"""What students do not see of the assignment: hidden inputs, what they should give, and the claim's criterion.

Expected results come from the library or from autograd, never from the model solutions, which are checked by them.
Tolerances: answers compute in float64, where other orders of summation leave 1e-12 or so, and the arccosine near 0 and
pi 1e-8. 1e-5 passes an answer that works in float32 on any machine, and no answer with a wrong factor.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from traindyn.measure.kernels import two_layer_relu
from traindyn.measure.worst_case import relu_gap, relu_gap_limit
from traindyn.run.course.compare import close
from traindyn.run.course.questions import NotAllowed, Part, Question, Rubric, Spec, Study


def tensors(arguments):
    return [torch.from_numpy(value) if isinstance(value, np.ndarray) else value for value in arguments.values()]


# ---- 1. the kernel of one layer


def by_autograd(arguments, variant):
    W, a, *inputs = tensors(arguments)
    W.requires_grad_()
    jacobians = []
    for X in inputs:
        f = torch.relu(X @ W.T) @ a / math.sqrt(len(W))
        jacobians.append(torch.stack([torch.autograd.grad(one, W, retain_graph=True)[0].flatten() for one in f]))
    return jacobians[0] @ jacobians[1].T


def layers(signs, square):
    def inputs(rng, variant):
        found = []
        for m, d, n in ((5, 3, 4), (40, 6, 7)):
            a, X, X2 = rng.standard_normal(m), rng.standard_normal((n, d)), rng.standard_normal((n + 2, d))
            W = rng.standard_normal((m, d))
            found.append({"W": W, "a": np.sign(a) if signs else a, "X": X, "X2": X if square else X2})
        return found

    return inputs


KERNEL = Question(
    "tangent_kernel",
    (
        Part("signs", 2, "outer weights +1 and -1, one set of inputs", layers(True, True), by_autograd, close(1e-5)),
        Part("outer weights", 1, "outer weights of any size", layers(False, True), by_autograd, close(1e-5)),
        Part("two sets", 1, "two sets of inputs of different length", layers(True, False), by_autograd, close(1e-5)),
    ),
    tensors=True,
)


# ---- 2. its limit


def pairs(norms, parallel):
    def inputs(rng, variant):
        found = []
        for d in (2, 5, 30):
            X, X2 = rng.standard_normal((6, d)), rng.standard_normal((4, d))
            X2 = np.concatenate([X2, X[:3], -X[:3]]) if parallel else X2
            X, X2 = (Z / np.linalg.norm(Z, axis=1, keepdims=True) for Z in (X, X2))
            if norms:
                X, X2 = (Z * rng.uniform(0.1, 9, (len(Z), 1)) for Z in (X, X2))
            found.append({"X": X, "X2": X2})
        return found

    return inputs


def in_the_limit(arguments, variant):
    return two_layer_relu(*tensors(arguments), train="first", outer_square=variant["s"] ** 2)


LIMIT = Question(
    "limit_kernel",
    (
        Part("unit inputs", 2, "inputs of norm 1", pairs(False, False), in_the_limit, close(1e-5)),
        Part("norms", 1, "inputs of any norm", pairs(True, False), in_the_limit, close(1e-5)),
        Part("parallel", 1, "parallel and opposite inputs", pairs(True, True), in_the_limit, close(1e-5)),
    ),
    tensors=True,
)


# ---- 3. the worst case


def worst(arguments, variant):
    p, radius = tensors(arguments)
    return relu_gap(p, radius).value.item()


def radii(low, high, sizes=(2, 9, 60, 4000)):
    """Radii in units of the smallest |p|."""

    def inputs(rng, variant):
        found = []
        for m in sizes:
            p = rng.standard_normal(m) + 0.1 * np.sign(rng.standard_normal(m))
            found.append({"p": p, "radius": float(np.abs(p).min() * rng.uniform(low, high))})
        return found

    return inputs


def many(rng, variant, sizes=(30, 500, 20_000)):
    return [{"p": rng.standard_normal(m), "radius": float(rng.uniform(1, 3) * m**0.25)} for m in sizes]


def none(rng, variant):
    return radii(0.1, 0.95)(rng, variant) + many(rng, variant, (30,))  # the second one, so that 0 is no answer


GAP = Question(
    "worst_gap",
    (
        Part("one", 1, "only one neuron, or a few, can cross", radii(1.02, 1.9), worst, close(1e-6, 1e-9)),
        Part("many", 3, "many neurons cross", many, worst, close(1e-5)),
        Part("none", 1, "the budget is too small for any", none, worst, close(1e-5, 1e-9)),
    ),
    tensors=True,
)


# ---- 4. the threshold


def jacobians(scale, deficient=False):
    def inputs(rng, variant):
        found = []
        for n, p in ((1, 1), (3, 8), (6, 6), (4, 50)):
            J = rng.standard_normal((n, p)) + 2 * np.eye(n, p)
            if deficient:
                J = np.concatenate([J, J.sum(0, keepdims=True)]) if p > n else np.ones((2, 2)) * rng.uniform(1, 2)
            c = scale(rng)
            found.append({"J": c * J, "L": float(c**2 * rng.uniform(0.1, 5)), "R0": float(rng.uniform(0.1, 9))})
        return found

    return inputs


def dependent(rng, variant):
    independent = jacobians(lambda rng: 1.0)(rng, variant)[:1]  # so that infinity is no answer
    return jacobians(lambda rng: 1.0, True)(rng, variant) + independent


def smallest(arguments, variant):
    J, L, R0 = arguments.values()
    sigma = np.linalg.svd(J, compute_uv=False)
    if sigma[-1] < 1e-12 * sigma[0]:
        return math.inf
    return L * sigma[0] * math.sqrt(1152 * R0) / sigma[-1] ** 3


THRESHOLD = Question(
    "threshold",
    (
        Part("value", 2, "the threshold of a random Jacobian", jacobians(lambda rng: 1.0), smallest, close(1e-5)),
        Part("units", 1, "the same weights in other units, 1000 times larger or smaller",
             jacobians(lambda rng: 10.0 ** rng.choice([-3, 3])), smallest, close(1e-5)),
        Part("dependent", 1, "rows that are linearly dependent", dependent, smallest, close(1e-5)),
    ),
    tensors=True,
)  # fmt: skip


# ---- 5. the claim


def gap_again(row, seed, variant):
    narrow, wide = row.get("narrow"), row.get("wide")
    if narrow is None or wide is None:
        raise NotAllowed("rows lack the widths 'narrow' and 'wide'")
    if not (narrow == int(narrow) and wide == int(wide) and 16 <= narrow < wide <= 300_000):
        raise NotAllowed("the widths are not two whole numbers, at least 16 and at most 300 000, the first one smaller")
    gaps = []
    for width in (int(narrow), int(wide)):
        p = torch.randn(width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        gaps.append(relu_gap(p, variant["radius"]).value.item() / math.sqrt(width))
    slope = math.log(gaps[1] / gaps[0]) / math.log(wide / narrow) if min(gaps) > 0 else math.nan
    return {
        "gap_narrow": gaps[0],
        "gap_wide": gaps[1],
        "slope": slope,
        "limit": relu_gap_limit(variant["radius"], wide),
    }


RATE = Question(
    "study",
    study=Study(
        claim={
            "id": "course.ntk-rate",
            "where": "question 5",
            "kind": "claim",
            "states": "The worst-case gap of a ReLU network and its tangent falls like the width to the power -1/6.",
            "seeds": 10,
            "parts": [
                {"name": "rate", "test": "abs(mean(slope) + 1 / 6) <= 0.02",
                 "says": "the mean slope is -1/{}, up to {}"},
                {"name": "not smooth", "test": "mean(slope) - 3 * sem(slope) > -0.3",
                 "says": "less {} standard errors the mean slope is above -{}"},
                {"name": "limit", "test": "abs(mean(gap_wide / limit) - 1) <= 0.03",
                 "says": "the mean gap at the larger width is the predicted one up to {%}"},
                {"name": "gains", "test": "gap_narrow > 0 and gap_wide > 0",
                 "says": "both gaps are above 0 in every seed", "reads": "control"},
            ],
        },
        points={"rate": 2, "not smooth": 1, "limit": 2, "gains": 1},
        seeds=10,
        again=gap_again,
        checked=3,
        rtol=1e-5,
        recomputed=2,
    ),
    seconds=15,
)  # fmt: skip


ASSIGNMENT = Spec(
    questions={"kernel": KERNEL, "limit": LIMIT, "gap": GAP, "threshold": THRESHOLD, "rate": RATE},
    rubrics={
        "lazy": Rubric(
            5,
            (
                "1: both singular values are c, and L is of order c^2 (the constant 4/(3 sqrt 3) is not needed)",
                "1: the condition with power 2 is of order c, whatever the constant: alpha = 1 meets it for small c",
                "1: the outputs stay below 1, so that the loss stays above 1/2, although the theorem promises zero",
                "1: the conclusion follows for every constant, not only for 1152",
                "1: with power 3 the condition does not depend on c (or: an argument by units)",
            ),
        )
    },
    variants={
        "0": {"s": 1, "radius": 2},
        "1": {"s": 0.5, "radius": 1.5},
        "2": {"s": 2, "radius": 2.5},
        "3": {"s": 1.5, "radius": 3},
    },
)
