"""What a notebook says to the library: its parameters and sizes, its figures, its claims and their verdicts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from traindyn import compute, parameters
from traindyn.errors import InputError, choose, nearest
from traindyn.files import atomic_path, project_root, read_json, write_json
from traindyn.report import cards, provenance
from traindyn.report.claims import NOT_TESTABLE, Claim, depends_on, derive, load_ledger, outcome
from traindyn.report.showing import HTML, Markdown, display


class Chapter:
    """One chapter's run: reads the notebook's parameters, collects its results, derives its verdicts.

    Under the executor the notebook's namespace holds `_run` (preset, sizes, folder); by hand it does not, and results
    go to `_build/interactive/<chapter>/`, which nothing takes for a finished run.

    Args:
        name: the chapter's name.
        namespace: the notebook's `globals()`, after its parameters cell.

    Raises:
        InputError: a parameter is missing, unknown or of the wrong type; the device is not there.
    """

    def __init__(self, name: str, namespace: Mapping[str, Any]) -> None:
        self._start = time.perf_counter()
        root = project_root()
        self.name = choose("chapter", name, parameters.chapters(root))
        declared = parameters.declared(root / "chapters" / name / f"{name}.md")
        if missing := [key for key in declared if key not in namespace]:
            raise InputError(f"parameter '{missing[0]}' is not set; run the parameters cell first")
        self.parameters = parameters.validate(declared, {key: namespace[key] for key in declared})
        run = namespace.get("_run")
        self.interactive = run is None
        self.preset: str = "laptop" if run is None else run["preset"]
        self.is_preset: bool = (
            all(self.parameters[key] == item.default for key, item in declared.items())
            if run is None
            else run["is_preset"]
        )
        self._sizes = parameters.load_presets(name)[self.preset].sizes if run is None else run["sizes"]
        self.out = root / "_build" / "interactive" / name if run is None else Path(run["out"])
        self.out.mkdir(parents=True, exist_ok=True)
        self.device = compute.pick_device(self.parameters.get("device", "auto"))
        self.dtype: torch.dtype = getattr(torch, self.parameters.get("precision", "float32"))
        if self.dtype == torch.float64:
            self.device = compute.float64_device(self.device)
        self.seeds = [self.parameters["seed"] + i for i in range(self.parameters["n_seeds"])]
        self.claims = {claim.id: claim for claim in load_ledger(name)}
        self.records: dict[str, dict[str, Any]] = {}

    def generator(self, purpose: str, seed: int | None = None) -> torch.Generator:
        """Return a CPU generator for one purpose, from `seed` (the chapter's first seed if None)."""
        return compute.generator(self.seeds[0] if seed is None else seed, purpose)

    def size(self, experiment: str) -> SimpleNamespace:
        """Return the sizes of one experiment at this run's preset, as attributes.

        Raises:
            InputError: `presets.yaml` has no such experiment.
        """
        return SimpleNamespace(**self._sizes[choose("experiment", experiment, self._sizes)])

    def card(self) -> None:
        """Show what this run is: preset, seeds, precision, device, and where its source and tables are."""
        kind = "" if self.is_preset else " (with parameters of your own)"
        cost = parameters.load_presets(self.name)[self.preset].cost
        display(
            HTML(
                f'<div class="run-card"><b>This run</b>: preset <b>{self.preset}</b>{kind}, seeds {self.seeds[0]} to '
                f"{self.seeds[-1]}, {self.parameters.get('precision', 'float32')} on {self.device.type}; about "
                f"{cards.number(cost.get('minutes'))} minutes on one core. Re-run it: "
                f"<code>traindyn run {self.name} --preset {self.preset}</code>.</div>"
            )
        )

    def save(self, name: str, frame: pd.DataFrame) -> Path:
        """Write a table to `tables/<name>.csv` of the run's folder (rounded to 6 digits); return its path."""
        path = self.out / "tables" / f"{name}.csv"
        with atomic_path(path) as part:
            frame.to_csv(part, index=False, float_format="%.6g")
        return path

    def archived(self, name: str, preset: str = "paper") -> pd.DataFrame | None:
        """Return a table of this chapter's archived run, or None if there is none.

        None, too, where this run has the same preset, and at smoke, which is for tests and has to be quick.

        Args:
            name: as in `save` and `figure`.
            preset: of the archived run.
        """
        path = project_root() / "data" / "results" / self.name / preset / "tables" / f"{name}.csv"
        return pd.read_csv(path) if self.preset not in ("smoke", preset) and path.is_file() else None

    def archived_size(self, experiment: str, preset: str = "paper") -> SimpleNamespace:
        """Return the sizes that one experiment had in this chapter's archived run, as attributes."""
        about = read_json(project_root() / "data" / "results" / self.name / preset / "provenance.json")
        return SimpleNamespace(**about["sizes"][experiment])

    def figure(self, name: str, fig: Figure, *, caption: str, alt: str, data: pd.DataFrame | None = None) -> None:
        """Save a figure (SVG, and PNG outside smoke) and show it with number, caption and the table behind it.

        Args:
            name: short file name; the figure's anchor is `fig-<chapter>-<name>`.
            fig: the figure; it is closed.
            caption: what is drawn, with sizes, seeds and data; MyST Markdown.
            alt: the same for one who cannot see it.
            data: the tidy table behind the figure.
        """
        for suffix in ("svg",) if self.preset == "smoke" else ("svg", "png"):
            with atomic_path(self.out / "figures" / f"{name}.{suffix}") as part:
                fig.savefig(part, format=suffix, dpi=150, metadata={"Date": None} if suffix == "svg" else None)
        if self.interactive:
            display(fig)
            display(Markdown(f"*{caption}*"))
        plt.close(fig)
        if data is not None:
            self.save(name, data)
        if not self.interactive:
            lines = [f"```{{figure}} figures/{name}.svg", f":name: fig-{self.name}-{name}", f":alt: {_line(alt)}", ""]
            lines += [_line(caption), "```", ""]
            if data is not None:
                head = data.head(12).to_html(index=False, border=0, float_format=lambda v: f"{v:.4g}", na_rep="–")
                lines += [f"````{{dropdown}} The table behind this figure: {len(data)} rows", "```{div} table-box"]
                lines += ["```{raw} html".replace("```", "~~~"), head, "~~~", "```"]
                lines += [f"The first rows; all of them: {{download}}`{name}.csv <tables/{name}.csv>`.", "````", ""]
            display({"text/markdown": "\n".join(lines)}, raw=True)

    def check(
        self,
        claim_id: str,
        parts: Mapping[str, Any],
        measured: Mapping[str, Any] | None = None,
        *,
        seeds: int | None = None,
        stand_in: str | None = None,
        note: str = "",
    ) -> None:
        """Give a claim's parts their values, derive its verdict, show its card.

        Args:
            claim_id: the ledger's id, with or without the chapter's name in front.
            parts: {part: boolean, booleans over seeds, or None where this preset does not contain it}; exactly the
                ledger's names.
            measured: {name: number, or list over seeds}: what the parts were compared with.
            seeds: how many independent seeds stand behind the values; the length of the lists among `parts` and
                `measured` if None, else the run's number of seeds.
            stand_in: what stood in for the source's data or model, if anything did.
            note: a sentence for the reader.

        Raises:
            InputError: the claim or a part is not in the ledger, or the claim was checked before.
        """
        claim_id = claim_id if claim_id.startswith(f"{self.name}.") else f"{self.name}.{claim_id}"
        if claim_id not in self.claims:
            raise InputError(f"claim '{claim_id}' is not in claims.yaml{nearest(claim_id, self.claims)}")
        if claim_id in self.records:
            raise InputError(f"claim '{claim_id}' is checked twice")
        claim = self.claims[claim_id]
        values = {name: outcome(value) for name, value in parts.items()}
        numbers = {name: _plain(value) for name, value in (measured or {}).items()}
        if seeds is None:
            lengths = [len(value) for value in values.values() if isinstance(value, list)]
            seeds = min(lengths) if lengths else len(self.seeds)
        verdict, why = derive(claim, self.preset, values, seeds)
        self.records[claim_id] = {
            "id": claim_id,
            "verdict": verdict,
            "why": why,
            "parts": values,
            "measured": numbers,
            "seeds": seeds,
            "depends_on": depends_on(claim, values) if values else [],
            "stand_in": stand_in,
            "criterion_sha256": claim.criterion_sha256,
            "note": note,
        }
        display(HTML(cards.card(claim, self.records[claim_id])))

    def verdict(self, claim_id: str) -> str:
        """Return the verdict of a claim that this run has checked."""
        return self.records[claim_id if claim_id in self.records else f"{self.name}.{claim_id}"]["verdict"]

    def verdicts(self) -> None:
        """Show the table of all verdicts and write `claims.json` and what this process knows of the run.

        Raises:
            InputError: a claim of the ledger was never checked.
        """
        for claim in self.claims.values():
            if claim.not_testable and claim.id not in self.records:
                self.records[claim.id] = _untested(claim)
        if missing := [claim_id for claim_id in self.claims if claim_id not in self.records]:
            raise InputError(f"the ledger has {len(missing)} claims that no cell checks: {', '.join(missing)}")
        records = [self.records[claim_id] for claim_id in self.claims]
        write_json(
            self.out / "claims.json",
            {
                "schema": 1,
                "chapter": self.name,
                "preset": self.preset,
                "parameters_are_preset": self.is_preset,
                "claims": records,
            },
        )
        about = provenance.collect(project_root(), self.device, self.dtype)
        about |= {
            "chapter": self.name,
            "preset": self.preset,
            "parameters": self.parameters,
            "sizes": self._sizes,
            "seeds": self.seeds,
            "notebook_seconds": round(time.perf_counter() - self._start, 1),
        }
        write_json(self.out / "circumstances.json", about)
        display(HTML(cards.verdict_table(self.claims.values(), self.records)))

    def verdict_text(self) -> str:
        """Return every verdict with its numbers as text, the form that tests compare."""
        return cards.text_lines(self.claims.values(), self.records)


def _untested(claim: Claim) -> dict[str, Any]:
    return {
        "id": claim.id,
        "verdict": NOT_TESTABLE,
        "why": claim.not_testable,
        "parts": {},
        "measured": {},
        "seeds": 0,
        "depends_on": [],
        "stand_in": None,
        "criterion_sha256": claim.criterion_sha256,
        "note": "",
    }


def _plain(value: Any) -> Any:
    """Return a measured value as a Python number, a string, None, or a list of numbers."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple | pd.Series):
        return [None if item is None else float(item) for item in value]
    return value


def _line(text: str) -> str:
    return " ".join(text.split())
