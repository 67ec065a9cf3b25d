"""What students do not see of the assignment: hidden inputs, what they should give, and the claim's criterion.

Expected results come from the library, from quadrature or from a property, never from the model solutions, which are
checked by them. Tolerances: formulas are right to 1e-12 in float64, and the arccosine near 0 and pi to 1e-8; 1e-5 costs
nobody a point. In question 5 the steps at which teachers are found are whole numbers: two ways of computing them agreed
in all of 80 rows.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.integrate import quad
from scipy.stats import rankdata

from traindyn.measure.teacher import correlate
from traindyn.run.course.compare import close, list_of_int, numbers
from traindyn.run.course.questions import NotAllowed, Part, Question, Rubric, Spec, Study

RATE, STEPS, LEVEL = 0.5, 900, 0.95


# ---- 1. the counterexample: a property, not a result


def targets(dims):
    return lambda rng, variant: [{"w": rng.standard_normal(d) * rng.uniform(0.3, 4)} for d in dims]


def the_teacher(arguments, variant):
    return arguments["w"]


def student(result, w):
    """Return (W, v) of an answer, or why it is none."""
    if not isinstance(result, list) or len(result) != 2:
        return "expected a pair (W, v)"
    W, v = (numbers(part) for part in result)
    if W is None or v is None or W.ndim != 2 or v.shape != W.shape[:1] or W.shape[1] != len(w) or len(v) > 8:
        return "expected W of shape (k, d) and v of shape (k,), with k at most 8"
    if not (np.isfinite(W).all() and np.isfinite(v).all() and np.abs(W).max() < 1e6 and np.abs(v).max() < 1e6):
        return "the weights are not finite, or huge"
    return W, v


def without_error(result, w):
    found = student(result, w)
    if isinstance(found, str):
        return found
    W, v = found
    X = np.random.default_rng(len(w)).standard_normal((2000, len(w)))
    X[:200] -= np.outer(X[:200] @ w, w) / (w @ w) * (1 - 1e-3)  # near the teacher's kink
    error = np.abs(np.maximum(X @ W.T, 0) @ v - np.maximum(X @ w, 0)).max() / np.linalg.norm(w)
    return None if error < 1e-6 else f"largest error {error:.2g}, in units of the teacher's norm"


def not_aligned(result, w):
    if (reason := without_error(result, w)) is not None:
        return reason
    W, v = student(result, w)
    W = W[(v != 0) & (np.linalg.norm(W, axis=1) > 0)]
    cosine = (W @ w / np.linalg.norm(W, axis=1) / np.linalg.norm(w)).max()
    return None if cosine <= 0.9 + 1e-9 else f"a node has the cosine {cosine:.3f} to the teacher"


FIVE = Question(
    "counterexample",
    (
        Part("no error", 2, "the student has no error on any input", targets((2, 3, 10)), the_teacher, without_error),
        Part("not aligned", 3, "without error, and no node is aligned", targets((3, 4, 7)), the_teacher, not_aligned),
    ),
)


# ---- 2. correlation


def activations(constant, sizes=((30, 3, 2), (50, 6, 4))):
    def inputs(rng, variant):
        found = []
        for n, k, m in sizes:
            F, T = (np.maximum(rng.standard_normal((n, width)) + 0.5, 0) for width in (k, m))
            F = F + 0.3 * T[:, :1]
            if constant:
                F[:, 1], T[:, -1] = 0.0, 2.0
            found.append({"F": F, "T": T})
        return found

    return inputs


def by_library(arguments, variant):
    return correlate(torch.from_numpy(arguments["F"]), torch.from_numpy(arguments["T"]))


CORRELATION = Question(
    "correlation",
    (
        Part("nodes", 3, "nodes that vary", activations(False), by_library, close(1e-5)),
        Part("constant", 1, "a dead node and a constant one", activations(True), by_library, close(1e-5)),
    ),
)


# ---- 3. the pull of a teacher, by quadrature over the angle in the plane of both


def vectors(unit, kind="any"):
    def inputs(rng, variant):
        found = []
        for d in (2, 3, 8):
            w, u = rng.standard_normal(d), rng.standard_normal(d)
            w, u = w / np.linalg.norm(w), u / np.linalg.norm(u)
            sizes = (1.0, 1.0) if unit else rng.uniform(0.2, 5, 2)
            found.append({"w": sizes[0] * w, "u": sizes[1] * u})
            if kind == "parallel":
                found += [{"w": 3 * w, "u": 0.7 * w}, {"w": 0.3 * w, "u": -2 * w}]
        return found

    return inputs


def by_quadrature(arguments, variant):
    w, u = arguments["w"], arguments["u"]
    first = w / np.linalg.norm(w)
    rest = u - (u @ first) * first
    second = rest / np.linalg.norm(rest) if np.linalg.norm(rest) > 1e-9 * np.linalg.norm(u) else np.zeros_like(u)
    a, b = u @ first, u @ second
    kinks = sorted({math.atan2(-a, b), math.atan2(a, -b)})
    inside = [kink for kink in kinks if abs(kink) < math.pi / 2]
    parts = []
    for direction in (math.cos, math.sin):
        # E r^2 = 2 in the plane, and the angle is uniform: a factor of 2 / (2 pi)
        value = quad(
            lambda t, d=direction: d(t) * max(0.0, a * math.cos(t) + b * math.sin(t)),
            -math.pi / 2, math.pi / 2, points=inside or None, epsabs=1e-12, epsrel=1e-12,
        )[0]  # fmt: skip
        parts.append(value / math.pi)
    return parts[0] * first + parts[1] * second


PULL = Question(
    "pull",
    (
        Part("unit", 2, "unit vectors", vectors(True), by_quadrature, close(1e-5)),
        Part("norms", 2, "vectors of any norm", vectors(False), by_quadrature, close(1e-5)),
        Part(
            "parallel", 1, "parallel and opposite vectors", vectors(False, "parallel"), by_quadrature, close(1e-5, 1e-6)
        ),
    ),
)


# ---- 4. when a teacher is found


def records(lost):
    def inputs(rng, variant):
        found = []
        for times, k, m in ((6, 2, 3), (12, 3, 5)):
            rho = rng.uniform(-0.5, 0.9, (times, k, m))
            for j in range(m - 1):
                when = int(rng.integers(0, times - 1))
                for t in range(when, times):
                    rho[t, rng.integers(k), j] = rng.uniform(0.96, 1)
                if lost and when + 2 < times:
                    rho[when + 1, :, j] = 0.5
            found.append({"rho": rho, "level": 0.95})
        return found

    return inputs


def backwards(arguments, variant):
    rho, level = arguments["rho"], arguments["level"]
    found = []
    for j in range(rho.shape[2]):
        first = -1
        for t in reversed(range(len(rho))):
            if rho[t, :, j].max() <= level:
                break
            first = t
        found.append(first)
    return found


FOUND = Question(
    "found_at",
    (
        Part(
            "kept", 2, "teachers that are found and kept, and one that is not", records(False), backwards, list_of_int
        ),
        Part("lost", 2, "teachers that are lost for a while", records(True), backwards, list_of_int),
    ),
)


# ---- 5. the claim


def trained(seed, p, dim):
    """Return the steps at which teachers are found, node by node: another way than the model solution's."""
    draw = np.random.default_rng(seed)
    T = np.linalg.qr(draw.standard_normal((dim, 4)))[0].T
    W, v = 0.01 * draw.standard_normal((12, dim)), 0.01 * draw.standard_normal(12)
    fan_out = np.array([(j + 1.0) ** -p for j in range(4)])
    found = [STEPS + 1] * 4
    for step in range(STEPS):
        U, signed = np.concatenate([W, T]), np.concatenate([v, -fan_out])
        sizes = np.linalg.norm(U, axis=1)
        cosine = np.clip((W @ U.T) / sizes[:12, None] / sizes, -1, 1)
        for j in range(4):
            if found[j] > STEPS and cosine[:, 12 + j].max() > LEVEL:
                found[j] = step
        angle = np.arccos(cosine)
        first = ((math.pi - angle) * signed) @ U
        second = ((np.sin(angle) * sizes) @ signed)[:, None] * W / sizes[:12, None]
        net = (first + second) / (2 * math.pi)
        W, v = W - RATE * v[:, None] * net, v - RATE * np.einsum("kd,kd->k", W, net)
    return np.array(found)


