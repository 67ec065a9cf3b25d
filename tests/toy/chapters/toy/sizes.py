"""The sizes of the toy chapter's experiments."""

from pydantic import Field

from traindyn.sizes import Experiment, Scale


class Descent(Experiment):
    steps: Scale[int] = Field(gt=0, description="updates")
    scale: float = Field(gt=0, description="curvature")


SIZES = {"descent": Descent}
