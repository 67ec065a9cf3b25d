r"""Kernels of infinitely wide ReLU networks in closed form.

Everything rests on two Gaussian expectations, the arc-cosine kernels of order 0 and 1 (Cho, Saul 2009). Angles are
carried as 1 - cos(angle), from differences and not from the arccosine of a rounded cosine, so that nearly parallel
inputs keep their digits: the smallest eigenvalue of a kernel matrix is decided by them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from traindyn.compute import chunk_size
from traindyn.errors import InputError, choose

TRAINED = ("both", "first", "second")
DIRECTIONS = ("gaussian", "sphere")


def inputs(X: Tensor, X2: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return X and X2 (X itself if None); an InputError says which of them is not (n, d), floating and finite."""
    other = X if X2 is None else X2
    for name, value in (("X", X), ("X2", other)):
        if value.dim() != 2 or not value.is_floating_point():
            raise InputError(
                f"{name}: expected floating-point inputs of shape (n, d), got {value.dtype} of shape "
                f"{tuple(value.shape)}; flatten images with X.flatten(1)"
            )
        if not value.isfinite().all():
            raise InputError(f"{name}: expected finite inputs, got NaN or infinity")
    if X.shape[1] != other.shape[1]:
        raise InputError(f"X and X2: expected the same input dimension, got {X.shape[1]} and {other.shape[1]}")
    return X, other


def _directions(X: Tensor) -> tuple[Tensor, Tensor]:
    """Return norms (n,) and unit vectors (n, d); scaled first: squares of tiny or huge numbers leave the range."""
    largest = X.abs().amax(dim=1, keepdim=True)
    scaled = X / torch.where(largest > 0, largest, 1)
    norm = scaled.norm(dim=1, keepdim=True)
    return (largest * norm)[:, 0], scaled / torch.where(norm > 0, norm, 1)


def _geometry(X: Tensor, X2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the norms (n, 1) and (1, n2) and the angles (n, n2) in [0, pi]; a zero vector is orthogonal to all."""
    (a, u), (b, v) = _directions(X), _directions(X2)
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
    a, b, angle = _geometry(*inputs(X, X2))
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
    X, X2 = inputs(X, X2)
    a, b, angle = _geometry(X, X2)
    # sigma is homogeneous and |w|^2 is independent of the direction of a Gaussian w, so E_sphere = E_gauss / d
    square = weight_std**2 / (X.shape[1] if directions == "sphere" else 1)
    second = square * a * b * _order1(angle) if train != "first" else 0
    first = outer_square * (X @ X2.T) * _order0(angle) if train != "second" else 0
    return second + first


class _Covariance:
    """Covariances of a Gaussian pair: deviations a (n, 1) and b (1, n2); gap = 1 - correlation, sum = 1 + correlation.

    Both gap and sum are carried, so that neither nearly equal nor nearly opposite inputs lose digits.
    """

    def __init__(self, a: Tensor, b: Tensor, gap: Tensor, sum: Tensor) -> None:
        self.a, self.b, self.gap, self.sum = a, b, gap, sum

    @property
    def correlation(self) -> Tensor:
        return (self.sum - self.gap) / 2

    @property
    def cross(self) -> Tensor:
        return self.a * self.b * self.correlation

    def affine(self, weight_std: float, bias_std: float) -> _Covariance:
        """Pass through z = W a / sqrt(fan_in) + b with independent Gaussian W and b."""
        a, b = self.a * weight_std, self.b * weight_std
        if not bias_std:
            return _Covariance(a, b, self.gap, self.sum)
        shift = torch.as_tensor(bias_std, dtype=a.dtype, device=a.device)
        a_new, b_new = torch.hypot(a, shift), torch.hypot(b, shift)
        share = (a / a_new) * (b / b_new)
        correlation = share * self.correlation + (shift / a_new) * (shift / b_new)
        # 1 - correlation^2 without cancellation: with a common variance beta = shift^2,
        # a'^2 b'^2 - c'^2 = a^2 b^2 (1 - rho^2) + beta ((a - b)^2 + 2 a b (1 - rho)); each quotient is at most one
        difference = (a - b) / torch.maximum(a_new, b_new) * (shift / torch.minimum(a_new, b_new))
        added = difference**2 + 2 * share * self.gap * (shift / a_new) * (shift / b_new)
        determinant = share**2 * self.gap * self.sum + added
        gap = torch.where(correlation > 0, determinant / (1 + correlation), 1 - correlation)
        opposite = torch.where(correlation < 0, determinant / (1 - correlation), 1 + correlation)
        return _Covariance(a_new, b_new, gap, opposite)

    def relu(self) -> tuple[_Covariance, Tensor]:
        """Pass through the ReLU; also return E[sigma' sigma']."""
        angle = 2 * torch.atan2(self.gap.clamp_min(0).sqrt(), self.sum.clamp_min(0).sqrt())
        # 1 - kappa_1 with every small term computed as a small term; kappa_1 >= 0: 1 + kappa_1 needs no care
        gap = (self.gap - (angle.sin() - angle * angle.cos()) / math.pi).clamp(0, 1)
        return _Covariance(self.a / math.sqrt(2), self.b / math.sqrt(2), gap, 2 - gap), _order0(angle)


def _relu_limits(
    X: Tensor, X2: Tensor | None, depth: int, init_std: float, bias: bool | str, output_bias: bool | str
) -> tuple[Tensor, Tensor]:
    """Return the covariance of one output and the tangent kernel of one output, each (n, n2)."""
    X, X2 = inputs(X, X2)
    if depth < 1:
        raise InputError(f"depth: expected at least 1 weight layer, got {depth}")
    deviation = {False: 0.0, "zero": 0.0, "normal": init_std}
    for name, law in (("bias", bias), ("output_bias", output_bias)):
        if law not in deviation:
            raise InputError(f"{name}: expected False, 'zero' or 'normal', got {law!r}; no other law has a closed form")
    a, b, angle = _geometry(X, X2)
    root = math.sqrt(X.shape[1])
    features = _Covariance(a / root, b / root, 2 * (angle / 2).sin() ** 2, 2 * (angle / 2).cos() ** 2)
    ntk, derivative = torch.zeros_like(angle), torch.zeros_like(angle)
    for layer, law in enumerate([bias] * (depth - 1) + [output_bias]):
        # the gradient in this layer's own weights does not carry their variance: W enters as W/sqrt(fan_in)
        ntk = init_std**2 * derivative * ntk + features.cross + (law is not False)
        signal = features.affine(init_std, deviation[law])
        if layer + 1 < depth:
            features, derivative = signal.relu()
    for found in (signal.cross, ntk):
        if not found.isfinite().all():
            raise InputError(f"X: the kernel of inputs this large overflows {X.dtype}; use float64 or scale the inputs")
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
