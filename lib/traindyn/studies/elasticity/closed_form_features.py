"""Local elasticity of penalised regression over fixed features, in closed form (Dan et al. 2021, Section 3).

The model is W h with one row of W per class, trained by gradient flow on Eq. 3,
L(W) = 1/(2N) sum |e_k - W h_ki|^2 + lam/(2K) sum_q |w_q|^2. Its gradient is -u_q + M w_q with M = mu I + C,
C = (1/N) sum h h^T, u_q = (1/N) sum_i h_qi. Two values of mu are in circulation: lam/K follows from Eq. 3, N lam/K is
what the text prints below it. `penalty` gives either; all else here takes mu.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from traindyn.errors import choose


class FeatureMoments(NamedTuple):
    """What the flow needs to know of the data: u of shape (..., K, p) and C of shape (..., p, p)."""

    u: Tensor
    C: Tensor


def moments(h: Tensor) -> FeatureMoments:
    """Return u_q = (1/N) sum_i h_qi and C = (1/N) sum h h^T.

    Args:
        h: features, shape (..., K, m, p): m samples in each of K classes, N = K m.
    """
    classes, per_class = h.shape[-3], h.shape[-2]
    flat = h.flatten(-3, -2)
    return FeatureMoments(h.sum(-2) / (classes * per_class), flat.mT @ flat / (classes * per_class))


def penalty(lam: float, n: int, classes: int, reading: str = "eq3") -> float:
    """Return the coefficient mu of w_q in the gradient of Eq. 3.

    Args:
        lam: lambda_1 of Eq. 3, > 0.
        n: number of training points N.
        classes: number of classes K.
        reading: "eq3" (lam/K, by differentiating Eq. 3) or "printed" (N lam/K, as in the display below it).

    Raises:
        InputError: unknown reading.
    """
    choose("reading", reading, ("eq3", "printed"))
    return lam / classes * (n if reading == "printed" else 1)


def penalised_loss(W: Tensor, h: Tensor, lam: float) -> Tensor:
    """Return Eq. 3, summed over the data as it stands there.

    Args:
        W: weights, shape (..., K, p).
        h: features, shape (..., K, m, p).
        lam: lambda_1.

    Returns:
        Shape (...).
    """
    classes, per_class = h.shape[-3], h.shape[-2]
    out = h @ W[..., None, :, :].mT  # (..., K, m, K)
    target = torch.eye(classes, dtype=W.dtype, device=W.device)[:, None, :]
    data = ((target - out) ** 2).sum((-3, -2, -1)) / (2 * classes * per_class)
    return data + lam / (2 * classes) * (W**2).sum((-2, -1))


def gradient(W: Tensor, data: FeatureMoments, mu: float) -> Tensor:
    """Return -u_q + (mu I + C) w_q for every row, shape (..., K, p) (display below Eq. 3)."""
    return -data.u + mu * W + W @ data.C


def fixed_point(data: FeatureMoments, mu: float) -> Tensor:
    """Return M^-1 u_q, the limit of the flow of Definition 4, shape (..., K, p)."""
    eye = torch.eye(data.C.shape[-1], dtype=data.C.dtype, device=data.C.device)
    return torch.linalg.solve(mu * eye + data.C, data.u.mT).mT


def fictitious_step(W: Tensor, h: Tensor, k: int, mu: float, eta: float) -> Tensor:
    """Return W after one SGD step on the single sample (h, e_k): w_q - eta (-delta_kq h + (mu I + h h^T) w_q).

    Args:
        W: shape (..., K, p);  h: shape (..., p);  k: class of the sample;  mu, eta: as above and step size.
    """
    out = (W @ h[..., None]).squeeze(-1)  # (..., K)
    target = torch.zeros_like(out)
    target[..., k] = 1.0
    return W - eta * ((out - target)[..., None] * h[..., None, :] + mu * W)


def change_ratio(W: Tensor, W_new: Tensor, h_prime: Tensor, h: Tensor, crossed: bool = False) -> Tensor:
    """Return S_rel of Definition 1 with vector norms, |W+ h' - W h'| / |W+ h - W h|.

    Args:
        W, W_new: weights before and after the fictitious step, shape (..., K, p).
        h_prime, h: features of x' and x, shape (..., p).
        crossed: take |W+ h' - W h| / |W+ h - W h'| instead, the first line of Eq. 4 as printed.
    """

    def at(weights: Tensor, point: Tensor) -> Tensor:
        return (weights @ point[..., None]).squeeze(-1)

    left, right = (h, h_prime) if crossed else (h_prime, h)
    return (at(W_new, h_prime) - at(W, left)).norm(dim=-1) / (at(W_new, h) - at(W, right)).norm(dim=-1)


def s_rel(out: Tensor, out_prime: Tensor, gram: Tensor, square: Tensor, k: int, mu: float) -> Tensor:
    """Return S_rel by the second line of Eq. 4 (the square root of what is printed).

    S^2 = (a^2 - 2 a g'_k + sum_q g'_q^2) / (r^2 - 2 r g_k + sum_q g_q^2), a = <h, h'>, r = |h|^2,
    g'_q = <T h', w_q> = mu <h', w_q> + a <h, w_q>, g_q = (mu + r) <h, w_q>.
    Only the outputs at the two points enter, so a long run needs no weight matrices.

    Args:
        out, out_prime: W h and W h', shape (..., K).
        gram, square: <h, h'> and |h|^2, shapes that broadcast to (...).
        k: class of x, whose sample makes the fictitious step.
        mu: coefficient of the penalty in the gradient.
    """
    pull = mu * out_prime + gram[..., None] * out
    own = (mu + square)[..., None] * out
    above = gram**2 - 2 * gram * pull[..., k] + (pull**2).sum(-1)
    below = square**2 - 2 * square * own[..., k] + (own**2).sum(-1)
    return torch.sqrt(above / below)


class FeatureFlow:
    """The flow of Definition 4 solved once: w_q(t) = exp(-theta^2 M t) [w_q(0) - M^-1 u_q] + M^-1 u_q.

    Theorem 3.1 prints both signs of M^-1 u flipped; `sign="printed"` follows that formula. One eigendecomposition of C
    serves every mu, start and time.

    Args:
        data: moments of one or several data sets, u (..., K, p) and C (..., p, p).
    """

    def __init__(self, data: FeatureMoments) -> None:
        self.values, self.vectors = torch.linalg.eigh(data.C)
        self.u = data.u @ self.vectors  # (..., K, p), in the eigenbasis

    def _start_end(self, W0: Tensor, mu: float, sign: str) -> tuple[Tensor, Tensor]:
        choose("sign", sign, ("right", "printed"))
        end = self.u / (mu + self.values)[..., None, :] * (1.0 if sign == "right" else -1.0)
        return W0 @ self.vectors[..., None, :, :] - end[..., None, :, :], end

    def weights(self, W0: Tensor, mu: float, theta: float, times: Tensor, sign: str = "right") -> Tensor:
        """Return W(t), shape (..., T, D, K, p), for D starts W0 of shape (..., D, K, p) and times of shape (T,)."""
        start, end = self._start_end(W0, mu, sign)
        decay = torch.exp(-(theta**2) * times[:, None] * (mu + self.values)[..., None, :])
        modes = decay[..., :, None, None, :] * start[..., None, :, :, :] + end[..., None, None, :, :]
        return modes @ self.vectors.mT[..., None, None, :, :]

    def outputs_and_loss(
        self, W0: Tensor, points: Tensor, mu: float, lam: float, theta: float, times: Tensor, sign: str = "right"
    ) -> tuple[Tensor, Tensor]:
        """Return the outputs at some points and the loss of Eq. 3 along the flow, without forming W(t).

        Args:
            W0: starts, shape (..., D, K, p).
            points: features at which outputs are wanted, shape (..., P, p).
            mu: penalty coefficient of the flow;  lam: lambda_1 of the loss that is reported.
            theta: time scale of Definition 4;  times: shape (T,).
            sign: "right" or "printed" (Theorem 3.1).

        Returns:
            Outputs of shape (..., T, D, P, K) and losses of shape (..., T, D). Cost O(T p D K P) per data set.
        """
        start, end = self._start_end(W0, mu, sign)
        draws, classes = start.shape[-3], start.shape[-2]
        decay = torch.exp(-(theta**2) * times[:, None] * (mu + self.values)[..., None, :])  # (..., T, p)
        modes = points @ self.vectors  # (..., P, p)
        moving = start[..., :, None, :, :] * modes[..., None, :, None, :]  # (..., D, P, K, p)
        outputs = (decay @ moving.flatten(-4, -2).mT).unflatten(-1, (draws, points.shape[-2], classes))
        outputs = outputs + (modes @ end.mT)[..., None, None, :, :]
        # with w = decay * start + end: 1/2 - u.w + w (C + lam/K) w / 2, expanded in powers of the decay
        weight = (self.values + lam / classes)[..., None, :]
        tail = end[..., None, :, :]
        quadratic = (weight[..., None, :] * start**2).sum(-2) / 2
        linear = ((weight[..., None, :] * tail - self.u[..., None, :, :]) * start).sum(-2)
        constant = ((weight * end / 2 - self.u) * end).sum((-2, -1))
        losses = 0.5 + decay**2 @ quadratic.mT + decay @ linear.mT + constant[..., None, None]
        return outputs, losses
