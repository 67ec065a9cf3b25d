"""Ready measurements of a training run, for the `probes` of `learn.train.fit`.

    probes = {"kernel": kernel(every=10), "features": agop_alignment(H, every=50)}

A state is anything with `model`, `X`, `y`, `lr`, `loss`, `batch` and `loss_name`. Everything stays on the state's
device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from traindyn import losses
from traindyn.errors import NotFiniteError
from traindyn.measure import agop, elasticity, spectrum
from traindyn.measure.ntk import empirical_ntk

SPACES = (1, 2, 5, 10)  # numbers of leading eigendirections that are told apart
DIVERGED = 1e6  # a training loss above this has diverged
SMALL = 512  # a GPU decomposes a matrix of so many rows more slowly than the CPU


@dataclass(frozen=True)
class Watch:
    """A measurement and when it is taken; `learn.train.fit` takes it as a probe.

    Attributes:
        fn: function State -> dict of tensors.
        every: steps between two looks; 0: only at `at` and at the end.
        at: further steps.
    """

    fn: Callable[[Any], dict[str, Tensor]]
    every: int = 1
    at: Iterable[int] | None = None
    stacked: bool = False

    def __call__(self, state: Any) -> dict[str, Tensor]:
        """Measure a state."""
        return self.fn(state)


def kernel(
    spaces: Sequence[int] = SPACES, every: int = 1, at: Iterable[int] | None = None, *, diverged: float = DIVERGED
) -> Watch:
    """Watch the tangent kernel of the training set, the loss in its eigenspaces, and the coming batch's critical rate.

    With k outputs the kernel keeps them apart (n k rows), and a space of s means its k s leading directions. Columns:

    * norm (the top eigenvalue |K|), second (lambda_2/lambda_1), within (number of eigenvalues above lambda_1/6);
    * critical (the critical rate in the loss's own normalisation: n/|K| for mse, 2 over the top eigenvalue of the
      Gauss-Newton matrix for any loss), super (number of its directions whose own critical rate lies below the coming
      rate);
    * for a squared loss lead_s and rest_s, its parts in the s leading and in all other eigenvectors, each projected on
      its own vectors, and defect, |loss - lead_s - rest_s| / loss for the largest s, the loss evaluated directly: it
      is zero to rounding exactly if the eigenvectors are orthonormal and complete and the parts have the loss's factor;
    * batch_critical (the same rate of the coming batch) where training goes by batches.

    A run whose outputs or kernel are not finite, or whose loss is above `diverged`, gives NaN. Whether the loss is
    recorded in that step does not matter: it is evaluated on the outputs at hand.

    Args:
        spaces: numbers of leading directions; those beyond the kernel's size are left out.
        every, at: when to look, as in `learn.train.Probe`.
        diverged: the loss above which a run has diverged.
    """

    def look(state: Any) -> dict[str, Tensor]:
        with torch.no_grad():
            f = outputs(state)
            k = f[0].numel()
            kept = [s for s in spaces if s * k < f.numel()]
            squared = not callable(state.loss_name) and state.loss_name in losses.SQUARED
            names = ["norm", "critical", "second", "within", "super"]
            names += ["defect", *(f"{part}_{s}" for s in kept for part in ("lead", "rest"))] if squared and kept else []
            names += ["batch_critical"] * (state.batch is not None)
            nothing = {name: torch.full((), math.nan, dtype=torch.float64, device=f.device) for name in names}
            y = state.y.double() if state.y.is_floating_point() else state.y
            loss = losses.value(state.loss_name, f.double(), y)
            if not bool(loss <= diverged):
                return nothing
            try:
                K = empirical_ntk(state.model, state.X, outputs="full").double()
            except NotFiniteError:
                return nothing
            if len(K) <= SMALL:
                K, f, y, loss = K.cpu(), f.cpu(), y.cpu(), loss.cpu()
            values, vectors = torch.linalg.eigh(K)
            found = {"norm": values[-1], "second": values[-2] / values[-1] if len(values) > 1 else 0 * values[-1]}
            found["within"] = (values > values[-1] / 6).sum().double()
            if squared:
                curvatures = losses.residual_factor(state.loss_name, len(f), k) * values
            else:
                curvatures = _curvatures(K, state.loss_name, f, y)
            found["critical"] = 2 / curvatures[-1]
            lr = state.lr.to(K.device) if isinstance(state.lr, Tensor) else state.lr
            found["super"] = (curvatures * lr > 2).sum().double()
            if squared and kept:
                found |= _parts(vectors, f.double() - y, loss, kept, state.loss_name)
            if state.batch is not None:
                batch = state.batch.to(K.device)
                rows = K.view(len(f), k, len(f), k)[batch][:, :, batch]
                rows = rows.reshape(len(state.batch) * k, -1)
                found["batch_critical"] = _critical(rows, state.loss_name, f[batch], y[batch])
        return found

    return Watch(look, every, at)


def outputs(state: Any) -> Tensor:
    """Return a state's outputs on its training set: those of the pass that gave the loss, if it keeps them."""
    kept = getattr(state, "outputs", None)
    return state.model(state.X) if kept is None else kept.detach()


