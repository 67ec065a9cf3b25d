"""Transition to linearity of networks on graphs: experiments, evidence, drawings."""

from traindyn.studies.linearity import (
    ball,
    curvature,
    evidence,
    figures,
    gaussian,
    graphs,
    identities,
    lemmas,
    nets,
    notions,
    orders,
    shared,
    training,
)

__all__ = [
    "ball",
    "curvature",
    "evidence",
    "figures",
    "gaussian",
    "graphs",
    "identities",
    "lemmas",
    "nets",
    "notions",
    "orders",
    "shared",
    "training",
]
