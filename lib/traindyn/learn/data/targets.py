"""Target functions of standard normal inputs that know their gradient covariance (EGOP) and variance in closed form."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from traindyn.errors import InputError


def _moment(powers: Counter[int]) -> float:
    """E[prod_i x_i^p_i] for independent standard normal x_i: a product of double factorials, 0 if any power is odd."""
    if any(power % 2 for power in powers.values()):
        return 0.0
    return float(math.prod(math.prod(range(power - 1, 0, -2)) for power in powers.values()))


def _gaussian_product(left: Mapping[tuple[int, ...], float], right: Mapping[tuple[int, ...], float]) -> float:
    return sum(a * b * _moment(Counter(p + q)) for p, a in left.items() for q, b in right.items())


class Polynomial:
    r"""A polynomial f(x) = sum over terms of coefficient * product of coordinates.

    Its moments under x ~ N(0, I_d) are sums of products of Gaussian moments, hence exact.

    Args:
        terms: {coordinates: coefficient}; the coordinates (0, 0, 3) stand for x_0^2 x_3, () for a constant.
        name: for labels.

    Raises:
        InputError: there is no term, or a coordinate is not an integer >= 0.

    Example:
        >>> Polynomial({(0, 1): 1.0}).egop(3)
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 0.]])
    """

    def __init__(self, terms: Mapping[tuple[int, ...], float], name: str = "polynomial") -> None:
        collected: dict[tuple[int, ...], float] = {}
        for coordinates, coefficient in terms.items():
            if not all(isinstance(i, int) and i >= 0 for i in coordinates):
                raise InputError(f"terms: expected tuples of coordinates >= 0, got {coordinates!r}")
            key = tuple(sorted(coordinates))
            collected[key] = collected.get(key, 0.0) + float(coefficient)
        if not collected:
            raise InputError("terms: expected at least one term, got none")
        self.terms, self.name = collected, name
        self.min_dim = 1 + max((max(key) for key in collected if key), default=0)

    def __call__(self, X: Tensor) -> Tensor:
        """Map X of shape (n, d), d >= `min_dim`, to (n,)."""
        self._check_dim(X.shape[-1])
        total = X.new_zeros(X.shape[:-1])
        for coordinates, coefficient in self.terms.items():
            product = torch.ones_like(total)
            for i in coordinates:
                product = product * X[..., i]
            total = total + coefficient * product
        return total

    def _check_dim(self, d: int) -> None:
        if d < self.min_dim:
            raise InputError(f"d: the target '{self.name}' needs at least {self.min_dim} input dimensions, got {d}")

    def _derivative(self, i: int) -> dict[tuple[int, ...], float]:
        derived = {}
        for key, coefficient in self.terms.items():
            if power := key.count(i):
                rest = list(key)
                rest.remove(i)
                derived[tuple(rest)] = coefficient * power
        return derived

    def egop(self, d: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        r"""Return G* = E[grad f(x) grad f(x)^T] over x ~ N(0, I_d), exactly.

        Args:
            d: input dimension, >= `min_dim`.
            dtype, device: of the result; torch's defaults if None.

        Raises:
            InputError: d is too small.
        """
        self._check_dim(d)
        gradient = [self._derivative(i) for i in range(self.min_dim)]
        G = torch.zeros(d, d, dtype=torch.float64)
        for i, left in enumerate(gradient):
            for j, right in enumerate(gradient[: i + 1]):
                G[i, j] = G[j, i] = _gaussian_product(left, right)
        return G.to(dtype=dtype or torch.get_default_dtype(), device=device)

    def variance(self, d: int) -> float:
        """Return Var f(x) over x ~ N(0, I_d), exactly; it does not depend on d."""
        self._check_dim(d)
        return _gaussian_product(self.terms, self.terms) - _gaussian_product(self.terms, {(): 1.0}) ** 2


class Norm:
    r"""The full-rank target f(x) = ||x|| / sqrt(d): every direction counts equally, so features cannot help."""

    name, min_dim = "norm", 1

    def __call__(self, X: Tensor) -> Tensor:
        """Map X of shape (n, d) to (n,)."""
        return X.norm(dim=-1) / math.sqrt(X.shape[-1])

    def egop(self, d: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """Return G* = E[grad f(x) grad f(x)^T] = I_d / d^2 over x ~ N(0, I_d) (any rotation-invariant law).

        Args:
            d: input dimension.
            dtype, device: of the result; torch's defaults if None.
        """
        return torch.eye(d, dtype=dtype or torch.get_default_dtype(), device=device) / d**2

    def variance(self, d: int) -> float:
        r"""Return Var f(x) = 1 - (2/d) (Gamma((d+1)/2) / Gamma(d/2))^2 over x ~ N(0, I_d), about 1/(2d)."""
        return 1 - 2 / d * math.exp(2 * (math.lgamma((d + 1) / 2) - math.lgamma(d / 2)))


def target(rank: int | str) -> Polynomial | Norm:
    r"""Return one of the regression targets of Zhu's thesis (section 4.4, appendix C.6), for x ~ N(0, I_d).

    ===========  =======================================  ==============================================  ========
    rank         f(x)                                     EGOP                                            variance
    ===========  =======================================  ==============================================  ========
    2            x_1 x_2                                  diag(1, 1, 0, ...)                              1
    3            x_1 x_2 (x_1 + ... + x_10)               G_11 = G_22 = 15, G_12 = 5, G_1k = G_2k = 2,    14
                                                          G_kl = 1 for 3 <= k, l <= 10
    4            x_1 + x_1 x_2 + x_1 x_2 x_3              diag(4, 3, 2, 1, 0, ...)                        4
                 + x_1 x_2 x_3 x_4
    "full"       ||x|| / sqrt(d)                          I_d / d^2                                       1/(2d)
    ===========  =======================================  ==============================================  ========

    Args:
        rank: 2, 3, 4 or "full".

    Returns:
        A callable (n, d) -> (n,) with `egop(d)`, `variance(d)`, `min_dim` and `name`.

    Raises:
        InputError: another rank.
    """
    if rank == 2:
        return Polynomial({(0, 1): 1.0}, name="rank-2")
    if rank == 3:
        return Polynomial({(0, 1, i): 1.0 for i in range(10)}, name="rank-3")
    if rank == 4:
        return Polynomial({tuple(range(j)): 1.0 for j in range(1, 5)}, name="rank-4")
    if rank == "full":
        return Norm()
    raise InputError(f"rank: expected 2, 3, 4 or 'full', got {rank!r}")
