"""Every figure of the chapter is drawn and captioned from small tables; the archived run stands beside the live one."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from traindyn.studies.catapults import figures, gd, show, tasks


class Page:
    """What of a chapter the drawings use; keeps the figures it is given."""

    def __init__(self, older=None, size=None):
        self.older, self.size, self.shown, self.glued = older or {}, size, {}, {}

    def glue(self, name, value):
        self.glued[name] = value

    def figure(self, name, fig, *, caption, alt, data=None):
        self.shown[name] = SimpleNamespace(axes=len(fig.axes), caption=caption, alt=alt, data=data)
        plt.close(fig)

    def archived(self, name):
        return self.older.get(name)

    def archived_size(self, experiment):
        return self.size

    def archived_figure(self, name, draw, *, caption, alt):
        if (table := self.archived(name)) is not None:
            self.figure(f"{name}-archived", draw(table), caption=caption, alt=alt, data=table)


@pytest.fixture
def run(size, follow):
    return follow(tasks.variant(size, batch=4), 0.5, seeds=[3, 4])


def test_a_run_alone_and_with_the_archived_one(size, run):
    page = Page()
    show.run(page, "sgd", run, tasks.variant(size, batch=4), "Figure 1.", 5)
    alone = page.shown["sgd"]
    assert alone.axes == 3 and alone.caption.startswith("Figure 1. The rank-2 regression task")
    assert "seeds 3 to 4" in alone.caption and set(alone.data["seed"]) == {3, 4}
    page = Page({"sgd": alone.data}, tasks.variant(size, batch=4))
    show.run(page, "sgd", run, tasks.variant(size, batch=4), "Figure 1.", 5)
    assert page.shown["sgd"].axes == 6 and "Below, the archived run:" in page.shown["sgd"].caption


def test_a_run_that_was_left_out_leaves_the_archived_one_alone(size, run, follow):
    none, page = follow(tasks.variant(size, batch=4), 0.5, seeds=[]), Page()
    show.run(page, "sgd", none, size, "Figure 1.")
    show.nets(page, "nets", {"A": none}, {"A": size}, "One.", 1)
    assert not page.shown
    older = figures.kept(run, 5)
    page = Page({"sgd": older, "nets": older.assign(network="A")}, tasks.variant(size, batch=4))
    show.run(page, "sgd", none, size, "Figure 1.")
    show.nets(page, "nets", {"A": none}, {"A": size}, "One.", 5)
    assert page.shown["sgd"].axes == page.shown["nets"].axes == 3
    assert "The archived run:" in page.shown["sgd"].caption and "this run" not in page.shown["sgd"].caption
    show.run(page, "again", run, size, "Figure 1.", older=False)
    assert page.shown["again"].axes == 3


def test_a_run_that_goes_up_does_not_flatten_the_others():
    loss = {1: [1.0, 2.0, 0.1], 2: [1.0, 50.0, 9e4]}
    frame = pd.concat(
        pd.DataFrame({"seed": seed, "step": range(3), "loss": values, "norm": [4.0, 2.0, 1.0], "ratio": 1.5})
        for seed, values in loss.items()
    ).assign(lead_5=0.1, rest_5=0.2)
    fig = figures.rows({"": frame}, 5)
    assert fig.axes[0].get_ylim()[1] == pytest.approx(4.0)
    plt.close(fig)
    fig = figures.rows({"": frame[frame["seed"] == 2]}, 5)  # nothing else to see
    assert fig.axes[0].get_ylim()[1] > 9e4
    plt.close(fig)


def test_the_opening_figure_is_the_archived_run_where_there_is_one(size, run):
    own = tasks.variant(size, batch=4, times=[0], ratios=[0.5])
    for older, seeds in ((None, [3, 4]), (figures.kept(run[run["seed"] == 4], 10), [4])):
        page = Page({"extended": older} if older is not None else {}, own)
        show.staircase(page, run, own)
        assert sorted(page.shown["staircase"].data["seed"].unique()) == seeds
        assert page.glued["stairs_ratio"] == pytest.approx(0.5)
        assert 1 < page.glued["stairs_edge_least"] <= page.glued["stairs_edge_most"] < 4  # half the critical rate


def test_a_run_that_diverges_is_drawn_until_then_and_named(size, follow):
    gone = follow(tasks.variant(size, steps=40), 40.0)
    assert figures.kept(gone, 5)["loss"].max() <= tasks.DIVERGED < gone["loss"].max()
    page = Page()
    show.run(page, "gone", gone, size, "Figure 1.")
    assert "of which diverged: 3" in page.shown["gone"].caption


def test_the_run_that_is_split_is_one_that_came_down():
    frame = pd.DataFrame({"seed": [1, 1, 2, 2], "loss": [1.0, 2.0, 1.0, 0.5], "lead_5": 0.1, "rest_5": 0.2, "step": 0})
    assert figures.typical(frame)["seed"].unique().tolist() == [2]
    assert figures.typical(frame[frame["seed"] == 1])["seed"].unique().tolist() == [1]
    assert figures.split(frame, 5)["part"].unique().tolist() == ["all", "5 leading", "rest"]


def test_networks_have_a_row_each(size, run):
    page = Page()
    show.nets(page, "nets", {"A": run, "B": run}, {"A": size, "B": size}, "Two.", 1)
    assert page.shown["nets"].axes == 6 and page.shown["nets"].data["network"].unique().tolist() == ["A", "B"]


def test_curves_by_hand_and_by_width(size):
    page = Page()
    hand = pd.DataFrame({"step": [0, 1, 2], "loss": [1.0, 3.0, 0.1], "norm": [4.0, 5.0, 1.0], "critical_norm": 2.0})
    show.by_hand(page, hand, size)
    two = pd.DataFrame({"ratio": [0.7, 0.7, 2.1, 2.1], "step": [0, 1] * 2, "loss": [1.0, 0.5, 1.0, float("nan")]})
    show.two_numbers(page, two.assign(norm=1.0, eta=0.7))
    assert page.shown["two-numbers"].axes == 2
    widths = pd.DataFrame({"depth": [2, 2, 3, 3], "width": [64, 256] * 2, "seed": 1, "gap": 0.1, "drift": 0.2})
    show.critical(page, widths, size)
    show.drift(page, widths, size)
    assert [page.shown[name].axes for name in ("by-hand", "critical", "drift")] == [2, 1, 1]


def test_rates_that_diverge_stand_at_the_top():
    table = pd.DataFrame({"seed": 0, "ratio": [2.0, 4.0], "diverged": [False, True], "final": [0.1, float("inf")]})
    sizes = [SimpleNamespace(data="digits", n=8, width=4, steps=9)] * 3
    page = Page({"survival": table.assign(model="five layers")})
    show.survival(page, {name: table for name in ("deep", "shallow", "quadratic")}, sizes)
    assert page.shown["survival"].axes == 3 and page.shown["survival-archived"].axes == 1


def test_shares_of_several_runs(run):
    page = Page()
    show.shares(page, gd.shares_of({"one": run, "two": run}))
    assert page.shown["shares"].axes == 2 and page.shown["shares"].data["run"].unique().tolist() == ["one", "two"]


def test_the_planted_sample_at_the_middle_rate():
    steps = {
        "step": range(3),
        "loss": [1.0, 2.0, 0.5],
        "rate": 1.0,
        "critical": [2.0, 0.5, 2.0],
        "star": [0.0, 1.0, 0.0],
    }
    steep = pd.concat(
        [pd.DataFrame({"seed": seed, "place": place} | steps) for seed in (0, 1) for place in (0.2, 0.5, 0.8)]
    )
    page = Page()
    show.planted(page, steep, SimpleNamespace(n=9, width=4, places=[0.2, 0.5, 0.8]))
    assert page.shown["planted"].data[["seed", "place"]].drop_duplicates().to_numpy().tolist() == [[0.0, 0.5]]


def test_thresholds_of_batches_and_of_their_hessians(size, run):
    page = Page()
    show.thresholds(page, {"low rate": run, "high rate": run}, tasks.variant(size, batch=4, low=0.1))
    gaps = pd.DataFrame({"seed": 0, "exact": [1.0, 2.0], "kernel": [1.1, 2.1]})
    own = SimpleNamespace(every=3, width=4, batch=2)
    show.diagonal(page, {"shallow": gaps, "deep": gaps}, {"shallow": own, "deep": own})
    assert page.shown["shallow-rates"].axes == 4 and page.shown["thresholds"].axes == 1
    assert "widths 4, 4, batches 2, 2 (shallow, deep)" in page.shown["thresholds"].caption


def test_match_rates_and_batch_sizes():
    table = pd.DataFrame({"seed": [0, 1], "match": 0.9, "base": 0.5, "excursions": 1.0, "windows": 0.7})
    page = Page()
    show.match(page, {"a": table, "b": table}, {"shallow": "97.32 +- 0.45"})
    assert page.shown["match"].axes == 2 and "shallow 97.32 +- 0.45 %" in page.shown["match"].caption
    norms = pd.DataFrame({"seed": 0, "b": [5, 10], "value": [0.3, 0.2], "whole": 0.1})
    parts = pd.DataFrame({"seed": 0, "b": [5, 10], "mean": [0.3, 0.2]})
    trained = pd.DataFrame({"seed": 0, "b": [5, 10], "per_epoch": [3.0, 0.0]})
    show.batches(page, norms, parts, trained, SimpleNamespace(sizes=[5, 10], batches=1, steps=2, n=20, width=4))
    assert page.shown["batches"].axes == 2 and list(page.shown["batches"].data.columns) == [
        "seed",
        "b",
        "mean",
        "per_epoch",
    ]


def test_the_watcher_beside_constant_rates():
    rows = [(0, "constant", 1.0, 0.5), (0, "constant", 2.0, float("nan")), (0, "watcher", float("nan"), 0.4)]
    table = pd.DataFrame(rows, columns=["seed", "method", "ratio", "test"])
    page = Page()
    show.watcher(page, {"rank2": table}, {"rank2": {"best": 1.0}})
    assert page.shown["watcher"].axes == 1


def test_a_schedule_in_words():
    assert show.schedule([(0, 1.67), (15, 2.78)]) == "rates 1.67, 2.78 of the critical one, from the steps 0, 15 on"
