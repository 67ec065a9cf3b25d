"""The ready measurements of a training run agree with the functions that they call, and with the run itself."""

import numpy as np
import pytest
import torch

from traindyn import losses
from traindyn.compute import generator
from traindyn.learn.models import FCN
from traindyn.learn.train import Probe, Stop, fit
from traindyn.measure import agop, elasticity, probes, spectrum
from traindyn.measure.ntk import empirical_ntk

X = torch.randn(12, 4, generator=generator(0), dtype=torch.float64)


def targets(out_dim: int = 1, loss: str = "mse"):
    if loss == "cross_entropy":
        return torch.arange(12) % out_dim
    return torch.randn(12, *([out_dim] if out_dim > 1 else []), generator=generator(1), dtype=torch.float64)


def train(probe, out_dim: int = 1, loss: str = "mse", lr: float = 1e-3, **options):
    options = {"steps": 4, "seeds": [3], **options}
    model = FCN(4, 16, 3, out_dim, "tanh")
    return fit(model, X, targets(out_dim, loss), loss=loss, lr=lr, probes={"p": probe}, **options)


@pytest.mark.parametrize(("out_dim", "loss"), [(1, "mse"), (2, "mse_entries"), (3, "mse"), (1, "half_sum")])
def test_kernel_splits_the_loss_and_knows_the_critical_rate(out_dim, loss):
    run = train(probes.kernel(spaces=(1, 5, 400)), out_dim, loss)
    frame, last = run.frame, run.frame.iloc[-1]
    for s in (1, 5):
        np.testing.assert_allclose(frame[f"lead_{s}"] + frame[f"rest_{s}"], frame["loss"], rtol=1e-10)
    assert "lead_400" not in frame and frame["defect"].max() < 1e-12
    K = empirical_ntk(run.models[0], X, outputs="full")
    values, vectors = torch.linalg.eigh(K)
    assert last["norm"] == pytest.approx(values[-1].item(), rel=1e-9)
    assert last["second"] == pytest.approx((values[-2] / values[-1]).item(), rel=1e-9)
    assert last["within"] == (values > values[-1] / 6).sum()
    assert last["critical"] == pytest.approx(spectrum.critical_lr(K, n=12, loss=loss).item(), rel=1e-9)
    residual = (run.models[0](X) - targets(out_dim, loss)).detach().flatten()
    inside = (vectors[:, -out_dim:].T @ residual).square().sum() * losses.residual_factor(loss, 12, out_dim) / 2
    assert last["lead_1"] == pytest.approx(inside.item(), rel=1e-8)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "hinge"])
def test_the_critical_rate_of_any_loss_is_that_of_its_gauss_newton_matrix(loss):
    y = -torch.ones(12, 3, dtype=torch.float64) if loss == "hinge" else targets(3, loss)
    run = fit(FCN(4, 16, 3, 3, "tanh"), X, y, loss=loss, lr=1e-3, steps=1, seeds=[3], probes={"p": probes.kernel()})
    model = run.models[0]
    leaves = list(model.parameters())
    J = [torch.autograd.grad(v, leaves, retain_graph=True) for v in model(X).flatten()]
    J = torch.stack([torch.cat([g.flatten() for g in row]) for row in J])
    f = model(X).detach()
    H = torch.func.hessian(lambda f: losses.value(loss, f, y))(f).reshape(36, 36)
    top = torch.linalg.eigvalsh(J.T @ H @ J)[-1].item()
    found = run.frame["critical"].iloc[-1]
    assert found == (np.inf if loss == "hinge" else pytest.approx(2 / top, rel=1e-8))
    assert ("lead_1" in run.frame) == (loss == "mse")


def test_the_coming_batch_has_its_own_rate_and_sees_the_loss_that_was_not_recorded():
    run = train(probes.kernel((1,)), 2, "mse_entries", batch_size=5, record=0)
    cheap = train(probes.coming_batch(), 2, "mse_entries", batch_size=5, record=0)
    np.testing.assert_allclose(run.frame["batch_critical"], cheap.frame["batch_critical"], rtol=1e-10)
    assert run.frame["norm"].notna().all() and run.frame["loss"].isna().sum() == 3
    alone = train(Probe(lambda state: {"rows": state.batch.double()}), 2, "mse_entries", batch_size=5, record=0)
    rows = torch.as_tensor(alone.arrays["rows"][0, -1]).long()
    expected = spectrum.batch_critical_lr(run.models[0], X, rows[None], "mse_entries")
    assert run.frame["batch_critical"].iloc[-1] == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("together", [1, 2])
