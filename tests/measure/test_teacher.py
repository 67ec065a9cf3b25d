"""Student-teacher measures against numpy, automatic differentiation, Monte Carlo and explicit geometry; float64."""

import math

import numpy as np
import pytest
import torch

from traindyn.compute import generator
from traindyn.errors import InputError
from traindyn.layers import activations
from traindyn.learn.models import FCN
from traindyn.measure import teacher


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed, "test"))


def net(widths: list[int], seed: int) -> FCN:
    model = FCN(widths[0], widths[1:-1], len(widths) - 1, widths[-1], parameterization="standard")
    model = model.double()
    model.reset(generator(seed))
    return model


def test_correlation_is_pearsons():
    a, b = normal(50, 4), normal(50, 3, seed=1)
    wanted = np.corrcoef(a.T.numpy(), b.T.numpy())[:4, 4:]
    assert np.allclose(teacher.correlate(a, b).numpy(), wanted, atol=1e-12)
    batched = teacher.correlate(torch.stack([a, 2 * a + 1]), torch.stack([b, b]))
    assert torch.allclose(batched[0], batched[1], atol=1e-12)


def test_a_constant_node_correlates_with_nothing():
    a = normal(50, 2)
    a[:, 1] = 3.0
    rho = teacher.correlate(a, a)
    assert rho[0, 0] == pytest.approx(1) and (rho[1] == 0).all()
    with pytest.raises(InputError, match="same samples"):
        teacher.correlate(a, a[:10])


def test_correlation_of_networks_pairs_layers_and_finds_a_permuted_copy():
    model = net([5, 7, 6, 2], 0)
    copy = net([5, 7, 6, 2], 0)
    order = torch.randperm(7, generator=generator(3))
    with torch.no_grad():
        copy.layers[0].weight.copy_(2 * model.layers[0].weight[order])
    X = normal(200, 5)
    rho = teacher.correlation(copy, model, X)
    assert [tuple(part.shape) for part in rho] == [(7, 7), (6, 6)]
    assert torch.equal(rho[0].argmax(0)[order], torch.arange(7))
    assert torch.allclose(rho[0].amax(0), torch.ones(7, dtype=torch.float64))


def test_mixing_by_differentiation_is_the_recursion_and_b_is_positive():
    student, target = net([4, 6, 5, 3], 1), net([4, 3, 7, 3], 2)
    X = normal(30, 4)
    V = []
    for model in (student, target):
        layers = [m.weight.T.detach() for m in model.layers if hasattr(m, "weight")]
        V.append(teacher.top_down(layers, [(f > 0).double() for f in activations(model, X)]))
    for (A, B), ours, star in zip(teacher.mixing(student, target, X), *V, strict=True):
        assert torch.allclose(A, ours.mT @ star, atol=1e-12) and torch.allclose(B, ours.mT @ ours, atol=1e-12)
        assert torch.linalg.eigvalsh(B).min() > -1e-10
    with pytest.raises(InputError, match="same depth"):
        teacher.mixing(student, net([4, 3, 3], 0), X)


def test_angle_keeps_its_digits_near_the_ends():
    for theta in (1e-9, 1.0, math.pi - 1e-9):
        a, b = (
            torch.tensor([2.0, 0.0], dtype=torch.float64),
            torch.tensor([math.cos(theta), math.sin(theta)], dtype=torch.float64),
        )
        assert float(teacher.angle(a, b)) == pytest.approx(theta, rel=1e-7)
