"""The tangent kernel of two-layer networks: experiments, evidence, drawings."""

from traindyn.studies.ntk import (
    basics,
    by_hand,
    expansion,
    figures,
    flows,
    kernels,
    networks,
    regimes,
    thresholds,
    universality,
)

__all__ = [
    "basics",
    "by_hand",
    "expansion",
    "figures",
    "flows",
    "kernels",
    "networks",
    "regimes",
    "thresholds",
    "universality",
]
