"""Made data: points on spheres and cubes, in clusters; targets that are polynomials, parities, norms or teachers."""

from __future__ import annotations

import torch
from torch import Tensor

from traindyn.compute import generator
from traindyn.errors import InputError, choose
from traindyn.learn.data.targets import Norm, Polynomial, target
from traindyn.learn.models import FCN

CODINGS = ("pm1", "01")
Draw = int | torch.Generator  # a seed, or a CPU generator


def _rng(seed: Draw) -> torch.Generator:
    return seed if isinstance(seed, torch.Generator) else generator(seed, "data")


def _normal(seed: Draw, *shape: int, dtype: torch.dtype | None) -> Tensor:
    """Return standard normal numbers, drawn in float64 so that every precision sees the same ones."""
    drawn = torch.randn(*shape, dtype=torch.float64, generator=_rng(seed))
    return drawn.to(dtype or torch.get_default_dtype())


def polynomial(
    rank: int | str, n: int, d: int, noise: float = 0.0, seed: Draw = 0, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor, Polynomial | Norm]:
    """Return X ~ N(0, I_d), y = f(X) + noise * N(0, 1), and the target f, which knows its EGOP (`f.egop(d)`).

    Args:
        rank: 2, 3, 4 or "full"; see `targets.target`.
        n, d: samples and dimensions.
        noise: standard deviation of the label noise.
        seed: a seed, or a CPU generator.
        dtype: of the result; None: torch's default.

    Returns:
        X (n, d), y (n,), f.

    Raises:
        InputError: the rank is unknown, or d is too small for it.
    """
    f, rng = target(rank), _rng(seed)
    X = _normal(rng, n, d, dtype=torch.float64)
    y = f(X) + noise * _normal(rng, n, dtype=torch.float64)
    dtype = dtype or torch.get_default_dtype()
    return X.to(dtype), y.to(dtype), f


def parity(
    d: int,
    subset: list[int] | tuple[int, ...] | None = None,
    n: int | None = None,
    coding: str = "pm1",
    seed: Draw = 0,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Return bits and their parity on a subset S of coordinates, -1 or +1.

    Coding "pm1": x in {-1, +1}^d and y = prod_{i in S} x_i. Coding "01": x in {0, 1}^d and y = (-1)^(sum_{i in S} x_i).
    The two are the same function of the bits, with x_pm1 = 1 - 2 x_01.

    Args:
        d: number of bits.
        subset: the coordinates in S; None: the first d // 2 (at least one).
        n: number of uniform draws; None: all 2^d inputs once, in counting order (d <= 24).
        coding: "pm1" or "01".
        seed: a seed, or a CPU generator.
        dtype: of the result; None: torch's default.

    Returns:
        X (n, d), y (n,).

    Raises:
        InputError: the coding or a coordinate is unknown, or 2^d inputs are too many.
    """
    choose("coding", coding, CODINGS)
    subset = range(max(1, d // 2)) if subset is None else subset
    if any(not 0 <= i < d for i in subset) or len(set(subset)) != len(subset):
        raise InputError(f"subset: expected different coordinates from 0 to {d - 1}, got {list(subset)}")
    if n is None:
        if d > 24:
            raise InputError(f"parity: 2^{d} inputs are too many to list; give n, a number of draws")
        bits = torch.arange(2**d)[:, None] >> torch.arange(d - 1, -1, -1) & 1
    else:
        bits = torch.randint(2, (n, d), generator=_rng(seed))
    dtype = dtype or torch.get_default_dtype()
    y = 1 - 2 * (bits[:, list(subset)].sum(1) % 2)
    return (1 - 2 * bits if coding == "pm1" else bits).to(dtype), y.to(dtype)


def sphere(n: int, d: int, radius: float = 1.0, seed: Draw = 0, dtype: torch.dtype | None = None) -> Tensor:
    """Return n uniform points on the sphere of this radius in d dimensions, shape (n, d).

    Args:
        n, d: points and dimensions.
        radius: Euclidean norm of every point; sqrt(d) gives entries of variance 1.
        seed: a seed, or a CPU generator.
        dtype: of the result; None: torch's default.
    """
    x = _normal(seed, n, d, dtype=torch.float64)
    return (radius * x / x.norm(dim=1, keepdim=True)).to(dtype or torch.get_default_dtype())


def two_clusters(
    n: int,
    centers: tuple[float, float] = (-1.0, 1.0),
    spread: float = 0.1,
    seed: Draw = 0,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Return 1-d inputs in two normal clusters of n // 2 and n - n // 2 points, labelled -1 and +1.

    Args:
        n: number of points.
        centers: where the clusters lie.
        spread: their standard deviation.
        seed: a seed, or a CPU generator.
        dtype: of the result; None: torch's default.

    Returns:
        X (n, 1), y (n,).
    """
    y = torch.cat([-torch.ones(n // 2, dtype=torch.float64), torch.ones(n - n // 2, dtype=torch.float64)])
    low, high = centers
    X = torch.where(y < 0, low, high) + spread * _normal(seed, n, dtype=torch.float64)
    dtype = dtype or torch.get_default_dtype()
    return X[:, None].to(dtype), y.to(dtype)


def l1_norm(n: int, d: int, seed: Draw = 0, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """Return X ~ N(0, I_d) of shape (n, d) and y = ||x||_1 of shape (n,); its mean is d sqrt(2/pi).

    Args:
        n, d: samples and dimensions.
        seed: a seed, or a CPU generator.
        dtype: of the result; None: torch's default.
    """
    X = _normal(seed, n, d, dtype=torch.float64)
    dtype = dtype or torch.get_default_dtype()
    return X.to(dtype), X.abs().sum(1).to(dtype)


def teacher(
    d: int,
    widths: int | list[int] | tuple[int, ...],
    out_dim: int = 1,
    strength: float = 0.0,
    seed: Draw = 0,
    activation: str = "relu",
) -> FCN:
    """Return a fixed random network whose nodes are graded in strength: node j of each hidden layer counts j^-strength.

    Every node's incoming weights have norm 1 and its outgoing weights have norm j^-strength (j from 1), before the
    next layer's nodes are scaled to norm 1 themselves: exact for the last hidden layer. No biases.

    Args:
        d: input dimension.
        widths: hidden widths, one integer or several.
        out_dim: number of outputs; 1 returns (n,).
        strength: decay p >= 0; 0: all nodes are alike.
        seed: a seed, or a CPU generator.
        activation: name in `layers.ACTIVATIONS`.

    Returns:
        a network without trainable weights.
    """
    widths = [widths] if isinstance(widths, int) else list(widths)
    rng = seed if isinstance(seed, torch.Generator) else generator(seed, "teacher")
    model = FCN(d, widths, len(widths) + 1, out_dim, activation, parameterization="standard", generator=rng)
    matrices = list(model.parameters())
    with torch.no_grad():
        for depth, W in enumerate(matrices):
            if depth:
                rank = torch.arange(1, W.shape[1] + 1, dtype=torch.float64)
                W.copy_((W.double() / W.double().norm(dim=0)) * rank**-strength)
            if depth < len(matrices) - 1:
                W.div_(W.norm(dim=1, keepdim=True))
    return model.requires_grad_(False)
