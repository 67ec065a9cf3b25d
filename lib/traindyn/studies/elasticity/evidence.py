"""Evidence of the image figures: what is read off their tables (Figures 1, 2 and 13, Section 6, Appendix C.2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from traindyn.evidence import table
from traindyn.measure.curves import first_time
from traindyn.studies.elasticity.images import Experiment


def images(found: Experiment, burn_in: float) -> pd.DataFrame:
    """Return what Figures 1, 2 and 13 claim of an experiment: evidence by seed, variant and statistic.

    Args:
        found: of `images.experiment`;  burn_in: comparisons count after this share of the training.

    Returns:
        `wins` (share of (sampled class, other class, time) comparisons that the same class wins, for the sampled class
        with the smallest), `fall` (relative fall of the other-class values, geometric mean over the pairs, from the
        first look to the last third of the looks), `flatness` (largest ratio of maximum to minimum over time of a
    """
    rows = []
    for (seed, variant, statistic), group in found.frame.groupby(["seed", "variant", "statistic"], sort=False):
        times, same, other, sampled = split(group)
        settled = times >= burn_in * times[-1]
        won = (same[settled][:, sampled] > other[settled]).astype(float)
        late = max(1, len(times) // 3)
        with np.errstate(divide="ignore", invalid="ignore"):
            drop = np.log(other[-late:]).mean() - np.log(other[0]).mean()
            flat = (same.max(axis=0) / same.min(axis=0)).max()
        rows.append(
            {
                "seed": seed,
                "variant": variant,
                "statistic": statistic,
                "wins": min(won[:, sampled == c].mean() for c in np.unique(sampled)),
                "fall": 1 - np.exp(drop),
                "flatness": flat,
            }
        )
    columns = ["wins", "fall", "flatness"]
    return table(_numbers(rows, ["seed", "variant", "statistic"], columns), ["variant", "statistic"])


def onset(found: Experiment, ahead: float, arrived: float) -> pd.DataFrame:
    """Return, per seed, when the preference sets in and when the test accuracy is nearly final.

    The preference at a time is the geometric mean of the same-class values over that of the other-class values (limit
    of small steps, block mean without the diagonal).

    Args:
        found: of `images.experiment`;  ahead: the preference is there from this ratio on.
        arrived: share of the last accuracy that counts as final.

    Returns:
        `factor_time` (first look at which the preference is there, infinite if never), `accuracy_time` (first look with
        that accuracy), `factor_at_start` and `factor_at_end` (the ratio at the first and the last look).
    """
    rows = []
    chosen = found.frame[(found.frame["variant"] == "limit") & (found.frame["statistic"] == "off_diagonal")]
    for seed, group in chosen.groupby("seed", sort=False):
        times, same, other, _ = split(group)
        lead = np.exp(np.log(same).mean(axis=1) - np.log(other).mean(axis=1))
        curve = found.curves[found.curves["seed"] == seed].sort_values("step")
        reached = curve["test_accuracy"].to_numpy() / curve["test_accuracy"].iloc[-1]
        rows.append(
            {
                "seed": seed,
                "factor_time": float(first_time(times, lead, np.nextafter(ahead, 0))),
                "accuracy_time": float(first_time(curve["step"], reached, np.nextafter(arrived, 0))),
                "factor_at_start": lead[0],
                "factor_at_end": lead[-1],
            }
        )
    columns = ["factor_time", "accuracy_time", "factor_at_start", "factor_at_end"]
    return table(_numbers(rows, ["seed"], columns))


def leads(found: Experiment) -> pd.DataFrame:
    """Return `lead`, by seed and variant: same-class over other-class values in the last third of the looks.

    Both are geometric means over looks and classes.
    """
    rows = []
    chosen = found.frame[found.frame["statistic"] == "off_diagonal"]
    for (seed, variant), group in chosen.groupby(["seed", "variant"], sort=False):
        times, same, other, _ = split(group)
        late = max(1, len(times) // 3)
        with np.errstate(divide="ignore", invalid="ignore"):
            gap = np.log(same[-late:]).mean() - np.log(other[-late:]).mean()
        rows.append({"seed": seed, "variant": variant.replace(" ", "_"), "lead": np.exp(gap)})
    return table(_numbers(rows, ["seed", "variant"], ["lead"]), "variant")


def median_leads(found: pd.DataFrame) -> dict[str, float]:
    """Return the median over seeds of `leads` for the three compared variants; NaN where the data were missing."""
    variants = found.index.get_level_values("variant")
    return {name: float(found["lead"][variants == name].median()) for name in ("limit", "kernel", "other_label")}


def accuracies(experiments: Mapping[str, Experiment]) -> pd.DataFrame:
    """Return the last test accuracy on three classes, in per cent: column `accuracy`, by seed and set."""
    rows = [
        {"seed": seed, "set": name, "accuracy": 100 * curve.sort_values("step")["test_accuracy"].iloc[-1]}
        for name, found in experiments.items()
        for seed, curve in found.curves.groupby("seed", sort=False)
    ]
    return table(_numbers(rows, ["seed", "set"], ["accuracy"]), "set")


LETTERS = {"limit": "(a)", "finite": "(b)", "adam": "(c)", "released": "(d)", "softmax": "(e)"}


def shares(records: Mapping[str, dict | None]) -> pd.DataFrame:
    """Return the mean share of comparisons that the same class wins, by reading (rows) and claim (columns), per cent.

    Args:
        records: entries of an archived `claims.json` by claim, None for one that is not there; their `wins`.
    """
    columns = {}
    for name, record in records.items():
        rows = (record or {}).get("evidence", {}).get("wins", {}).get("rows", [])
        frame = pd.DataFrame(rows, columns=["seed", "variant", "statistic", "wins"])
        chosen = frame[frame["statistic"] == "off_diagonal"].groupby("variant")["wins"].mean()
        columns[name] = (100 * chosen.astype(float)).round(0)
    found = pd.DataFrame(columns).reindex(list(LETTERS))
    return found.set_axis([f"{letter} {name}" for name, letter in LETTERS.items()])


def told(records: Mapping[str, dict | None]) -> str:
    """Return in a sentence which readings show what the source prints, by the archived outcome of every part."""
    said = []
    for name, record in records.items():
        if record is None or record["verdict"] == "undecided":
            continue
        parts = {part: found["outcome"] for part, found in record["parts"].items()}
        shown = {"limit": record["verdict"] == "holds"} | {name: parts.get(name) for name in list(LETTERS)[1:]}
        having = [LETTERS[reading] for reading, outcome in shown.items() if outcome]
        said.append(f"{name}: {', '.join(having) or 'none'}")
    if not said:
        return "No archived run decides these figures yet."
    return (
        "Readings that show the whole printed picture in the archived run, by the criteria of the cards: "
        + "; ".join(said)
        + "."
    )


def told_leads(record: dict | None) -> str:
    """Return in a sentence how far same-class values lead late in the archived training, by every reading.

    Args:
        record: entry of an archived `claims.json` whose evidence has `lead` (of `leads`), or None.
    """
    rows = (record or {}).get("evidence", {}).get("lead", {}).get("rows", [])
    if not rows:
        return ""
    lead = pd.DataFrame(rows, columns=["seed", "variant", "lead"]).groupby("variant")["lead"].median()
    each = ", ".join(f"{letter} {lead[name]:.2g}" for name, letter in LETTERS.items() if name in lead)
    return f"Same-class over other-class values, late in the archived training of Figure 1, median over seeds: {each}."


def split(group: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the looks of one seed, variant and statistic as arrays.

    Returns:
        times (T,); same-class values (T, class); other-class values (T, pair); the sampled class of each pair.
    """
    times = np.sort(group["step"].unique())
    classes = list(dict.fromkeys(group["sampled class"]))
    wide = group.pivot(index="step", columns=["class of x'", "sampled class"], values="value").loc[times]
    pairs = [(row, column) for row in classes for column in classes if row != column]
    same = wide[[(name, name) for name in classes]].to_numpy()
    sampled = np.array([classes.index(column) for _, column in pairs])
    return times, same, wide[pairs].to_numpy(), sampled


def _numbers(rows: list[dict], labels: list[str], columns: list[str]) -> pd.DataFrame:
    """Return rows as a frame with these columns, numeric also where there are no rows."""
    frame = pd.DataFrame(rows, columns=[*labels, *columns])
    return frame.astype(dict.fromkeys(columns, "float64"))
