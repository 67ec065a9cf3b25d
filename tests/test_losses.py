"""Losses check the type and the range of their targets, and errors count what has diverged."""

import math

import pytest
import torch

from traindyn import losses
from traindyn.errors import InputError

f = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
k = torch.arange(6) % 3


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_class_indices_of_any_whole_type_are_torchs(kind):
    expected = torch.nn.functional.cross_entropy(f, k)
    torch.testing.assert_close(losses.value("cross_entropy", f, k.to(kind)), expected)
    losses.check_targets("cross_entropy", k.to(kind), 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.check_targets("cross_entropy", k + 1, 3), "from 1 to 3"),
        (lambda: losses.check_targets("cross_entropy", k - 1, 3), "from -1 to 1"),
        (lambda: losses.check_targets("hinge", k.double()), "-1 and \\+1"),
        (lambda: losses.check_targets("mse", torch.tensor([math.nan])), "NaN"),
        (lambda: losses.value("mse", f, f > 0), "bool"),
        (lambda: losses.value("cross_entropy", f, k > 0), "class indices"),
        (lambda: losses.value(lambda f, y: (f - y) ** 2, f, f), "scalar"),
        (lambda: losses.value(lambda f, y: 0.0, f, f), "scalar"),
        (lambda: losses.error_rate(f[:, :1], k), "do not fit"),
    ],
)
def test_targets_that_do_not_fit_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_errors_of_one_column_and_of_what_has_diverged():
    one = torch.ones(5, 1)
    assert losses.error_rate(-one, one) == 1 and losses.error_rate(one, one) == 0
    assert losses.error_rate(torch.full((4, 3), math.nan), torch.zeros(4, dtype=torch.long)) == 1
    assert losses.error_rate(torch.full((4,), math.nan), -torch.ones(4)) == 1
