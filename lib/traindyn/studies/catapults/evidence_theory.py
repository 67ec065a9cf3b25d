"""What the formulas behind the chapter on catapults are judged by: tables of numbers from `theory` and `one_step`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from traindyn.evidence import table
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.catapults.gd import single


def splitting(exact: pd.DataFrame, run: pd.DataFrame) -> list[pd.DataFrame]:
    """Eq. 4.1 and 4.2, from `theory.splitting`, and the largest defect along a run of `tasks.follow`.

    Returns:
        Per seed: defect, kernel_error, dropped, ascending; and defect_run.
    """
    along = single(run)[["seed", "defect"]].rename(columns={"defect": "defect_run"})
    return [table(exact.rename(columns={"kernel": "kernel_error"})), table(along)]


def descent_lemma(lemma: pd.DataFrame) -> pd.DataFrame:
    """Lemma 4.2.2, from `theory.descent_lemma`: violation (0 where the bound is met), edge, beyond, per seed."""
    return table(lemma[["seed", "violation", "edge", "beyond"]].assign(violation=lemma["violation"].clip(lower=0)))


def critical_gap(gaps: pd.DataFrame, lemma: pd.DataFrame) -> list[pd.DataFrame]:
    """Appendix C.1, from `theory.critical_gap` and `theory.descent_lemma`.

    Returns:
        linear_gap per seed; gap per seed, depth, width; slope (of log gap against log width) and factor_gap (what is
        missing to n/(2 ||K||) at the largest width) per seed and depth.
    """
    linear = lemma[["seed", "exact"]].rename(columns={"exact": "linear_gap"})
    last = gaps[gaps["width"] == gaps.groupby("depth")["width"].transform("max")]
    ends = last.set_index(["seed", "depth"])["half"].rename("factor_gap")
    slopes = _slopes(gaps, "gap", ["seed", "depth"])
    return [
        table(linear),
        table(gaps[["seed", "depth", "width", "gap"]], ["depth", "width"]),
        table(pd.concat([slopes, ends], axis=1).reset_index(), "depth"),
    ]


def gradient_flow(euler: pd.DataFrame) -> pd.DataFrame:
    """Section 4.3, from `one_step.flow`: error of an Euler step, and its ratio at half the step, per seed."""
    return table(euler)


def second_order(second: pd.DataFrame, remainder: pd.DataFrame) -> list[pd.DataFrame]:
    """Eq. 4.3, from `one_step.second_order` and `one_step.remainder_by_width`.

    Returns:
        Per seed: quadratic_gap and tanh_gap (distance of remainder / printed form from 1/2), tau_spread; and slope (of
        log remainder against log width).
    """
    words = {"quadratic": "quadratic_gap", "tanh": "tanh_gap", "spread": "tau_spread"}
    return [table(second.rename(columns=words)), table(_slopes(remainder, "remainder", ["seed"]).reset_index())]


def batch_steps(steps: pd.DataFrame) -> pd.DataFrame:
    """Eq. 4.4, from `one_step.batch_steps`.

    Returns:
        Per seed: agreement (share of the steps not near the threshold at which the projection on the batch's top
        direction grows exactly when the rate is above it), remainder (median, at the threshold).
    """
    clear = steps[~steps["near"]]
    agree = (clear["over"] == clear["grows"]).groupby(clear["seed"]).mean()
    middle = steps.groupby("seed")["remainder"].median()
    return table(pd.DataFrame({"agreement": agree, "remainder": middle}).reset_index())


def layer_sums(seeds: Iterable[int], layers: dict[str, Any]) -> pd.DataFrame:
    """Appendix C.6, from `theory.layer_sums`: printed_error, mended_error, fully_error, per seed."""
    columns = {"printed_error": "printed", "mended_error": "corrected", "fully_error": "fully"}
    return table(pd.DataFrame({"seed": list(seeds), **{name: layers[key] for name, key in columns.items()}}))


def _slopes(frame: pd.DataFrame, y: str, by: list[str]) -> pd.Series:
    """Return per group the least-squares slope of log y against log width."""
    found = {
        key: loglog_slope(part["width"], part[y]).value for key, part in frame.groupby(by[0] if len(by) == 1 else by)
    }
    return pd.Series(found, name="slope").rename_axis(by)
