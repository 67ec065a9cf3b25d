"""Spectral norms of many operators by Lanczos iteration, and that of an output's Hessian."""

import pytest
import torch
from torch.func import functional_call, hessian

from traindyn.errors import InputError, NotFiniteError
from traindyn.learn.models import FCN
from traindyn.learn.models.dag import densenet
from traindyn.measure.spectral_norms import spectral_norms
from traindyn.measure.spectrum import output_hessian_norm


def symmetric(s, p, seed=0):
    A = torch.randn(s, p, p, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return A + A.mT


def test_norms_and_signs_are_those_of_the_matrices():
    A = symmetric(4, 12)
    A[1] -= 20 * torch.eye(12, dtype=torch.float64)  # the extreme eigenvalue is negative
    found = spectral_norms(lambda v, _: (A @ v[..., None])[..., 0], torch.ones(4, 12, dtype=torch.float64), tol=1e-10)
    values = torch.linalg.eigvalsh(A)
    assert torch.allclose(found.value, values.abs().amax(1), rtol=1e-8)
    assert found.sign[1] == -1 and bool(found.converged.all())
    moved = (A @ found.vector[..., None])[..., 0] - (found.sign * found.value)[:, None] * found.vector
    assert torch.allclose(moved.norm(dim=1), found.residual, atol=1e-8)
    assert torch.allclose(found.vector.norm(dim=1), torch.ones(4, dtype=torch.float64))


def test_an_operator_does_not_depend_on_the_others_beside_it():
    A = symmetric(5, 40)
    start = torch.randn(5, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    together = spectral_norms(lambda v, _: (A @ v[..., None])[..., 0], start, tol=1e-2)
    for i in range(5):
        alone = spectral_norms(lambda v, _, i=i: (A[i] @ v[..., None])[..., 0], start[i : i + 1], tol=1e-2)
        assert torch.allclose(alone.value, together.value[i], rtol=1e-12)
        assert alone.products[0] == together.products[i]


def test_coordinates_that_are_not_unique_give_the_same_norm():
    H = symmetric(1, 6)[0]
    T = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))  # nine coordinates for six
    back = torch.linalg.pinv(T)
    start = torch.randn(1, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = spectral_norms(lambda v, _: v @ (back @ H @ T).T, start, lambda v: v @ (T.T @ T), tol=1e-10)
    assert found.value.item() == pytest.approx(torch.linalg.matrix_norm(H, 2).item(), rel=1e-8)


def test_zero_and_errors():
    zero = spectral_norms(lambda v, _: 0 * v, torch.ones(2, 3, dtype=torch.float64))
    assert zero.value.tolist() == [0, 0] and bool(zero.converged.all())
    with pytest.raises(InputError, match="no length"):
        spectral_norms(lambda v, _: v, torch.zeros(1, 3))
    with pytest.raises(NotFiniteError, match="NaN"):
        spectral_norms(lambda v, _: v * torch.nan, torch.ones(1, 3))
    with pytest.warns(UserWarning, match="do not settle"):
        A = symmetric(1, 50)
        found = spectral_norms(lambda v, _: (A @ v[..., None])[..., 0], torch.ones(1, 50).double(), tol=1e-12, most=4)
    assert not found.converged[0]


@pytest.mark.parametrize("model", [FCN(3, 5, 3, activation="tanh"), densenet(3, 5, 3, activation="tanh")])
def test_the_hessian_of_an_output(model):
    model = model.double()
    x = torch.randn(1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    names = dict(model.named_parameters())
    H = hessian(lambda p: functional_call(model, p, (x,)).sum())({k: v.detach() for k, v in names.items()})
    whole = torch.cat([torch.cat([H[a][b].reshape(names[a].numel(), -1) for b in names], 1) for a in names])
    found = output_hessian_norm(model, x, tol=1e-10)
    assert found.value.item() == pytest.approx(torch.linalg.matrix_norm(whole, 2).item(), rel=1e-8)
    twice = output_hessian_norm(model, x, torch.tensor([-2.0]), tol=1e-10)
    assert twice.value.item() == pytest.approx(2 * found.value.item(), rel=1e-8)
    assert twice.sign.item() == -found.sign.item()


def test_a_linear_network_has_no_curvature_and_several_outputs_need_weights():
    assert output_hessian_norm(FCN(3, 4, 1).double(), torch.ones(1, 3).double()).value.item() == 0
    with pytest.raises(InputError, match="one number per output"):
        output_hessian_norm(FCN(3, 4, 2), torch.ones(2, 3))
    with pytest.raises(InputError, match="trainable"):
        output_hessian_norm(FCN(3, 4, 2).requires_grad_(False), torch.ones(1, 3))
