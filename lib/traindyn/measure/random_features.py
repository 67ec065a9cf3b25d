"""Random-feature averages at finite width, which tend to the kernels of infinitely wide networks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import jvp

from traindyn.compute import chunk_size
from traindyn.errors import InputError, choose
from traindyn.layers import ACTIVATIONS
from traindyn.measure.kernels import TRAINED, inputs


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
    X, X2 = inputs(X, X2)
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
