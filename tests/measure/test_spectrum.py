"""Eigenpairs, loss shares, critical rates and matrix-free top eigenvalues against dense linear algebra and training."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from traindyn import losses
from traindyn.errors import InputError, NotFiniteError
from traindyn.learn.models import FCN, ViT
from traindyn.measure.lanczos import top_eig
from traindyn.measure.ntk import empirical_ntk
from traindyn.measure.spectrum import (
    batch_critical_lr,
    critical_lr,
    hessian_top_eig,
    ntk_top_eig,
    split_loss,
    times_critical,
    top_eigs,
    top_norm,
)

D = torch.float64
SQUARED = ["mse", "mse_entries", "half_mse", "half_sum"]


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=D, generator=torch.Generator().manual_seed(seed))


def fcn(in_dim=4, width=8, depth=3, out_dim=1, **options):
    return FCN(in_dim, width, depth, out_dim, generator=torch.Generator().manual_seed(0), **options).double()


def dense_hessian(model, X, y, loss):
    names = [name for name, _ in model.named_parameters()]
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    shapes = [p.shape for p in model.parameters()]

    def value(vector):
        parts = vector.split([shape.numel() for shape in shapes])
        weights = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return losses.value(loss, torch.func.functional_call(model, weights, (X,)), y)

    # not torch.func.hessian: vmap over the second derivative of a layer norm is wrong in torch 2.13
    return torch.autograd.functional.hessian(value, flat)


def test_top_eigs_are_the_largest_eigenpairs_in_descending_order():
    B = randn(7, 7)
    K = B @ B.T
    eigs = top_eigs(K, 3)
    assert torch.allclose(eigs.values, torch.linalg.eigvalsh(K).flip(0)[:3])
    assert torch.allclose(K @ eigs.vectors, eigs.vectors * eigs.values, atol=1e-10)
    assert torch.allclose(eigs.vectors.T @ eigs.vectors, torch.eye(3, dtype=D), atol=1e-12)


def test_a_matrix_that_single_precision_cannot_take_is_solved_in_double(monkeypatch):
    model, X = fcn().float(), randn(6, 4).float()
    K = empirical_ntk(model, X)
    values = torch.linalg.eigvalsh(K.double())

    def failing(solver, precisions):
        def solve(matrix):
            if matrix.dtype in precisions:
                raise torch.linalg.LinAlgError("did not converge")
            assert matrix.abs().max() <= 1
            return solver(matrix)

        return solve

    solvers = {name: getattr(torch.linalg, name) for name in ("eigh", "eigvalsh")}
    for name, solver in solvers.items():
        monkeypatch.setattr(torch.linalg, name, failing(solver, {torch.float32}))
    assert top_eigs(K, 1).values[0] == pytest.approx(values[-1].item(), rel=1e-6)
    assert top_norm(model, X) == pytest.approx(values[-1].item(), rel=1e-6)
    assert critical_lr(K) == pytest.approx(len(K) / values[-1].item(), rel=1e-6)
    for name, solver in solvers.items():
        monkeypatch.setattr(torch.linalg, name, failing(solver, {torch.float32, torch.float64}))
    assert top_norm(model, X).isnan()
    with pytest.raises(NotFiniteError, match="cannot be computed"):
        top_eigs(K, 1)


@pytest.mark.parametrize("loss", SQUARED)
@pytest.mark.parametrize("outputs", [1, 3])
def test_loss_splits_exactly_into_leading_part_and_rest(loss, outputs):
    model, X = fcn(out_dim=outputs), randn(12, 4)
    f = model(X).detach()
    y = randn(*f.shape, seed=1)
    eigs = top_eigs(empirical_ntk(model, X, outputs="full"), 10)
    parts = split_loss(eigs, f - y, (1, 5, 10), loss)
    whole = losses.value(loss, f, y)
    assert torch.allclose(parts.sum(1), whole.expand(3), rtol=1e-12)
    assert (parts[:, 0].diff() >= 0).all()
    along = eigs.vectors[:, 0].reshape(f.shape)  # a residual along the leading direction lies in the leading part
    assert torch.allclose(split_loss(eigs, along, [1], loss)[0, 1], torch.zeros((), dtype=D), atol=1e-25)
    last = top_eigs(empirical_ntk(model, X, outputs="full"), 12 * outputs).vectors[:, -1].reshape(f.shape)
    assert split_loss(eigs, last, [10], loss)[0, 0] < 1e-20


def test_vectors_of_a_summed_kernel_act_on_every_output():
    model, X = fcn(out_dim=3), randn(6, 4)
    eigs, R = top_eigs(empirical_ntk(model, X), 2), randn(6, 3, seed=1)
    expected = (eigs.vectors[:, :2].T @ R).square().sum() / 6
    assert torch.allclose(split_loss(eigs, R, [2])[0, 0], expected)


@pytest.mark.parametrize("loss", SQUARED)
@pytest.mark.parametrize("outputs", [1, 2])
def test_critical_rate_is_the_edge_of_contraction_of_a_linear_model(loss, outputs):
    model, X = fcn(depth=1, out_dim=outputs), randn(5, 4)
    y = randn(*model(X).shape, seed=1)
    K = empirical_ntk(model, X, outputs="full")
    lr = critical_lr(K, n=5, loss=loss)
    top = top_eigs(K, 1).vectors[:, 0].reshape(y.shape)

    def along(rate):
        model.zero_grad()
        before = (model(X) - y).detach()
        losses.value(loss, model(X), y).backward()
        weight = model.layers[0].weight
        with torch.no_grad():
            weight -= rate * weight.grad
            after = model(X) - y
            weight += rate * weight.grad
        return ((after * top).sum() / (before * top).sum()).item()

    assert along(lr) == pytest.approx(-1, abs=1e-9)
    assert abs(along(0.99 * lr)) < 1 < abs(along(1.01 * lr))
    # for a linear model the Gauss-Newton matrix is the Hessian
    assert 2 / lr.item() == pytest.approx(torch.linalg.eigvalsh(dense_hessian(model, X, y, loss))[-1].item())


def test_critical_rates_of_an_epoch_match_one_kernel_per_batch(monkeypatch):
    X, batches = randn(11, 4), [torch.tensor(b) for b in ([0, 3, 5], [1, 2], [4, 4, 7], [10, 9, 8, 6])]
    for outputs, loss in ((1, "mse"), (2, "mse_entries"), (2, "half_sum")):
        model = fcn(out_dim=outputs)
        expected = [critical_lr(empirical_ntk(model, X[b], outputs="full"), n=len(b), loss=loss) for b in batches]
        for together in (1024, 5, 1):
            monkeypatch.setattr("traindyn.measure.spectrum.rates.TOGETHER", together)
            assert torch.allclose(batch_critical_lr(model, X, batches, loss), torch.stack(expected))
    whole = batch_critical_lr(model, X, torch.arange(11).view(1, 11), "mse")
    assert torch.allclose(whole[0], critical_lr(empirical_ntk(model, X, outputs="full"), n=11))


def test_times_critical_reads_the_state():
    model, X = fcn(), randn(6, 4)
    rate = times_critical(5 / 3)
    state = SimpleNamespace(
        model=model, X=X, y=None, step=0, seed=0, lr=0.1, batch=None, loss=None, loss_name="half_mse"
    )
    expected = 5 / 3 * critical_lr(empirical_ntk(model, X), loss="half_mse").item()
    assert rate(state) == pytest.approx(expected)
    assert rate.ratio == 5 / 3


def test_lanczos_finds_the_largest_not_the_most_extreme_eigenvalue():
    Q = torch.linalg.qr(randn(30, 30))[0]
    values = torch.cat([torch.tensor([-9.0, 2.0], dtype=D), torch.linspace(-1, 1, 28, dtype=D)])
    A = Q @ torch.diag(values) @ Q.T
    found = top_eig(lambda v: A @ v, randn(30, seed=1), tol=1e-10)
    assert found.value.item() == pytest.approx(2, abs=1e-9)
    assert found.residual < 1e-4 and found.products < 30
    exact = top_eig(lambda v: A @ v, randn(30, seed=1), tol=0)  # as many products as dimensions
    assert exact.value.item() == pytest.approx(2, abs=1e-12)
    assert top_eig(lambda v: 3 * v, randn(5)).value.item() == pytest.approx(3)
    assert top_eig(lambda v: 0 * v, randn(5)).value == 0
    assert top_eig(lambda v: -2 * v, randn(1)).value.item() == pytest.approx(-2)


def test_an_iteration_that_runs_out_of_products_says_so():
    Q = torch.linalg.qr(randn(60, 60))[0]
    A = Q @ torch.diag(torch.linspace(0.99, 1, 60, dtype=D)) @ Q.T
    with pytest.warns(UserWarning, match="5 products"):
        short = top_eig(lambda v: A @ v, randn(60, seed=1), tol=1e-9, most=5)
    assert not short.converged and short.products == 5 and short.error > 1e-9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = top_eig(lambda v: A @ v, randn(60, seed=1), tol=1e-9)
        assert whole.converged and whole.value.item() == pytest.approx(1, abs=1e-9)
    model, X, y = fcn(), randn(9, 4), randn(9, seed=1)
    with pytest.warns(UserWarning, match="2 products"):
        assert not hessian_top_eig(model, X, y, tol=1e-12, most=2).converged


@pytest.mark.parametrize("outputs", [1, 3])
def test_matrix_free_kernel_norm(outputs):
    model, X = fcn(out_dim=outputs), randn(9, 4)
    found = ntk_top_eig(model, X)
    assert found.value.item() == pytest.approx(
        top_eigs(empirical_ntk(model, X, outputs="full"), 1).values.item(), rel=1e-6
    )
    assert all(p.grad is None for p in model.parameters())


def test_matrix_free_norms_pass_through_attention():
    model = ViT((1, 4, 4), 2, depth=1, dim=4, heads=2, patch=2, generator=torch.Generator().manual_seed(0)).double()
    X, y = randn(4, 1, 4, 4), randn(4, 2, seed=1)
    exact = top_eigs(empirical_ntk(model, X, outputs="full"), 1).values.item()
    assert ntk_top_eig(model, X).value.item() == pytest.approx(exact, rel=1e-6)
    top = torch.linalg.eigvalsh(dense_hessian(model, X, y, "mse"))[-1].item()
    assert hessian_top_eig(model, X, y, tol=1e-6).value.item() == pytest.approx(top, rel=1e-5)


@pytest.mark.parametrize("loss", ["mse", "half_sum", "cross_entropy", lambda f, y: (f - y).pow(4).mean()])
def test_hessian_norm_within_its_tolerance(loss):
    model, X = fcn(out_dim=3, activation="tanh"), randn(10, 4)
    y = torch.arange(10) % 3 if loss == "cross_entropy" else randn(10, 3, seed=1)
    values = torch.linalg.eigvalsh(dense_hessian(model, X, y, loss))
    found = hessian_top_eig(model, X, y, loss)
    assert found.value.item() == pytest.approx(values[-1].item(), rel=1e-3)
    assert (values - found.value).abs().min() <= found.residual * (1 + 1e-9)
    with torch.no_grad():
        assert torch.equal(hessian_top_eig(model, X, y, loss).value, found.value)
    assert all(p.grad is None for p in model.parameters())


def test_hessian_of_a_model_that_is_linear_in_its_weights():
    model, X = fcn(depth=1), randn(5, 4)
    assert hessian_top_eig(model, X, randn(5)).value.item() == pytest.approx(
        2 / critical_lr(empirical_ntk(model, X)).item(), rel=1e-3
    )


def test_curvlinops_and_arpack_find_the_same_value_with_several_times_the_products():
    curvlinops = pytest.importorskip("curvlinops")
    from scipy.sparse.linalg import LinearOperator, eigsh
    from torch import nn

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    X, y = randn(20, 4), randn(20, 1, seed=1)
    params = list(model.parameters())
    operator = curvlinops.HessianLinearOperator(model, nn.MSELoss(), params, [(X, y)])
    dense, count = operator.to_scipy(), 0

    def product(v):
        nonlocal count
        count += 1
        return dense @ v

    shape = (sum(p.numel() for p in params),) * 2
    start = np.random.default_rng(0).normal(size=shape[0])
    theirs = eigsh(LinearOperator(shape, product, dtype=float), k=1, which="LA", tol=1e-3, v0=start)[0][0]
    found = hessian_top_eig(model, X, y, "mse_entries")
    assert found.value.item() == pytest.approx(theirs, rel=2e-3)
    assert 3 * found.products <= count


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: top_eigs(torch.ones(3, 4), 1), "square"),
        (lambda: top_eigs(torch.eye(3), 4), "1 to 3"),
        (lambda: top_eigs(torch.full((2, 2), torch.nan), 1), "NaN"),
        (lambda: critical_lr(torch.eye(3), n=2), "divisor"),
        (lambda: critical_lr(torch.eye(3), loss="hinge"), "hinge"),
        (lambda: split_loss(top_eigs(torch.eye(4), 2), torch.ones(3)), "does not fit"),
        (lambda: split_loss(top_eigs(torch.eye(4), 2), torch.ones(4), [3]), "1 to 2"),
        (lambda: batch_critical_lr(FCN(2, 2, 2), torch.ones(3, 2), []), "batches"),
        (lambda: hessian_top_eig(FCN(2, 2, 2).requires_grad_(False), torch.ones(3, 2), torch.ones(3)), "trainable"),
        (lambda: hessian_top_eig(FCN(2, 2, 2), torch.ones(3, 2), torch.ones(3, 1)), "same shape"),
        (lambda: hessian_top_eig(FCN(2, 2, 2), torch.full((3, 2), torch.nan), torch.ones(3)), "NaN"),
    ],
)
def test_mistakes_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_kernel_of_single_precision_may_be_read_in_double():
    X = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    model = FCN(30, 200, 4, generator=torch.Generator().manual_seed(1))
    K = empirical_ntk(model, X)
    K[3, 5] += 1e-6 * K.max()  # rounding of sums in another order
    assert critical_lr(K.double()) == pytest.approx(float(critical_lr(K)), rel=1e-4)
    with pytest.raises(InputError, match="not symmetric"):
        critical_lr(torch.triu(K).double())
