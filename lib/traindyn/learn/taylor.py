"""Models that are linear or quadratic in their parameters: Taylor models of any network, and quadratic models."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from traindyn.errors import InputError
from traindyn.layers import Activation, draw


def _refuse_noise(model: nn.Module) -> None:
    """Raise where a forward pass is not one fixed function of the parameters."""
    for name, module in model.named_modules():
        random = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
        if module.training and (random or isinstance(module, nn.modules.batchnorm._BatchNorm)):
            raise InputError(
                f"model: '{name}' ({type(module).__name__}) is in training mode, so the network is not one function "
                "of its parameters; call model.eval() before expanding it"
            )


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

    Args:
        model: any module whose forward pass torch can differentiate in forward mode; its train/eval mode is kept.
        order: 1 or 2.

    Raises:
        InputError: the order is another one, no parameter is trainable, or a layer in training mode is random or
            couples the samples.
    """

    def __init__(self, model: nn.Module, order: int) -> None:
        super().__init__()
        if order not in (1, 2):
            raise InputError(f"order: expected 1 or 2, got {order!r}")
        _refuse_noise(model)
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        if not names:
            raise InputError("model: no parameter is trainable, so there is nothing to expand in")
        self.order = order
        self.network = deepcopy(model)
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
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
        anchor = dict(self.network.named_parameters())
        point = {name: anchor[name] for name, _ in self.weights.named_parameters()}
        step = {name: weight - point[name] for name, weight in self.weights.named_parameters()}

        def value(parameters: dict[str, Tensor]) -> Tensor:
            return functional_call(self.network, parameters, (x,))

        def expand(parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            return jvp(value, (parameters,), (step,))

        if self.order == 1:
            start, slope = expand(point)
            return start + slope
        (start, slope), (_, curvature) = jvp(expand, (point,), (step,))
        return start + slope + curvature / 2


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


class QuadraticModel(nn.Module):
    r"""The general quadratic model g(w; x) = w^T phi(x) + (gamma/2) w^T Sigma(x) w: Zhu's thesis, eq. (3.3).

    Args:
        phi: maps x to features (n, p); None stands for phi = 0.
        sigma: the symmetric Sigma(x): a tensor (p,) for one diagonal or (p, p) for one matrix, or a callable that maps
            x to (n, p) diagonals or (n, p, p) matrices.
        gamma: strength of the quadratic term.
        dim: number of parameters p; may be left out where sigma is a tensor.
        init_std: w starts as N(0, init_std^2 I).
        generator: CPU generator of the initial draw.

    Raises:
        InputError: p is not given and cannot be read off, or a tensor sigma has another shape.
    """

    def __init__(
        self,
        phi: Callable[[Tensor], Tensor] | None,
        sigma: Tensor | Callable[[Tensor], Tensor],
        gamma: float,
        *,
        dim: int | None = None,
        init_std: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        constant = isinstance(sigma, Tensor)
        if dim is None and not constant:
            raise InputError("dim: expected the number of parameters, which a callable sigma does not tell")
        p = dim if dim is not None else sigma.shape[0]
        if constant and tuple(sigma.shape) not in ((p,), (p, p)):
            raise InputError(f"sigma: expected a tensor of shape ({p},) or ({p}, {p}), got {tuple(sigma.shape)}")
        self.phi, self.gamma, self.init_std = phi, gamma, init_std
        self.register_buffer("matrix", sigma.detach().clone() if constant else None)
        self.sigma = None if constant else sigma
        self.weight = nn.Parameter(torch.empty(p, dtype=sigma.dtype if constant else None))
        self.reset(generator)

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draw w afresh from N(0, init_std^2 I); phi and Sigma stay.

        Args:
            generator: a CPU generator; None uses torch's global one.
        """
        draw(self.weight, "normal", self.init_std, (len(self.weight), 1), generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map x of shape (n, ...) to (n,)."""
        w = self.weight
        if self.sigma is None:
            product = self.matrix * w if self.matrix.dim() == 1 else self.matrix @ w
            square = (w * product).sum().expand(len(x))
        else:
            sigma = self.sigma(x)
            square = sigma @ w**2 if sigma.dim() == 2 else (sigma @ w) @ w
        linear = 0 if self.phi is None else self.phi(x) @ w
        return linear + self.gamma / 2 * square


def _two_layers(model: nn.Module) -> tuple[str, str, nn.Module, nn.Module]:
    """Return the names of the first layer and of the ReLU of a two-layer network, and the two weight layers."""
    named = [(name, module) for name, module in model.named_modules() if name]
    layers = [(name, module) for name, module in named if isinstance(getattr(module, "weight", None), Tensor)]
    gates = [(name, module) for name, module in named if isinstance(module, (Activation, nn.ReLU))]
    shapes = [tuple(module.weight.shape) for _, module in layers]
    if len(shapes) != 2 or any(len(shape) != 2 for shape in shapes) or shapes[0][0] != shapes[1][1]:
        raise InputError(f"two_layer: expected two linear layers of shapes (m, d) and (c, m), got weights {shapes}")
    held = {id(parameter) for _, module in layers for parameter in module.parameters()}
    if any(id(parameter) not in held for parameter in model.parameters()):
        raise InputError("two_layer: expected no parameters beside those of its two linear layers")
    if len(gates) != 1 or getattr(gates[0][1], "name", "relu") != "relu":
        raise InputError("two_layer: expected one ReLU between two linear layers; quadratize takes any other network")
    return layers[0][0], gates[0][0], layers[0][1], layers[1][1]


class _Gated(nn.Module):
    """A linear layer whose output passes where a frozen copy of it has a positive pre-activation."""

    def __init__(self, layer: nn.Module, frozen: nn.Module) -> None:
        super().__init__()
        self.layer, self.frozen = layer, frozen

    def forward(self, a: Tensor) -> Tensor:
        # 1 where > 0, else 0: torch takes 0 for the derivative of the ReLU at 0, and so do the Taylor models above.
        # A gate of numbers, because multiplying by a boolean mask costs about twice as much.
        return self.layer(a) * self.frozen(a).detach().sign().relu()


class NQM(nn.Module):
    r"""The exact quadratic model of a two-layer ReLU network: the network with its gates frozen at initialisation.

    .. math:: f_{quad}(u, v; x) = \frac{1}{\sqrt{m d}} \sum_i v_i\, u_i^T x\, 1\{u_{0,i}^T x > 0\}

    A two-layer ReLU network is bilinear in its two layers as long as no gate changes, so its second-order Taylor model,
    Zhu's thesis, eq. (3.10) and (B.1), is the network with the gates of u_0. The constants (scales, biases, an output
    factor) are those of the given network; a frozen layer stays frozen. Cost: one matrix product per forward pass more
    than the network, about 1.5 times its training step where nested forward mode takes 6 to 15.

    The network is copied. `network` holds the trainable weights under the network's own names, `frozen` the first layer
    at expansion; `forward` runs the network's own code around these two.

    `reset(generator)` draws new weights from the network's own `reset` and freezes the gates there. A network without
    `reset` gives a model without it. The expansion point of the second layer does not enter the model.

    Args:
        two_layer: a module whose parameters are those of two linear layers (modules with `weight` of shapes (m, d) and
            (c, m), and optional `bias`), with one ReLU module (`layers.Activation` or `nn.ReLU`) between them.

    Raises:
        InputError: the module has another structure.
    """

    def __init__(self, two_layer: nn.Module) -> None:
        super().__init__()
        self.network = deepcopy(two_layer)
        self.frozen = deepcopy(_two_layers(self.network)[2])
        for parameter in self.frozen.parameters():
            parameter.requires_grad_(False)
        self._freeze()

    def _freeze(self) -> None:
        first_name, gate_name, first, second = _two_layers(self.network)
        self.frozen.load_state_dict(first.state_dict())
        # a second copy of the structure around the same layers, so that the network's own reset keeps working. It is
        # not registered: functional_call does not restore a module that can be reached under two names (torch 2.13)
        gated = deepcopy(self.network, {id(first): first, id(second): second})
        gated.set_submodule(first_name, _Gated(first, self.frozen))
        gated.set_submodule(gate_name, nn.Identity())
        self.__dict__["gated"] = gated

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> NQM:
        super()._apply(fn, recurse)
        self.gated._apply(fn, recurse)
        return self

    @property
    def reset(self) -> Callable[..., None]:
        """The method reset(generator): draw new weights from the network's own law and freeze the gates there."""
        if not hasattr(self.network, "reset"):
            raise AttributeError("the network that was expanded has no reset(generator)")
        return self._reset

    def _reset(self, generator: torch.Generator | None = None) -> None:
        self.network.reset(generator)
        self._freeze()

    def forward(self, x: Tensor) -> Tensor:
        """Map x to what the network maps it to, with frozen gates; same shapes as the network's."""
        return self.gated(x)
