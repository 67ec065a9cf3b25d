"""Neural quadratic models and the catapult phase: experiments, evidence, drawings."""

from traindyn.studies.quadratic import (
    deep,
    eigenspace,
    figures,
    gap,
    general,
    images,
    line,
    missed,
    scalar,
    show,
    single,
    spans,
    sweeps,
    thresholds,
)

__all__ = [
    "deep",
    "eigenspace",
    "figures",
    "gap",
    "general",
    "images",
    "line",
    "missed",
    "scalar",
    "show",
    "single",
    "spans",
    "sweeps",
    "thresholds",
]
