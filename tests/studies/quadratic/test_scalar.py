"""The two-number system of the quadratic model: its law at the start, its dynamics, its thresholds."""

import numpy as np
import pytest
import torch

from traindyn.studies.quadratic import line, scalar, single, thresholds


def test_the_start_has_the_law_of_a_drawn_network():
    m, many = 12, 4000
    at = scalar.start(range(many), [m])
    draws = np.random.default_rng(0)
    z, v = draws.standard_normal((many, m)), draws.choice([-1.0, 1.0], (many, m))
    g, lam = (v * np.maximum(z, 0)).sum(1) / m**0.5, ((z > 0) * (1 + z**2)).sum(1) / m
    for ours, theirs in ((at.g[0], g), (at.lam[0], lam)):
        for power in (1, 2, 3):
            a, b = ours**power, theirs**power
            assert abs(a.mean() - b.mean()) < 4 * (a.var() / many + b.var() / many) ** 0.5
    assert abs(np.cov(at.g[0] ** 2, at.lam[0])[0, 1] - np.cov(g**2, lam)[0, 1]) < 0.05


def test_a_seed_does_not_depend_on_its_block_and_scale_enters_as_it_must():
    whole, part = scalar.start(range(5), [30, 70]), scalar.start([3], [70])
    assert whole.g[1, 3] == part.g[0, 0] and whole.lam[1, 3] == part.lam[0, 0]
    big = scalar.start([3], [70], 4.0)
    assert big.g[0, 0] == 2 * part.g[0, 0] and big.lam[0, 0] == 4 * part.lam[0, 0] and big.c[0, 0] == 4 / 70


def test_both_sides_of_a_line_share_the_neurons():
    one, two = scalar.sides(range(400), [50], np.array([3.0, 2.0]))
    total = one.lam / 3 + two.lam / 2  # (m + sum u^2) / m
    assert abs(total.mean() - 2) < 0.05 and np.corrcoef(one.lam[0], two.lam[0])[0, 1] < 0.3
    assert np.allclose(one.c, 3 / 50) and np.allclose(two.c, 2 / 50)


def test_a_run_is_gradient_descent_on_the_weights():
    u, v, x = scalar.weights(1, 40, 5)
    r, lam, lr = single._descend(u, v, x, 2.6, 60)
    at = scalar.Start(np.array([[r[0] + 1]]), np.array([[lam[0]]]), np.array([[1 / 40]]))
    runs = scalar.run(at, np.array([[2.6]]), 1.0, 60)
    assert runs.peak[0, 0] == pytest.approx((r**2 / 2).max(), rel=1e-9)
    assert runs.lam[0, 0] == pytest.approx(lam[-1], rel=1e-9)
    assert runs.change[0, 0] == pytest.approx(np.abs(lam - lam[0]).max(), rel=1e-9)
    steps = lr * np.abs(r[:-1]) * np.sqrt(lam[:-1])
    assert runs.length[0, 0] == pytest.approx(steps.sum(), rel=1e-9)
    u_, v_, w_ = scalar.trace(at, np.array([[2.6]]), 1.0, 60)
    assert np.allclose(u_[:, 0, 0], lr**2 * r**2 / 40) and np.allclose(v_[:, 0, 0], lr * lam)
    assert np.allclose(w_[:, 0, 0], lr**2 * r / 40)


def test_what_diverges_is_infinite_and_what_ends_is_small():
    at = scalar.start(range(4), [10_000])
    lost, kept = scalar.run(at, np.full(at.g.shape, 4.3)), scalar.run(at, np.full(at.g.shape, 2.5))
    assert np.isinf(lost.final).all() and np.isinf(lost.peak).all()
    assert (kept.final < 1e-20).all() and (kept.peak > 100 * kept.start.min()).any()
    assert (kept.rises > 0).all() and (scalar.run(at, np.full(at.g.shape, 1.2)).rises == 0).all()
    found = scalar.bisect(at, 1.0, 3.0, 6.0, "diverges", rounds=12, steps=500)
    assert np.allclose(found, 4, atol=0.02)


def test_a_set_on_a_line_is_two_systems():
    seed, n, m = 3, 16, 60
    lr = 0.8 / line._network(seed, 0, n, m)[2].max()
    size = type("Size", (), {"n": n, "m": m, "steps": 12})
    path = line.follow(seed, 0, size, lr, frozen=True)
    u, v, lam, (p2, yp) = line._network(seed, 0, n, m)
    for k, (name, at) in enumerate(zip(line.SIDES, (u > 0, u <= 0), strict=True)):
        y = yp[k] / p2[k] ** 0.5
        r, value, c = (u[at] * v[at]).sum() / m**0.5 * p2[k] ** 0.5 - y, lam[k], p2[k] / m
        for t in range(13):
            assert path[name][t] == pytest.approx(value, rel=1e-10)
            r, value, _ = scalar.step(r, value, c, y, lr)


def test_the_kernel_leaves_its_interval_less_often_than_the_bound_says():
    table, bound = thresholds.kernel_scale([0, 1], [10, 40, 80], 4000)
    assert (table["failures"].unstack("width") <= bound["bound"]).all(axis=None)
    assert 0.01 < thresholds.scale_bound() < 0.0625
    wide = thresholds.scale_bound(0.9)
    assert wide > thresholds.scale_bound()


def test_the_hessian_of_the_linear_model_has_the_kernels_eigenvalue():
    torch.manual_seed(0)
    X = torch.randn(5, 4, dtype=torch.float64)
    quadratic, linear = thresholds._hessian_gaps(0, X, 20)
    assert linear < 1e-12 < quadratic
    u, v, _ = scalar.weights(0, 20, 4)
    gate = (u @ X.T >= 0).double()
    y = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0], dtype=torch.float64)

    def loss(w):
        a, b = w[:80].view(20, 4), w[80:]
        return ((b @ (gate * (a @ X.T)) / 80**0.5 - y) ** 2).sum() / 2

    def outputs(w):
        a, b = w[:80].view(20, 4), w[80:]
        return b @ (gate * (a @ X.T)) / 80**0.5

    w = torch.cat([u.flatten(), v])
    top = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, w))[-1]
    J = torch.autograd.functional.jacobian(outputs, w)
    assert abs(top / torch.linalg.eigvalsh(J @ J.T)[-1] - 1) == pytest.approx(quadratic, rel=1e-8)


def test_the_lemmas_are_found_where_they_hold():
    assert single.increasing([0], [100_000], [1.0]).iloc[0].tolist() == [1, 0, 0]
    assert single.decreasing([0, 1], 10_000, 5).to_numpy().sum() == 0
    shares = single.monotone([0], 500).iloc[0]
    assert shares["printed"] > 0.5 and shares["squared"] == 0 == shares["small"]
    found = thresholds.equilibria()
    assert found["inside"] == found["edges"] == 1 and found["outside"] == 0
    assert found["u_flip"] == pytest.approx(4, abs=0.01) and found["flip"] == pytest.approx(2)
    assert found["origin"] == pytest.approx((1 + 1e-2) ** 2 - 1, abs=1e-4)  # 1 + a + 2 sqrt a, a = c y^2
