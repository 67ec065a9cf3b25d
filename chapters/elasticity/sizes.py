"""The sizes of the experiments of the chapter on local elasticity: types, units, ranges."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from traindyn.sizes import Definition, Experiment, Scale


class Repetitions(Experiment):
    seeds: int = Field(gt=0, description="independent repetitions")


# networks


class Definition1(Repetitions):
    net: Literal["fcn"] = "fcn"
    in_dim: Scale[int] = Field(gt=0, description="inputs")
    width: Scale[int] = Field(gt=0, description="hidden units")
    depth: int = Field(gt=1, description="layers")
    pairs: Scale[int] = Field(gt=0, description="pairs of points")
    times: list[NonNegativeInt] = Field(min_length=1, description="steps of training at which it is looked at")


class Residual(Experiment):
    """A residual network without normalisation on classes of an image set."""

    net: Literal["resnet"] = Field("resnet", description="residual network without normalisation")
    data: str = Field(description="set of images")
    classes: list[int | str] = Field(min_length=2, description="their names or numbers in the set")
    side: Scale[int] = Field(gt=0, description="pixels on a side")
    width: Scale[int] = Field(gt=0, description="channels of the first block")
    blocks: Scale[list[PositiveInt]] = Field(min_length=1, description="residual blocks of each group")
    stem: Literal["3x3", "7x7"] = Field(description="first layers: a 3x3 convolution, or 7x7 and a maximum")
    init: Literal["torch", "he_out"] = Field(description="initial law of the convolutions")
    k: Scale[int] = Field(gt=0, description="points of each class")
    lr: float = Field(gt=0, description="step size")


class Initial(Residual, Repetitions):
    """The same at its initial weights."""


class Triplet(Residual):
    optimizer: Literal["adam"] = "adam"
    weight_decay: float = Field(0.0, ge=0, description="penalty in the gradient of the training")
    per_class: Scale[int | None] = Field(None, gt=0, description="training images of each class; all if not given")
    n_test: int | None = Field(None, gt=0, description="test images; all if not given")
    batch: int = Field(gt=0, description="samples of a batch")
    steps: Scale[int] = Field(gt=0, description="updates")
    looks: int = Field(gt=0, description="intervals of the logarithmic grid of times")
    stride: int = Field(gt=0, description="looks from one at which all variants are taken to the next")
    sampled: int = Field(gt=0, description="points of each class that the variants step on")
    optional: bool = Field(False, description="go on without the set where it is not here")
    burn_in: Definition[float] = Field(ge=0, lt=1, description="share of the training before classes are compared")


class Onset(Triplet):
    ahead: Definition[float] = Field(gt=1, description="ratio of same to other classes from which on they differ")
    arrived: Definition[float] = Field(gt=0, le=1, description="share of its last value that counts as final accuracy")


class Setup(Experiment):
    """The network of the source's tables, built and pushed forward once."""

    net: Literal["resnet18"] = Field("resnet18", description="ResNet-18 without normalisation")
    side: int = Field(gt=0, description="pixels on a side")
    outputs: int = Field(gt=0, description="outputs")


class Regression(Repetitions):
    net: Literal["fcn"] = "fcn"
    optimizer: Literal["adam"] = "adam"
    in_dim: Scale[int] = Field(gt=0, description="inputs")
    width: Scale[int] = Field(gt=0, description="hidden units")
    depth: int = Field(gt=1, description="layers")
    n_train: Scale[int] = Field(gt=0, description="samples")
    n_test: Scale[int] = Field(gt=0, description="test samples")
    batch: int = Field(gt=0, description="samples of a batch")
    steps: Scale[int] = Field(gt=0, description="updates")
    every: int = Field(gt=0, description="steps between two looks")
    points: Scale[int] = Field(gt=1, description="points whose change is watched, half of them on a ray")
    cloud: Scale[int] = Field(gt=0, description="points of the scatter plots")
    times: Scale[list[NonNegativeInt]] = Field(min_length=1, description="steps at which the scatter plots are drawn")
    early: Definition[float] = Field(gt=0, lt=1, description="first share of the training, and its shortest window")
    late: Definition[float] = Field(gt=0, lt=1, description="share of the training after which it is late")
    dropped: Definition[float] = Field(
        gt=0, le=1, description="share of the drop of the risk after which it has fallen"
    )
    fall: Definition[float] = Field(gt=0, lt=1, description="relative fall of S that counts")


# closed forms: features and kernels


