"""What the spectrum of a tangent kernel or a Hessian says about training: eigenpairs, loss shares, critical rates."""

from traindyn.measure.lanczos import TopEig
from traindyn.measure.spectrum.curvature import hessian_top_eig, ntk_top_eig, output_hessian_norm
from traindyn.measure.spectrum.eigen import Eigs, split_loss, top_eigs
from traindyn.measure.spectrum.rates import (
    Relative,
    TimesCritical,
    batch_critical_lr,
    critical_lr,
    initial_critical,
    network_critical_lr,
    output_curvature,
    relative,
    times_critical,
    top_norm,
)

__all__ = [
    "Eigs",
    "Relative",
    "TimesCritical",
    "TopEig",
    "batch_critical_lr",
    "critical_lr",
    "hessian_top_eig",
    "initial_critical",
    "network_critical_lr",
    "ntk_top_eig",
    "output_curvature",
    "output_hessian_norm",
    "relative",
    "split_loss",
    "times_critical",
    "top_eigs",
    "top_norm",
]
