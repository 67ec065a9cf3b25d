"""How a student relates to its teacher: correlation of nodes, mixing coefficients, angles.

Notation of the source (student-teacher draft, section 3): f_l is the activation of layer l after the gate, D_l the
gates, V_l = d f_L / d f_l with the gates held, a star marks the teacher.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from traindyn.errors import InputError
from traindyn.layers import Activation, activations


def correlate(a: Tensor, b: Tensor) -> Tensor:
    r"""Return the centred (Pearson) correlation of every column of a with every column of b.

    rho_kj = sum_i (a_ik - mean a_k)(b_ij - mean b_j) / (|a_k - mean| |b_j - mean|), 0 for a constant column.

    Args:
        a: (..., n, k), activations of k nodes on n samples.
        b: (..., n, m), on the same samples.

    Returns:
        (..., k, m).

    Raises:
        InputError: the numbers of samples differ.
    """
    if a.shape[-2] != b.shape[-2]:
        raise InputError(f"correlate: expected the same samples, got {a.shape[-2]} and {b.shape[-2]} rows")
    a, b = (part - part.mean(-2, keepdim=True) for part in (a, b))
    norms = a.norm(dim=-2)[..., :, None] * b.norm(dim=-2)[..., None, :]
    return torch.where(norms > 0, a.mT @ b / norms.clamp_min(torch.finfo(a.dtype).tiny), 0.0)


def correlation(student: nn.Module, teacher: nn.Module, X: Tensor) -> list[Tensor]:
    """Return the correlation of hidden nodes, layer by layer.

    Args:
        student, teacher: networks whose hidden layers `layers.activations` finds; widths and depths may differ, the
            layers are paired from below.
        X: (n, d) inputs. Of a convolution the samples are all (input, position) pairs.

    Returns:
        One tensor (n_l, m_l) per common hidden layer.
    """
    with torch.no_grad():
        pairs = zip(activations(student, X), activations(teacher, X), strict=False)
        return [correlate(_nodes(f), _nodes(t)) for f, t in pairs]


def _nodes(f: Tensor) -> Tensor:
    return f if f.ndim == 2 else f.movedim(1, -1).flatten(0, -2)


def top_down(weights: Sequence[Tensor], gates: Sequence[Tensor]) -> list[Tensor]:
    r"""Return V_1, ..., V_{L-1} by the recursion V_{l-1}(x) = V_l(x) D_l(x) W_l^T, V_L = I (Eq. 4).

    Args:
        weights: W_1, ..., W_L, each (n_{l-1}, n_l).
        gates: D_1, ..., D_{L-1} as (n, n_l) of zeros and ones.

    Returns:
        V_l, each (n, C, n_l).
    """
    V = torch.eye(weights[-1].shape[1], dtype=weights[-1].dtype, device=weights[-1].device)
    V = V.expand(gates[0].shape[0], -1, -1)
    found = []
    for depth in range(len(weights), 1, -1):
        gated = V if depth == len(weights) else V * gates[depth - 1][:, None, :]
        V = gated @ weights[depth - 1].T
        found.append(V)
    return found[::-1]


def mixing(student: nn.Module, teacher: nn.Module, X: Tensor) -> list[tuple[Tensor, Tensor]]:
    r"""Return A_l(x) = V_l^T V_l^* and B_l(x) = V_l^T V_l of every hidden layer (Lemma 1), for any ReLU networks.

    V_l is taken as the Jacobian of the outputs with respect to the activations of layer l, which is what the
    recursion of Eq. 4 computes, by automatic differentiation.

    Args:
        student, teacher: networks of the same depth and number of outputs.
        X: (n, d).

    Returns:
        One pair (A_l (n, n_l, m_l), B_l (n, n_l, n_l)) per hidden layer. Time and memory O(n C sum n_l).

    Raises:
        InputError: the networks differ in depth or outputs.
    """
    ours, theirs = _jacobians(student, X), _jacobians(teacher, X)
    if len(ours) != len(theirs) or ours[0].shape[1] != theirs[0].shape[1]:
        raise InputError("mixing: expected networks of the same depth and number of outputs")
    return [(V.mT @ Vs, V.mT @ V) for V, Vs in zip(ours, theirs, strict=True)]


def _jacobians(model: nn.Module, X: Tensor) -> list[Tensor]:
    """Return V_l(x) = d f_L / d f_l of every hidden layer, (n, C, n_l)."""
    hidden: list[Tensor] = []
    modules = [module for module in model.modules() if isinstance(module, Activation)]
    handles = [module.register_forward_hook(lambda _m, _i, out: hidden.append(out)) for module in modules]
    try:
        with torch.enable_grad():
            out = model(X.detach().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    out = out[:, None] if out.ndim == 1 else out
    rows = [torch.autograd.grad(out[:, c].sum(), hidden, retain_graph=True) for c in range(out.shape[1])]
    return [torch.stack(layer, 1).detach() for layer in zip(*rows, strict=True)]


def angle(a: Tensor, b: Tensor) -> Tensor:
    """Return the angle between vectors along the last axis in [0, pi], exact near 0 and pi (Kahan)."""
    a, b = (part / part.norm(dim=-1, keepdim=True) for part in (a, b))
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))
