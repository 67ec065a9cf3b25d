"""What a notebook says to the library: its parameters and sizes, its figures, its claims and their verdicts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from traindyn import compute, parameters
from traindyn.errors import InputError, choose, nearest
from traindyn.files import project_root, read_json, write_json
from traindyn.report import cards, outputs, provenance, settings
from traindyn.report.claims import Claim, load_ledger
from traindyn.report.columns import gather
from traindyn.report.figures import Figures
from traindyn.report.judge import SCHEMA, again, judge
from traindyn.report.showing import display
from traindyn.sizes import Experiment


class Chapter(Figures):
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
        # what a long experiment has finished outlives the process that ran it, until the run itself is finished
        key = (run or {}).get("key")
        self.keep: Path | None = root / "_build" / "kept" / key if key else None
        self.device = compute.pick_device(self.parameters.get("device", "auto"))
        self.dtype: torch.dtype = getattr(torch, self.parameters.get("precision", "float32"))
        if self.dtype == torch.float64:
            self.device = compute.float64_device(self.device)
        self.seeds = [self.parameters["seed"] + i for i in range(self.parameters["n_seeds"])]
        self.claims = {claim.id: claim for claim in load_ledger(name)}
        self.records: dict[str, dict[str, Any]] = {}
        self._source, self._models = parameters.source_settings(name), parameters.models(name)
        self.asked: dict[str, Experiment] = {}  # experiments whose sizes the notebook has read
        self._glued: set[str] = set()

    def generator(self, purpose: str, seed: int | None = None) -> torch.Generator:
        """Return a CPU generator for one purpose, from `seed` (the chapter's first seed if None)."""
        return compute.generator(self.seeds[0] if seed is None else seed, purpose)

    def size(self, experiment: str, **changes: Any) -> Experiment:
        """Return the sizes of one experiment at this run's preset, typed and frozen, with some of them changed.

        What was asked for first is what the setting of a claim on this experiment is derived from.

        Raises:
            InputError: no such experiment, or a change is unknown, of the wrong type or out of range.
        """
        values = self._sizes[choose("experiment", experiment, self._sizes)]
        found = parameters.sized(self.name, experiment, {**values, **changes})
        self.asked.setdefault(experiment, found)
        return found

    def card(self) -> None:
        """Show what this run is: preset, seeds, precision, device, and where its source and tables are."""
        run = {
            "chapter": self.name,
            "preset": self.preset,
            "is_preset": self.is_preset,
            "seeds": self.seeds,
            "precision": self.parameters.get("precision", "float32"),
            "device": self.device.type,
            "minutes": parameters.load_presets(self.name)[self.preset].cost.get("minutes"),
        }
        self._show("card", run=run)

    def check(self, claim_id: str, *evidence: pd.DataFrame | Mapping[str, float], note: str = "") -> None:
        """Give a claim its evidence, derive its verdict by the ledger's tests, show its card.

        Args:
            claim_id: the ledger's id, with or without the chapter's name in front.
            evidence: tables of numbers by seed and case, as `traindyn.evidence.table` returns them, and {name: number}
                for numbers that do not depend on chance; a name stands in one of them only.
            note: a sentence for the reader.

        Raises:
            InputError: the claim is not in the ledger or was checked before, or a test asks for a name that is not in
                the evidence.
        """
        claim_id = self._id(claim_id)
        if claim_id in self.records:
            raise InputError(f"claim '{claim_id}' is checked twice")
        claim = self.claims[claim_id]
        self.records[claim_id] = judge(
            claim, gather(*evidence), self.preset, self._setting(claim), note, self._definitions(claim)
        )
        self._show("claim", id=claim_id)

    def reported(self, claim_id: str) -> Any:
        """Return what the source reports for a claim, as its entry in the ledger keeps it: printed rates, sizes.

        Raises:
            InputError: the claim is not in the ledger.
        """
        return self.claims[self._id(claim_id)].reported

    def archived_claim(self, claim_id: str, preset: str = "paper") -> dict[str, Any] | None:
        """Return what this chapter's archived run says of a claim, judged with the present ledger; None if nothing.

        None where there is no such run, where it lacks the claim or a number that a test now asks for, where this run
        has the same preset, and at smoke.

        Args:
            claim_id: the ledger's id, with or without the chapter's name in front.
            preset: of the archived run.

        Raises:
            InputError: the claim is not in the ledger.
        """
        claim = self.claims[self._id(claim_id)]
        path = project_root() / "data" / "results" / self.name / preset / "claims.json"
        if self.preset in ("smoke", preset) or not path.is_file():
            return None
        records = {record["id"]: record for record in read_json(path)["claims"]}
        if "evidence" not in (record := records.get(claim.id, {})):
            return None
        try:
            return again(claim, record, preset)
        except InputError:  # judged by an earlier criterion, as its card says
            return None

    def _id(self, claim_id: str) -> str:
        claim_id = claim_id if claim_id.startswith(f"{self.name}.") else f"{self.name}.{claim_id}"
        if claim_id not in self.claims:
            raise InputError(f"claim '{claim_id}' is not in claims.yaml{nearest(claim_id, self.claims)}")
        return claim_id

    def _definitions(self, claim: Claim) -> dict[str, Any]:
        """Return the values of the sizes by which a claim's criterion calls something a spike, aligned, converged.

        Raises:
            InputError: the ledger names a definition that is not a size.
        """
        found = {}
        for name in claim.definitions:
            experiment, _, key = name.partition(".")
            if key not in self._sizes.get(experiment, {}):
                raise InputError(f"claim '{claim.id}': the definition '{name}' is not a size of this chapter")
            asked = self.asked.get(experiment)
            found[name] = self._sizes[experiment][key] if asked is None else getattr(asked, key)
        return found

    def _asked(self) -> dict[str, dict[str, Any]]:
        """Return the sizes of every experiment, as the notebook first asked for them."""
        return self._sizes | {name: found.model_dump() for name, found in self.asked.items()}

    def _setting(self, claim: Claim) -> settings.Setting:
        """Return in what setting this run judges a claim: its sizes, compared with what the source prints."""
        return settings.setting(claim.runs, self._asked(), self.parameters, self._source, self._models)

    def _show(self, kind: str, **about: Any) -> None:
        """Show what a marker asks for; by the marker, kept as metadata, it is made anew when the book is staged.

        Args:
            kind: claim, verdicts, differing, slips, card, sentence or summary.
            about: what `cards.shown` needs to know besides.
        """
        marker = {"show": kind, **about}
        html = cards.styled(cards.shown(marker, self.claims.values(), self.records))
        shown = {"text/html": html, "text/plain": cards.plain(marker, self.claims.values(), self.records)}
        display(shown, raw=True, metadata={"traindyn": marker})

    def glue(self, name: str, value: float) -> None:
        """Keep a number for the prose of this page, which reads it by MyST-NB's role: {glue:text}`peak:.2f`.

        Args:
            name: unique on the page.
            value: one number.

        Raises:
            InputError: it is not one number, or the name was used before.
        """
        if name in self._glued:
            raise InputError(f"glue '{name}' is used twice on this page")
        bundle, metadata = outputs.glued(name, value)
        self._glued.add(name)
        display(bundle, raw=True, metadata=metadata)

    def sentence(self, claim_id: str, *, holds: str, fails: str, otherwise: str = "") -> None:
        """Show the sentence that hangs on a claim's verdict; it is chosen again when the book is staged.

        Args:
            claim_id: a claim that was checked before.
            holds, fails: what to say where the claim holds, where it fails; MyST text is not read, TeX is.
            otherwise: what to say where it holds with a correction or is undecided; nothing if empty.

        Raises:
            InputError: the claim is not in the ledger or was not checked yet.
        """
        self.verdict(claim_id)
        said = {"holds": holds, "fails": fails, "otherwise": otherwise}
        self._show("sentence", id=self._id(claim_id), **said)

    def slips(self) -> None:
        """Show the errata of this chapter's ledger, each with its cell."""
        self._show("slips")

    def differing(self) -> None:
        """Show the claims that fail here or need a correction, with what was tried."""
        self._show("differing")

    def summary(self, groups: Mapping[str, Sequence[str]] | None = None) -> None:
        """Show how this chapter's claims came out, in one sentence.

        Args:
            groups: {heading: claims} of a table above the sentence; no table if None.
        """
        self._show("summary", groups={head: list(names) for head, names in (groups or {}).items()})

    def verdict(self, claim_id: str) -> str:
        """Return the verdict of a claim that this run has checked.

        Raises:
            InputError: the claim is not in the ledger or was not checked yet.
        """
        if (claim_id := self._id(claim_id)) not in self.records:
            raise InputError(f"claim '{claim_id}' has no verdict yet; check it in a cell above this one")
        return self.records[claim_id]["verdict"]

    def verdicts(self) -> None:
        """Show the table of all verdicts and write `claims.json` and what this process knows of the run.

        Raises:
            InputError: a claim of the ledger was never checked, or names no experiment or one that was not run.
        """
        for claim in self.claims.values():
            if claim.not_testable and claim.id not in self.records:
                self.records[claim.id] = judge(claim, {}, self.preset)
        if missing := [claim_id for claim_id in self.claims if claim_id not in self.records]:
            raise InputError(f"the ledger has {len(missing)} claims that no cell checks: {', '.join(missing)}")
        settings.check_runs(self.claims.values(), self.asked, self._models)
        records = [self.records[claim_id] for claim_id in self.claims]
        write_json(
            self.out / "claims.json",
            {
                "schema": SCHEMA,
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
            "asked": self._asked(),
            "seeds": self.seeds,
            "notebook_seconds": round(time.perf_counter() - self._start, 1),
        }
        write_json(self.out / "circumstances.json", about)
        self._show("verdicts")

    def verdict_text(self) -> str:
        """Return every verdict with its numbers as text, the form that tests compare."""
        return cards.text_lines(self.claims.values(), self.records)
