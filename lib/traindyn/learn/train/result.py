"""What a training leaves behind: tidy tables, arrays and networks, saved without pickle."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from traindyn.errors import InputError
from traindyn.files import atomic_path, write_json

FORMAT = 1


class Models(Sequence[nn.Module]):
    """The trained networks, one per run; each is built when it is asked for.

    Args:
        templates: one module per run (runs may share one) of the right architecture.
        weights: {name: tensor of shape (runs, *shape)} of everything in the modules' state.
    """

    def __init__(self, templates: list[nn.Module], weights: dict[str, Tensor]) -> None:
        self._templates, self.weights = templates, weights

    def __len__(self) -> int:
        return len(self._templates)

    def __getitem__(self, run: Any) -> Any:
        if isinstance(run, slice):
            return [self[index] for index in range(*run.indices(len(self)))]
        index = range(len(self))[run]
        template = self._templates[index]
        memo = {id(t): torch.empty_like(t) for t in (*template.parameters(), *template.buffers())}
        own = {**dict(template.named_parameters()), **dict(template.named_buffers())}
        for name, tensor in own.items():
            values = self.weights[name][index].clone()
            memo[id(tensor)] = (
                nn.Parameter(values, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values
            )
        return copy.deepcopy(template, memo)  # the copy takes its weights from the memo

    def __iter__(self) -> Iterator[nn.Module]:
        return (self[index] for index in range(len(self)))


@dataclass
class Run:
    """The record of one `fit`: all seeds, all rates.

    Attributes:
        frame: one row per (run, recorded step): run, seed, lr (as it was given; of a function or a multiple the rate
            that it came to), lr_ratio (its multiple of the critical rate, if it says so), step, rate (of the coming
            update), loss (whole training set), batch_loss (of the coming update), the probes' scalars, and, where
            rates are multiples, reference (the run's own, at its initial weights). Rates are in double precision.
        summary: one row per run: run, seed, lr, lr_ratio, rate_<step> and ratio_<step> (rates that enter there),
            reference, outcome (finished | stopped | diverged), steps, loss (the last), wall (seconds, shared out
            evenly among runs that trained together).
        arrays: {name: array (run, time, ...)} of the probes' tensors; NaN after a run's end.
        times: {name: steps of the time axis}.
        models: the trained networks, in the order of `summary`; None after `load` without a model.
        meta: the settings: loss, optimizer, steps, lr, schedule, vary, stop, batch_size, replacement, record, seeds,
            dtype, device, torch; together (runs per chunk) and apart (why not more), traced (whether steps were
            replayed) and eager (why not).
    """

    frame: pd.DataFrame
    summary: pd.DataFrame
    arrays: dict[str, np.ndarray]
    times: dict[str, np.ndarray]
    models: Models | None
    meta: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def save(self, path: str | Path) -> Path:
        """Write the run to a folder: frame and summary as parquet, tensors as safetensors, run.json last.

        Args:
            path: the folder; made if missing.

        Returns:
            the folder.
        """
        path = Path(path)
        for name, frame in (("frame", self.frame), ("summary", self.summary)):
            with atomic_path(path / f"{name}.parquet") as part:
                frame.to_parquet(part, index=False)
        arrays = {f"array/{name}": np.ascontiguousarray(values) for name, values in self.arrays.items()}
        arrays |= {f"time/{name}": np.ascontiguousarray(values) for name, values in self.times.items()}
        with atomic_path(path / "arrays.safetensors") as part:
            save_arrays(arrays, part)
        with atomic_path(path / "weights.safetensors") as part:
            save_file({name: values.detach().cpu().contiguous() for name, values in self.weights.items()}, part)
        write_json(path / "run.json", {"format": FORMAT, **self.meta})
        return path

    @classmethod
    def load(cls, path: str | Path, model: nn.Module | None = None) -> Run:
        """Read a run that `save` wrote.

        Args:
            path: the folder.
            model: a network of the trained architecture; with it `models` can be built. It is not changed.

        Raises:
            InputError: the folder is not a complete run, is damaged, or the model does not fit its weights.
        """
        path = Path(path)
        if not (path / "run.json").is_file():
            raise InputError(f"{path}: no complete run there (run.json is missing); expected a folder of Run.save")
        try:
            meta = json.loads((path / "run.json").read_text(encoding="utf-8"))
            frame, summary = (pd.read_parquet(path / f"{name}.parquet") for name in ("frame", "summary"))
            arrays = load_arrays(path / "arrays.safetensors")
            weights = load_file(path / "weights.safetensors")
        except Exception as error:  # the readers raise errors of a dozen kinds
            raise InputError(f"{path}: cannot be read ({type(error).__name__}); train again or restore it") from error
        if meta.pop("format", None) != FORMAT:
            raise InputError(f"{path}: written in another format; expected format {FORMAT}")
        models = None
        if model is not None:
            own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
            if {k: v.shape for k, v in own.items()} != {k: v.shape[1:] for k, v in weights.items()}:
                raise InputError(f"{path}: the model's weights do not fit those saved; expected the same architecture")
            models = Models([model] * len(summary), weights)
        parts = {
            kind: {k.split("/", 1)[1]: v for k, v in arrays.items() if k.startswith(kind)} for kind in ("array", "time")
        }
        return cls(frame, summary, parts["array"], parts["time"], models, meta, weights)
