"""The empirical tangent kernel of any torch network, assembled layer by layer without a Jacobian."""

from traindyn.measure.ntk.empirical import empirical_ntk

__all__ = ["empirical_ntk"]
