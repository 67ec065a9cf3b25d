"""Rises that the step with a frozen kernel foresees: exact for a linear model, counted by hand."""

import pandas as pd
import pytest
import torch

from traindyn.compute import normal
from traindyn.studies.catapults import overshoot, tasks


def test_the_linear_step_is_exact_for_a_linear_model():
    Z, w, y = normal([1], "features", 6, 4)[0], normal([1], "weights", 4)[0], normal([1], "labels", 6)[0]
    batch, rate = torch.tensor([1, 4]), 0.3
    residual = Z @ w - y
    after = w - rate * 2 / 2 * Z[batch].T @ residual[batch]  # gradient of (1/2) sum over the batch of (f - y)^2
    exact = (Z @ after - y).square().mean()
    assert overshoot.linear_loss(Z @ Z.T, residual, batch, rate).item() == pytest.approx(exact.item(), rel=1e-12)


def test_a_small_step_of_a_network_is_foreseen(size, follow):
    steps = overshoot.watched(tasks.variant(size, batch=4, steps=5), 1e-3, follow)
    assert len(steps) == 5 and steps["predicted"].tolist() == pytest.approx(steps["change"].tolist(), rel=0.02)
    assert (steps["threshold"] < 0.1).all()


def test_shares_and_verdict_by_hand():
    rows = [  # change, predicted, threshold
        (0.1, 0.2, 0.8),
        (0.1, -0.1, 0.4),
        (-0.1, -0.2, 0.9),
        (-0.1, 0.1, 0.3),
        (-0.1, -0.1, 0.2),
        (0.5, -0.5, 1.5),  # super-critical: not asked
    ]
    steps = pd.DataFrame(rows, columns=["change", "predicted", "threshold"]).assign(seed=3)
    found = overshoot.shares(steps).iloc[0]
    assert found["rises"] == 2 and found["foreseen"] == 0.5 and found["false_alarms"] == pytest.approx(1 / 3)
    assert found["band"] == 0.5 and found["band_others"] == pytest.approx(1 / 3)
    for foreseen, alarms, says in (
        (0.95, 0.0, "yes"),
        (0.95, 0.2, "undecided"),
        (0.3, 0.0, "no"),
        (0.7, 0.0, "undecided"),
    ):
        assert overshoot.verdict(pd.DataFrame({"foreseen": [foreseen], "false_alarms": [alarms]})) == says


@pytest.mark.parametrize("c", [1.2, 1.9])
def test_the_exercise_on_overshoot(c):
    K, batch = (
        torch.ones(4, 4, dtype=torch.float64),
        torch.tensor([0]),
    )  # all samples react alike; a quarter is the batch
    edge = (2 * c - 1) / 3

    def change(r):
        residual = torch.tensor([1.0, r, r, r], dtype=torch.float64)
        return (overshoot.linear_loss(K, residual, batch, c / 2) - residual.square().mean()).item()

    assert change(edge - 0.01) > 0 > change(edge + 0.01) and change(edge) == pytest.approx(0, abs=1e-12)
    assert edge < c / 2  # each of the others grows below c/2; the whole loss does so only below this
