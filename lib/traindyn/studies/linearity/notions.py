"""Which notion of width predicts the Hessian's norm on random graphs? (Ours; the thesis names the least in-degree.)"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor

from traindyn.compute import generator
from traindyn.studies.linearity import nets as make
from traindyn.studies.linearity.curvature import Curvature
from traindyn.studies.linearity.nets import Nets

NOTIONS = {
    "least": "least in-degree",
    "harmonic": "harmonic mean",
    "mean": "arithmetic mean",
    "neurons": "smallest layer",
    "paths": "number of paths",
    "weighted": "harmonic mean over paths",
}


def graph(draw: torch.Generator, size: SimpleNamespace) -> list[Tensor]:
    """Return the masks of a random graph: two or three hidden layers whose sizes and in-degrees differ widely.

    Sizes are log-uniform, and a layer's in-degrees log-uniform between a random least one and all that it could read; a
    neuron reads that many of the earlier hidden neurons, at random. The output reads a share of them.
    """

    def log_uniform(low: float, high: float) -> float:
        return float(low * (high / low) ** torch.rand((), generator=draw, dtype=torch.float64))

    layers = int(torch.randint(2, 4, (), generator=draw))
    masks = [torch.ones(round(log_uniform(*size.hidden)), size.inputs, dtype=torch.bool)]
    for depth in range(layers):
        below = sum(len(mask) for mask in masks)
        count = 1 if depth + 1 == layers else round(log_uniform(*size.hidden))
        low = log_uniform(1, below)
        mask = torch.zeros(count, size.inputs + below, dtype=torch.bool)
        for row in range(count):
            degree = below if depth + 1 == layers else max(1, min(below, round(log_uniform(low, below))))
            mask[row, size.inputs + torch.randperm(below, generator=draw)[:degree]] = True
        masks.append(mask)
    return masks


def describe(masks: Sequence[Tensor], inputs: int) -> dict[str, float]:
    """Return every notion of width of a graph, over the neurons beyond the first layer that the output depends on."""
    total = inputs + sum(len(mask) for mask in masks)
    to_output = torch.zeros(total, dtype=torch.float64)  # paths to the output
    to_output[-1] = 1
    end = total
    for mask in reversed(masks):
        here = to_output[end - len(mask) : end].clone()
        end -= len(mask)
        to_output[: mask.shape[1]] += here @ mask.double()
    from_input = torch.zeros(total, dtype=torch.float64)
    from_input[:inputs] = 1
    start = inputs
    degrees = torch.zeros(total, dtype=torch.float64)
    for mask in masks:
        from_input[start : start + len(mask)] = mask.double() @ from_input[: mask.shape[1]]
        degrees[start : start + len(mask)] = mask.sum(1).double()
        start += len(mask)
    counted = to_output > 0
    counted[: inputs + len(masks[0])] = False
    degree, share = degrees[counted], (to_output * from_input)[counted]
    return {
        "least": float(degree.min()),
        "harmonic": float(1 / (1 / degree).mean()),
        "mean": float(degree.mean()),
        "neurons": float(min(len(mask) for mask in masks[:-1])),
        "paths": float(from_input[-1] / inputs),
        "weighted": float(share.sum() / (share / degree).sum()),
    }


def networks(masks: Sequence[Tensor], seeds: Sequence[int], inputs: int, name: str) -> Nets:
    """Return networks on one graph, one per seed."""
    layers = [make.layer(seeds, f"{name}-{i}", *mask.shape, 0, mask[None].double()) for i, mask in enumerate(masks)]
    return Nets(inputs, layers)


def sample(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Draw `size.graphs` random graphs per seed and measure the Hessian's norm at w_0 on each.

    Returns:
        Tidy: seed, graph, norm (geometric mean over `size.draws` draws of the weights), and every notion.
    """
    rows = []
    for seed in seeds:
        for index in range(size.graphs):
            masks = graph(generator(seed, f"notions-{index}"), size)
            each = list(range(size.draws))
            nets = networks(masks, each, size.inputs, f"{seed}-{index}")
            x = make.inputs(each, size.inputs)[:, 0]
            norm = Curvature(nets, x).norm(each).value.log().mean().exp()
            rows.append({"seed": seed, "graph": index, "norm": float(norm), **describe(masks, size.inputs)})
    return pd.DataFrame(rows)


def compare(found: pd.DataFrame, draws: int = 500) -> pd.DataFrame:
    """Return Spearman's rank correlation of each notion with the norm, with a bootstrap interval over graphs.

    Also `wins`, the share of resamplings in which that notion's correlation is the strongest (the most negative). The
    strongest comes first.
    """
    values = np.column_stack([found["norm"], *(found[name] for name in NOTIONS)])
    chosen = torch.randint(len(values), (draws, len(values)), generator=generator(0, "bootstrap")).numpy()
    redrawn = np.array([_correlations(values[rows]) for rows in chosen])
    low, high = np.quantile(redrawn, [0.025, 0.975], axis=0)
    wins = np.bincount(redrawn.argmin(1), minlength=len(NOTIONS)) / draws
    columns = {"rank correlation": _correlations(values), "low": low, "high": high, "wins": wins}
    return pd.DataFrame({"notion": list(NOTIONS.values()), **columns}).sort_values(
        "rank correlation", ignore_index=True
    )


def _correlations(values: np.ndarray) -> np.ndarray:
    """Return the rank correlations of the first column with the others."""
    return np.corrcoef(rankdata(values, axis=0).T)[0, 1:]
