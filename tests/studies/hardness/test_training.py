"""Online SGD on parities, the landscape of a periodic neuron, implicit and explicit regularisation; the drawings."""

import math
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from traindyn.evidence import stacked
from traindyn.studies.hardness import figures, gradients, implicit, landscape, online, parities, stays

ONLINE = SimpleNamespace(dims=[2, 4], width=32, batch=32, steps=400, every=20, learned=0.05)
WHERE = (torch.float64, torch.device("cpu"))
NEURON = SimpleNamespace(
    d=5, n=12, unseen=40, widths=[3, 12], steps=60, records=12, penalised=[12], strengths=[0.001, 0.01],
    adam_steps=80, adam_lr=0.01,
)  # fmt: skip


def test_one_step_is_the_gradient_of_the_hinge_loss():
    most, width, lr = 5, 6, 0.1
    theta = torch.stack([online.start(0, 3, width, most), online.start(0, 5, width, most)])
    words = torch.randint(2**most, (2, 7), generator=torch.Generator().manual_seed(1))
    dims = torch.tensor([3, 5])
    x, y = online.batch(words, dims, dims // 2, torch.tensor([False, True]), most)
    x, y = x.double(), y.double()
    moved = theta.clone()
    losses = online.update(moved, x, y, lr)
    for run in range(2):
        d = int(dims[run])
        part = theta[run].clone()
        w, c, a = part[:, :d], part[:, most], part[:, most + 1]
        leaves = [leaf.clone().requires_grad_() for leaf in (w, c, a, part[0, most + 2])]
        out = torch.relu(x[run, :, :d] @ leaves[0].T + leaves[1]) @ leaves[2] + leaves[3]
        loss = torch.relu(1 - y[run] * out).mean()
        slopes = torch.autograd.grad(loss, leaves)
        assert float(losses[run]) == pytest.approx(loss.item())
        assert torch.allclose(moved[run][:, :d], leaves[0] - lr * slopes[0])
        assert torch.allclose(moved[run][:, most], leaves[1] - lr * slopes[1])
        assert torch.allclose(moved[run][:, most + 1], leaves[2] - lr * slopes[2])
        assert torch.allclose(moved[run][0, most + 2], leaves[3] - lr * slopes[3])
        assert (moved[run][:, d:most] == theta[run][:, d:most]).all()


def test_targets_are_parities_and_codings_differ():
    words = torch.arange(8)[None]
    one = torch.tensor([3])
    x, y = online.batch(words, one, torch.tensor([2]), torch.tensor([True]), 4)
    assert torch.equal(x[0, :, :3].double(), parities.cube(3)) and (x[0, :, 3] == 0).all()
    assert torch.equal(y[0].double(), (-1) ** parities.cube(3)[:, :2].sum(1))
    signs, same = online.batch(words, one, torch.tensor([2]), torch.tensor([False]), 4)
    assert torch.equal(signs[0, :, :3], 1 - 2 * x[0, :, :3]) and torch.equal(same, y)


def test_runs_do_not_depend_on_one_another_and_go_on_from_a_file(tmp_path, monkeypatch):
    both = online.experiment([1, 2], "half", ONLINE, 4.0, *WHERE)
    alone = online.experiment([2], "half", SimpleNamespace(**{**vars(ONLINE), "dims": [4, 2]}), 4.0, *WHERE)
    assert np.allclose(both[both["seed"] == 2]["loss"], alone["loss"], rtol=1e-9)
    found = online.times(both, ONLINE, [100, 4000])
    assert np.isfinite(found["steps"]).all() and found["loss_4000"].isna().sum() == 0
    short = SimpleNamespace(**{**vars(ONLINE), "steps": 60, "learned": 1e-6, "every": 20})
    direct = online.experiment([1], "full", short, 4.0, *WHERE)
    advance, calls = online._advance, []

    def interrupted(state, *rest):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(state["step"])
        advance(state, *rest)

    monkeypatch.setattr(online, "_advance", interrupted)
    monkeypatch.setattr(online, "KEPT", 20)
    with pytest.raises(KeyboardInterrupt):
        online.experiment([1], "full", short, 4.0, *WHERE, store=tmp_path)
    (left,) = tmp_path.iterdir()
    assert torch.load(left, weights_only=True)["step"] == 40
    monkeypatch.setattr(online, "_advance", advance)
    resumed = online.experiment([1], "full", short, 4.0, *WHERE, store=tmp_path)
    assert np.allclose(resumed["loss"], direct["loss"], rtol=1e-12) and list(tmp_path.iterdir()) == []


def test_growth_counts_what_was_not_learned_as_later():
    frame = online.together({"half": online.experiment([3], "half", ONLINE, 4.0, *WHERE)})
    assert set(frame["kind"]) == {"half"}
    steps = {2: 50, 4: 100, 6: math.inf, 8: math.inf}
    rows = pd.DataFrame([{"seed": 0, "d": d, "steps": s} for d, s in steps.items()]).set_index(["seed", "d"])
    found = online.growth(rows).loc[0]
    assert found["falls"] == 0 and found["learned"] == 2 and found["rate"] == pytest.approx(0.5)
    rows.loc[(0, 8), "steps"] = 80
    assert online.growth(rows).loc[0, "falls"] == 1


def test_the_landscape_in_closed_form():
    target = torch.tensor([0.6, 0.4], dtype=torch.float64)
    w = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.randn(400_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert (landscape.empirical(w, x, target, 2.0) - landscape.population(w, target, 2.0)).abs().max() < 0.01
    cosine = (torch.cos(2 * (w @ x.T)) - torch.cos(2 * (x @ target))).square().mean(1)
    assert (cosine - landscape.population(w, target, 2.0, cosine=True)).abs().max() < 0.01
    leaf = w.clone().requires_grad_()
    (slope,) = torch.autograd.grad(landscape.population(leaf, target, 2.0).sum(), leaf)
    assert torch.allclose(slope, landscape.population_gradient(w, target, 2.0))
    few = x[:30]
    (slope,) = torch.autograd.grad(landscape.empirical(leaf, few, target, 2.0).sum(), leaf)
    one = SimpleNamespace(steps=1, lr=0.5)
    assert torch.allclose(landscape.descend(w, few, target, 2.0, one), w - 0.5 / 4 * slope)


def test_minima_are_counted_inside_and_not_on_plateaus():
    line = torch.linspace(-1, 1, 21, dtype=torch.float64)
    u, v = torch.meshgrid(line, line, indexing="ij")
    assert landscape.minima(u**2 + v**2) == 1 and landscape.minima(0 * u) == 0
    assert landscape.minima((u**2 - 0.25) ** 2 + (v**2 - 0.25) ** 2) == 4
    size = SimpleNamespace(
        L=[1.0, 4.0], n=20, points=41, side=2.0, target=[0.6, 0.4], away=1.0, near=0.1, draws=20_000, starts=30,
        steps=60, lr=0.5, shown=4.0, drawn=15,
    )  # fmt: skip
    exact, twin = landscape.experiment([0, 1], size)
    assert exact["population_minima"].max() <= 2 and twin["closed_gap"].max() < 0.05
    assert np.allclose(twin.loc[1], landscape.experiment([1], size)[1].loc[1])
    assert (landscape.trends(twin)["minima_slope"] > 0).all()
    wells = landscape.wells(torch.tensor(size.target, dtype=torch.float64), size)
    assert wells["sine_opposite"] > 1.5 and wells["cosine_opposite"] < 1e-3 and wells["at_target"] < 1e-12
    plt.close(figures.landscape(landscape.surfaces(0, size)))


def test_random_features_follow_gd_and_the_penalty_is_a_subgradient():
    curve, end = implicit.descend([1, 2], 3, NEURON, 0.2, torch.float64)
    again, _ = implicit.descend([2], 3, NEURON, 0.2, torch.float64)
    mine = curve[curve["seed"] == 2].drop(columns="seed").to_numpy()
    assert np.allclose(mine, again.drop(columns="seed").to_numpy(), rtol=1e-8)
    X, y = implicit.task([1], NEURON, "points", NEURON.n)
    Z, target = implicit.task([1], NEURON, "unseen", NEURON.unseen)
    b = implicit.wide.sphere([1], "weights 3", 3, NEURON.d)
    phi, a = torch.relu(X @ b.mT)[0], torch.zeros(3, dtype=torch.float64)
    step = 0.2 * NEURON.n / torch.linalg.eigvalsh(phi @ phi.T)[-1]
    for _ in range(NEURON.steps):
        a = a - step / NEURON.n * (phi @ a - y[0]) @ phi
    error = implicit.relative(torch.relu(Z @ b.mT)[0] @ a, target[0])
    last = curve[(curve["seed"] == 1) & (curve["step"] == NEURON.steps)]["features"].iloc[0]
    assert last == pytest.approx(float(error), rel=1e-8)
    assert end.shape == (2, 3, 1 + NEURON.d) and implicit.path_norm(end).shape == (2,)


def test_the_penalty_shrinks_the_path_norm_and_is_chosen_on_validation_data():
    curves, states = implicit.figure2([1, 2], NEURON, 0.2, torch.float64)
    swept = implicit.figure3([1, 2], NEURON, torch.float64)
    norms = swept.pivot(index="seed", columns="lambda", values="norm")
    assert (norms[0.01] < norms[0.001]).all()
    ends = implicit.ends(curves)
    best = implicit.chosen(swept, ends, states, [1, 2])
    for seed in (1, 2):
        rows = swept[swept["seed"] == seed].set_index("lambda")
        assert best.loc[(seed, 12), "strength"] == rows["validation"].idxmin()
    assert (ends["rise"] >= 0).all()
    assert implicit.looks(100, 5)[0] == 0 and implicit.looks(100, 5)[-1] == 100


def test_drawings():
    size = SimpleNamespace(m=4, shown=[2, 3])
    curves, states = implicit.figure2([1, 2], NEURON, 0.2, torch.float64)
    swept = implicit.figure3([1, 2], NEURON, torch.float64)
    compared = implicit.chosen(swept, implicit.ends(curves), states, [1, 2])
    sgd = {"half": online.experiment([1], "half", ONLINE, 4.0, *WHERE)}
    learned = stacked({"half": online.times(sgd["half"], ONLINE)}, "kind")
    _, claimed = stays.escape([4, 8, 12, 16], [1.0])
    _, paths = stays.ordinary([0], SimpleNamespace(dims=[2], m=4, lr=0.2, time=1.0, gone=1.0))
    for fig in (
        figures.gradients(gradients.cloud(0, size)),
        figures.wave(parities.wave(3)),
        figures.stays(claimed, paths),
        figures.parity(online.together(sgd)),
        figures.steps(learned),
        figures.figure2(curves, [3, 12]),
        figures.figure3(compared, swept),
    ):
        assert fig.axes and all(ax.has_data() for ax in fig.axes if ax.get_title())
        plt.close(fig)
