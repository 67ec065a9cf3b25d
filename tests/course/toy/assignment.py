"""What students do not see of the toy assignment."""

import numpy as np

from traindyn.run.course.compare import close
from traindyn.run.course.questions import NotAllowed, Part, Question, Rubric, Spec, Study


def arrays(rng, variant):
    return [{"x": rng.standard_normal(5)} for _ in range(3)]


def negative(rng, variant):
    return [{"x": -rng.random((2, 3))}]


def again(row, seed, variant):
    n = row.get("n", 0)
    if not (n == int(n) and 1 <= n <= 1000):
        raise NotAllowed("'n' is no whole number from 1 to 1000")
    return {"average": np.random.default_rng(seed).random(int(n)).mean()}


def scaled(arguments, variant):
    return variant["factor"] * arguments["x"]


ASSIGNMENT = Spec(
    questions={
        "scale": Question(
            "scale",
            (
                Part("any", 2, "any array", arrays, scaled, close(1e-6)),
                Part("negative", 1, "a negative array", negative, scaled, close(1e-6)),
            ),
            seconds=4,
        ),
        "total": Question(
            "total",
            (Part("sum", 2, "the sum", arrays, lambda arguments, variant: arguments["x"].sum(), close(1e-6)),),
            seconds=2,
        ),
        "study": Question(
            "study",
            study=Study(
                claim={
                    "id": "course.toy",
                    "where": "question 3",
                    "kind": "claim",
                    "states": "The mean of uniform numbers is one half.",
                    "seeds": 20,  # nine numbers a seed pass by chance where seeds are few
                    "parts": [
                        {"name": "half", "test": "abs(mean(average) - 0.5) <= 0.1", "says": "the mean is {}, up to {}"},
                        {"name": "narrow", "test": "sd(average) <= 0.03", "says": "it spreads by at most {}"},
                    ],
                },
                points={"half": 1, "narrow": 2},
                seeds=20,
                again=again,
            ),
            seconds=5,
        ),
    },
    rubrics={"why": Rubric(2, ("2: names the law of large numbers, which is the word",))},
    variants={"0": {"factor": 2}, "1": {"factor": 3}},
)
