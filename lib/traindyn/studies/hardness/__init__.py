"""The hardness of learning, and the kernel regime: experiments, drawings."""

from traindyn.studies.hardness import (
    cosines,
    deep,
    figures,
    gradients,
    grams,
    halfspaces,
    implicit,
    landscape,
    online,
    parities,
    rates,
    regime,
    spectrum,
    stays,
    wide,
)

__all__ = [
    "cosines",
    "deep",
    "figures",
    "gradients",
    "grams",
    "halfspaces",
    "implicit",
    "landscape",
    "online",
    "parities",
    "rates",
    "regime",
    "spectrum",
    "stays",
    "wide",
]
