"""The numbers that the formulas are judged by, on made-up tables with known answers."""

import pandas as pd
import pytest

from traindyn.studies.catapults import evidence_theory


def test_the_split_of_networks_and_along_a_run():
    exact = pd.DataFrame({"seed": [0, 1], "defect": 1e-16, "kernel": 1e-15, "dropped": 0.1, "ascending": 0.01})
    run = pd.DataFrame({"seed": 0, "loss": [1.0, 0.5], "defect": [1e-9, 1e-7], "outcome": "finished", "norm": 1.0})
    run = run.assign(lead_5=run["loss"], rest_5=0.0, critical=1.0, rate=1.0)
    small, along = evidence_theory.splitting(exact, run)
    assert small["kernel_error"].tolist() == [1e-15] * 2 and along["defect_run"].to_dict() == {0: 1e-7}


def test_the_lemma_keeps_its_three_numbers():
    lemma = pd.DataFrame({"seed": [0], "violation": -1e-4, "edge": 0.0, "beyond": 0.04, "exact": 1e-16})
    assert evidence_theory.descent_lemma(lemma).loc[0].to_dict() == {"violation": 0.0, "edge": 0.0, "beyond": 0.04}


def test_slopes_of_the_gap_are_per_seed_and_depth():
    rows = [
        (depth, width, seed, seed / width**depth, 0.5 if width == 64 else 0.9)
        for depth in (1, 2)
        for width in (16, 64)
        for seed in (3, 4)
    ]
    gaps = pd.DataFrame(rows, columns=["depth", "width", "seed", "gap", "half"])
    lemma = pd.DataFrame({"seed": [3, 4], "exact": 1e-16})
    linear, gap, ends = evidence_theory.critical_gap(gaps, lemma)
    assert linear["linear_gap"].tolist() == [1e-16] * 2 and gap.loc[(3, 1, 16), "gap"] == 3 / 16
    assert ends["slope"].to_dict() == pytest.approx({(3, 1): -1, (3, 2): -2, (4, 1): -1, (4, 2): -2})
    assert ends["factor_gap"].tolist() == [0.5] * 4


def test_flow_and_remainder():
    euler = pd.DataFrame({"seed": [0], "error": 1e-6, "ratio": 0.5})
    assert evidence_theory.gradient_flow(euler).loc[0, "ratio"] == 0.5
    second = pd.DataFrame({"seed": [0], "quadratic": 1e-9, "tanh": 1e-6, "spread": 0.1})
    remainder = pd.DataFrame({"seed": 0, "width": [64, 256], "remainder": [0.4, 0.1]})
    ratios, slopes = evidence_theory.second_order(second, remainder)
    assert ratios.loc[0].to_dict() == {"quadratic_gap": 1e-9, "tanh_gap": 1e-6, "tau_spread": 0.1}
    assert slopes["slope"].to_dict() == {0: pytest.approx(-1)}


def test_agreement_leaves_out_steps_near_the_threshold():
    steps = pd.DataFrame(
        {
            "seed": 0,
            "over": [True, True, False, True],
            "grows": [True, False, False, False],
            "near": [False, False, False, True],
            "remainder": [0.1, 0.2, 0.3, 0.4],
        }
    )
    assert evidence_theory.batch_steps(steps).loc[0].to_dict() == pytest.approx({"agreement": 2 / 3, "remainder": 0.25})


def test_errors_of_the_layers_keep_their_seeds():
    layers = {"printed": [3.0, 4.0], "corrected": [0.0, 1e-16], "fully": [0.0, 0.0], "taps": {}}
    found = evidence_theory.layer_sums([5, 6], layers)
    assert found["printed_error"].to_dict() == {5: 3.0, 6: 4.0} and found["mended_error"].tolist() == [0.0, 1e-16]
