"""The sizes of the experiments of the chapter on catapults and feature learning: types, units, ranges."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from traindyn.sizes import Definition, Experiment, Scale


class Repetitions(Experiment):
    seeds: int = Field(ge=0, description="independent repetitions; 0: this preset leaves the experiment out")


class Readings(Experiment):
    excursion: Definition[float] = Field(gt=1, description="its peak is more than this multiple of the loss before it")
    spike: Definition[float] = Field(gt=0, description="a step that raises the loss by more than this share of it")


class Target(Experiment):
    rank: int = Field(ge=0, description="of the target's EGOP: 2, 3, 4; 0: full")
    n: Scale[int] = Field(gt=0, description="training samples")
    d: Scale[int] = Field(gt=0, description="inputs")
    noise: float = Field(ge=0, description="standard deviation of the label noise")
    n_val: Scale[int] = Field(gt=0, description="validation samples")
    n_test: Scale[int] = Field(gt=0, description="test samples")


class Synthetic(Target, Repetitions):
    pass


class ByHand(Experiment):
    n: int = Field(gt=0, description="training samples")
    d: int = Field(gt=1, description="inputs")
    noise: float = Field(ge=0, description="standard deviation of the label noise")
    width: int = Field(gt=0, description="hidden units")
    depth: Literal[2] = 2
    rates: list[PositiveFloat] = Field(min_length=1, description="learning rates of the stretches")
    steps: int = Field(gt=0, description="updates of a stretch")


class Definition45(Repetitions):
    d: int = Field(gt=1, description="inputs")
    n: int = Field(gt=0, description="samples")
    width: int = Field(gt=0, description="hidden units")
    depth: int = Field(gt=1, description="weight layers")


class Egop(Repetitions):
    d: int = Field(gt=9, description="inputs")
    samples: int = Field(gt=0, description="random inputs")


class MultiIndex(Synthetic):
    ridges: list[PositiveFloat] = Field(min_length=1, description="in units of the kernel's mean eigenvalue")
    leak: float = Field(gt=0, description="multiple of the identity that is added to the map")


class Counts(Synthetic):
    width: int = Field(gt=0, description="hidden units")
    depth: int = Field(gt=1, description="weight layers")
    batch: int = Field(gt=0, description="samples of a batch")
    draws: int = Field(gt=0, description="batches")


# stochastic gradient descent


class Batches(Experiment):
    width: Scale[int] = Field(gt=0, description="hidden units of a layer")
    depth: int = Field(gt=1, description="weight layers")
    batches: Scale[list[PositiveInt]] = Field(min_length=1, description="batch sizes; n or more: gradient descent")
    gd: int = Field(ge=0, description="seeds that also train by gradient descent, where n is among the batch sizes")
    steps: int = Field(gt=0, description="epochs at most")
    gd_steps: int = Field(gt=0, description="steps at most, gradient descent")
    every: int = Field(gt=0, description="steps of gradient descent between two looks")
    stop: float = Field(gt=0, description="training loss at which to end")


class Sgd(Synthetic, Batches):
    divisor: float = Field(gt=0, description="the rate is n / ||K(0)|| over this")


class More(Repetitions):
    batches: Scale[list[PositiveInt]] = Field(min_length=1, description="further batch sizes")


class Biases(Repetitions):
    batches: list[PositiveInt] = Field(min_length=1, description="batch sizes")


class Small(Sgd):
    small: float = Field(gt=0, description="the small rate is n / ||K(0)|| over this")
    patience: float = Field(gt=1, description="ends where the best validation loss is older than this times its step")


class Tenth(Sgd):
    lr: float = Field(gt=0, description="the small rate")
    patience: float = Field(gt=1, description="ends where the best validation loss is older than this times its step")


class Torch(Sgd):
    law: Literal["torch"] = Field("torch", description="PyTorch's parameterisation and initial law, with biases")
    lr: float = Field(gt=0, description="learning rate")


class Weaker(Sgd):
    weaker: float = Field(gt=0, description="divisor at which every batch size stays finite")
    patience: float = Field(gt=1, description="ends where the best validation loss is older than this times its step")


class Window(Synthetic):
    width: Scale[int] = Field(gt=0, description="hidden units of a layer")
    depth: int = Field(gt=1, description="weight layers")
    batch: int = Field(gt=0, description="samples of a batch")
    divisor: float = Field(gt=0, description="the rate is n / ||K(0)|| over this")
    skip: int = Field(ge=0, description="steps before the stretch that is looked at")
    steps: int = Field(gt=1, description="steps that are looked at")


# gradient descent with raised rates


class Steps(Experiment):
    width: Scale[int] = Field(gt=0, description="hidden units of a layer, or channels")
    depth: int = Field(gt=1, description="weight layers")
    rates: list[PositiveFloat] = Field(min_length=1, description="raised learning rates")
    at: list[PositiveInt] = Field(min_length=1, description="steps at which they begin")
    first: float = Field(gt=0, description="learning rate before")
    tail: int = Field(gt=0, description="steps from the last increase to its branch")
    decay: float = Field(gt=0, le=1, description="on a branch the rate is at most this times n / ||K||")
    steps: int = Field(gt=0, description="steps of a branch at most")
    every: int = Field(gt=0, description="steps between two looks")
    stop: float = Field(gt=0, description="training loss at which to end")
    excursion: Definition[float] = Field(gt=1, description="peak of a catapult over the loss before it")


class Ladder(Synthetic, Steps):
    pass


class Rank2(Ladder):
    std: float = Field(gt=0, description="standard deviation of the weights of the small start")
    small_rates: list[PositiveFloat] = Field(min_length=1, description="learning rates of the small start")


class Relative(Experiment):
    begin: float = Field(gt=0, description="first rate, in units of n / ||K||")
    multiples: list[PositiveFloat] = Field(min_length=1, description="raised rates in units of n / ||K|| at that step")


class Scanned(Ladder, Relative):
    firsts: list[PositiveFloat] = Field(min_length=1, description="first rates of the scan")
    scales: list[float] = Field(min_length=1, description="standard deviation of the labels without noise; 0: as is")
    holds: list[NonNegativeInt] = Field(min_length=1, description="steps of a raised rate; 0: until the next")
    scanned: int = Field(gt=0, description="seeds of the scan")


# optimisers


class Optimizers(Synthetic):
    width: Scale[int] = Field(gt=0, description="hidden units of a layer")
    depth: int = Field(gt=1, description="weight layers")
    batch: int = Field(gt=0, description="samples of a batch")
    optimizers: list[str] = Field(min_length=2, description="names of Table C.1")
    rates: list[PositiveFloat] = Field(min_length=2, description="their learning rates")
    steps: int = Field(gt=0, description="epochs at most")
    gd_steps: int = Field(gt=0, description="steps at most, gradient descent")
    stop: float = Field(gt=0, description="training loss at which to end")


# images


class Images(Repetitions):
    data: str = Field(min_length=1, description="set of images")
    classes: list[NonNegativeInt] = Field(min_length=2, max_length=2, description="two: labels -1 and 1")
    side: int = Field(ge=0, description="of the images; 0: as the set has it")
    n: Scale[int] = Field(gt=0, description="training images")
    n_val: Scale[int] = Field(gt=0, description="validation images")
    n_test: Scale[int] = Field(gt=0, description="test images")
    flip: float = Field(ge=0, lt=1, description="share of the training labels that are turned over")
    epochs: int = Field(gt=0, description="of the reference models' training")
    channels: int = Field(gt=0, description="of the convolutional reference")


class ImageSgd(Images, Batches):
    divisor: float = Field(gt=0, description="the rate is n / ||K(0)|| over this")


class ImageGd(Images, Steps):
    pass


class ConvGd(ImageGd, Relative):
    net: Literal["cnn"] = "cnn"


class ManyClasses(ImageSgd):
    net: Literal["myrtle5"] = "myrtle5"
    classes: list[NonNegativeInt] = Field(min_length=3, description="one output each, labels 0 and 1")
    flip: float = Field(ge=0, le=0, description="labels of many classes are not turned over")
    subset: Scale[int] = Field(gt=0, description="training images on which n / ||K(0)|| is taken")
    patience: float = Field(gt=1, description="ends where the best validation error is older than this times its step")


class Faces(Experiment):
    images: Literal["celeba"] = "celeba"
    seeds: Literal[0] = Field(0, description="is not run: the images are not to be had")


# ours


class Quadratic(Target, Steps, Relative):
    pass


class Penalty(Target):
    width: int = Field(gt=0, description="hidden units")
    depth: Literal[2] = 2
    share: float = Field(gt=0, lt=1, description="learning rate in units of n / ||K||, anew every 100 steps")
    steps: int = Field(gt=0, description="updates")
    every: int = Field(gt=0, description="updates between two looks")
    strengths: list[PositiveFloat] = Field(min_length=1, description="of a penalty, over its value at the start")


SIZES = {
    "hand": ByHand,
    "readings": Readings,
    "definition": Definition45,
    "egop": Egop,
    "multi": MultiIndex,
    "counts": Counts,
    "table": Sgd,
    "hundred": More,
    "biases": Biases,
    "window2": Window,
    "window4": Window,
    "small": Small,
    "tenth2": Tenth,
    "tenth3": Tenth,
    "torch": Torch,
    "sgd3": Weaker,
    "sgd4": Weaker,
    "gd2": Rank2,
    "gd3": Scanned,
    "gd4": Scanned,
    "full": Ladder,
    "opt2": Optimizers,
    "opt3": Optimizers,
    "opt4": Optimizers,
    "usps-sgd": ImageSgd,
    "fmnist-sgd": ImageSgd,
    "usps-gd": ImageGd,
    "fmnist-gd": ImageGd,
    "svhn2": ConvGd,
    "svhn": ManyClasses,
    "celeba": Faces,
    "quadratic": Quadratic,
    "penalty": Penalty,
}