class Gradients(Experiment):
    classes: int = Field(gt=1, description="classes")
    per_class: Scale[int] = Field(gt=0, description="samples of each class")
    p: int = Field(gt=0, description="features")


class FeatureFlow(Experiment):
    p: int = Field(gt=0, description="features")
    steps: Scale[int] = Field(gt=0, description="steps of the integrator")


class Eq4(Experiment):
    draws: int = Field(gt=0, description="random instances")
    p: int = Field(gt=0, description="features")
    etas: list[float] = Field(min_length=2, description="sizes of the fictitious step")


class Movement(Experiment):
    p: Scale[list[PositiveInt]] = Field(min_length=1, description="features")
    dim: Scale[int] = Field(gt=0, description="inputs")
    per_class: Scale[int] = Field(gt=0, description="samples of each class")
    draws: Scale[int] = Field(gt=0, description="random starts")


class Curves(Repetitions):
    p: Scale[int] = Field(gt=0, description="features")
    dim: Scale[int] = Field(gt=0, description="inputs")
    per_class: Scale[int] = Field(gt=0, description="samples of each class")
    draws: Scale[int] = Field(gt=0, description="random starts")
    iterations: Scale[int] = Field(gt=0, description="steps")
    every: int = Field(gt=0, description="steps between two looks")
    settled: Definition[float] = Field(
        gt=0, lt=1, description="share of the drop of the loss after which it is settled"
    )


# closed forms: the gated model and its flow


class ModifiedSgd(Repetitions):
    n: int = Field(gt=1, description="inputs")
    steps: Scale[int] = Field(gt=0, description="updates")
    eta: float = Field(gt=0, description="step size")


class GateFlow(Experiment):
    n: int = Field(gt=1, description="units")
    points: int = Field(gt=0, description="points of the average")
    steps: int = Field(gt=0, description="steps of the integrator")


class Gate(Experiment):
    n: int = Field(gt=1, description="inputs")
    draws: Scale[int] = Field(gt=0, description="random instances")
    pairs: Scale[int] = Field(gt=0, description="pairs of points")


class Figure9(Repetitions):
    n: Literal[10] = Field(10, description="inputs")
    steps: Scale[int] = Field(gt=0, description="updates")
    batch: int = Field(gt=0, description="samples of a batch")
    eta: float = Field(gt=0, description="step size")


class Linearised(Experiment):
    width: Scale[int] = Field(gt=0, description="hidden units")
    widths: Scale[list[PositiveInt]] = Field(min_length=1, description="hidden units, for the trend")
    steps: Scale[int] = Field(gt=0, description="updates")


class Draws(Experiment):
    draws: int = Field(gt=0, description="random instances")


class Units(Experiment):
    n: int = Field(gt=1, description="units")


class Logistic(Units):
    steps: int = Field(gt=0, description="steps of the integrator")


class Samples(Experiment):
    samples: int = Field(gt=0, description="random points")


class Count(Experiment):
    count: int = Field(gt=0, description="rays, or pairs of points")


class Ray(Experiment):
    times: list[NonNegativeInt] = Field(min_length=1, description="times at which the ray is drawn")


class Panels(Experiment):
    until: Scale[int] = Field(gt=0, description="last time")
    t_star: Definition[int] = Field(gt=0, description="start of the late phase")
    late_from: Definition[int] = Field(gt=0, description="time from which on S should not decrease")


class Pairs(Experiment):
    pairs: int = Field(gt=0, description="pairs of points")


class Paths(Experiment):
    runs: Scale[int] = Field(gt=0, description="runs of SGD")
    steps: Scale[int] = Field(gt=0, description="updates")


SIZES = {
    "definition1": Definition1,
    "definition2": Initial,
    "setup": Setup,
    "fig1": Onset,
    "fig2": Triplet,
    "fig13": Triplet,
    "regression": Regression,
    "theory": Repetitions,
    "eq3": Gradients,
    "thm31": FeatureFlow,
    "eq4": Eq4,
    "movement": Movement,
    "fig6": Curves,
    "fig7": Curves,
    "fig8": Curves,
    "alg1": ModifiedSgd,
    "thm41": GateFlow,
    "gate": Gate,
    "fig9": Figure9,
    "linearised": Linearised,
    "thm51": Draws,
    "def7": Units,
    "thm52": Logistic,
    "moments": Samples,
    "rays": Count,
    "pairs": Count,
    "proximity": Pairs,
    "fig10": Ray,
    "fig11": Panels,
    "fig12": Paths,
    "converge": Paths,
    "symmetric": Draws,
    "lemma": Draws,
}
