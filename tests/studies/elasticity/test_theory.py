"""The studies behind the theory of local elasticity, at small sizes and on inputs whose answer is known."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from traindyn.studies.elasticity import closed_form_flows as closed
from traindyn.studies.elasticity import example, linearised
from traindyn.studies.elasticity import homogeneous as flows
from traindyn.studies.elasticity import penalised as features
from traindyn.studies.elasticity import released_features as released
from traindyn.studies.elasticity import relu_gate as gate

SEEDS = [0, 1]


def test_section_3_tells_the_printed_forms_from_the_right_ones():
    gap = features.gradient_gap(SEEDS, 3, 5, 4)
    assert gap.index.tolist() == SEEDS
    assert gap["gap_own"].max() < 1e-10 and gap["gap_printed"].min() > 1e-2
    flow = features.flow_gap(SEEDS, 4, 2000)
    assert flow[["error_mended", "gradient_mended"]].to_numpy().max() < 1e-10
    assert flow[["error_printed", "gradient_printed"]].to_numpy().min() > 1e-3
    line = features.eq4_gap(SEEDS, 20, 6, [1e-1, 1e-3, 1e-6])
    assert line["second_line"].max() < 1e-6 and line["first_line"].min() > 1
    assert line["first_line_spread"].min() > 1e-2 and line["first_line_from_1"].max() < 1e-3


def test_without_a_penalty_nothing_moves():
    table = features.movement([0], [6, 9], 20, 50, 4)
    assert table.index.tolist() == [(0, 6), (0, 9)]
    assert table["without"].max() < 1e-10 and table["with_printed_factor"].min() > 0.01
    assert (table["unit_features"] > table["with_own_factor"]).all()


def test_curves_start_from_the_same_weights_in_every_variant():
    size = SimpleNamespace(seeds=1, p=6, dim=20, per_class=50, draws=4, iterations=400, every=100)
    runs = features.curves([3], size)
    first = runs[runs["iteration"] == 0].set_index("variant")["loss"]
    assert first["printed"] == pytest.approx(first["own_factor"], rel=1e-12)
    assert first["printed"] == pytest.approx(first["printed_signs"], rel=1e-9)
    assert first["small_start"] < first["printed"] / 100
    assert set(runs["iteration"]) == {0, 100, 200, 300, 400}
    thinned = features.thin(runs, 3)
    assert (thinned.groupby("variant")["relative"].last() == 1).all()
    assert "p=6" in features.caption([size, size])
    drawn = features.thinned({6: runs})
    assert set(drawn["variant"]) == set(features.VARIANTS) - {"printed_signs"} and drawn["loss_left"].max() <= 1


def test_choices_of_the_released_code():
    size = SimpleNamespace(p=6, dim=5, per_class=40, draws=3, iterations=400, every=100)
    found, plain = released.curves([3], size), features.curves([3], size)
    chosen = found[found["choice"] == "as printed"]["s_rel"].to_numpy()
    assert chosen == pytest.approx(plain[plain["variant"] == "printed"]["s_rel"].to_numpy())
    h = released.features_of(3, 6, 5, 40, 2**0.5)
    assert torch.equal(h, features.random_features(3, 6, 5, 40))
    out, other = torch.randn(2, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pair = h[0, :1], h[1, :1]
    inner, own, mu = float(pair[0] @ pair[1].T), float(pair[0].square().sum()), 3.0
    bottom = math.hypot(own - (mu + own) * out[0, 0], (mu + own) * out[0, 1])
    for divided, weight in ((False, inner), (True, inner / 80)):
        pull = mu * other[0] + weight * out[0]
        wanted = math.hypot(inner - pull[0], pull[1]) / bottom
        assert released.ratio(out, other, *pair, mu, 80, divided).item() == pytest.approx(wanted)
    told = released.summary(found)
    assert list(told.index) == list(released.CHOICES) and told.loc["as printed", "lowest / end"] <= 1
    assert len(released.thinned(found)) <= len(found)


def phase_of(s, loss, variant="printed"):
    frame = {"seed": 0, "variant": variant, "iteration": np.arange(len(s)), "s_rel": s, "loss": loss}
    return features.phases(pd.DataFrame(frame), settled=0.99)


def test_phases_of_curves_drawn_by_hand():
    t = np.arange(300)
    rises = phase_of(np.minimum(1 + t / 50, 3.0), np.exp(-t / 20) + 1e-3).loc[(0, "printed")]
    assert rises["late_spread"] == 0 and rises["early_below"] == 1 and rises["rise"] == 2 and rises["movement"] == 3
    assert rises["t99"] == math.ceil(20 * math.log(100)) and rises["linked"] == pytest.approx(rises["t99"] / 100)
    dips = phase_of(np.where(t < 150, 2 - t / 150, np.minimum(1 + (t - 150) / 20, 1.5)), np.exp(-t / 10))
    dips = dips.loc[(0, "printed")]
    assert dips["rise"] < 0 and dips["linked"] == 0 and dips["early_below"] < 0.5
    assert features.settling_time(torch.tensor([1.0, 0.5, 0.005, 0.5, 0.001, 0.0]), 0.99) == 4  # for good
    assert features.settling_time(torch.ones(3), 0.99) == 0


def test_loss_link_puts_the_figures_side_by_side():
    t = np.arange(300)
    both = [phase_of(np.minimum(1 + t / 50, 3.0), np.exp(-t / 20) + 1e-3, name) for name in ("printed", "small_start")]
    read = pd.concat(both)
    link = features.loss_link({6: read, 7: read})
    assert link.index.names == ["seed", "figure"] and link.index.tolist() == [(0, 6), (0, 7)]
    assert link.loc[(0, 7), "linked_small"] == read.loc[(0, "small_start"), "linked"]
    assert link.loc[(0, 6), "t99"] == read.loc[(0, "printed"), "t99"]
    assert link.loc[(0, 6), "linked_log"] == read.loc[(0, "printed"), "linked_log"]


def test_the_modified_sgd_and_its_flow_arrive():
    fit = gate.modified_sgd(SEEDS, 3, 1500, 0.1)
    assert fit["final"].max() < 1e-10 and fit["slope"].max() < 0 and fit["r2"].min() > 0.95
    gap = gate.ode_gap(SEEDS, 3, 300, 200)
    assert gap["error"].max() < 1e-8 and gap["fixed"].max() < 1e-12 and gap["distance"].max() < 1e-8
    assert gap["half_line"].min() > 0.05


def test_bounds_of_the_gate():
    share = gate.lemma_violations(SEEDS, 4, 400)
    assert (share[["mended", "mended_norm"]] == 0).all(axis=None) and share["stated_long_x"].min() > 0.01
    assert share["stated"].min() > 0
    late = gate.late_bound_check(SEEDS, 4, 60)
    assert late["late_gap"].max() < 1e-5 and late["late_below"].max() < 1e-6 and late["early_below"].min() > 0
    exact = gate.exact_gap(SEEDS, 4, 60)
    assert exact["error_right"].max() < 1e-10 and exact["error_printed"].min() > 0.1


def test_an_inner_product_may_grow_while_the_norm_falls():
    table = gate.growing_product([0.0, math.log(2)])
    assert table["inner product"].tolist() == pytest.approx([0, 0.25])
    assert table["norm"].is_monotonic_decreasing


def test_a_collinear_pair_cannot_fail_and_others_can():
    curve, found = gate.figure9(SEEDS, 800, 16)
    assert max(found["collinear_gap"]) < 1e-6 and max(found["late_gap"]) < 1e-5 and min(found["departure"]) > 0.1
    switching = curve[(curve["pair"] == "switching") & curve["resolved"]].groupby("run")["s_rel"]
    assert (switching.first() < 0.9 * curve[curve["pair"] == "switching"].groupby("run")["bound"].first()).all()
    at_rest = torch.ones(1, 3, 10, dtype=torch.float64)
    s, resolved = gate.gate_s_rel(at_rest, torch.ones(1, 10), torch.ones(1, 10), 0.1)
    assert s.isnan().all() and not resolved.any()


def test_theorems_of_section_5():
    bound = flows.bound_check(SEEDS, 200)
    assert bound["violations"].tolist() == [0.0, 0.0] and bound["finite_step"].max() < 1e-3
    assert bound[["expansion", "equality"]].to_numpy().max() < 1e-12
    flow = flows.flow_check(SEEDS, 3)
    assert flow["gradient"].max() < 1e-10 and flow["off_diagonal_2"].tolist() == [0.0, 0.0]
    assert flow["off_diagonal_1"].min() > 1e-6
    logistic = flows.logistic_check(SEEDS, 3, 1500)
    assert logistic[["weights", "above"]].to_numpy().max() < 1e-10 and logistic["s_rel"].max() < 1e-5
    assert flows.eq14_terms_left() == 0 and flows.eq14_gap(SEEDS)["gap"].max() < 1e-12


def test_the_example_has_the_printed_moments():
    found = flows.example_moments([0], 50_000).loc[0]
    assert found["standard_errors_a"] < 4.5 and found["standard_errors_b"] < 4.5 and found["smallest_a"] > 0
    assert flows.starts_outside() == 0


def S_of(case, time):
    """S of instances of Theorem 5.3 at one time."""
    return closed.s_rel_symmetric(case, torch.tensor([time], dtype=torch.float64))[..., 0]


def test_the_symmetric_case_and_its_lemma():
    case = flows.symmetric_check(SEEDS, 300)
    assert (case[["violations_mended", "same_mended", "unsound"]] == 0).all(axis=None)
    assert case[["violations_printed", "step_fails_for_negative_k1"]].to_numpy().min() > 0.05
    assert case["s_falls"].min() > 0.1
    # the sign of the slowest exponential, against S itself where the next one has died out
    instances = flows.symmetric_cases(SEEDS, 300)
    slow = instances.a.amin(-1)
    apart = (instances.a.amax(-1) - slow) > 1
    late = torch.stack([S_of(instances, t) for t in (2.0, 6.0)])
    for seed in range(len(SEEDS)):
        share = (late[0, seed] > late[1, seed])[apart[seed]].double().mean().item()
        assert share == pytest.approx(case["s_falls_late"].iloc[seed], abs=0.15)
    gap, front = flows.factorised_gap(SEEDS, 200), flows.prefactor_gap(SEEDS, 200)
    assert gap["error_mended"].max() < 1e-10 and gap["error_printed"].min() > 0.01
    assert front["front_mended"].max() < 1e-10 and front["front_printed"].min() > 0.01
    assert front["limit_gap"].max() < 1e-9
    lemma = flows.lemma_check(SEEDS, 2000)
    assert (lemma[["violations", "bound_falls"]] == 0).all(axis=None) and lemma["violations_negative_b1"].min() > 0


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
    assert shares["rays_falling"].min() > 0.9 and shares["rays_monotone"].max() < 0.9
    # the literal clause fails wherever S climbs above S(x', x') = 1 first
    assert (shares["rays_unbeaten"] >= shares["interior_maximum"] - 1e-12).all()
    pairs = example.random_pairs(SEEDS, 300)
    assert pairs["share_predicted"].min() > 0.98 and pairs["share_falling"].min() > 0.4
    assert pairs["without_window"].min() > 0 and pairs["bounded"].between(0.9, 0.98).all()


def test_proximity_is_bounded_by_its_factor_only():
    found = example.proximity_check(SEEDS, 200)
    assert (found["exceeding"] == 0).all() and (found["outgrowing"] == 0).all()
    assert found["variation"].max() < 9 / 4
    assert found["uniform_slope"].tolist() == pytest.approx([-1, -1])
    assert found["slope"].tolist() == pytest.approx([1, 1], abs=0.05)
    assert found["self_proximity"].min() > 0 and found["triangle"].min() > 0 and found["ratio_99"].min() > 1


def test_sgd_of_the_example_starts_at_its_start_and_arrives():
    path = example.sgd_paths([5], 3, 4200)
    assert path[0, 0, 0].tolist() == pytest.approx([0.5, 2, 4])
    assert 2000 < example.first_within(path, [5]).loc[5, "first_step"] < 4200
    assert example.first_within(path[:10], [5]).loc[5, "first_step"] == math.inf
    frame = example.sgd_s_rel(path[:50], [5])
    assert frame["seed"].unique().tolist() == [5]
    start = frame[(frame["step"] == 0) & (frame["panel"] == "a")].set_index("measure")["s_rel"]
    assert start["limit"] == pytest.approx(start["eq. 14"], rel=1e-12)
    assert start["definition 1"] != pytest.approx(start["limit"], rel=1e-6)


def test_the_linearised_network_does_not_move_and_a_wide_one_moves_less():
    exact = linearised.linearised_check([0], 16, samples=8, steps=30)
    assert exact.loc[0, "taylor"] < 1e-12 and 0 < exact.loc[0, "constancy"] < 1e-9
    trend = linearised.width_trend([0], [16, 256], samples=8, steps=40, records=4)["movement"]
    assert 1 < trend[0, 256] < trend[0, 16]
