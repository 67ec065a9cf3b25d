"""The formulas of the text, on small networks in float64."""

from types import SimpleNamespace

import pytest
import torch

from traindyn.studies.catapults import one_step, theory


def test_formulas_of_the_text():
    exact = theory.splitting([3, 4], SimpleNamespace(n=24, dim=8, width=20, depth=4))
    assert exact["defect"].max() < 1e-12 and exact["kernel"].max() < 1e-10
    assert exact["dropped"].min() > 1e-3 and exact["ascending"].max() < 0.1
    lemma = theory.descent_lemma([3], SimpleNamespace(n=20, dim=50, draws=200)).iloc[0]
    assert lemma["violation"] < 1e-9 and lemma["edge"] < 1e-9 and lemma["beyond"] == pytest.approx(1.02**2 - 1)
    second = one_step.second_order([3], 30, 5).iloc[0]
    assert second["quadratic"] < 1e-6 and second["tanh"] < 1e-3
    euler = one_step.flow([3], 30, 5).iloc[0]
    assert euler["error"] < 1e-3 and 0.45 < euler["ratio"] < 0.55


def test_the_printed_convolution_reads_one_pixel_and_the_mended_one_is_torchs():
    layers = theory.layer_sums([3])
    assert layers["printed"][0] > 0.1 and layers["corrected"][0] < 1e-12 and layers["fully"][0] < 1e-12
    assert layers["taps"] == {1: 2, 3: 3, 5: 4, 7: 5}
    # a filter that is one at a single tap: the mended sum shifts the image, the printed one shifts by (1, 1) always
    a, W = torch.arange(9.0).reshape(1, 3, 3), torch.zeros(3, 3, 1, 1)
    W[2, 1] = 1
    assert theory.corrected_convolution(a, W)[0].tolist() == [[3, 4, 5], [6, 7, 8], [0, 0, 0]]
    assert theory.printed_convolution(a, W)[0].tolist() == [[0, 0, 0], [0, 0, 1], [0, 3, 4]]


def test_the_gap_to_the_kernel_shrinks_with_the_width():
    gaps = theory.critical_gap([3], SimpleNamespace(n=16, dim=10, nets=[[2, [64, 1024]]])).set_index("width")
    assert gaps.loc[1024, "gap"] < gaps.loc[64, "gap"] and gaps.loc[1024, "half"] == pytest.approx(0.5, abs=0.05)


def test_one_step_leaves_a_small_remainder_and_grows_above_the_threshold():
    rest = one_step.remainder_by_width([3], SimpleNamespace(n=16, dim=10, depth=3, widths=[64, 1024]))
    assert rest.set_index("width")["remainder"].is_monotonic_decreasing
    steps = one_step.batch_steps([3], SimpleNamespace(n=32, dim=10, width=1000, batches=20, sizes=[5]), 0.02)
    clear = steps[~steps["near"]]
    assert (clear["over"] == clear["grows"]).mean() > 0.9 and (steps["remainder"] < 0.2).all()
