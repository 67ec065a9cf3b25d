"""Wrong answers to the assignment of the chapter `agop`: the parts that each has to lose; it keeps the others."""

from traindyn.run.course.check import Wrong

ALL = {
    "agop": {"one output", "outputs"},
    "egop": {"products", "staircase", "mixed", "any"},
    "baselines": {"alignment", "identity", "one direction", "rank"},
    "count": {"steps", "excursions", "begin", "outside", "open"},
    "claim": {"recomputed", "flies", "features", "error", "trained", "baseline"},
}
MADE_UP = """def study(seeds):
    row = {"ratio": 1.5, "peak": 6.0, "final": 0.001, "initial": 0.13, "slow": 0.76, "fast": 0.88, "log_test": -0.4}
    return [{"seed": seed, **row} for seed in seeds]
"""

WRONG = {
    "agop": [
        Wrong("the sum over samples", ALL["agop"], change=(" / len(X)", "")),
        Wrong("the mean over outputs", {"outputs"}, change=("return total", "return total / len(V)")),
        Wrong("the first output", {"outputs"}, change=("for v in V:", "for v in V[:1]:")),
        Wrong("the gradient of the summed outputs", {"outputs"}, change=("for v in V:", "for v in [V.sum(0)]:")),
        Wrong("no root of d", ALL["agop"], change=("math.sqrt(m * d)", "math.sqrt(m)")),
    ],
    "egop": [
        Wrong("only the diagonal", {"mixed", "any"}, change=("return G", "return np.diag(np.diag(G))")),
        Wrong("terms for themselves", {"mixed", "any"}, change=("for s in range(t):", "for s in [r]:")),
        Wrong("every even moment is one", {"mixed", "any"}, change=("range(int(k) - 1, 0, -2)", "[]")),
        Wrong("coefficients not squared", ALL["egop"], change=("c[r] * c[s]", "c[r]")),
    ],
    "baselines": [
        Wrong("not normed", {"alignment"}, change=("(G * H).sum() / (np.linalg.norm(G) * size)", "(G * H).sum()")),
        Wrong(
            "the spectral norm",
            ALL["baselines"],
            change=("size, top = np.linalg.norm(H)", "size, top = np.linalg.norm(H, 2)"),
        ),
        Wrong("a projection", {"rank"}, change=("np.linalg.norm(top) / size\n", "top.sum() / size / math.sqrt(k)\n")),
        Wrong("the smallest eigenvalues", {"one direction", "rank"}, change=("[::-1][:k]", "[:k]")),
        Wrong("the trace alone", {"identity"}, change=("math.sqrt(len(H)) * size", "len(H) * size")),
    ],
    "count": [
        Wrong("just critical counts", {"steps", "begin", "outside", "open"}, change=("> 1e-8", ">= 0")),
        Wrong(
            "every rise begins one", {"excursions", "begin", "open"}, change=("        t = end\n", "        t += 1\n")
        ),
        Wrong(
            "an open one is none",
            {"open"},
            change=(
                "        begun.append(t)\n",
                "        if loss[end] > loss[t]:\n            break\n        begun.append(t)\n",
            ),
        ),
        Wrong(
            "after its end",
            {"excursions", "begin", "outside", "open"},
            change=("        t = end\n", "        t = end + 1\n"),
        ),
    ],
    "claim": [
        Wrong("barely above", {"flies", "trained", "error"}, change=("[], 1.5", "[], 1.02")),
        Wrong("too fast", {"features", "error", "trained"}, change=("[], 1.5", "[], 3.5")),
        Wrong("equal steps", ALL["claim"], change=("round(240 * ratio)", "120")),
        Wrong("one layer trained", ALL["claim"], change=(", v - rate * slope @ h", ", v")),
        Wrong("made up", ALL["claim"], code=MADE_UP),
    ],
}
