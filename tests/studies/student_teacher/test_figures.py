"""Drawings of the chapter: what is drawn is what the table says."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from traindyn.studies.student_teacher import critical, figures


def test_a_student_has_one_colour_in_every_panel_of_the_plane():
    nodes = [(1, "teacher 0"), (1, "student 0"), (1, "student 1"), (2, "student 1"), (2, "student 0")]
    rows = [(seed, node, node.split()[0], 1.0, reach, reach) for seed, node in nodes for reach in (-1, 1)]
    lines = pd.DataFrame(rows, columns=["seed", "node", "kind", "norm", "x", "y"])
    fig = figures.plane(lines)
    first, second = ([to_rgb(line.get_color()) for line in ax.get_lines()] for ax in fig.axes)
    assert first[1:] == second[::-1] and first[0] == to_rgb(figures.TEACHER)
    plt.close(fig)


def test_rows_share_one_scale_and_teachers_keep_their_colours():
    table = pd.DataFrame({"correlation": [0.1, 0.2, 0.3, 0.4], "norm": [1.0, 2.0, 3.0, 9.0]})
    fig = figures.cloud(table.assign(width="1x", epoch=["2", "2", "5", "5"]))
    assert len({ax.get_ylim() for ax in fig.axes}) == 1 and fig.axes[0].get_ylim()[1] >= 9
    plt.close(fig)
    best = pd.DataFrame({"teacher": [0, 19] * 2, "epoch": [1, 1, 2, 2], "best": 0.5})
    fig = figures.best(best)
    drawn = [line.get_color() for line in fig.axes[0].get_lines() if len(line.get_xdata())]
    assert drawn == [figures.teacher_colour(0), figures.teacher_colour(19)]
    plt.close(fig)


@pytest.mark.parametrize(
    ("draw", "columns", "panels"),
    [
        (figures.cloud, {"correlation": [0.1, 0.2], "norm": 1.0, "width": ["1x", "2x"], "epoch": "epoch 2"}, 2),
        (figures.deep_cloud, {"correlation": [0.1, 0.2], "fan-out": 1.0, "step": ["a", "b"], "layer": "layer 1"}, 2),
        (figures.trajectories, {"updates": [1, 2], "lead": 0.5, "own": 0.6, "teacher": [0, 1], "student": [3, 4]}, 2),
        (figures.recovery, {"teacher": [0, 1], "rate": 0.5, "at": ["a", "b"], "width": ["1x", "5x"]}, 2),
        (figures.best, {"teacher": [0, 19], "epoch": [1, 2], "best": 0.5}, 1),
        (figures.losses, {"epoch": [0, 1], "log10_loss": 0.5, "width": ["1x", "5x"]}, 1),
        (figures.turning, {"norm": [1.0, 0.1], "angle": [1.0, 0.1]}, 1),
        (figures.race, {"t": [0, 1], "log ratio": 1.0, "eps": ["0.1", "0.2"]}, 1),
        (figures.escape, {"eps": [0.1, 0.2], "time": [4.0, 2.0], "setting": "both layers"}, 1),
        (figures.approach, {"run": [0, 1], "step": [1, 2], "gradient": 0.5, "bound": 0.5}, 2),
        (figures.pull, {"theta": [0.1, 0.2], "norms": ["1, 1", "1, 2"], "printed_error": 0.1, "ratio": 1.0}, 2),
    ],
)
def test_every_drawing_has_its_panels(draw, columns, panels):
    fig = draw(pd.DataFrame(columns))
    assert sum(ax.get_visible() for ax in fig.axes) == panels and all(ax.get_lines() for ax in fig.axes[:panels])
    plt.close(fig)


def test_the_sum_of_the_five_lies_on_the_teacher():
    fig = figures.profile(critical.profile(3))
    both = fig.axes[1].get_lines()
    assert len(fig.axes[0].get_lines()) == 5
    assert np.allclose(both[0].get_ydata(), both[1].get_ydata(), atol=1e-12)
    plt.close(fig)
