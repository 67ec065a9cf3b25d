"""Infinite-width kernels against closed forms, Monte Carlo, quadrature and wide finite networks."""

import itertools
import math

import mpmath as mp
import pytest
import torch
from torch.func import functional_call, jacrev, vmap

from traindyn.compute import generator
from traindyn.errors import InputError
from traindyn.learn.models import FCN
from traindyn.measure import kernels
from traindyn.measure.random_features import random_features

torch_double = {"dtype": torch.float64}


def points(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """n points of R^d of very different norms."""
    draw = generator(seed, "points")
    X = torch.randn(n, d, generator=draw, **torch_double)
    return X * (0.2 + 3 * torch.rand(n, 1, generator=draw, **torch_double))


def finite_ntk(model: torch.nn.Module, X: torch.Tensor) -> torch.Tensor:
    """The tangent kernel by explicit Jacobians: a slow reference."""
    params = {name: value.detach() for name, value in model.named_parameters()}
    jacobian = vmap(jacrev(lambda p, x: functional_call(model, p, (x[None],))[0]), (None, 0))(params, X)
    rows = torch.cat([j.flatten(1) for j in jacobian.values()], 1)
    return rows @ rows.T


@pytest.mark.parametrize("order", [0, 1])
def test_arc_cosine_monte_carlo(order):
    X, X2 = points(5, 3), points(4, 3, seed=1)
    W = torch.randn(400_000, 3, generator=generator(0, "w"), **torch_double)
    Z, Z2 = X @ W.T, X2 @ W.T
    left, right = ((Z > 0).double(), (Z2 > 0).double()) if order == 0 else (Z.relu(), Z2.relu())
    mean = left @ right.T / len(W)
    error = ((left**2 @ (right**2).T / len(W) - mean**2) / len(W)).sqrt()
    assert ((kernels.arc_cosine(X, X2, order) - mean).abs() < 5 * error + 1e-12).all()


def test_arc_cosine_known_values():
    X = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]], **torch_double)
    expected0 = torch.tensor([[0.5, 0.25, 0.0], [0.25, 0.5, 0.25], [0.0, 0.25, 0.5]], **torch_double)
    p = 1 / (2 * math.pi)
    expected1 = torch.tensor([[2.0, 6 * p, 0.0], [6 * p, 4.5, 3 * p], [0.0, 3 * p, 0.5]], **torch_double)
    torch.testing.assert_close(kernels.arc_cosine(X, order=0), expected0, rtol=0, atol=1e-15)
    torch.testing.assert_close(kernels.arc_cosine(X, order=1), expected1, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("tiny", [1e-3, 1e-6, 1e-9])
def test_angles_keep_their_digits(tiny):
    # points at angle `tiny` and at pi - tiny: 1/2 - k_0 and k_0 are tiny/(2 pi), where arccos of a cosine has no digit
    X = torch.tensor([[1.0, 0.0]], **torch_double)
    near = torch.tensor([[math.cos(tiny), math.sin(tiny)], [-math.cos(tiny), math.sin(tiny)]], **torch_double)
    K = kernels.arc_cosine(X, near, 0)[0]
    assert float(K[1]) == pytest.approx(tiny / (2 * math.pi), rel=1e-6)
    assert float(0.5 - K[0]) == pytest.approx(tiny / (2 * math.pi), rel=1e-6, abs=2e-16)


def test_deep_kernel_of_equal_points_in_two_arguments():
    X = points(6, 5)
    K = kernels.relu_ntk(X, X.clone(), depth=4)
    torch.testing.assert_close(K, K.T, rtol=1e-13, atol=0)
    # bias-free on the diagonal: every layer halves, so Theta_L = L |x|^2 / (d 2^(L-1))
    torch.testing.assert_close(K.diagonal(), 4 * X.square().sum(1) / (5 * 8), rtol=1e-13, atol=0)


def test_zero_input_is_orthogonal():
    X = torch.tensor([[0.0, 0.0], [1.0, 2.0]], **torch_double)
    torch.testing.assert_close(kernels.arc_cosine(X, order=0)[0], torch.tensor([0.25, 0.25], **torch_double))
    assert (kernels.arc_cosine(X)[0] == 0).all() and (kernels.relu_ntk(X, depth=3)[0] == 0).all()
    assert kernels.relu_ntk(X, depth=3, bias="zero", output_bias="normal").isfinite().all()


def naive_limits(X, depth, s, biases):
    """The recursion as it is printed, with arccos: (NNGP, NTK)."""
    laws = [biases[0]] * (depth - 1) + [biases[1]]
    base = X @ X.T / X.shape[1]
    ntk = torch.zeros_like(base)
    slope = torch.zeros_like(base)
    for law in laws:
        beta = s**2 if law == "normal" else 0.0
        ntk = base + (law is not False) + s**2 * slope * ntk
        cov = s**2 * base + beta
        root = cov.diagonal().sqrt()
        theta = (cov / root[:, None] / root).clamp(-1, 1).acos()
        slope = (math.pi - theta) / (2 * math.pi)
        base = root[:, None] * root * (theta.sin() + (math.pi - theta) * theta.cos()) / (2 * math.pi)
    return cov, ntk


@pytest.mark.parametrize("biases", [(False, False), ("zero", False), ("normal", "normal"), (False, "zero")])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_recursion_as_printed(depth, biases):
    X = points(7, 4)
    options = {"depth": depth, "init_std": 1.3, "bias": biases[0], "output_bias": biases[1]}
    cov, ntk = naive_limits(X, depth, 1.3, biases)
    torch.testing.assert_close(kernels.relu_nngp(X, **options), cov, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(kernels.relu_ntk(X, **options), ntk, rtol=1e-6, atol=1e-9)
    whole = kernels.relu_ntk(X, **options)
    torch.testing.assert_close(kernels.relu_ntk(X[:3], X[3:], **options), whole[:3, 3:], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 2},
        {"depth": 3, "init_std": 1.4, "bias": "normal", "output_bias": "zero"},
        {"depth": 4, "init_std": 0.7, "bias": "zero", "output_bias": "normal"},
    ],
)
def test_wide_network_tends_to_the_limit(options):
    X = points(5, 6)
    limit = kernels.relu_ntk(X, **options)
    finite = torch.stack(
        [finite_ntk(FCN(6, 512, generator=generator(seed, "init"), **options).double(), X) for seed in range(24)]
    )
    # one network of width 512 is about 10 % off; the mean of 24 is within its own standard error of the limit
    assert ((finite.mean(0) - limit).abs() < 5 * finite.std(0) / math.sqrt(24)).all()
    assert float((finite.mean(0) - limit).norm() / limit.norm()) < 0.05


