"""From the runs of the chapter on catapults to the parts of its claims: the criteria of the ledger, in code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from traindyn.studies import catapults_gd as gd
from traindyn.studies import catapults_planted as planted
from traindyn.studies import catapults_sgd as sgd
from traindyn.studies.catapults_theory import slope

Evidence = dict[str, dict[str, Any]]


def fall(read: pd.DataFrame, final: float, kernel: float) -> pd.DataFrame:
    """Return per seed whether a run spikes (1.3 x), ends below `final` and with ||K|| below `kernel` of its start."""
    return pd.DataFrame(
        {
            "spike": read["peak"] >= 1.3,
            "converges": (read["final"] <= final) & read["converged"],
            "kernel-falls": read["kernel"] <= kernel,
        }
    )


def numbers(read: pd.DataFrame, names: tuple[str, ...] = ("peak", "final", "kernel", "share")) -> dict[str, Any]:
    """Return the named columns as measured values, with words a reader understands."""
    words = {
        "peak": "peak_ratio",
        "rise": "climb",
        "final": "final_ratio",
        "kernel": "norm_ratio",
        "share": "share_of_the_rest",
    }
    return {words.get(name, name): read[name] for name in names}


def fcn_single(run: pd.DataFrame, biased: pd.DataFrame, drift: pd.DataFrame, width: int) -> Evidence:
    """Figures 4.2, 4.3a, C.2a; `drift` holds the same network at half the critical rate."""
    read, other = gd.single(run), gd.single(biased)
    half = drift[(drift["depth"] == 5) & (drift["width"] == width)]
    return {
        "parts": {
            **fall(read, 0.02, 0.8),
            "edge": read["edge"] >= 0.9,
            "below": half["peak"] <= 1 if len(half) else None,
            "zero-bias": fall(other, 0.02, 0.8).all(axis=1),
        },
        "measured": {
            **numbers(read, ("peak", "final", "kernel", "edge")),
            "peak_at_half_the_rate": half["peak"],
            **{f"{k}_zero_bias": v for k, v in numbers(other, ("peak", "final", "kernel")).items()},
        },
    }


def rank2(run: pd.DataFrame, biased: pd.DataFrame, scan: pd.DataFrame) -> Evidence:
    """Figure C.4 (a, b), and which settings of `gd.scan` have the printed critical rate."""
    read, other = gd.single(run), gd.single(biased)
    bare = (scan["depth"] == 5) & (scan["hidden bias"] == "none") & (scan["input factor"] == 1.0)
    plain = scan.loc[bare, "critical"].iloc[0]
    fits = (scan["critical"] - 1.9).abs() <= 0.15
    return {
        "parts": {
            **fall(read, 0.02, 0.8),
            "share": read["share"] <= 0.2,
            "printed-rate": bool(fits.any()),
            "bias-free-far": abs(plain - 1.9) > 0.15,
            "zero-bias": fall(other, 0.02, 0.8).all(axis=1) & (other["share"] <= 0.2),
        },
        "measured": {
            **numbers(read),
            "critical_without_biases": plain,
            "final_zero_bias": other["final"],
            "settings_that_fit": int(fits.sum()),
        },
    }


def svhn(fcn: pd.DataFrame, cnn: pd.DataFrame) -> Evidence:
    """Figure C.3."""
    one, two = gd.single(fcn), gd.single(cnn)
    falls = [fall(one, 0.02, 0.8), fall(two, 0.05, 0.85)]
    climbs = [read["rise"] >= 1.3 for read in (one, two)]
    weaker = [table[["converges", "kernel-falls"]].all(axis=1) & up for table, up in zip(falls, climbs, strict=True)]
    return {
        "parts": {
            "fcn": falls[0].all(axis=1),
            "cnn": falls[1].all(axis=1),
            "share": (one["share"] <= 0.2) & (two["share"] <= 0.2),
            "climbs": weaker[0] & weaker[1],
        },
        "measured": {
            **numbers(one, ("peak", "rise", "final", "kernel", "share")),
            **{f"{k}_cnn": v for k, v in numbers(two, ("peak", "rise", "final", "kernel", "share")).items()},
        },
    }


def multiclass(run: pd.DataFrame, cnn: pd.DataFrame, of_scalar: pd.Series) -> Evidence:
    """Figure C.5; `of_scalar`: critical rate over k times that of one output, at the thesis' width."""
    read, other = gd.single(run), gd.single(cnn)
    return {
        "parts": {
            "spike": read["peak"] >= 1.3,
            "share": read["share"] <= 0.2,
            "normalisation": (of_scalar - 1).abs() <= 0.25,
            "climbs": read["rise"] >= 1.3,
            "converges": read["converged"],
            "cnn": (other["rise"] >= 1.3) & (other["share"] <= 0.2) & other["converged"],
        },
        "measured": {
            **numbers(read, ("peak", "rise", "final", "kernel", "share")),
            "critical_over_k_scalar": of_scalar,
            **{f"{k}_cnn": v for k, v in numbers(other, ("rise", "share")).items()},
        },
    }


