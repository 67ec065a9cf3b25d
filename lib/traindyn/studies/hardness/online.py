"""Online SGD on one parity per dimension with a two-layer network and the hinge loss (Figure 1), many runs at once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn import layers
from traindyn.compute import generator
from traindyn.evidence import table
from traindyn.files import atomic_path, project_root
from traindyn.measure.statistics import loglog_slope

KEPT = 1000  # steps between two kept states


def start(seed: int, d: int, width: int, most: int) -> Tensor:
    """Return torch's default initialisation of a two-layer network of d inputs, as rows (weights, 0s, bias, outer, b).

    Inputs are padded with zeros to `most`, so that networks of different d are trained together; the pad never moves.
    The outer bias stands in the first row's last column, zero elsewhere.
    """
    g = generator(seed, f"online {d}")
    inner, outer = 1 / math.sqrt(d), 1 / math.sqrt(width)
    theta = torch.zeros(width, most + 3, dtype=torch.float64)
    theta[:, :d] = (2 * torch.rand(width, d, dtype=torch.float64, generator=g) - 1) * inner
    theta[:, most] = (2 * torch.rand(width, dtype=torch.float64, generator=g) - 1) * inner
    theta[:, most + 1] = (2 * torch.rand(width, dtype=torch.float64, generator=g) - 1) * outer
    theta[0, most + 2] = (2 * torch.rand((), dtype=torch.float64, generator=g) - 1) * outer
    return theta if layers.altered is None else layers.altered(theta)


def batch(words: Tensor, dims: Tensor, relevant: Tensor, bits: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return inputs (runs, B, most) and targets (runs, B) from random words of `most` bits.

    Args:
        words: (runs, B), int64, the batch of each run.
        dims: (runs,), inputs beyond a run's own are zero.
        relevant: (runs,), the parity is that of the first so many bits.
        bits: (runs,), whether inputs are the bits themselves, else 1 - 2 bit.
        most: padded number of inputs.
    """
    bit = torch.arange(most, device=words.device)
    digits = (words[..., None] >> bit & 1).to(torch.float32)
    inside = bit < dims[:, None]
    odd = (digits * (bit < relevant[:, None])[:, None]).sum(-1) % 2
    inputs = torch.where(bits[:, None, None], digits, 1 - 2 * digits) * inside[:, None]
    return inputs, 1 - 2 * odd


def update(theta: Tensor, x: Tensor, y: Tensor, lr: float) -> Tensor:
    """Make one SGD step on the hinge loss in place and return the batch's losses before it, (runs,).

    Args:
        theta: (runs, width, most + 3), as `start` lays it out.
        x: (runs, B, most).
        y: (runs, B).
        lr: learning rate.
    """
    most = x.shape[2]
    w, c, a, b = theta[..., :most], theta[..., most], theta[..., most + 1], theta[:, 0, most + 2]
    hidden = torch.relu(torch.baddbmm(c[:, None], x, w.mT))
    margin = y * (torch.bmm(hidden, a[..., None])[..., 0] + b[:, None])
    signal = torch.where(margin < 1, y, 0) * (lr / x.shape[1])  # minus the loss's slope in the output, times lr
    gated = (hidden > 0) * signal[..., None]
    # products with theta as it was; only then does it move
    in_w, in_c, in_a = torch.bmm(gated.mT, x), gated.sum(1), torch.bmm(signal[:, None], hidden)[:, 0]
    w += in_w * a[..., None]
    c += in_c * a
    a += in_a
    b += signal.sum(1)
    return torch.relu(1 - margin).mean(1)


def experiment(
    seeds: Sequence[int],
    kind: str,
    size: SimpleNamespace,
    lr_width: float,
    dtype: torch.dtype,
    device: torch.device,
    store: Path | None = None,
) -> pd.DataFrame:
    """Train one network per dimension and seed until its loss is below `size.learned`, or for `size.steps`.

    All seeds and dimensions are one batch; a run that has learned leaves it. A seed's batches are the same for all of
    its dimensions. With a `store` the state is kept there every thousand steps; a call that was interrupted goes on
    from it, and it is removed at the end.

    Args:
        seeds: random seeds.
        kind: "half" (parity of the first floor(d/2) bits, at least 1, inputs +-1), "full" (of all bits), "bits" (half
            of them, inputs 0 and 1).
        size: dims, width, batch, steps, every (steps that a recorded loss averages), learned (the loss that counts as
            learned).
        lr_width: learning rate times width.
        dtype, device: of the training.
        store: a folder; None: nothing is kept.

    Returns:
        Tidy: seed, d, step, loss (mean of the batch losses since the last record), to `size.steps`.
    """
    most, lr = max(size.dims), lr_width / size.width
    cases = [(seed, d) for seed in seeds for d in size.dims]
    theta = torch.stack([start(seed, d, size.width, most) for seed, d in cases]).to(device, dtype)
    state = {"step": 0, "theta": theta, "live": torch.arange(len(cases)), "rows": [], "streams": {}}
    kept = None if store is None else store / f"online-{_key(cases, kind, size, lr_width, dtype, device)}.pt"
    if kept is not None and kept.is_file():
        state = torch.load(kept, weights_only=True, map_location=device)
    streams = {seed: generator(seed, "batches") for seed in seeds}
    for seed, position in state["streams"].items():
        streams[seed].set_state(position.cpu())
    while state["step"] < size.steps and len(state["live"]):
        _advance(state, cases, streams, kind, size, lr, most, dtype, device)
        if kept is not None and state["step"] % KEPT < size.every:
            state["streams"] = {seed: stream.get_state() for seed, stream in streams.items()}
            with atomic_path(kept) as part:
                torch.save(state, part)
    if kept is not None:
        kept.unlink(missing_ok=True)
    rows = [(*cases[i], step, loss) for i, step, loss in state["rows"]]
    return pd.DataFrame(rows, columns=["seed", "d", "step", "loss"]).sort_values(
        ["seed", "d", "step"], ignore_index=True
    )