def test_nngp_is_the_covariance_of_outputs():
    X = points(3, 4)
    options = {"depth": 3, "bias": "normal", "output_bias": "normal"}
    outputs = torch.stack([FCN(4, 200, generator=generator(s, "init"), **options).double()(X) for s in range(1500)])
    limit = kernels.relu_nngp(X, **options)
    spread = (limit.diagonal()[:, None] * limit.diagonal() + limit**2).div(1500).sqrt()
    assert ((outputs.T @ outputs / 1500 - limit).abs() < 5 * spread).all()


def test_depth_two_is_the_two_layer_kernel():
    X = points(6, 3)
    # FCN: f = (1/sqrt m) v . relu(U x / sqrt d)
    torch.testing.assert_close(
        kernels.relu_ntk(X, depth=2), kernels.two_layer_relu(X / math.sqrt(3)), rtol=1e-12, atol=1e-14
    )


def test_lecture_kernels_on_the_sphere():
    X = torch.nn.functional.normalize(points(40, 7), dim=1)
    d = 7
    u = (X @ X.T).clamp(-1, 1)
    rough = {"rtol": 0, "atol": 1e-7}  # the printed forms use arccos
    first = kernels.two_layer_relu(X, train="first")
    torch.testing.assert_close(first, u * (math.pi - u.acos()) / (2 * math.pi), **rough)
    assert torch.linalg.eigvalsh(first)[0] > 0
    kappa1 = ((1 - u**2).clamp_min(0).sqrt() + u * (math.pi - u.acos())) / (2 * math.pi)
    second = kernels.two_layer_relu(X, train="second", directions="sphere")
    torch.testing.assert_close(second, kappa1 / d, **rough)
    balanced = kernels.two_layer_relu(X, weight_std=1 / math.sqrt(d))
    torch.testing.assert_close(balanced, kappa1 / d + u * (math.pi - u.acos()) / (2 * math.pi), **rough)


