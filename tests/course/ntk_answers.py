"""Wrong answers to the assignment of the chapter `ntk`: the parts that each has to lose; it keeps the others."""

from traindyn.run.course.check import Wrong

ALL = {
    "kernel": {"signs", "outer weights", "two sets"},
    "limit": {"unit inputs", "norms", "parallel"},
    "rate": {"recomputed", "rate", "not smooth", "limit", "gains"},
}
MADE_UP = """def study(seeds):
    def limit(m):
        return 0.75 * (2 * math.pi) ** (-1 / 6) * RADIUS ** (4 / 3) * m ** (-1 / 6)

    row = {"narrow": 100, "wide": 10_000, "gap_narrow": limit(100), "gap_wide": limit(10_000)}
    return [{"seed": seed, **row, "slope": -1 / 6, "limit": limit(10_000)} for seed in seeds]
"""

WRONG = {
    "kernel": [
        Wrong("no 1/m", ALL["kernel"], change=(" / len(W)", "")),
        Wrong("the root of m", ALL["kernel"], change=("/ len(W)", "/ math.sqrt(len(W))")),
        Wrong("signs only", {"outer weights"}, change=(".to(W.dtype) * a", ".to(W.dtype)")),
        Wrong("one set", {"two sets"}, change=("X2 @ W.T", "X @ W.T")),
    ],
    "limit": [
        Wrong("factor 1/pi", ALL["limit"], change=("(2 * math.pi)", "math.pi")),
        Wrong(
            "unit inputs only",
            {"norms", "parallel"},
            change=("inner / (X.norm(dim=1)[:, None] * X2.norm(dim=1)[None, :])", "inner"),
        ),
        Wrong("the gates alone", ALL["limit"], change=("S**2 * inner", "S**2")),
        Wrong("nan where parallel", {"parallel"}, change=("cosine.clamp(-1, 1)", "(cosine * (1 + 1e-9))")),
    ],
    "gap": [
        Wrong(
            "all cross",
            {"one", "many", "none"},
            change=("(radius * counts.sqrt() - near.cumsum(0)).max()", "(radius * counts.sqrt() - near.cumsum(0))[-1]"),
        ),
        Wrong("one crosses", {"many", "none"}, change=("near.cumsum(0)).max()", "near.cumsum(0))[0]")),
        Wrong("may be negative", {"none"}, change=("max(0.0, ", "(")),
        Wrong("not sorted", {"one", "many", "none"}, change=("p.abs().sort().values", "p.abs()")),
    ],
    "threshold": [
        Wrong("power two", {"value", "units", "dependent"}, change=("** 3", "** 2")),
        Wrong("never infinite", {"dependent"}, change=("return math.inf", "sigma = sigma.clamp_min(1e-9 * sigma[0])")),
        Wrong("an absolute zero", {"units"}, change=("1e-12 * sigma[0]", "1e-2 or sigma[0] > 500")),
    ],
    "rate": [
        Wrong("too narrow", {"rate", "not smooth", "limit"}, change=("2_000, 200_000", "16, 17")),
        Wrong("made up", ALL["rate"], code=MADE_UP),
        Wrong("not divided by the root of the width", ALL["rate"], change=(".item() / math.sqrt(width)", ".item()")),
        Wrong("another radius", ALL["rate"], change=("(RADIUS * counts", "(1.1 * RADIUS * counts")),
    ],
}
