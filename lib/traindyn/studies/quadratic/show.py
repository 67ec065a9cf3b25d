"""Tables behind the chapter's first figures, from real runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from traindyn import evidence
from traindyn.learn import models
from traindyn.learn.models import taylor
from traindyn.measure.statistics import loglog_slope
from traindyn.studies.quadratic import general, scalar, spans


def regimes(seed: int, m: int, rates: Sequence[float], steps: int) -> pd.DataFrame:
    """Train a linear model, both kinds of quadratic models and a network on one example, y = 1 (Figure 3.1).

    Args:
        seed: of all.
        m: width of the network, of its quadratic and of its linear model; gamma = 1/sqrt(m).
        rates: learning rate times lambda(0).
        steps: updates; a run stops where it exceeds 1e6 times its start.

    Returns:
        One row per model, rate and step: loss over the first one.
    """
    one, rows = torch.ones(1, 1, dtype=torch.float64), []
    at = spans.start(seed, one, m)
    lam = float(spans.TwoLayer(at).kernel())
    for model, name in (("lin", "linear"), ("quad", "quadratic (NQM)"), ("f", "network")):
        for rate in rates:
            path = spans.train(spans.TwoLayer(at, model), one, rate / lam, steps)
            rows += [(name, f"{rate:g}", t, loss / path.loss[0]) for t, loss in enumerate(path.loss)]
    for rate in rates:
        losses = general.losses(seed, m**-0.5, rate, steps)
        rows += [("quadratic (general)", f"{rate:g}", t, loss / losses[0]) for t, loss in enumerate(losses)]
    frame = pd.DataFrame(rows, columns=["model", "rate", "step", "loss"])
    order = ["linear", "quadratic (NQM)", "quadratic (general)", "network"]
    kept = frame[(frame["loss"] < 1e6) & (frame["loss"] > 1e-8)]
    return kept.sort_values("model", key=lambda names: names.map(order.index), kind="stable")


def regime_evidence(seeds: Sequence[int], size: Any) -> pd.DataFrame:
    """Return per seed and model what Figure 3.1 says of each, at rates 1.8, 2.8 and far above.

    Args:
        seeds: one start each.
        size: attributes m, steps, high (rate that is far above for the network).

    Returns:
        `below`: peak over first loss at 1.8; `peak`, `last`: over the first loss at 2.8; `above`: peak over first loss
        at 2.2 (linear), 4.2 (quadratic), size.high (network). Cases: linear, nqm, general, network.
    """
    one, rows = torch.ones(1, 1, dtype=torch.float64), []
    top = {"linear": 2.2, "nqm": 4.2, "network": size.high}
    for seed in seeds:
        at = spans.start(seed, one, size.m)
        lam = float(spans.TwoLayer(at).kernel())
        for name, model in (("linear", "lin"), ("nqm", "quad"), ("network", "f")):
            found = []
            for rate in (1.8, 2.8, top[name]):
                path = spans.train(spans.TwoLayer(at, model), one, rate / lam, size.steps)
                found.append((max(path.loss) / path.loss[0], path.loss[-1] / path.loss[0]))
            rows.append((seed, name, found[0][0], *found[1], found[2][0]))
        found = []
        for rate in (1.8, 2.8, 4.2):
            losses = general.losses(seed, size.m**-0.5, rate, size.steps)
            found.append((max(losses) / losses[0], losses[-1] / losses[0]))
        rows.append((seed, "general", found[0][0], *found[1], found[2][0]))
    return evidence.table(pd.DataFrame(rows, columns=["seed", "model", "below", "peak", "last", "above"]), "model")


def linear_threshold(seeds: Sequence[int], n: int, p: int) -> pd.DataFrame:
    """Return per seed the rate times lambda_max / 2, minus 1, from which a random linear model diverges, by bisection.

    Also the largest difference over 100 steps between gradient descent on its weights and eq. (3.7).
    """
    rows = []
    for seed in seeds:
        draws = scalar.rng(seed, "linear")
        J, r0 = draws.standard_normal((n, p)) / p**0.5, draws.standard_normal(n)
        K = J @ J.T
        top = np.linalg.eigvalsh(K)[-1]
        low, high = 0.5, 4.0
        for _ in range(20):
            middle = (low + high) / 2
            values, vectors = np.linalg.eigh(K)
            with np.errstate(over="ignore"):  # |(I - lr K)^4096 r_0|^2, in the eigenbasis
                last = ((1 - middle / top * values) ** 8192 * (vectors.T @ r0) ** 2).sum()
            low, high = (middle, high) if last < r0 @ r0 else (low, middle)
        w, r, gap = np.zeros(p), r0, 0.0
        for _ in range(100):
            w = w - 1.7 / top * J.T @ (J @ w + r0)
            r = r - 1.7 / top * K @ r
            gap = max(gap, np.abs(J @ w + r0 - r).max())
        rows.append((seed, (low + high) / 4 - 1, gap / np.abs(r0).max()))
    return evidence.table(pd.DataFrame(rows, columns=["seed", "threshold", "function_space"]))


def peaks(seed_range: Sequence[int], widths: Sequence[int], rates: Sequence[float]) -> pd.DataFrame:
    """Return the median over seeds of the peak loss of the quadratic model, per width and rate, where all runs end."""
    at = scalar.start(seed_range, widths)
    runs = scalar.run(at, np.asarray(rates)[:, None, None], steps=2000)
    rows = [
        (f"$10^{{{np.log10(m):.0f}}}$", rate, float(np.median(runs.peak[i, j])))
        for j, m in enumerate(widths)
        for i, rate in enumerate(rates)
        if np.isfinite(runs.peak[i, j]).all()
    ]
    return pd.DataFrame(rows, columns=["width", "rate", "peak"])


def lengths(seeds: Sequence[int], widths: Sequence[int], rates: Sequence[float]) -> pd.DataFrame:
    """Return per seed and rate the slope in the width of the path length of the quadratic model on one example."""
    at = scalar.start(seeds, widths)
    runs = scalar.run(at, np.asarray(rates)[:, None, None])
    rows = [
        (seed, rate, loglog_slope(widths, runs.length[i, :, j]).value)
        for i, rate in enumerate(rates)
        for j, seed in enumerate(seeds)
    ]
    return evidence.table(pd.DataFrame(rows, columns=["seed", "rate", "exact_length"]), "rate")


def stacked(panels: Mapping[str, pd.DataFrame], sizes: Mapping[str, Any]) -> pd.DataFrame:
    """Return several tables as one, with a column `panel` of their names and data sets."""
    parts = [part.assign(panel=f"{name}: {sizes[name].data}") for name, part in panels.items()]
    return pd.concat(parts, ignore_index=True)


def formula(seeds: Sequence[int], m: int, d: int, points: int = 20) -> pd.DataFrame:
    """Compare three forms of the quadratic model of a two-layer ReLU network at random weights, in float64.

    Returns:
        Per seed, relative: `closed`, eq. (3.10) against the network with frozen gates; `nested`, against nested forward
        mode on the same weights; `hessian`, third differences of frozen gates along a line, which vanish if the Hessian
        is constant; `gates`: the same of the network itself.
    """
    rows = []
    for seed in seeds:
        draws = scalar.rng(seed, "formula")
        X = torch.as_tensor(draws.standard_normal((5, d)))
        net = models.FCN(d, m, 2).double()
        first, second = (part for part in net.parameters())
        first.data = torch.as_tensor(draws.standard_normal((m, d)))
        second.data = torch.as_tensor(draws.choice([-1.0, 1.0], (1, m)))
        frozen, nested = taylor.NQM(net), taylor.quadratize(net)
        u0, v0, root = first.detach().clone(), second.detach()[0].clone(), (m * d) ** 0.5
        gate = (X @ u0.T >= 0).double()
        worst = np.zeros(2)
        for _ in range(points):
            du, dv = torch.as_tensor(draws.standard_normal((m, d))), torch.as_tensor(draws.standard_normal(m))
            base, slope = gate * (X @ u0.T), gate * (X @ du.T)
            closed = (base @ v0 + slope @ v0 + base @ dv + slope @ dv) / root
            said = []
            for model in (frozen, nested):
                a, b = list(model.parameters())[:2] if model is frozen else list(model.weights.parameters())
                a.data, b.data = u0 + du, (v0 + dv)[None]
                said.append(model(X).detach())
            worst = np.maximum(worst, [float((closed - part).norm() / part.norm()) for part in said])
        line = []
        for step in range(4):
            f = list(frozen.parameters())
            f[0].data, f[1].data = u0 + step * du, (v0 + step * dv)[None]
            first.data, second.data = u0 + step * du, (v0 + step * dv)[None]
            line.append(torch.stack([frozen(X).detach(), net(X).detach()]))
        third = (line[3] - 3 * line[2] + 3 * line[1] - line[0]).norm(dim=1) / line[3].norm(dim=1)
        rows.append((seed, *worst, *third.tolist()))
    return evidence.table(pd.DataFrame(rows, columns=["seed", "closed", "nested", "hessian", "gates"]))


def draw(seed: int, size: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw u (m, d), v (m,) of eq. (3.9) and one input x with |x|^2 = d, in float64.

    Args:
        seed: of all.
        size: attributes m, d.
    """
    draws = scalar.rng(seed, "by hand")
    u, v = draws.standard_normal((size.m, size.d)), draws.choice([-1.0, 1.0], size.m)
    x = draws.standard_normal(size.d)
    return torch.as_tensor(u), torch.as_tensor(v), torch.as_tensor(x * size.d**0.5 / np.linalg.norm(x))


