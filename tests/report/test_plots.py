"""A value of a hue looks alike wherever it is drawn, and the legend names what is there."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb

from traindyn.report import plots


def drawn(ax):
    return {line.get_label(): (to_rgb(line.get_color()), line.get_linestyle()) for line in ax.get_lines()}


def table():
    """Return a table whose first panel lacks the first value of the hue's natural order."""
    rows = [("a", "5x"), ("b", "1x"), ("b", "5x"), ("c", "10x"), ("c", "1x")]
    return pd.concat([pd.DataFrame({"panel": p, "width": w, "x": [0, 1], "y": [1, 2]}) for p, w in rows])


def test_a_value_has_one_look_in_every_panel():
    fig = plots.facets(table(), "x", "y", cols="panel", hue="width")
    first, second, third = (drawn(ax) for ax in fig.axes)
    assert first["5x"] == second["5x"] and second["1x"] == third["1x"]
    assert len({first["5x"], second["1x"], third["10x"]}) == 3
    legend = fig.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["5x", "1x", "10x"]
    for handle, text in zip(legend.get_lines(), legend.get_texts(), strict=True):
        known = {**first, **second, **third}[text.get_text()]
        assert np.allclose(to_rgb(handle.get_color()), known[0])
    plt.close(fig)


def test_named_looks_hold_across_figures_and_unknown_values_come_after_them():
    look = plots.looks(["1x", "2x", "5x"])
    fig, (left, right) = plots.panels(1, 2)
    plots.curves(left, table()[lambda t: t["width"] == "5x"], "x", "y", "width", look=look)
    plots.curves(right, table(), "x", "y", "width", look=look)
    assert drawn(left)["5x"] == drawn(right)["5x"]
    assert np.allclose(drawn(right)["10x"][0], plots.PALETTE[3])
    plt.close(fig)


def test_points_follow_the_same_rule():
    fig = plots.facets(table(), "x", "y", cols="panel", hue="width", kind="points")
    colours = [{line.get_label(): line.get_color() for line in ax.get_lines()} for ax in fig.axes]
    assert colours[0]["5x"] == colours[1]["5x"] and colours[1]["1x"] == colours[2]["1x"]
    plt.close(fig)


def test_a_spare_panel_holds_the_legend():
    frame = pd.concat([table(), table()[lambda t: t["panel"] == "a"].assign(panel="d")])
    fig = plots.facets(frame, "x", "y", cols="panel", hue="width", look=plots.looks(["1x", "5x", "10x"]))
    assert all(ax.get_legend() is None for ax in fig.axes[:4]) and not fig.axes[4].axison
    assert [text.get_text() for text in fig.axes[4].get_legend().get_texts()] == ["1x", "5x", "10x"]
    plt.close(fig)
