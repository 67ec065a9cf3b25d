"""The sizes of the experiments of the chapter on students and teachers: types, units, ranges."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from traindyn.sizes import Definition, Experiment, Scale


class Repetitions(Experiment):
    seeds: int = Field(gt=0, description="independent repetitions")


class ByHand(Experiment):
    d: int = Field(gt=0, description="inputs")
    m: int = Field(gt=0, description="teacher's hidden units")
    n: int = Field(gt=0, description="student's hidden units")
    outputs: int = Field(gt=0, description="outputs")
    samples: int = Field(gt=0, description="samples")
    batch: int = Field(gt=0, description="samples of a batch")
    lr: float = Field(gt=0, description="learning rate")
    std: float = Field(gt=0, description="standard deviation of the initial weights")
    steps: int = Field(gt=0, description="updates")


# checks of statements


class Widths(Experiment):
    student: list[PositiveInt] = Field(min_length=3, description="inputs, hidden units of each layer, outputs")
    teacher: list[PositiveInt] = Field(min_length=3, description="the same of the teacher")
    samples: int = Field(gt=0, description="inputs drawn")


class Pieces(Widths):
    pairs: int = Field(gt=0, description="pairs of points in one cell")


class Interpolation(Experiment):
    d: int = Field(gt=0, description="inputs")
    m: int = Field(gt=0, description="teacher's hidden units")
    outputs: int = Field(gt=0, description="outputs")
    n: int = Field(gt=0, description="samples")
    small: int = Field(gt=0, description="hidden units of the small student")
    tries: int = Field(gt=0, description="starts of the small student, per seed")
    gd_steps: int = Field(gt=0, description="updates of gradient descent")
    gd_lr: float = Field(gt=0, description="its learning rate")
    large: int = Field(gt=0, description="hidden units of the large student")
    sgd_steps: int = Field(gt=0, description="updates of SGD")
    sgd_lr: float = Field(gt=0, description="its learning rate")
    flat: Definition[float] = Field(gt=0, description="largest entry of a gradient that counts as zero")


class Observers(Experiment):
    d: int = Field(gt=0, description="inputs")
    students: int = Field(gt=0, description="random students")
    teachers: int = Field(gt=0, description="random teachers")
    samples: int = Field(gt=0, description="inputs drawn")
    compared: int = Field(gt=0, description="students that are compared with sampling")
    counts: list[PositiveInt] = Field(min_length=2, description="numbers of students")


class Critical(Experiment):
    d: int = Field(gt=0, description="inputs")
    outputs: int = Field(gt=0, description="outputs")


class Refit(Critical):
    samples: int = Field(gt=0, description="inputs drawn")
    m: int = Field(gt=0, description="teacher's hidden units")
    spare: int = Field(gt=0, description="students beyond the teachers")


class Trained(Repetitions):
    d: int = Field(gt=0, description="inputs")
    m: int = Field(gt=0, description="teacher's hidden units")
    outputs: int = Field(gt=0, description="outputs")
    n: Scale[int] = Field(gt=0, description="samples")
    n_eval: Scale[int] = Field(gt=0, description="fresh samples")
    factor: int = Field(gt=0, description="student's hidden units over the teacher's")
    batch: int = Field(gt=0, description="samples of a batch")
    lr: float = Field(gt=0, description="learning rate")
    late_lr: float = Field(gt=0, description="learning rate of the second half")
    steps: Scale[int] = Field(gt=0, description="updates")
    std: float = Field(gt=0, description="standard deviation of the initial weights")
    matched: Definition[float] = Field(gt=0, lt=1, description="correlation from which a student is matched")
    loose: Definition[float] = Field(gt=0, lt=1, description="cosine below which a student is unaligned")
    aligned: Definition[float] = Field(gt=0, lt=1, description="cosine above which a student is aligned")


class Relus(Experiment):
    d: int = Field(gt=0, description="inputs")
    units: int = Field(gt=1, description="ReLU units")
    samples: int = Field(gt=0, description="inputs drawn")
    radius: float = Field(gt=0, description="radius of the ball")
    pairs: int = Field(gt=0, description="pairs of hyperplanes")


class Misalignment(Experiment):
    instances: int = Field(gt=0, description="random instances")
    samples: int = Field(gt=0, description="inputs drawn")


class Recovery(Repetitions):
    shapes: list[list[PositiveInt]] = Field(min_length=1, description="pairs of inputs and teachers")
    angles: list[PositiveFloat] = Field(min_length=1, description="radians")
    samples: int = Field(gt=0, description="inputs drawn")


class Expected(Repetitions):
    laws: list[str] = Field(min_length=1, description="normal, sphere, student_t")
    dims: list[PositiveInt] = Field(min_length=1, description="inputs")
    norms: list[list[PositiveFloat]] = Field(min_length=1, description="pairs of norms")
    angles: list[PositiveFloat] = Field(min_length=1, description="radians")
    samples: int = Field(gt=0, description="inputs drawn")
    inner: Definition[float] = Field(gt=0, description="angle below which directions are compared, radians")


class Between(Repetitions):
    samples: int = Field(gt=0, description="inputs drawn")
    angles: int = Field(gt=1, description="number of angles from 0.1 to pi - 0.1")


class Growth(Critical):
    samples: int = Field(gt=0, description="inputs drawn")
    n: int = Field(gt=0, description="student's hidden units")
    m: int = Field(gt=0, description="teacher's hidden units")


class Balance(Critical):
    n: int = Field(gt=0, description="student's hidden units")
    m: int = Field(gt=0, description="teacher's hidden units")
    std: float = Field(gt=0, description="standard deviation of the initial weights")
    lr: float = Field(gt=0, description="learning rate")
    steps: int = Field(gt=0, description="updates")


# flows


class LogRatio(Experiment):
    nodes: int = Field(gt=1, description="students")
    d: int = Field(gt=0, description="inputs")
    step: float = Field(gt=0, description="step of the integrator")
    steps: int = Field(gt=0, description="its steps")


class Common(Experiment):
    nodes: int = Field(gt=1, description="students")
    d: int = Field(gt=0, description="inputs")
    step: float = Field(gt=0, description="step of the integrator")
    time: float = Field(gt=0, description="length of the flow")
    norms: list[PositiveFloat] = Field(min_length=1, description="initial norms")
    small: Definition[float] = Field(gt=0, description="largest initial norm that counts as small")


class Breaking(Repetitions):
    nodes: int = Field(gt=1, description="students")
    d: int = Field(gt=0, description="inputs")
    step: float = Field(gt=0, description="step of the integrator")
    eps: list[PositiveFloat] = Field(min_length=1, description="strengths of the favoured node")
    norms: list[PositiveFloat] = Field(min_length=1, description="initial norms")
    small: Definition[float] = Field(gt=0, description="largest initial norm that counts as small")


class Slow(Experiment):
    eps: list[PositiveFloat] = Field(min_length=2, description="initial norms")


# training


class Students(Experiment):
    optimizer: Literal["sgd"] = "sgd"
    d: Scale[int] = Field(gt=0, description="inputs")
    m: int = Field(gt=0, description="teacher's hidden units")
    outputs: Scale[int] = Field(gt=0, description="outputs")
    n_train: Scale[int] = Field(gt=0, description="samples")
    n_eval: Scale[int] = Field(gt=0, description="fresh samples")
    epochs: Scale[int] = Field(gt=0, description="epochs of training")
    epoch: Scale[int] = Field(gt=0, description="updates of an epoch")
    factors: Scale[list[PositiveInt]] = Field(min_length=1, description="student's hidden units over the teacher's")
    matched: Definition[float] = Field(gt=0, lt=1, description="correlation above which a node is matched")


class Sweep(Students):
    aligned: Definition[float] = Field(gt=0, lt=1, description="correlation above which a student follows a teacher")
    chased: Definition[float] = Field(gt=0, lt=1, description="correlation above which it chases the strongest, early")


class Figure3(Students):
    seeds: int = Field(gt=0, description="independent repetitions")
    p: Scale[list[NonNegativeFloat]] = Field(min_length=1, description="decays of the teacher's strength")
    loose: Definition[float] = Field(gt=0, lt=1, description="correlation below which a node is loose")
    high: Definition[float] = Field(gt=0, description="fan-out of the corner, in units of the matched median")


class Figure4(Students):
    seeds: int = Field(gt=0, description="independent repetitions")
    p: float = Field(ge=0, description="decay of the teacher's strength")


class Equal(Experiment):
    factor: int = Field(gt=0, description="student's hidden units over the teacher's")
    epochs: Scale[int] = Field(gt=0, description="epochs of training")


class Stuck(Experiment):
    epochs: Scale[int] = Field(gt=0, description="epochs of training of the students of the teacher's own size")
    seeds: int = Field(gt=0, description="independent repetitions, at least those of the sweep")


class Decays(Experiment):
    p: Scale[list[NonNegativeFloat]] = Field(min_length=1, description="decays of the teacher's strength")
    factors: Scale[list[PositiveInt]] = Field(min_length=1, description="student's hidden units over the teacher's")
    epochs: Scale[int] = Field(gt=0, description="epochs of training")
    seeds: int = Field(gt=0, description="independent repetitions")


class Sgd(Repetitions):
    n_train: Scale[int] = Field(gt=0, description="samples")
    n_eval: Scale[int] = Field(gt=0, description="fresh samples")
    batch: int = Field(gt=0, description="samples of a batch")
    lr: float = Field(gt=0, description="learning rate")
    steps: Scale[int] = Field(gt=0, description="updates")
    matched: Definition[float] = Field(gt=0, lt=1, description="correlation above which a node is matched")


class Plane(Sgd):
    d: Literal[2] = Field(2, description="inputs")
    m: Literal[2] = Field(2, description="teacher's hidden units")
    outputs: int = Field(gt=0, description="outputs")
    n: int = Field(gt=0, description="students")
    covered: Definition[float] = Field(gt=0, lt=1, description="correlation above which a teacher is covered")
    std: float = Field(gt=0, description="standard deviation of the initial weights")


class Attraction(Repetitions):
    d: int = Field(gt=0, description="inputs")
    outputs: int = Field(gt=0, description="outputs")
    pushes: list[PositiveFloat] = Field(
        min_length=1, description="pushes off the point, in units of the weights' norms"
    )
    n_train: Scale[int] = Field(gt=0, description="samples")
    n_eval: Scale[int] = Field(gt=0, description="fresh samples")
    batch: int = Field(gt=0, description="samples of a batch")
    lr: float = Field(gt=0, description="learning rate")
    steps: Scale[int] = Field(gt=0, description="updates")
    aligned: Definition[float] = Field(gt=0, lt=1, description="cosine above which a student is aligned, or opposite")


class Antipodes(Plane):
    n: int = Field(2, gt=0, description="students of one run: each of `widths` in turn")
    widths: list[PositiveInt] = Field(min_length=1, description="students")


class Deep(Repetitions):
    d: Scale[int] = Field(gt=0, description="inputs")
    scale: float = Field(gt=0, description="standard deviation of the inputs")
    outputs: Scale[int] = Field(gt=0, description="outputs")
    batch: int = Field(gt=0, description="samples of a batch, drawn anew")
    lr: float = Field(gt=0, description="learning rate")
    late_lr: float = Field(gt=0, description="learning rate from a fifth of the steps on")
    steps: Scale[int] = Field(gt=0, description="updates")
    records: int = Field(gt=0, description="looks")
    n_eval: Scale[int] = Field(gt=0, description="fresh samples")
    teacher: Scale[list[PositiveInt]] = Field(min_length=1, description="hidden units of each layer")


class DeepWide(Deep):
    factor: int = Field(gt=0, description="student's hidden units over the teacher's")
    loose: Definition[float] = Field(gt=0, lt=1, description="correlation below which a node is loose")
    matched: Definition[float] = Field(gt=0, lt=1, description="correlation above which a node is matched")


class Deeper(Deep):
    student: Scale[list[PositiveInt]] = Field(min_length=1, description="hidden units of each layer")


class Images(Repetitions):
    net: Literal["cnn"] = "cnn"
    data: str = Field(description="set of images")
    n_train: Scale[int] = Field(gt=0, description="samples")
    n_test: Scale[int] = Field(gt=0, description="test samples")
    channels: Scale[list[PositiveInt]] = Field(min_length=1, description="teacher's channels of each layer")
    factors: Scale[list[PositiveInt]] = Field(min_length=1, description="student's channels over the teacher's")
    batch: int = Field(gt=0, description="samples of a batch")
    lr: float = Field(gt=0, description="learning rate")
    steps: Scale[int] = Field(gt=0, description="updates")
    teacher_steps: Scale[int] = Field(gt=0, description="updates of the teacher")
    every: int = Field(gt=0, description="steps between two looks")


class Frozen(Sgd):
    d: Scale[int] = Field(gt=0, description="inputs")
    m: int = Field(gt=0, description="teacher's hidden units")
    outputs: list[PositiveInt] = Field(min_length=1, description="outputs")
    factors: Scale[list[PositiveInt]] = Field(min_length=1, description="student's hidden units over the teacher's")


class NoGate(Sgd):
    d: Scale[int] = Field(gt=0, description="inputs")
    m: int = Field(gt=0, description="teacher's hidden units")
    n: int = Field(gt=0, description="student's hidden units")
    outputs: int = Field(gt=0, description="outputs")


class Outputs(Sgd):
    d: Scale[int] = Field(gt=0, description="inputs")
    m: int = Field(gt=0, description="teacher's hidden units")
    factor: int = Field(gt=0, description="student's hidden units over the teacher's")
    outputs: list[PositiveInt] = Field(min_length=2, description="outputs, the first is 1")
    power: float = Field(gt=0, description="mean square of the teacher's output")


SIZES = {
    "hand": ByHand,
    "theory": Repetitions,
    "rule": Widths,
    "pieces": Pieces,
    "interpolation": Interpolation,
    "observers": Observers,
    "exact": Critical,
    "refit": Refit,
    "trained": Trained,
    "relus": Relus,
    "lemma5": Misalignment,
    "lp": Recovery,
    "expected": Expected,
    "between": Between,
    "growth": Growth,
    "residue": Growth,
    "balance": Balance,
    "log_ratio": LogRatio,
    "common": Common,
    "breaking": Breaking,
    "slow": Slow,
    "sweep": Sweep,
    "equal": Equal,
    "stuck": Stuck,
    "decays": Decays,
    "fig3": Figure3,
    "fig4": Figure4,
    "plane": Plane,
    "attraction": Attraction,
    "antipodes": Antipodes,
    "deep": DeepWide,
    "deeper": Deeper,
    "images": Images,
    "frozen": Frozen,
    "gate": NoGate,
    "scalar": Outputs,
}
