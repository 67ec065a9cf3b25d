"""Closed-form EGOP and variance of the targets against the thesis's values, Monte Carlo and autograd."""

import math

import numpy as np
import pytest
import torch

from traindyn.compute import generator
from traindyn.errors import InputError
from traindyn.learn.data.targets import Norm, Polynomial, target
from traindyn.measure.agop import agop, alignment, baselines


def gaussian(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=generator(seed, "x"), dtype=torch.float64)


def rank3(d: int) -> torch.Tensor:
    G = torch.zeros(d, d, dtype=torch.float64)
    G[:10, :10] = 1
    G[:2, :10] = G[:10, :2] = 2
    G[:2, :2] = torch.tensor([[15.0, 5.0], [5.0, 15.0]])
    return G


def test_egop_as_derived():
    options = {"dtype": torch.float64}
    assert torch.equal(target(2).egop(12, **options), torch.diag(torch.tensor([1.0, 1.0] + [0.0] * 10, **options)))
    assert torch.equal(target(3).egop(12, **options), rank3(12))
    staircase = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0, 0.0], **options))
    assert torch.equal(target(4).egop(6, **options), staircase)
    torch.testing.assert_close(target("full").egop(6, **options), torch.eye(6, **options) / 36, rtol=1e-15, atol=0)
    eigenvalues = torch.linalg.eigvalsh(target(3).egop(100, **options)).flip(0)
    torch.testing.assert_close(eigenvalues[:4], torch.tensor([24.0, 10, 4, 0], **options), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rank, tolerance", [(2, 0.03), (3, 0.5), (4, 0.15), ("full", 1e-3)])
def test_monte_carlo_of_autograd_gradients(rank, tolerance):
    f, d = target(rank), 12
    X = gaussian(100_000, d)
    G = agop(f, X)
    H = f.egop(d, dtype=torch.float64)
    assert (G - H).abs().max() < tolerance and alignment(G, H) > 0.998
    y = f(X)
    spread = ((y - y.mean()) ** 2).std() / math.sqrt(len(y))
    assert abs(float(y.var() - f.variance(d))) < 5 * float(spread)


def test_any_polynomial_against_quadrature():
    # Gauss-Hermite with 12 nodes is exact to degree 23; the terms have constants, repeated and unsorted coordinates
    f = Polynomial({(): 0.7, (1, 0, 0): 2.0, (0, 1, 0): -0.5, (2,): 1.5, (2, 2, 2): 0.3, (0, 1, 2, 2): -1.0})
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    nodes, weights = torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
    X = torch.cartesian_prod(nodes, nodes, nodes)
    W = torch.cartesian_prod(weights, weights, weights).prod(1)
    X.requires_grad_(True)
    y = f(X)
    (gradient,) = torch.autograd.grad(y.sum(), X)
    expected = (gradient * W[:, None]).T @ gradient
    torch.testing.assert_close(f.egop(3, dtype=torch.float64), expected, rtol=1e-11, atol=1e-11)
    y = y.detach()
    variance = (W * y**2).sum() - (W * y).sum() ** 2
    assert f.variance(3) == pytest.approx(float(variance), rel=1e-11)


@pytest.mark.parametrize("rank, cosine", [(2, 0.1414), (3, 0.1445), (4, 0.1826), ("full", 1.0)])
def test_isotropic_references_in_100_dimensions(rank, cosine):
    H = target(rank).egop(100, dtype=torch.float64)
    assert baselines(H)["isotropic"] == pytest.approx(cosine, abs=5e-5)


@pytest.mark.parametrize("rank, variance", [(2, 1.0), (3, 14.0), (4, 4.0)])
def test_variances(rank, variance):
    assert target(rank).variance(20) == variance


def test_norm_variance_is_about_one_over_two_d():
    assert Norm().variance(1) == pytest.approx(1 - 2 / math.pi, rel=1e-12)
    assert Norm().variance(100) == pytest.approx(1 / 200, rel=0.01)


def test_values_dtype_and_shape():
    X = gaussian(5, 12)
    s = X[:, 0] * X[:, 1]
    torch.testing.assert_close(target(3)(X), s * X[:, :10].sum(1), rtol=1e-13, atol=1e-14)
    staircase = X[:, 0] + s + s * X[:, 2] + s * X[:, 2] * X[:, 3]
    torch.testing.assert_close(target(4)(X), staircase, rtol=1e-13, atol=1e-14)
    assert target(3)(X.float()).dtype == torch.float32 and target(2)(X).shape == (5,)
    assert target(2).egop(3).dtype == torch.get_default_dtype()


def test_bad_input_is_named():
    with pytest.raises(InputError, match="rank"):
        target(5)
    with pytest.raises(InputError, match="at least 10"):
        target(3)(torch.zeros(2, 9))
    with pytest.raises(InputError, match="at least 4"):
        target(4).egop(3)
    with pytest.raises(InputError, match="terms"):
        Polynomial({})
    with pytest.raises(InputError, match="terms"):
        Polynomial({(-1,): 1.0})