def order(found):
    if (found > STEPS).all():
        return 0.0
    return float(np.corrcoef(np.arange(4), rankdata(found))[0, 1])


def run_again(row, seed, variant):
    p = row.get("p")
    if p is None or not 0 <= p <= 4:
        raise NotAllowed("rows lack 'p', or it is not between 0 and 4")
    found, flat = (trained(seed, value, int(variant["dim"])) for value in (p, 0.0))
    return {"order": order(found), "found": float((found <= STEPS).mean()), "flat": order(flat)}


def one_p(rows):
    return None if len({row.get("p") for row in rows}) == 1 else "p is not the same for all seeds"


STRONG = Question(
    "study",
    study=Study(
        claim={
            "id": "course.strong",
            "where": "question 5",
            "kind": "claim",
            "states": "Stronger teacher nodes are learned first, and all are learned.",
            "seeds": 30,
            "parts": [
                {"name": "order", "test": "mean(order) >= 0.8", "says": "the mean rank correlation is at least {}"},
                {"name": "all", "test": "mean(found) >= 0.9",
                 "says": "in the mean at least {%} of the teachers are found"},
                {"name": "not luck", "test": "mean(order - flat) > 3 * sem(order - flat)", "reads": "control",
                 "says": "the order is above that of equal teachers by more than {} standard errors"},
            ],
        },
        points={"order": 3, "all": 2, "not luck": 2},
        seeds=30,
        again=run_again,
        whole=one_p,
        checked=3,
        rtol=1e-4,
        recomputed=2,
    ),
    seconds=40,
)  # fmt: skip


ASSIGNMENT = Spec(
    questions={"five": FIVE, "correlation": CORRELATION, "pull": PULL, "found": FOUND, "strong": STRONG},
    rubrics={
        "repair": Rubric(
            4,
            (
                "1: w and -w have the same hyperplane, so the group that is collected holds both",
                "1: what is true: some student is co-linear with the teacher, with either sign",
                "1: all gradients vanish at the counterexample, so gradient descent stays there",
                "1: near it, too: it attracts (or: a number made of gradients cannot tell the cases apart)",
            ),
        )
    },
    variants={"0": {"dim": 8}, "1": {"dim": 9}, "2": {"dim": 10}, "3": {"dim": 11}},
)
