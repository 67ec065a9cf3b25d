"""The sizes of the experiments of the chapter on quadratic models: types, units, ranges."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from traindyn.sizes import Experiment, Scale


class Repetitions(Experiment):
    seeds: int = Field(gt=0, description="independent repetitions")


class ByHand(Experiment):
    m: int = Field(gt=0, description="hidden units")
    d: int = Field(gt=0, description="inputs")
    rate: float = Field(gt=0, description="learning rate times lambda(0)")
    steps: int = Field(gt=0, description="updates")


# one example, exact in (g, lambda)


class Exact(Repetitions):
    widths: list[PositiveInt] = Field(min_length=2, description="hidden units")
    rates: list[PositiveFloat] = Field(min_length=1, description="learning rates below 2, times lambda(0)")
    deltas: list[PositiveFloat] = Field(min_length=1, description="learning rates times lambda(0), minus 2")
    m: int = Field(gt=0, description="hidden units where one width is asked for")
    count: int = Field(gt=1, description="rates across the window where one width is asked for")


class Window(Repetitions):
    widths: list[PositiveInt] = Field(min_length=2, description="hidden units")


class Regimes(Repetitions):
    m: int = Field(gt=0, description="hidden units")
    steps: int = Field(gt=0, description="updates")
    high: float = Field(gt=4, description="learning rate far above the critical one, for the network")


class Dynamics(Repetitions):
    m: int = Field(gt=0, description="hidden units")
    d: int = Field(gt=0, description="inputs")
    steps: int = Field(gt=0, description="updates")
    rates: list[PositiveFloat] = Field(min_length=1, description="learning rates times lambda(0)")


class Formula(Repetitions):
    m: int = Field(gt=0, description="hidden units")
    d: int = Field(gt=0, description="inputs")
    points: int = Field(gt=0, description="random weights")


class Linear(Repetitions):
    n: int = Field(gt=0, description="examples")
    p: int = Field(gt=0, description="weights")


class Critical(Repetitions):
    widths: list[PositiveInt] = Field(min_length=2, description="hidden units")
    n: list[PositiveInt] = Field(min_length=1, description="numbers of examples")
    d: int = Field(gt=0, description="inputs")


class Ball(Repetitions):
    widths: list[PositiveInt] = Field(min_length=2, description="hidden units")
    radius: float = Field(gt=0, description="of the ball of weights")


class Draws(Repetitions):
    widths: list[PositiveInt] = Field(min_length=1, description="hidden units")
    draws: int = Field(gt=0, description="networks per seed and width")


class Triples(Repetitions):
    samples: int = Field(gt=0, description="triples (u, v, w) per seed")


# inputs on a line


class Line(Repetitions):
    n: int = Field(gt=0, description="examples")
    m: int = Field(gt=0, description="hidden units")
    steps: int = Field(gt=0, description="updates")
    rate: float = Field(gt=0, description="learning rate times lambda_1(0)")


class Spikes(Repetitions):
    widths: list[PositiveInt] = Field(min_length=2, description="hidden units")
    ratio: float = Field(gt=1, description="|p_1|^2 over |p_2|^2")


class Clusters(Repetitions):
    data: Literal["two clusters on a line"] = "two clusters on a line"
    n: Scale[int] = Field(gt=0, description="examples")
    m: Scale[int] = Field(gt=0, description="hidden units")
    steps: Scale[int] = Field(gt=0, description="updates")
    gap: list[PositiveFloat] = Field(min_length=2, description="least and largest ratio of both critical rates")
    far: float = Field(gt=1, description="rate above both, over the second critical rate")
    sets: int = Field(gt=0, description="data sets behind the printed rates' places")


# general quadratic models


class General(Repetitions):
    n: int = Field(gt=0, description="examples of the random model of eqs. (3.15), (3.16)")
    p: int = Field(gt=0, description="its weights")
    gamma: float = Field(gt=0, description="strength of the quadratic term where phi = 0")
    rates: list[PositiveFloat] = Field(min_length=1, description="learning rates times lambda(0)")


class Gammas(Repetitions):
    d: Scale[int] = Field(gt=0, description="weights")
    gammas: list[PositiveFloat] = Field(min_length=2, description="strengths of the quadratic term")
    lr: float = Field(gt=0, description="learning rate")
    steps: Scale[int] = Field(gt=0, description="updates")


class Rates(Repetitions):
    d: Scale[int] = Field(gt=0, description="weights")
    gamma: float = Field(gt=0, description="strength of the quadratic term")
    rates: list[PositiveFloat] = Field(min_length=2, description="learning rates")
    steps: Scale[int] = Field(gt=0, description="updates")


class ReleasedGeneral(Experiment):
    d: int = Field(gt=0, description="weights")
    n: int = Field(gt=0, description="examples")
    gamma: float = Field(gt=0, description="strength of the quadratic term")
    lr: float = Field(gt=0, description="learning rate for the mean square")
    steps: int = Field(gt=0, description="updates")


# images, sounds, texts


class Samples(Experiment):
    data: str = Field(min_length=1, description="data set")
    classes: list[NonNegativeInt] = Field(description="two: targets -1 and 1; none: all classes, one-hot")
    side: int = Field(ge=0, description="of images, mel bands, words; 0: as the set has it")
    n: Scale[int] = Field(gt=0, description="training samples")
    n_test: Scale[int] = Field(ge=0, description="test samples")
    activation: str = Field(min_length=1, description="relu, tanh or swish")


class Ladder(Samples, Repetitions):
    net: Literal["fc"] = "fc"
    width: Scale[int] = Field(gt=0, description="largest number of hidden units")
    widths: list[PositiveInt] = Field(min_length=2, description="hidden units")
    rates: list[PositiveFloat] = Field(min_length=1, description="learning rates times lambda_max(K(0))")
    steps: Scale[int] = Field(gt=0, description="updates")


class Largest(Samples, Repetitions):
    net: Literal["fc"] = "fc"
    width: Scale[int] = Field(gt=0, description="largest number of hidden units")
    widths: list[PositiveInt] = Field(min_length=1, description="hidden units")
    steps: Scale[int] = Field(gt=0, description="updates")
    rounds: int = Field(gt=0, description="halvings of the interval of rates")


class Shrinking(Samples, Repetitions):
    net: Literal["fc"] = "fc"
    width: Scale[int] = Field(gt=0, description="largest number of hidden units")
    widths: list[PositiveInt] = Field(min_length=2, description="hidden units")
    rate: float = Field(gt=0, lt=2, description="learning rate times lambda_max(K(0))")
    steps: Scale[int] = Field(gt=0, description="updates")


class Eigen(Samples, Repetitions):
    net: Literal["fc"] = "fc"
    width: Scale[int] = Field(gt=0, description="hidden units")
    rates: list[PositiveFloat] = Field(min_length=1, description="learning rates times lambda_max(K(0))")
    steps: Scale[int] = Field(gt=0, description="updates")


class EigenCnn(Samples, Repetitions):
    net: Literal["cnn"] = "cnn"
    width: Scale[int] = Field(gt=0, description="channels")
    rates: list[PositiveFloat] = Field(min_length=1, description="learning rates times lambda_max(K(0))")
    steps: Scale[int] = Field(gt=0, description="updates")


class Sweep(Samples):
    net: Literal["fc"] = "fc"
    width: Scale[int] = Field(gt=0, description="hidden units")
    rates: list[PositiveFloat] = Field(min_length=2, description="learning rates times lambda_max(K(0))")
    steps: Scale[int] = Field(gt=0, description="updates, the same at every rate")
    every: int = Field(gt=0, description="updates between looks at the test set")
    batch: int = Field(ge=0, description="samples of a batch; 0: all")
    longer: int = Field(ge=0, description="steps of one longer run below the critical rate, in budgets; 0: none")


class SweepCnn(Sweep):
    net: Literal["cnn"] = "cnn"
    width: Scale[int] = Field(gt=0, description="channels")


class SweepDeep(Sweep):
    net: Literal["deep"] = "deep"


class Released(Samples):
    net: Literal["fc"] = "fc"
    width: Scale[int] = Field(gt=0, description="hidden units")
    lr: float = Field(gt=0, description="learning rate for the mean square")
    steps: int = Field(gt=0, description="updates")


class Missed(Samples, Repetitions):
    net: Literal["fc"] = "fc"
    width: Scale[int] = Field(gt=0, description="hidden units")
    rates: list[PositiveFloat] = Field(min_length=1, description="learning rates times lambda_max(K(0))")
    steps: Scale[int] = Field(gt=0, description="updates")


class MissedDeep(Missed):
    net: Literal["deep"] = "deep"


class Panels(Experiment):
    """Which sweeps a preset runs; the others' rows are missing."""

    fc: list[str] = Field(min_length=1, description="data of Figure 3.4, fully connected")
    cnn: list[str] = Field(min_length=1, description="data of Figure 3.4, convolutional")
    deep: list[str] = Field(min_length=1, description="data of Figures B.8 and B.9")


