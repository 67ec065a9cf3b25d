"""Evidence and tables of the two-layer students, on made-up runs with a known answer."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from traindyn.studies.student_teacher import evidence, tables, tasks

EPOCHS = [0, 1, 2, 5, 20, 100, 200]


def recorded(best, rho=None, pick=None, norm=None, epochs=None, loss=None, p=1.0, lead=None):
    """Return what looks like a trained experiment of seeds 10, 11, ..."""
    best = np.asarray(best, dtype=float)
    seeds, times = best.shape[:2]
    rho = np.zeros((seeds, times, 1)) if rho is None else np.asarray(rho, dtype=float)
    return tasks.Trained(
        seeds=[10 + i for i in range(seeds)], p=p, factor=1,
        epochs=np.arange(times) if epochs is None else np.asarray(epochs), best=best, rho=rho,
        pick=np.zeros(rho.shape, dtype=int) if pick is None else np.asarray(pick),
        lead=rho if lead is None else np.asarray(lead, dtype=float),
        norm=np.ones(rho.shape) if norm is None else np.asarray(norm, dtype=float), balance=np.ones(rho.shape),
        loss=np.ones((seeds, times)) if loss is None else np.asarray(loss, dtype=float), power=np.ones(seeds),
    )  # fmt: skip


def learner(first: int, then: int, seeds: int = 2, m: int = 20):
    """Return a run that has recovered `first` of m teachers at epoch 5 and `then` at epoch 100, strongest first."""
    best = np.zeros((seeds, len(EPOCHS), m))
    best[:, 3:, :first], best[:, 5:, :then] = 0.99, 0.99
    return recorded(best, epochs=EPOCHS)


def test_cover_times_and_their_order():
    best = np.zeros((2, 4, 3))
    best[:, 1:, 0], best[0, 2:, 1], best[1, 3, 1] = 0.99, 0.96, 0.97
    run = recorded(best)
    assert evidence.recovery(run, 2, 0.95).tolist() == [2 / 3, 1 / 3]
    assert evidence.cover_time(run, 0.95).tolist() == [[1, 2, math.inf], [1, 3, math.inf]]
    assert evidence.cover_time(run, 0.95, 2).tolist() == [[1, 2, math.inf], [1, math.inf, math.inf]]
    assert evidence.order(run, 0.95)[0] == pytest.approx(1)
    assert math.isnan(evidence.order(recorded(np.zeros((1, 4, 3))), 0.95)[0])


def test_followers_and_trajectories():
    rho, pick = [[[0.99, 0.99, 0.5, 0.9]]], [[[0, 0, 1, 1]]]
    run = recorded([[[0.99, 0.5]]], rho, pick)
    assert evidence.followers(run, 0, 0.95).tolist() == [[2, 0]]
    found = evidence.trajectories(run, 0.95)
    assert found.loc[(10, 0)].tolist() == [2, 0] and found.loc[(10, 1)].tolist() == [0, math.inf]
    two = recorded(np.zeros((1, 3, 2)), np.full((1, 3, 2), 0.5), np.array([[[0, 0]] * 2 + [[0, 1]]]), epochs=[0, 1, 2])
    two.pairs = np.arange(12.0).reshape(1, 3, 2, 2)
    ways = tables.trajectories(two, 500)
    assert ways["updates"].tolist() == [500, 1000] * 2 and ways["teacher"].tolist() == [0, 0, 1, 1]
    assert ways["own"].tolist() == [4, 8, 7, 11] and set(ways["lead"]) == {0.5}


def test_the_l_shape_in_units_of_each_seed():
    rho = [[[0.99, 0.99, 0.5, 0.9]] * 2, [[0.5, 0.5, 0.5, 0.5]] * 2]
    norm = [[[2.0, 4.0, 0.3, 2.0]] * 2, [[1.0] * 4] * 2]
    run = recorded(np.ones((2, 2, 2)), rho, norm=norm, epochs=[0, 2])
    found = evidence.l_shape({5: run}, SimpleNamespace(matched=0.95, loose=0.8, high=0.5), early=2)
    assert found.loc[(10, 5, "end")].tolist() == pytest.approx([1, 0.1, 0.25])
    assert found.loc[(11, 5, "early"), "loose"] == 4
    assert found.loc[11, ["strength", "corner"]].isna().all().all()  # nothing to measure it by
    assert len(tables.cloud({5: run}, [0, 2])) == 16


def test_strong_first_counts_followers_and_ranks_cover_times():
    run = recorded(
        np.tile(np.where(np.arange(20) < 5, 0.99, 0.0), (2, 7, 1)), np.full((2, 7, 4), 0.99),
        np.tile([0, 0, 12, 13], (2, 7, 1)), epochs=EPOCHS,
    )  # fmt: skip
    by_width, control = evidence.strong_first({5: run}, learner(5, 10), 0.95)
    assert by_width.loc[(10, 5), ["strongest", "weak"]].tolist() == [2, 0.2]
    two_groups = math.sqrt(3 * 5 * 15 / (20**2 - 1))  # Spearman with five at once and fifteen never
    assert by_width.loc[(10, 5), "order"] == pytest.approx(two_groups)
    assert control.loc[11, "order_equal"] == pytest.approx(two_groups)


def test_focus_shifting_follows_those_that_chase_the_strongest():
    epochs = [0, 0.5, 1, 5, 100]
    rho = np.full((1, 5, 5), 0.92)
    rho[0, 1] = [0.6, 0.6, 0.6, 0.4, 0.8]  # the fourth is not close enough to chase, the fifth chases another
    pick = np.zeros((1, 5, 5), dtype=int)
    pick[0, 1:, 4], pick[0, 2:, 1], pick[0, 4, 2] = 3, 1, 7
    rho[0, 4, 2] = 0.85  # it has left, and is not aligned with the other one
    best = np.zeros((1, 5, 20))
    best[0, 1:, 0] = 0.95
    opening, moves = evidence.focus_shifting({5: recorded(best, rho, pick, epochs=epochs)}, 0.5, 0.9)
    assert opening.loc[10].to_dict() == {"chasing": 0.6, "covered": 0.5, "turned": 1}
    assert moves.loc[(10, 5)].to_dict() == {"chasers": 3, "switched": 1, "held": 3, "left": 0}
    nobody, _ = evidence.focus_shifting({5: recorded(best, rho, np.zeros_like(pick), epochs=epochs)}, 0.5, 0.9)
    assert math.isnan(nobody.loc[10, "turned"])


def test_recovery_rates_by_cell():
    runs = {1: learner(6, 8), 10: learner(18, 20)}
    rates, halves, decays, early = evidence.recovery_rates(runs, {0.5: {1: learner(12, 12, seeds=1)}}, 1.0, 0.95)
    assert rates.loc[(10, 1, 5), "rate"] == 0.3 and rates.loc[(11, 10, 100), "rate"] == 1
    assert halves.loc[(10, 1.0, 1, 100)].tolist() == [0.8, 0] and halves.loc[(10, 1.0, 10, 5)].tolist() == [1, 0.8]
    assert decays.loc[(10, 0.5, 1, 5)].to_dict() == {"strong_decay": 1, "weak_decay": 0.2} and len(decays) == 2
    assert early.loc[(10, 0.5, 1), "early"] == 0.6 and len(early) == 1
    table = tables.rates([runs], 0.95)
    assert len(table) == 80 and table.query("epoch == 5 and width == '1x'")["rate"].sum() == 6


def test_stuck_faster_evolution():
    narrow = learner(6, 18)
    narrow.best[0, 6, 18], narrow.loss[0, 6] = 0.99, 0.25
    rates, numbers, mild = evidence.stuck({1: narrow}, narrow, {0.5: {1: learner(6, 20)}}, 0.95)
    assert rates.loc[(10, 1, 100), "rate"] == 0.9 and mild["mild"].tolist() == [1, 1]
    assert numbers.loc[10].to_dict() == {"share": 0.95, "missed": 2, "late": 1, "doubled": 0, "kept": 0.25}
    assert numbers.loc[11, "kept"] == 1 and numbers.loc[11, "late"] == 0
    part = narrow.of([11])
    assert part.seeds == [11] and part.best.shape[0] == 1 and (part.loss == narrow.loss[1]).all() and part.pairs is None
    cover = evidence.faster({1: learner(6, 15), 10: learner(20, 20)}, 0.95)
    assert cover["cover"].loc[10].tolist() == [(5 * 100 + 5 * 101) / 10, 5]  # never counts as one epoch later
    order, weak, missed = evidence.evolution(learner(12, 20), learner(6, 17), 0.95)
    assert order.index.tolist() == [10, 11] and weak.loc[(10, 1), "weak_best"] == 0
    assert weak.loc[(10, 20), "weak_best"] == pytest.approx(0.99 * 0.2) and missed["missed_steep"].tolist() == [3, 3]
    assert len(tables.best(learner(1, 2))) == 6 * 20


def test_losses_by_width_and_epoch():
    runs = {
        f: recorded(np.zeros((2, 7, 20)), epochs=EPOCHS, loss=np.tile(10.0 ** -np.arange(7) / f, (2, 1)))
        for f in (1, 10)
    }
    found = evidence.losses(runs)
    assert (
        found.loc[(10, 10, 100), "loss"] == pytest.approx(1e-6)
        and found.loc[(11, 1, 0), "loss"] == 1
        and len(found) == 20
    )
    assert tables.losses(runs)["log10_loss"].min() == pytest.approx(-7)


def test_the_numbers_of_the_prose():
    runs = {f: learner(6 + f, 18 + (f > 1)) for f in (1, 2, 5, 10)}
    found = tables.told(runs, runs[1], 0.95, 0.9, 0.5)
    assert found["early_1x"] == 0.35 and found["late_1x"] == 0.9 and found["short"] == pytest.approx(2)
    assert (
        found["first"] == 5 and found["last"] == math.inf and found["cover_2x"] == pytest.approx((9 * 100 + 101) / 10)
    )
    assert found["idle_10x"] == 1 and found["carried_10x"] == 1 and found["loss100_5x"] == 0
    assert math.isnan(found["loss10_5x"]) and math.isnan(found["switched"])


def test_short_runs_give_tables_without_rows():
    short = {f: recorded(np.zeros((2, 1, 20))) for f in (1, 5)}
    assert all(
        math.isnan(value) or value == math.inf for value in tables.told(short, short[1], 0.95, 0.9, 0.5).values()
    )
    for made in (
        *evidence.strong_first(short, short[5], 0.95), *evidence.focus_shifting(short, 0.5, 0.9),
        *evidence.recovery_rates(short, {0.5: short}, 1.0, 0.95), *evidence.stuck(short, short[1], {0.5: short}, 0.95),
        evidence.faster(short, 0.95), *evidence.evolution(short[5], None, 0.95),
    ):  # fmt: skip
        assert len(made) == 0 and made.dtypes.eq("float64").all() and made.index.names[0] == "seed"