def test_antipodal_pairs_make_the_feature_kernel_singular():
    # sigma(z) - sigma(-z) = z: d + 1 antipodal pairs are dependent, d pairs are not
    X = torch.nn.functional.normalize(points(5, 4), dim=1)
    smallest = [
        float(torch.linalg.eigvalsh(kernels.two_layer_relu(torch.cat([P, -P]), train="second"))[0]) for P in (X[:4], X)
    ]
    assert smallest[0] > 1e-5 and abs(smallest[1]) < 1e-14


@pytest.mark.parametrize("train", ["first", "second", "both"])
@pytest.mark.parametrize("directions", ["gaussian", "sphere"])
def test_random_features_tend_to_the_limit(train, directions):
    X, X2 = points(5, 4), points(3, 4, seed=1)
    draw = generator(3, "features")
    batches = []
    for _ in range(20):
        W = torch.randn(10_000, 4, generator=draw, **torch_double)
        W = 0.5 * (torch.nn.functional.normalize(W, dim=1) if directions == "sphere" else W)
        outer = 2 * torch.rand(len(W), generator=draw, **torch_double)  # E a^2 = 4/3
        batches.append(random_features(X, X2, weights=W, outer=outer, train=train))
    finite = torch.stack(batches)
    limit = kernels.two_layer_relu(X, X2, train=train, directions=directions, weight_std=0.5, outer_square=4 / 3)
    # 5 standard errors of the mean of 20 batches; the floor covers entries that no feature reaches
    assert ((finite.mean(0) - limit).abs() < 5 * finite.std(0) / math.sqrt(20) + 1e-4).all()
    assert float((finite.mean(0) - limit).norm() / limit.norm()) < 0.03


@pytest.mark.parametrize("activation", ["relu", "tanh", "erf"])
def test_random_features_are_the_networks_tangent_kernel(activation):
    X, m = points(6, 3), 40
    model = FCN(3, m, 2, activation=activation, generator=generator(0, "init")).double()
    first, second = model.layers[0], model.layers[2]
    K = finite_ntk(model, X)
    features = {"weights": first.weight.detach(), "outer": second.weight.detach()[0], "activation": activation}
    Y = X / math.sqrt(3)
    torch.testing.assert_close(random_features(Y, train="both", **features), K, rtol=1e-12, atol=1e-13)
    chunks = random_features(Y, train="both", chunk=7, **features)
    torch.testing.assert_close(chunks, K, rtol=1e-12, atol=1e-13)


def test_erf_features_against_the_closed_form():
    # Williams (1997): E[erf(w.x) erf(w.x')] = (2/pi) asin(2 x.x' / sqrt((1 + 2|x|^2)(1 + 2|x'|^2)))
    X = points(4, 3) / 3
    W = torch.randn(200_000, 3, generator=generator(5, "w"), **torch_double)
    norm = (1 + 2 * X.square().sum(1)).sqrt()
    closed = 2 / math.pi * (2 * X @ X.T / norm[:, None] / norm).asin()
    assert (random_features(X, weights=W, activation="erf") - closed).abs().max() < 5 / math.sqrt(len(W))


def test_float32_follows_the_input():
    X = points(5, 4)
    for function in (kernels.arc_cosine, lambda Z: kernels.relu_ntk(Z, depth=4, bias="normal")):
        K = function(X.float())
        assert K.dtype == torch.float32
        torch.testing.assert_close(K.double(), function(X), rtol=1e-5, atol=1e-5)