def test_divergence_is_nan_and_only_that(together):
    stop = Stop(diverged=1e300)
    looks = {"k": probes.kernel((1,)), "b": Probe(lambda state: {"b": probes.coming_batch()(state)["batch_critical"]})}
    net = FCN(4, 6, 3, activation="quadratic")
    run = fit(net, X, targets(), lr=[1e-6, 1e3], steps=6, stop=stop, probes=looks, together=together, batch_size=6)
    kept, gone = (run.frame[run.frame["run"] == index] for index in (0, 1))
    assert run.summary["outcome"].tolist() == ["finished", "diverged"]
    assert kept["norm"].notna().all() and kept["b"].notna().all() and gone["b"].isna().iloc[-1]
    assert gone["norm"].isna().iloc[-1] and gone["norm"].notna().iloc[0]


@pytest.mark.parametrize("break_it", ["vectors", "factor", "targets"])
def test_the_defect_fails_when_the_parts_do_not_make_up_the_loss(monkeypatch, break_it):
    if break_it == "vectors":  # one direction twice, another one missing
        eigh = torch.linalg.eigh

        def broken(K):
            values, vectors = eigh(K)
            return values, torch.cat([vectors[:, 1:2], vectors[:, 1:]], 1)

        monkeypatch.setattr("traindyn.measure.probes.torch.linalg.eigh", broken)
    if break_it == "factor":  # parts in units of another loss
        monkeypatch.setattr("traindyn.measure.probes.losses.residual_factor", lambda loss, n, k=1: 1 / n)
    if break_it == "targets":
        value = losses.value
        monkeypatch.setattr("traindyn.measure.probes.losses.value", lambda loss, f, y: value(loss, f, 2 * y))
    assert train(probes.kernel(), lr=1e-3).frame["defect"].max() > 1e-3


def test_one_forward_pass_serves_probes_and_recorder():
    calls = []

    class Counted(FCN):
        def forward(self, x):
            calls.append(len(x))
            return super().forward(x)

    def look(state):
        expected = FCN.forward(state.model, state.X)
        assert torch.allclose(state.outputs, expected, rtol=1e-12)
        return {"f": state.outputs.sum(), "again": state.outputs.mean()}

    for options in ({}, {"batch_size": 5, "record": 1}):
        calls.clear()
        run = fit(
            Counted(4, 6, 2),
            X,
            targets(),
            lr=0.1,
            steps=3,
            probes={"p": Probe(look)},
            trace=False,
            together=1,
            **options,
        )
        assert calls.count(12) <= 4 + bool(options)  # one whole pass a step, one more to size the chunks
        assert run.frame["f"].notna().all()


def test_batches_alignment_and_elasticity():
    batches = torch.arange(12).view(3, 4)
    run = train(probes.batch_rates(batches))
    expected = spectrum.batch_critical_lr(run.models[0], X, batches)
    np.testing.assert_allclose(run.arrays["batch_critical_lr"][0, -1], expected, rtol=1e-10)

    H = torch.diag(torch.tensor([1.0, 2.0, 0.0, 0.0]))
    run = train(probes.agop_alignment(H, every=2))
    expected = agop.alignment(agop.agop(run.models[0], X), H.double())
    assert run.frame["agop_alignment"].iloc[-1] == pytest.approx(float(expected), rel=1e-10)
    assert run.frame["agop_alignment"].isna().sum() == 2

    y = torch.ones(2, dtype=torch.float64)
    run = train(Probe(probes.local_elasticity(X[:5], X[5:7], y)), lr=0.01)
    expected = elasticity.s_rel(run.models[0], X[:5], X[5:7], y, 0.01, "mse")
    np.testing.assert_allclose(run.arrays["s_rel"][0, -1], expected, rtol=1e-10)
