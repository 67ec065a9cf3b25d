"""Taylor models of any network: linear or quadratic in the parameters. Models quadratic by themselves come along."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from traindyn.errors import InputError
from traindyn.forward_pass import undisturbed
from traindyn.learn.models.expansion import expansion, random_direction
from traindyn.learn.models.quadratic import NQM, QuadraticModel

__all__ = ["NQM", "QuadraticModel", "TaylorModel", "linearize", "quadratize"]


def _refuse_noise(model: nn.Module) -> None:
    """Raise where a forward pass is not one fixed function of the parameters."""
    for name, module in model.named_modules():
        random = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
        if module.training and (random or isinstance(module, nn.modules.batchnorm._BatchNorm)):
            raise InputError(
                f"model: '{name}' ({type(module).__name__}) is in training mode, so the network is not one function "
                "of its parameters; call model.eval() before expanding it"
            )


def _slots(model: nn.Module) -> dict[str, list[str]]:
    """Return {name of a parameter: every place where it stands}, each place once even where a module is used twice."""
    names: dict[int, str] = {}
    slots: dict[str, list[str]] = {}
    for path, module in model.named_modules():
        for leaf, parameter in module.named_parameters(path, recurse=False, remove_duplicate=False):
            slots.setdefault(names.setdefault(id(parameter), leaf), []).append(leaf)
    return slots


class _ElementaryNorms(TorchFunctionMode):
    """Writes normalisation layers out in elementary operations while it is active.

    The fused ones have wrong second derivatives in forward mode (torch 2.13: the Hessian of a network with LayerNorm
    comes out asymmetric), and say nothing.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.layer_norm:
            return _layer_norm(*args, **kwargs)
        if func is F.group_norm:
            return _group_norm(*args, **kwargs)
        return func(*args, **kwargs)


def _standardize(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + eps)


def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    z = _standardize(x, tuple(range(-len(shape), 0)), eps)
    z = z if weight is None else z * weight
    return z if bias is None else z + bias


def _group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    z = _standardize(x.reshape(len(x), groups, -1), (-1,), eps).reshape(x.shape)
    per_channel = (1, -1, *(1,) * (x.ndim - 2))
    z = z if weight is None else z * weight.view(per_channel)
    return z if bias is None else z + bias.view(per_channel)


