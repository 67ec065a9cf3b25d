"""Wrong answers to the assignment of `student_teacher`: the parts that each has to lose; it keeps the others."""

from traindyn.run.course.check import Wrong

MADE_UP = """def study(seeds):
    rows = {"p": 1.7, "order": 1.0, "found": 1.0, "flat": 0.0}
    return [{"seed": seed, **rows} for seed in seeds]
"""

WRONG = {
    "five": [
        Wrong("the teacher itself", {"not aligned"}, code="def counterexample(w):\n    return w[None], np.ones(1)\n"),
        Wrong(
            "a sign", {"no error", "not aligned"}, change=("[1.0, 1.0, -1.0, 1.0, -1.0]", "[1.0, 1.0, 1.0, 1.0, -1.0]")
        ),
        Wrong("halves", {"not aligned"}, change=("u = w / 2 + side", "u = w / 2")),
        Wrong("the linear part alone", {"no error", "not aligned"}, change=("[1.0, 1.0, -1.0", "[0.0, 1.0, -1.0")),
    ],
    "correlation": [
        Wrong("not centred", {"nodes", "constant"}, change=("F - F.mean(0), T - T.mean(0)", "F, T")),
        Wrong("nan for constants", {"constant"}, change=("norms, 1), 0.0)", "norms, 1), np.nan)")),
        Wrong(
            "covariance", {"nodes", "constant"}, change=("F.T @ T / np.where(norms > 0, norms, 1)", "F.T @ T / len(F)")
        ),
    ],
    "pull": [
        Wrong(
            "as printed",
            {"norms", "parallel"},
            change=(
                "along, size = w / np.linalg.norm(w), np.linalg.norm(u)\n",
                "along, size = w / np.linalg.norm(w), np.linalg.norm(u)\n    u = u * size * np.linalg.norm(w)\n",
            ),
        ),
        Wrong("the other sign", {"unit", "norms", "parallel"}, change=("* u + size", "* u - size")),
        Wrong("w not normalised", {"norms", "parallel"}, change=("math.sin(angle) * along", "math.sin(angle) * w")),
        Wrong("factor", {"unit", "norms", "parallel"}, change=("(2 * math.pi)", "math.pi")),
    ],
    "found": [
        Wrong(
            "the first time",
            {"lost"},
            change=("kept = np.flip(np.logical_and.accumulate(np.flip(above, 0), 0), 0)", "kept = above"),
        ),
        Wrong(
            "one and the same student",
            {"kept", "lost"},
            change=("np.asarray(rho).max(1) > level", "np.asarray(rho)[:, 0] > level"),
        ),
        Wrong("the last time", {"kept", "lost"}, change=("int(np.argmax(column))", "len(column) - 1")),
    ],
    "strong": [
        Wrong("nearly equal teachers", {"order"}, change=("1.7", "0.4")),
        Wrong("too unequal", {"all"}, change=("1.7", "3.5")),
        Wrong("made up", {"recomputed", "order", "all", "not luck"}, code=MADE_UP),
        Wrong(
            "one layer trained", {"recomputed", "order", "all", "not luck"}, change=("v - RATE * (W * net).sum(1)", "v")
        ),
    ],
}
