"""Deep students of deep teachers: the L-shape layer by layer, and a student deeper than its teacher (Figure 5)."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor

from traindyn.compute import generator
from traindyn.evidence import table
from traindyn.measure import teacher as measure
from traindyn.studies.student_teacher import students as learn
from traindyn.studies.student_teacher import teachers
from traindyn.studies.student_teacher.critical import share


def train(
    seeds: Sequence[int],
    size: SimpleNamespace,
    hidden: Sequence[int],
    teacher_hidden: Sequence[int],
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> SimpleNamespace:
    """Train students online, in the setting of the authors' code for deep networks.

    Args:
        seeds: one run each.
        size: d, scale (of the inputs), outputs, batch, lr, late_lr (from a fifth of the steps on), steps, records.
        hidden, teacher_hidden: widths of the hidden layers.
        dtype, device: of the training.

    Returns:
        `seeds`, `steps` (T,); for layer l = 1, ... of the student: `rho_l` (R, T, n_l), best correlation of each
        student node with a teacher node of the same layer (of the highest one where the teacher has fewer); `best_l`
        (R, T, m_l) per teacher node; `beta_l` (R, T, n_l), E_x[beta_kk]; `incoming` (R, T, n_1), |w_k| of
        layer 1; `loss` (R, T); `gradient` (R, T), the largest entry of g_1 over held-out inputs.
    """
    teacher = teachers.deep(seeds, [size.d, *teacher_hidden, size.outputs], size.scale).to(dtype, device)
    student = learn.students(seeds, [size.d, *hidden, size.outputs], None).to(dtype, device)
    drawn = [torch.randn(size.n_eval, size.d, dtype=torch.float64, generator=generator(s, "eval")) for s in seeds]
    X = size.scale * torch.stack(drawn).to(device, dtype)
    *targets, wanted = teacher.layers(X)

    def look(net: learn.Nets, runs: slice, step: int) -> dict[str, Tensor]:
        *f, out = net.layers(X[runs])
        found = {"loss": (wanted[runs] - out).square().mean((1, 2)), "incoming": net.weights[0].norm(dim=1)}
        V = top_down(net, f)
        found["gradient"] = lowest_gradient(net, f, wanted[runs] - out).abs().amax((1, 2))
        for depth, (ours, v) in enumerate(zip(f, V, strict=True), 1):
            rho = measure.correlate(ours, targets[min(depth, len(targets)) - 1][runs])
            found |= {f"rho_{depth}": rho.amax(2), f"best_{depth}": rho.amax(1), f"beta_{depth}": v}
        return found

    at = np.unique(np.concatenate([[0], np.geomspace(size.steps / 60, size.steps, size.records).round()])).astype(int)
    plan = [(0, size.lr), (size.steps // 5, size.late_lr)]
    batches = learn.online(teacher, seeds, size.batch, size.scale)
    found, steps = learn.train(student, batches, size.steps, plan, look, at, loss="mse_entries")
    return SimpleNamespace(seeds=list(seeds), steps=steps, depth=len(hidden), **found)


def lowest_gradient(net: learn.Nets, f: list[Tensor], residual: Tensor) -> Tensor:
    """Return g_1, (R, n, n_1): minus the derivative of |residual|^2 / 2 of each sample by the first pre-activations.

    Args:
        net: the students.
        f: their hidden layers, (R, n, n_l) each.
        residual: teacher minus student, (R, n, C).
    """
    back = residual
    for hidden, weight in zip(reversed(f), reversed(net.weights[1:]), strict=True):
        back = back @ weight.mT * (hidden > 0)
    return back


def top_down(net: learn.Nets, f: list[Tensor], samples: int = 100) -> list[Tensor]:
    """Return E_x[beta_kk] = E_x |v_k(x)|^2 of every hidden layer, each (R, n_l), over the first inputs (Eq. 4)."""
    runs, C = net.runs, net.weights[-1].shape[2]
    V = torch.eye(C, dtype=f[0].dtype, device=f[0].device).expand(runs, samples, C, C)
    found = []
    for depth in range(len(net.weights), 1, -1):
        if depth <= len(f):
            V = V * (f[depth - 1][:, :samples, None, :] > 0)
        V = V @ net.weights[depth - 1].mT[:, None]
        found.append(V.square().sum(2).mean(1))
    return found[::-1]


def mean_best(run: SimpleNamespace) -> np.ndarray:
    """Return the mean over teacher nodes of the best correlation, (layers, R, T)."""
    return np.stack([getattr(run, f"best_{depth}").mean(2) for depth in range(1, run.depth + 1)])


def alignment(run: SimpleNamespace) -> pd.DataFrame:
    """Return per seed and layer of the student how well it has found the teacher's.

    Args:
        run: of `train`.

    Returns:
        `start`, `best` (mean over teacher nodes of the best correlation, before and after training), `worst` (of the
        worst teacher node after it), `early` (how far the mean has come on its way from `start` to 1, in the mean over
        all looks, which are spaced in logarithmic time), `spearman` (between best correlation and E beta_kk of the
        student's nodes at the end), `fall` (peak over final largest |g_1|, the same for all layers).
    """
    best, rows = mean_best(run), []
    falls = run.gradient.max(1) / run.gradient[:, -1]
    for depth in range(1, run.depth + 1):
        worst = getattr(run, f"best_{depth}")[:, -1].min(1)
        for i, seed in enumerate(run.seeds):
            order = spearmanr(_end(run, "rho", depth)[i], _end(run, "beta", depth)[i]).statistic
            path = best[depth - 1, i]
            early = ((path - path[0]) / (1 - path[0])).mean()
            rows.append((seed, depth, path[0], path[-1], worst[i], early, order, falls[i]))
    columns = ["seed", "layer", "start", "best", "worst", "early", "spearman", "fall"]
    return table(pd.DataFrame(rows, columns=columns), "layer")


def l_shape(run: SimpleNamespace, loose: float, matched: float) -> pd.DataFrame:
    """Return per seed the fan-out of loose against matched nodes of the lowest layer at the end.

    Args:
        run: of `train`.
        loose, matched: correlations below which a node is loose, and above which it is matched.

    Returns:
        `ratio`: median E beta_kk of loose nodes over that of matched ones; `root_ratio`: the same of its square root;
        `product_ratio`: of sqrt(E beta_kk) |w_k|, which Theorem 3 speaks of. NaN where either are missing.
    """
    rows = []
    for seed, rho, beta, w in zip(
        run.seeds, _end(run, "rho", 1), _end(run, "beta", 1), run.incoming[:, -1], strict=True
    ):
        read = beta, np.sqrt(beta), np.sqrt(beta) * w
        rows.append((seed, *(share(values, rho < loose, rho > matched) for values in read)))
    return table(pd.DataFrame(rows, columns=["seed", "ratio", "root_ratio", "product_ratio"]))


def _end(run: SimpleNamespace, name: str, depth: int) -> np.ndarray:
    return getattr(run, f"{name}_{depth}")[:, -1]


def cloud(run: SimpleNamespace, times: int) -> pd.DataFrame:
    """Return one row per student node of all seeds: layer, step, best correlation, sqrt(E beta_kk).

    Args:
        run: of `train`.
        times: how many of the recorded steps, from the first to the last.
    """
    rows = []
    picked = [round(i * (len(run.steps) - 1) / (times - 1)) for i in range(times)]
    for depth in range(1, run.depth + 1):
        for at in picked:
            rows.append(
                pd.DataFrame(
                    {
                        "layer": f"layer {depth}",
                        "step": f"step {run.steps[at]}",
                        "correlation": getattr(run, f"rho_{depth}")[:, at].ravel(),
                        "fan-out": np.sqrt(getattr(run, f"beta_{depth}")[:, at].ravel()),
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)
