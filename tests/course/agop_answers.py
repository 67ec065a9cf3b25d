"""Wrong answers to the assignment of the chapter `agop`: the parts that each has to lose; it keeps the others."""

from traindyn.run.course.check import Wrong

ALL = {"recomputed", "spike", "aligned", "test", "trains"}
MADE_UP = """def study(seeds):
    row = {"ratio": 1.35, "peak": 3.0, "final": 0.001, "align": 0.97, "test": 0.3, "align_half": 0.95, "test_half": 0.4}
    return [{"seed": seed, **row} for seed in seeds]
"""

WRONG = {
    "agop": [
        Wrong("the mean over outputs", {"several"}, change=("/ len(X)", "/ len(X) / V.shape[1]")),
        Wrong("the sum over samples", {"one output", "several"}, change=(" / len(X)", "")),
        Wrong(
            "the outputs added up",
            {"several"},
            change=('np.einsum("ikd,ike->de", gradients, gradients)', "gradients.sum(1).T @ gradients.sum(1)"),
        ),
        Wrong("no slope", {"one output", "several"}, change=("1 - np.tanh(X @ W.T) ** 2", "np.ones((len(X), len(W)))")),
    ],
    "alignment": [
        Wrong(
            "not scaled",
            {"scale", "zero"},
            code="def alignment(G, H):\n    return float((G * H).sum() / (np.linalg.norm(G) * np.linalg.norm(H)))\n",
        ),
        Wrong("nan for zero", {"zero"}, change=("return 0.0", "return math.nan")),
        Wrong("the spectral norm", {"cosine", "scale", "zero"}, change=("np.linalg.norm(H))", "np.linalg.norm(H, 2))")),
    ],
    "target": [
        Wrong("A for its symmetric part", {"any", "linear"}, change=("S = A + A.T", "S = 2 * A")),
        Wrong("half the gradient", {"symmetric", "any", "linear"}, change=("S = A + A.T", "S = (A + A.T) / 2")),
        Wrong("no linear part", {"linear"}, change=(" + np.outer(b, b)", "")),
    ],
    "machine": [
        Wrong("one round always", {"several"}, change=("range(rounds)", "range(min(rounds, 1))")),
        Wrong("not normalised", {"one round", "several"}, change=("G / np.abs(G).max()", "G")),
        Wrong("no ridge", {"one round", "several"}, change=("K + ridge", "K + 0 * ridge")),
        Wrong("M forgotten in the gradient", {"several"}, change=("apart) @ M", "apart)")),
    ],
    "catapult": [
        Wrong("below the critical rate", {"spike"}, change=("[], 1.35", "[], 0.9")),
        Wrong("too fast", {"aligned", "test", "trains"}, change=("[], 1.35", "[], 3.0")),
        Wrong("made up", ALL, code=MADE_UP),
        Wrong("one layer trained", ALL, change=("v - rate * h.T @ slope", "v")),
    ],
}
