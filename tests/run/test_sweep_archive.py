"""A sweep's numbers are archived only where it is finished and clean, and come back on the page."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from traindyn import files
from traindyn.errors import InputError
from traindyn.report.claims import load_ledger
from traindyn.run import cli, gather, render, sweep_archive
from traindyn.run.results import Findings


def claims(seed: int, rate: float) -> dict:
    rows = [[s, rate * s] for s in range(seed, seed + 3)]
    evidence = {"final": {"cases": [], "rows": rows}, "kept": {"cases": ["layer"], "rows": [[None, 1, 0.5]]}}
    return {"claims": [{"id": "toy.slip", "verdict": "holds", "setting": None, "parts": {}, "evidence": evidence}]}


@pytest.fixture
def sweep(toy_book):
    """A finished sweep of the toy chapter over three rates; returns a function that changes its first provenance."""
    folder = toy_book / "_build" / "sweeps" / "toy" / "smoke-1"
    rates, paths = [0.5, 1.0, 1.5], []
    for number, rate in enumerate(rates):
        about = {"point": number, "name": f"smoke-{number}", "status": "done", "key": f"k{number}", "seconds": 30.0}
        paths.append(folder / "points" / f"{number:05d}.parquet")
        gather.write_point(paths[-1], {**about, "message": None}, {"rate": rate}, claims(100, rate))
    gather.gather(paths, folder / "sweep.parquet", {"rate": 0.5})
    described = {"chapter": "toy", "preset": "smoke", "axes": {"rate": rates}, "fixed": {"law": "he"}, "points": 3}
    files.write_json(folder / "sweep.json", described)
    run = toy_book / "_build" / "runs" / "toy" / "smoke-0"
    run.mkdir(parents=True)

    def recorded(**changes):
        git = {"commit": "0123456789abcdef", "changed": False}
        about = {"key": "k0", "files": {}, "git": git, "versions": {"python": "3.11", "torch": "2"}}
        files.write_json(run / "provenance.json", {**about, **changes})
        return folder

    yield recorded
    shutil.rmtree(toy_book / "_build")


def test_a_sweep_is_archived_and_shown(sweep, toy_book, capsys):
    assert cli.main(["archive", str(sweep()), "--only", "final"]) == 0
    place = toy_book / "data" / "results" / "toy" / "sweeps" / "rate"
    assert {path.name for path in place.iterdir()} == {"evidence.csv", "about.json"}
    frame = pd.read_csv(place / "evidence.csv")
    assert frame.columns.tolist() == ["p.rate", "claim", "quantity", "case", "seed", "number"] and len(frame) == 9
    about = json.loads((place / "about.json").read_text())
    assert about["command"] == "traindyn sweep toy --preset smoke -p rate=0.5,1.0,1.5 -p law=he"
    assert about["seconds"] == 90.0 and about["git"]["commit"].startswith("0123")

    found = Findings("toy", "A toy", load_ledger("toy"), [])
    text, made = render.fill("% begin generated sweeps\n% end generated", [found], "sweeping")
    assert about["command"] in text and "3 runs, 1.5 minutes of kernels by the clock; revision `012345678`" in text
    (figure,) = [name for name in made if name.endswith(".svg")]
    assert f"```{{figure}} {figure}\n:alt: final against rate" in text and "mean and 95 % band over 3 seeds" in text
    assert (
        made[figure].count("<svg") == 1
        and made == render.fill("% begin generated sweeps\n% end generated", [found], "sweeping")[1]
    )
    (table,) = [made[name] for name in made if name.endswith(".html")]
    assert "<code>1.5</code>" in table and "<td>152</td>" in table  # 1.5 * 101
    assert render.sweeps([]) == [("No sweep has been archived yet.", False)]
    (place / "evidence.csv").write_text("claim,number\n")
    with pytest.raises(InputError, match=r"cannot be read \(no column case\); archive it again"):
        render.sweeps([found])


def test_what_cannot_be_archived_is_told_and_nothing_is_made(sweep, toy_book, tmp_path):
    def refused(said: str, folder=None, **options):
        with pytest.raises(InputError, match=said):
            sweep_archive.archive(folder or sweep(), **options)
        assert not (toy_book / "data").exists()

    refused("did you mean 'final'", wanted=["finall"])
    refused("is not a sweep", tmp_path)
    refused("tree with changes", sweep(git={"commit": "01", "changed": True}))
    refused("not made from a git checkout", sweep(git={}))
    refused("the runs are gone or were made again", sweep(key="other"))
    folder, described = sweep(), json.loads((sweep() / "sweep.json").read_text())
    files.write_json(folder / "sweep.json", {**described, "points": 4})
    refused("3 of 4 points are done", folder)
    files.write_json(folder / "sweep.json", {**described, "axes": {"seed": [1, 2]}})
    refused("swept seed alone", folder)
    files.write_json(folder / "sweep.json", {**described, "chapter": "gone"})
    refused("'gone', which is not in this book", folder)
