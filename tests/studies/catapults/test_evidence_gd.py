"""The numbers that gradient descent's claims are judged by, on made-up runs with known answers."""

import math

import numpy as np
import pandas as pd
import pytest

from traindyn.studies.catapults import evidence_gd, gd

INF = math.inf


def run(loss, norm=None, rest=None, seed=1, outcome="finished", **columns):
    """Return a made-up run of `tasks.follow` of one seed; half of the loss leads unless `rest` says otherwise."""
    loss = np.asarray(loss, float)
    rest = loss / 2 if rest is None else np.asarray(rest, float)
    given = {"seed": seed, "step": range(len(loss)), "loss": loss, "norm": 4.0 if norm is None else norm}
    given |= {"critical": 2.0, "rate": 2.5, "ratio": 1.25, "within": 3, "defect": 0.0, "outcome": outcome}
    given |= {f"{name}_{s}": part for s in (1, 2, 5, 10) for name, part in (("lead", loss - rest), ("rest", rest))}
    return pd.DataFrame(given | columns)


UP = run([1.0, 3.0, 2.0, 1.0, 0.01], [4.0, 3.0, 2.0, 2.0, 2.0], [0.5, 0.6, 0.4, 0.3, 0.005])
GONE = run([1.0, 9.0, 1e7], [4.0, 9.0, math.nan], seed=2, outcome="diverged")


def test_a_catapult_by_hand_and_a_run_that_diverged():
    found = evidence_gd.catapult(pd.concat([UP, GONE]))
    first, second = found.loc[1], found.loc[2]
    assert (first["peak"], first["final"], first["norm"], first["edge"]) == (3.0, 0.01, 0.5, 0.8)
    assert first["share"] == pytest.approx(0.1 / 2.0)  # 0.1 of the complement, 1.9 of the leading part
    assert first["steps_up"] == 1 and first["worst"] == pytest.approx(0.2)
    assert (second["peak"], second["final"], second["norm"], second["edge"]) == (INF, INF, INF, 0.0)


def test_a_climb_begins_where_the_loss_has_come_down_to():
    falls_and_climbs = run([1.0, 0.5, 0.8, 0.05, 0.4])  # by 1.6 from 0.5; by 8 from 0.05, which is below a tenth
    assert evidence_gd.climbing({"fcn": falls_and_climbs}, 0.1)["climb"].tolist() == pytest.approx([1.6])
    assert evidence_gd.climbing({"fcn": falls_and_climbs}, 0.01)["climb"].tolist() == pytest.approx([8.0])
    assert evidence_gd.climbing({"fcn": UP, "cnn": GONE}, 0.1)["climb"].to_dict() == {(1, "fcn"): 3.0, (2, "cnn"): INF}


def test_the_first_figure_takes_its_control_from_the_same_network():
    half = pd.DataFrame({"depth": [5, 5, 2], "width": [64, 128, 64], "seed": 1, "peak": [1.0, 1.5, 2.0]})
    own, biased, below = evidence_gd.fcn_single(UP, GONE.assign(seed=1), half, 64)
    assert own.loc[1, "peak"] == 3.0 and biased.loc[1, "peak_zero"] == INF and below.loc[1, "peak_at_half"] == 1.0
    assert evidence_gd.fcn_single(UP, UP, half, 256)[2].empty  # not run: the name is there, its rows are not


def test_the_scan_is_read_seed_by_seed():
    settings = [
        (2, "none", "none", 1.0),
        (5, "none", "none", 1.0),
        (5, "none", "none", 1.414),
        (5, "zero", "zero", 1.0),
    ]
    rows = [
        (seed, *setting, rate)
        for seed, rates in ((0, (1.7, 9.0, 4.5, 2.3)), (1, (1.0, 9.5, 4.7, 2.0)))
        for setting, rate in zip(settings, rates, strict=True)
    ]
    scan = pd.DataFrame(rows, columns=["seed", "depth", "hidden bias", "output bias", "input factor", "critical"])
    own, bare, start, start_bare = evidence_gd.rank2(UP.assign(start=1.6), GONE, scan)
    assert own.loc[1, "peak"] == 3.0 and bare.loc[2, "peak_bare"] == INF and start.loc[1, "start"] == 1.6
    assert start_bare["start_bare"].tolist() == [9.0, 9.5]
    means = gd.closest(scan, 1.9, 2)
    assert means["mean"].tolist() == pytest.approx([2.15, 1.35])  # 0.25 and 0.55 away
    assert means[["min", "max"]].to_numpy().tolist() == [[2.0, 2.3], [1.0, 1.7]]


def test_the_norm_of_many_outputs_keeps_its_seed():
    assert evidence_gd.over_scalar(pd.Series({3: 0.9, 4: 1.1}))["over_scalar"].to_dict() == {3: 0.9, 4: 1.1}


