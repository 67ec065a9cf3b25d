"""torch's optimisers as rules on a matrix of runs: one row of weights per run, one learning rate per row.

A rule moves a flat tensor p of shape (runs, P) by its gradient g of the same shape, in place, and keeps its own
buffers of that shape. The formulas, names and defaults are those of `torch.optim`; the tests compare trajectories.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, zeros_like

from traindyn.errors import InputError, choose

Rate = float | Tensor  # a number, or a tensor that broadcasts against (runs, P)


def _descend(p: Tensor, direction: Tensor, lr: Rate) -> None:
    """p <- p - lr * direction."""
    if isinstance(lr, Tensor):
        p.addcmul_(direction, lr, value=-1)
    else:
        p.add_(direction, alpha=-lr)


def _sgd(p: Tensor, g: Tensor, buffers: dict[str, Tensor], lr: Rate, step: int, h: dict[str, Any]) -> None:
    """v <- momentum v + (1 - dampening) g (v = g at the first step); p <- p - lr v, or lr (g + momentum v)."""
    if h["momentum"]:
        v = buffers["velocity"]
        if step == 0:
            v.copy_(g)
        else:
            v.mul_(h["momentum"]).add_(g, alpha=1 - h["dampening"])
        g = g.add(v, alpha=h["momentum"]) if h["nesterov"] else v
    _descend(p, g, lr)


def _rmsprop(p: Tensor, g: Tensor, buffers: dict[str, Tensor], lr: Rate, step: int, h: dict[str, Any]) -> None:
    """v <- alpha v + (1 - alpha) g^2; p <- p - lr g / (sqrt(v) + eps), optionally centred and with momentum."""
    v = buffers["square"].mul_(h["alpha"]).addcmul_(g, g, value=1 - h["alpha"])
    if h["centered"]:
        mean = buffers["mean"].lerp_(g, 1 - h["alpha"])
        v = v.addcmul(mean, mean, value=-1)
    direction = g / v.sqrt().add_(h["eps"])
    if h["momentum"]:
        direction = buffers["velocity"].mul_(h["momentum"]).add_(direction)
    _descend(p, direction, lr)


def _adagrad(p: Tensor, g: Tensor, buffers: dict[str, Tensor], lr: Rate, step: int, h: dict[str, Any]) -> None:
    """v <- v + g^2; p <- p - lr / (1 + step lr_decay) g / (sqrt(v) + eps)."""
    v = buffers["square"].addcmul_(g, g)
    direction = g / v.sqrt().add_(h["eps"])
    _descend(p, direction, lr / (1 + step * h["lr_decay"]) if h["lr_decay"] else lr)


def _adadelta(p: Tensor, g: Tensor, buffers: dict[str, Tensor], lr: Rate, step: int, h: dict[str, Any]) -> None:
    """v <- rho v + (1 - rho) g^2; d = sqrt(u + eps) / sqrt(v + eps) g; u <- rho u + (1 - rho) d^2; p <- p - lr d."""
    v = buffers["square"].mul_(h["rho"]).addcmul_(g, g, value=1 - h["rho"])
    u = buffers["moves"]
    direction = u.add(h["eps"]).sqrt_().div_(v.add(h["eps"]).sqrt_()).mul_(g)
    u.mul_(h["rho"]).addcmul_(direction, direction, value=1 - h["rho"])
    _descend(p, direction, lr)


def _adam(p: Tensor, g: Tensor, buffers: dict[str, Tensor], lr: Rate, step: int, h: dict[str, Any]) -> None:
    """m <- b1 m + (1-b1) g; v <- b2 v + (1-b2) g^2; p <- p - lr m^ / (sqrt(v^) + eps), hats correct the bias."""
    b1, b2 = h["betas"]
    m = buffers["mean"].lerp_(g, 1 - b1)
    v = buffers["square"].mul_(b2).addcmul_(g, g, value=1 - b2)
    denominator = v.sqrt().div_((1 - b2 ** (step + 1)) ** 0.5).add_(h["eps"])
    _descend(p, m.div(denominator).div_(1 - b1 ** (step + 1)), lr)


@dataclass(frozen=True)
class _Formula:
    move: Callable[..., None]
    defaults: dict[str, Any]
    buffers: Callable[[dict[str, Any]], tuple[str, ...]]


def _velocity(h: dict[str, Any]) -> tuple[str, ...]:
    return ("velocity",) if h["momentum"] else ()


_SGD = {"momentum": 0.0, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0}
_FORMULAS = {
    "sgd": _Formula(_sgd, _SGD, _velocity),
    "momentum": _Formula(_sgd, {**_SGD, "momentum": 0.9}, _velocity),
    "rmsprop": _Formula(
        _rmsprop,
        {"alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "centered": False, "weight_decay": 0.0},
        lambda h: ("square", *(("mean",) if h["centered"] else ()), *_velocity(h)),
    ),
    "adagrad": _Formula(
        _adagrad,
        {"lr_decay": 0.0, "eps": 1e-10, "initial_accumulator_value": 0.0, "weight_decay": 0.0},
        lambda h: ("square",),
    ),
    "adadelta": _Formula(_adadelta, {"rho": 0.9, "eps": 1e-6, "weight_decay": 0.0}, lambda h: ("square", "moves")),
    "adam": _Formula(_adam, {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}, lambda h: ("mean", "square")),
}
OPTIMIZERS = tuple(_FORMULAS)


def _check(name: str, key: str, value: Any, default: Any) -> None:
    """Refuse a hyperparameter of another kind than its default."""
    if isinstance(default, tuple):
        fine = isinstance(value, tuple | list) and len(value) == 2 and all(_number(v) and 0 <= v < 1 for v in value)
        wanted = "two numbers in [0, 1)"
    elif isinstance(default, bool):
        fine, wanted = isinstance(value, bool), "True or False"
    else:
        fine, wanted = _number(value) and value >= 0, "a number, at least 0"
    if not fine:
        raise InputError(f"{key}: expected {wanted} for {name}, got {value!r}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class Rule:
    """An optimiser: its name and its hyperparameters, without any state.

    Args:
        name: one of `OPTIMIZERS`; "momentum" is "sgd" with momentum 0.9.
        hyper: hyperparameters by torch's names; missing ones have torch's defaults.
    """

    name: str
    hyper: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, optimizer: str | dict[str, Any] | Rule) -> Rule:
        """Return the rule called `optimizer`: a name, or {"name": ..., torch's hyperparameters}.

        Raises:
            InputError: the optimiser or a hyperparameter is unknown.
        """
        if isinstance(optimizer, Rule):
            return optimizer
        if not isinstance(optimizer, str | Mapping):
            raise InputError(
                f"optimizer: expected a name or {{'name': ..., hyperparameters}}, got {optimizer!r}; known: "
                f"{', '.join(OPTIMIZERS)}"
            )
        given = {"name": optimizer} if isinstance(optimizer, str) else dict(optimizer)
        name = choose("optimizer", given.pop("name", ""), OPTIMIZERS)
        known = _FORMULAS[name].defaults
        for key in given:
            choose(f"hyperparameter of {name}", key, known)
        for key, value in given.items():
            _check(name, key, value, known[key])
        hyper = {**known, **given}
        if hyper.get("nesterov") and (hyper["momentum"] <= 0 or hyper["dampening"] != 0):
            raise InputError("nesterov: expected momentum > 0 and dampening 0, as in torch.optim.SGD")
        return cls(name, hyper)

    def start(self, p: Tensor) -> dict[str, Tensor]:
        """Return the rule's buffers for weights `p` of any shape, each of that shape."""
        buffers = {name: zeros_like(p) for name in _FORMULAS[self.name].buffers(self.hyper)}
        if self.hyper.get("initial_accumulator_value"):
            buffers["square"].fill_(self.hyper["initial_accumulator_value"])
        return buffers

    def move(self, p: Tensor, g: Tensor, buffers: dict[str, Tensor], lr: Rate, step: int) -> None:
        """Move weights p by gradient g, in place.

        Args:
            p: weights, shape (runs, P); changed.
            g: gradient, of p's shape.
            buffers: what `start` returned; changed.
            lr: learning rate, a number or a tensor of shape (runs, 1).
            step: how many updates were made before this one.
        """
        if self.hyper["weight_decay"]:
            g = g.add(p, alpha=self.hyper["weight_decay"])
        _FORMULAS[self.name].move(p, g, buffers, lr, step, self.hyper)
