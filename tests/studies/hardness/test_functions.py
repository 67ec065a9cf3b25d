"""Parities, halfspaces and cosines of the hardness chapter against brute force and closed forms."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from traindyn.errors import InputError
from traindyn.studies.hardness import cosines, halfspaces, parities


def test_the_walsh_transform_is_the_table_of_all_parities():
    for d in (1, 3, 5):
        values = torch.randn(2**d, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(d))
        X = parities.cube(d)
        table = (-1) ** (X @ X.T)
        assert torch.equal(parities.signs(d).double(), table)
        assert torch.allclose(parities.walsh(values), table @ values, atol=1e-12)
        assert torch.allclose(parities.walsh(parities.walsh(values)), 2**d * values, atol=1e-12)
    with pytest.raises(InputError, match="rows"):
        parities.walsh(torch.zeros(6))
    with pytest.raises(InputError, match="bits"):
        parities.cube(0)


def test_points_of_the_cube_are_the_bits_of_their_index():
    assert parities.cube(3)[6].tolist() == [0, 1, 1]
    assert sorted(map(tuple, parities.cube(4).int().tolist())) == sorted(itertools.product((0, 1), repeat=4))


def test_parity_networks_and_their_norms():
    found = parities.networks([1, 2, 5])
    assert (found[["wrong", "wrong_merged"]] == 0).all().all() and (found["wave_gap"] < 1e-12).all()
    assert found["neurons"].tolist() == [6, 9, 18] and found["neurons_merged"].tolist() == [4, 5, 8]
    assert (parities.path_norms([1, 2, 9])[["gap", "gap_merged"]] == 0).all().all()
    assert parities.printed_network(1).path_norm(1) == 26  # 12 + 12 + 2
    z = torch.tensor([0.0, 0.25, 0.5, 1.0, 1.5, 2.0])
    assert parities.triangle(z).tolist() == [1.0, 0.5, 0.0, -1.0, 0.0, 1.0]


def test_orthonormal_sees_a_wrong_entry(monkeypatch):
    assert (parities.orthonormal([2, 5])["gram_gap"] == 0).all()

    def broken(d):
        table = parities.cube(d).int() @ parities.cube(d).int().T
        signs = 1 - 2 * (table % 2)
        signs[1, 1] *= -1
        return signs

    monkeypatch.setattr(parities, "signs", broken)
    assert parities.orthonormal([3])["gram_gap"].iloc[0] > 0


def test_the_network_of_an_intersection_by_loops():
    g = torch.Generator().manual_seed(5)
    for k in (2, 4):
        w, b = halfspaces.draw(g, k, 4, 3)
        value = halfspaces.network(halfspaces.margins(w, b))
        assert (w.sum(1) > b).all() and (w >= 0).all() and (w == w.round()).all() and (b == b.round()).all()
        for i, bits in enumerate(parities.cube(4).tolist()):
            x = [2 * bit - 1 for bit in bits]
            meets = all(
                sum(p * q for p, q in zip(row, x, strict=True)) >= t + 0.5
                for row, t in zip(w.tolist(), b.tolist(), strict=True)
            )
            assert (float(value[i]) > 0) == meets


def test_path_norm_of_an_intersection_neuron_by_neuron():
    w, b = torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.tensor([1.0, 0.0])
    neurons = []
    for row, t in zip(w.tolist(), b.tolist(), strict=True):
        for shift in (0.0, 1.0):  # relu(2 c) and relu(2 c - 1), c = w x - b - 1/2
            neurons.append((1 / 4, sum(2 * abs(v) for v in row) + abs(-2 * t - 1 - shift)))
    constant = (2 - 1 / 3) / 4
    exact, printed, right = halfspaces.path_norms(w, b)
    assert float(exact) == pytest.approx(sum(a * v for a, v in neurons) + constant)
    assert printed < exact <= right


def test_intersections_count_their_cases():
    size = SimpleNamespace(draws=20, d=5, least=2, most=4, largest=2)
    found = halfspaces.intersections([1, 2], size)
    assert (found["both"] > 10).all() and (found[["wrong", "step_wrong", "above_right"]] == 0).all().all()
    assert (found["wrong_inside"] == found["both"]).all() and (found["closest"] == 0.5).all()
    assert halfspaces.intersections([2], size).loc[2].equals(found.loc[2])
    assert halfspaces.limit() == {"at_zero": 0.0, "away": 0.0, "quarter": 0.5}


def test_cosines_against_enumeration_and_monte_carlo():
    found = cosines.counts([2, 3, 5])
    assert (found["wrong"] == 0).all() and cosines.counted(3) == len(cosines.frequencies(3)) == 20
    assert cosines.growth(found)["positive_members"] == 1
    gram = cosines.gram(2)
    x = 2 * math.pi * torch.rand(200_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = torch.cos(x @ cosines.frequencies(2).T)
    assert (values.T @ values / len(x) - gram).abs().max() < 0.01
    norms = cosines.path_norms([1, 6])["norm_per_square"]
    for d in (1, 6):
        assert norms[d] == pytest.approx(4 + 4 * math.pi + 1 / d**2, rel=1e-9)
    assert cosines.norm_spread(cosines.path_norms([1, 6]))["norm_spread"] > 0.05


def test_nearly_orthonormal_neurons():
    size = SimpleNamespace(dims=[8, 24], rate=0.25, samples=20_000)
    rows, fits = cosines.shamir([3, 4], size)
    assert (rows["smallest"] > 0).all() and (fits["slope"] < 0).all() and (fits["closed_gap"] < 5).all()
    assert rows.loc[(3, 24), "members"] == 64
