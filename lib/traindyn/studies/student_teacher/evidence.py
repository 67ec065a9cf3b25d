"""From trained students to the parts of the claims on Figures 4, 6, 7 and 11 and on what is learned first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from traindyn.studies.student_teacher import readings


def _share(values: np.ndarray | None) -> list[float] | None:
    return None if values is None else values.tolist()


def strong_first(runs: Mapping[int, Any], equal: Any, last: float = 20) -> dict[str, Any]:
    """Return the evidence for "strong teachers are learned first"; `equal` is the run at p = 0.

    Parts are None where a run did not reach epoch `last`.
    """
    reached = all(run.at(last) is not None for run in (*runs.values(), equal))
    if not reached:
        return {"parts": dict.fromkeys(("order", "more", "equal-strength")), "measured": {}, "seeds": len(equal.best)}
    orders = {factor: readings.order(run, last) for factor, run in runs.items()}
    counts = {f: readings.followers(run, last).mean(axis=0) for f, run in runs.items() if f > 1}
    ratios = {f: float(c[0] / max(c[readings.WEAK].mean(), 1e-9)) for f, c in counts.items()}
    control = readings.order(equal, last)
    return {
        "parts": {
            "order": (np.stack(list(orders.values())) > 0.7).all(axis=0),
            "more": all(ratio >= 3 for ratio in ratios.values()),
            "equal-strength": bool(abs(control.mean()) < 0.3),
        },
        "measured": {f"order_{f}x": o.tolist() for f, o in orders.items()}
        | {f"followers_ratio_{f}x": r for f, r in ratios.items()}
        | {"order_equal_strength": float(control.mean())},
    }


def focus_shifting(runs: Mapping[int, Any], deciding: int = 5) -> dict[str, Any]:
    """Return the evidence for focus shifting: epochs 1 and 20 of one width, epochs 5 and 100 of all."""
    run = runs[deciding]
    leaves = switch = falls = loose = None
    measured = {}
    if run.at(20) is not None:
        first, later = (_on_strongest(run, epoch) for epoch in (1, 20))
        leaves = later < first
        measured |= {"strongest_share_epoch_1": first.tolist(), "strongest_share_epoch_20": later.tolist()}
    if run.at(100) is not None:
        moved = {f: (r.pick[:, r.at(5)] != r.pick[:, r.at(100)]) for f, r in runs.items()}
        switch = all(bool(m.any()) for m in moved.values())
        means = {f: float(m.mean()) for f, m in moved.items()}
        falls = bool(np.all(np.diff([means[f] for f in sorted(means)]) < 0))
        split = {f: _by_alignment(runs[f], moved[f]) for f in runs}
        known = [pair for pair in split.values() if not np.isnan(pair).any()]
        loose = bool(all(free > bound for bound, free in known)) if known else None
        measured |= {f"switch_{f}x": value for f, value in means.items()}
        measured |= {
            f"switch_aligned_{deciding}x": split[deciding][0],
            f"switch_unaligned_{deciding}x": split[deciding][1],
        }
    return {
        "parts": {"leaves": leaves, "switch": switch, "width": falls, "unaligned": loose},
        "measured": measured,
        "seeds": len(run.best),
    }


def _on_strongest(run: Any, epoch: float) -> np.ndarray:
    at = run.at(epoch)
    aligned = run.rho[:, at] > 0.9
    return ((run.pick[:, at] == 0) & aligned).sum(axis=1) / np.maximum(aligned.sum(axis=1), 1)


def _by_alignment(run: Any, moved: np.ndarray) -> tuple[float, float]:
    aligned = run.rho[:, run.at(5)] > readings.MATCHED
    return tuple(float(moved[group].mean()) if group.any() else float("nan") for group in (aligned, ~aligned))


def trajectories(run: Any) -> dict[str, Any]:
    """Return the evidence for Figure 4: teacher 0 against teacher 4 at the end and in cover time."""
    counts, times = readings.followers(run, run.epochs[-1]), readings.cover_time(run)
    return {
        "parts": {"more": counts[:, 0] > counts[:, 4], "later": times[:, 4] > times[:, 0]},
        "measured": {
            "followers_of_teacher_0": counts[:, 0].tolist(),
            "followers_of_teacher_4": counts[:, 4].tolist(),
            "cover_time_0": times[:, 0].tolist(),
            "cover_time_4": times[:, 4].tolist(),
        },
    }


def recovery(runs: Mapping[int, Any], mild: Mapping[int, Any], steep: Mapping[int, Any]) -> dict[str, Any]:
    """Return the evidence for Figure 6: p = 1 at all widths, a mild and a steep decay at two of them."""
    names = ("width", "gain", "index", "decay", "time")
    parts: dict[str, Any] = dict.fromkeys(names)
    measured: dict[str, Any] = {}
    factors = sorted(runs)
    early = {f: readings.recovery(runs[f], 5) for f in factors}
    everyone = [*runs.values(), *mild.values(), *steep.values()]
    if any(r.at(5) is None for r in everyone):
        return {"parts": parts, "measured": measured, "seeds": len(runs[factors[0]].best)}
    steps = [early[b] - early[a] for a, b in zip(factors, factors[1:], strict=False)]
    parts["width"] = all(step.mean() >= -readings.standard_error(step) for step in steps)
    parts["gain"] = bool(early[factors[-1]].mean() - early[1].mean() >= 0.2)
    cells = [(r, e) for r in everyone for e in (5, 100) if r.at(e) is not None]
    half = runs[1].best.shape[2] // 2
    halves = [(r.best[:, r.at(e)] > readings.MATCHED).mean(axis=0) for r, e in cells]
    parts["index"] = all(rate[:half].mean() >= rate[half:].mean() for rate in halves)
    drops = [float(readings.recovery(mild[f], 5).mean() - readings.recovery(steep[f], 5).mean()) for f in mild]
    parts["decay"] = all(drop >= 0.4 for drop in drops)
    late = {f: readings.recovery(runs[f], 100) for f in factors}
    if all(rate is not None for rate in late.values()):
        parts["time"] = all(late[f].mean() >= early[f].mean() for f in factors)
        measured |= {f"rate_{f}x_epoch_100": _share(late[f]) for f in factors}
    measured |= {f"rate_{f}x_epoch_5": _share(early[f]) for f in factors}
    measured |= {f"decay_drop_{f}x": drop for f, drop in zip(mild, drops, strict=True)}
    return {"parts": parts, "measured": measured, "seeds": min(len(r.best) for r in everyone)}


def stuck(runs: Mapping[int, Any], longer: Any, mild: Any) -> dict[str, Any]:
    """Return the evidence for "1x gets stuck": `longer` is 1x at p = 1 to 200 epochs, `mild` 1x at p = 0.5 to 100."""
    rate = {f: readings.recovery(run, 100) for f, run in runs.items()}
    twice, half = readings.recovery(longer, 200), readings.recovery(mild, 100)
    measured = {f"rate_{f}x": _share(r) for f, r in rate.items() if r is not None}
    measured |= {} if twice is None else {"rate_1x_200_epochs": _share(twice)}
    measured |= {} if half is None else {"rate_1x_p_0.5": _share(half)}
    return {
        "parts": {
            "stuck": None if rate[1] is None else _is_stuck(rate[1]),
            "wide": None
            if any(r is None for r in rate.values())
            else all(r.min() == 1 for f, r in rate.items() if f > 1),
            "twice": None if twice is None else _is_stuck(twice),
            "half": None if half is None else _is_stuck(half),
        },
        "measured": measured,
        "seeds": len(runs[1].best),
    }


def _is_stuck(rate: np.ndarray) -> bool:
    return bool(rate.mean() < 0.97 and (rate < 1).any())


def faster(runs: Mapping[int, Any]) -> dict[str, Any]:
    """Return the evidence for "over-parameterisation covers weak teachers sooner"; None short of 100 epochs."""
    measured = {f: readings.cover_time(run)[:, readings.WEAK].mean(axis=1) for f, run in sorted(runs.items())}
    shown = {f"cover_time_{f}x": times.tolist() for f, times in measured.items()}
    if any(run.at(100) is None for run in runs.values()):
        return {"parts": {"ordered": None, "ends": None}, "measured": shown, "seeds": len(runs[1].best)}
    times = np.stack(list(measured.values()))
    return {
        "parts": {"ordered": (np.diff(times, axis=0) < 0).all(axis=0), "ends": times[-1] < times[0]},
        "measured": shown,
    }


def evolution(run: Any, steep: Any | None) -> dict[str, Any]:
    """Return the evidence for Figure 7 at 5x; `steep` is the run at p = 2 to 100 epochs, if there is one."""
    missed = steep is not None and steep.at(100) is not None
    parts: dict[str, Any] = {"order": None, "late": None}
    parts["steep"] = bool((steep.best[:, steep.at(100)] < readings.MATCHED).any()) if missed else None
    measured: dict[str, Any] = {}
    if run.at(20) is not None:
        weak = {e: run.best[:, run.at(e)][:, readings.WEAK].mean(axis=1) for e in (1, 20)}
        order = readings.order(run, 20)
        parts |= {"order": order > 0.7, "late": bool(weak[1].mean() < 0.8 and weak[20].mean() > readings.MATCHED)}
        measured = {"order": order.tolist(), "weak_epoch_1": weak[1].tolist(), "weak_epoch_20": weak[20].tolist()}
    return {"parts": parts, "measured": measured, "seeds": len(run.best)}


def losses(runs: Mapping[int, Any], epochs: Sequence[float] = (5, 20, 100)) -> dict[str, Any]:
    """Return the evidence for Figure 11: gaps of the held-out loss between the narrowest and the widest student."""
    factors = sorted(runs)
    gaps, measured = {}, {}
    for epoch in epochs:
        if runs[1].at(epoch) is None:
            continue
        log = {f: np.log10(runs[f].loss[:, runs[f].at(epoch)]) for f in factors}
        gaps[epoch] = float(log[1].mean() - log[factors[-1]].mean())
        measured |= {f"log10_loss_{f}x_epoch_{epoch:g}": log[f].tolist() for f in factors}
    parts: dict[str, Any] = {f"epoch-{e:g}": bool(abs(gaps[e]) < 1) if e in gaps else None for e in epochs[:-1]}
    parts |= dict.fromkeys(("falls", "close", "absolute", "monotone"))
    if (last := epochs[-1]) in gaps:
        ends = {f: runs[f].loss[:, runs[f].at(last)] for f in factors}
        falls = [ends[f] < runs[f].loss[:, runs[f].at(1)] for f in factors]
        means = [np.log10(ends[f]).mean() for f in factors]
        share = abs(ends[1].mean() - ends[factors[-1]].mean()) / runs[1].loss[:, 0].mean()
        parts |= {
            "falls": np.all(falls, axis=0),
            "close": bool(abs(gaps[last]) < 1),
            "absolute": bool(share < 0.01),
            "monotone": bool(np.all(np.diff(means) < 0)),
        }
        measured |= {"gap_decades": gaps[last], "gap_over_initial_loss": float(share)}
    return {"parts": parts, "measured": measured, "seeds": len(runs[1].best)}
