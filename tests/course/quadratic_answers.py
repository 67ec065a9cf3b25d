"""Wrong answers to the assignment of the chapter `quadratic`: the parts that each has to lose; it keeps the others."""

from traindyn.run.course.check import Wrong

LOOP = """def weights(K, y, eta, steps):
    alpha = np.zeros(len(y))
    for _ in range(steps):
        alpha = alpha - eta * (K @ alpha - y)
    return alpha
"""
MADE_UP = """def study(seeds):
    row = {"delta": 0.05, "m": 10**6, "steps": 4000, "height": 0.00125, "end": 1.95, "rest": 1e-9}
    return [{"seed": seed, **row} for seed in seeds]
"""

WRONG = {
    "two": [
        Wrong("the linear model", {"one step", "many"}, change=(" + eta**2 * r**2 * g / m", "")),
        Wrong(
            "the kernel stays",
            {"one step", "many"},
            change=("lam - 4 * eta * r * g / m + eta**2 * r**2 * lam / m", "lam"),
        ),
        Wrong(
            "one after the other",
            {"one step", "many"},
            change=(
                "g, lam = g - eta * r * lam + eta**2 * r**2 * g / m, lam",
                "g = g - eta * r * lam + eta**2 * r**2 * g / m\n        lam = lam",
            ),
        ),
    ],
    "model": [
        Wrong("the network", {"far"}, change=("X @ u0.T >= 0", "X @ u.T >= 0")),
        Wrong("no root of d", {"near", "far"}, change=("math.sqrt(u.size)", "math.sqrt(len(u))")),
        Wrong(
            "the linear model",
            {"far"},
            change=(
                "return (X @ u.T * gates) @ v / math.sqrt(u.size)",
                "return ((X @ u.T * gates) @ v0 + (X @ u0.T * gates) @ (v - v0)) / math.sqrt(u.size)",
            ),
        ),
    ],
    "representer": [
        Wrong("a loop", {"long"}, code=LOOP),
        Wrong(
            "the end at once",
            {"steps", "singular", "too large"},
            code="def weights(K, y, eta, steps):\n    return np.linalg.pinv(K) @ y\n",
        ),
        Wrong(
            "the predictions",
            {"steps", "long", "singular", "too large"},
            change=("vectors @ (filtered *", "vectors @ (values * filtered *"),
        ),
        Wrong("no directions of zero", {"singular"}, change=("np.where(tiny, eta * steps,", "np.where(tiny, 0.0,")),
    ],
    "state": [
        Wrong("half the threshold", {"factor", "word", "border"}, change=("1 - eta * lam", "1 - 2 * eta * lam")),
        Wrong("without the sign", {"factor"}, change=("return factor, word", "return size, word")),
        Wrong("no border", {"border"}, change=("abs(size - 1) <= 1e-9", "False")),
    ],
    "flight": [
        Wrong("large delta", {"height", "end"}, change=("delta, m, steps = [], 0.05", "delta, m, steps = [], 1.2")),
        Wrong("not long enough", {"height", "end", "rest"}, change=("10**6, 4000", "10**6, 60")),
        Wrong("narrow", {"height", "end"}, change=("0.05, 10**6", "0.05, 30")),
        Wrong("made up", {"recomputed", "height", "end", "rest"}, code=MADE_UP),
    ],
}
