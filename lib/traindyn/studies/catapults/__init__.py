"""Catapults in GD and SGD: experiments, evidence, drawings."""

from traindyn.studies.catapults import (
    evidence_gd,
    evidence_sgd,
    evidence_theory,
    figures,
    gallery,
    gd,
    one_step,
    overshoot,
    planted,
    sgd,
    show,
    tasks,
    theory,
    watcher,
)

__all__ = [
    "evidence_gd",
    "evidence_sgd",
    "evidence_theory",
    "figures",
    "gallery",
    "gd",
    "one_step",
    "overshoot",
    "planted",
    "sgd",
    "show",
    "tasks",
    "theory",
    "watcher",
]
