"""The sizes of the experiments of the chapter on catapults: types, units, ranges."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from traindyn.sizes import Definition, Experiment, Scale


class Repetitions(Experiment):
    seeds: int = Field(gt=0, description="independent repetitions")


class Further(Experiment):
    seeds: int = Field(ge=0, description="repetitions of the runs on further networks and data; 0: these are left out")


class Match(Experiment):
    below: PositiveFloat = Field(description="a rate below the critical one, in units of n / ||K(0)||")


class Readings(Experiment):
    """What the chapter calls a spike, an excursion, trained: definitions that its readings of runs share."""

    spike: Definition[float] = Field(gt=0, description="a step that raises the loss by more than this share of it")
    excursion: Definition[float] = Field(gt=1, description="its peak is more than this multiple of the loss before it")
    window: Definition[int] = Field(gt=0, description="steps from a spike over which the kernel's change is taken")
    trained: Definition[float] = Field(gt=0, description="a final loss below this share of the initial one")
    fallen: Definition[float] = Field(gt=0, description="a climb from below this share of the initial loss is none")
    near: Definition[float] = Field(gt=0, description="a rate this close to a threshold, relative to it, is not judged")
    rises: Definition[list[PositiveFloat]] = Field(min_length=1, description="planted sample: rises called a spike")
    floor: Definition[float] = Field(gt=0, description="planted sample: and that much of the initial loss at least")
    shift: Definition[float] = Field(gt=0, description="planted sample: a step that raises the loss by less is silent")
    residual: Definition[float] = Field(gt=0, description="planted sample: smaller residuals are not asked")
    visits: Definition[int] = Field(ge=0, description="planted sample: its first visits are not asked")


# what is learned


class Images(Experiment):
    data: str = Field(description="set of images")
    classes: list[int | str] = Field(
        min_length=2, description="two are told apart by -1 and 1, more by one-hot vectors"
    )
    side: Scale[int] = Field(gt=0, description="pixels on a side")
    n: Scale[int] = Field(gt=0, description="samples")


class Rank2(Experiment):
    data: Literal["rank2"] = Field("rank2", description="normal inputs x, target x_1 x_2 with noise")
    dim: Scale[int] = Field(gt=1, description="inputs")
    n: Scale[int] = Field(gt=0, description="samples")


# with which network


class Fcn(Experiment):
    net: Literal["fcn"] = Field("fcn", description="fully connected, NTK parameterisation")
    depth: int = Field(gt=1, description="layers")
    width: Scale[int] = Field(gt=0, description="hidden units of a layer")


class Torch(Fcn):
    net: Literal["torch"] = Field("torch", description="fully connected, PyTorch's parameterisation and initial law")


class Cnn(Experiment):
    net: Literal["cnn"] = "cnn"
    depth: int = Field(gt=1, description="layers")
    width: Scale[int] = Field(gt=0, description="channels of a layer")


class Wrn(Experiment):
    net: Literal["wrn"] = Field("wrn", description="residual network of depth 10 without normalisation")
    width: Scale[int] = Field(gt=0, description="factor that widens the base")
    base: Scale[int] = Field(gt=0, description="channels before widening")


class Vit(Experiment):
    net: Literal["vit"] = Field("vit", description="vision transformer with four heads")
    depth: int = Field(gt=0, description="blocks")
    width: Scale[int] = Field(gt=3, multiple_of=4, description="features")


class Myrtle(Experiment):
    net: Literal["myrtle"] = Field("myrtle", description="Myrtle network of depth 5")
    width: Scale[int] = Field(gt=0, description="channels")


# and how


class Rated(Experiment):
    ratio: PositiveFloat = Field(description="learning rate in units of n / ||K(0)||")


class Descent(Experiment):
    batch: Literal[0] = Field(0, description="full batch")
    steps: Scale[int] = Field(gt=0, description="updates")


class Stochastic(Experiment):
    batch: int = Field(gt=0, description="samples of a batch")
    steps: Scale[int] = Field(gt=0, description="updates")


class FcnImages(Descent, Fcn, Images):
    pass


class RatedFcn(Rated, FcnImages):
    pass


class CnnImages(Rated, Descent, Cnn, Images):
    pass


class WrnImages(Rated, Descent, Wrn, Images):
    pass


class ByHand(Descent, Fcn, Rank2):
    pass


class FcnRank2(Rated, ByHand):
    bias: Literal["none", "zero", "normal"] = Field(description="hidden biases, how they start")


class FcnStart(Fcn, Images):
    """Nothing is trained: the kernel at the initial weights."""


class Phases(Experiment):
    times: list[NonNegativeInt] = Field(min_length=3, description="steps at which the rate rises, the first is 0")
    ratios: list[PositiveFloat] = Field(min_length=3, description="rates from these steps on, in units of n / ||K(0)||")


class MultiFcn(Phases, FcnImages):
    pass


class MultiRank2(Phases, ByHand):
    pass


class MultiCnn(Phases, Descent, Cnn, Images):
    pass


class Survival(FcnImages):
    ratios: list[PositiveFloat] = Field(min_length=1, description="rates in units of n / ||K(0)||")


class SgdFcn(Stochastic, Fcn, Images):
    pass


class Shallow(SgdFcn):
    low: PositiveFloat = Field(description="the low rate in units of n / ||K(0)||")


class SgdRank2(Stochastic, Fcn, Rank2):
    pass


class SgdTorch(Stochastic, Torch, Images):
    fast: PositiveFloat = Field(description="a second rate, in units of n / ||K(0)||")


class SgdMyrtle(Stochastic, Myrtle, Images):
    pass


class SgdCnn(Rated, Stochastic, Cnn, Images):
    pass


class SgdWrn(Rated, Stochastic, Wrn, Images):
    pass


class SgdVit(Rated, Stochastic, Vit, Images):
    pass


class Hessian(Experiment):
    every: int = Field(gt=0, description="steps between two looks at the Hessian")


class HessianFcn(Hessian, SgdFcn):
    pass


class HessianCnn(Hessian, SgdCnn):
    pass


# experiments of one kind


class Exact(Experiment):
    n: int = Field(gt=4, description="samples")
    dim: int = Field(gt=0, description="inputs")
    width: int = Field(gt=0, description="hidden units")
    depth: int = Field(gt=1, description="layers")
    draws: int = Field(gt=0, description="random points")
    flow_width: int = Field(gt=0, description="hidden units where steps are compared with the flow")
    flow_n: int = Field(gt=0, description="samples there")


class Critical(Experiment):
    n: Scale[int] = Field(gt=0, description="samples")
    dim: int = Field(gt=0, description="inputs")
    nets: Scale[list[list[int | list[int]]]] = Field(min_length=1, description="pairs of a depth and its widths")


class Remainder(Experiment):
    n: Scale[int] = Field(gt=0, description="samples")
    dim: int = Field(gt=0, description="inputs")
    depth: int = Field(gt=1, description="layers")
    widths: Scale[list[PositiveInt]] = Field(min_length=2, description="hidden units")


class BatchSteps(Experiment):
    n: Scale[int] = Field(gt=0, description="samples")
    dim: int = Field(gt=0, description="inputs")
    width: Scale[int] = Field(gt=0, description="hidden units")
    batches: Scale[int] = Field(gt=0, description="random batches")
    sizes: list[PositiveInt] = Field(min_length=1, description="samples of a batch")


class Subcritical(Descent, Images):
    net: Literal["fcn"] = "fcn"
    seeds: int = Field(gt=0, description="independent repetitions")
    nets: Scale[list[list[int | list[int]]]] = Field(min_length=1, description="pairs of a depth and its widths")


class Scan(Experiment):
    data: Literal["rank2"] = "rank2"
    net: Literal["fcn"] = "fcn"
    n: Scale[int] = Field(gt=0, description="samples")
    dim: Scale[int] = Field(gt=1, description="inputs")
    width: Scale[int] = Field(gt=0, description="hidden units")
    depths: list[PositiveInt] = Field(min_length=1, description="layers")


class Planted(Experiment):
    n: Scale[int] = Field(gt=1, description="samples, and inputs")
    width: Scale[int] = Field(gt=0, description="hidden units")
    places: list[float] = Field(min_length=1, description="of the rate between two critical ones, 0 to 1, logarithmic")
    batch: Literal[1] = 1
    steps: Scale[int] = Field(gt=0, description="updates")


class BatchNorms(Fcn, Rank2):
    steps: Scale[int] = Field(gt=0, description="updates")
    sizes: list[PositiveInt] = Field(min_length=1, description="samples of a batch")
    batches: Scale[int] = Field(gt=0, description="random batches of each size")


class Watch(Experiment):
    seeds: int = Field(gt=0, description="independent repetitions")
    n: int = Field(gt=0, description="samples")
    n_test: int = Field(gt=0, description="test samples")
    width: int = Field(gt=0, description="hidden units")
    depth: int = Field(gt=1, description="layers")
    batch: int = Field(gt=0, description="samples of a batch")
    steps: int = Field(gt=0, description="updates")
    ratios: list[PositiveFloat] = Field(min_length=1, description="constant rates in units of n / ||K(0)||")
    subset: int = Field(gt=0, description="samples that the watcher looks at")
    every: int = Field(gt=0, description="steps between two looks")
    above: Definition[float] = Field(gt=0, description="rate in units of the critical one, first half of a period")
    below: Definition[float] = Field(gt=0, description="rate in units of the critical one, second half of a period")
    period: int = Field(gt=1, description="steps")


class WatchRank2(Watch):
    data: Literal["rank2"] = "rank2"
    dim: int = Field(gt=1, description="inputs")


class WatchImages(Watch):
    data: str = Field(description="set of images")
    classes: list[int | str] = Field(min_length=2)
    side: int = Field(gt=0, description="pixels on a side")


SIZES = {
    "runs": Repetitions,
    "further": Further,
    "match": Match,
    "readings": Readings,
    "by-hand": ByHand,
    "exact": Exact,
    "critical": Critical,
    "remainder": Remainder,
    "batch-steps": BatchSteps,
    "subcritical": Subcritical,
    "fcn": FcnImages,
    "cnn": CnnImages,
    "rank2": FcnRank2,
    "scan": Scan,
    "digits-fcn": RatedFcn,
    "digits-cnn": CnnImages,
    "wrn": WrnImages,
    "multiclass": RatedFcn,
    "multiclass-start": FcnStart,
    "multiclass-cnn": CnnImages,
    "multi": MultiFcn,
    "multi-rank2": MultiRank2,
    "multi-cnn": MultiCnn,
    "from-start-cnn": CnnImages,
    "extended": MultiFcn,
    "from-start": RatedFcn,
    "eta-deep": Survival,
    "eta-flat": Survival,
    "eta-quadratic": Survival,
    "planted": Planted,
    "shallow": Shallow,
    "sgd": SgdFcn,
    "sgd-rank2": SgdRank2,
    "sgd-digits": SgdFcn,
    "sgd-torch": SgdTorch,
    "sgd-cyclic": SgdFcn,
    "sgd-large": SgdFcn,
    "sgd-myrtle": SgdMyrtle,
    "sgd-cnn": SgdCnn,
    "sgd-wrn": SgdWrn,
    "sgd-vit": SgdVit,
    "hessian-shallow": HessianFcn,
    "hessian-deep": HessianFcn,
    "hessian-cnn": HessianCnn,
    "batch-norms": BatchNorms,
    "watch-rank2": WatchRank2,
    "watch-images": WatchImages,
}
