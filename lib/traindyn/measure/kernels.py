r"""Kernels of infinitely wide ReLU networks in closed form, and their random-feature averages at finite width.

Everything rests on two Gaussian expectations, the arc-cosine kernels of order 0 and 1 (Cho, Saul 2009). Angles are
carried as 1 - cos(angle), from differences and not from the arccosine of a rounded cosine, so that nearly parallel
inputs keep their digits: the smallest eigenvalue of a kernel matrix is decided by them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.func import jvp

from traindyn.compute import chunk_size
from traindyn.errors import InputError, choose
from traindyn.layers import ACTIVATIONS

TRAINED = ("both", "first", "second")
DIRECTIONS = ("gaussian", "sphere")


def _inputs(X: Tensor, X2: Tensor | None) -> tuple[Tensor, Tensor]:
    other = X if X2 is None else X2
    for name, value in (("X", X), ("X2", other)):
        if value.dim() != 2 or not value.is_floating_point():
            raise InputError(
                f"{name}: expected floating-point inputs of shape (n, d), got {value.dtype} of shape "
                f"{tuple(value.shape)}; flatten images with X.flatten(1)"
            )
    if X.shape[1] != other.shape[1]:
        raise InputError(f"X and X2: expected the same input dimension, got {X.shape[1]} and {other.shape[1]}")
    return X, other


def _geometry(X: Tensor, X2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the norms (n, 1) and (1, n2) and the angles (n, n2) in [0, pi]; a zero vector is orthogonal to all."""
    a, b = X.norm(dim=1), X2.norm(dim=1)
    tiny = torch.finfo(X.dtype).tiny
    u, v = X / a.clamp_min(tiny)[:, None], X2 / b.clamp_min(tiny)[:, None]
    cosine = (u @ v.T).clamp(-1, 1)
    angle = cosine.acos()
    # the arccosine loses half the digits near 0 and pi; Kahan's formula keeps them, but costs a difference of vectors
    rows, columns = torch.nonzero(cosine.abs() > 0.999, as_tuple=True)
    size = chunk_size(4 * X.shape[1] * X.element_size(), max(1, len(rows)), X.device)
    for i, j in zip(rows.split(size), columns.split(size), strict=True):
        angle[i, j] = 2 * torch.atan2((u[i] - v[j]).norm(dim=1), (u[i] + v[j]).norm(dim=1))
    either_zero = (a == 0)[:, None] | (b == 0)[None, :]
    return a[:, None], b[None, :], torch.where(either_zero, torch.full_like(angle, math.pi / 2), angle)


def _order0(angle: Tensor) -> Tensor:
    return (math.pi - angle) / (2 * math.pi)


def _order1(angle: Tensor) -> Tensor:
    return (angle.sin() + (math.pi - angle) * angle.cos()) / (2 * math.pi)


def arc_cosine(X: Tensor, X2: Tensor | None = None, order: int = 1) -> Tensor:
    r"""Arc-cosine kernel of order 0 or 1: the expected product of two ReLU features, or of their derivatives.

    .. math::
        k_0(x, x') = E[1\{w^T x > 0\} 1\{w^T x' > 0\}] = \frac{\pi - \theta}{2 \pi}, \qquad
        k_1(x, x') = E[\sigma(w^T x) \sigma(w^T x')]
                   = \frac{\|x\| \|x'\|}{2 \pi} (\sin\theta + (\pi - \theta) \cos\theta)

    with w ~ N(0, I_d), sigma the ReLU and theta the angle between x and x'. Norms are arbitrary; a zero vector counts
    as orthogonal to every vector (the step function at 0 is 1/2). Cho, Saul (2009), eq. (3)-(6), print 2 k_0 and 2 k_1.

    Args:
        X: (n, d), floating point.
        X2: (n2, d), or None for X itself.
        order: 0 (derivatives) or 1 (features).

    Returns:
        (n, n2), in X's dtype and on its device. Cost O(n n2 d).

    Raises:
        InputError: another order, or inputs that are not two matrices of equal input dimension.
    """
    if order not in (0, 1):
        raise InputError(f"order: expected 0 or 1, got {order!r}")
    a, b, angle = _geometry(*_inputs(X, X2))
    return _order0(angle) if order == 0 else a * b * _order1(angle)


