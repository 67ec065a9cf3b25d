r"""Gradient descent on networks on graphs, with the tangent kernel along the way (Figure 2.2, Section 2.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pandas as pd
import torch
from torch import Tensor

from traindyn.learn import data
from traindyn.studies.linearity import nets as make
from traindyn.studies.linearity.nets import CURVES, Nets

CHUNK = 2**20  # weights of the largest layer that are trained together; more would not fit a processor's cache


@dataclass
class Pass:
    """What one forward and one backward pass leave: outputs (s, n), and per layer what it reads a (s, n, k) and the
    signal rho (s, n, m) with which d f_i / d W = rho_i a_i^T on the edges."""

    outputs: Tensor
    reads: list[Tensor]
    rho: list[Tensor]


def sweep(nets: Nets, X: Tensor) -> Pass:
    """Return outputs and gradients of networks with one output, for inputs (s, n, in_dim)."""
    values = X
    slopes, starts, reads = [], [], []
    for depth, layer in enumerate(nets.layers):
        a = values[..., layer.reads]
        z = a @ layer.weight.mT * layer.scale[:, None]
        f, slope, _ = CURVES[nets.output if depth + 1 == len(nets.layers) else nets.activation](z)
        reads.append(a)
        slopes.append(slope)
        starts.append(values.shape[2])
        values = torch.cat([values, f if layer.skip is None else f + values[..., layer.skip]], 2)
    back = torch.zeros_like(values)
    back[..., starts[-1] :] = 1
    rho: list[Tensor] = []
    for layer, slope, start in zip(reversed(nets.layers), reversed(slopes), reversed(starts), strict=True):
        sent = back[..., start : start + slope.shape[2]].clone()
        signal = sent * slope * layer.scale[:, None]
        if start > nets.in_dim or layer.first < nets.in_dim:
            back[..., layer.reads] += signal @ layer.weight
        if layer.skip is not None:
            back.index_add_(2, layer.skip, sent)
        rho.insert(0, signal)
    return Pass(values[..., -1], reads, rho)


def kernel(nets: Nets, found: Pass) -> Tensor:
    """Return the tangent kernels (2.17), (s, n, n): sum over edges of products of derivatives."""
    n = found.outputs.shape[1]
    K = found.outputs.new_zeros(len(found.outputs), n, n)
    one, two = torch.triu_indices(n, n)
    for layer, a, rho in zip(nets.layers, found.reads, found.rho, strict=True):
        if layer.mask is None:
            K += (a @ a.mT) * (rho @ rho.mT)
        else:
            pairs = ((a[:, one] * a[:, two]) @ layer.mask.mT * (rho[:, one] * rho[:, two])).sum(2)
            part = torch.zeros_like(K)
            part[:, one, two] = part[:, two, one] = pairs
            K += part
    return K


def points(name: str, seeds: Sequence[int], n: int, side: int, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return n images of two classes per seed, (s, n, d), and labels -1 and +1, (s, n)."""
    sets = [
        data.load(
            name,
            classes=list(classes),
            n_train=n,
            seed=seed,
            labels="pm1",
            size=side,
            flatten=True,
            dtype=torch.float64,
        )
        for seed in seeds
    ]
    return torch.stack([s.X_train for s in sets]), torch.stack([s.y_train for s in sets])


@dataclass(frozen=True)
class Setting:
    """What the thesis leaves open about Figure 2.2.

    Attributes:
        activation: of hidden neurons.
        rate: learning rate in units of 1 / lambda_max of the initial kernel.
        refeed: whether layers beyond the first read the input, too.
        normalizer: "surviving" or "original", the in-degree after or before dropping.
        drop: probability with which an edge was dropped.
    """

    activation: str = "tanh"
    rate: float = 1.0
    refeed: bool = False
    normalizer: str = "surviving"
    drop: float = 0.5

    def varied(self, rates: Sequence[float]) -> dict[str, Setting]:
        """Return the settings that differ from this one in one choice each."""
        return {
            "relu": replace(self, activation="relu"),
            "slow": replace(self, rate=min(rates)),
            "fast": replace(self, rate=max(rates)),
            "refed": replace(self, refeed=not self.refeed),
            "original": replace(self, normalizer="original"),
        }


def build(seeds: Sequence[int], dim: int, width: int, setting: Setting) -> Nets:
    """Return the half-dropped DenseNets of a setting."""
    return make.densenet(
        seeds, dim, width, 3, setting.drop, setting.refeed, setting.normalizer, activation=setting.activation
    )


