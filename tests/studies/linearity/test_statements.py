"""Statements about graphs, Gaussian matrices and sizes: closed forms, counterexamples and limits."""

import math
from types import SimpleNamespace as Size

import networkx as nx
import numpy as np
import pytest
import torch

from traindyn.errors import InputError
from traindyn.learn.models import dag
from traindyn.measure.spectrum import output_hessian_norm
from traindyn.studies.linearity import evidence, gaussian, graphs, lemmas, nets, notions, orders

SEEDS = [1, 2, 3]


def test_layers_by_longest_paths():
    found = graphs.layering(SEEDS, Size(graphs=3, vertices=30, degree=2.0))
    assert (found[["flat_edges", "misplaced", "inputs_wrong", "shortened"]] == 0).all().all()
    assert (found["differ"] > 0).all()
    longest, shortest = graphs.paths(nx.DiGraph([(0, 1), (1, 2), (0, 2)]))
    assert longest[2] == 2 and shortest[2] == 1


def test_drawn_graphs_are_what_their_captions_say():
    levels = {v: i for i, layer in enumerate(dag.longest_path_layers(graphs.DRAWN)) for v in layer}
    assert levels["d"] == 3 and levels["out"] == 4 and len(graphs.DRAWN) == 13
    narrow = nx.DiGraph(graphs.NARROW)
    assert [narrow.in_degree(v) for v in "pq"] == [1, 1] and narrow.in_degree("r") == 4


