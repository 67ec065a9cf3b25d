"""The kernel regime of the hardness chapter: flows, Gram matrices, spectra, against autograd and closed forms."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import eval_gegenbauer, eval_legendre

from traindyn.measure.kernels import arc_cosine
from traindyn.measure.ntk import empirical_ntk
from traindyn.measure.random_features import random_features
from traindyn.studies.hardness import deep, grams, regime, spectrum, wide


def state(m: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, 1 + d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_flow_and_gram_matrix_are_those_of_autograd():
    w, X = state(7, 3).requires_grad_(), state(5, 2, 1)
    y = state(5, 0, 2)[:, 0]
    f = wide.output(w, X)
    (slope,) = torch.autograd.grad((f - y).square().sum() / 2, w, retain_graph=True)
    assert torch.allclose(wide.velocity(w.detach(), X, y), -slope)
    rows = torch.stack([torch.autograd.grad(value, w, retain_graph=True)[0].flatten() for value in f])
    assert torch.allclose(wide.gram(w.detach(), X), rows @ rows.T)
    both = random_features(X, weights=w.detach()[:, 1:], outer=w.detach()[:, 0], train="both")
    assert torch.allclose(wide.gram(w.detach(), X), 7 * both)


def test_random_features_in_closed_form_are_the_flow_with_resting_inner_weights():
    seeds = [3, 4]
    X, Z = wide.sphere(seeds, "x", 4, 5), wide.sphere(seeds, "z", 6, 5)
    b, y = wide.sphere(seeds, "b", 9, 5), state(2, 3)
    features = wide.Features(b, X, y, Z)
    phi = torch.relu(X @ b.mT)
    a, step = torch.zeros(2, 9, dtype=torch.float64), 1e-3
    for _ in range(2000):
        e = (phi @ a[..., None])[..., 0] - y
        a = a - step * (e[..., None, :] @ phi)[..., 0, :]
    assert torch.allclose(features.at(2.0), (torch.relu(Z @ b.mT) @ a[..., None])[..., 0], atol=2e-3)
    assert features.at(0.0).abs().max() == 0


def test_the_limit_is_the_mean_over_the_sphere():
    X = wide.sphere([0], "x", 4, 3)
    K = wide.limit(X)[0]
    assert torch.allclose(K, arc_cosine(X[0]) / 3)
    b = wide.sphere([0], "b", 400_000, 3)[0]
    mean = wide.gram(wide.at_zero(b), X[0]) / len(b)
    assert (mean - K).abs().max() < 2e-3
    assert torch.allclose(K.diagonal(), torch.full((4,), 1 / 6, dtype=torch.float64))


def test_the_printed_width_and_the_cases_in_which_it_can_be_met():
    low = 0.25 - 1 / (4 * math.pi)  # two orthogonal points on the circle
    m10, m13 = regime.widths(2, low, 0.1)
    assert m10 == math.ceil(20 * math.log(80) / low**2) and m13 == math.ceil(16 * math.log(40) / low**2)
    size = SimpleNamespace(starts=2, unseen=8, horizon=2.0, records=4, steps=2)
    found = regime.premises([0], size, 0.5)
    assert (found[["failed10", "failed10_wide", "failed13"]] == 0).all().all() and len(found) == 3
    assert found["closeness"].between(0, 0.1).all()


def test_trajectories_of_one_seed_do_not_depend_on_the_others():
    size = SimpleNamespace(n=3, d=4, widths=[40, 80], unseen=10, horizon=2.0, records=8, steps=4)
    both, shown = regime.trajectories([1, 2], size, 0.1)
    alone, _ = regime.trajectories([2], size, 0.1)
    assert np.allclose(both.loc[2], alone.loc[2], rtol=1e-9) and shown["risk"].max() == pytest.approx(1)
    assert (both["thm10"] <= 1 + 1e-9).all() and (both["closeness_bound"] < 1).all()
    fits = regime.slopes(both, ["outer", "inner"])
    assert list(fits.columns) == ["outer_slope", "inner_slope"] and (fits["inner_slope"] < fits["outer_slope"]).all()


def test_slips_of_the_proof():
    found = regime.slips()
    assert found["gradient"] == pytest.approx(2) and found["root"] == pytest.approx(-1, abs=1e-3)
    shift = regime.shifts([0, 1], SimpleNamespace(n=4, d=5), [100, 400])
    assert (shift["stability"] - 1).abs().max() < 0.3


def test_scaling_convergence_and_positivity():
    found = grams.scaling([0], SimpleNamespace(n=4, m=10, d=3)).iloc[0]
    assert found["printed"] == pytest.approx(1 - 1 / 4) and found["mended"] < 1e-12
    assert max(found["residual"], found["residual_slow"]) < 1e-5
    size = SimpleNamespace(n=4, d=3, widths=[100, 10_000])
    for balanced, power in ((False, 1), (True, 0)):
        rows, fit = grams.convergence([0, 1], size, balanced)
        assert (rows.xs(10_000, level="width")["error"] < 0.1).all()
        assert (fit["trace_slope"] - power).abs().max() < 0.1 and (fit["slope"] < 0).all()
    coin = grams.positivity([0.1])
    assert coin["printed"].iloc[0] == pytest.approx(6 / 32 / 0.1) and coin["right"].iloc[0] <= 1
    share = grams.positivity_share([0], SimpleNamespace(points=[2], draws=50), 0.1)
    assert 0 <= share["share_over_delta"].iloc[0] <= 10


def test_the_representer_theorem():
    size = SimpleNamespace(n=4, d=5, m=30, unseen=20, steps=50)
    found = grams.representer([0, 1], size)
    assert (found[["gap", "gap_slow"]] < 1e-10).all().all() and (found["unscaled"] - 3).abs().max() < 1e-9
    assert (found["outside"] > 1e-2).all()


@pytest.mark.parametrize("d", [3, 4, 7])
def test_funk_hecke_coefficients_by_quadrature(d):
    degree, square, count = spectrum.coefficients(d, 8)
    assert degree.tolist() == [0, 1, 2, 4, 6, 8]
    c = math.gamma(d / 2) / (math.sqrt(math.pi) * math.gamma((d - 1) / 2))
    alpha = (d - 2) / 2
    for level, value in zip(degree.astype(int), square, strict=True):
        top = eval_gegenbauer(level, alpha, 1.0)

        def integrand(t, level=level, top=top):
            return t * eval_gegenbauer(level, alpha, t) / top * (1 - t * t) ** ((d - 3) / 2)

        assert value == pytest.approx((c * quad(integrand, 0, 1)[0]) ** 2, rel=1e-7)
    if d == 3:
        assert np.allclose(count, 2 * degree + 1)


def test_eigenvalues_add_up_to_the_kernel_and_give_it_back():
    found = spectrum.decay([3, 5])
    assert (found["trace_gap"] < 1e-9).all() and (found["eigenvalue_gap"].abs() < 1e-2).all()
    assert (found["width_gap"].abs() < 1e-2).all() and (found["width_excess"] < 0).all()
    degree, square, count = spectrum.coefficients(3, 400)
    u = 0.3
    legendre = eval_legendre(degree.astype(int), u)
    exact = (math.sqrt(1 - u * u) + u * (math.pi - math.acos(u))) / (6 * math.pi)
    assert float((square * count * legendre).sum()) == pytest.approx(exact, abs=1e-5)


def test_points_pairs_and_spaces():
    size = SimpleNamespace(dims=[3], points=[20, 40], cube_dims=[3, 4])
    found, shown = spectrum.random_points([0, 1], size)
    assert (found["above_pair"] == 0).all() and (shown["smallest"] > 0).all()
    assert found.loc[1].equals(spectrum.random_points([1], size)[0].loc[1])
    assert (spectrum.parity_width([0], size)["gap"] < 1e-12).all()
    aligned = spectrum.aligned([0], SimpleNamespace(dims=[4], angles=[0.1, 0.02])).iloc[0]
    assert (
        aligned["coincident"] < 1e-12 and aligned["singular"] < 1e-12 < aligned["regular"] and aligned["spread"] < 0.05
    )
    curve = spectrum.curve([3], most=20, far=2000)
    assert curve["width"].iloc[0] == curve["printed"].iloc[0] and curve["width"].is_monotonic_decreasing


class Three(torch.nn.Module):
    """The network of `deep` for one seed, as a module."""

    def __init__(self, weights):
        super().__init__()
        self.weights = torch.nn.ParameterList([part[0] for part in weights])

    def forward(self, X):
        W1, W2, W3 = self.weights
        h = torch.relu(X @ W1.T / math.sqrt(X.shape[1])) @ W2.T / math.sqrt(W2.shape[1])
        return (torch.relu(h) @ W3.T / math.sqrt(W3.shape[1]))[:, 0]


def test_the_deep_network_and_its_kernel():
    weights, X = deep.start([5], 6, 3), wide.sphere([5], "x", 4, 3)
    model = Three(weights)
    f, inputs, slopes = deep.passed(weights, X)
    assert torch.allclose(f[0], model(X[0]))
    assert torch.allclose(deep.gram(weights, X)[0], empirical_ntk(model, X[0], method="jacobian"), atol=1e-10)
    size = SimpleNamespace(n=4, d=3, widths=[32, 128], rate=0.5, steps=100)
    both, fits = deep.experiment([0, 1], size)
    alone, _ = deep.experiment([1], size)
    assert np.allclose(both.loc[1], alone.loc[1], rtol=1e-6) and (both["end"] < 1e-2).all()
    assert (fits["middle_slope"] < 0).all()
