"""Every drawing of the chapter, on small tables: the right panels, and one colour for one kind of curve."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from traindyn.studies.elasticity import example, figures, released_features


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
    frame = grid(seed=[0, 1], step=[0, 5], variant=["limit", "adam"], statistic=["off_diagonal"], **classes)
    fig = figures.classes(frame, "off_diagonal")
    assert sum(ax.get_visible() for ax in fig.axes) == 3 and one_colour_each(fig)
    kinds = grid(seed=[0, 1], step=[0, 5], kind=["same class", "other class"])
    assert set(drawn(figures.own_and_other(kinds))) == {"same class", "other class"}
    read = grid(variant=list(figures.READINGS), seed=[0, 1], step=[0, 5], kind=["same class", "other class"])
    fig = figures.variants(read)
    assert [ax.get_title() for ax in fig.axes if ax.axison] == list(figures.READINGS.values()) and one_colour_each(fig)
    spread = (
        grid(seed=[0, 1], step=[0, 5])
        .drop(columns="value")
        .assign(own_median=1.0, own_least=0.1, other_median=0.5, largest=10.0)
    )
    assert len(figures.denominators(spread).axes) == 2
    for nothing in (figures.classes(frame[:0], "median"), figures.variants(read[:0]), figures.denominators(spread[:0])):
        assert "not here" in nothing.axes[0].texts[0].get_text()


def test_a_logarithmic_scale_has_geometric_means():
    frame = pd.DataFrame({"seed": [0, 1], "step": [5, 5], "kind": "same class", "value": [1.0, 100.0]})
    (line,) = figures.own_and_other(frame).axes[0].get_lines()
    assert line.get_ydata().tolist() == pytest.approx([10.0])


def test_regression_figures():
    cloud = grid(seed=[0], t=[1, 2, 3], points=["normal", "ray"], distance=[1.0, 2.0]).rename(columns={"value": "srel"})
    assert len(figures.distance(cloud).axes) == 3
    levels = {"init": ["torch", "he"], "seed": [0, 1], "t": [0, 5], "quantity": ["local elasticity", "risk"]}
    by_law = pd.DataFrame({"seed": [0, 0], "law": ["torch", "he"], "t90": [3.0, 4.0]}).set_index(["seed", "law"])
    fig = figures.phases(grid(**levels, curve=["one", "two"]), by_law)
    assert [ax.get_title() for ax in fig.axes[:2]] == ["torch initialisation", "he initialisation"]
    assert len(fig.axes) == 4 and one_colour_each(fig)


def test_theory_figures():
    levels = {"figure": [6, 7, 8], "seed": [0, 1], "variant": list(figures.VARIANTS), "iteration": [1, 2]}
    shown = grid(**levels).assign(loss_left=lambda f: f["value"], relative=lambda f: f["value"])
    fig = figures.features(shown)
    assert len(fig.axes) == 6 and one_colour_each(fig)
    chosen = grid(choice=list(released_features.CHOICES), seed=[0, 1], iteration=[1, 2])
    assert set(drawn(figures.choices(chosen.rename(columns={"value": "relative"})))) == set(released_features.CHOICES)
    curve = grid(pair=list(figures.PAIRS), run=[0, 1], step=[0, 1]).assign(relative=1.0, resolved=True)
    assert len(figures.gate(curve).axes) == 3
    assert len(figures.ray(example.ray([0, 500])).axes) == 2
    assert len(figures.over_time(example.over_time(20), example.exact_ends()).axes) == 2
    sgd = example.sgd_s_rel(example.sgd_paths([0, 1], 2, 10), [0, 1])
    assert one_colour_each(figures.sgd(sgd))