def _parts(vectors: Tensor, residual: Tensor, loss: Tensor, kept: list[int], name: str) -> dict[str, Tensor]:
    """Return lead_s, rest_s and their defect against the loss, which was evaluated without the eigenvectors."""
    k = residual[0].numel()
    factor = losses.residual_factor(name, len(residual), k) / 2
    shares = factor * (vectors.T @ residual.flatten()).square()
    found = {}
    for s in kept:
        found[f"lead_{s}"], found[f"rest_{s}"] = shares[-s * k :].sum(), shares[: -s * k].sum()
    found["defect"] = (loss - found[f"lead_{kept[-1]}"] - found[f"rest_{kept[-1]}"]).abs() / loss
    return found


def _curvatures(K: Tensor, loss: losses.Loss, f: Tensor, y: Tensor) -> Tensor:
    """Return the eigenvalues of the Gauss-Newton matrix that are not zero for want of outputs, ascending."""
    root = spectrum.output_curvature(loss, f.double(), y)
    return torch.linalg.eigvalsh(root.T @ K @ root).clamp(min=0)


def _critical(K: Tensor, loss: losses.Loss, f: Tensor, y: Tensor) -> Tensor:
    if not callable(loss) and loss in losses.SQUARED:
        return spectrum.critical_lr(K, n=len(f), loss=loss)
    return 2 / _curvatures(K, loss, f, y)[-1]


def coming_batch(every: int = 1, at: Iterable[int] | None = None) -> Watch:
    """Watch the coming batch's critical rate alone, far cheaper than `kernel`: column batch_critical.

    NaN where the run has diverged. Without batches it is the training set's.

    Args:
        every, at: when to look, as in `learn.train.Probe`.
    """

    def look(state: Any) -> dict[str, Tensor]:
        X, y = (state.X, state.y) if state.batch is None else (state.X[state.batch], state.y[state.batch])
        with torch.no_grad():
            try:
                K = empirical_ntk(state.model, X, outputs="full").double()
                f = state.model(X) if callable(state.loss_name) or state.loss_name not in losses.SQUARED else y
                return {"batch_critical": _critical(K, state.loss_name, f, y)}
            except NotFiniteError:
                return {"batch_critical": torch.full((), math.nan, dtype=torch.float64, device=X.device)}

    return Watch(look, every, at)


def batch_rates(batches: Tensor | Sequence[Tensor], every: int = 1, at: Iterable[int] | None = None) -> Watch:
    """Watch the critical rate of every batch.

    Args:
        batches: indices into the training set, shape (m, b) or m tensors.
        every, at: when to look, as in `learn.train.Probe`.

    Returns:
        Watch: State -> {"batch_critical_lr": (m,)}.
    """

    def look(state: Any) -> dict[str, Tensor]:
        return {"batch_critical_lr": spectrum.batch_critical_lr(state.model, state.X, batches, state.loss_name)}

    return Watch(look, every, at)


def agop_alignment(H: Tensor, X: Tensor | None = None, every: int = 1, at: Iterable[int] | None = None) -> Watch:
    """Watch the alignment of the network's AGOP with a target's EGOP or another reference.

    Args:
        H: reference matrix, shape (d, d).
        X: where the AGOP is taken, shape (n, ...); the training inputs if None.
        every, at: when to look, as in `learn.train.Probe`.

    Returns:
        Watch: State -> {"agop_alignment": scalar in [0, 1]}.
    """

    def look(state: Any) -> dict[str, Tensor]:
        G = agop.agop(state.model, state.X if X is None else X)
        return {"agop_alignment": agop.alignment(G, H.to(G))}

    return Watch(look, every, at)


def local_elasticity(
    x_prime: Tensor, x: Tensor, y: Tensor, lr: float | None = None, every: int = 1, at: Iterable[int] | None = None
) -> Watch:
    """Watch Definition 1 of local elasticity for all pairs of given points, with the run's own loss.

    Args:
        x_prime: watched points, shape (m, ...).
        x: sampled points, shape (k, ...), and y: their labels, shape (k,).
        lr: size of the fictitious step; the run's present rate if None.
        every, at: when to look, as in `learn.train.Probe`.

    Returns:
        Watch: State -> {"s_rel": (m, k), float64}.
    """

    def look(state: Any) -> dict[str, Tensor]:
        step = float(state.lr) if lr is None else lr
        return {"s_rel": elasticity.s_rel(state.model, x_prime, x, y, step, state.loss_name)}

    return Watch(look, every, at)
