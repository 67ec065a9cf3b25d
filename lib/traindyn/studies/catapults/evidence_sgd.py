"""From the runs of SGD to the parts of the claims on catapults: the criteria of the ledger, in code."""

from __future__ import annotations

from typing import Any

import pandas as pd

from traindyn.studies.catapults import planted, sgd

Evidence = dict[str, dict[str, Any]]


def shallow(slow: pd.DataFrame, high: pd.DataFrame) -> Evidence:
    """Figure 4.6a: a run at the low and one at the high rate."""
    steps = {
        name: run.groupby("seed")["loss"].agg(lambda v: [v.diff().iloc[1:], (v.diff() / v.shift()).iloc[1:]])
        for name, run in (("slow", slow), ("high", high))
    }
    up = {name: table.map(lambda pair: int((pair[0] > 0).sum())) for name, table in steps.items()}
    largest = steps["slow"].map(lambda pair: pair[1].max())
    spikes = steps["high"].map(lambda pair: int((pair[1] > sgd.SPIKE).sum()))
    return {
        "parts": {
            "monotone": up["slow"] == 0,
            "spikes": spikes >= 5,
            "nearly": largest < 0.01,
            "some": up["high"] > up["slow"],
        },
        "measured": {
            "rises_slow": up["slow"],
            "largest_slow": largest,
            "rises_high": up["high"],
            "spikes_high": spikes,
        },
    }


def thresholds(flat: pd.DataFrame, deep: pd.DataFrame, cnn: pd.DataFrame) -> Evidence:
    """Figure C.1, from `sgd.hessian_against_kernel` for two layers, five layers and a CNN."""
    by = flat.groupby("seed")
    median, high = by["gap"].median(), by["gap"].quantile(0.9)
    correlation = by.apply(lambda t: t["exact"].corr(t["kernel"]), include_groups=False)
    others = {name: table.groupby("seed")["gap"].median() for name, table in (("deep", deep), ("cnn", cnn))}
    return {
        "parts": {
            "shallow": (median <= 0.05) & (high <= 0.2),
            "correlated": correlation >= 0.9,
            **{name: gap <= 0.15 for name, gap in others.items()},
        },
        "measured": {
            "median_gap": median,
            "gap_90": high,
            "correlation": correlation,
            **{f"median_gap_{name}": gap for name, gap in others.items()},
        },
    }


def match(runs: dict[str, pd.DataFrame]) -> Evidence:
    """Table 4.2: runs "rank-2" (deciding), "images", "shallow", "cnn", "below", by the same statistic."""
    read = {name: sgd.match(run) for name, run in runs.items()}
    main = read["rank-2"]
    beside = [name for name in runs if name != "rank-2"]

    def passes(table: pd.DataFrame) -> bool:
        return bool(table["match"].mean() >= 0.9 and table["gain"].mean() >= 0.2)

    return {
        "parts": {
            "match": bool(main["match"].mean() >= 0.9),
            "above-base": bool(main["gain"].mean() >= 0.2),
            "excursions": bool(main["excursions"].mean() >= 0.9),
            "above-windows": bool((main["excursions"] - main["windows"]).mean() >= 0.2),
            "large": bool(main["large"].mean() >= 0.9),
            **{name: passes(read[name]) for name in beside},
        },
        "measured": {
            "mean_match": main["match"].mean(),
            "standard_error": main["match"].sem(),
            **{k: main[k] for k in ("match", "base", "recall", "large", "excursions", "windows", "count_rises")},
            **{f"{k}_{name}": read[name][k] for name in beside for k in ("match", "base")},
        },
    }


def kernel_drop(run: pd.DataFrame, rank2: pd.DataFrame, others: list[pd.DataFrame]) -> Evidence:
    """Figures 4.7 and C.8."""
    read, more = sgd.around_spikes(run), sgd.around_spikes(rank2)
    tiny = [net_form(sgd.around_spikes(other)) for other in others]
    return {
        "parts": {
            "each": read["each"] >= 0.8,
            "mean": read["drop_high"] < 0,
            "contrast": read["drop"] < read["elsewhere"],
            "excursions": net_form(read),
            "rank-2": net_form(more),
            "other-nets": [bool(all(net[i] for net in tiny)) for i in range(min(map(len, tiny)))],
        },
        "measured": {k: read[k] for k in ("spikes", "each", "drop", "drop_high", "elsewhere", "inside", "outside")},
    }


