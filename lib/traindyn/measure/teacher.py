"""How a student relates to its teacher: correlation of nodes, mixing coefficients, the gradient rule, observers.

Notation of the source (student-teacher draft, sections 3 and 4): f_l and g_l are the activation and the back-propagated
residual of layer l after the gate, D_l the gates, V_l = d f_L / d f_l with the gates held, a star marks the teacher.
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


def gradient_rule(A: Tensor, B: Tensor, f: Tensor, f_teacher: Tensor) -> Tensor:
    r"""Return g_l(x) = D_l [A_l f_l^* - B_l f_l] (Eq. 3): the descent direction of (1/2)|f_L^* - f_L|^2 at layer l.

    Args:
        A: (n, n_l, m_l).  B: (n, n_l, n_l).
        f: (n, n_l), the student's activations after the ReLU; their signs are the gates.
        f_teacher: (n, m_l).

    Returns:
        (n, n_l).
    """
    inner = torch.einsum("nkj,nj->nk", A, f_teacher) - torch.einsum("nkj,nj->nk", B, f)
    return torch.where(f > 0, inner, 0.0)


def observed(f: Tensor, f_teacher: Tensor) -> Tensor:
    r"""Return which student sees which teacher's boundary in a data set (Definition 2, as the authors estimate it).

    Student k sees teacher j if among the inputs that switch k on there are some with j on and some with j off.

    Args:
        f: (n, k) activations after the ReLU.  f_teacher: (n, m).

    Returns:
        booleans (k, m).
    """
    on = (f > 0).to(f_teacher)
    both = on.mT @ (f_teacher > 0).to(on)
    return (both > 0) & (on.sum(0)[:, None] - both > 0)


def observes_in_ball(w: Tensor, b: Tensor, w_teacher: Tensor, b_teacher: Tensor, radius: float) -> Tensor:
    r"""Return which student sees which teacher's boundary in the ball |x| < radius, exactly (Definition 2).

    On the hyperplane w_j^*.x + b_j^* = 0 inside the ball, w_k.x + b_k is largest at its point closest to the origin
    plus sqrt(radius^2 - distance^2) along the projection of w_k; the student sees it where that is positive.

    Args:
        w: (d, k), b: (k,): the students.  w_teacher: (d, m), b_teacher: (m,).
        radius: of the ball around the origin.

    Returns:
        booleans (k, m).
    """
    norm = w_teacher.norm(dim=0)
    unit, offset = w_teacher / norm, -b_teacher / norm
    along = w.T @ unit
    across = (w.norm(dim=0)[:, None] ** 2 - along**2).clamp_min(0).sqrt()
    reach = (radius**2 - offset**2).clamp_min(0).sqrt()
    return (along * offset + b[:, None] + across * reach > 0) & (offset.abs() < radius)


def expected_activation(w_teacher: Tensor, w: Tensor, second_moment: float = 1.0) -> Tensor:
    r"""Return E[x 1(w.x > 0) relu(w^*.x)] for spherically symmetric x (Theorem 6 with its constant and norms mended).

    kappa/(2 pi) [ (pi - theta) w^* + sin(theta) |w^*| w/|w| ],  kappa = E|x|^2 / d.

    Args:
        w_teacher: (..., d).  w: (..., d), not zero.
        second_moment: kappa; 1 for N(0, I).

    Returns:
        (..., d).
    """
    theta = angle(w_teacher, w)[..., None]
    unit = w / w.norm(dim=-1, keepdim=True)
    bracket = (torch.pi - theta) * w_teacher + theta.sin() * w_teacher.norm(dim=-1, keepdim=True) * unit
    return second_moment / (2 * torch.pi) * bracket


def angle(a: Tensor, b: Tensor) -> Tensor:
    """Return the angle between vectors along the last axis in [0, pi], exact near 0 and pi (Kahan)."""
    a, b = (part / part.norm(dim=-1, keepdim=True) for part in (a, b))
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))
