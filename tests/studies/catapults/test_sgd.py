"""Experiments with stochastic gradient descent, on small networks."""

import numpy as np
import pytest
import torch

from traindyn.studies.catapults import sgd, tasks


def test_a_rate_between_the_thresholds_of_the_batches(size):
    own = tasks.variant(size, batch=4)
    rates, whole = sgd.batch_thresholds(3, own, "none", 200, torch.float64)
    ratio = sgd.between(own, [3], "none", torch.float64)[3]
    assert rates.min() < ratio * whole < np.median(rates)


def test_the_hessian_of_a_batch_is_close_to_its_kernel(size, follow):
    own = tasks.variant(size, batch=4, width=2000, depth=2, every=3)
    found = sgd.hessian_against_kernel(own, 0.2, follow)
    assert found["step"].tolist() == [0, 3, 6] and found["gap"].max() < 0.05
    assert found["gap"].tolist() == pytest.approx((found["kernel"] / found["exact"] - 1).abs().tolist())
