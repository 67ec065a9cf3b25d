"""Wrong answers to the assignment of the chapter `linearity`: the parts that each has to lose; it keeps the others."""

from traindyn.run.course.check import Wrong

DENSE = """def hessian_norm(W, v, x):
    m, d = W.shape
    t, H = np.tanh(W @ x / math.sqrt(d)), np.zeros((m * (d + 1), m * (d + 1)))
    for j in range(m):
        own = slice(d * j, d * j + d)
        H[own, own] = -2 * v[j] * t[j] * (1 - t[j] ** 2) * np.outer(x, x) / d
        H[own, m * d + j] = H[m * d + j, own] = (1 - t[j] ** 2) * x / math.sqrt(d)
    return float(np.linalg.norm(H, 2) / math.sqrt(m))
"""
MADE_UP = """def study(seeds):
    row = {"narrow": 8, "wide": 300, "plain_narrow": 0.5, "plain_wide": 0.15, "out_narrow": 0.5, "out_wide": 0.45}
    return [{"seed": seed, **row, "slope": -0.34 - 0.0001 * k, "slope_out": -0.05} for k, seed in enumerate(seeds)]
"""
CLAIM = {"recomputed", "falls", "apart", "stays", "positive"}

WRONG = {
    "layers": [
        Wrong("the shortest path", {"skips", "width"}, change=("1 + max((found", "1 + min((found")),
        Wrong("the first layer counts", {"width"}, change=("layer >= 2", "layer >= 1")),
        Wrong("outgoing edges", {"width"}, change=("len(parents[node])", "sum(u == node for u, _ in edges)")),
    ],
    "evaluate": [
        Wrong("not normalised", {"layered", "skips"}, change=(" / math.sqrt(len(into[node]))", "")),
        Wrong(
            "tanh on the output",
            {"layered", "skips"},
            change=("total if node in out else math.tanh(total)", "math.tanh(total)"),
        ),
        Wrong(
            "the root of the outgoing edges",
            {"layered", "skips"},
            change=("len(into[node])", "max(1, sum(u == node for u, _ in edges))"),
        ),
    ],
    "hessian": [
        Wrong(
            "the first layer alone", {"one", "several", "many"}, change=("np.sqrt(p**2 / 4 + q**2)", "np.abs(p) / 2")
        ),
        Wrong("all at once", {"many"}, code=DENSE),
        Wrong("no width", {"several", "many"}, change=(" / math.sqrt(m)", "")),
        Wrong("the sum of the neurons", {"several", "many"}, change=(".max() / math", ".sum() / math")),
    ],
    "moved": [
        Wrong(
            "the last",
            {"largest"},
            change=("max(np.linalg.norm(K - run[0], 2) for K in run)", "np.linalg.norm(run[-1] - run[0], 2)"),
        ),
        Wrong("the Frobenius norm", {"largest", "slope", "not symmetric"}, change=(", 2)", ")")),
        Wrong(
            "the symmetric part", {"not symmetric"}, change=("K - run[0], 2", "(K + K.T - run[0] - run[0].T) / 2, 2")
        ),
        Wrong("the slope without logarithms", {"slope"}, change=("np.log(widths), np.log(change)", "widths, change")),
    ],
    "flatten": [
        Wrong("the other way round", CLAIM, change=('"slope": math', '"slope": -math')),
        Wrong("made up", CLAIM, code=MADE_UP),
        Wrong("the outer product left out", CLAIM, change=(" - 2 * out * (1 - out**2) * np.outer(slope, slope)", "")),
        Wrong("neighbouring widths", {"falls", "apart"}, change=("8, 300", "290, 300")),
    ],
}