def test_a_network_has_the_weights_of_its_edges():
    w = torch.randn(13, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    net = graphs.network(graphs.DRAWN, w)
    x = torch.tensor([0.5, -1.0, 0.8], dtype=torch.float64)
    value = {"x1": x[0], "x2": x[1], "x3": x[2]}
    parents = {v: [u for u, child in graphs.DRAWN if child == v] for _, v in graphs.DRAWN}
    weight = dict(zip(graphs.DRAWN, w, strict=True))
    for v, above in parents.items():
        z = sum(weight[u, v] * value[u] for u in above) / len(above) ** 0.5
        value[v] = z if v == "out" else torch.tanh(z)
    assert net(x[None]).item() == pytest.approx(value["out"].item())
    assert output_hessian_norm(net, x[None]).value.item() > 0


def test_definitions_widths_and_dropped_edges():
    found = graphs.definitions(SEEDS, Size(inputs=4, width=7))
    assert found.max().max() < 1e-12
    exact, drawn = graphs.widths(SEEDS, Size(inputs=5, widths=[4, 8]))
    assert (exact["fcn"] == 0).all() and (exact["refed"] == 5).all() and (drawn["width"] >= 1).all()
    cut = graphs.dropped(SEEDS, Size(inputs=64, width=512, drop=0.3))
    assert cut["kept"].mean() == pytest.approx(0.7, abs=0.01)
    assert cut["kept_printed"].mean() == pytest.approx(0.3, abs=0.01)
    assert cut["variance"].mean() == pytest.approx(0.7, abs=0.02)
    with pytest.raises(InputError, match="no incoming edge"):
        nets.layer(SEEDS, "a", 2, 3, 0, torch.zeros(1, 2, 3))


def test_second_moments_have_their_exact_mean():
    found = graphs.moments(range(60), Size(inputs=6, widths=[32], outputs=32))["excess"]
    for _, values in found.groupby("net"):
        assert abs(values.mean()) < 4 * values.sem()


def test_dependence():
    found = graphs.dependence(SEEDS, Size(graphs=3, vertices=25, degree=2.0))
    assert (found["violations"] == 0).all() and (found["largest"] <= 1).all()
    grown = graphs.growth(SEEDS, Size(inputs=4, widths=[8, 16, 32]))["degree"]
    assert grown.xs("square", level="net").tolist() == pytest.approx([3] * 3)
    assert abs(grown.xs("half", level="net").mean() - 2) < 0.4


def test_gaussian_bounds_and_the_counterexample():
    size = Size(dim=6, draws=4000, radius=3.0, thresholds=[1.0, 2.0])
    tails = gaussian.forms(SEEDS, size)
    assert tails["vector"].max() <= 0 and tails["matrix"].max() <= 0 and tails["no_shift"].min() > 0.1
    series = Size(draws=4000, b=0.1, radius=10.0, t=0.5, terms=4, shape=[3, 4], matrices=500, thresholds=[1.0, 3.0])
    found = gaussian.series(SEEDS, series)
    assert found["printed"].min() > 0.9 and found["scalar"].max() <= 0 and found["matrix"].max() <= 0
    assert found["allowed"].iloc[0] == pytest.approx(2 * math.exp(-12.5))
    blocks = gaussian.blocks(SEEDS[:1], Size(t=1.5, draws=10, sides=[2, 4, 8, 16, 32]))
    assert set(blocks.index.get_level_values("kind")) == {"equal", "random", "rank one"}
    assert (gaussian.shifted_blocks(SEEDS, Size(sides=[8], draws=20))["step"] <= 1).all()


def test_lipschitz_quotients():
    found = lemmas.activations(Size(reach=6.0, points=4000))
    assert found.loc["tanh", "value"] == pytest.approx(1, abs=1e-3)
    assert found.loc["softplus", "first"] == pytest.approx(0.25, abs=1e-3)
    assert found.loc["half_square", "value_growth"] == pytest.approx(2, abs=1e-3)
    assert found.loc["half_square", "second"] == 0


@pytest.mark.parametrize("name", nets.CURVES)
def test_curves_are_derivatives(name):
    z = torch.linspace(-3, 3, 41, dtype=torch.float64) + 0.01
    z.requires_grad_()
    f, first, second = nets.CURVES[name](z)
    (slope,) = torch.autograd.grad(f.sum(), z, create_graph=True)
    assert torch.allclose(slope, first)
    if slope.requires_grad:
        (bend,) = torch.autograd.grad(slope.sum(), z, allow_unused=True, materialize_grads=True)
        assert torch.allclose(bend, second)


def test_relu_falls_slower_than_a_smooth_network():
    found = lemmas.relu_remainder(range(8), Size(inputs=8, widths=[64, 256, 1024], radius=1.0))
    relu, smooth = (orders.slopes(found, y=y)["slope"].mean() for y in ("relu", "smooth"))
    assert smooth < -0.4 < relu < -0.05


def test_derivatives_of_neurons():
    size = Size(inputs=4, widths=[12])
    found = lemmas.first_derivatives([1], size).set_index("layer")
    made, x = nets.fcn([1], 4, [12, 12]), nets.inputs([1], 4)[:, 0]
    from torch.func import jacrev

    def hidden(*weights):
        f1 = torch.tanh(weights[0] @ x[0] / 2)
        return torch.tanh(weights[1] @ f1 / 12**0.5)

    J = jacrev(hidden, (0, 1))(*(layer.weight[0] for layer in made.layers[:2]))
    for layer in (1, 2):
        M = J[layer - 1].reshape(12, -1)
        assert found.loc[layer, "spectral"] == pytest.approx(torch.linalg.matrix_norm(M, 2).item(), rel=1e-3)
        assert found.loc[layer, "frobenius"] == pytest.approx(M.norm().item(), rel=1e-9)


def test_matrix_variances_against_their_definition():
    made, x = nets.fcn([1], 4, [9, 9]), nets.inputs([1], 4)[:, 0]
    found = lemmas.second_derivatives([1], Size(inputs=4, widths=[9])).iloc[0]
    from torch.func import jacrev

    def z2(a, b):
        return b @ torch.tanh(a @ x[0] / 2) / 3

    a, b = (layer.weight[0] for layer in made.layers[:2])
    one, two = (part.reshape(9, -1) for part in jacrev(z2, (0, 1))(a, b))
    bend = nets.CURVES["tanh"](z2(a, b))[2] ** 2

    def mu(outer, inner):
        return torch.linalg.matrix_norm(torch.einsum("i,ip,iq->pq", bend * outer.square().sum(1), inner, inner), 2) / 9

    for name, wanted in (("1 1", mu(one, one)), ("1 2", mu(one, two)), ("2 2", mu(two, two))):
        assert found[f"variance {name}"] == pytest.approx(wanted.item(), rel=1e-3)
    assert found["block 3 3"] == 0


def test_gradient_of_a_chain():
    found = lemmas.gradient_bound(SEEDS, Size(widths=[1], depths=[2, 4], narrow=4000, many=10, wide=16))
    zero = found["zero"].groupby("depth").mean()
    assert zero[2.0] == pytest.approx(0.5, abs=0.03) and zero[4.0] == pytest.approx(7 / 8, abs=0.03)
    # E |grad|^2 = L 2^-(L-1) for a chain, twice L times the bound
    assert found["over_corrected"].groupby("depth").mean()[2.0] == pytest.approx(4, rel=0.2)
    assert (found["printed"].xs(4, level="depth") < -3).all()


def test_sizes_of_neurons_do_not_rise():
    size = Size(inputs=4, widths=[64, 512, 4096], layers=2, radius=1.0, activation="softplus")
    both, length = evidence.sizes_of_neurons(lemmas.neuron_size(SEEDS, size))
    assert both.max().max() < 0.05 and length["length"].max() < 0.05


def test_notions_of_width():
    full = [torch.ones(6, 3, dtype=torch.bool), torch.ones(4, 9, dtype=torch.bool), torch.ones(1, 13, dtype=torch.bool)]
    full[1][:, :3] = False
    full[2][:, :9] = False
    found = notions.describe(full, 3)
    assert found["least"] == 4 and found["neurons"] == 4 and found["mean"] == pytest.approx((4 * 6 + 4) / 5)
    assert found["paths"] == 24 and found["harmonic"] == pytest.approx(1 / ((4 / 6 + 1 / 4) / 5))
    # each path meets one neuron of in-degree 6 and the output of in-degree 4
    assert found["weighted"] == pytest.approx(1 / ((1 / 6 + 1 / 4) / 2))
    table = notions.sample(SEEDS[:2], Size(graphs=4, inputs=3, hidden=[4, 12], draws=2))
    compared = notions.compare(table, draws=20)
    assert len(table) == 8 and compared["wins"].sum() == pytest.approx(1)
    assert np.all(np.diff(compared["rank correlation"]) >= 0)
