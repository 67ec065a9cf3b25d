"""The studies behind the theory of local elasticity, at small sizes and on inputs whose answer is known."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from traindyn.studies.elasticity import example, linearised
from traindyn.studies.elasticity import homogeneous as flows
from traindyn.studies.elasticity import penalised as features
from traindyn.studies.elasticity import relu_gate as gate

SEEDS = [0, 1]


def test_section_3_tells_the_printed_forms_from_the_right_ones():
    gap = features.gradient_gap(SEEDS, 3, 5, 4)
    assert max(gap["eq3"]) < 1e-10 and min(gap["printed"]) > 1e-2
    flow = features.flow_gap(SEEDS, 4, 2000)
    assert max(flow["right-error"] + flow["right-slope"]) < 1e-10
    assert min(flow["printed-error"] + flow["printed-slope"]) > 1e-3
    line = features.eq4_gap(SEEDS, 20, 6, [1e-1, 1e-3, 1e-6])
    assert max(line["formula"]) < 1e-6 and min(line["spread"]) > 1e-2 and max(line["at-zero"]) < 1e-3


def test_without_a_penalty_nothing_moves():
    table = features.movement([0], 6, 20, 50, 4).set_index("setting")
    assert table.loc["none", "largest"] < 1e-10
    assert table.loc["printed", "typical"] > 0.01


def test_curves_start_from_the_same_weights_in_every_variant():
    runs = features.curves([3], 6, 20, 50, 4, 400, 100)
    first = runs[runs["iteration"] == 0].set_index("variant")["loss"]
    assert first["printed M"] == pytest.approx(first["M of Eq. 3"], rel=1e-12)
    assert first["printed M"] == pytest.approx(first["printed signs"], rel=1e-9)
    assert first["small start"] < first["printed M"] / 100
    assert set(runs["iteration"]) == {0, 100, 200, 300, 400}
    thinned = features.thin(runs, 3)
    assert (thinned.groupby("variant")["relative"].last() == 1).all()


def phase_of(s, loss):
    frame = {"seed": 0, "variant": "printed M", "iteration": np.arange(len(s)), "s_rel": s, "loss": loss}
    return features.phases(pd.DataFrame(frame)).iloc[0]


def test_phases_of_curves_drawn_by_hand():
    t = np.arange(300)
    rises = phase_of(np.minimum(1 + t / 50, 3.0), np.exp(-t / 20) + 1e-3)
    assert rises["late_spread"] == 0 and rises["early_below"] == 1 and rises["rise"] == 2 and rises["movement"] == 3
    assert rises["t99"] == math.ceil(20 * math.log(100)) and rises["linked"] == pytest.approx(rises["t99"] / 100)
    dips = phase_of(np.where(t < 150, 2 - t / 150, np.minimum(1 + (t - 150) / 20, 1.5)), np.exp(-t / 10))
    assert dips["rise"] < 0 and dips["linked"] == 0 and dips["early_below"] < 0.5


def test_the_modified_sgd_and_its_flow_arrive():
    errors, fit = gate.modified_sgd(SEEDS, 3, 1500, 0.1)
    assert max(fit["final"]) < 1e-10 and max(fit["slope"]) < 0 and min(fit["r2"]) > 0.95
    assert len(errors) == 2 * 1501
    gap = gate.ode_gap(SEEDS, 3, 300, 200)
    assert max(gap["error"]) < 1e-8 and max(gap["fixed"]) < 1e-12 and max(gap["distance"]) < 1e-8
    assert min(gap["half-line"]) > 0.05


def test_bounds_of_the_gate():
    share = gate.lemma_violations(SEEDS, 4, 400)
    assert share["projection"] == share["norm"] == [0.0, 0.0] and min(share["printed-long"]) > 0.01
    late = gate.late_bound_check(SEEDS, 4, 60)
    assert max(late["late-gap"]) < 1e-5 and min(late["early-below"]) > 0
    exact = gate.exact_gap(SEEDS, 4, 60)
    assert max(exact["right"]) < 1e-10 and min(exact["printed"]) > 0.1


def test_a_collinear_pair_cannot_fail_and_others_can():
    curve, found = gate.figure9(SEEDS, 800, 16)
    assert max(found["collinear-gap"]) < 1e-6 and max(found["late-gap"]) < 1e-5 and min(found["departure"]) > 0.1
    switching = curve[(curve["pair"] == "switching") & curve["resolved"]].groupby("run")["s_rel"]
    assert (switching.first() < 0.9 * curve[curve["pair"] == "switching"].groupby("run")["bound"].first()).all()
    at_rest = torch.ones(1, 3, 10, dtype=torch.float64)
    s, resolved = gate.gate_s_rel(at_rest, torch.ones(1, 10), torch.ones(1, 10), 0.1)
    assert s.isnan().all() and not resolved.any()


def test_theorems_of_section_5():
    bound = flows.bound_check(SEEDS, 200)
    assert bound["violations"] == [0.0, 0.0] and max(bound["finite-step"]) < 1e-3
    assert max(bound["expansion"] + bound["equality"]) < 1e-12
    flow = flows.flow_check(SEEDS, 3)
    assert max(flow["gradient"]) < 1e-10 and flow["off-diagonal-2"] == [0.0, 0.0] and min(flow["off-diagonal-1"]) > 1e-6
    logistic = flows.logistic_check(SEEDS, 3, 1500)
    assert max(logistic["weights"] + logistic["above"]) < 1e-10 and max(logistic["s-rel"]) < 1e-5
    assert flows.eq14_symbolic() and max(flows.eq14_gap(SEEDS)) < 1e-12


def test_the_example_has_the_printed_moments():
    found = flows.example_moments([0], 50_000)
    assert found["a"][0] < 4.5 and found["b"][0] < 4.5 and found["smallest-a"][0] > 0


def test_the_symmetric_case_and_its_lemma():
    case = flows.symmetric_check(SEEDS, 300)
    assert case["corrected"] == case["b2-mended"] == [0.0, 0.0] and case["sound"] == [1.0, 1.0]
    assert min(case["printed"]) > 0.05 and min(case["b2-slip"]) > 0.05 and min(case["falling"]) > 0.1
    gap = flows.factorised_gap(SEEDS, 200)
    assert max(gap["corrected"] + gap["front-corrected"]) < 1e-10 and min(gap["printed"]) > 0.01
    lemma = flows.lemma_check(SEEDS, 2000)
    assert lemma["violations"] == lemma["falling"] == [0.0, 0.0] and min(lemma["negative-b1"]) > 0


def test_windows_of_a_curve_drawn_by_hand():
    times = torch.arange(5.0)
    inside = example.windows(times, torch.tensor([0.0, 3.0, 1.0, 2.0, 2.0]))
    assert inside[3].tolist() == [True, False, True, False, False]  # below 2, the least from t* = 3 on, and earlier
    assert inside[1].tolist() == [True, False, False, False, False]
    assert not inside[0].any()


def test_the_panels_of_figure_11_share_no_window():
    scan = example.common_window(torch.arange(0, 4001, 8, dtype=torch.float64))
    assert scan["a"].max() > 0 and scan["b"].max() > 0 and scan["both"].max() == 0
    ends = example.exact_ends()
    assert (ends["formula"] - ends["exact"]).abs().max() < 1e-12


def test_rays_and_pairs_of_the_example():
    line = example.ray([500.0])
    assert line.loc[line["z"] == 0, "s_rel"].item() == pytest.approx(1.0)
    assert line["distance"].max() == pytest.approx(300**0.5)
    shares = example.rays(SEEDS, 200)
    assert min(shares["falls"]) > 0.9 and max(shares["monotone"]) < 0.9
    # the literal clause fails exactly where S climbs above S(x', x') = 1 first
    assert all(a + b <= 1 + 1e-12 for a, b in zip(shares["interior"], shares["literal"], strict=True))
    pairs = example.random_pairs(SEEDS, 300)
    assert min(pairs["predicted"]) > 0.98 and max(pairs["rising"]) < 0.6 and max(pairs["window"]) < 1


def test_proximity_is_bounded_by_its_factor_only():
    found = example.proximity_check(SEEDS, 200)
    assert all(found["bounded"]) and max(found["variation"]) < 9 / 4
    assert found["uniform-slope"] == pytest.approx([-1, -1]) and found["slope"] == pytest.approx([1, 1], abs=0.05)


def test_sgd_of_the_example_starts_at_its_start_and_arrives():
    path = example.sgd_paths([5], 3, 4200)
    assert path[0, 0, 0].tolist() == pytest.approx([0.5, 2, 4])
    (first,) = example.first_within(path, 1e-6)
    assert 2000 < first < 4200
    assert math.isnan(example.first_within(path[:10])[0])
    frame = example.sgd_s_rel(path[:50])
    start = frame[(frame["step"] == 0) & (frame["panel"] == "a")].set_index("measure")["s_rel"]
    assert start["limit"] == pytest.approx(start["eq. 14"], rel=1e-12)
    assert start["definition 1"] != pytest.approx(start["limit"], rel=1e-6)


def test_figure_12_reads_gap_and_correlation():
    t = np.arange(20)
    rows = []
    for panel in "ab":
        for measure, scale in (("eq. 14", 1.0), ("limit", 1.01), ("definition 1", 1.05 if panel == "b" else 1.0)):
            rows.append(
                pd.DataFrame({"panel": panel, "measure": measure, "seed": 0, "step": t, "s_rel": scale * (1 + t)})
            )
    parts, measured = example.figure12_parts(pd.concat(rows))
    assert parts == {
        "values-a": [True], "values-b": [False], "shape-a": [True], "shape-b": [True],
        "limit-values": [True], "limit-shape": [True],
    }  # fmt: skip
    assert measured["gap_b_def1"] == pytest.approx([0.05])


def test_the_linearised_network_does_not_move_and_a_wide_one_moves_less():
    exact = linearised.linearised_check([0], 16, samples=8, steps=30)
    assert exact["taylor"][0] < 1e-12 and 0 < exact["constancy"][0] < 1e-9
    trend = linearised.width_trend([0], [16, 256], samples=8, steps=40, records=4).set_index("width")["movement"]
    assert 1 < trend[256] < trend[16]
