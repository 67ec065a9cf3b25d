"""The sizes of the experiments of the chapter on the hardness of learning: types, units, ranges."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from traindyn.sizes import Definition, Experiment, Scale


class Repetitions(Experiment):
    seeds: int = Field(gt=0, description="independent repetitions")


class Hand(Experiment):
    d: int = Field(gt=0, le=20, description="bits")
    ones: int = Field(gt=0, description="bits of the parity")


# rates


class Nonconvex(Experiment):
    n: int = Field(gt=0, description="samples")
    d: int = Field(gt=0, description="inputs")
    m: int = Field(gt=0, description="hidden units")
    step: float = Field(gt=0, description="step of the integrator")
    time: float = Field(gt=0, description="length of the flow")


class Convex(Experiment):
    n: int = Field(gt=0, description="samples")
    d: int = Field(gt=0, description="inputs")
    ridge: float = Field(gt=0, description="strength of the ridge")
    step: float = Field(gt=0, description="step of the integrator")
    time: float = Field(gt=0, description="length of the flow")


class Squares(Experiment):
    rows: int = Field(gt=0, description="equations")
    columns: int = Field(gt=0, description="unknowns, more than equations")
    step: float = Field(gt=0, description="step of the integrator")
    time: float = Field(gt=0, description="length of the flow")


# functions on the cube


class Halfspaces(Experiment):
    d: int = Field(gt=0, le=12, description="inputs")
    draws: int = Field(gt=0, description="random intersections")
    least: int = Field(gt=1, description="fewest halfspaces")
    most: int = Field(gt=1, description="most halfspaces")
    largest: int = Field(gt=0, description="largest weight")


class Parities(Experiment):
    gram: list[PositiveInt] = Field(min_length=1, description="dimensions of the Gram matrix")
    networks: list[PositiveInt] = Field(min_length=1, description="dimensions in which every parity is compared")
    norms: list[PositiveInt] = Field(min_length=1, description="dimensions of the path norms")


class Cosines(Experiment):
    counts: list[PositiveInt] = Field(min_length=2, description="dimensions of the count")
    gram: int = Field(gt=0, le=3, description="dimension of the Gram matrix")
    norms: list[PositiveInt] = Field(min_length=2, description="dimensions of the path norms")


class Shamir(Experiment):
    dims: list[PositiveInt] = Field(min_length=2, description="inputs")
    rate: float = Field(gt=0, description="bits of the number of neurons, per dimension")
    samples: int = Field(gt=1, description="inputs of the Monte Carlo mean")


# gradients


class Gradients(Experiment):
    m: int = Field(gt=1, description="hidden units")
    dims: list[PositiveInt] = Field(min_length=2, description="bits")
    shown: list[PositiveInt] = Field(min_length=1, description="bits of the drawn gradients")


class Hinge(Experiment):
    m: int = Field(gt=0, description="hidden units")
    dims: list[PositiveInt] = Field(min_length=1, description="bits")


class Stays(Experiment):
    dims: list[PositiveInt] = Field(min_length=4, description="bits, closed form")
    constants: list[PositiveFloat] = Field(min_length=1, description="values of both constants of the claimed bound")
    cut_dims: list[PositiveInt] = Field(min_length=1, description="bits of the checked premises")
    pairs: int = Field(gt=0, description="random pairs of parameters")


class Ordinary(Experiment):
    dims: list[PositiveInt] = Field(min_length=2, description="bits")
    m: int = Field(gt=0, description="hidden units")
    lr: float = Field(gt=0, description="learning rate")
    time: float = Field(gt=0, description="learning rate times updates")
    gone: Definition[float] = Field(gt=0, description="median displacement from which the start is left")


class Online(Repetitions):
    net: Literal["two_layer"] = "two_layer"
    loss: Literal["hinge"] = "hinge"
    d: Scale[int] = Field(gt=0, le=60, description="largest number of inputs")
    dims: list[PositiveInt] = Field(min_length=2, description="numbers of inputs")
    width: Scale[int] = Field(gt=0, description="hidden units")
    batch: Scale[int] = Field(gt=0, description="samples of a batch, drawn anew")
    steps: int = Field(gt=0, description="largest number of updates")
    every: int = Field(gt=0, description="updates that one recorded loss averages")
    learned: Definition[float] = Field(gt=0, lt=1, description="loss below which a parity is learned")


class Landscape(Experiment):
    L: list[PositiveFloat] = Field(min_length=2, description="frequencies")
    n: int = Field(gt=0, description="samples of the empirical risk")
    points: int = Field(gt=2, description="grid points per axis")
    side: float = Field(gt=0, description="half the side of the square")
    target: list[float] = Field(min_length=2, max_length=2, description="the neuron that is learned")
    away: Definition[float] = Field(gt=0, description="distance from 0 and the wells that counts as away")
    near: Definition[float] = Field(gt=0, description="distance to the target that counts as success")
    draws: int = Field(gt=0, description="inputs of the Monte Carlo mean")
    starts: int = Field(gt=0, description="starts of gradient descent")
    steps: int = Field(gt=0, description="its updates")
    lr: float = Field(gt=0, description="its learning rate times the square of the frequency")
    shown: float = Field(gt=0, description="frequency of the drawn surfaces")
    drawn: int = Field(gt=2, description="their grid points per axis")


# the kernel regime


class Flow(Experiment):
    n: int = Field(gt=1, description="samples")
    d: int = Field(gt=1, description="inputs")
    m: int = Field(gt=0, description="hidden units")


class Gram(Experiment):
    n: int = Field(gt=1, description="samples")
    d: int = Field(gt=1, description="inputs")
    widths: list[PositiveInt] = Field(min_length=2, description="hidden units")


class Positivity(Experiment):
    deltas: list[PositiveFloat] = Field(min_length=1, description="probabilities of failure")
    points: list[PositiveInt] = Field(min_length=1, description="numbers of orthonormal samples")
    draws: int = Field(gt=0, description="random starts per seed")


class Spectrum(Repetitions):
    dims: list[PositiveInt] = Field(min_length=1, description="inputs, random points")
    points: list[PositiveInt] = Field(min_length=2, description="numbers of samples")
    exact: list[PositiveInt] = Field(min_length=1, description="inputs, closed form")
    cube_dims: list[PositiveInt] = Field(min_length=1, description="bits")


class Aligned(Experiment):
    dims: list[PositiveInt] = Field(min_length=1, description="inputs")
    angles: list[PositiveFloat] = Field(min_length=2, description="angles of two samples, radians")


class Regime(Experiment):
    n: int = Field(gt=1, description="samples")
    d: int = Field(gt=1, description="inputs")
    widths: list[PositiveInt] = Field(min_length=2, description="hidden units")
    unseen: int = Field(gt=0, description="points of the sphere at which functions are compared")
    horizon: float = Field(gt=0, description="length of the flow, in units of 1/(m lambda_n)")
    records: int = Field(gt=5, description="recorded times")
    steps: int = Field(gt=0, description="steps of the integrator between two of them")


class Premises(Experiment):
    starts: int = Field(gt=0, description="random starts per seed")
    unseen: int = Field(gt=0, description="points of the circle at which functions are compared")
    horizon: float = Field(gt=0, description="length of the flow, in units of 1/(m lambda_n)")
    records: int = Field(gt=0, description="recorded times")
    steps: int = Field(gt=0, description="steps of the integrator between two of them")


class Representer(Experiment):
    n: int = Field(gt=1, description="samples")
    d: int = Field(gt=1, description="inputs")
    m: int = Field(gt=0, description="random features")
    unseen: int = Field(gt=0, description="points of the sphere at which functions are compared")
    steps: int = Field(gt=0, description="updates")


class Neuron(Experiment):
    net: Literal["two_layer"] = "two_layer"
    target: Literal["relu"] = "relu"
    seeds: int = Field(gt=0, description="independent repetitions")
    d: Scale[int] = Field(gt=1, description="inputs")
    n: Scale[int] = Field(gt=1, description="samples")
    unseen: int = Field(gt=0, description="test samples")
    widths: Scale[list[PositiveInt]] = Field(min_length=1, description="hidden units")
    steps: Scale[int] = Field(gt=0, description="updates")
    records: int = Field(gt=1, description="looks")


class Penalised(Neuron):
    penalised: Scale[list[PositiveInt]] = Field(min_length=1, description="hidden units with the penalty")
    strengths: list[PositiveFloat] = Field(min_length=1, description="strengths of the penalty, lambda")
    adam_steps: int = Field(gt=0, description="updates of Adam")
    adam_lr: float = Field(gt=0, description="its first learning rate")


class Deep(Experiment):
    n: int = Field(gt=1, description="samples")
    d: int = Field(gt=1, description="inputs")
    widths: list[PositiveInt] = Field(min_length=2, description="hidden units of both layers")
    rate: float = Field(gt=0, lt=2, description="learning rate times the kernel's top eigenvalue")
    steps: int = Field(gt=0, description="updates")


SIZES = {
    "hand": Hand,
    "nonconvex": Nonconvex,
    "convex": Convex,
    "squares": Squares,
    "halfspaces": Halfspaces,
    "parities": Parities,
    "cosines": Cosines,
    "shamir": Shamir,
    "gradients": Gradients,
    "hinge": Hinge,
    "stays": Stays,
    "ordinary": Ordinary,
    "fig1": Online,
    "fig1_full": Online,
    "fig1_bits": Online,
    "landscape": Landscape,
    "flow": Flow,
    "gram": Gram,
    "positivity": Positivity,
    "spectrum": Spectrum,
    "aligned": Aligned,
    "regime": Regime,
    "premises": Premises,
    "representer": Representer,
    "neuron": Penalised,
    "deep": Deep,
}
