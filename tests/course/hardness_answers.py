"""Wrong answers to the assignment of the chapter `hardness`: the parts that each has to lose; it keeps the others."""

from traindyn.run.course.check import Wrong

HATS = """def parity(d):
    a, c = [], []
    for k in range(d + 1):  # a hat of three neurons for each value
        a += [(-1.0) ** k, -2 * (-1.0) ** k, (-1.0) ** k]
        c += [1.0 - k, -k, -1.0 - k]
    return np.array(a), np.ones(len(a)), np.array(c, dtype=float)
"""
PAIRS = """def variance(h, D):
    d = int(np.log2(len(h)))
    every = np.stack([2 * ((h - (-1.0) ** (cube(d) @ u))[:, None] * D).mean(0) for u in cube(d)])
    return ((every - every.mean(0)) ** 2).sum(1).mean()
"""
MADE_UP = """def study(seeds):
    row = {"few": 40, "many": 100, "time_few": 6.0, "time_many": 16.4, "slope": 0.1733, "bound": 1e-9}
    return [{"seed": seed, **row} for seed in seeds]
"""

WRONG = {
    "parity": [
        Wrong("hats", {"few"}, code=HATS),
        Wrong("kinks half as large", {"exact", "few"}, change=("-4 *", "-2 *")),
        Wrong("no constant", {"exact", "few"}, change=("[[1.0], -2", "[[0.0], -2")),
    ],
    "halfspace": [
        Wrong(
            "not steep enough",
            {"exact", "norm"},
            change=("np.stack([2.0 * w, 2.0 * w])", "np.stack([1.0 * w, 1.0 * w])"),
        ),
        Wrong(
            "the printed norm",
            {"norm"},
            change=("(np.abs(a) * (np.abs(W).sum(1) + np.abs(c))).sum()", "4 * w.sum() + 2 * b + 2"),
        ),
        Wrong(
            "twice as steep as needed",
            {"norm"},
            change=(
                "np.array([1.0, -1.0]), np.stack([2.0 * w, 2.0 * w]), np.array([-2.0 * b - 1, -2.0 * b - 2])",
                "np.array([1.0, -1.0]), np.stack([4.0 * w, 4.0 * w]), np.array([-4.0 * b - 1, -4.0 * b - 2])",
            ),
        ),
        Wrong(
            "the strict inequality of b",
            {"exact", "norm"},
            change=("[-2.0 * b - 1, -2.0 * b - 2]", "[-2.0 * b + 1, -2.0 * b]"),
        ),
    ],
    "variance": [
        Wrong("not centred", {"small", "large"}, change=(" - ((D[0] / count) ** 2).sum()", "")),
        Wrong("the printed constant", {"small", "large"}, change=("return 4 *", "return")),
        Wrong("all pairs", {"large"}, code=PAIRS),
    ],
    "slow": [
        Wrong(
            "exponential",
            {"violated"},
            change=("np.log1p(t), 1 / (1 + t), -1 / (1 + t)", "2 * np.exp(-t), 2 * np.exp(-2 * t), 2 * np.exp(-t)"),
        ),
        Wrong("no flow", {"flow", "inequality", "violated"}, change=("np.log1p(t), 1", "t, 1")),
        Wrong(
            "too flat",
            {"inequality", "violated"},
            change=("np.log1p(t), 1 / (1 + t), -1 / (1 + t)", "np.log1p(t), 3 + 1 / (1 + t), -1 / (1 + t)"),
        ),
    ],
    "escape": [
        Wrong("few bits", {"linear", "bound"}, change=("40, 100", "4, 12")),
        Wrong(
            "the square of the distance",
            {"recomputed", "linear", "bound", "positive"},
            change=("REACHED / epsilon", "REACHED**2 / epsilon"),
        ),
        Wrong("made up", {"recomputed", "linear", "bound", "positive"}, code=MADE_UP),
    ],
}