def descend(
    nets: Nets, X: Tensor, y: Tensor, rate: float | Tensor, steps: int, stop: float, every: int
) -> dict[str, Tensor]:
    """Train on half the sum of squares (2.15) by gradient descent until the loss falls to `stop` times its start.

    Args:
        nets: one network per seed; its weights are changed in place.
        rate: in units of 1 / lambda_max of the initial kernel; one number, or one per network.
        every: steps between two looks at the kernel; the end is a look, too.

    Returns:
        (s,) each: `steps` until the stop (inf: not reached), `final` (last loss over the first), `change` (largest
        ||K_t - K_0|| / ||K_0||, spectral), `moved` (distance from the start), `bound` (largest L_T / (L_0 product
        of (1 - eta lambda_min(K))^every) over the looks), `least` (smallest lambda_min over the looks over its start),
        `pl` (smallest ||grad L||^2 / (2 L lambda_min)); and `path`, a list of looks (step, loss, lambda_min over the
        start, change, |grad L|^2 / 2L over the initial lambda_min), each with a column per seed.
    """
    first = [layer.weight.clone() for layer in nets.layers]
    look = sweep(nets, X)
    K = start = kernel(nets, look)
    values = torch.linalg.eigvalsh(K)
    least0, top0 = values[:, 0], values[:, -1]
    eta = rate / top0
    s = len(X)
    r = look.outputs - y
    loss = loss0 = r.square().sum(1) / 2
    log_bound = torch.zeros(s, dtype=torch.float64)
    out = {
        "steps": torch.full((s,), torch.inf, dtype=torch.float64),
        "final": torch.full((s,), torch.inf, dtype=torch.float64),
        "change": torch.zeros(s, dtype=torch.float64),
        "bound": torch.full((s,), -torch.inf, dtype=torch.float64),
        "least": torch.ones(s, dtype=torch.float64),
        "pl": torch.full((s,), torch.inf, dtype=torch.float64),
        "moved": torch.full((s,), torch.nan, dtype=torch.float64),
    }
    path = []
    live = torch.ones(s, dtype=torch.bool)
    for step in range(steps + 1):
        ended = live & ((loss <= stop * loss0) | ~torch.isfinite(loss) | (loss > 1e6 * loss0))
        # a run looks at its own times only, whatever the runs beside it do
        sees = live if step % every == 0 or step == steps else ended
        if sees.any():
            K = kernel(nets, look)
            finite = torch.isfinite(K).all(2).all(1)
            now = torch.linalg.eigvalsh(torch.where(finite[:, None, None], K, start))
            values = torch.where(sees[:, None], now, values)
            change = torch.linalg.matrix_norm(torch.where(finite[:, None, None], K - start, start), 2) / top0
            change = torch.where(finite, change, torch.full_like(change, torch.inf))
            slope = torch.einsum("si,sij,sj->s", r, K, r) / (2 * loss)
            out["change"] = torch.where(sees, out["change"].maximum(change), out["change"])
            out["least"] = torch.where(sees, out["least"].minimum(values[:, 0] / least0), out["least"])
            out["pl"] = torch.where(sees, out["pl"].minimum(slope / values[:, 0]), out["pl"])
            out["bound"] = torch.where(sees, out["bound"].maximum((loss / loss0).log() - log_bound), out["bound"])
            nan = torch.full_like(loss, torch.nan)
            seen = (loss / loss0, values[:, 0] / least0, change, slope / least0)
            path.append((step, *(torch.where(sees, column, nan) for column in seen)))
        stopped = ended & (loss <= stop * loss0)
        out["steps"][stopped] = float(step)
        close = ended | (live & (step == steps))
        if close.any():
            gone = sum((l.weight - w).square().sum((1, 2)) for l, w in zip(nets.layers, first, strict=True)).sqrt()
            out["moved"] = torch.where(close, gone, out["moved"])
            out["final"] = torch.where(close, loss / loss0, out["final"])
        live = live & ~ended
        if not live.any() or step == steps:
            break
        log_bound = log_bound + torch.log1p(-(eta * values[:, 0]).clamp(max=1 - 1e-12))
        pull = torch.where(live, eta, torch.zeros_like(eta))[:, None] * torch.where(
            live[:, None], r, torch.zeros_like(r)
        )
        for layer, a, rho in zip(nets.layers, look.reads, look.rho, strict=True):
            push = (rho * pull[..., None]).mT @ a
            layer.weight.sub_(push if layer.mask is None else push.mul_(layer.mask))
        look = sweep(nets, X)
        r = look.outputs - y
        loss = torch.where(live, r.square().sum(1) / 2, loss)
    return {**out, "path": path}


def experiment(
    seeds: Sequence[int], size: SimpleNamespace, settings: Mapping[str, Setting]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train half-dropped DenseNets of every width in every setting (Figure 2.2).

    Returns:
        Tidy tables: one row per seed, setting and width with the numbers of `descend`, and the looks along the way.
    """
    X, y = points(size.data, seeds, size.n, size.side, size.classes)
    rows, looks = [], []
    for name, setting in settings.items():
        for width in size.widths:
            together = max(1, CHUNK // width**2)
            for at in range(0, len(seeds), together):
                part = list(seeds)[at : at + together]
                here = slice(at, at + together)
                nets = build(part, X.shape[2], width, setting)
                found = descend(nets, X[here], y[here], setting.rate, size.steps, size.stop, size.every)
                about = {"seed": part, "setting": name, "width": width}
                for step, *columns in found.pop("path"):
                    seen = zip(("loss", "least", "change", "slope"), (c.numpy() for c in columns), strict=True)
                    looks.append(pd.DataFrame({**about, "step": step, **dict(seen)}))
                rows.append(pd.DataFrame({**about, **{key: value.numpy() for key, value in found.items()}}))
    looked = pd.concat(looks, ignore_index=True)
    return pd.concat(rows, ignore_index=True), looked.dropna(subset=["loss"]).reset_index(drop=True)


def scan(seeds: Sequence[int], size: SimpleNamespace, setting: Setting) -> pd.DataFrame:
    """Train the narrow networks at several rates, since none is printed.

    Returns:
        Tidy: seed, width, rate, steps (inf: the stop was not reached), change.
    """
    X, y = points(size.data, seeds, size.n, size.side, size.classes)
    rates, rows = torch.tensor(size.rates, dtype=torch.float64), []
    each = len(size.rates)
    for width in size.widths:
        many = list(seeds) * each
        nets = build(many, X.shape[2], width, setting)
        by = rates.repeat_interleave(len(seeds))
        found = descend(nets, X.repeat(each, 1, 1), y.repeat(each, 1), by, size.steps, size.stop, size.every)
        numbers = {key: found[key].numpy() for key in ("steps", "change")}
        rows.append(pd.DataFrame({"seed": many, "width": width, "rate": by.numpy(), **numbers}))
    return pd.concat(rows, ignore_index=True)
