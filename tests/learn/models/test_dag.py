"""DAG networks against a neuron-by-neuron evaluation, the matrix forms of the thesis, and graph facts."""

import copy
import math

import pytest
import torch

from traindyn.compute import generator
from traindyn.errors import InputError
from traindyn.layers import ACTIVATIONS, activations
from traindyn.learn.models import FCN
from traindyn.learn.models.dag import DagNet, dense_masks, densenet, drop_edges, longest_path_layers


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed, "x"), dtype=torch.float64)


def random_edges(vertices: int, chance: float, seed: int) -> list[tuple[str, str]]:
    """A random DAG on shuffled names, so that the names' order says nothing about the graph."""
    draw = generator(seed, "graph")
    order = torch.randperm(vertices, generator=draw).tolist()
    keep = torch.rand(vertices, vertices, generator=draw) < chance
    edges = [(f"v{order[i]}", f"v{order[j]}") for i in range(vertices) for j in range(i + 1, vertices) if keep[i, j]]
    shuffle = torch.randperm(len(edges), generator=draw).tolist()
    return [edges[i] for i in shuffle]


def by_neuron(net: DagNet, edges: list, X: torch.Tensor, activation: str) -> dict:
    """f_v for every vertex, by recursion over predecessors, with the weights that `net` holds."""
    layers = longest_path_layers(edges)
    position = {v: i for i, v in enumerate(v for layer in layers for v in layer)}
    row = {v: (depth - 1, i) for depth, layer in enumerate(layers) for i, v in enumerate(layer)}
    sources = {u for u, _ in edges}
    values = {v: X[:, i] for i, v in enumerate(layers[0])}

    def value(v):
        if v not in values:
            incoming = [u for u, w in edges if w == v]
            layer, i = row[v]
            z = sum(net.layers[layer].weight[i, position[u]] * value(u) for u in incoming) / math.sqrt(len(incoming))
            values[v] = ACTIVATIONS[activation](z) if v in sources else z
        return values[v]

    return {v: value(v) for v in position}


@pytest.mark.parametrize("seed", range(6))
def test_random_dag_neuron_by_neuron(seed):
    edges = random_edges(24, 0.15, seed)
    net = DagNet(edges, activation="tanh", generator=generator(seed, "init")).double()
    X = gaussian(5, net.in_dim)
    values = by_neuron(net, edges, X, "tanh")
    sources = {u for u, _ in edges}
    layers = longest_path_layers(edges)
    expected = torch.stack([values[v] for layer in layers for v in layer if v not in sources], 1)
    assert "mixed" in net.kinds  # outputs and hidden neurons share a layer somewhere in these graphs
    torch.testing.assert_close(net(X), expected.squeeze(1), rtol=1e-12, atol=1e-13)
    assert net.n_edges == len(edges) == sum(int((p != 0).sum()) for p in net.parameters())


def test_layers_are_longest_paths():
    shorter_somewhere = 0
    for seed in range(30):
        edges = random_edges(40, 0.1, seed)
        layers = longest_path_layers(edges)
        depth = {v: p for p, layer in enumerate(layers) for v in layer}
        assert sorted(depth) == sorted({v for edge in edges for v in edge}) and sum(map(len, layers)) == len(depth)
        targets = {v for _, v in edges}
        for v in depth:
            incoming = [depth[u] for u, w in edges if w == v]
            assert depth[v] == (1 + max(incoming) if v in targets else 0)
            shorter_somewhere += v in targets and 1 + min(incoming) < depth[v]
    assert shorter_somewhere > 100  # a shortest-path layering would differ


def test_a_skip_edge_does_not_pull_a_neuron_up():
    assert longest_path_layers([("x", "a"), ("a", "b"), ("x", "b"), ("b", "f")]) == [["x"], ["a"], ["b"], ["f"]]
    net = DagNet({"a": ["x", "y"], "f": ["a", "x"]})
    assert net.in_dim == 2 and net.width == 2 and net(torch.zeros(3, 2)).shape == (3,)


def test_a_long_chain_needs_no_recursion():
    assert len(longest_path_layers((i, i + 1) for i in range(5000))) == 5001


def test_fully_connected_network_is_a_special_case():
    fcn = FCN(5, [7, 4], 3, 2, activation="tanh", generator=generator(0, "init")).double()
    net = DagNet(dense_masks(5, [7, 4, 2], refeed=False), activation="tanh").double()
    with torch.no_grad():
        for layer, linear in zip(net.layers, (fcn.layers[0], fcn.layers[2], fcn.layers[4]), strict=True):
            layer.weight[:, -linear.weight.shape[1] :] = linear.weight
    X = gaussian(6, 5)
    torch.testing.assert_close(net(X), fcn(X), rtol=1e-12, atol=1e-14)
    assert net.width == 4


def test_densenet_in_matrix_form():
    # eq. (A.5)-(A.6)
    d, m = 4, 6
    net = densenet(d, m, 3, drop=0.0, generator=generator(0, "init"), activation="tanh").double()
    W1, W2, W3 = (layer.weight for layer in net.layers)
    X = gaussian(5, d)
    f1 = torch.tanh(X @ W1.T / math.sqrt(d))
    temp = torch.cat([X, f1], 1)
    temp = torch.cat([temp, torch.tanh(temp @ W2.T / math.sqrt(d + m))], 1)
    torch.testing.assert_close(net(X), (temp @ W3.T / math.sqrt(d + 2 * m))[:, 0], rtol=1e-12, atol=1e-14)
    assert net.width == d + m  # not the hidden size: the input is fed again
    assert densenet(d, m, 3, drop=0.0, refeed="hidden").width == m