def net_form(read: pd.DataFrame) -> pd.Series:
    """Return per seed whether log ||K|| falls in sum over the excursions and rises in sum over all other steps."""
    return (read["inside"] < 0) & (read["outside"] > 0)


def top_one(run: pd.DataFrame, net: bool = False, others: dict[str, pd.DataFrame] | None = None) -> Evidence:
    """Figure 4.7 and its repetitions: the share of the first direction, and with `net` what ||K|| does as well.

    Args:
        run: what decides.
        net: whether the net form of ||K|| is a part.
        others: name of a sensitivity part -> run read in the same way.
    """
    read = sgd.around_spikes(run)
    parts: dict[str, Any] = {"excursions": net_form(read)} if net else {}
    parts |= {"share": read["top_1"] >= 0.8, "rest": read["rest_rises"] <= 0.05, "share-five": read["top_5"] >= 0.8}
    measured = {k: read[k] for k in ("spikes", "top_1", "top_5", "rest_rises", "rest_strict")}
    if net:
        measured |= {k: read[k] for k in ("inside", "outside")}
    for name, other in (others or {}).items():
        more = sgd.around_spikes(other)
        parts[name] = (more["top_1"] >= 0.8) & (more["rest_rises"] <= 0.05) & (net_form(more) if net else True)
        measured |= {f"top_1_{name}": more["top_1"], f"rest_rises_{name}": more["rest_rises"]}
    return {"parts": parts, "measured": measured}


def planted_sample(table: pd.DataFrame) -> Evidence:
    """Figure 4.5, from `planted.planted_readings`; the middle rate decides where one rate is named."""
    middle = table[table["place"] == 0.5].reset_index(drop=True)
    ten = middle[["precision_10", "recall_10"]]
    return {
        "parts": {
            "quarter": (middle["low"] / 0.25 - 1).abs() <= 0.05,
            "only-star": table.groupby("seed")["exact"].all(),
            "literal": middle["literal"],
            "threshold": (ten == 1).all(axis=1),
            "raises": middle["raises"].fillna(1.0) == 1,  # a statement on all such steps; there may be none
        },
        "measured": {
            "critical_over_others": middle["low"],
            "super_critical_steps": middle["over"],
            "rises_with_other_samples": middle["crosstalk"],
            "share_that_raises": middle["raises"],
            **{f"precision_{round(100 * t)}": middle[f"precision_{round(100 * t)}"] for t in planted.THRESHOLDS},
            **{f"recall_{round(100 * t)}": middle[f"recall_{round(100 * t)}"] for t in planted.THRESHOLDS},
        },
    }


def batch_variance(norms: pd.DataFrame, trained: pd.DataFrame) -> Evidence:
    """Section 4.1: `planted.explained` at the start, and `planted.supercritical_steps` in training."""

    def grows(column: str) -> pd.Series:
        falling = norms.sort_values("b").groupby("seed")[column]
        return falling.agg(lambda v: bool((v.diff().dropna() < 0).all()))

    first, last = norms["b"].min(), norms["b"].max()
    small, large = (norms[norms["b"] == b].set_index("seed") for b in (first, last))
    per = trained.sort_values("b").groupby("seed")["per_epoch"]
    return {
        "parts": {
            "spread": grows("std"),
            "catapults": per.agg(lambda v: bool((v.diff().dropna() <= 0).all() and v.iloc[0] > v.iloc[-1])),
            "variance-explains": small["by_spread"] >= 0.5 * small["probability"].clip(lower=1e-12),
            "mean-grows": grows("mean"),
            "mean-explains": small["mean"] - large["mean"] > 3 * small["std"],
        },
        "measured": {
            **{f"mean_{b}": t["mean"] for b, t in norms.groupby("b")},
            **{f"std_{b}": t["std"] for b, t in norms.groupby("b")},
            "probability_5": small["probability"],
            "by_spread_5": small["by_spread"],
            **{f"per_epoch_{b}": t["per_epoch"] for b, t in trained.groupby("b")},
        },
    }
