"""The readings of Figures 10 to 12 on curves drawn by hand."""

import numpy as np
import pandas as pd
import pytest

from traindyn.studies.elasticity import evidence_theory as evidence
from traindyn.studies.elasticity import example


def test_figure_10_counts_steps_up():
    line = pd.DataFrame({"time": 0, "z": [0, 1, 2, 3, 4], "s_rel": [1.0, 2.0, 1.5, 1.5, 0.5]})
    read = evidence.figure10(pd.concat([line, line.assign(time=9, s_rel=[1.0, 4.0, 3.0, 2.0, 1.0])]))
    assert read.index.names == ["time"]
    assert read["steps_up"].tolist() == [1, 0]  # level counts, and the step from z = 0 does not
    assert read["far_over_near"].tolist() == [0.25, 0.25]


def test_longest_interval():
    t = np.array([0.0, 2.0, 4.0, 6.0, 8.0])
    assert evidence.longest_interval(t, np.array([True, True, False, True, False])) == (t[0], t[1])
    assert evidence.longest_interval(t, np.array([True, False, True, False, True])) == (t[0], t[0])
    assert evidence.longest_interval(t, np.array([False, True, True, True, True])) == (t[1], t[4])


def test_figure_11_on_two_panels():
    t = np.arange(10.0)
    dips = [3, 1, 1, 1, 3, 2, 2, 2, 3, 3]  # below the late values (from 5 on: 2) at 1, 2, 3
    falls = [9, 8, 7, 6, 5, 4, 4, 4, 4, 3]
    curves = pd.concat([pd.DataFrame({"panel": p, "t": t, "s_rel": s}) for p, s in (("a", dips), ("b", falls))])
    read = evidence.figure11(curves, t_star=5, late_from=5)
    assert read["window"].to_dict() == {"a": 2, "b": 0}
    assert read.loc["a", ["window_from", "window_to", "start", "top", "end"]].tolist() == [1, 3, 3, 3, 3]
    assert np.isinf(read.loc["b", "window_from"]) and read["steps_down"].to_dict() == {"a": 0, "b": 1}
    assert (read["end_error"] < 1e-12).all()


def test_figure_11_of_the_paper_overshoots_and_dips():
    read = evidence.figure11(example.over_time(3000), t_star=500, late_from=1000)
    assert (read["window"] > 0).all() and read["steps_down"].to_dict()["b"] > 0 == read["steps_down"]["a"]
    # panel a has its low times in two pieces: the first few steps, and [295, 499]
    assert read.loc["a", ["window_from", "window_to", "low_parts"]].tolist() == [295, 499, 2]
    assert read.loc["b", "start"] == read.loc["b", "top"] and read.loc["a", "top"] > read.loc["a", "end"]
    assert evidence.common_window(0.001) == {"common_points": 0}


def test_the_counterexample_falls_to_nine_tenths():
    found = evidence.counterexample(0.001)
    assert found["steps_up"] == 0 and found["at_3000"] == pytest.approx(0.9, abs=1e-5) and found["at_200"] > 0.92


def test_pairs_that_no_statement_about_all_pairs_serves():
    found = evidence.special_pairs(0.001)
    assert found["orthogonal_most"] == 0 and found["proportional_spread"] < 1e-12


def test_figure_12_reads_gap_and_correlation():
    t = np.arange(20)
    rows = []
    for panel in "ab":
        for measure, scale in (("eq. 14", 1.0), ("limit", 1.01), ("definition 1", 1.05 if panel == "b" else 1.0)):
            s = scale * (1 + t)
            rows.append(pd.DataFrame({"panel": panel, "measure": measure, "seed": 4, "step": t, "s_rel": s}))
    read = evidence.figure12(pd.concat(rows))
    assert read.index.tolist() == [(4, "a"), (4, "b")]
    assert read["gap"].tolist() == pytest.approx([0, 0.05]) and read["gap_limit"].tolist() == pytest.approx([0.01] * 2)
    assert read[["correlation", "correlation_limit"]].to_numpy() == pytest.approx(1)


def test_the_first_step_of_panel_b_is_not_small():
    assert example.step_factor("a") == pytest.approx(-0.001 * (0.5 - 2 + 5))
    assert example.step_factor("b") == pytest.approx(-0.011 * (0.5 - 22 + 5))