def test_largest_rates_by_hand():
    table = pd.DataFrame(
        {
            "seed": [0, 0, 0, 1, 1, 1],
            "ratio": [2.0, 4.0, 8.0] * 2,
            "diverged": [False, False, True] + 3 * [False],
            "final": [0.01, 0.5, INF, 0.5, 0.01, 0.6],
        }
    )
    found, within = evidence_gd.eta_max({"deep": table}, UP, 0.1)
    assert found.loc[(0, "deep")].tolist() == [8.0, 2.0, 8.0] and found.loc[(1, "deep")].tolist() == [INF, 4.0, 8.0]
    assert list(found.columns) == ["diverges_from", "usable", "highest"] and within.loc[1, "within"] == 3
    assert gd.limits(table, 0.001)["usable"].tolist() == [0.0, 0.0]


def test_the_drift_at_the_largest_width_of_each_depth():
    drift = pd.DataFrame(
        {
            "depth": [2, 2, 5],
            "width": [64, 256, 128],
            "seed": 1,
            "drift": [0.3, 0.1, 0.2],
            "rises": [1, 0, 2],
            "peak": 1.0,
        }
    )
    every, widest = evidence_gd.subcritical(drift)
    assert every["rises"].to_dict() == {(1, 2, 64): 1, (1, 2, 256): 0, (1, 5, 128): 2}
    assert widest["drift_widest"].to_dict() == {(1, 2): 0.1, (1, 5): 0.2}
    assert widest["rises_widest"].to_dict() == {(1, 2): 0, (1, 5): 2}
    assert widest.loc[(1, 2), "slope"] == pytest.approx(np.log(1 / 3) / np.log(4))
    assert math.isnan(widest.loc[(1, 5), "slope"])  # one width has no slope


def test_claim_one_names_spaces_and_tells_tasks_apart():
    without = UP.drop(columns=[f"{part}_{s}" for part in ("lead", "rest") for s in (1, 2)])
    single, three = evidence_gd.claim1({"images": UP}, {"images": without, "rank2": without})
    assert single["share_1"].to_dict() == {(1, "images"): pytest.approx(0.05)}
    assert three.index.tolist() == [(1, "images"), (1, "rank2")] and three["steps_up_5_three"].tolist() == [1, 1]
    assert "share_1_three" not in three  # a space that this run did not record


def test_phases_of_a_run_that_finishes_and_of_one_that_diverges():
    whole = run([1.0, 3.0, 1.0, 5.0, 1.0, 9.0, 0.1], [4.0, 4.0, 2.0, 2.0, 1.0, 1.0, 0.5])
    (found,) = evidence_gd.phases({"": gd.phases(whole, [0, 2, 4])})
    assert found["peak"].tolist() == [3.0, 5.0, 9.0] and found["norm"].tolist() == [0.5, 0.25, 0.125]
    assert found["loss"].tolist() == [1.0, 1.0, 0.1] and found.index.tolist() == [(1, 1), (1, 2), (1, 3)]
    gone = run([1.0, 3.0, 1.0, 1e7], [4.0, 4.0, 2.0, math.nan], outcome="diverged")
    (found,) = evidence_gd.phases({"cnn": gd.phases(gone, [0, 2, 4])})
    assert found["peak_cnn"].tolist() == [3.0, INF, 0.0] and found["norm_cnn"].tolist() == [0.5, INF, INF]
    assert found["loss_cnn"].tolist() == [1.0, INF, INF]


def test_the_raise_is_compared_with_the_run_without_it():
    raised, kept = run([1.0, 3.0, 1.0, 5.0, 1.0, 9.0]), run([1.0, 3.0, 1.0, 2.0, 1.0, 9.0])
    found = evidence_gd.raised(raised, kept.assign(norm=[4.0] + 4 * [3.0] + [2.0]), 2, 4)
    assert found["raised"].tolist() == [2.5] and found["kept"].tolist() == [0.5]  # 5 against 2 in steps 2 to 4
    early = evidence_gd.raised(raised.iloc[:2], kept, 2, 4)  # diverged before
    assert early["raised"].isna().tolist() == [True]


def test_how_runs_end_that_looked_at_their_ends_only():
    ends_only = UP.assign(norm=[4.0, math.nan, math.nan, math.nan, 0.02])
    both, cnn = evidence_gd.ends({16.7: UP}, {16.7: GONE.assign(seed=1), 4.17: ends_only}, GONE)
    assert both.loc[(1, "scheduled", 16.7), ["peak", "final", "norm"]].tolist() == [3.0, 0.01, 0.5]
    assert both.loc[(1, "start", 16.7)].tolist() == [INF] * 3
    assert both.loc[(1, "start", 4.17), "norm"] == pytest.approx(0.005)
    assert cnn.loc[2, "peak_cnn"] == INF
