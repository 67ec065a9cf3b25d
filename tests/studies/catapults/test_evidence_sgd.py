"""The numbers that stochastic gradient descent's claims are judged by, on made-up runs with known answers."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from traindyn.studies.catapults import evidence_sgd, planted, sgd

READ = SimpleNamespace(
    spike=0.1, excursion=1.3, window=5, rises=[0.01, 0.1], floor=1e-3, shift=0.01, residual=0.1, visits=1
)


def run(loss, over=False, norm=1.0, lead=None, seed=0, rate=1.0, outcome="finished"):
    """Return a made-up run of one seed: rate 1, batch thresholds below or above it."""
    loss = np.asarray(loss, float)
    lead = loss / 2 if lead is None else np.asarray(lead, float)
    given = {"seed": seed, "step": range(len(loss)), "loss": loss, "rate": rate, "norm": norm}
    given |= {"batch_critical": np.where(over, 0.5, 2.0), "lead_1": lead, "lead_5": lead, "rest_1": loss - lead}
    return pd.DataFrame(given | {"outcome": outcome})


SPIKE = run(
    [2.0, 1.0, 2.0, 1.5, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
    norm=[1.0, 1.1, 1.0, 0.8, 0.7, 0.8, 0.9, 0.9, 1.0, 1.1],
    lead=[1.0, 0.2, 1.1, 0.7, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1],
)


def test_rises_and_spikes_of_a_slow_and_a_fast_run():
    slow, fast = run([4.0, 3.0, 3.03, 2.0]), run([4.0, 6.0, 2.0, 2.3])
    found = evidence_sgd.shallow({"low": slow, "high": fast}, READ)
    assert found["rises"].to_dict() == {(0, "low"): 1, (0, "high"): 2}
    assert found["spikes"].to_dict() == {(0, "low"): 0, (0, "high"): 2}
    assert found["largest"].tolist() == pytest.approx([0.01, 0.5])


def test_the_kernel_around_spikes_by_hand():
    read = evidence_sgd.spikes(SPIKE, READ).loc[0]
    assert read["spikes"] == 1
    assert read["drop"] == pytest.approx(0.9 / 1.1 - 1) and read["each"] == 1.0
    assert math.isnan(read["drop_high"])  # one spike has no interval
    assert read["inside"] == pytest.approx(np.log(0.7 / 1.1))
    assert read["inside"] + read["outside"] == pytest.approx(np.log(1.1 / 1.0))
    assert read["top_1"] == pytest.approx(0.9)
    assert read["rest_rises"] == pytest.approx(1 / 9)  # 0.8 to 0.9 at the spike; 0.8 to 0.7 afterwards
    calm = evidence_sgd.spikes(run([3.0, 2.0, 1.0]), READ).loc[0]
    assert calm["spikes"] == 0 and calm[["top_1", "each", "drop"]].isna().all()
    assert evidence_sgd.spikes(SPIKE, SimpleNamespace(spike=2.0, excursion=1.3, window=5)).loc[0, "spikes"] == 0


def test_a_run_that_diverges_takes_the_kernel_to_infinity():
    gone = run([1.0, 2.0, 1e9], norm=[1.0, 2.0, math.nan], lead=[0.5, 1.4, math.nan], outcome="diverged")
    read = evidence_sgd.spikes(gone, READ).loc[0]
    assert read["spikes"] == 2 and read["inside"] == math.inf and read["drop"] == math.inf and read["each"] == 0.0
    assert read["top_1"] == pytest.approx(0.9)  # the last step has no split


def test_runs_beside_and_networks_are_told_apart():
    own, other = evidence_sgd.beside({"": SPIKE, "rank2": SPIKE.assign(seed=3)}, READ)
    assert own.loc[0, "top_1"] == other.loc[3, "top_1_rank2"] == pytest.approx(0.9)
    nets = evidence_sgd.networks({"cnn": SPIKE, "vit": SPIKE}, READ)
    assert nets.index.tolist() == [(0, "cnn"), (0, "vit")] and "inside_nets" in nets


def test_match_rate_with_its_base_rate_by_hand():
    first = run([4.0, 3.0, 6.0, 2.0, 2.1, 1.0], [False, True, True, False, False, True])
    read = evidence_sgd.match({"rank2": sgd.match(first, READ)}).loc[(0, "rank2")]
    assert read["match"] == 0.5  # rises at updates 1 (super-critical) and 3 (not)
    assert read["base"] == pytest.approx(2 / 5) and read["gain"] == pytest.approx(0.1)
    assert read["recall"] == 0.5  # of updates 1 and 2 the first raises the loss
    assert read["large"] == 1.0 and read["count_large"] == 1
    assert read["excursions"] == 1.0 and read["count_excursions"] == 1
    # one excursion of two steps: stretches (0, 1), (1, 2), (2, 3), (3, 4) of five updates, of which three hold one
    assert read["windows"] == pytest.approx(3 / 4)


def test_runs_of_the_table_may_have_seeds_of_their_own():
    first = run([4.0, 3.0, 6.0, 2.0], [False, True, True, False])
    found = evidence_sgd.match(
        {"rank2": sgd.match(pd.concat([first, first.assign(seed=1)]), READ), "cnn": sgd.match(first, READ)}
    )
    assert found.index.tolist() == [(0, "rank2"), (1, "rank2"), (0, "cnn")]


def test_gaps_between_the_two_thresholds():
    gaps = pd.DataFrame({"seed": 0, "exact": [1.0, 2.0, 3.0], "kernel": [1.1, 2.1, 3.1], "gap": [0.0, 0.1, 0.2]})
    found = evidence_sgd.thresholds({"deep": gaps}).loc[(0, "deep")]
    assert found["median_gap"] == 0.1 and found["gap_90"] == pytest.approx(0.18)
    assert found["correlation"] == pytest.approx(1.0)


def test_spikes_in_the_fast_half_of_a_cycle():
    waves = run([1.0, 2.0, 1.0, 2.0, 1.0], rate=[0.5, 1.0, 1.5, 1.0, 0.5])  # spikes at rates 0.5 and 1.5, mean 1
    found = evidence_sgd.cyclic(waves, READ).loc[0]
    assert found["high"] == 0.5 and found["rising"] == 0.5 and found["halves"] == 1.0
    waves = run([1.0, 0.5, 0.4, 2.0, 1.0], rate=[0.5, 1.0, 1.5, 1.0, 0.5])
    found = evidence_sgd.cyclic(waves, READ).loc[0]
    assert found[["high", "rising", "halves", "spikes"]].tolist() == [1.0, 0.0, 0.0, 1.0]  # on the way down


def steep(loss, over, star, residual=1.0, place=0.5):
    """Return a made-up run of `planted.planted`."""
    given = {"seed": 0, "place": place, "loss": loss, "rate": 1.0, "critical": np.where(over, 0.5, 2.0)}
    return pd.DataFrame(given | {"star": np.asarray(star, float), "residual": residual, "low": 0.25})


def test_the_planted_sample_by_counts():
    #        updates:  0 none   1 star, up   2 other, up a little   3 star, over, silent
    found = steep(
        [1.0, 1.0, 1.5, 1.508, 1.5, 1.4],
        [False, True, False, True, False, False],
        [False, True, False, True, False, False],
    )
    low, counts, rises = evidence_sgd.planted_sample(found, READ)
    assert low.loc[0, "low"] == 0.25
    row = counts.loc[(0, 0.5)]
    assert row["over"] == 2 and row["strays"] == 0 and row["crosstalk"] == 1
    assert row["mismatches"] == 2  # update 2 raises and is not super-critical, update 3 is and does not
    assert row["telling"] == 1 and row["silent"] == 1  # the first visit does not count
    assert rises.loc[(0, 0.5, 10.0), ["spikes", "precision", "recall", "unmatched"]].tolist() == [1.0, 0.5, 1.0, 1.0]
    stray = steep([1.0, 2.0, 1.0], [True, False, False], [False, False, False])
    assert planted.readings(stray, READ)["strays"].tolist() == [1]
    calm = steep([3.0, 2.0, 1.0], [False] * 3, [False] * 3)
    assert planted.thresholds(calm, READ)[["precision", "recall"]].isna().all(axis=None)
    assert planted.readings(calm, READ)[["telling", "silent"]].to_numpy().tolist() == [[0, 0]]


def test_mean_and_spread_of_batches_by_hand():
    flat = pd.DataFrame({"seed": 0, "b": [5, 5, 20, 20], "value": [1.0, 3.0, 1.0, 1.0], "whole": 0.75})
    trained = pd.DataFrame({"seed": 0, "b": [5, 20], "share": [0.5, 0.0], "per_epoch": [10.0, 0.0]})
    start, training = evidence_sgd.batch_variance(planted.explained(flat), trained)
    assert start.loc[(0, 5), ["centre", "probability", "by_spread"]].tolist() == [2.0, 0.5, 0.5]
    assert start.loc[(0, 5), "spread"] == pytest.approx(math.sqrt(2)) and start.loc[(0, 20), "spread"] == 0.0
    assert training["per_epoch"].to_dict() == {(0, 5): 10.0, (0, 20): 0.0}
