"""What a GPU computes equals the CPU in float64. Skipped, with the reason, where there is none."""

from __future__ import annotations

import pytest
import torch

from traindyn import compute, files, parameters
from traindyn.learn import data, models, train
from traindyn.measure import probes
from traindyn.measure.agop import agop
from traindyn.measure.ntk import empirical_ntk
from traindyn.measure.spectrum import critical_lr, hessian_top_eig, ntk_top_eig
from traindyn.run import execute

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")
DEVICES = ("cpu", "cuda")


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def networks() -> dict[str, tuple[torch.nn.Module, torch.Tensor]]:
    """Return networks with their inputs, drawn on the CPU."""
    flat, pictures = normal(6, 5), normal(4, 3, 8, 8)
    made = {
        "dense": (models.FCN(5, 16, 3, generator=compute.generator(1, "init")), flat),
        "three outputs": (models.FCN(5, 16, 3, out_dim=3, generator=compute.generator(2, "init")), flat),
        "convolutional": (models.CNN((3, 8, 8), 6, 3, generator=compute.generator(3, "init")), pictures),
        "torch": (torch.nn.Sequential(torch.nn.Linear(5, 9), torch.nn.GELU(), torch.nn.Linear(9, 2)), flat),
    }
    return {name: (network.double(), X) for name, (network, X) in made.items()}


@pytest.mark.parametrize("name", ["dense", "three outputs", "convolutional", "torch"])
@pytest.mark.parametrize("outputs", ["trace", "full"])
def test_kernel(name, outputs):
    network, X = networks()[name]
    first, second = (empirical_ntk(network.to(where), X.to(where), outputs=outputs) for where in DEVICES)
    assert second.device.type == "cuda"
    torch.testing.assert_close(second.cpu(), first, rtol=1e-9, atol=1e-9 * first.abs().max().item())


@pytest.mark.parametrize("name", ["dense", "three outputs", "torch"])
def test_agop(name):
    network, X = networks()[name]
    first, second = (agop(network.to(where), X.to(where)) for where in DEVICES)
    torch.testing.assert_close(second.cpu(), first, rtol=1e-9, atol=1e-12)


def test_spectra():
    network, X = networks()["dense"]
    y = normal(6)
    for read in (
        lambda where: ntk_top_eig(network.to(where), X.to(where)),
        lambda where: hessian_top_eig(network.to(where), X.to(where), y.to(where), "mse"),
        lambda where: critical_lr(empirical_ntk(network.to(where), X.to(where))),
    ):
        first, second = (torch.as_tensor([float(value) for value in flat(read(where))]) for where in DEVICES)
        torch.testing.assert_close(second[:1], first[:1], rtol=1e-6, atol=1e-9)


def flat(value) -> list:
    return list(value) if isinstance(value, tuple) else [value]


@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize("together", [None, 1])
def test_training_with_a_probe(batch_size, together):
    X, y = normal(12, 5), normal(12)
    network = models.FCN(5, 16, 3)

    def norm(state):
        return {"kernel": empirical_ntk(state.model, state.X).trace()}

    def fitted(where: str) -> train.Run:
        options = {"together": together} if together else {}
        return train.fit(
            network, X.to(where), y.to(where), lr=[0.05, 0.2], steps=12, seeds=[1, 2], batch_size=batch_size,
            probes={"kernel": train.Probe(norm, every=4)}, progress=False, **options,
        )  # fmt: skip

    first, second = (fitted(where) for where in DEVICES)
    assert second.meta["device"] == "cuda"
    columns = ["loss", "kernel"]
    left, right = (torch.as_tensor(run.frame[columns].to_numpy(float)) for run in (first, second))
    torch.testing.assert_close(right, left, rtol=1e-6, atol=1e-9, equal_nan=True)


def test_data_goes_to_the_device():
    got = data.load("digits", n_train=10, n_test=2, device="cuda", dtype=torch.float64)
    assert got.X_train.device.type == "cuda"
    assert torch.equal(got.X_train.cpu(), data.load("digits", n_train=10, n_test=2, dtype=torch.float64).X_train)


def test_float32_means_float32_and_nothing_is_left_changed():
    before = torch.backends.cuda.matmul.allow_tf32
    a, b = normal(256, 256), normal(256, 256)
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with compute.strict_float32():
            product = a.float().cuda() @ b.float().cuda()
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    assert (product.cpu().double() - a @ b).abs().max() < 1e-3


def test_a_probe_may_answer_from_either_device():
    X, y = normal(8, 3), normal(8)

    def look(state):
        here = "cpu" if state.step else "cuda"
        return {"value": torch.tensor(float(state.step), device=here)}

    looks = {"look": train.Probe(look, every=1)}
    run = train.fit(models.FCN(3, 4, 2), X.cuda(), y.cuda(), lr=0.1, steps=2, probes=looks, progress=False)
    assert list(run.frame["value"]) == [0, 1, 2]


@pytest.mark.parametrize("loss", ["mse", "hinge"])
def test_the_kernel_probe(loss):
    X, y = normal(12, 5), normal(12)
    y = y.sign() if loss == "hinge" else y

    def fitted(where: str) -> train.Run:
        return train.fit(
            models.FCN(5, 16, 3), X.to(where), y.to(where), lr=0.1, steps=6, batch_size=4, loss=loss, seeds=[1],
            probes={"kernel": probes.kernel((1, 2))}, progress=False,
        )  # fmt: skip

    first, second = (fitted(where).frame for where in DEVICES)
    numbers = [name for name in first.select_dtypes("number") if name not in ("seconds", "defect")]
    left, right = (torch.as_tensor(frame[numbers].to_numpy(float)) for frame in (first, second))
    torch.testing.assert_close(right, left, rtol=1e-6, atol=1e-9, equal_nan=True)


def with_a_choice() -> list[str]:
    """Return the chapters whose parameter cell leaves the device open."""
    known = {name: parameters.declared(parameters.source(name)).get("device") for name in parameters.chapters()}
    return [name for name, device in known.items() if device is not None and not device.choices]


@pytest.mark.parametrize("chapter", with_a_choice())
def test_chapter(chapter, tmp_path):
    """At smoke in float64 every verdict is the CPU's."""
    verdicts = []
    for where in DEVICES:
        wanted = parameters.resolve(chapter, "smoke", {"precision": "float64", "device": where})
        records = files.read_json(execute.execute(wanted, tmp_path / where) / "claims.json")["claims"]
        verdicts.append({record["id"]: record["verdict"] for record in records})
    assert verdicts[0] == verdicts[1]
