"""What students do not see of the assignment: hidden inputs, what they should give, and the claim's criterion.

Expected results come from the library, from automatic differentiation or from more digits, never from the model
solutions, which are checked by them. Tolerances: formulas are right to 1e-12 in float64, and a feature machine to 1e-9;
1e-5 costs nobody a point. Runs above the critical rate amplify rounding where a ReLU is near its kink; 5 % passes that,
and no other rate, network or invented number.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from traindyn.measure.agop import agop, alignment
from traindyn.run.course.compare import close
from traindyn.run.course.questions import NotAllowed, Part, Question, Rubric, Spec, Study

WIDTH, STEPS = 80, 300


# ---- 1. the AGOP


def networks(outputs):
    def inputs(rng, variant):
        return [
            {"W": rng.standard_normal((m, d)), "V": rng.standard_normal((m, outputs)), "X": rng.standard_normal((n, d))}
            for m, d, n in ((3, 2, 5), (8, 6, 20))
        ]

    return inputs


def by_library(arguments, variant):
    W, V, X = (torch.from_numpy(arguments[name]) for name in ("W", "V", "X"))
    return agop(lambda x: torch.tanh(x @ W.T) @ V, X)


AGOP = Question(
    "agop",
    (
        Part("one output", 2, "one output", networks(1), by_library, close(1e-5)),
        Part("several", 2, "several outputs", networks(3), by_library, close(1e-5)),
    ),
)


# ---- 2. alignment


def matrices(small, large):
    def inputs(rng, variant):
        found = []
        for d in (2, 5):
            roots = rng.standard_normal((2, d, d))
            G, H = roots @ roots.transpose(0, 2, 1)
            found.append({"G": small * G, "H": large * (H if d > 2 else roots[0])})
        return found

    return inputs


def some_zero(rng, variant):
    G = rng.standard_normal((3, 3))
    return [{"G": G, "H": 0 * G}, {"G": 0 * G, "H": G}, *matrices(1.0, 1.0)(rng, variant)]


def cosine(arguments, variant):
    G, H = (torch.from_numpy(arguments[name]) for name in ("G", "H"))
    if not (G.any() and H.any()):
        return 0.0
    return alignment(G / G.abs().max(), H / H.abs().max()).item()


ALIGNMENT = Question(
    "alignment",
    (
        Part("cosine", 1, "matrices of ordinary size", matrices(1.0, 3.0), cosine, close(1e-5)),
        Part("scale", 1, "tiny and huge ones", matrices(1e-200, 1e200), cosine, close(1e-5)),
        Part("zero", 1, "also a matrix of zeros", some_zero, cosine, close(1e-5, 1e-9)),
    ),
)


# ---- 3. the target's own


def targets(kind):
    def inputs(rng, variant):
        found = []
        for d in (2, 4):
            A, b = rng.standard_normal((d, d)), rng.standard_normal(d)
            A = (A + A.T) / 2 if kind == "symmetric" else A
            found.append({"A": A, "b": b if kind == "linear" else np.zeros(d)})
        return found

    return inputs


def by_expectation(arguments, variant):
    """Sum over the second moments of x: E[x_i x_j] is 1 where i = j, and E[x_i] is 0."""
    A, b = arguments["A"], arguments["b"]
    found = np.outer(b, b)
    for i in range(len(b)):
        column = A[:, i] + A[i, :]
        found = found + np.outer(column, column)
    return found


TARGET = Question(
    "egop",
    (
        Part("symmetric", 2, "a symmetric A", targets("symmetric"), by_expectation, close(1e-5)),
        Part("any", 2, "an A that is not symmetric", targets("any"), by_expectation, close(1e-5)),
        Part("linear", 1, "with a linear part", targets("linear"), by_expectation, close(1e-5)),
    ),
)


# ---- 4. a feature machine, by automatic differentiation


def problems(*rounds):
    def inputs(rng, variant):
        found = []
        for count in rounds:
            X = rng.standard_normal((25, 4))
            found.append({"X": X, "y": X[:, 0] * X[:, 1] + 0.3 * X[:, 2], "ridge": 0.05, "rounds": count})
        return found

    return inputs


def by_autograd(arguments, variant):
    X, y = torch.from_numpy(arguments["X"]), torch.from_numpy(arguments["y"])
    M = torch.eye(X.shape[1], dtype=X.dtype)
    for _ in range(arguments["rounds"]):

        def kernel(points, M=M):
            apart = points[:, None] - X[None]
            return torch.exp(-torch.einsum("ijd,de,ije->ij", apart, M, apart) / 2)

        alpha = torch.linalg.solve(kernel(X) + arguments["ridge"] * torch.eye(len(X), dtype=X.dtype), y)
        G = agop(lambda points, k=kernel, a=alpha: k(points) @ a, X)
        M = G / G.abs().max()
    return M


MACHINE = Question(
    "machine",
    (
        Part("one round", 3, "one round", problems(1, 1), by_autograd, close(1e-5)),
        Part("several", 2, "several rounds", problems(2, 4), by_autograd, close(1e-5)),
    ),
)


# ---- 5. the claim


def trained(seed, ratio, dim):
    """Return peak, final, alignment and test loss of a run, by automatic differentiation."""
    draw = np.random.default_rng(seed)
    X, W, v = (torch.from_numpy(draw.standard_normal(shape)) for shape in ((60, dim), (WIDTH, dim), (WIDTH,)))
    y, weights, losses, rate = X[:, 0] * X[:, 1], [W.requires_grad_(), v.requires_grad_()], [], None

    def network(x):
        return torch.relu(x @ weights[0].T / math.sqrt(dim)) @ weights[1] / math.sqrt(WIDTH)

    for step in range(STEPS + 1):
        f = network(X)
        if rate is None:
            rows = [torch.autograd.grad(one, weights, retain_graph=True) for one in f]
            J = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
            rate = ratio * len(X) / torch.linalg.matrix_norm(J, 2).item() ** 2
        loss = (f - y).square().mean()
        losses.append(loss.item())
        if not losses[-1] <= 1e12:
            return math.inf, math.inf, 0.0, math.inf
        if step < STEPS:
            slopes = torch.autograd.grad(loss, weights)
            weights[:] = [(w - rate * g).detach().requires_grad_() for w, g in zip(weights, slopes, strict=True)]
    points = torch.from_numpy(np.random.default_rng(0).standard_normal((1000, dim)))
    H = torch.diag((torch.arange(dim) < 2).to(points.dtype))
    weights[:] = [w.detach() for w in weights]
    error = (network(points) - points[:, 0] * points[:, 1]).square().mean().item()
    return max(losses) / losses[0], losses[-1] / losses[0], alignment(agop(network, points), H).item(), error


def run_again(row, seed, variant):
    ratio = row.get("ratio")
    if ratio is None or not 0.1 <= ratio <= 4:
        raise NotAllowed("rows lack 'ratio', or it is not between 0.1 and 4")
    dim = int(variant["dim"])
    peak, final, align, test = trained(seed, ratio, dim)
    half = trained(seed, 0.5, dim)
    found = {"peak": peak, "align": align, "test": test, "align_half": half[2], "test_half": half[3]}
    # the last loss is a small difference of large numbers: it has to be right where the claim asks
    return found | ({"final": final} if final > 0.05 or row.get("final", 1) > 0.1 else {})


def one_ratio(rows):
    if any("final" not in row for row in rows):
        return "rows lack the column 'final'"
    return None if len({row.get("ratio") for row in rows}) == 1 else "the ratio is not the same for all seeds"


CATAPULT = Question(
    "study",
    study=Study(
        claim={
            "id": "course.agop-catapult",
            "where": "question 5",
            "kind": "claim",
            "states": "A catapult ends with a better aligned AGOP and a smaller test loss than half the critical rate.",
            "seeds": 40,
            "parts": [
                {"name": "spike", "test": "mean(peak) >= 1.3", "says": "the mean peak is at least {} times the start"},
                {"name": "aligned", "test": "mean(align - align_half) > 2 * sem(align - align_half)",
                 "says": "alignment is larger, by more than {} standard errors of the difference"},
                {"name": "test", "test": "mean(test_half - test) > 2 * sem(test_half - test)",
                 "says": "the test loss is smaller, by more than {} standard errors of the difference"},
                {"name": "trains", "test": "final <= 0.1", "says": "every run ends at {%} of its loss or less",
                 "reads": "control"},
            ],
        },
        points={"spike": 1, "aligned": 2, "test": 2, "trains": 1},
        seeds=40,
        again=run_again,
        whole=one_ratio,
        checked=3,
        rtol=0.05,
        recomputed=3,
    ),
    seconds=40,
)  # fmt: skip


ASSIGNMENT = Spec(
    questions={"agop": AGOP, "alignment": ALIGNMENT, "target": TARGET, "machine": MACHINE, "catapult": CATAPULT},
    rubrics={
        "cause": Rubric(
            4,
            (
                "1: paired differences show that both change with the rate, beyond chance",
                "1: they do not show that one causes the other",
                "1: names something else that differs (weights, kernel, training loss, speed)",
                "1: an experiment that changes one and holds the other",
            ),
        )
    },
    variants={"0": {"dim": 9}, "1": {"dim": 10}, "2": {"dim": 11}, "3": {"dim": 12}},
)