def test_bad_input_is_named():
    X = points(3, 2)
    with pytest.raises(InputError, match="order"):
        kernels.arc_cosine(X, order=2)
    with pytest.raises(InputError, match="flatten"):
        kernels.arc_cosine(X[None])
    with pytest.raises(InputError, match="floating"):
        kernels.arc_cosine(X.long())
    with pytest.raises(InputError, match="dimension"):
        kernels.relu_ntk(X, points(3, 4), depth=2)
    with pytest.raises(InputError, match="depth"):
        kernels.relu_ntk(X, depth=0)
    with pytest.raises(InputError, match="closed form"):
        kernels.relu_ntk(X, depth=2, bias="torch")
    with pytest.raises(InputError, match="train"):
        kernels.two_layer_relu(X, train="secnd")
    with pytest.raises(InputError, match="outer"):
        random_features(X, weights=X, outer=X)


def exact_limits(X, depth, s, beta):
    """The recursion with 60 digits: (NNGP, NTK); biases have variance `beta` and train if it is > 0."""
    mp.mp.dps = 60
    rows = [[mp.mpf(float(v)) for v in x] for x in X]
    n, trained = len(rows), mp.mpf(beta > 0)
    inner = [[mp.fdot(x, y) / len(x) for y in rows] for x in rows]
    S = [[s**2 * v + beta for v in row] for row in inner]
    T = [[v + trained for v in row] for row in inner]
    for _ in range(depth - 1):
        S, T, old, tangent = [row[:] for row in S], [row[:] for row in T], S, T
        for i, j in itertools.product(range(n), repeat=2):
            root = mp.sqrt(old[i][i] * old[j][j])
            cosine = max(mp.mpf(-1), min(mp.mpf(1), old[i][j] / root)) if root else mp.mpf(0)
            angle = mp.acos(cosine)
            relu = root * (mp.sin(angle) + (mp.pi - angle) * cosine) / (2 * mp.pi)
            S[i][j] = s**2 * relu + beta
            T[i][j] = relu + trained + s**2 * tangent[i][j] * (mp.pi - angle) / (2 * mp.pi)
    return S, T


POINTS = {
    "opposite": [[1.0, 2.0], [-1.0, -2.0], [0.5, 1.0]],
    "nearly opposite": [[1.0, 2.0], [-1.0, -2.0 + 1e-6], [2.0, 4.0 - 1e-6]],
    "zero": [[0.0, 0.0], [1.0, -1.0], [-1.0, 1.0]],
    "grid": [[-1.0], [-0.5], [0.0], [0.5], [1.0]],
    "tiny and huge": [[3e-15, 1e-15], [-2e12, 1e12], [2e12, -1e12], [1.0, 1.0]],
}


@pytest.mark.parametrize("beta", [0.0, 1.3])
@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-14), (torch.float32, 3e-6)])
def test_degenerate_points_against_sixty_digits(name, depth, beta, dtype, tolerance):
    X = torch.tensor(POINTS[name], dtype=dtype)
    s = math.sqrt(beta) if beta else 1.5
    law = "normal" if beta else False
    for found, exact in zip(
        (f(X, depth=depth, init_std=s, bias=law, output_bias=law) for f in (kernels.relu_nngp, kernels.relu_ntk)),
        exact_limits(X, depth, mp.mpf(s), mp.mpf(s) ** 2 if beta else mp.mpf(0)),
        strict=True,
    ):
        scale = [mp.sqrt(exact[i][i]) for i in range(len(X))]
        for i, j in itertools.product(range(len(X)), repeat=2):
            error = abs(mp.mpf(found[i, j].item()) - exact[i][j])
            # relative to the diagonal: an entry between nearly opposite points is a small difference
            assert error <= tolerance * scale[i] * scale[j], (i, j, found[i, j].item(), float(exact[i][j]))


def test_inputs_that_leave_the_range_are_refused():
    X = torch.tensor([[1e30, 0.0], [0.0, 1.0]])
    with pytest.raises(InputError, match="overflows torch.float32"):
        kernels.relu_ntk(X, depth=3)
    assert kernels.relu_ntk(X.double(), depth=3).isfinite().all()
    with pytest.raises(InputError, match="finite"):
        kernels.relu_nngp(torch.tensor([[math.nan, 0.0]]), depth=2)
