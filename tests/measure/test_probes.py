"""The ready measurements of a training run agree with the functions that they call, and with the run itself."""

import numpy as np
import pytest
import torch

from traindyn.compute import generator
from traindyn.learn.models import FCN
from traindyn.learn.train import Probe, fit
from traindyn.measure import agop, elasticity, probes, spectrum
from traindyn.measure.ntk import empirical_ntk

X = torch.randn(12, 4, generator=generator(0), dtype=torch.float64)


def train(probe: Probe, out_dim: int = 1, loss: str = "mse", lr: float = 1e-3):
    y = torch.randn(12, *([out_dim] if out_dim > 1 else []), generator=generator(1), dtype=torch.float64)
    return fit(FCN(4, 16, 3, out_dim, "tanh"), X, y, loss=loss, lr=lr, steps=4, seeds=[3], probes={"p": probe})


@pytest.mark.parametrize(("out_dim", "loss"), [(1, "mse"), (2, "mse_entries"), (1, "half_sum")])
def test_tangent_kernel_splits_the_loss_and_knows_the_critical_rate(out_dim, loss):
    run = train(Probe(probes.tangent_kernel(s=(1, 5, 400), top=3)), out_dim, loss)
    frame = run.frame
    for s in (1, 5):
        total = frame[f"loss_top{s}"] + frame[f"loss_rest{s}"]
        np.testing.assert_allclose(total, frame["loss"], rtol=1e-10)
    assert "loss_top400" not in frame
    K = empirical_ntk(run.models[0], X, outputs="full")
    assert frame["ntk_norm"].iloc[-1] == pytest.approx(float(torch.linalg.matrix_norm(K, 2)), rel=1e-9)
    expected = float(spectrum.critical_lr(K, n=12, loss=loss))
    assert frame["critical_lr"].iloc[-1] == pytest.approx(expected, rel=1e-9)
    assert run.arrays["ntk_eigs"].shape == (1, 5, 3)


def test_batches_alignment_and_elasticity():
    batches = torch.arange(12).view(3, 4)
    run = train(Probe(probes.batch_critical_lr(batches)))
    expected = spectrum.batch_critical_lr(run.models[0], X, batches)
    np.testing.assert_allclose(run.arrays["batch_critical_lr"][0, -1], expected, rtol=1e-10)

    H = torch.diag(torch.tensor([1.0, 2.0, 0.0, 0.0]))
    run = train(Probe(probes.agop_alignment(H)))
    expected = agop.alignment(agop.agop(run.models[0], X), H.double())
    assert run.frame["agop_alignment"].iloc[-1] == pytest.approx(float(expected), rel=1e-10)

    y = torch.ones(2, dtype=torch.float64)
    run = train(Probe(probes.local_elasticity(X[:5], X[5:7], y)), lr=0.01)
    expected = elasticity.s_rel(run.models[0], X[:5], X[5:7], y, 0.01, "mse")
    np.testing.assert_allclose(run.arrays["s_rel"][0, -1], expected, rtol=1e-10)