def two_layer_relu(
    X: Tensor,
    X2: Tensor | None = None,
    *,
    train: str = "both",
    directions: str = "gaussian",
    weight_std: float = 1.0,
    outer_square: float = 1.0,
) -> Tensor:
    r"""Tangent kernel of an infinitely wide two-layer ReLU network without biases, per neuron.

    .. math:: k(x, x') = E[\sigma(b^T x) \sigma(b^T x')] + E[a^2]\, x^T x'\, E[\sigma'(b^T x) \sigma'(b^T x')]

    The first term comes from training the second layer, the other one from training the first. With
    f = (alpha/m) sum_j a_j sigma(b_j^T x) the finite-width kernel tends to (alpha^2/m) k. The kernels of the lectures:

    * NTK lecture, section 4.3 (w ~ N(0, I), a = +-1 fixed): `train="first"`, x^T x' (pi - theta)/(2 pi).
    * Hardness lecture, eq. (0.25) (a = 0, b uniform on the sphere): `train="second", directions="sphere"`.
    * Its balanced start (a ~ N(0, 1/m), b ~ N(0, I/(md)), where f = sum_j a_j sigma(b_j^T x) and the Gram matrix itself
      converges): `weight_std=1/sqrt(d)`.

    Args:
        X: (n, d), floating point.
        X2: (n2, d), or None for X itself.
        train: "both", "first" (b alone) or "second" (a alone).
        directions: law of the rows b: "gaussian" N(0, weight_std^2 I), or "sphere", uniform of norm `weight_std`.
        weight_std: scale of the rows, as above.
        outer_square: E[a^2].

    Returns:
        (n, n2), in X's dtype and on its device.

    Raises:
        InputError: an unknown name, or inputs that are not two matrices of equal input dimension.
    """
    choose("train", train, TRAINED)
    choose("directions", directions, DIRECTIONS)
    X, X2 = _inputs(X, X2)
    a, b, angle = _geometry(X, X2)
    # sigma is homogeneous and |w|^2 is independent of the direction of a Gaussian w, so E_sphere = E_gauss / d
    square = weight_std**2 / (X.shape[1] if directions == "sphere" else 1)
    second = square * a * b * _order1(angle) if train != "first" else 0
    first = outer_square * (X @ X2.T) * _order0(angle) if train != "second" else 0
    return second + first


class _Covariance:
    """Covariances of a Gaussian pair: variances a (n, 1) and b (1, n2), and gap = 1 - correlation (n, n2)."""

    def __init__(self, a: Tensor, b: Tensor, gap: Tensor) -> None:
        self.a, self.b, self.gap = a, b, gap

    @property
    def cross(self) -> Tensor:
        return (self.a * self.b).sqrt() * (1 - self.gap)

    def affine(self, weight_variance: float, bias_variance: float) -> _Covariance:
        """Pass through z = W a / sqrt(fan_in) + b with independent Gaussian W and b."""
        a, b, gap = self.a * weight_variance, self.b * weight_variance, self.gap
        root = (a * b).sqrt()
        a_new, b_new = a + bias_variance, b + bias_variance
        root_new = (a_new * b_new).sqrt()
        # sqrt(a'b') - c' without cancellation: (a'b' - c'^2) / (sqrt(a'b') + c'), where with a common shift beta
        # a'b' - c'^2 = ab (1 - rho^2) + beta ((sqrt a - sqrt b)^2 + 2 sqrt(ab) (1 - rho))
        determinant = root**2 * gap * (2 - gap) + bias_variance * ((a.sqrt() - b.sqrt()) ** 2 + 2 * root * gap)
        denominator = root_new * (root_new + root * (1 - gap) + bias_variance)
        return _Covariance(a_new, b_new, determinant / denominator.clamp_min(torch.finfo(a.dtype).tiny))

    def relu(self) -> tuple[_Covariance, Tensor]:
        """Pass through the ReLU; also return E[sigma' sigma']."""
        half = (self.gap / 2).clamp(0, 1)
        angle = 2 * torch.atan2(half.sqrt(), (1 - half).sqrt())
        # 1 - kappa_1 with every small term computed as a small term
        gap = self.gap - (angle.sin() - angle * angle.cos()) / math.pi
        return _Covariance(self.a / 2, self.b / 2, gap.clamp_min(0)), _order0(angle)


def _relu_limits(
    X: Tensor, X2: Tensor | None, depth: int, init_std: float, bias: bool | str, output_bias: bool | str
) -> tuple[Tensor, Tensor]:
    """Return the covariance of one output and the tangent kernel of one output, each (n, n2)."""
    X, X2 = _inputs(X, X2)
    if depth < 1:
        raise InputError(f"depth: expected at least 1 weight layer, got {depth}")
    variance = {False: 0.0, "zero": 0.0, "normal": init_std**2}
    for name, law in (("bias", bias), ("output_bias", output_bias)):
        if law not in variance:
            raise InputError(f"{name}: expected False, 'zero' or 'normal', got {law!r}; no other law has a closed form")
    a, b, angle = _geometry(X, X2)
    width = X.shape[1]
    features = _Covariance(a**2 / width, b**2 / width, 2 * (angle / 2).sin() ** 2)
    ntk, derivative = torch.zeros_like(angle), torch.zeros_like(angle)
    for layer, law in enumerate([bias] * (depth - 1) + [output_bias]):
        # the gradient in this layer's own weights does not carry their variance: W enters as W/sqrt(fan_in)
        ntk = init_std**2 * derivative * ntk + features.cross + (law is not False)
        signal = features.affine(init_std**2, variance[law])
        if layer + 1 < depth:
            features, derivative = signal.relu()
    return signal.cross, ntk


