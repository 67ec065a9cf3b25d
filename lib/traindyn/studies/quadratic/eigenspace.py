"""Training along the top eigenvector of the tangent kernel: Figures B.2 and B.3 of Zhu's thesis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from traindyn import evidence
from traindyn.compute import Device, in_float64
from traindyn.studies.quadratic import images, spans


def follow(seed: int, size: Any, model: str, rate: float, dtype: torch.dtype, device: Device = "cpu") -> pd.DataFrame:
    """Train one model and look at its kernel before every update.

    Args:
        seed: of samples and weights.
        size: attributes of `images.task` and `images.maker`, and steps.
        model: "f" or "quad".
        rate: learning rate times lambda_max(K(0)).
        dtype, device: of the training.

    Returns:
        One row per step: loss; `along`, `first`, `top2`: parts of it along p_1(t), along p_1 followed by continuity and
        in the space of the two top eigenvectors; `rho_f` and `rho_k`: p_1^T R_f p_1 = <p_1, r'>/<p_1, r> - 1 + lr
        lambda_1 and p_1^T R_K p_1 = lambda_1 - p_1^T K' p_1; lambda: the top eigenvalue.
    """
    found = images.task(seed, size, dtype, device)
    net = images.maker(seed, size, found)(model)
    lr, seen = rate / spans.top_eigenvalue(net), []

    def look(net: Any, t: int) -> None:
        K, r = (in_float64(part).cpu() for part in (net.kernel(), net.value() - found.y))
        seen.append((*torch.linalg.eigh(K), r[:, 0], K))

    spans.train(net, found.y, lr, size.steps, look=look)
    rows, held = [], seen[0][1][:, -1]
    for t, ((values, vectors, r, _), (_, _, r2, K2)) in enumerate(zip(seen[:-1], seen[1:], strict=True)):
        held = vectors[:, (vectors.T @ held).abs().argmax()]
        p, lam = vectors[:, -1], float(values[-1])
        along, top = float(p @ r), vectors[:, -2:].T @ r
        rho = float(p @ r2) / along - 1 + lr * lam
        parts = [along**2 / 2, float(held @ r) ** 2 / 2, float(top @ top) / 2]
        rows.append((t, float(r @ r) / 2, *parts, rho, lam - float(p @ K2 @ p), lam))
    return pd.DataFrame(rows, columns=["step", "loss", "along", "first", "top2", "rho_f", "rho_k", "lambda"])


def spikes(path: pd.DataFrame, times: float = 10) -> dict[str, float]:
    """Read one path on the steps whose loss exceeds `times` the first one; NaN where there are fewer than three."""
    high = path[path["loss"] > times * path["loss"].iloc[0]]
    names = ("positive_f", "positive_k", "rank_f", "rank_k", "share", "share_first", "share_top2")
    if len(high) < 3:
        return dict.fromkeys(names, np.nan)
    total = high["loss"].sum()
    return {
        "positive_f": (high["rho_f"] > 0).mean(),
        "positive_k": (high["rho_k"] > 0).mean(),
        "rank_f": spearmanr(high["rho_f"], high["loss"])[0],
        "rank_k": spearmanr(high["rho_k"], high["loss"])[0],
        "share": high["along"].sum() / total,
        "share_first": high["first"].sum() / total,
        "share_top2": high["top2"].sum() / total,
    }


def study(
    seeds: Sequence[int], size: Any, dtype: torch.dtype, device: Device = "cpu"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Follow network and quadratic model at every rate of size.rates.

    Returns:
        Evidence per seed, model and rate, as `spikes` reads it; and the tidy paths.
    """
    rows, paths = [], []
    for seed in seeds:
        for model in ("quad", "f"):
            for rate in size.rates:
                path = follow(seed, size, model, rate, dtype, device)
                rows.append({"seed": seed, "model": model, "rate": rate, **spikes(path)})
                paths.append(path.assign(seed=seed, model=model, rate=rate))
    return evidence.table(pd.DataFrame(rows), ["model", "rate"]), pd.concat(paths, ignore_index=True)


def shown(paths: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return one seed's paths at the first rate, with a column `panel` that names the model."""
    part = paths[(paths["seed"] == seed) & (paths["rate"] == paths["rate"].iloc[0])]
    return part.assign(panel=part["model"].map({"quad": "f_quad", "f": "f"}))
