"""AGOP against explicit Jacobians and closed forms; invariances of the alignment."""

import math

import pytest
import torch
from torch.func import jacrev, vmap

from traindyn.compute import generator
from traindyn.errors import InputError
from traindyn.learn.models import FCN, ResNet
from traindyn.measure.agop import agop, alignment, baselines


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed, "x"), dtype=torch.float64)


def explicit(model, X: torch.Tensor) -> torch.Tensor:
    """(1/n) sum_i J_i^T J_i with the whole (n, c, d) Jacobian in memory."""
    J = vmap(jacrev(lambda x: model(x[None])[0]))(X)
    J = J.reshape(len(X), -1, math.prod(X.shape[1:]))
    return torch.einsum("ncd,nce->de", J, J) / len(X)


@pytest.mark.parametrize("out_dim", [1, 4])
@pytest.mark.parametrize("chunk", [None, 1, 5])
def test_agop_is_the_mean_of_jacobian_products(out_dim, chunk):
    X = gaussian(13, 6)
    model = FCN(6, 20, 3, out_dim, activation="relu", bias="normal", generator=generator(0, "init")).double()
    torch.testing.assert_close(agop(model, X, chunk=chunk), explicit(model, X), rtol=1e-12, atol=1e-14)


def test_agop_of_images_and_of_one_sample():
    X = gaussian(3, 2, 6, 6)
    model = ResNet((2, 6, 6), 3, width=4, blocks=(1, 1), generator=generator(0, "init")).double()
    torch.testing.assert_close(agop(model, X), explicit(model, X), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(agop(model, X[:1]), explicit(model, X[:1]), rtol=1e-12, atol=1e-14)


def test_manual_backward_pass_of_a_two_layer_network():
    X, m = gaussian(9, 5), 30
    model = FCN(5, m, 2, generator=generator(1, "init")).double()
    U, v = model.layers[0].weight.detach(), model.layers[2].weight.detach()[0]
    gradient = ((X @ U.T > 0) * v) @ U / math.sqrt(5 * m)
    torch.testing.assert_close(agop(model, X), gradient.T @ gradient / 9, rtol=1e-12, atol=1e-14)


def test_linear_function_has_a_rank_one_agop():
    w = gaussian(4)
    torch.testing.assert_close(agop(lambda X: X @ w, gaussian(7, 4)), torch.outer(w, w), rtol=1e-13, atol=0)


def test_agop_leaves_no_trace():
    X = gaussian(6, 4)
    model = FCN(4, 8, 2, generator=generator(0, "init")).double()
    expected = explicit(model, X)
    with torch.no_grad():
        G = agop(model, X)
    torch.testing.assert_close(G, expected, rtol=1e-12, atol=1e-14)
    assert not X.requires_grad and not G.requires_grad and all(p.grad is None for p in model.parameters())
    strided = gaussian(4, 12).T[::2]
    torch.testing.assert_close(agop(model, strided), explicit(model, strided.contiguous()), rtol=1e-12, atol=1e-14)


def test_an_output_may_ignore_the_input():
    w = gaussian(4)
    G = agop(lambda X: torch.stack([X @ w, torch.ones(len(X), dtype=X.dtype)], 1), gaussian(7, 4))
    torch.testing.assert_close(G, torch.outer(w, w), rtol=1e-13, atol=0)


def test_alignment_is_a_cosine():
    G, H = (A @ A.T for A in (gaussian(6, 3), gaussian(6, 2, seed=1)))
    Q = torch.linalg.qr(gaussian(6, 6, seed=2)).Q
    value = alignment(G, H)
    assert 0 < value < 1
    torch.testing.assert_close(alignment(1e-200 * G, 1e190 * H), value, rtol=1e-12, atol=0)
    torch.testing.assert_close(alignment(Q @ G @ Q.T, Q @ H @ Q.T), value, rtol=1e-12, atol=0)
    torch.testing.assert_close(alignment(G, G), torch.ones_like(value), rtol=1e-14, atol=0)
    torch.testing.assert_close(alignment(-G, G), -torch.ones_like(value), rtol=1e-14, atol=0)


def test_rotated_inputs_rotate_the_agop():
    X = gaussian(20, 5)
    Q = torch.linalg.qr(gaussian(5, 5, seed=2)).Q
    model = FCN(5, 30, 3, generator=generator(0, "init")).double()
    rotated = agop(lambda Z: 7 * model(Z @ Q), X @ Q.T)
    torch.testing.assert_close(rotated, 49 * Q @ agop(model, X) @ Q.T, rtol=1e-12, atol=1e-13)


def test_baselines():
    H = torch.zeros(100, 100, dtype=torch.float64)
    H[0, 0] = H[1, 1] = 1  # the rank-2 target: tr / (sqrt(d) ||H||) = 2 / (10 sqrt 2)
    first = baselines(H)
    assert first == {"isotropic": pytest.approx(math.sqrt(2) / 10, rel=1e-14)}
    initial = torch.diag(torch.arange(100.0, dtype=torch.float64))
    assert baselines(H, initial)["initial"] == pytest.approx(float(alignment(initial, H)))


def test_bad_input_is_named():
    model = FCN(4, 8, 2)
    with pytest.raises(InputError, match="X: expected inputs"):
        agop(model, torch.zeros(4))
    with pytest.raises(InputError, match="floating"):
        agop(model, torch.zeros(3, 4, dtype=torch.int64))
    with pytest.raises(InputError, match="output of shape"):
        agop(lambda X: X.sum(), gaussian(3, 4))
    with pytest.raises(InputError, match="does not depend"):
        agop(lambda X: torch.zeros(len(X)), gaussian(3, 4))
    with pytest.raises(InputError, match="not finite"):
        agop(lambda X: (X - X).norm(dim=1).sqrt(), gaussian(3, 4))
    with pytest.raises(InputError, match="eval"):
        agop(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)), gaussian(3, 4).float())
    with pytest.raises(InputError, match="equal shape"):
        alignment(torch.eye(2), torch.eye(3))
    with pytest.raises(InputError, match="non-zero"):
        alignment(torch.eye(2), torch.zeros(2, 2))
