"""From the runs of gradient descent to the parts of the claims on catapults: the criteria of the ledger, in code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from traindyn.studies.catapults import gd
from traindyn.studies.catapults.theory import slope

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