def relu_ntk(
    X: Tensor,
    X2: Tensor | None = None,
    *,
    depth: int,
    init_std: float = 1.0,
    bias: bool | str = False,
    output_bias: bool | str = False,
) -> Tensor:
    r"""Neural tangent kernel of an infinitely wide ReLU network, in the conventions of `models.FCN`.

    NTK parameterisation: W ~ N(0, s^2), multiplier 1/sqrt(fan_in), no sqrt(2); a trainable bias adds 1 per layer and,
    where it starts as N(0, s^2), also s^2 to the variance. Jacot, Gabriel, Hongler (2018), Theorem 1, with these
    constants:

    .. math::
        \Sigma_1 = s^2 \tfrac{x^T x'}{d} + \beta, \quad \Theta_1 = \tfrac{x^T x'}{d} + \epsilon, \quad
        \Sigma_{l+1} = s^2 E[\sigma \sigma] + \beta, \quad
        \Theta_{l+1} = E[\sigma \sigma] + \epsilon + s^2 E[\sigma' \sigma'] \Theta_l

    where the expectations are over N(0, Sigma_l), beta is the variance of the biases and epsilon is 1 where there are
    biases, else 0. For a network with c outputs the trace kernel is c times this.

    Args:
        X: (n, d), floating point.
        X2: (n2, d), or None for X itself.
        depth: number of weight layers L, >= 1.
        init_std: s.
        bias: biases of the hidden layers: False, "zero" or "normal", as in `models.FCN`.
        output_bias: the same for the last layer.

    Returns:
        (n, n2), in X's dtype and on its device. Cost O(n n2 (d + L)).

    Raises:
        InputError: depth < 1, biases without a closed form, or inputs of the wrong shape.
    """
    return _relu_limits(X, X2, depth, init_std, bias, output_bias)[1]


def relu_nngp(
    X: Tensor,
    X2: Tensor | None = None,
    *,
    depth: int,
    init_std: float = 1.0,
    bias: bool | str = False,
    output_bias: bool | str = False,
) -> Tensor:
    r"""Covariance :math:`\Sigma_L` of one output of an infinitely wide ReLU network at initialisation.

    Arguments, result, cost and errors are those of `relu_ntk`.
    """
    return _relu_limits(X, X2, depth, init_std, bias, output_bias)[0]


def random_features(
    X: Tensor,
    X2: Tensor | None = None,
    *,
    weights: Tensor,
    outer: Tensor | None = None,
    activation: str = "relu",
    train: str = "second",
    chunk: int | None = None,
) -> Tensor:
    r"""Kernel of m given random features, or the tangent kernel of the two-layer network that they form.

    .. math::
        k_m(x, x') = \frac1m \sum_j \sigma(b_j^T x) \sigma(b_j^T x')
                   + a_j^2 \sigma'(b_j^T x) \sigma'(b_j^T x')\, x^T x'

    `train="second"` keeps the first term (the random-feature kernel of the hardness lecture, Lemma 14),
    `train="first"` the other (the kernel k_m of the NTK lecture, section 4.3). The derivative of the ReLU at 0 is 0.

    Args:
        X: (n, d), floating point.
        X2: (n2, d), or None for X itself.
        weights: rows b_j, (m, d).
        outer: a_j, (m,); None stands for +-1.
        activation: name in `layers.ACTIVATIONS`, any elementwise sigma.
        train: "second", "first" or "both".
        chunk: neurons at once; None chooses from the memory budget.

    Returns:
        (n, n2), in X's dtype and on its device. Cost O((n + n2) m d + n n2 m), memory O((n + n2) chunk).

    Raises:
        InputError: an unknown name or shapes that do not fit.
    """
    choose("train", train, TRAINED)
    choose("activation", activation, ACTIVATIONS)
    X, X2 = _inputs(X, X2)
    if weights.dim() != 2 or weights.shape[1] != X.shape[1]:
        raise InputError(f"weights: expected shape (m, {X.shape[1]}), got {tuple(weights.shape)}")
    m = len(weights)
    if outer is not None and outer.shape != (m,):
        raise InputError(f"outer: expected shape ({m},), got {tuple(outer.shape)}")
    function = ACTIVATIONS[activation]
    features = X.new_zeros(len(X), len(X2))
    derivatives = torch.zeros_like(features)
    # about four arrays of (rows, chunk) live at once
    size = chunk or chunk_size(4 * (len(X) + len(X2)) * X.element_size(), m, X.device)
    for start in range(0, m, size):
        W = weights[start : start + size].T
        (value, slope), (value2, slope2) = (jvp(function, (Z @ W,), (Z.new_ones(len(Z), W.shape[1]),)) for Z in (X, X2))
        if train != "first":
            features += value @ value2.T
        if train != "second":
            derivatives += (slope if outer is None else slope * outer[start : start + size] ** 2) @ slope2.T
    return (features + derivatives * (X @ X2.T)) / m