def test_dropped_edges_are_another_dag():
    net = densenet(6, 12, 3, drop=0.5, generator=generator(1, "init")).double()
    names = [f"x{i}" for i in range(6)] + [f"{part}{i}" for part in ("a", "b") for i in range(12)] + ["f"]
    edges, start = [], 6
    for mask in net.masks:
        edges += [(names[u], names[start + v]) for v, u in mask.nonzero().tolist()]
        start += len(mask)
    X = gaussian(4, 6)
    # neurons that lost every way to f would be outputs of the other graph
    while dead := {v for _, v in edges} - {u for u, _ in edges} - {"f"}:
        edges = [(u, v) for u, v in edges if v not in dead]
    order = [v for layer in longest_path_layers(edges) for v in layer]
    assert set(order[:6]) == set(names[:6])
    twin = DagNet(edges).double()
    layers = longest_path_layers(edges)
    position = {v: i for i, v in enumerate(order)}
    old = {name: i for i, name in enumerate(names)}
    with torch.no_grad():
        for layer, vertices in zip(twin.layers, layers[1:], strict=True):
            for i, v in enumerate(vertices):
                block, row = (0, old[v] - 6) if old[v] < 18 else (1, old[v] - 18) if old[v] < 30 else (2, 0)
                for u in [u for u, w in edges if w == v]:
                    layer.weight[i, position[u]] = net.layers[block].weight[row, old[u]]
    Y = X[:, [old[v] for v in order[:6]]]
    torch.testing.assert_close(twin(Y), net(X), rtol=1e-12, atol=1e-13)


def test_normalizers_and_the_size_of_preactivations():
    X = gaussian(200, 50)
    drop, seconds = 0.3, {}
    for normalizer in ("surviving", "original"):
        net = densenet(50, 400, 2, drop=drop, generator=generator(0, "init"), normalizer=normalizer).double()
        seconds[normalizer] = net.layers[0](X).square().mean()
    assert abs(float(seconds["surviving"] / X.square().mean()) - 1) < 0.1
    assert abs(float(seconds["original"] / seconds["surviving"]) - (1 - drop)) < 0.02


def test_share_of_dropped_edges_and_no_empty_neuron():
    masks = drop_edges(dense_masks(30, [400, 300]), 0.3, generator(0, "drop"))
    kept = torch.cat([mask.flatten() for mask in masks]).double().mean()
    assert abs(float(kept) - 0.7) < 0.01
    thin = drop_edges([torch.ones(500, 2, dtype=torch.bool)], 0.8, generator(0, "drop"))[0]
    assert thin.any(dim=1).all() and (~thin).any()


def test_only_edges_get_gradients_and_reset_keeps_the_graph():
    net = densenet(5, 8, 3, generator=generator(0, "init")).double()
    masks = copy.deepcopy(net.masks)
    net(gaussian(6, 5)).square().sum().backward()
    for layer, mask in zip(net.layers, masks, strict=True):
        assert (layer.weight.grad[~mask] == 0).all() and (layer.weight[~mask] == 0).all()
    before = [p.detach().clone() for p in net.parameters()]
    net.reset(generator(1, "init"))
    assert all(not torch.equal(p, q) for p, q in zip(before, net.parameters(), strict=True))
    assert all(torch.equal(layer.weight != 0, mask) for layer, mask in zip(net.layers, masks, strict=True))
    again = densenet(5, 8, 3, generator=generator(0, "init")).double()
    assert all(torch.equal(p, q) for p, q in zip(before, again.parameters(), strict=True))


def test_precision_does_not_change_the_graph():
    single = densenet(5, 8, 3, generator=generator(0, "init"))
    try:
        torch.set_default_dtype(torch.float64)
        double = densenet(5, 8, 3, generator=generator(0, "init"))
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(single.masks, double.masks, strict=True))
    for a, b in zip(single.parameters(), double.parameters(), strict=True):
        assert b.dtype == torch.float64 and torch.equal(a, b.float())


def test_bottlenecks_and_a_nonlinear_output():
    masks = dense_masks(4, [6, 6, 1], refeed=False)
    masks[1][:2] = False
    masks[1][:2, 4] = True  # two neurons of in-degree 1
    net = DagNet(masks, activation="tanh", output_activation="tanh", generator=generator(0, "init")).double()
    linear = DagNet(masks, activation="tanh", generator=generator(0, "init")).double()
    X = gaussian(5, 4)
    assert len(activations(linear, X)) == 2 and len(activations(net, X)) == 3
    assert net.width == 1
    torch.testing.assert_close(net(X), torch.tanh(linear(X)), rtol=1e-13, atol=0)


def test_bad_graphs_are_named():
    with pytest.raises(InputError, match="cycle"):
        DagNet([("x", "a"), ("a", "b"), ("b", "a"), ("b", "f")])
    with pytest.raises(InputError, match="twice"):
        DagNet([("x", "a"), ("x", "a")])
    with pytest.raises(InputError, match="at least one"):
        DagNet([])
    with pytest.raises(InputError, match="mask 1"):
        DagNet([torch.ones(3, 2, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool)])
    with pytest.raises(InputError, match="without an incoming"):
        DagNet([torch.zeros(3, 2, dtype=torch.bool)])
    with pytest.raises(InputError, match="in_degrees"):
        DagNet([torch.ones(3, 2, dtype=torch.bool)], in_degrees=[torch.ones(2)])
    with pytest.raises(InputError, match="drop"):
        densenet(3, 4, 2, drop=1.0)
    with pytest.raises(InputError, match="refeed"):
        densenet(3, 4, 2, refeed="input")
    with pytest.raises(InputError, match="normalizer"):
        densenet(3, 4, 2, normalizer="survivng")