def eta_max(deep: pd.DataFrame, shallow: pd.DataFrame, quadratic: pd.DataFrame, within: pd.Series) -> Evidence:
    """Remark 4.3.1, from three tables of `gd.survival`; `within`: eigenvalues above a sixth of the largest."""
    one, two, three = gd.limits(deep, 3.5, 8), gd.limits(shallow, 3.5, 8), gd.limits(quadratic, 1.8, 2.3)
    above = [
        (read["usable"] > three["usable"]) & (read["usable"] < table["ratio"].max())
        for read, table in ((one, deep), (two, shallow))
    ]
    return {
        "parts": {
            "relu-deep": one["bounded"],
            "relu-shallow": two["bounded"],
            "quadratic": three["bounded"],
            "few": within <= 10,
            "usable": above[0] & above[1],
        },
        "measured": {
            **{
                f"{word}_{name}": read[column]
                for name, read in (("depth_5", one), ("depth_2", two), ("quadratic", three))
                for word, column in (("diverges_from", "first"), ("trains_up_to", "usable"))
            },
            "eigenvalues_above_a_sixth": within,
        },
    }


def subcritical(table: pd.DataFrame, enough: bool) -> Evidence:
    """Text after Lemma 4.2.2; `enough`: several widths per depth were run."""
    largest = table[table["width"] == table.groupby("depth")["width"].transform("max")]
    by_seed = table.groupby("seed")
    means = table.groupby(["depth", "width"])["drift"].mean()
    return {
        "parts": {
            "monotone": by_seed["rises"].max() == 0,
            "constant": largest.groupby("seed")["drift"].max() < 0.05,
            "shrinks": gd.shrinks(table) if enough else None,
        },
        "measured": {
            "steps_up": by_seed["rises"].max(),
            **{f"drift_depth_{d}_width_{w}": float(v) for (d, w), v in means.items()},
        },
    }


def claim1(singles: list[pd.DataFrame], multiples: list[pd.DataFrame]) -> Evidence:
    """Claim 1: runs at one rate, and runs at three rates."""
    read = pd.concat([gd.shares(run) for run in singles])
    phased = pd.concat([gd.shares(run, [5, 10]) for run in multiples])

    def worst(table: pd.DataFrame, s: int, column: str = "share") -> pd.Series:
        return table[table["s"] == s].groupby("seed")[column].max()

    everywhere = pd.concat([read, phased])
    return {
        "parts": {
            "monotone": worst(everywhere, 5, "steps_up") == 0,
            "share": worst(read, 5) <= 0.05,
            "share-phases": worst(phased, 10) <= 0.05,
            "share-one": worst(read, 1) <= 0.05,
            "share-ten": worst(read, 10) <= 0.05,
        },
        "measured": {
            "steps_up": worst(everywhere, 5, "steps_up"),
            "largest_rise": worst(everywhere, 5, "worst"),
            **{f"share_beyond_{s}": worst(read, s) for s in (1, 2, 5, 10)},
            "share_beyond_10_three_rates": worst(phased, 10),
        },
    }


