"""Made data: laws, codings and closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from traindyn import compute
from traindyn.errors import InputError
from traindyn.learn import data

D = torch.float64


def test_parities_are_orthonormal_in_both_codings():
    d = 4
    subsets = [[i for i in range(d) if mask >> i & 1] for mask in range(2**d)]
    for coding in ("pm1", "01"):
        table = torch.stack([data.parity(d, subset, coding=coding, dtype=D)[1] for subset in subsets])
        assert torch.equal(table @ table.T / 2**d, torch.eye(2**d, dtype=D))
    pm1, y = data.parity(6, [0, 3, 5], n=50, seed=1)
    bits, same = data.parity(6, [0, 3, 5], n=50, seed=1, coding="01")
    assert torch.equal(pm1, 1 - 2 * bits) and torch.equal(y, same)
    assert torch.equal(y, pm1[:, [0, 3, 5]].prod(1)) and torch.equal(y, (-1) ** bits[:, [0, 3, 5]].sum(1))
    for bad in ({"subset": [4]}, {"subset": [1, 1]}, {"coding": "2"}):
        with pytest.raises(InputError):
            data.parity(4, **bad)
    with pytest.raises(InputError, match="too many"):
        data.parity(30)


def test_sphere_is_uniform():
    x = data.sphere(20000, 3, radius=2.0, dtype=D)
    torch.testing.assert_close(x.norm(dim=1), torch.full((20000,), 2.0, dtype=D))
    # each coordinate of a uniform point on the 2-sphere is uniform (Archimedes): variance 4/3, fourth moment 16/5
    assert (x.square().mean(0) - 4 / 3).abs().max() < 6 * math.sqrt((16 / 5 - 16 / 9) / 20000)
    assert (x.T @ x / 20000 - 4 / 3 * torch.eye(3, dtype=D)).abs().max() < 0.06


def test_clusters_and_l1_norm():
    X, y = data.two_clusters(9, centers=(-2.0, 3.0), spread=0.0)
    assert X.shape == (9, 1) and y.sum() == 1 and torch.equal(X[:, 0], torch.where(y < 0, -2.0, 3.0))
    X, y = data.l1_norm(5000, 50, seed=3, dtype=D)
    torch.testing.assert_close(y, X.abs().sum(1))
    assert abs(y.mean() - 50 * math.sqrt(2 / math.pi)) < 6 * math.sqrt(50 * (1 - 2 / math.pi) / 5000)


def test_polynomials_have_their_targets_variance():
    X, y, f = data.polynomial(3, 40000, 12, noise=0.5, seed=0, dtype=D)
    residual = y - f(X)
    assert abs(residual.std() - 0.5) < 0.01 and abs(f(X).var() / f.variance(12) - 1) < 0.15
    assert torch.equal(f.egop(12)[:2, :2], torch.tensor([[15.0, 5], [5, 15]]))


def test_teacher_nodes_are_graded_in_strength():
    teacher = data.teacher(7, [6, 5], out_dim=3, strength=1.5, seed=2)
    first, middle, last = (p.double() for p in teacher.parameters())
    torch.testing.assert_close(first.norm(dim=1), torch.ones(6, dtype=D), rtol=1e-6, atol=0)
    torch.testing.assert_close(middle.norm(dim=1), torch.ones(5, dtype=D), rtol=1e-6, atol=0)
    torch.testing.assert_close(last.norm(dim=0), torch.arange(1, 6, dtype=D) ** -1.5, rtol=1e-6, atol=0)
    assert not any(p.requires_grad for p in teacher.parameters())
    X = torch.randn(4, 7)
    assert torch.equal(teacher(X), data.teacher(7, [6, 5], out_dim=3, strength=1.5, seed=2)(X))


def test_draws_follow_the_seed_and_not_the_precision():
    for make in (data.sphere, lambda *a, **k: data.l1_norm(*a, **k)[0]):
        one = make(5, 3, seed=1, dtype=D)
        assert torch.equal(one.float(), make(5, 3, seed=1, dtype=torch.float32))
        assert not torch.equal(one, make(5, 3, seed=2, dtype=D))
    assert torch.equal(data.sphere(2, 3, seed=compute.generator(1, "data")), data.sphere(2, 3, seed=1))
