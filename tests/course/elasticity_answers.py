"""Wrong answers to the assignment of the chapter `elasticity`: the parts that each has to lose; it keeps the others."""

from traindyn.run.course.check import Wrong

NAIVE = """def divergence(new, old):
    p, q = (np.exp(z - z.max(1, keepdims=True)) for z in (new, old))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    return (p * np.log(p / q)).sum(1)
"""
MADE_UP = """def study(seeds):
    pair = {f"{letter}{k}": 1.0 for letter in "pqrs" for k in (1, 2, 3)}
    row = {"fall_early": 1.0, "fall_late": 0.5, "rise_early": 1.0, "rise_late": 2.0}
    return [{"seed": seed, **pair, **row} for seed in seeds]
"""

WRONG = {
    "limit": [
        Wrong("by rows", {"ratios", "undefined"}, change=("np.nan)", "np.nan)[:, None]")),
        Wrong("signed", {"ratios", "undefined"}, change=("np.abs(K)", "K")),
        Wrong("zero where undefined", {"undefined"}, change=("own, np.nan)", "own, np.inf)")),
    ],
    "step": [
        Wrong("the limit", {"small", "large"}, change=("predict(w - lr * slope, X)", "predict(w - 1e-6 * slope, X)")),
        Wrong(
            "steps one after the other",
            {"small", "large"},
            change=("columns.append", "w = w - lr * slope; columns.append"),
        ),
        Wrong("transposed", {"small", "large"}, change=("dim=1)", "dim=0)")),
        Wrong("twice the loss", {"small", "large"}, change=(".sum() / 2", ".sum()")),
    ],
    "divergence": [
        Wrong("the naive sum", {"close"}, code=NAIVE),
        Wrong(
            "the other direction",
            {"apart", "close", "large"},
            change=("log_q = old - old.max", "new, old = old, new; log_q = old - old.max"),
        ),
        Wrong("the series alone", {"apart", "large"}, change=("< 1e-3", "< 1e3")),
        Wrong("no shift of the logits", {"large"}, change=("log_q = old - old.max(1, keepdims=True)", "log_q = old")),
    ],
    "blocks": [
        Wrong(
            "with the diagonal",
            {"two", "many", "single"},
            change=("np.where(np.eye(len(S), dtype=bool), np.nan, S)", "S"),
        ),
        Wrong("transposed", {"two", "many", "single"}, change=("found[a, b] =", "found[b, a] =")),
        Wrong("zero for no pair", {"single"}, change=("else np.nan", "else 0")),
    ],
    "phases": [
        Wrong(
            "the same pair for all", {"falls", "rises"}, change=("int(growth.argmin()), int(growth.argmax())", "0, 1")
        ),
        Wrong(
            "the wrong way round",
            {"falls", "rises"},
            change=("int(growth.argmin()), int(growth.argmax())", "int(growth.argmax()), int(growth.argmin())"),
        ),
        Wrong("made up", {"recomputed", "falls", "rises", "bounded"}, code=MADE_UP),
        Wrong(
            "coordinates too large", {"recomputed", "falls", "rises", "bounded"}, change=("= 1, 0.1, 1", "= 5, 0.1, 1")
        ),
    ],
}
