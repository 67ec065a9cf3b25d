"""Per-sample Jacobians for parameters that no rule covers: vectorised where torch gets it right, else a loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from traindyn.errors import InputError
from traindyn.forward_pass import COUPLED, call_with, try_out
from traindyn.measure.ntk.graph import apply_model
from traindyn.measure.ntk.products import row_product


@dataclass
class Job:
    """What every part of one computation needs to know."""

    model: nn.Module
    wanted: dict[str, Tensor]
    full: bool
    budget: int
    chunk: int | None

    def kernel(self, n: int, n2: int, c: int, like: Tensor) -> Tensor:
        """Zeros for the kernel, or an error that says what would fit."""
        size = n * n2 * like.element_size()
        needed = size * c**2 if self.full else size
        if needed > self.budget:
            hint = f"outputs='trace' needs {size / 2**20:.0f} MiB" if self.full and c > 1 else "take fewer samples"
            raise InputError(
                f"X: the kernel itself needs {needed / 2**20:.0f} MiB, the budget is {self.budget / 2**20:.0f} MiB; "
                f"{hint}, or raise TRAINDYN_MEMORY"
            )
        outputs = c if self.full else 1
        return torch.zeros(n, outputs, n2, outputs, dtype=like.dtype, device=like.device)


def jacobian_kernel(job: Job, batches: list[Tensor], names: list[str]) -> Tensor:
    """Kernel of the named parameters from per-sample Jacobians, in chunks."""
    try_out(job.model, batches[0][[0, -1]], run=apply_model)
    with torch.no_grad():
        c = _alone(job, batches[0][0]).shape[1]
    like = job.wanted[names[0]]
    X, X2 = batches[0], batches[-1]
    job.kernel(len(X), len(X2), c, like)
    rows = [_jacobian_rows(job, batch, names) for batch in batches]
    size = sum(job.wanted[name].numel() for name in names) * c * like.element_size()
    budget = job.budget if job.chunk is None else min(job.budget, 4 * size * job.chunk)
    return row_product(rows[0], len(X), None if len(batches) == 1 else rows[1], len(X2), size, job.full, budget)


def _alone(job: Job, x: Tensor) -> Tensor:
    """Outputs of one sample, (1, c): it is sent twice, since networks squeeze or broadcast a batch of one."""
    return apply_model(job.model, torch.stack([x, x]))[:1]


def _jacobian_rows(job: Job, X: Tensor, names: list[str]) -> Callable[[int, int], Tensor]:
    """Return a function (lo, hi) -> (hi - lo, c, P): torch's vectorised Jacobians where they are right, else a loop."""
    leaves = [job.wanted[name] for name in names]

    def single(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return call_with(job.model, parameters, x[None]).reshape(-1)

    jacobian = torch.func.vmap(torch.func.jacrev(single), in_dims=(None, 0))

    def rows(lo: int, hi: int) -> Tensor:
        try:
            blocks = jacobian({name: leaf.detach() for name, leaf in zip(names, leaves, strict=True)}, X[lo:hi])
            found = torch.cat([block.reshape(*block.shape[:2], -1) for block in blocks.values()], 2)
            if _agrees(job, X[lo:hi], leaves, found):
                return found
        except (RuntimeError, ValueError, NotImplementedError, IndexError, InputError):
            pass  # torch cannot vectorise an operation, or the network does not take one sample at a time
        return _plain_rows(job, X[lo:hi], leaves)

    return rows


def _agrees(job: Job, X: Tensor, leaves: list[Tensor], rows: Tensor) -> bool:
    """Whether a random combination of the rows is what one ordinary backward pass gives: some derivatives are not."""
    with torch.enable_grad():
        out = apply_model(job.model, X if len(X) > 1 else torch.cat([X, X]))[: len(X)]
        draw = torch.Generator().manual_seed(len(X))
        r = torch.randn(out.shape, generator=draw, dtype=torch.float64).to(out)
        whole = _flat(torch.autograd.grad(out, leaves, r, allow_unused=True, materialize_grads=True))
    part = torch.einsum("nc,ncp->p", r, rows)
    tolerance = 1e-3 if out.dtype == torch.float32 else 1e-9
    return bool((whole - part).norm() <= tolerance * max(whole.norm(), part.norm())) or not bool(whole.isfinite().all())


def _plain_rows(job: Job, X: Tensor, leaves: list[Tensor]) -> Tensor:
    """Jacobians of samples by one backward pass per sample and output: (m, c, P)."""
    with torch.no_grad():
        together = apply_model(job.model, X if len(X) > 1 else torch.cat([X, X]))[: len(X)]
    found = []
    for x, expected in zip(X, together, strict=True):
        with torch.enable_grad():
            out = _alone(job, x)[0]
            lines = [
                _flat(torch.autograd.grad(o, leaves, retain_graph=True, allow_unused=True, materialize_grads=True))
                for o in out
            ]
        if not torch.allclose(
            out.detach(), expected, rtol=1e-3, atol=1e-6 * float(together.abs().max()), equal_nan=True
        ):
            raise InputError(COUPLED)
        found.append(torch.stack(lines))
    return torch.stack(found)


def _flat(grads: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([(grad.to_dense() if grad.is_sparse else grad).flatten() for grad in grads])