class TaylorModel(nn.Module):
    r"""The Taylor model of a network in its trainable parameters, at the parameters that the network has now.

    .. math:: f(w_0) + J(w_0)(w - w_0) \quad \left[ + \tfrac12 (w - w_0)^T H(w_0) (w - w_0) \right]

    The network is copied. `network` is that copy, frozen at w_0; `weights` holds the trainable w under the network's
    own parameter names, equal to w_0 at first. Parameters that were frozen stay at their values and are not expanded.
    Both move with `.to(...)` and are in the state dict.

    * `reset(generator)` draws a new expansion point from the network's own `reset` and starts from it: w = w_0. A
      network without `reset` gives a Taylor model without it.
    * `rewind()` returns to w = w_0 and keeps the expansion point.

    Forward mode runs inside and ordinary backward passes give the gradient in w; no Jacobian or Hessian is formed. A
    training step costs about 2 times the network's own for order 1 and 6 to 7 times for order 2.

    Torch's nested forward mode is missing for some operations and wrong for others, without a word. So the model and
    its gradient are compared with reverse mode over reverse mode, in float64 and in one random direction, on the first
    inputs that it sees (see `prove`), and a network that torch cannot expand is refused.

    Args:
        model: any module whose forward pass torch can differentiate in forward mode; its train/eval mode is kept.
        order: 1 or 2.
        example: inputs (n, ...) on which to compare at once, rather than at the first call.

    Raises:
        InputError: the order is another one, no parameter is trainable, a layer in training mode is random or couples
            the samples, or the expansion is not what reverse mode gives.
    """

    def __init__(self, model: nn.Module, order: int, example: Tensor | None = None) -> None:
        super().__init__()
        if order not in (1, 2):
            raise InputError(f"order: expected 1 or 2, got {order!r}")
        _refuse_noise(model)
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        if not names:
            raise InputError("model: no parameter is trainable, so there is nothing to expand in")
        self.order = order
        try:
            self.network = deepcopy(model)
        except (RuntimeError, TypeError) as error:
            raise InputError(
                "model: cannot be copied, since it holds tensors with a history or locks; expected parameters, buffers "
                "and plain values (for the deprecated weight_norm take torch.nn.utils.parametrizations)"
            ) from error
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
        self.slots = _slots(self.network)
        self.weights = nn.Module()
        anchor = dict(self.network.named_parameters())
        for name in names:
            *path, leaf = name.split(".")
            owner = self.weights
            for part in path:
                if not hasattr(owner, part):
                    owner.add_module(part, nn.Module())
                owner = getattr(owner, part)
            owner.register_parameter(leaf, nn.Parameter(anchor[name].detach().clone()))
        self.proved: set[tuple] = set()
        if example is not None:
            self.prove(example)

    def prove(self, x: Tensor) -> None:
        """Compare the model and its gradient with reverse mode over reverse mode, on at most three of the inputs x.

        Raises:
            InputError: they differ, or torch cannot differentiate an operation of the network.
        """
        kind = (x.shape[1:], x.dtype)
        x = x.detach()[:3]
        x = x.double() if x.is_floating_point() else x
        model = deepcopy(self).double()
        model.proved = {(x.shape[1:], x.dtype)}
        with undisturbed(model):
            anchor = dict(model.network.named_parameters())
            weights = {name: anchor[name].detach() for name, _ in model.weights.named_parameters()}
            scale = {name: weight.abs().mean().clamp_min(1e-3) for name, weight in weights.items()}
            direction = {name: 0.5 * scale[name] * step for name, step in random_direction(weights).items()}
            for step in direction.values():
                step.requires_grad_()
            try:
                with (
                    _ElementaryNorms(),
                    sdpa_kernel(SDPBackend.MATH),
                ):  # third derivatives of fused norms are wrong, too
                    value, first, second = expansion(model.network, weights, direction, x)
                expected = value + first + (second / 2 if self.order == 2 else 0)
                for name, weight in model.weights.named_parameters():
                    weight.data = weights[name] + direction[name].detach()
                found = model(x)
                r = torch.randn(found.shape, dtype=found.dtype, generator=torch.Generator().manual_seed(2)).to(found)
                ours = _gradients((found * r).sum(), list(model.weights.parameters()))
                theirs = _gradients((expected * r).sum(), list(direction.values()))
            except (RuntimeError, NotImplementedError) as error:
                if isinstance(error, InputError):
                    raise
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
                raise InputError(
                    f"model: torch cannot expand it to order {self.order} ({reason}); write that operation in others"
                ) from error
        pairs = [(found - value, expected - value), *zip(ours, theirs, strict=True)]
        floor = 1e-8 * value.norm()
        if any(not (one - other).norm() <= 1e-8 * other.norm().clamp_min(floor) for one, other in pairs):
            raise InputError(
                f"model: torch's derivatives of order {self.order} in forward mode are wrong for an operation of it "
                "(they differ from reverse mode); write that operation in others"
            )
        self.proved.add(kind)

    def train(self, mode: bool = True) -> TaylorModel:
        """Set the mode of this module; the network keeps the mode in which it was expanded."""
        self.training = mode
        return self

    @property
    def reset(self) -> Callable[..., None]:
        """The method reset(generator): draw a new expansion point from the network's own law and start from it."""
        if not hasattr(self.network, "reset"):
            raise AttributeError("the network that was expanded has no reset(generator)")
        return self._reset

    def _reset(self, generator: torch.Generator | None = None) -> None:
        self.network.reset(generator)
        self.rewind()

    def rewind(self) -> None:
        """Set w = w_0."""
        anchor = dict(self.network.named_parameters())
        with torch.no_grad():
            for name, weight in self.weights.named_parameters():
                weight.copy_(anchor[name])

    def forward(self, x: Tensor) -> Tensor:
        """Map x to what the network maps it to, in the Taylor model; same shapes as the network's."""
        if (x.shape[1:], x.dtype) not in self.proved and not torch._C._are_functorch_transforms_active():
            self.prove(x)
        anchor = dict(self.network.named_parameters())
        point = {name: anchor[name] for name, _ in self.weights.named_parameters()}
        step = {name: weight - point[name] for name, weight in self.weights.named_parameters()}

        def value(parameters: dict[str, Tensor]) -> Tensor:
            placed = {slot: parameters[name] for name in point for slot in self.slots[name]}
            # torch's own handling of shared weights leaves a module that is registered twice with foreign tensors
            with _ElementaryNorms(), sdpa_kernel(SDPBackend.MATH):  # fused attention has no forward mode
                return functional_call(self.network, placed, (x,), tie_weights=False)

        def expand(parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            return jvp(value, (parameters,), (step,))

        if self.order == 1:
            start, slope = expand(point)
            return start + slope
        (start, slope), (_, curvature) = jvp(expand, (point,), (step,))
        return start + slope + curvature / 2


def _gradients(total: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    if not total.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True))


def linearize(model: nn.Module) -> TaylorModel:
    r"""Return the linear model f(w_0) + J(w_0) (w - w_0) of a network at its present parameters.

    Zhu's thesis, eq. (2.9); its tangent kernel is constant and equals the network's at w_0. See `TaylorModel` for what
    is trained and what `reset` means.

    Args:
        model: any module that torch can differentiate in forward mode.

    Raises:
        InputError: as `TaylorModel`.
    """
    return TaylorModel(model, 1)


def quadratize(model: nn.Module) -> TaylorModel:
    r"""Return the quadratic model of a network at its present parameters: Zhu's thesis, eq. (3.2), `f_quad`.

    Args:
        model: any module that torch can differentiate twice in forward mode. Derivatives of a ReLU are taken where the
            pre-activation is not zero.

    Raises:
        InputError: as `TaylorModel`.
    """
    return TaylorModel(model, 2)
