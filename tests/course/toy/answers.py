"""Wrong answers to the toy assignment."""

from traindyn.run.course.check import Wrong

WRONG = {
    "scale": [
        Wrong("once", {"any", "negative"}, change=("FACTOR * ", "")),
        Wrong("absolute", {"any", "negative"}, change=("np.asarray(x)", "np.abs(x)")),
    ],
    "total": [
        Wrong("mean", {"sum"}, change=("np.sum", "np.mean")),
        Wrong("first", {"sum"}, code="def total(x):\n    return x[0]\n"),
    ],
    "study": [
        Wrong("few numbers", {"narrow"}, change=("900", "9")),
        Wrong(
            "made up",
            {"recomputed", "half", "narrow"},
            code="def study(seeds):\n    return [{'seed': s, 'n': 900, 'average': 0.5} for s in seeds]\n",
        ),
    ],
}
