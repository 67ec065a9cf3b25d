"""Every drawing of the chapter, on small tables: the right panels, and one colour for one kind of curve."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from traindyn.studies.elasticity import example, figures, penalised

STATISTICS = ["mean", "off_diagonal"]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def grid(**levels):
    """A table with one row for every combination, and a positive column value."""
    frame = pd.MultiIndex.from_product(levels.values(), names=levels).to_frame(index=False)
    return frame.assign(value=1.0 + np.arange(len(frame)) % 7)


def drawn(fig):
    """Return {label: colours} of the lines of all panels."""
    found = {}
    for ax in fig.axes:
        for line in ax.get_lines():
            if not line.get_label().startswith("_"):
                found.setdefault(line.get_label(), set()).add(str(line.get_color()))
    return found


def one_colour_each(fig):
    return all(len(colours) == 1 for colours in drawn(fig).values())


def test_image_figures():
    classes = {"sampled class": [0, 1, 6], "class of x'": [0, 1, 6]}
    frame = grid(seed=[0, 1], step=[0, 5], statistic=STATISTICS, **classes)
    fig = figures.classes(frame, "mean")
    assert sum(ax.get_visible() for ax in fig.axes) == 3 and one_colour_each(fig)
    kinds = grid(seed=[0, 1], step=[0, 5], kind=["same class", "other class"])
    assert set(drawn(figures.own_and_other(kinds))) == {"same class", "other class"}
    runs = grid(run=["one", "two"], seed=[0, 1], step=[0, 5], statistic=STATISTICS, kind=["same class", "other class"])
    fig = figures.statistics(runs)
    assert len(fig.axes) == 4 and one_colour_each(fig)


def test_regression_figures():
    cloud = grid(seed=[0], t=[1, 2, 3], points=["normal", "ray"], distance=[1.0, 2.0]).rename(columns={"value": "srel"})
    assert len(figures.distance(cloud).axes) == 3
    pairs = grid(init=["torch", "he"], seed=[0, 1], t=[0, 5], pair=["near", "far"]).rename(columns={"value": "srel"})
    fig = figures.pairs(pairs)
    assert [ax.get_title() for ax in fig.axes] == ["torch initialisation", "he initialisation"] and one_colour_each(fig)
    risks = grid(init=["torch", "he"], seed=[0, 1], t=[0, 5], quantity=["S", "risk"], curve=["one", "two"])
    assert len(figures.risks(risks).axes) == 4


def test_theory_figures():
    levels = {"seed": [0, 1], "variant": list(penalised.VARIANTS), "iteration": [1, 2]}
    shown = grid(**levels).assign(loss=lambda f: f["value"], relative=lambda f: f["value"])
    fig = figures.features(shown)
    assert len(fig.axes) == 4 and one_colour_each(fig) and fig.axes[1].get_ylim() == fig.axes[2].get_ylim()
    curve = grid(pair=list(figures.PAIRS), run=[0, 1], step=[0, 1]).assign(relative=1.0, resolved=True)
    assert len(figures.gate(curve).axes) == 3
    movement = grid(seed=[0, 1], width=[8, 32]).set_index(["seed", "width"]).rename(columns={"value": "movement"})
    assert "linearised network" in drawn(figures.widths(movement))
    assert len(figures.ray(example.ray([0, 500])).axes) == 2
    assert len(figures.over_time(example.over_time(20), example.exact_ends()).axes) == 2
    sgd = example.sgd_s_rel(example.sgd_paths([0, 1], 2, 10), [0, 1])
    assert one_colour_each(figures.sgd(sgd))
