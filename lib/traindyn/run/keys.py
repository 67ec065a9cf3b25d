"""The key of a run's content: what it depends on, each thing by itself, so that a change can be named."""

from __future__ import annotations

import platform
from pathlib import Path

import jupytext
import nbformat

from traindyn import compute, files, parameters
from traindyn.learn.data import local, registry
from traindyn.parameters import Resolved
from traindyn.report import provenance
from traindyn.run import notebook
from traindyn.run.notebook import PLAINLY, How

# modules of `report` that judge evidence, dress it or describe the run: they work on finished runs and do not
# change one; a test has every module stand in one of the two lists
JUDGING = (
    "cards", "claims", "close", "columns", "criteria", "entries", "judge", "language", "margins", "provenance", "rows",
    "settings", "stability", "templating", "terms", "words",
)  # fmt: skip
RECORDING = ("__init__", "chapter", "figures", "outputs", "plots", "showing")
RUNNING = ("execute", "notebook")
# where things lie, and which of a machine's GPUs is used: its model is in the key
LEFT_OUT = (*provenance.PLACES, "IPYTHONDIR", "CUDA_VISIBLE_DEVICES")
UNREAD = {"seeds", "sweeps"}  # folders of archived results that no notebook reads: pools of seeds, sweeps


def run_key(resolved: Resolved, how: How = PLAINLY, around: dict[str, str] | None = None) -> str:
    """Return the key of a run's content: equal keys mean that executing again would change nothing.

    It covers the chapter's code cells, parameters and sizes, the library's sources as far as this chapter can reach
    them, Python and the packages that compute and draw, the archived results and the local data sets, the kind
    and model of the device, and the environment variables that change numbers. Criteria, prose, cards and templates are
    not in it: they are applied to a finished run.

    Args:
        resolved: the run.
        how: another kernel or report mode, which change the executed notebook.
        around: of `surroundings`, where many runs share them.

    Raises:
        InputError: the run asks for a device that is not there, or an environment variable is malformed.
    """
    around = around or surroundings(resolved.chapter, resolved.parameters.get("device", "auto"))
    return files.content_key({}, resolved.parameters, resolved.sizes, resolved.preset, around, how.key())


def surroundings(chapter: str, device: str = "auto") -> dict[str, str]:
    """Return a key for each thing beside its parameters and sizes that a run of a chapter depends on.

    Raises:
        InputError: the device is not there, or an environment variable is malformed.
    """
    root = files.project_root()
    found = compute.pick_device(device)
    compute.memory_budget()  # a malformed TRAINDYN_MEMORY is told before anything runs
    cells = [
        (cell.source, cell.metadata.get("tags", [])) for cell in _code_cells(jupytext.read(parameters.source(chapter)))
    ]
    results = root / "data" / "results" / chapter
    archived = (path for path in results.rglob("*") if not UNREAD & {*path.relative_to(results).parts})
    profile = (root / "ipython" / "profile_default").glob("*.py")
    settings = {**provenance.environment(), **notebook.kernel_environment(root)}
    variables = {name: value for name, value in settings.items() if name not in LEFT_OUT}
    return {
        "the chapter's code": files.content_key({}, cells),
        "the library": files.content_key(_library(chapter) | files.relative(profile, root)),
        "archived results": files.content_key(files.relative(archived, root)),
        "versions": files.content_key({}, provenance.versions()),
        "device": files.content_key({}, [found.type, provenance.device_name(found), platform.system()]),
        "environment variables": files.content_key({}, variables),
        "data": files.content_key({}, _data_state()),
    }


def _code_cells(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def _library(chapter: str) -> dict[str, Path]:
    """Return the sources a chapter can depend on: all but other chapters' studies, what judges, and most of `run`."""
    package = Path(compute.__file__).parent

    def counts(path: Path) -> bool:
        room, *below = path.relative_to(package).parts
        if room == "run":
            return path.stem in RUNNING
        if room == "report":
            return path.stem not in JUDGING
        return room != "studies" or below[0] in (chapter, "__init__.py")

    return files.relative((path for path in package.rglob("*.py") if counts(path)), package, "traindyn/")


def _data_state() -> list[tuple[str, str]]:
    """Return name and checksum, as the manifests give them, of every local data set whose file is there.

    The registry's own checksum comes with them.
    """
    found = [
        (entry["name"], entry["sha256"])
        for folder in local.folders()
        for entry in local.manifest(folder)
        if (folder / entry["file"]).is_file()
    ]
    if listed := registry.registry_file():
        found.append(("registry", files.sha256_file(listed)))
    return sorted(found)
