"""What students do not see of the assignment: hidden inputs, what they should give, and the claim's criterion.

Expected results come from the library (autograd, its own polynomials) or from another way of counting, never from the
model solutions, which are checked by them.
Tolerances: formulas are compared to 1e-5 of the largest entry, which answers in float32 reach on any machine; counts
exactly, on curves whose neighbours differ by a thousandth or more. Gradient descent above the critical rate amplifies
rounding where a ReLU is near its kink: over 60 seeds at 1.5 critical rates, answers by hand and by autograd differed by
2e-14 at most, and an answer in float32 by 4.5e-3. The claim's rows are compared to 5 %; another rate, width or number
of steps, or one layer trained, is seen.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from traindyn.learn.data.targets import Polynomial
from traindyn.measure import agop as library
from traindyn.run.course.compare import close, numbers
from traindyn.run.course.questions import NotAllowed, Part, Question, Rubric, Spec, Study

# ---- 1. the AGOP of a network


def by_autograd(arguments, variant):
    W, V, X = map(torch.from_numpy, arguments.values())
    return library.agop(lambda x: torch.relu(x @ W.T / math.sqrt(W.shape[1])) @ V.T / math.sqrt(len(W)), X)


def networks(outputs):
    def inputs(rng, variant):
        found = []
        for m, d, n in ((3, 2, 4), (30, 7, 20), (20, 12, 5)):
            W, V, X = rng.standard_normal((m, d)), rng.standard_normal((outputs, m)), rng.standard_normal((n, d))
            found.append({"W": W, "V": V, "X": X})
        return found

    return inputs


AGOP = Question(
    "agop",
    (
        Part("one output", 2, "a network with one output", networks(1), by_autograd, close(1e-5)),
        Part("outputs", 2, "several outputs", networks(3), by_autograd, close(1e-5)),
    ),
    tensors=True,
)


# ---- 2. the EGOP of a polynomial


def polynomial(arguments, variant):
    powers, c = arguments.values()
    terms = {}
    for row, coefficient in zip(powers, c, strict=True):
        key = tuple(i for i, power in enumerate(row) for _ in range(int(power)))
        terms[key] = terms.get(key, 0.0) + float(coefficient)
    return Polynomial(terms).egop(powers.shape[1], dtype=torch.float64)


def product(rng, variant):
    """Products of different coordinates, no coordinate in two of them."""
    found = []
    for d in (4, 6):
        powers, order = np.zeros((2, d), int), rng.permutation(d)
        powers[0, order[:2]] = powers[1, order[2:4]] = 1
        found.append({"powers": powers, "c": rng.uniform(1, 3, 2)})
    return found


def staircase(rng, variant):
    found = []
    for d in (4, 6):
        powers = np.tril(np.ones((d, d), int))[:4][:, rng.permutation(d)]
        found.append({"powers": powers, "c": rng.uniform(0.5, 2, 4)})
    return found


def mixed(rng, variant):
    """x_1 x_2 sum of x_i, whose products share coordinates, so that the matrix is not diagonal."""
    found = []
    for d in (5, 7):
        powers = np.eye(d, dtype=int) + (np.arange(d) < 2)
        found.append({"powers": powers[:, rng.permutation(d)], "c": np.full(d, rng.uniform(0.5, 2))})
    return found


def anything(rng, variant):
    """Any powers up to 4, a constant among them, and one term twice."""
    found = []
    for d in (1, 2, 4):
        powers = rng.integers(0, 5, (5, d))
        powers[0], powers[1] = 0, powers[2]
        found.append({"powers": powers, "c": rng.uniform(-2, 2, 5)})
    return found


EGOP = Question(
    "egop",
    (
        Part("products", 1, "products of different coordinates", product, polynomial, close(1e-5)),
        Part("staircase", 1, "a staircase of products", staircase, polynomial, close(1e-5)),
        Part("mixed", 2, "a target with squares, whose EGOP is not diagonal", mixed, polynomial, close(1e-5)),
        Part("any", 1, "any powers, with a constant", anything, polynomial, close(1e-5)),
    ),
)


# ---- 3. baselines


def semidefinite(rng, d, rank, top):
    root = rng.standard_normal((d, rank)) * np.geomspace(top, 1, rank)
    return root @ root.T


def matrices(ranks):
    def inputs(rng, variant):
        found = []
        for d, k in zip((3, 8, 15), ranks, strict=True):
            G, H = semidefinite(rng, d, d, 1.5), semidefinite(rng, d, max(2, d // 2), 2.0)
            found.append({"G": float(rng.uniform(0.01, 9)) * G, "H": H, "k": k})
        return found

    return inputs


def compared(arguments, variant):
    """The third number by the alignment of H with H's part on its leading directions, from a decomposition."""
    G, H, k = arguments.values()
    U, s, _ = np.linalg.svd(H)
    part = torch.from_numpy((U[:, :k] * s[:k]) @ U[:, :k].T)
    G, H = torch.from_numpy(G), torch.from_numpy(H)
    return [library.alignment(G, H).item(), library.baselines(H)["isotropic"], library.alignment(part, H).item()]


