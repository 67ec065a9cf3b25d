"""Catapults in GD and SGD: experiments, evidence, drawings."""

from traindyn.studies.catapults import (
    evidence_gd,
    evidence_sgd,
    evidence_theory,
    figures,
    gd,
    one_step,
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
    "gd",
    "one_step",
    "planted",
    "sgd",
    "show",
    "tasks",
    "theory",
    "watcher",
]