SIZES = {
    "hand": ByHand,
    "exact": Exact,
    "window": Window,
    "regimes": Regimes,
    "dynamics": Dynamics,
    "formula": Formula,
    "linear": Linear,
    "critical": Critical,
    "ball": Ball,
    "draws": Draws,
    "triples": Triples,
    "line": Line,
    "spikes": Spikes,
    "fig33": Clusters,
    "figb1": Clusters,
    "general": General,
    "gammas": Gammas,
    "rates": Rates,
    "released-general": ReleasedGeneral,
    "ladder": Ladder,
    "largest": Largest,
    "shrinking": Shrinking,
    "eigen-cifar": Eigen,
    "eigen-svhn": Eigen,
    "eigen-cnn": EigenCnn,
    "panels": Panels,
    "cifar": Sweep,
    "svhn": Sweep,
    "mnist": Sweep,
    "fsdd": Sweep,
    "agnews": Sweep,
    "sgd": Sweep,
    "tanh": Sweep,
    "swish": Sweep,
    "cnn-cifar": SweepCnn,
    "cnn-svhn": SweepCnn,
    "deep-cifar": SweepDeep,
    "deep-svhn": SweepDeep,
    "deep-fsdd": SweepDeep,
    "deep-agnews": SweepDeep,
    "released": Released,
    "missed-two": Missed,
    "missed-three": MissedDeep,
    "missed-tanh": Missed,
}