def _key(*about: Any) -> str:
    """Return a name for what a state belongs to: everything that enters it, this module's text included."""
    plain = [vars(item) if isinstance(item, SimpleNamespace) else item for item in about]
    return hashlib.sha256((repr(plain) + Path(__file__).read_text(encoding="utf-8")).encode()).hexdigest()[:16]


def state_folder() -> Path:
    """Return where interrupted trainings of this project keep their state."""
    return project_root() / "_build" / "state"


def _advance(
    state: dict[str, Any],
    cases: Sequence[tuple[int, int]],
    streams: dict[int, torch.Generator],
    kind: str,
    size: SimpleNamespace,
    lr: float,
    most: int,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Make `size.every` steps with the runs that are still learning, record their losses, let go who has learned."""
    live, theta = state["live"], state["theta"]
    dims = torch.tensor([cases[i][1] for i in live.tolist()], device=device)
    relevant = dims if kind == "full" else (dims // 2).clamp(min=1)
    bits = torch.full_like(dims, kind == "bits", dtype=torch.bool)
    words = {
        seed: torch.randint(2**most, (size.every, size.batch), generator=stream) for seed, stream in streams.items()
    }
    words = {seed: drawn.to(device) for seed, drawn in words.items()}
    total = torch.zeros(len(live), dtype=dtype, device=device)
    for step in range(size.every):
        chosen = torch.stack([words[cases[i][0]][step] for i in live.tolist()])
        x, y = batch(chosen, dims, relevant, bits, most)
        total += update(theta, x.to(dtype), y.to(dtype), lr)
    state["step"] += size.every
    losses = (total / size.every).cpu().double()
    state["rows"] += [(i, state["step"], loss) for i, loss in zip(live.tolist(), losses.tolist(), strict=True)]
    slow = losses >= size.learned
    state["live"], state["theta"] = live[slow], theta[slow.to(device)]


def times(curves: pd.DataFrame, size: SimpleNamespace, stalls: Sequence[int] = ()) -> pd.DataFrame:
    """Return how long each seed and d took to learn.

    Returns:
        `steps` until the loss is below `size.learned` (infinite: not within the budget); `loss_N`, the loss around step
        N of `stalls` (zero once learned; missing if N is beyond the budget).
    """
    rows = []
    for (seed, d), part in curves.groupby(["seed", "d"]):
        done = part[part["loss"] < size.learned]["step"]
        row = {"seed": seed, "d": d, "steps": float(done.iloc[0]) if len(done) else math.inf}
        for n in stalls:
            until = part[part["step"] <= n]
            reached = len(done) and done.iloc[0] <= n
            row[f"loss_{n}"] = 0.0 if reached else float(until["loss"].iloc[-1]) if size.steps >= n else math.nan
        rows.append(row)
    return table(pd.DataFrame(rows), "d")


def growth(found: pd.DataFrame) -> pd.DataFrame:
    """Return how the time to learn grows with d, per seed.

    Returns:
        `rate` (slope of log2 steps on d over learned dimensions), `power` (log-log), `learned` (dimensions), `falls`
        (neighbouring dimensions where the larger one is learned no later; a dimension that was not learned within the
        budget is later than all that were, and two of them do not count).
    """
    rows = []
    for seed, part in found.reset_index().groupby("seed"):
        part = part.sort_values("d")
        steps, d = part["steps"].to_numpy(), part["d"].to_numpy()
        known = np.isfinite(steps)
        pairs = [(a, b) for a, b in zip(steps[:-1], steps[1:], strict=True) if math.isfinite(a) or math.isfinite(b)]
        enough = known.sum() >= 2
        rate = np.polyfit(d[known], np.log2(steps[known]), 1)[0] if enough else np.nan
        power = loglog_slope(d[known], steps[known]).value if enough else np.nan
        rows.append((seed, float(rate), float(power), sum(b <= a for a, b in pairs), int(known.sum())))
    return table(pd.DataFrame(rows, columns=["seed", "rate", "power", "falls", "learned"]))


def together(curves: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the tables of several kinds as one, with the column `kind` in front."""
    return pd.concat([frame.assign(kind=kind) for kind, frame in curves.items()], ignore_index=True)
