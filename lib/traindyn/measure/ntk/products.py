"""Inner products of per-sample gradients, in the cheaper of two orders of summation, within a memory budget.

With a the input of a linear map at position t and s the signal that comes back to its output, the gradient of sample i
is G_i = sum_t a_it s_it^T, and its inner products have two orders of summation,

    <G_i, G_j> = sum_{t,u} (a_it . a_ju)(s_it . s_ju)      (products of Gram matrices; no gradient is ever formed)
               = sum_{pq} (G_i)_pq (G_j)_pq                (per-sample gradients of this layer, in blocks).

For a single position the first is the product of two n x n Gram matrices (Goodfellow 2015, arXiv:1510.01799).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from traindyn.errors import InputError

# What an element costs beside its dot products, in multiplications, measured on a CPU: of a Gram product, of a gradient
POINTWISE, WRITING = 12, 16
CACHE = 2**20  # numbers that stay in a core's cache: small blocks of patches are consumed before they leave it


@dataclass
class Outer:
    """Gradients of a weight: sum over positions of input (x) signal, for each group.

    inputs: function (lo, hi) -> (m, g, T, A), or token indices of shape (m, 1, T) when `tokens` is their number;
    signals: (n, c, g, T, S); order: whether the weight is laid out (A, S) or (S, A); blocks: a faster way to the
    gradients, function (lo, hi, group, rows) -> (m, c, len(rows), A), where the layer has one.
    """

    inputs: Callable[[int, int], Tensor]
    signals: Tensor
    width: int
    order: str
    shape: torch.Size
    tokens: int | None = None
    blocks: Callable[[int, int, int, slice], Tensor] | None = None

    def first(self) -> Outer:
        """The first sample alone."""
        return replace(self, signals=self.signals[:1])

    def scaled(self, factor: float) -> Outer:
        """All gradients times a number."""
        if factor == 1:
            return self
        blocks = self.blocks and (lambda *where: factor * self.blocks(*where))
        return replace(self, signals=self.signals * factor, blocks=blocks)

    @property
    def positions(self) -> int:
        """How many positions T each sample has."""
        return self.signals.shape[3]

    @property
    def out(self) -> int:
        """How many output features S one group has."""
        return self.signals.shape[4]

    def gradients(self, lo: int, hi: int) -> Tensor:
        """Gradients of samples lo..hi, shape (m, c, *shape of the weight expression)."""
        a, s = self.inputs(lo, hi), self.signals[lo:hi]
        if self.tokens is not None:
            grads = s.new_zeros(*s.shape[:2], self.tokens, s.shape[-1])
            index = a[:, None, 0, :, None].expand(-1, s.shape[1], -1, s.shape[-1])
            return grads.scatter_add_(2, index, s[:, :, 0])
        equation = "ngta,ncgts->ncgas" if self.order == "as" else "ngta,ncgts->ncgsa"
        return torch.einsum(equation, a, s).reshape(*s.shape[:2], *self.shape)

    def combined(self, r: Tensor) -> Tensor:
        """The combination of all samples' gradients with coefficients r of shape (n, c): shape of the weight."""
        n, groups, T = len(self.signals), self.signals.shape[2], self.positions
        total = self.signals.new_zeros(groups, self.tokens or self.width, self.out)
        step = max(1, CACHE // max(1, T * (self.width + self.out) * groups))
        for lo in range(0, n, step):
            s = torch.einsum("ncgts,nc->gnts", self.signals[lo : lo + step], r[lo : lo + step]).flatten(1, 2)
            a = self.inputs(lo, lo + len(self.signals[lo : lo + step]))
            if self.tokens is not None:
                total[0].index_add_(0, a.flatten(), s[0])
            else:
                total.baddbmm_(a.transpose(0, 1).flatten(1, 2).mT, s)
        return (total if self.order == "as" else total.mT).reshape(self.shape)


@dataclass
class Direct:
    """Gradients that are as small as what they belong to (biases, scales): values of shape (n, c, *shape)."""

    values: Tensor

    def gradients(self, lo: int, hi: int) -> Tensor:
        """Gradients of samples lo..hi, shape (m, c, *shape)."""
        return self.values[lo:hi]

    def scaled(self, factor: float) -> Direct:
        """All gradients times a number."""
        return self if factor == 1 else Direct(self.values * factor)

    def rows(self, lo: int, hi: int) -> Tensor:
        """Gradients of samples lo..hi as rows, shape (m, c, P)."""
        return self.values[lo:hi].reshape(hi - lo, self.values.shape[1], -1)

    def combined(self, r: Tensor) -> Tensor:
        """The combination of all samples' gradients with coefficients r of shape (n, c): shape of the parameter."""
        return torch.einsum("nc...,nc->...", self.values, r)

    def first(self) -> Direct:
        """The first sample alone."""
        return Direct(self.values[:1])


def gram_cost(u: Outer, v: Outer, full: bool) -> float:
    """Multiplications of the Gram order for one group: positions meet positions."""
    pairs = math.prod((len(u.signals), len(v.signals), u.positions, v.positions))
    outputs = u.signals.shape[1]
    return pairs * (u.width + (outputs**2 * (u.out + POINTWISE) if full else outputs * u.out + POINTWISE))


def gradient_cost(u: Outer, v: Outer, full: bool) -> float:
    """Multiplications of the gradient order for one group: form every per-sample gradient, then contract."""
    samples = len(u.signals) * u.positions + (0 if v is u else len(v.signals) * v.positions)
    outputs = u.signals.shape[1]
    size = u.width * u.out * outputs
    written = (len(u.signals) + (0 if v is u else len(v.signals))) * size * WRITING
    return samples * size + written + len(u.signals) * len(v.signals) * size * (outputs if full else 1)


def outer_product(u: Outer, v: Outer, full: bool, budget: int, order: str | None = None) -> Tensor:
    """Inner products of the gradients in u with those in v.

    Args:
        u, v: gradients of n and n2 samples with respect to one weight.
        full: keep the outputs apart.
        budget: bytes that a block may take.
        order: "gram" or "gradient"; None takes the cheaper one that fits the budget.

    Returns:
        Tensor of shape (n, c, n2, c) if full, else (n, 1, n2, 1).
    """
    outputs = u.signals.shape[1] if full else 1
    smallest = 3 * u.signals.element_size() * u.positions * v.positions * outputs**2
    if order is None:
        if u.tokens is not None:
            order = "gram"
        else:
            cheaper = gram_cost(u, v, full) <= gradient_cost(u, v, full)
            order = "gram" if cheaper and smallest <= budget else "gradient"
    return (_gram_order if order == "gram" else _gradient_order)(u, v, full, budget)


def _gram_order(u: Outer, v: Outer, full: bool, budget: int) -> Tensor:
    n, c, groups = u.signals.shape[:3]
    n2 = len(v.signals)
    outputs = c if full else 1
    K = u.signals.new_zeros(n, outputs, n2, outputs)
    pair = 3 * u.signals.element_size() * u.positions * v.positions * outputs**2
    step = max(1, math.isqrt(budget // pair)) if u.positions * v.positions > 1 or pair * n * n2 > budget else max(n, n2)
    for lo in range(0, n, step):
        s = u.signals[lo : lo + step]
        a = u.inputs(lo, lo + len(s))
        for lo2 in range(lo if u is v else 0, n2, step):
            same = u is v and lo2 == lo
            a2, s2 = (a, s) if same else (v.inputs(lo2, min(lo2 + step, n2)), v.signals[lo2 : lo2 + step])
            block = sum(_gram_block(a, s, a2, s2, group, full, u.tokens) for group in range(groups))
            K[lo : lo + step, :, lo2 : lo2 + step] = block
            if u is v and not same:
                K[lo2 : lo2 + step, :, lo : lo + step] = block.permute(2, 3, 0, 1)
    return K


def _gram_block(a: Tensor, s: Tensor, a2: Tensor, s2: Tensor, group: int, full: bool, tokens: int | None) -> Tensor:
    """Gram order for a block of samples and one group: shape (m, outputs, m2, outputs)."""
    (m, c, _, T, _), (m2, _, _, T2, _) = s.shape, s2.shape
    if tokens is None:
        gram = a[:, group].reshape(m * T, -1) @ a2[:, group].reshape(m2 * T2, -1).T
    else:
        gram = (a[:, group].reshape(-1, 1) == a2[:, group].reshape(1, -1)).to(s.dtype)
    s, s2 = s[:, :, group], s2[:, :, group]
    if full:
        back = s.reshape(m * c * T, -1) @ s2.reshape(m2 * c * T2, -1).T
        return (back.view(m, c, T, m2, c, T2) * gram.view(m, 1, T, m2, 1, T2)).sum((2, 5))
    # summed over outputs: they join the features of the signal
    s, s2 = s.transpose(1, 2).reshape(m * T, -1), s2.transpose(1, 2).reshape(m2 * T2, -1)
    product = gram.mul_(s @ s2.T)
    return (product if T == T2 == 1 else product.view(m, T, m2, T2).sum((1, 3))).view(m, 1, m2, 1)


def _gradient_order(u: Outer, v: Outer, full: bool, budget: int) -> Tensor:
    n, c, groups, _, out = u.signals.shape
    n2 = len(v.signals)
    K = u.signals.new_zeros((n * c, n2 * c) if full else (n, n2))
    held = u.signals.element_size() * c * u.width * (n if u is v else n + n2)
    step = max(1, min(out, budget // max(1, held)))
    for group in range(groups):
        for first in range(0, out, step):
            G = _gradient_block(u, group, slice(first, first + step), budget)
            G2 = G if v is u else _gradient_block(v, group, slice(first, first + step), budget)
            if full:
                K.addmm_(G.flatten(0, 1).flatten(1), G2.flatten(0, 1).flatten(1).T)
            else:
                K.addmm_(G.flatten(1), G2.flatten(1).T)
    return K.view(n, c, n2, c) if full else K[:, None, :, None]


def _gradient_block(u: Outer, group: int, rows: slice, budget: int) -> Tensor:
    """Gradients of all samples for some output features of one group: shape (n, c, rows, A)."""
    n, c = u.signals.shape[:2]
    signals = u.signals[:, :, group, :, rows]
    G = signals.new_empty(n, c, signals.shape[-1], u.width)
    # patches are consumed while they are in the cache; a layer with its own way only copies its inputs per output
    numbers = CACHE if u.blocks is None else 64 * CACHE
    held = max(1, u.positions * (u.width if u.blocks is None else signals.shape[1] * (u.width + signals.shape[-1])))
    step = max(1, min(n, min(numbers, budget // signals.element_size()) // held))
    for lo in range(0, n, step):
        hi = min(lo + step, n)
        if u.blocks is not None:
            G[lo:hi] = u.blocks(lo, hi, group, rows)
        else:
            s = signals[lo:hi].transpose(2, 3).reshape(hi - lo, -1, u.positions)
            torch.bmm(s, u.inputs(lo, hi)[:, group], out=G[lo:hi].view(hi - lo, -1, u.width))
    return G


def row_product(
    rows: Callable[[int, int], Tensor],
    n: int,
    rows2: Callable[[int, int], Tensor] | None,
    n2: int,
    row_bytes: int,
    full: bool,
    budget: int,
) -> Tensor:
    """Inner products of gradients that a function delivers in blocks.

    Args:
        rows: function (lo, hi) -> (m, c, P), the gradients of samples lo..hi; n: how many there are.
        rows2: the same for the other samples, or None where they are the same ones; n2: how many.
        row_bytes: bytes of one sample's gradients.
        full: keep the outputs apart.
        budget: bytes available.

    Returns:
        Tensor of shape (n, c, n2, c) if full, else (n, 1, n2, 1).

    Raises:
        InputError: the gradients of two samples do not fit the budget.
    """
    if 2 * row_bytes > budget:
        raise InputError(
            f"chunk: the gradients of two samples need {2 * row_bytes / 2**20:.0f} MiB, the budget is "
            f"{budget / 2**20:.0f} MiB; raise TRAINDYN_MEMORY, take fewer parameters with params=, or use a layer type "
            "that method='structured' covers"
        )
    step = max(1, budget // (4 * row_bytes))
    lines = []
    for lo in range(0, n, step):
        G = rows(lo, min(lo + step, n))
        line = []
        for lo2 in range(0, n2, step):
            if rows2 is None and lo2 < lo:
                continue
            G2 = G if rows2 is None and lo2 == lo else (rows2 or rows)(lo2, min(lo2 + step, n2))
            line.append(
                torch.einsum("icp,jdp->icjd", G, G2) if full else torch.einsum("icp,jcp->ij", G, G2)[:, None, :, None]
            )
        if rows2 is None:  # the part left of the diagonal is known from the lines above
            mirrored = (above[lo // step] for above in lines)
            line = [block.permute(2, 3, 0, 1) for block in mirrored] + line
        lines.append(line)
    return torch.cat([torch.cat(line, 2) for line in lines])
