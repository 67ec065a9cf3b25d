"""The readings of the catapult figures on curves with a known answer, and the formulas on small networks in float64."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from traindyn.compute import generator
from traindyn.learn.train import Stop
from traindyn.measure.ntk import empirical_ntk
from traindyn.studies.catapults import (
    evidence_gd,
    evidence_sgd,
    gd,
    one_step,
    planted,
    sgd,
    tasks,
    theory,
    watcher,
)

SIZE = SimpleNamespace(
    data="rank2", classes=[], side=8, n=16, dim=10, net="fcn", width=24, depth=3, base=4, batch=0, steps=6
)


def sgd_frame(loss, over, norm, lead=None):
    """Return a run of one seed: rate 1, batch thresholds below or above it."""
    loss = np.asarray(loss, float)
    lead = loss / 2 if lead is None else np.asarray(lead, float)
    return pd.DataFrame(
        {
            "seed": 0,
            "step": range(len(loss)),
            "loss": loss,
            "rate": 1.0,
            "batch_critical": np.where(over, 0.5, 2.0),
            "norm": norm,
            "lead_1": lead,
            "lead_5": lead,
            "rest_1": loss - lead,
        }
    )


def test_excursions_begin_at_a_rise_and_end_when_the_loss_is_back():
    loss = np.array([4.0, 3.0, 3.1, 3.0, 2.0, 5.0, 4.0, 2.5, 1.9, 1.0, 1.2])
    assert sgd.excursions(loss) == [(4, 8)]
    assert sgd.excursions(loss, peak=1.01) == [(1, 3), (4, 8), (9, 10)]
    assert sgd.excursions(np.array([3.0, 2.0, 1.0])) == []


def test_match_rate_with_its_base_rate_by_hand():
    loss = [4.0, 3.0, 6.0, 2.0, 2.1, 1.0]
    over = [False, True, True, False, False, True]
    read = sgd.match(sgd_frame(loss, over, 1.0)).iloc[0]
    assert read["match"] == 0.5  # rises at updates 1 (super-critical) and 3 (not)
    assert read["base"] == pytest.approx(2 / 5)
    assert read["recall"] == 0.5  # of updates 1 and 2 the first raises the loss
    assert read["large"] == 1.0 and read["count_large"] == 1
    assert read["excursions"] == 1.0 and read["count_excursions"] == 1


def test_the_kernel_around_spikes_by_hand():
    loss = [2.0, 1.0, 2.0, 1.5, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    norm = [1.0, 1.1, 1.0, 0.8, 0.7, 0.8, 0.9, 0.9, 1.0, 1.1]
    lead = [1.0, 0.2, 1.1, 0.7, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1]
    read = sgd.around_spikes(sgd_frame(loss, [False] * 10, norm, lead)).iloc[0]
    assert read["spikes"] == 1
    assert read["drop"] == pytest.approx(0.9 / 1.1 - 1) and read["each"] == 1.0
    assert read["inside"] == pytest.approx(np.log(0.7 / 1.1))
    assert read["inside"] + read["outside"] == pytest.approx(np.log(1.1 / 1.0))
    assert read["top_1"] == pytest.approx(0.9)
    assert read["rest_rises"] == pytest.approx(1 / 9)  # 0.8 to 0.9 at the spike; 0.8 to 0.7 afterwards


def test_share_of_the_rise_and_outcomes():
    frame = pd.DataFrame(
        {
            "seed": 1,
            "step": range(5),
            "loss": [1.0, 3.0, 2.0, 1.0, 0.005],
            "lead_5": [0.5, 2.4, 1.6, 0.7, 0.0],
            "rest_5": [0.5, 0.6, 0.4, 0.3, 0.005],
            "norm": [4.0, 3.0, 2.0, 2.0, 2.0],
            "critical": 2.0,
            "rate": 2.5,
            "defect": 0.0,
            "outcome": "finished",
        }
    )
    read = gd.single(frame).iloc[0]
    assert read["peak"] == 3.0 and read["kernel"] == 0.5 and read["edge"] == 0.8 and read["rise"] == 3.0
    assert read["share"] == pytest.approx(0.1 / 2.0) and read["steps_up"] == 1 and read["worst"] == pytest.approx(0.2)
    assert gd.outcome(frame) == ["converged"]
    assert gd.outcome(frame.assign(norm=[4.0, 3.0, 2.0, 2.0, 0.01])) == ["collapsed"]
    assert gd.outcome(frame.assign(outcome="diverged")) == ["diverged"]


def test_the_probe_splits_the_loss_and_knows_the_batch():
    found = tasks.follow([3], tasks.variant(SIZE, batch=4), [(0, 0.5)], torch.float64)
    assert found["defect"].max() < 1e-12
    assert (found["lead_5"] + found["rest_5"] - found["loss"]).abs().max() < 1e-12
    # a batch's kernel is a principal submatrix: b/||K_b|| <= (n/||K||) only up to b/n
    assert (found["batch_critical"] >= 4 / SIZE.n * found["critical"] - 1e-12).all()
    model = tasks.network(SIZE).double()
    model.reset(generator(3, "init"))
    X, _ = tasks.task(3, SIZE)
    critical = len(X) / torch.linalg.eigvalsh(empirical_ntk(model, X))[-1].item()
    assert found["critical"].iloc[0] == pytest.approx(critical) and found["ratio"].iloc[0] == pytest.approx(0.5)


def test_rates_are_multiples_of_the_first_critical_rate_and_divergence_is_an_outcome():
    found = tasks.follow([3], SIZE, [(0, 0.5), (2, 0.8)], torch.float64)
    assert found["ratio"].tolist() == pytest.approx([0.5, 0.5] + 5 * [0.8])
    far = tasks.follow([3], tasks.variant(SIZE, steps=40), [(0, 40.0)], torch.float64)
    assert far["outcome"].iloc[0] == "diverged" and gd.outcome(far) == ["diverged"]


def test_the_wall_of_a_quadratic_model_is_at_two():
    size = tasks.variant(SIZE, steps=60, width=256, ratios=[0.5, 1.5, 2.6])
    found = gd.survival([3], size, torch.float64, "cpu", quadratic=True)
    assert found["diverged"].tolist() == [False, False, True] and found["final"].isna().tolist() == [False, False, True]
    read = gd.limits(found, 1.5, 2.6).iloc[0]
    assert read["bounded"] and read["first"] == 2.6


def test_limits_of_the_rate_by_hand():
    nan = float("nan")
    table = pd.DataFrame(
        {
            "seed": [0, 0, 0, 1, 1, 1],
            "ratio": [2, 4, 8] * 2,
            "diverged": [False, False, True] + 3 * [False],
            "final": [0.01, 0.5, nan, 0.5, 0.01, 0.6],
        }
    )
    read = gd.limits(table, 4, 8)
    assert read["bounded"].tolist() == [True, False] and read["usable"].tolist() == [2, 4]
    assert read["first"].isna().tolist() == [False, True]


def test_the_cheap_probe_sees_the_same_batches():
    size = tasks.variant(SIZE, batch=4)
    whole = tasks.follow([3], size, [(0, 0.5)], torch.float64)
    cheap = tasks.follow([3], size, [(0, 0.5)], torch.float64, look=tasks.batch_probe())
    assert cheap["batch_critical"].to_numpy() == pytest.approx(whole["batch_critical"].to_numpy(), rel=1e-10)


def test_many_outputs_averaged_over_all_entries_have_k_times_the_critical_rate():
    size = tasks.variant(SIZE, data="digits", classes=[0, 1, 2], n=12, width=2000, depth=2)
    assert tasks.over_scalar([3], size, "none", torch.float64)[0] == pytest.approx(1.0, abs=0.2)


def test_the_table_of_match_rates_is_judged_by_means_and_against_windows():
    over = [False, True, True, False, False, True]
    run = sgd_frame([4.0, 3.0, 6.0, 2.0, 2.1, 1.0], over, 1.0)
    # one excursion of two steps: stretches (0, 1), (1, 2), (2, 3), (3, 4) of five updates, of which three hold one
    assert sgd.match(run).iloc[0]["windows"] == pytest.approx(3 / 4)
    found = evidence_sgd.match({"rank-2": pd.concat([run, run.assign(seed=1)]), "images": run})
    assert found["parts"]["match"] is False and found["parts"]["excursions"] is True
    assert found["measured"]["mean_match"] == 0.5 and found["parts"]["above-windows"] is True


def test_the_raise_is_compared_with_the_run_without_it():
    def run(losses):
        return pd.DataFrame({"seed": 0, "step": range(len(losses)), "loss": losses})

    raised, kept = run([1.0, 3.0, 1.0, 5.0, 1.0, 9.0]), run([1.0, 3.0, 1.0, 2.0, 1.0, 9.0])
    table = pd.DataFrame({"seed": 0, "phase": [1, 2, 3], "norm": [0.5, 0.3, 0.1], "rise": 3.0, "loss": 0.001})
    found = evidence_gd.multi(table, raised, kept, 2, 4, {"rank-2": table})
    assert found["parts"]["raise-matters"].tolist() == [True]  # 5 against 2 in steps 2 to 4
    assert found["measured"]["peak_over_that_without_the_raise"].tolist() == [2.5]
    assert found["parts"]["rank-2"].tolist() == [True]


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


def test_the_planted_sample_has_a_quarter_of_the_critical_rate():
    X, y = planted.planted_task(3, 20)
    assert X.norm(dim=1).tolist() == pytest.approx([2.0] + 19 * [1.0]) and y[0] == 2
    run = planted.planted([3], SimpleNamespace(n=20, width=400, steps=60), [0.5], torch.float64, "cpu")
    read = planted.planted_readings(run).iloc[0]
    assert read["low"] == pytest.approx(0.25, rel=0.2) and read["exact"]


def test_smaller_batches_have_larger_norms_in_the_mean():
    size = tasks.variant(SIZE, n=60, sizes=[5, 20], batches=20)
    norms = planted.explained(planted.batch_norms([3], size, torch.float64)).set_index("b")
    assert norms.loc[5, "mean"] > norms.loc[20, "mean"] > 0
    flat = pd.DataFrame({"seed": 0, "b": [5, 5, 20, 20], "value": [1.0, 3.0, 1.0, 1.0], "whole": 0.75})
    table = planted.explained(flat).set_index("b")
    assert table.loc[5, ["mean", "probability", "by_mean", "by_spread"]].tolist() == [2.0, 0.5, 1.0, 0.5]


def test_the_watcher_alternates_above_and_below_the_critical_rate():
    model = tasks.network(SIZE).double()
    X, _ = tasks.task(3, SIZE)
    critical = 8 / torch.linalg.eigvalsh(empirical_ntk(model, X[:8]))[-1].item()
    rate = watcher.watcher(8, 5, above=1.2, below=0.5, period=20, until=40)
    found = [rate(SimpleNamespace(model=model, X=X, step=step)).item() / critical for step in (0, 9, 10, 20, 45)]
    assert found == pytest.approx([1.2, 1.2, 0.5, 1.2, 0.5])
    with torch.no_grad():
        next(model.parameters()).fill_(float("inf"))
    assert torch.isnan(rate(SimpleNamespace(model=model, X=X, step=0)))


def test_the_watcher_is_compared_with_the_best_rate_that_never_diverges():
    nan = float("nan")
    table = pd.DataFrame(
        [
            (s, "constant", r, t)
            for s, pair in ((0, (1.0, 0.5)), (1, (1.0, nan)))
            for r, t in zip((1, 2), pair, strict=True)
        ]
        + [(0, "watcher", nan, 0.8), (1, "watcher", nan, 0.9)],
        columns=["seed", "method", "ratio", "test"],
    )
    answer = watcher.verdict(table)
    assert answer["best"] == 1 and answer["says"] == "helps" and answer["wins"] == 2


def test_three_excursions_are_asked_for_in_every_phase():
    table = pd.DataFrame(
        {
            "seed": [0, 0, 0, 1, 1, 1],
            "norm": [0.5, 0.3, 0.1, 0.5, 0.6, 0.1],
            "rise": [2, 3, 4, 1.5, 3, 4],
            "loss": 0.001,
        }
    )
    read = evidence_gd.multiple(table)
    assert read["three"].tolist() == [True, False] and read["falls"].tolist() == [True, False]
    assert read["converges"].all()


def test_sgd_may_stop_on_its_loss_and_a_schedule_does_not():
    done = tasks.follow([3], SIZE, [(0, 0.1)], torch.float64, stop=Stop(loss=1e9))
    assert done["step"].max() == 0 and done["outcome"].iloc[0] == "stopped"
    assert tasks.follow([3], SIZE, [(0, 0.5), (5, 0.9)], torch.float64)["step"].max() == SIZE.steps
