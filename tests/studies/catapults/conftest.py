"""A small experiment of the chapter on catapults."""

from types import SimpleNamespace

import pytest
import torch

from traindyn.studies.catapults import tasks


@pytest.fixture
def size():
    """Sizes of a network of 24 units on 16 samples of the rank-2 task, full batch."""
    return SimpleNamespace(data="rank2", n=16, dim=10, net="fcn", width=24, depth=3, batch=0, steps=6)


@pytest.fixture
def follow():
    """`tasks.follow` for one seed in float64."""
    return tasks.follower([3], torch.float64, "cpu", "none")
