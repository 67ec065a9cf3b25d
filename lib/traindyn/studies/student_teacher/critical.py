"""What a zero gradient says about the nodes: exact critical points, among them the antipodal one, and trained ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.compute import generator, normal
from traindyn.evidence import table
from traindyn.measure import teacher as measure
from traindyn.studies.student_teacher import students as learn
from traindyn.studies.student_teacher import teachers
from traindyn.studies.student_teacher.observers import observed
from traindyn.studies.student_teacher.rule import gradient_rule


def antipodal(seed: int, d: int, C: int, layers: int = 2, samples: int = 4000) -> dict[str, float]:
    r"""Build the critical point without an aligned student and measure it (Theorems 2, 4, 5, Corollary 2).

    The teacher has one node w^* in its lowest layer. With u_1 + u_2 = w^*, the student's weights -w^*, u_1, -u_1, u_2,
    -u_2 and fan-outs 1, 1, -1, 1, -1 times the teacher's give its activation exactly, since relu(a) - relu(-a) = a.

    Args:
        seed: draws everything.
        d, C: inputs and outputs.
        layers: weight layers, 2, or 3 to put a second hidden layer (the same in both) on top.
        samples: normal inputs.

    Returns:
        `gradient` (largest entry of g_1 over samples and nodes), `loss`, `cosine` (best positive one with w^*),
        `absolute_cosine`, `alpha` (largest |v_k . v^*| of u_1 over inputs), `observed` (share of students that see
        w^*'s boundary), `bias_gap` and `signed_bias_gap` (to the best co-linear student, weights of norm 1),
        `unaligned` (rms output of the students not co-linear with w^* over the rms output), `affine_residual` (what
        an affine function leaves of it).
    """
    draw = generator(seed, "antipodal")
    X = torch.randn(samples, d, dtype=torch.float64, generator=draw)
    X1 = torch.cat([X, torch.ones(samples, 1, dtype=torch.float64)], 1)
    w = torch.randn(d + 1, dtype=torch.float64, generator=draw)
    w = w / w[:-1].norm()
    side = torch.randn(d + 1, dtype=torch.float64, generator=draw)
    side = side - (side @ w) / (w @ w) * w
    u1, u2 = w / 2 + side, w / 2 - side
    W = torch.stack([-w, u1, -u1, u2, -u2], 1)
    signs = torch.tensor([1.0, 1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    widths = [1, 8, C] if layers == 3 else [1, C]
    upper = [torch.randn(a, b, dtype=torch.float64, generator=draw) for a, b in zip(widths, widths[1:], strict=False)]
    ours = [signs[:, None] * upper[0], *upper[1:]]
    f, f_star = (X1 @ W).relu(), (X1 @ w[:, None]).relu()
    out, wanted = (_through(part, tops) for part, tops in ((f, ours), (f_star, upper)))
    V, V_star = (_jacobian(part, tops) for part, tops in ((f, ours), (f_star, upper)))
    g = gradient_rule(V.mT @ V_star, V.mT @ V, f, f_star)
    if layers == 3:  # the rule is exact for bias-free upper layers, which these are
        g = torch.where(f > 0, torch.einsum("nck,nc->nk", V, wanted - out), 0.0)
    cosine = torch.nn.functional.cosine_similarity(W, w[:, None], dim=0)
    best = int(cosine.abs().argmax())
    b = W[-1, best] / W[:-1, best].norm()
    other = f[:, 1:] @ ours[0][1:]
    fit = torch.linalg.lstsq(X1, other).solution
    return {
        "gradient": float(g.abs().max()),
        "loss": float((wanted - out).square().sum(1).mean() / 2),
        "cosine": float(cosine.max()),
        "absolute_cosine": float(cosine.abs().max()),
        "alpha": float((V[:, :, 1] * V_star[:, :, 0]).sum(1).abs().max()),
        "observed": float(observed(f, f_star).double().mean()),
        "bias_gap": float((b - w[-1]).abs()),
        "signed_bias_gap": float((b + w[-1]).abs()),
        "unaligned": float(other.norm() / (f @ ours[0]).norm()),
        "affine_residual": float((other - X1 @ fit).norm() / other.norm()),
    }


def _through(f: Tensor, tops: list[Tensor]) -> Tensor:
    for depth, W in enumerate(tops, 1):
        f = f @ W if depth == len(tops) else (f @ W).relu()
    return f


def _jacobian(f: Tensor, tops: list[Tensor]) -> Tensor:
    """Return V_1(x), (n, C, n_1), of the layers above."""
    if len(tops) == 1:
        return tops[0].T.expand(len(f), -1, -1)
    gates = ((f @ tops[0]) > 0).to(f)
    return (tops[1].T * gates[:, None, :]) @ tops[0].T


def antipodal_over_seeds(seeds: Sequence[int], size: SimpleNamespace, layers: int = 2) -> pd.DataFrame:
    """Return `antipodal` for inputs `size.d` and outputs `size.outputs` as evidence, one row per seed."""
    return table(pd.DataFrame([{"seed": seed, **antipodal(seed, size.d, size.outputs, layers)} for seed in seeds]))


def refits(seeds: Sequence[int], size: SimpleNamespace) -> pd.DataFrame:
    """Solve for the fan-out by least squares with fixed student directions (Theorems 2 and 3).

    Every solution has zero gradient in the top layer; with a zero residual all gradients vanish. A random element of
    the null space is added, so that co-linear students share their fan-out at random.

    Returns:
        Per seed: `groups` (largest |sum of v |w|| over a group of co-linear students that matches no teacher),
        `single` (largest |v| of a lone unaligned student), `sharing` (largest |v| |w| of one student of such a group),
        `six_positive` and `six_signed` (the same sums when +-a, +-b, +-(a+b) are added, groups formed by a positive
        factor and up to sign), `without` (relative residual after the students aligned with teacher 0 are gone).
    """
    rows = []
    for seed in seeds:
        draw = generator(seed, "refit")
        X = torch.randn(size.samples, size.d, dtype=torch.float64, generator=draw)
        X1 = torch.cat([X, torch.ones(len(X), 1, dtype=torch.float64)], 1)
        W_star, spare = (
            torch.randn(size.d + 1, n, dtype=torch.float64, generator=draw) for n in (size.m, size.spare + 2)
        )
        V_star = torch.randn(size.m, size.outputs, dtype=torch.float64, generator=draw)
        y = (X1 @ W_star).relu() @ V_star
        lone, (a, b) = spare[:, : size.spare], spare[:, size.spare :].T
        twins = torch.stack([2 * lone[:, 0], 0.5 * lone[:, 0], 3 * lone[:, 1]], 1)
        W = torch.cat([W_star, lone, twins], 1)
        V = _solve(X1, W, y, draw)
        n = W.norm(dim=0)[:, None] * V
        m, s = size.m, size.m + size.spare
        row = {"seed": seed, "groups": _largest([n[m] + n[s] + n[s + 1], n[m + 1] + n[s + 2]])}
        row |= {"single": float(V[m + 2 : s].norm(dim=1).max()), "sharing": _largest([n[s], n[s + 2]])}
        six = torch.stack([a, -a, b, -b, a + b, -a - b], 1)
        W6 = torch.cat([W, six], 1)
        n6 = (W6.norm(dim=0)[:, None] * _solve(X1, W6, y, draw))[-6:]
        row |= {
            "six_positive": _largest(list(n6)),
            "six_signed": _largest([n6[0] + n6[1], n6[2] + n6[3], n6[4] + n6[5]]),
        }
        kept = W[:, 1:]
        F = (X1 @ kept).relu()
        left = y - F @ torch.linalg.lstsq(F, y, driver="gelsd").solution
        rows.append(row | {"without": float(left.norm() / y.norm())})
    return table(pd.DataFrame(rows))


def _solve(X1: Tensor, W: Tensor, y: Tensor, draw: torch.Generator) -> Tensor:
    F = (X1 @ W).relu()
    _, values, right = torch.linalg.svd(F, full_matrices=False)
    null = right[values < 1e-10 * values[0]]
    noise = torch.randn(len(null), y.shape[1], dtype=torch.float64, generator=draw)
    return torch.linalg.lstsq(F, y, driver="gelsd").solution + null.T @ noise


def _largest(sums: list[Tensor]) -> float:
    return max(float(part.norm()) for part in sums)


def trained(seeds: Sequence[int], size: SimpleNamespace) -> SimpleNamespace:
    """Drive over-sized students close to a critical point and record what Theorems 2, 3, 5 and Corollary 2 speak of.

    Float64, because the gradient has to fall over decades.

    Args:
        seeds: one run each.
        size: d, m, outputs, n, n_eval, factor, batch, lr, late_lr, steps, std; matched, the correlation from which a
            student counts as aligned for Corollary 2.

    Returns:
        `seeds`; `steps` (T,); over (seeds, T): `eps` (largest entry of g_1 over nodes, training set and fresh inputs:
        the theorem bounds it at every input), `dropped` (relative rms change of the held-out output when all students
        that are not matched are removed), `angle` (sin theta of the worst teacher); over (seeds, T, m): `cosine`,
        `absolute` (best with each teacher, bias included), `bound` (sin theta * max_k |alpha_kj| / eps of the best
        co-linear student, over `proof_constant`); over (seeds, T, n): `node` (best cosine of each student), `strength`
        (|v_k| |w_k|).
    """
    teacher = teachers.two_layer(seeds, size.d, size.m, size.outputs)
    X, fresh = (
        learn.INPUTS * normal(seeds, purpose, n, size.d) for purpose, n in (("data", size.n), ("eval", size.n_eval))
    )
    y, (hidden, wanted) = teacher(X), teacher.layers(fresh)
    target = torch.cat([teacher.weights[0], teacher.biases[0]], 1)
    nets = learn.students(seeds, [size.d, size.factor * size.m, size.outputs], size.std)

    def look(net: learn.Nets, runs: slice, step: int) -> dict[str, Tensor]:
        f, held, V = net.layers(X[runs]), net.layers(fresh[runs]), net.weights[1]
        both = ((f, y[runs]), (held, wanted[runs]))
        eps = torch.stack([(((out - h[1]) @ V.mT) * (h[0] > 0)).abs().amax((1, 2)) for h, out in both]).amax(0)
        W = torch.cat([net.weights[0], net.biases[0]], 1)
        cosine = _cosine(W, target[runs])
        best = cosine.abs().argmax(1)
        theta = measure.angle(torch.take_along_dim(net.weights[0].mT, best[..., None], 1), teacher.weights[0][runs].mT)
        alpha = (V @ teacher.weights[1][runs].mT).abs().amax(1)
        kept = measure.correlate(held[0], hidden[runs]).amax(2) >= size.matched
        rest = (held[0] * ~kept[:, None, :]) @ V
        return {
            "eps": eps,
            "cosine": cosine.amax(1),
            "absolute": cosine.abs().amax(1),
            "bound": theta.sin() * alpha / eps[:, None] / proof_constant(size.d, (size.factor + 1) * size.m),
            "angle": theta.sin().amax(1),
            "dropped": rest.norm(dim=(1, 2)) / held[1].norm(dim=(1, 2)),
            "node": cosine.amax(2),
            "strength": V.norm(dim=2) * W.norm(dim=1),
        }

    plan = [(0, size.lr), (size.steps // 2, size.late_lr)]
    at = learn.epochs(size.steps, 1.2, 20)
    found, steps = learn.train(nets, learn.from_set(X, y, seeds, size.batch), size.steps, plan, look, at)
    return SimpleNamespace(seeds=list(seeds), steps=steps, **found)


def proof_constant(d: int, units: int, radius: float = 1.0) -> float:
    """Return M K of Lemma 5 for delta -> 0: sin theta stays below M K eps / |alpha| in the proof of Theorem 5.

    Args:
        d: inputs.
        units: K, students and teachers together.
        radius: of a ball on the node's boundary inside the region (the printed M has 2 pi in its place).
    """
    return 10 * units / radius * math.sqrt(d / (2 * math.pi))


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosines of all columns of a with all columns of b, batched over runs."""
    return (a / a.norm(dim=1, keepdim=True)).mT @ (b / b.norm(dim=1, keepdim=True))


def ends(run: SimpleNamespace, loose: float, aligned: float, opposite: float = 0.99) -> pd.DataFrame:
    """Return per seed what the theorems say of trained students.

    Args:
        run: of `trained`.
        loose, aligned: cosines below which a student counts as unaligned, and above which as aligned.
        opposite: absolute cosine from which a student counts as co-linear with a teacher.

    Returns:
        `fall` (peak over final eps), `worst_cosine` (of the worst teacher at the end), `bound` (largest over teachers
        and steps), `narrowed` (worst teacher's sin theta at the peak of eps over that at the end), `dropped`,
        `dropped_early` (at the end, and after a tenth of the steps), `unaligned_share` (median |v||w| of unaligned
        students over that of aligned ones at the end; 0 if none is unaligned), `opposite` (teachers that end co-linear
        with a student only with the opposite sign).
    """
    early = int(np.argmax(run.steps >= 0.1 * run.steps[-1]))
    node, strength = run.node[:, -1], run.strength[:, -1]
    covered, lined_up = (part[:, -1] > opposite for part in (run.cosine, run.absolute))
    found = {
        "seed": run.seeds,
        "fall": run.eps.max(axis=1) / run.eps[:, -1],
        "worst_cosine": run.cosine[:, -1].min(axis=1),
        "bound": run.bound.max(axis=(1, 2)),
        "narrowed": run.angle[np.arange(len(run.seeds)), run.eps.argmax(axis=1)] / run.angle[:, -1],
        "dropped": run.dropped[:, -1],
        "dropped_early": run.dropped[:, early],
        "unaligned_share": [share(s, n < loose, n > aligned, 0.0) for n, s in zip(node, strength, strict=True)],
        "opposite": (lined_up & ~covered).sum(axis=1),
    }
    return table(pd.DataFrame(found))


def share(values: np.ndarray, some: np.ndarray, others: np.ndarray, none: float = np.nan) -> float:
    """Return the median of some values over the median of others; `none` if there are none of the first kind.

    NaN if there are none of the second.
    """
    if not others.any():
        return float("nan")
    return float(np.median(values[some]) / np.median(values[others])) if some.any() else none


def approach(run: SimpleNamespace) -> pd.DataFrame:
    """Return the gradient and the worst teacher's bound over steps, one row per seed and recorded step."""
    rows = [
        pd.DataFrame({"run": i, "step": run.steps, "gradient": eps, "bound": bound.max(axis=1)})
        for i, (eps, bound) in enumerate(zip(run.eps, run.bound, strict=True))
    ]
    return pd.concat(rows, ignore_index=True).query("step > 0")


def profile(seed: int, d: int = 5, points: int = 121) -> pd.DataFrame:
    """Return the construction of `antipodal` along a line through w^*: one curve per student, their sum, the teacher.

    Returns:
        Columns: t (position along w^*), node, value.
    """
    draw = generator(seed, "profile")
    w = torch.randn(d, dtype=torch.float64, generator=draw)
    w = w / w.norm()
    side = torch.randn(d, dtype=torch.float64, generator=draw)
    side = side - (side @ w) * w
    t = torch.linspace(-2, 2, points, dtype=torch.float64)
    X = t[:, None] * w + 0.4 * side / side.norm()
    u1, u2 = w / 2 + side, w / 2 - side
    curves = {"$-w^*$": -w, "$u_1$": u1, "$-u_1$": -u1, "$u_2$": u2, "$-u_2$": -u2}
    signs = (1, 1, -1, 1, -1)
    rows = {name: sign * (X @ u).relu() for (name, u), sign in zip(curves.items(), signs, strict=True)}
    rows |= {"sum of the five": sum(rows.values()), "teacher": (X @ w).relu()}
    return pd.concat([pd.DataFrame({"t": t, "node": name, "value": value}) for name, value in rows.items()])
