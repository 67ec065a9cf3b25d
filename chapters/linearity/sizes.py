"""The sizes of the experiments of the chapter on the transition to linearity: types, units, ranges."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from traindyn.sizes import Definition, Experiment, Scale


class Repetitions(Experiment):
    seeds: int = Field(gt=0, description="independent repetitions")


# graphs


class Graphs(Repetitions):
    graphs: int = Field(gt=0, description="random graphs per seed")
    vertices: int = Field(gt=3, description="vertices of a graph")
    degree: float = Field(gt=0, description="edges per vertex, on average")


class Widths(Repetitions):
    inputs: int = Field(gt=0, description="inputs")
    widths: list[PositiveInt] = Field(min_length=1, description="hidden units per layer")


class Moments(Widths):
    outputs: int = Field(gt=0, description="outputs over which a network's moment is averaged")


class Definitions(Repetitions):
    inputs: int = Field(gt=0, description="inputs")
    width: int = Field(gt=0, description="hidden units per layer")


class Dropped(Definitions):
    drop: float = Field(gt=0, lt=1, description="probability with which an edge is dropped")


class Notions(Repetitions):
    inputs: int = Field(gt=0, description="inputs")
    graphs: int = Field(gt=0, description="random graphs per seed")
    draws: int = Field(gt=0, description="draws of the weights per graph")
    hidden: list[PositiveInt] = Field(min_length=2, max_length=2, description="least and largest layer")


# curvature over widths


class Ladder(Experiment):
    inputs: int = Field(gt=0, description="inputs")
    widths: Scale[list[PositiveInt]] = Field(min_length=2, description="hidden units per layer")


class RepeatedLadder(Ladder, Repetitions):
    pass


class Radii(Ladder):
    radii: list[NonNegativeFloat] = Field(min_length=1, description="distances from the start")


class Hessians(Radii):
    points: int = Field(gt=0, description="inputs of which the largest norm counts, with a tanh on the output")


class Remainder(Radii):
    nodes: int = Field(gt=1, description="nodes of the quadrature")


class Neurons(Ladder):
    neurons: int = Field(gt=0, description="neurons looked at in a layer")


class Points(Ladder):
    points: int = Field(gt=0, description="inputs of which the largest norm counts")


class Spread(Ladder):
    seeds: int = Field(gt=0, description="independent repetitions")


class Waist(Spread):
    waist: int = Field(gt=0, description="neurons of the narrow layer")


class Skips(Ladder):
    depth: int = Field(gt=2, description="weight layers")


class Conv(Experiment):
    widths: Scale[list[PositiveInt]] = Field(min_length=2, description="channels")
    positions: int = Field(gt=2, description="positions where they are fixed")
    share: int = Field(gt=0, description="channels per position where positions grow")


class Outputs(Ladder):
    outputs: int = Field(gt=1, description="outputs")
    rounds: int = Field(gt=0, description="rounds of alternating maximisation from each start")


class Ball(Ladder):
    radius: float = Field(gt=0, description="radius of the ball")


class NeuronSize(Ball):
    layers: int = Field(gt=0, description="layers")
    activation: str = Field(description="activation")


# statements


class Grid(Experiment):
    reach: float = Field(gt=0, description="half of the grid's range")
    points: int = Field(gt=10, description="points of the grid")


class Blocks(Repetitions):
    matrices: int = Field(gt=0, description="random matrices per seed")
    sides: list[PositiveInt] = Field(min_length=2, description="sides of the blocks")


class Forms(Repetitions):
    dim: int = Field(gt=0, description="dimension")
    draws: int = Field(gt=0, description="draws")
    radius: float = Field(gt=0, description="length of the shift")
    thresholds: list[PositiveFloat] = Field(min_length=1, description="t, in units of the norm")


class GaussianBlocks(Experiment):
    t: float = Field(gt=0.84, description="t of the bound, which holds with probability 1 - 2 exp(-t^2)")
    sides: list[PositiveInt] = Field(min_length=5, description="n, m and N")
    draws: int = Field(gt=1, description="draws")


class Series(Repetitions):
    draws: int = Field(gt=0, description="draws of the scalar")
    b: float = Field(gt=0, description="the scalar's coefficient")
    radius: float = Field(gt=0, description="length of the shift")
    t: float = Field(gt=0, description="t of the scalar case")
    terms: int = Field(gt=0, description="matrices in the series")
    shape: list[PositiveInt] = Field(min_length=2, max_length=2, description="their shape")
    matrices: int = Field(gt=0, description="draws of the matrix series")
    thresholds: list[PositiveFloat] = Field(min_length=1, description="t, in units of the root of the variance")


class Gradient(Repetitions):
    widths: list[PositiveInt] = Field(min_length=1, description="inputs and hidden units per layer")
    depths: list[PositiveInt] = Field(min_length=1, description="weight layers")
    narrow: int = Field(gt=1, description="networks per seed of a narrow kind")
    many: int = Field(gt=1, description="networks per seed of a wide kind")
    wide: int = Field(gt=1, description="width from which a network is wide")


# training


class Images(Experiment):
    data: str = Field(description="set of images")
    classes: list[int] = Field(min_length=2, max_length=2, description="two classes")
    side: Scale[int] = Field(gt=0, description="side of the images in pixels")
    n: int = Field(gt=1, description="training points")


class Descent(Images):
    seeds: int = Field(gt=0, description="independent repetitions")
    net: Literal["densenet"] = "densenet"
    depth: Literal[3] = Field(3, description="weight layers")
    widths: Scale[list[PositiveInt]] = Field(min_length=1, description="hidden units per layer")
    steps: int = Field(gt=0, description="updates at most")
    stop: Definition[float] = Field(gt=0, lt=1, description="loss over its start at which training has converged")
    every: int = Field(gt=0, description="updates between two looks at the kernel")
    start: Definition[int] = Field(gt=1, description="width from which slopes are fitted")


class Scan(Descent):
    rates: list[PositiveFloat] = Field(min_length=1, description="rates, in units of 1 / lambda_max of the kernel")


class Variants(Experiment):
    widths: Scale[list[PositiveInt]] = Field(min_length=2, description="hidden units per layer")
    rates: list[PositiveFloat] = Field(min_length=1, description="further rates")


class Worst(Experiment):
    widths: Scale[list[PositiveInt]] = Field(min_length=2, description="hidden units per layer")
    rounds: int = Field(gt=0, description="directions that are tried, each against the change of the one before")


class Bent(Images):
    seeds: int = Field(gt=0, description="independent repetitions")
    widths: Scale[list[PositiveInt]] = Field(min_length=1, description="hidden units per layer")
    steps: int = Field(gt=0, description="updates at most")
    stop: Definition[float] = Field(gt=0, lt=1, description="loss over its start at which training has converged")
    every: int = Field(gt=0, description="updates between two looks at the kernel")
    rate: float = Field(gt=0, description="rate, in units of 1 / lambda_max of the kernel")
    label: float = Field(gt=0, lt=1, description="size of the labels, inside the range of tanh")


class Pl(Images):
    seeds: int = Field(gt=0, description="independent repetitions")
    width: int = Field(gt=0, description="hidden units per layer")
    points: int = Field(gt=0, description="random weights")


class Least(Images):
    widths: Scale[list[PositiveInt]] = Field(min_length=2, description="hidden units per layer")
    radius: float = Field(gt=0, description="radius of the ball")
    draws: int = Field(gt=0, description="random points of its sphere")


SIZES = {
    "layers": Graphs,
    "widths": Widths,
    "definitions": Definitions,
    "moments": Moments,
    "dropped": Dropped,
    "dependence": Graphs,
    "growth": Widths,
    "notions": Notions,
    "grid": Grid,
    "relu": Ball,
    "hessian": Hessians,
    "spread": Spread,
    "remainder": Remainder,
    "preactivations": Neurons,
    "bottlenecks": Ladder,
    "narrow": Waist,
    "bent": Points,
    "multi": Outputs,
    "skips": Skips,
    "conv": Conv,
    "recursion": Definitions,
    "blocks": Blocks,
    "first": Ladder,
    "second": RepeatedLadder,
    "neurons": NeuronSize,
    "forms": Forms,
    "gaussian": GaussianBlocks,
    "series": Series,
    "gradient": Gradient,
    "gd": Descent,
    "scan": Scan,
    "variants": Variants,
    "worst": Worst,
    "bent-gd": Bent,
    "pl": Pl,
    "least": Least,
}
