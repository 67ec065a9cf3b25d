"""Values by their declared types, lists, ranges and files; and what is no grid: one line, nothing created."""

from __future__ import annotations

import pytest

from traindyn.errors import InputError
from traindyn.run import cli, grid

CELL = """seed: int = 100  # the seed
rate: float = 0.5  # learning rate, above 0
law: str = "torch"  # law, one of torch, he
rates: list[float] = [0.1]  # rates, above 0"""


@pytest.fixture
def book(bare_book):
    """The bare book with parameters of several types."""
    root = bare_book()
    path = root / "chapters" / "bare" / "bare.md"
    path.write_text(path.read_text().replace("seed: int = 1  # the seed", CELL))
    return root


def made(*texts: str):
    return grid.grid("bare", "smoke", grid.parameters.pairs(texts))


def test_lists_and_ranges_make_a_grid_whose_last_axis_varies_fastest(book):
    found = made("seed=200:230:10", "fig-1.width=4,8", "law=he")
    assert found.axes == {"seed": [200, 210, 220], "fig-1.width": [4, 8]} and found.fixed == {"law": "he"}
    assert [found.label(point) for point in (0, 1, 5)] == [
        "seed=200 fig-1.width=4",
        "seed=200 fig-1.width=8",
        "seed=220 fig-1.width=8",
    ]
    assert found.points[5].parameters["law"] == "he" and found.points[5].sizes == {"fig-1": {"width": 8}}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("rate=0.1:0.4:0.1", [0.1, 0.2, 0.3]),
        ("rate=1e-3,2", [0.001, 2.0]),
        ("seed=5:2:-1", [5, 4, 3]),
        ("seed=100:103", [100, 101, 102]),
        ("rates=[1e-1,2],[3]", [[0.1, 2.0], [3.0]]),
    ],
)
def test_values_have_the_declared_type(book, text, values):
    found = made(text).axes[text.split("=")[0]]
    assert found == values and [type(item) for item in found] == [type(item) for item in values]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-p", "wdith=1,2"], "unknown parameter 'wdith'"),
        (["-p", "fig-1.witdh=1,2"], "did you mean 'width'?"),
        (["-p", "seed="], "has an empty value"),
        (["-p", "seed=1,,2"], "has an empty value"),
        (["-p", "seed=1,two"], "expected int, got 'two'"),
        (["-p", "seed=1.5,2"], "expected int"),
        (["-p", "seed=200:200:10"], "is empty"),
        (["-p", "seed=200:300:0"], "is empty"),
        (["-p", "seed=a:b"], "is not a range"),
        (["-p", "seed=1,1"], "stands there twice"),
        (["-p", "seed=1,2", "-p", "seed=3"], "is given twice"),
        (["-p", "seed=0:1000000"], "at most"),
        (["-p", "law=he,xavier"], "not allowed"),
        (["-p", "rate=0.1,0"], "out of range"),
        (["-p", "seed"], "is not a parameter"),
        (["-f", "nowhere.yaml"], "cannot read nowhere.yaml"),
        (["--workers", "0"], "--workers 0"),
        (["--timeout", "-1"], "--timeout -1"),
        (["--memory", "0"], "--memory 0"),
        (["--preset", "tiny"], "unknown preset 'tiny'"),
    ],
)
def test_a_bad_grid_is_one_line_and_creates_nothing(book, capsys, words, said):
    before = sorted(book.rglob("*"))
    assert cli.main(["sweep", "bare", "--preset", "smoke", *words]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
    assert sorted(book.rglob("*")) == before


def test_a_file_gives_values_by_the_declared_type(book, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("rate: 1e-3\nlaw: he\nrates: [1e-1, 2]\nfig-1: {width: 16}\n")
    found = grid.one("bare", "smoke", grid.from_file(path))
    assert found.parameters["rate"] == 0.001 and found.parameters["rates"] == [0.1, 2.0]
    assert found.parameters["law"] == "he" and found.sizes["fig-1"]["width"] == 16
    path.write_text("seed: [1, 2]\nrates: [[1], [2, 3]]\nfig-1.width: [4, 8]\n")
    axes = grid.grid("bare", "smoke", grid.from_file(path)).axes
    assert axes == {"seed": [1, 2], "rates": [[1.0], [2.0, 3.0]], "fig-1.width": [4, 8]}
    assert grid.one("bare", "smoke", [("rates", "1:4")]).parameters["rates"] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("text", ["- 1\n", "a: {b: {c: 1}}\n", "a: [\n", "just words\n"])
def test_a_file_that_is_no_mapping_of_values_is_told(book, tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=str(path)):
        grid.from_file(path)


def test_what_is_typed_wins_over_the_file(book, tmp_path, capsys):
    path = tmp_path / "params.yaml"
    path.write_text("rate: 1e-3\nseed: 7\n")
    assert cli.main(["run", "bare", "--preset", "smoke", "-f", str(path), "-p", "seed=9", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "rate = 0.001" in said and "seed = 9" in said and "would run" in said
    assert not (book / "_build").exists()
