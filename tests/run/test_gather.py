"""A sweep's tables are whole or not there, keep infinity apart from undefined, and are drawn."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from traindyn.errors import InputError
from traindyn.run import gather, sweep_plot


def claims(seed: int, width: int) -> dict:
    part = {"outcome": None, "value": "inf", "operator": "<", "threshold": 1, "margin": None, "seed": seed}
    peak = {
        "cases": ["layer"],
        "rows": [[s, float(layer), width * layer + s] for s in (seed, seed + 1) for layer in (1, 2)],
    }
    never = {"cases": [], "rows": [[seed, "inf"], [seed + 1, None]]}
    record = {"id": "bare.a", "verdict": "undecided", "setting": {"word": "smaller"}, "parts": {"p": part}}
    return {"claims": [{**record, "evidence": {"peak": peak, "never": never}}]}


@pytest.fixture
def folder(tmp_path):
    """A sweep of two widths, two laws and two first seeds, one point of which failed."""
    paths = []
    for number in range(8):
        values = {"width": (8, 64)[number // 4], "law": ("he", "torch")[number // 2 % 2], "seed": 100 + number % 2 * 10}
        found = claims(values["seed"], values["width"]) if number != 7 else None
        about = {"point": number, "name": f"n{number}", "status": "done" if found else "cell", "key": "k"}
        paths.append(tmp_path / "points" / f"{number}.parquet")
        gather.write_point(paths[-1], {**about, "seconds": 1.5, "message": None if found else "no"}, values, found)
    assert gather.gather([*paths, tmp_path / "gone"], tmp_path / "sweep.parquet", values) == 7 * 8 + 1
    return tmp_path


def test_rows_say_how_points_ended_what_was_decided_and_what_was_measured(folder):
    frame = pd.read_parquet(folder / "sweep.parquet")
    assert frame.row.value_counts().to_dict() == {"evidence": 42, "run": 8, "part": 7}
    assert frame[frame.row == "run"].status.tolist() == ["done"] * 7 + ["cell"]
    part = frame[frame.row == "part"].iloc[0]
    assert (part.verdict, part.setting, part.part, part.value) == ("undecided", "smaller", "p", math.inf)
    numbers = frame[(frame.row == "evidence") & (frame.point == 5)].set_index(["quantity", "case", "seed"]).number
    assert numbers["peak", "layer=2", 111] == 64 * 2 + 111 and numbers["never", "", 110] == math.inf
    assert math.isnan(numbers["never", "", 111])
    assert frame["p.width"].dtype == "int64" and set(frame["p.law"]) == {"he", "torch"}
    assert gather.read_point(folder / "points" / "7.parquet")["message"] == "no"
    assert gather.read_point(folder / "points" / "none.parquet") is None


def test_gathering_that_fails_leaves_the_table_as_it_was(folder):
    before = (folder / "sweep.parquet").read_bytes()
    (folder / "points" / "3.parquet").write_bytes(b"half")
    with pytest.raises(Exception, match="arquet"):
        gather.gather(
            sorted((folder / "points").iterdir()), folder / "sweep.parquet", {"width": 1, "law": "a", "seed": 1}
        )
    assert (folder / "sweep.parquet").read_bytes() == before
    assert {path.name for path in folder.iterdir()} == {"points", "sweep.parquet"}


def test_lists_and_none_are_text():
    assert [gather.plain(value) for value in ([1, 2], None, True, 0.5)] == ["[1, 2]", "null", True, 0.5]
    assert json.loads(gather.plain([0.1])) == [0.1]


def test_evidence_is_drawn_against_what_was_swept(folder):
    (path,) = sweep_plot.draw(folder, ["width", "law", "seed"], ["peak"])
    text = path.read_text()
    assert path.name == "a-peak.svg" and text.count("<svg") == 1
    for said in ("width", "peak", "law=he", "layer=1", "95 % band over 4 seeds"):
        assert f"<!-- {said} -->" in text or said in text
    assert sweep_plot.draw(folder, ["width"], ["a"])[0] == path
    assert [one.name for one in sweep_plot.draw(folder, ["width"], ["a", "never"])] == []  # infinite, or undefined
    with pytest.raises(InputError, match="did you mean 'peak'"):
        sweep_plot.draw(folder, ["width"], ["peek"])
    with pytest.raises(InputError, match="beside the seed"):
        sweep_plot.draw(folder, ["seed"])
