"""The kernel, its limit and its reach: closed forms, quadrature, series."""

from __future__ import annotations

import math
from types import SimpleNamespace as Size

import pytest
import torch

from traindyn.studies.ntk import kernels, universality

SEEDS = [1, 2, 3]


def test_the_limit_by_closed_form_and_by_quadrature():
    angles = torch.tensor([0.0, 0.7, math.pi / 2, 2.5, math.pi], dtype=torch.float64)
    expected = angles.cos() * (math.pi - angles) / (2 * math.pi)
    torch.testing.assert_close(kernels.relu_limit(angles), expected, rtol=0, atol=1e-12)
    # tanh' at angle pi/2: independent Gaussians
    z = torch.linspace(-12, 12, 200001, dtype=torch.float64)
    mean = torch.trapezoid((1 - torch.tanh(z) ** 2) * torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi), z)
    square = torch.trapezoid((1 - torch.tanh(z) ** 2) ** 2 * torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi), z)
    found = kernels.expected_slopes(angles[[0, 2]], "tanh")
    assert found.tolist() == pytest.approx([square.item(), mean.item() ** 2], rel=1e-6)


def test_finite_kernels_scatter_as_binomials_do():
    spread, slopes = kernels.limit(SEEDS, Size(widths=[50, 800], angles=[0.5, 2.0], draws=200))
    assert spread["z"].abs().max() < 4
    assert ((slopes["slope"] + 0.5).abs() < 0.1).all() and ((slopes["fall"] - 4).abs() < 1).all()
    shapes = kernels.shapes(SEEDS, Size(widths=[10, 4000], angles=9))
    error = (shapes["kernel"] - shapes["limit"]).abs().groupby(shapes["width"]).max()
    assert error[4000] < 0.05 < error[10]


def test_the_closed_form_fits_and_a_wrong_one_does_not():
    found = kernels.closed_form(SEEDS, Size(m=20000, angles=7, points=10, d=4))
    assert (found[["z", "z_norms"]] < 4.5).all().all()
    assert (found["z_wrong"] > 20).all() and (found["eigenvalue"] > 0).all()


def test_shortest_moves_near_the_norm():
    found, gaps = kernels.least_norm(SEEDS, Size(n=4, d=5, widths=[200, 3200], draws=6))
    assert (found["move_gap"] < 1e-10).all() and (found["fall"] > 1.5).all() and (found["slope"] < 0).all()
    assert len(gaps) == 6


def test_points_and_series_of_the_kernel():
    phi = torch.linspace(0, 6, 7, dtype=torch.float64)
    for domain, u in (("circle", phi.cos()), ("slice", 2 / 3 * phi.cos() + 1 / 3)):
        assert universality.points(phi, domain).norm(dim=-1).tolist() == pytest.approx([1] * 7)
        found = universality.kernel_on(torch.zeros(1, dtype=torch.float64), phi, domain)[0]
        torch.testing.assert_close(found, u / 4 + u * u.asin() / (2 * math.pi))
    assert universality.points(phi, "slice")[:, 2].tolist() == pytest.approx([3**-0.5] * 7)


def test_frequencies_on_the_slice_and_without_it():
    found = universality.coefficients(Size(grid=2**16, highest=200))
    values = found.set_index(["domain", "frequency"])["coefficient"]
    # on the circle: u/4 has frequency 1 alone; u arcsin u with arcsin cos phi a triangle wave of odd frequencies
    assert values["circle", 1] == pytest.approx(1 / 8)
    assert values["circle", 0] == pytest.approx(1 / (2 * math.pi) * 2 / math.pi, rel=1e-6)
    read = universality.fourier(found)
    assert read["lowest"] > 0 and read["odd_free"] < 1e-12 < read["even_free"]
    assert read["decay"] == pytest.approx(-2, abs=0.02)


def test_no_kernel_sum_on_the_circle_nears_the_third_harmonic():
    found, curves = universality.interpolate([3], Size(grid=256, centres=[4, 8, 64], free=100))
    row = found.iloc[0]
    assert row["functional"] < 1e-14 and row["distance"] == pytest.approx(1) and row["distance_slice"] < 0.3
    assert row["fall"] > 2 and curves["error"].is_monotonic_decreasing
    fits = universality.fits(3, Size(shown=30)).pivot(index="angle", columns="curve", values="value")
    assert fits["circle"].abs().max() < 1e-8 and (fits["slice"] - fits["target"]).abs().max() < 0.7
    fall, _ = universality.many_dimensions([3], Size(d=5, points=[20, 300], test=100))
    assert fall["rmse_fall"].iloc[0] > 1.5
