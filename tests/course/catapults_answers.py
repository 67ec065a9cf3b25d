"""Wrong answers to the assignment of the chapter `catapults`: the parts that each has to lose; it keeps the others."""

from traindyn.run.course.check import Wrong

CLAIM = {"recomputed", "spike", "converges", "falls", "stable", "control"}
MADE_UP = """def study(seeds):
    row = {"ratio": 1.8, "peak": 8.0, "final": 1e-9, "norm": 0.4, "peak_half": 1.0}
    return [{"seed": seed, **row} for seed in seeds]
"""

WRONG = {
    "two": [
        Wrong("half the gradient", {"below", "above"}, change=("g = 2 * eta", "g = eta")),
        Wrong("one sign", {"below", "above"}, change=("(1 + g) * v", "(1 - g) * v")),
        Wrong("one row too few", {"below", "above"}, change=("steps + 1", "steps")),
        Wrong(
            "the kernel stays",
            {"below", "above"},
            change=("GAMMA**2 * (u * u + v * v)))", "rows[0][1] if rows else GAMMA**2 * (u * u + v * v)))"),
        ),
    ],
    "rates": [
        Wrong("twice", {"whole", "batches", "lengths"}, change=("len(batch) /", "2 * len(batch) /")),
        Wrong("n for all", {"batches", "lengths"}, change=("len(batch) /", "len(J) /")),
        Wrong("the norm of J", {"whole", "batches", "lengths"}, change=(" ** 2", "")),
        Wrong("one norm for all", {"batches", "lengths"}, change=("norm(J[batch], 2)", "norm(J, 2)")),
    ],
    "split": [
        Wrong("ascending", {"one", "several", "ends"}, change=("[::-1]", "")),
        Wrong("no 1/n", {"one", "several", "ends"}, change=(" / len(r)", "")),
        Wrong("rows for columns", {"one", "several", "ends"}, change=("vectors.T @ r", "vectors @ r")),
        Wrong(
            "at least one",
            {"ends"},
            change=("parts[:s].sum(), parts[s:].sum()", "parts[: max(s, 1)].sum(), parts[max(s, 1) :].sum()"),
        ),
    ],
    "detect": [
        Wrong("ripples count", {"ripples", "open"}, change=("1.3 *", "1.0 *")),
        Wrong(
            "the first rise is the peak",
            {"one", "several", "ripples", "open"},
            change=("peak = t + int(np.argmax(loss[t : back[0]]))", "peak = t + 1"),
        ),
        Wrong(
            "the last one is closed by the end",
            {"open"},
            change=("            break\n", "            back = [len(loss) - 1]\n"),
        ),
        Wrong(
            "the end is not searched from",
            {"several", "ripples"},
            change=("t = back[0]\n", "t = back[0] + 1\n"),
        ),
    ],
    "claim": [
        Wrong("too slow", {"spike", "falls"}, change=("[], 1.8", "[], 1.05")),
        Wrong("too fast", {"converges", "falls", "stable"}, change=("[], 1.8", "[], 4.0")),
        Wrong("made up", CLAIM, code=MADE_UP),
        Wrong("one layer trained", CLAIM, change=("v - rate * h.T @ slope", "v")),
        Wrong("a ratio for each seed", CLAIM, change=("for seed in seeds:", "for ratio, seed in enumerate(seeds, 1):")),
    ],
}