def entry(place, agrees, length):
    """Compare one entry of several."""

    def judge(result, expected):
        found = numbers(result)
        if found is None or found.shape != (length,):
            return f"expected {length} numbers"
        return agrees(found[place], expected[place])

    return judge


BASELINES = Question(
    "baselines",
    (
        Part("alignment", 1, "the alignment", matrices([1, 1, 1]), compared, entry(0, close(1e-5), 3)),
        Part("identity", 1, "the one of the identity", matrices([1, 1, 1]), compared, entry(1, close(1e-5), 3)),
        Part("one direction", 1, "the best one of rank 1", matrices([1, 1, 1]), compared, entry(2, close(1e-5), 3)),
        Part("rank", 1, "the best one of any rank", matrices([2, 3, 15]), compared, entry(2, close(1e-5), 3)),
    ),
)


# ---- 4. counting: by one pass with a state


def counted(arguments, variant):
    eta, rates, loss = arguments.values()
    level, begun, first, outside = None, 0, 0, 0
    above = eta - rates > 1e-8
    for step, high in enumerate(above):
        if level is not None and loss[step] <= level:
            level = None
        if level is None and loss[step + 1] > loss[step]:
            level, begun, first = loss[step], begun + 1, first + int(high)
        outside += int(high and level is None)
    return [int(above.sum()), begun, first, outside]


def curves(finished=True):
    """Random walks of the logarithm of the loss, each step of at least a thousandth; critical rates around eta."""

    def inputs(rng, variant):
        found = []
        for T in (12, 40, 150):
            moves = rng.normal(-0.05, 0.5, T)
            moves += 0.002 * np.sign(moves)
            if finished:
                moves[-1] = -np.abs(moves).sum()  # everything comes back in the end
            else:
                moves[T // 2] = np.abs(moves).sum()  # from here on nothing does
            eta = float(rng.uniform(0.5, 2))
            rates = eta * np.where(rng.random(T) < 0.3, 1.0, rng.uniform(0.5, 1.5, T))  # some are just critical
            found.append({"eta": eta, "rates": rates, "loss": np.exp(np.concatenate([[0], moves.cumsum()]))})
        return found

    return inputs


def whole(place):
    return entry(place, close(1e-9), 4)


def all_four(result, expected):
    return next((reason for place in range(4) if (reason := whole(place)(result, expected))), None)


COUNT = Question(
    "count",
    (
        Part("steps", 1, "super-critical steps", curves(), counted, whole(0)),
        Part("excursions", 1, "excursions that all come back", curves(), counted, whole(1)),
        Part("begin", 1, "excursions that begin with a super-critical step", curves(), counted, whole(2)),
        Part("outside", 1, "super-critical steps outside of excursions", curves(), counted, whole(3)),
        Part("open", 1, "all four, where the last excursion does not come back", curves(False), counted, all_four),
    ),
)


# ---- 5. the claim: by autograd, another way than the model solution's


def drawn(seed, width):
    draw = torch.Generator().manual_seed(seed)
    shapes = ((150, 20), (150,), (1000, 20), (width, 20), (width,))
    X, noise, Z, W, v = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes)
    return X, X[:, 0] * X[:, 1] + 0.1 * noise, Z, W, v


def predictor(W, v):
    return lambda x: torch.relu(x @ W.T / math.sqrt(W.shape[1])) @ v / math.sqrt(len(v))


