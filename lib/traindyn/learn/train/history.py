"""What is noted down during training, kept on the device until the end, and the tables made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from traindyn.errors import InputError
from traindyn.learn.train.probes import Probe, State

RESERVED = ("run", "seed", "lr", "lr_ratio", "step", "rate", "loss", "batch_loss", "reference")


class Recorder:
    """Rows of R runs that train together: one per recorded step, in tensors of shape (R,) on the device.

    Args:
        runs: number of runs R.
        probes: by name.
        last: number of updates of a whole run.
        full_batch: every update sees all samples, so the loss is known at every step.
        record: steps between two full training losses, a list of steps, or None: every step for full batches, else
            the probes' steps (without probes: every `epoch`-th). First and last step always have one.
        epoch: updates per epoch.
    """

    def __init__(
        self, runs: int, probes: dict[str, Probe], last: int, full_batch: bool, record: Any, epoch: int
    ) -> None:
        self.runs, self.probes, self.last = runs, probes, last
        self._with_probes = record is None
        if record is None:
            record = 1 if full_batch else (0 if probes else epoch)
        every, at = (record, ()) if isinstance(record, int) else (0, record)
        self._rows = Probe(lambda state: {}, every, {0, *at})
        self.steps: list[int] = []
        self.rows: dict[str, list[Tensor]] = {"rate": [], "loss": [], "batch_loss": [], "stop": []}
        self.seen: dict[str, list[tuple[int, Any]]] = {name: [] for name in probes}

    def due(self, step: int) -> bool:
        """Return whether `step` has a row: its loss is recorded, or a probe looks."""
        return self._rows.due(step, self.last) or any(probe.due(step, self.last) for probe in self.probes.values())

    def wants_loss(self, step: int) -> bool:
        """Return whether the row of `step` holds the loss on the whole training set."""
        return self._with_probes or self._rows.due(step, self.last)

    def row(self, step: int, **values: Tensor) -> None:
        """Note the values, each (R,), of one step."""
        self.steps.append(step)
        for name, value in values.items():
            self.rows[name].append(value.expand(self.runs))

    def look(self, step: int, state: Callable[[int | None], State], finite: Callable[[], np.ndarray]) -> None:
        """Call every probe that is due.

        Args:
            step: updates made so far.
            state: run -> its State; None -> the stacked state.
            finite: () -> which runs still have finite weights, shape (R,); asked only when a probe fails, since a
                diverged run is an outcome and no error.
        """
        for name, probe in self.probes.items():
            if not probe.due(step, self.last):
                continue
            runs: list[int | None] = [None] if probe.stacked else list(range(self.runs))
            found = []
            for run in runs:
                try:
                    with torch.enable_grad():
                        found.append(_tensors(name, probe.fn(state(run))))
                except InputError:
                    raise
                except Exception:
                    alive = finite()
                    if alive.all() if run is None else alive[run]:
                        raise
                    found.append({})
            self.seen[name].append((step, found[0] if probe.stacked else found))

    def table(self, ends: np.ndarray, dead: np.ndarray, dead_loss: np.ndarray) -> tuple[pd.DataFrame, dict, dict]:
        """Return the rows of all runs up to their ends, their arrays, and the arrays' steps.

        Args:
            ends: last step of every run, shape (R,).
            dead: whether the run diverged there; it then has a row there with its loss, if it has none.
            dead_loss: that loss.

        Returns:
            a frame with columns run (0 to R - 1), step, rate, loss, batch_loss and the probes' scalars;
            {name: array (R, times, ...)}, NaN after a run's end; {name: steps of these times}.
        """
        steps = np.asarray(self.steps)
        columns = {name: _host(torch.stack(self.rows[name])) for name in ("rate", "loss", "batch_loss")}
        arrays: dict[str, np.ndarray] = {}
        times: dict[str, np.ndarray] = {}
        for name, looks in self.seen.items():
            at = np.asarray([step for step, _ in looks])
            for key, values in _assemble(name, looks, self.runs).items():
                if key in columns or key in arrays or key in RESERVED:
                    raise InputError(f"probe '{name}': the name '{key}' is taken; give its result another name")
                if values.ndim == 2:
                    columns[key] = np.full((len(steps), self.runs), np.nan)
                    columns[key][np.searchsorted(steps, at)] = values
                else:
                    values = np.moveaxis(values, 1, 0).copy()
                    values[np.asarray(at)[None, :] > ends[:, None]] = np.nan
                    arrays[key], times[key] = values, at
        frame = pd.DataFrame({"run": np.tile(np.arange(self.runs), len(steps)), "step": np.repeat(steps, self.runs)})
        for name, values in columns.items():
            frame[name] = values.reshape(-1)
        frame = frame[frame["step"].to_numpy() <= ends[frame["run"].to_numpy()]]
        missing = [run for run in np.flatnonzero(dead) if ends[run] not in steps]
        if missing:
            loss = dead_loss[missing]
            extra = pd.DataFrame({"run": missing, "step": ends[missing], "loss": loss, "batch_loss": loss})
            frame = pd.concat([frame, extra])
        return frame.sort_values(["run", "step"], kind="stable").reset_index(drop=True), arrays, times


def _tensors(name: str, result: Any) -> dict[str, Tensor]:
    """Return a probe's result as a dict of detached copies: what it returned may be a view of live weights."""
    result = result if isinstance(result, dict) else {name: result}
    return {str(key): torch.as_tensor(value).detach().clone() for key, value in result.items()}


def _host(values: Tensor) -> np.ndarray:
    values = values.cpu()
    if values.dtype == torch.bfloat16:
        values = values.float()
    return values.numpy()


def _assemble(name: str, looks: list[tuple[int, Any]], runs: int) -> dict[str, np.ndarray]:
    """Return {key: (times, R, ...)} of one probe; NaN where a diverged run could not be looked at."""
    places: dict[str, list[tuple[int, Any]]] = {}
    values: dict[str, list[Tensor]] = {}
    for time, (_, look) in enumerate(looks):
        stacked = isinstance(look, dict)
        for run, part in [(slice(None), look)] if stacked else list(enumerate(look)):
            for key, value in part.items():
                if stacked and value.shape[:1] != (runs,):
                    raise InputError(
                        f"probe '{name}': '{key}' has shape {tuple(value.shape)}; with stacked=True the first axis is "
                        f"over the {runs} runs"
                    )
                places.setdefault(key, []).append((time, run))
                values.setdefault(key, []).append(value)
    found: dict[str, np.ndarray] = {}
    for key, parts in values.items():
        if len({part.shape for part in parts}) > 1:
            raise InputError(f"probe '{name}': '{key}' changes its shape from one look to the next")
        place = max((part.device for part in parts), key=lambda device: device.type != "cpu")
        host = _host(torch.stack([part.to(place) for part in parts]))  # one transfer from the device
        shape = host.shape[2:] if isinstance(places[key][0][1], slice) else host.shape[1:]
        kind = host.dtype if host.dtype.kind in "fc" else np.dtype(float)
        found[key] = np.full((len(looks), runs, *shape), np.nan, kind)
        for (time, run), value in zip(places[key], host, strict=True):
            found[key][time, run] = value
    return found
