"""The sizes of the experiments of the chapter on the tangent kernel: types, units, ranges."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from traindyn.sizes import Definition, Experiment, Scale

Widths = list[PositiveInt]


class Hand(Experiment):
    n: int = Field(gt=2, description="samples")
    m: int = Field(gt=0, description="hidden units of the network by hand")
    widths: Widths = Field(min_length=2, description="hidden units of the networks that are trained")
    steps: int = Field(gt=0, description="gradient steps")
    grid: int = Field(gt=0, description="points that are drawn")


class Shape(Experiment):
    widths: Widths = Field(min_length=1, description="hidden units")
    angles: int = Field(gt=1, description="points that are drawn")


class Errors(Experiment):
    m: int = Field(gt=0, description="random features")
    n: int = Field(gt=0, description="samples")
    noise: float = Field(ge=0, description="standard deviation of the targets' noise")
    steps: int = Field(gt=0, description="gradient steps")
    grid: int = Field(gt=0, description="points of the population")


class Descent(Experiment):
    rate: float = Field(gt=2, description="learning rate times curvature")
    steps: int = Field(gt=0, description="gradient steps")


class Bend(Experiment):
    m: int = Field(gt=0, description="hidden units")
    d: int = Field(gt=0, description="inputs")
    points: int = Field(gt=0, description="inputs drawn")


class Features(Experiment):
    widths: Widths = Field(min_length=1, description="hidden units")
    d: int = Field(gt=0, description="inputs")


class Smooth(Features):
    radii: list[PositiveFloat] = Field(min_length=1, description="lengths of the move")
    draws: int = Field(gt=0, description="moves per width")
    small: float = Field(gt=0, description="shift of the extremal pre-activations")


class Supremum(Experiment):
    widths: Widths = Field(min_length=2, description="hidden units")
    radii: list[PositiveFloat] = Field(min_length=1, description="radii B of the ball")
    draws: int = Field(gt=0, description="networks per seed")


class Moves(Experiment):
    widths: Widths = Field(min_length=2, description="hidden units")
    d: int = Field(gt=0, description="inputs")


class Limit(Experiment):
    widths: Widths = Field(min_length=2, description="hidden units")
    angles: list[PositiveFloat] = Field(min_length=1, description="angles between the inputs, radians")
    draws: int = Field(gt=1, description="networks per seed, width and angle")


class ClosedForm(Experiment):
    m: int = Field(gt=0, description="hidden units")
    angles: int = Field(gt=1, description="number of angles")
    points: int = Field(gt=0, description="points of the Gram matrix")
    d: int = Field(gt=1, description="inputs of the Gram matrix")


class LeastNorm(Experiment):
    n: int = Field(gt=0, description="samples")
    d: int = Field(gt=0, description="inputs")
    widths: Widths = Field(min_length=2, description="hidden units")
    draws: int = Field(gt=0, description="networks per seed and width")


class Universal(Experiment):
    grid: int = Field(gt=0, description="points of the discrete Fourier transform")
    highest: int = Field(gt=100, description="highest frequency")
    shown: int = Field(gt=0, description="centres of the fits that are drawn")


class Interpolation(Experiment):
    grid: int = Field(gt=0, description="points on which errors are measured")
    centres: list[PositiveInt] = Field(min_length=3, description="numbers of centres")
    free: int = Field(gt=0, description="random centres")


class Dimensions(Experiment):
    d: int = Field(gt=3, description="inputs")
    points: list[PositiveInt] = Field(min_length=2, description="numbers of samples")
    test: int = Field(gt=0, description="fresh points")


class Regimes(Experiment):
    seeds: int = Field(gt=0, description="independent repetitions")
    n: int = Field(gt=0, description="samples")
    d: int = Field(gt=2, description="inputs")
    stop: float = Field(gt=0, lt=1, description="loss at which training stops, in units of mean(y^2)")
    steps: int = Field(gt=0, description="most gradient steps")
    short: int = Field(gt=0, description="gradient steps with a step that does not grow")
    widths: Scale[Widths] = Field(min_length=2, description="hidden units")


class Narrow(Experiment):
    n: int = Field(gt=0, description="samples")
    d: int = Field(gt=2, description="inputs")
    steps: int = Field(gt=0, description="gradient steps")
    widths: list[Literal[1, 2, 4, 16, 256]] = Field(min_length=3, description="hidden units")
    small: Definition[int] = Field(gt=1, description="largest width that counts as small")


class Plane(Experiment):
    n: int = Field(gt=0, description="samples on the circle")
    m: int = Field(gt=0, description="hidden units")
    steps: int = Field(gt=0, description="most gradient steps")
    stop: float = Field(gt=0, lt=1, description="loss at which training stops, in units of mean(y^2)")


class NearStart(Experiment):
    n: int = Field(gt=0, description="samples")
    d: int = Field(gt=2, description="inputs")
    widths: Scale[Widths] = Field(min_length=2, description="hidden units")
    looks: list[PositiveInt] = Field(min_length=1, description="gradient steps after which to look")


class Images(Experiment):
    seeds: int = Field(gt=0, description="independent repetitions")
    data: str = Field(description="set of images")
    n: Scale[int] = Field(gt=0, description="samples")
    lr: float = Field(gt=0, description="learning rate")
    widths: Scale[Widths] = Field(min_length=2, description="hidden units")
    looks: list[PositiveInt] = Field(min_length=1, description="gradient steps after which to look")


class Flows(Experiment):
    m: int = Field(gt=0, description="hidden units, even")
    n: int = Field(gt=0, description="samples")
    d: int = Field(gt=0, description="inputs")


class Setup(Flows):
    alpha: float = Field(gt=0, description="scale of the output")
    steps: int = Field(gt=0, description="Runge-Kutta steps per unit of time")


class Rank(Flows):
    alpha: float = Field(gt=0, description="scale of the output")


class Theorem(Flows):
    alphas: list[PositiveFloat] = Field(min_length=2, description="scales of the output besides the threshold")
    time: float = Field(gt=0, description="length of the flow, in units of its guaranteed decay")
    steps: int = Field(gt=0, description="Runge-Kutta steps")
    parts: int = Field(gt=0, description="recorded times")
    shown: float = Field(gt=0, description="length of the flow that is drawn")


class Scalar(Experiment):
    c: float = Field(gt=0, description="inner scale of the saturating model")
    time: float = Field(gt=0, description="length of the flow, in units of its guaranteed decay")
    steps: int = Field(gt=0, description="Runge-Kutta steps")


class Units(Flows):
    unit: float = Field(gt=0, description="factor of the other unit")
    widths: Widths = Field(min_length=2, description="hidden units")


SIZES = {
    "hand": Hand,
    "shape": Shape,
    "errors": Errors,
    "descent": Descent,
    "collapse": Bend,
    "features": Features,
    "expansions": Bend,
    "smooth": Smooth,
    "supremum": Supremum,
    "moves": Moves,
    "two-points": Moves,
    "limit": Limit,
    "closed": ClosedForm,
    "norm": LeastNorm,
    "fourier": Universal,
    "interpolation": Interpolation,
    "dimensions": Dimensions,
    "regimes": Regimes,
    "narrow": Narrow,
    "plane": Plane,
    "near": NearStart,
    "images": Images,
    "setup": Setup,
    "rank": Rank,
    "theorem": Theorem,
    "scalar": Scalar,
    "units": Units,
}
