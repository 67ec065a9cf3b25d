"""Networks of one architecture side by side: weights as rows of one matrix, all losses and gradients at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from traindyn import losses
from traindyn.compute import seeded
from traindyn.errors import InputError
from traindyn.forward_pass import places
from traindyn.learn.train.tracing import agree, record

Step = Callable[..., tuple[Tensor, ...]]


@dataclass
class Passes:
    """What is known of the passes of one architecture; networks of the same one share it.

    Attributes:
        steps: the recorded step for every kind of batch.
        eager: why steps are run as they are written and not replayed; empty if they are replayed.
        random: whether a pass draws from torch's global generators; None: not known yet. So for the next two.
        moves: whether a pass changes buffers, as batch normalisation does.
        overwrites: whether a pass changes the data that it is given.
    """

    steps: dict[Any, Step] = field(default_factory=dict)
    eager: str = ""
    random: bool | None = None
    moves: bool | None = None
    overwrites: bool | None = None


class Stack:
    """R networks of one architecture, trained together.

    The trainable weights of all runs are the rows of `flat` (R, P); `params[name]` is a view of it of shape
    (R, *shape). Losses and gradients of all rows come from one pass: the module is mapped over the rows
    (torch.func.vmap; for a single row it is called plainly), differentiated, and recorded once as a list of tensor
    operations that is replayed at every step. The replay has no autograd bookkeeping, which is what most of a small
    network's step costs. A module whose operations cannot be recorded is differentiated afresh at every step.
    The first pass is made both ways and compared; where the two differ, steps are run as they are written. Stacks of
    the same architecture may share what is known of their `passes`.

    A pass leaves what a plain loop leaves: buffers are counted once, the data are as before, and what a network draws
    comes from a seed that is given with the pass.

    Args:
        models: networks of one architecture, already drawn; the first becomes `module`, the template.
        loss: a name of `losses.LOSSES` or a callable.
        dtype, device: where the weights lie; floating-point buffers follow.
        trace: record the step (True), or differentiate afresh at every step (False): needed for a module or a loss
            whose Python code does something else from one step to the next.

    Raises:
        InputError: the networks have no trainable weights, or differ in architecture.
    """

    def __init__(
        self,
        models: list[nn.Module],
        loss: losses.Loss,
        dtype: torch.dtype,
        device: torch.device,
        trace: bool = True,
    ) -> None:
        self.loss, self.trace = losses.check(loss), trace
        for name, part in models[0].named_modules():
            if getattr(part, "sparse", False) and isinstance(part, nn.Embedding | nn.EmbeddingBag):
                raise InputError(f"model: '{name}' has sparse gradients, which are not supported; give sparse=False")
        models = [model.to(device=device, dtype=dtype) for model in models]
        self.module, self.runs = models[0], len(models)
        trainable = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        if not trainable:
            raise InputError("the model has no trainable weights")
        self.shapes = {name: p.shape for name, p in trainable.items()}
        try:
            rows = [torch.cat([dict(m.named_parameters())[k].detach().flatten() for k in trainable]) for m in models]
            self.flat = torch.stack(rows)
            self.fixed = self._stack_fixed(models)
        except (KeyError, RuntimeError) as error:
            raise InputError("the runs' networks differ in architecture; expected the same shapes for all") from error
        self.params: dict[str, Tensor] = {}
        start = 0
        for name, shape in self.shapes.items():
            stop = start + shape.numel()
            self.params[name] = self.flat[:, start:stop].view(self.runs, *shape)
            start = stop
        self._places = places(self.module, [*self.params, *self.fixed])
        self._own = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        self.outputs = self.flat  # of the last pass over data, (R, n, ...)
        self.passes = Passes(eager="" if trace else "trace=False")
        self.bind(0)

    def _stack_fixed(self, models: list[nn.Module]) -> dict[str, Tensor]:
        """Return what the runs do not train, frozen weights and buffers, each with a leading run axis."""
        tables = [{**dict(model.named_parameters()), **dict(model.named_buffers())} for model in models]
        return {k: torch.stack([t[k].detach() for t in tables]) for k in tables[0] if k not in self.shapes}

    def bind(self, run: int) -> nn.Module:
        """Let `module` hold the weights of one run, without copying them, and return it."""
        with torch.no_grad():
            for name, values in (*self.params.items(), *self.fixed.items()):
                self._own[name].data = values[run]
        return self.module

    def _one(self, params: dict[str, Tensor], fixed: dict[str, Tensor], X: Tensor) -> Tensor:
        values = {**params, **fixed}
        return functional_call(self.module, {k: values[name] for k, name in self._places}, (X,), tie_weights=False)

    def predict(self, X: Tensor, shared: bool = True) -> Tensor:
        """Return every run's outputs.

        Args:
            X: inputs (n, ...) that all runs share, or (R, n, ...) with `shared=False`.

        Returns:
            outputs of shape (R, n) or (R, n, c).
        """
        if self.passes.overwrites is not False:
            X = X.clone()
        if self.runs == 1:
            row = {name: values[0] for name, values in self.params.items()}
            return self._one(row, {k: v[0] for k, v in self.fixed.items()}, X if shared else X[0])[None]
        return vmap(self._one, in_dims=(0, 0, None if shared else 0))(self.params, self.fixed, X)

    def batch_losses(self, X: Tensor, y: Tensor, shared: bool = True) -> Tensor:
        """Return every run's loss, shape (R,), on data as in `losses_and_gradients`."""
        f = self.outputs = self.predict(X, shared)
        rows = y.expand(self.runs, *y.shape) if shared else y
        return torch.stack([losses.value(self.loss, f_run, y_run) for f_run, y_run in zip(f, rows, strict=True)])

    def _step(self, shared: bool) -> Callable[..., tuple[Tensor, ...]]:
        """Return the function (weights..., fixed..., X, y) -> (losses (R,), outputs, gradients...) of plain tensors."""
        names, held = list(self.params), list(self.fixed)

        def loss_of_run(weights: list[Tensor], fixed: list[Tensor], X: Tensor, y: Tensor) -> tuple:
            f = self._one(dict(zip(names, weights, strict=True)), dict(zip(held, fixed, strict=True)), X)
            return losses.value(self.loss, f, y), f

        def step(*tensors: Tensor) -> tuple[Tensor, ...]:
            *inner, X, y = tensors
            with torch.enable_grad():
                weights = [w.detach().requires_grad_() for w in inner[: len(names)]]
                fixed = inner[len(names) :]
                if self.runs == 1:
                    values, f = loss_of_run(weights, fixed, X, y)
                else:
                    axis = None if shared else 0
                    values, f = vmap(loss_of_run, in_dims=(0, 0, axis, axis))(weights, fixed, X, y)
                # the runs do not interact, so the gradient of the sum holds every run's own gradient
                gradients = torch.autograd.grad(values.sum(), weights, allow_unused=True)
            moved = (torch.zeros_like(w) if g is None else g for g, w in zip(gradients, weights, strict=True))
            return (values.detach(), f.detach(), *(g.detach() for g in moved))

        return step

    def losses_and_gradients(self, X: Tensor, y: Tensor, shared: bool = True, noise: int = 0) -> tuple[Tensor, Tensor]:
        """Return every run's loss and gradient at the present weights.

        Args:
            X, y: data that all runs share, (n, ...), or one set per run, (R, n, ...), with `shared=False`.
            noise: seed of what the network draws in this pass.

        Returns:
            losses of shape (R,) and gradients of shape (R, P), in the order of `flat`.
        """
        single = self.runs == 1
        rows = (*self.params.values(), *self.fixed.values())
        tensors = [values[0] for values in rows] if single else list(rows)
        tensors += [X[0], y[0]] if single and not shared else [X, y]
        key = (self.runs, X.shape, y.shape, shared)
        known = self.passes.steps.get(key)
        values, f, *gradients = self._pass(known, tensors, noise) if known else self._first(key, tensors, shared, noise)
        self.outputs = f[None] if single else f
        return values.reshape(self.runs), torch.cat([g.reshape(self.runs, -1) for g in gradients], 1)

    def _pass(self, step: Step, tensors: list[Tensor], noise: int) -> tuple[Tensor, ...]:
        if self.passes.overwrites:
            tensors = [*tensors[:-2], tensors[-2].clone(), tensors[-1].clone()]
        if not self.passes.random:
            return step(*tensors)
        with seeded(noise, self.flat.device):
            return step(*tensors)

    def _first(self, key: Any, tensors: list[Tensor], shared: bool, noise: int) -> tuple[Tensor, ...]:
        """Make a pass as it is written, learn what it does besides, and record it; return what it gave."""
        known, step, device = self.passes, self._step(shared), self.flat.device
        if device.type == "meta":
            known.steps[key] = record(step, tensors)[0] if self.trace else step
            return known.steps[key](*tensors)
        fixed = tensors[len(self.params) : -2]
        before = [values.clone() for values in fixed]
        rows = [*tensors[:-2], tensors[-2].clone(), tensors[-1].clone()]
        with seeded(noise, device) as drawn:
            result = step(*rows)
            known.random = bool(known.random) or drawn()
        known.moves = bool(known.moves) or not all(map(torch.equal, fixed, before))
        touched = [
            row._version > 0 or not torch.equal(row, given) for row, given in zip(rows[-2:], tensors[-2:], strict=True)
        ]
        known.overwrites = bool(known.overwrites) or any(touched)
        known.steps[key] = step
        if not self.trace:
            return result
        after = [values.clone() for values in fixed]

        def again(function: Callable[..., Any]) -> Any:
            for values, old in zip(fixed, before, strict=True):
                values.copy_(old)
            with seeded(noise, device):
                return function(*tensors[:-2], tensors[-2].clone(), tensors[-1].clone())

        replay, why = again(lambda *rows: record(step, list(rows)))
        if not why:
            replayed = again(replay)
            if agree([*replayed, *fixed], [*result, *after]):
                known.steps[key] = replay
                return replayed
            why = "the recorded step gave other numbers than the step as it is written"
        known.eager = known.eager or why
        return again(step)

    @contextmanager
    def looking(self, noise: int) -> Iterator[None]:
        """Let passes look without leaving a trace: buffers are restored, and draws come from the seed `noise`."""
        moves = self.passes.moves is not False and bool(self.fixed)
        if not moves and self.passes.random is False or self.flat.device.type == "meta":
            yield
            return
        before = self.kept() if moves else {}
        with seeded(noise, self.flat.device):
            try:
                yield
            finally:
                self.put(before)

    def kept(self) -> dict[str, Tensor]:
        """Return copies of what the runs do not train: frozen weights and buffers."""
        return {name: values.clone() for name, values in self.fixed.items()}

    def put(self, values: dict[str, Tensor]) -> None:
        """Let frozen weights and buffers be what `kept` returned."""
        for name, value in values.items():
            self.fixed[name].copy_(value)

    def bytes_per_run(self, X: Tensor, y: Tensor) -> int:
        """Return how many bytes one run's step keeps alive: what backpropagation saves, weights and gradient.

        Args:
            X, y: one run's batch, without a run axis.
        """
        saved: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            saved[storage._cdata] = storage.nbytes()
            return tensor

        own = {p.untyped_storage()._cdata for p in self._own.values()}
        X = X.clone()  # a layer that works in place must not reach the caller's data
        own.add(X.untyped_storage()._cdata)
        with (
            self.looking(0),
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        ):
            losses.value(self.loss, self.bind(0)(X), y)
        kept = sum(size for storage, size in saved.items() if storage not in own)
        return kept + 2 * self.flat[0].numel() * self.flat.element_size()
