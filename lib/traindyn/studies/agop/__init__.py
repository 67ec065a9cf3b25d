"""Catapults and feature learning: experiments, evidence, drawings."""

from traindyn.studies.agop import (
    beyond,
    conv,
    figures,
    images,
    ladders,
    optimizers,
    relu,
    sgd,
    show,
    tasks,
    theory,
    training,
)

__all__ = [
    "beyond",
    "conv",
    "figures",
    "images",
    "ladders",
    "optimizers",
    "relu",
    "sgd",
    "show",
    "tasks",
    "theory",
    "training",
]