def multiple(table: pd.DataFrame) -> pd.DataFrame:
    """Read Figure 4.4 per seed from `gd.phases`: three, falls, converges, again."""
    rows = []
    for _, run in table.groupby("seed"):
        norms, rises = run["norm"].to_numpy(), run["rise"].to_numpy()
        falling = bool((np.diff(np.append(1.0, norms)) < 0).all())
        rows.append(
            {
                "three": len(rises) == 3 and bool((rises >= 2).all()),
                "falls": len(rises) == 3 and falling,
                "converges": len(rises) == 3 and bool(run["loss"].iloc[-1] < 1e-2),
                "again": len(rises) > 1 and bool(rises[1] >= 1.3) and bool(norms[-1] < min(1.0, *norms[:-1])),
            }
        )
    return pd.DataFrame(rows)


def multi(
    table: pd.DataFrame, run: pd.DataFrame, unraised: pd.DataFrame, second: int, third: int, others: dict[str, Any]
) -> Evidence:
    """Figure 4.4.

    Args:
        table: `gd.phases` of `run`.
        run, unraised: the scheduled run, and the run from the same start that keeps its first rate.
        second, third: first steps of the second and third phase.
        others: name of a sensitivity part -> `gd.phases` of the same schedule on another task or network.
    """
    read = multiple(table)
    window = [frame[frame["step"].between(second, third)].groupby("seed")["loss"].max() for frame in (run, unraised)]
    raised = (window[0] / window[1]).reindex(sorted(unraised["seed"].unique()))  # NaN for a run that diverged before
    by = table.pivot(index="seed", columns="phase", values="rise")
    return {
        "parts": {
            **read,
            "raise-matters": raised >= 2,
            **{name: multiple(other)[["three", "falls", "converges"]].all(axis=1) for name, other in others.items()},
        },
        "measured": {
            **{f"peak_phase_{phase}": by[phase] for phase in by},
            **{f"norm_phase_{p}": t["norm"] for p, t in table.groupby("phase")},
            "final_loss": table.groupby("seed")["loss"].last(),
            "peak_over_that_without_the_raise": raised,
        },
    }


def ends(outcomes: pd.DataFrame) -> Evidence:
    """Figure C.7, from `gd.outcome` of every run, one row per seed."""
    return {
        "parts": {
            "scheduled": outcomes["scheduled 16.7"] == "converged",
            "from-start": outcomes["from start 16.7"] == "diverged",
            "schedule-15": outcomes["from start 4.17"] == "diverged",
            "scheduled-15": outcomes["scheduled 4.17"] == "converged",
            "cnn": outcomes["CNN, from start 8.9"] == "diverged",
        },
        "measured": {name.replace(" ", "_").replace(".", "_"): ", ".join(outcomes[name]) for name in outcomes},
    }


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


def critical_gap(table: pd.DataFrame, linear: pd.Series, enough: bool) -> Evidence:
    """Appendix C.1: `theory.critical_gap`, the linear model's gaps; `enough`: width 1024 was run."""
    slopes = {depth: slope(part, "gap") for depth, part in table.groupby("depth")}
    at = table[table["width"] == 1024].groupby("depth")["gap"].mean()
    last = table[table["width"] == table.groupby("depth")["width"].transform("max")]
    return {
        "parts": {
            "linear": linear <= 1e-6,
            "rate": all(s <= -0.35 for s in slopes.values()) if enough else None,
            "small": bool((at <= 0.01).all()) if enough else None,
            "factor": last.groupby("seed")["half"].min() > 0.4,
        },
        "measured": {
            "linear_gap": linear,
            **{f"slope_depth_{depth}": s for depth, s in slopes.items()},
            **{f"gap_1024_depth_{depth}": float(v) for depth, v in at.items()},
        },
    }