def library(u: torch.Tensor, v: torch.Tensor, x: torch.Tensor, lr: float, steps: int) -> dict[str, list[float]]:
    """Return the losses of network and quadratic model from given weights, by `spans`, y = 1."""
    z, one = (u @ x / len(x) ** 0.5)[:, None], torch.ones(1, 1, dtype=torch.float64)
    at = spans.Start(z, v[:, None], z[:, :0], one, one[:, :0])
    return {model: spans.train(spans.TwoLayer(at, model), one, lr, steps - 1).loss for model in ("quad", "f")}


def beside(runs: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """Return losses of several runs, where they exceed 1e-8, as one table: run, step, loss."""
    parts = [pd.DataFrame({"run": name, "step": range(len(part)), "loss": part}) for name, part in runs.items()]
    frame = pd.concat(parts, ignore_index=True)
    return frame[frame["loss"] > 1e-8]


def joined(models: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the paths of `line.regimes` of several models as one table with a column `model`."""
    return pd.concat([part.assign(model=name) for name, part in models.items()], ignore_index=True)


def cases(panels: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return evidence of several panels as one table with one more case."""
    return evidence.stacked(panels, "panel")


KINDS = {
    "cnn": "convolution",
    "deep": "three layers",
    "sgd": "two layers, SGD",
    "tanh": "two layers, tanh",
    "swish": "two layers, swish",
}
SETS = {
    "mnist5k": "MNIST",
    "mnist": "MNIST",
    "cifar10_lossless4k": "CIFAR-10",
    "svhn_test_part": "SVHN",
    "fsdd": "FSDD",
    "agnews_test": "AG News",
}


def experiments(panels: Iterable[str]) -> dict[str, str]:
    """Name the panels of `stacked` by network and data, as figure and caption do; equal names get the experiment's."""
    plain = {}
    for panel in panels:
        name, data = panel.split(": ")
        plain[panel] = f"{KINDS.get(name.split('-')[0], 'two layers')}: {SETS.get(data, data)}"
    often = Counter(plain.values())
    return {panel: f"{label} ({panel.split(': ')[0]})" if often[label] > 1 else label for panel, label in plain.items()}


def told(sizes: Mapping[str, Any]) -> str:
    """Return what the panels of a sweep are, as sentences of a caption."""
    names = experiments(f"{name}: {size.data}" for name, size in sizes.items())
    parts = []
    for label, size in zip(names.values(), sizes.values(), strict=True):
        kind = {"fc": "two layers", "cnn": "convolution", "deep": "three layers"}[size.net]
        batch = f", batches of {size.batch}" if size.batch else ""
        what = f"classes {size.classes}" if size.classes else "all classes"
        parts.append(
            f"*{label}*: {what}, {size.n} samples, {kind} of width {size.width}, {size.activation}{batch}, "
            f"{size.steps} steps"
        )
    return "; ".join(parts) + "."
