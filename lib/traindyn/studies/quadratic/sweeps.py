"""Best test loss against the learning rate for a network and its Taylor models: Figures 3.2b, 3.4 and B.5 to B.13."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from traindyn import evidence
from traindyn.compute import Device, generator
from traindyn.studies.quadratic import images, spans

MODELS = ("f", "lin", "quad")


def batches(seed: int, n: int, batch: int, steps: int) -> torch.Tensor | None:
    """Return the batches of SGD, without replacement within an epoch, (steps, batch); None for full batches."""
    if not batch:
        return None
    rng, per = generator(seed, "order"), n // batch
    epochs = [torch.randperm(n, generator=rng)[: per * batch].view(per, batch) for _ in range(-(-steps // per))]
    return torch.cat(epochs)[:steps]


def sweep(seeds: Sequence[int], size: Any, dtype: torch.dtype, device: Device = "cpu") -> pd.DataFrame:
    """Train f, f_lin and f_quad of every seed at every rate, all with one budget of steps.

    Args:
        seeds: samples, weights and batches.
        size: attributes of `images.task` and `images.maker`, and rates (learning rate times lambda_max(K(0))), steps,
            every (updates between looks at the test set), batch (0: full), longer (factor of steps of one more run of f
            at the largest rate below 2; 0: none).
        dtype, device: of the training.

    Returns:
        One row per seed, model and rate: best test loss (mean square), `matched`, the best up to the step at which lr x
        steps equals that of the smallest rate over `size.matched`; least share of errors; peak and last training loss
        over the first; diverged; lr. A diverged run's best is infinite. Model "long" is the longer run.
    """
    rows = []
    for seed in seeds:
        found = images.task(seed, size, dtype, device)
        make, order = images.maker(seed, size, found), batches(seed, size.n, size.batch, size.steps)
        lam = spans.top_eigenvalue(make("f"))
        runs = [(model, rate, 1) for model in MODELS for rate in size.rates]
        runs += [("long", max(rate for rate in size.rates if rate < 2), size.longer)] if size.longer else []
        for model, rate, factor in runs:
            path = spans.train(
                make("f" if model == "long" else model),
                found.y,
                rate / lam,
                size.steps * factor,
                found.y_test,
                size.every,
                order,
            )
            lost = np.inf if path.diverged else 0.0
            budget = size.steps * min(size.rates) / rate
            early = [loss for t, loss in zip(path.steps, path.test, strict=True) if t <= budget + 1e-9]
            peak, last = max(path.loss) / path.loss[0], path.loss[-1] / path.loss[0]
            rows.append(
                (seed, model, rate, min(path.test) + lost, min(early) + lost, min(path.wrong) + lost, peak, last + lost)
                + (path.diverged, rate / lam)
            )
    names = ["seed", "model", "rate", "best", "matched", "wrong", "peak", "last", "diverged", "lr"]
    return pd.DataFrame(rows, columns=names)


def gains(found: pd.DataFrame) -> dict[int, dict[str, float]]:
    """Return per seed what the claims on super-critical rates read, from the table of one sweep.

    Per model m of f and quad: `gain_m`, log of the best loss above 2 over that below; `matched_m`, the same with lr x
    steps alike; `fixed_m`, at rate 3 alone; `over_lin_m`, against the linear model's best below 2; `falls_m`, log of
    the loss at the second rate above 2 over the first; `accuracy_m`, gain of the best accuracy; `apart_m`, largest
    |log| of the loss over the linear model's below 2; `margin_m`: -gain_m - apart_m. `lin_survives`: runs of the linear
    model above 2 that do not diverge; `longer`: log of f's best above 2 over the longer run's; `agree`: share of rates
    above 2 at which the peaks of f and quad both, or neither, exceed the start twofold and end.
    """
    out = {}
    for seed, part in found.groupby("seed"):
        wide = {name: part.pivot(index="rate", columns="model", values=name) for name in ("best", "matched", "wrong")}
        peak, last = (part.pivot(index="rate", columns="model", values=name) for name in ("peak", "last"))
        best, low, high = wide["best"], wide["best"].index < 2, wide["best"].index > 2
        over, row = best.index[high], {}
        lin = best.loc[low, "lin"]
        for model in ("f", "quad"):
            sub = best.loc[low, model].min()
            row[f"gain_{model}"] = np.log(best.loc[high, model].min() / sub)
            row[f"matched_{model}"] = np.log(
                wide["matched"].loc[high, model].min() / wide["matched"].loc[low, model].min()
            )
            row[f"fixed_{model}"] = np.log(best.loc[3.0, model] / sub) if 3.0 in best.index else np.nan
            row[f"over_lin_{model}"] = np.log(best.loc[high, model].min() / lin.min())
            falls = len(over) > 1 and np.isfinite(best.loc[over[:2], model]).all()
            row[f"falls_{model}"] = np.log(best.loc[over[1], model] / best.loc[over[0], model]) if falls else np.nan
            row[f"accuracy_{model}"] = wide["wrong"].loc[low, model].min() - wide["wrong"].loc[high, model].min()
            row[f"apart_{model}"] = np.log(best.loc[low, model] / lin).abs().max()
            row[f"margin_{model}"] = -row[f"gain_{model}"] - row[f"apart_{model}"]
        row["lin_survives"] = float(np.isfinite(best.loc[high, "lin"]).sum())
        row["longer"] = np.log(best.loc[high, "f"].min() / best["long"].min()) if "long" in best else np.nan
        caught = {m: (peak.loc[high, m] > 2) & np.isfinite(last.loc[high, m]) for m in ("f", "quad")}
        row["agree"] = float((caught["f"] == caught["quad"]).mean())
        out[seed] = row
    return out


def evidence_of(panels: Mapping[str, pd.DataFrame], case: str = "panel") -> pd.DataFrame:
    """Return `gains` of several sweeps as one table, one case per panel."""
    rows = [{"seed": seed, case: name, **row} for name, found in panels.items() for seed, row in gains(found).items()]
    return evidence.table(pd.DataFrame(rows), case)


def single(found: pd.DataFrame) -> pd.DataFrame:
    """Return `gains` of one sweep, one row per seed."""
    return evidence.table(pd.DataFrame([{"seed": seed, **row} for seed, row in gains(found).items()]))


def shrinking(seeds: Sequence[int], size: Any, dtype: torch.dtype, device: Device = "cpu") -> pd.DataFrame:
    """Return per seed the slopes in the width of the distance between f, f_quad and f_lin below the critical rate.

    Args:
        seeds: samples and weights.
        size: as for `sweep`, and widths, rate (below 2).
        dtype, device: of the training.

    Returns:
        `slope_f`, `slope_quad` of the root mean square difference of test outputs after size.steps; one row per seed.
    """
    rows = []
    for seed in seeds:
        found, apart = images.task(seed, size, dtype, device), []
        for width in size.widths:
            make, ends = images.maker(seed, size.changed(width=width), found), {}
            lam = spans.top_eigenvalue(make("f"))
            for model in MODELS:
                net = make(model)
                spans.train(net, found.y, size.rate / lam, size.steps)
                ends[model] = net.test()
            apart.append([float((ends[m] - ends["lin"]).square().mean().sqrt()) for m in ("f", "quad")])
        slopes = np.polyfit(np.log(size.widths), np.log(apart), 1)[0]
        rows.append((seed, *slopes))
    return evidence.table(pd.DataFrame(rows, columns=["seed", "slope_f", "slope_quad"]))


def shuffled(seed: int, size: Any, dtype: torch.dtype, device: Device = "cpu") -> pd.DataFrame:
    """Train the quadratic model with samples that are shuffled after the first step, while its frozen parts are not.

    The code released with the paper stores outputs, gates and features of the start in the order of the first epoch,
    and draws another order in every epoch. From the second step on, slot i has the gates of sample i and the input and
    the label of another one.

    Args:
        seed: of samples, weights and orders.
        size: attributes of `images.task`, width, lr (for the mean square), steps.
        dtype, device: of the training.

    Returns:
        One row per run ("f", "f_quad", "f_quad, shuffled") and step: mean square on the training set, as that run's own
        code measures it, and on the test set.
    """
    found = images.task(seed, size, dtype, device)
    at = spans.start(seed, found.X, size.width, found.X_test)
    n, lr, root, rows = size.n, 2 * size.lr / size.n, size.width**0.5, []
    for model, name in (("f", "f"), ("quad", "f_quad")):
        path = spans.train(spans.TwoLayer(at, model), found.y, lr, size.steps, found.y_test, every=1)
        rows += [(name, t, 2 * loss / n, test) for t, loss, test in zip(path.steps, path.loss, path.test, strict=False)]
    gate, v, moved = at.z.sign().relu(), at.v.clone(), torch.zeros_like(at.z)
    rng, order = generator(seed, "shuffle"), torch.arange(n, device=device)
    for t in range(size.steps + 1):
        h = at.z.relu() + gate * (moved @ at.gram)[:, order]
        r = h.T @ v / root - found.y[order]
        net = spans.TwoLayer(at, "quad")
        net.v, net.moved, net.z = v, moved, at.z + moved @ at.gram
        test = float((net.test() - found.y_test).square().mean())
        rows.append(("f_quad, shuffled", t, float(r.square().mean()), test))
        pull = gate * (v @ r.T)
        v, moved = v - lr / root * (h @ r), moved - lr / root * torch.zeros_like(pull).index_add_(1, order, pull)
        order = torch.randperm(n, generator=rng).to(device)
    return pd.DataFrame(rows, columns=["run", "step", "train", "test"])