def aligned(W, v, X):
    H = Polynomial({(0, 1): 1.0}).egop(X.shape[1], dtype=torch.float64)
    return library.alignment(library.agop(predictor(W, v), X), H).item()


def trained(seed, ratio, steps, width):
    """Return peak, last loss over the first, alignment at the end and test error of a run."""
    X, y, Z, *weights = drawn(seed, width)
    jacobian = torch.func.jacrev(lambda W, v: predictor(W, v)(X), argnums=(0, 1))(*weights)
    J = torch.cat([part.flatten(1) for part in jacobian], 1)
    rate, losses = ratio * len(X) / torch.linalg.matrix_norm(J, 2) ** 2, []
    for step in range(steps + 1):
        weights = [w.detach().requires_grad_() for w in weights]
        loss = (predictor(*weights)(X) - y).square().mean()
        losses.append(loss.item())
        if not losses[-1] <= 1e9:
            return math.inf, math.inf, 0.0, math.inf
        if step < steps:
            weights = [w - rate * g for w, g in zip(weights, torch.autograd.grad(loss, weights), strict=True)]
    W, v = (w.detach() for w in weights)
    test = (predictor(W, v)(Z) - Z[:, 0] * Z[:, 1]).square().mean().item()
    return max(losses) / losses[0], losses[-1] / losses[0], aligned(W, v, X), test


def again(row, seed, variant):
    ratio, width = row.get("ratio"), int(variant["width"])
    if ratio is None:
        raise NotAllowed("rows lack the column 'ratio'")
    if not 0.6 <= ratio <= 4:
        raise NotAllowed("the ratio is not between 0.6 and 4")
    peak, final, fast, test = trained(seed, ratio, 120, width)
    _, _, slow, other = trained(seed, 0.5, round(240 * ratio), width)
    X, _, _, W, v = drawn(seed, width)
    found = {"peak": peak, "initial": aligned(W, v, X), "slow": slow, "fast": fast, "log_test": math.log(test / other)}
    # a small loss has few digits left to compare after a flight; the claim asks only whether it is below 0.05
    small = final < 0.01 and 0 <= row.get("final", 1) < 0.02
    return found | {"final": row["final"] if small else final}


def one_ratio(rows):
    return None if len({row.get("ratio") for row in rows}) == 1 else "the ratio is not the same for all seeds"


CLAIM = Question(
    "study",
    study=Study(
        claim={
            "id": "course.features-in-flight",
            "where": "question 5",
            "kind": "claim",
            "states": "Above the critical rate gradient descent ends with more alignment and less test error.",
            "seeds": 12,
            "parts": [
                {"name": "flies", "test": "peak >= 2", "says": "the loss peaks at {} times its start or more"},
                {"name": "features", "test": "mean(fast - slow) - 3 * sem(fast - slow) > 0",
                 "says": "less {} standard errors the gain in alignment is above 0"},
                {"name": "error", "test": "mean(log_test) + 3 * sem(log_test) < -0.1",
                 "says": "plus {} standard errors the logarithm of the ratio of test errors is below -{}"},
                {"name": "trained", "test": "final <= 0.05", "says": "the loss ends at {%} of its start or less"},
                {"name": "baseline", "test": "mean(initial) < 0.3162 and slow > 0.3162", "reads": "control",
                 "says": "the alignment's mean starts below the identity's, {}, and the slow run ends above it"},
            ],
        },
        points={"flies": 1, "features": 2, "error": 2, "trained": 1, "baseline": 1},
        seeds=12,
        again=again,
        whole=one_ratio,
        checked=3,
        rtol=0.05,
        recomputed=2,
    ),
    seconds=60,
)  # fmt: skip


ASSIGNMENT = Spec(
    questions={"agop": AGOP, "egop": EGOP, "baselines": BASELINES, "count": COUNT, "claim": CLAIM},
    rubrics={
        "cause": Rubric(
            5,
            (
                "1: names something else that changes with the batch size: gradient noise, number of steps, time",
                "1: a first control, with the result that would speak against the conclusion",
                "1: a second one",
                "1: an EGOP that is a multiple of the identity (or: alignment with the identity as a baseline)",
                "1: one excursion may hold many super-critical steps, and such a step need not raise the loss",
            ),
        )
    },
    variants={"0": {"width": 80}, "1": {"width": 90}, "2": {"width": 100}, "3": {"width": 110}},
)
