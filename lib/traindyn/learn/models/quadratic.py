"""Models quadratic in their parameters: the general quadratic model, and the exact one of a two-layer ReLU network."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from traindyn.errors import InputError
from traindyn.layers import Activation, draw
from traindyn.learn.models.expansion import expansion, random_direction


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
        # 1 where > 0, else 0: torch takes 0 for the derivative of the ReLU at 0, and so do Taylor models.
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
        example: inputs (n, ...) on which the model is compared with the network; random ones of shape (n, d) if None.

    Raises:
        InputError: the module has another structure: the model is compared with the network, in float64, at the
            expansion point and with its second-order expansion in one random direction.
    """

    def __init__(self, two_layer: nn.Module, example: Tensor | None = None) -> None:
        super().__init__()
        self.network = deepcopy(two_layer)
        self.frozen = deepcopy(_two_layers(self.network)[2])
        for parameter in self.frozen.parameters():
            parameter.requires_grad_(False)
        self._freeze()
        self._prove(example)

    def _prove(self, example: Tensor | None) -> None:
        """Raise unless the model is what it promises: names and shapes of layers do not tell what a network does."""
        with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
            model = deepcopy(self).double()
            for parameter in model.network.parameters():
                parameter.requires_grad_(True)
            first = _two_layers(model.network)[2].weight
            rng = torch.Generator().manual_seed(0)
            x = (
                torch.randn(8, first.shape[1], dtype=torch.float64, generator=rng)
                if example is None
                else example.detach()
            )
            x = x.to(first)
            weights = {name: weight.detach().clone() for name, weight in model.network.named_parameters()}
            direction = random_direction(weights)
            try:
                value, first, second = expansion(model.network, weights, direction, x)
            except (RuntimeError, IndexError, ValueError, TypeError) as error:
                shape = tuple(x.shape)
                raise InputError(
                    f"two_layer: the network does not take inputs of shape {shape}; give example=, a few of its inputs"
                ) from error
            found = [model(x)]
            with torch.no_grad():
                for name, weight in model.network.named_parameters():
                    weight.add_(direction[name])
            found.append(model(x))
            expected = [value.detach(), (value + first + second / 2).detach()]
            for ours, theirs in zip(found, expected, strict=True):
                if ours.shape != theirs.shape or not (ours - theirs).abs().max() <= 1e-9 * theirs.abs().max():
                    raise InputError(
                        "two_layer: expected two linear layers with one ReLU between them and nothing else that bends; "
                        "this network differs from itself with frozen gates; quadratize takes any network"
                    )

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
