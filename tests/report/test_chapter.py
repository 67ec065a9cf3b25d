"""A chapter's run: parameters and sizes in, tables, figures, claims and circumstances out."""

import dataclasses
import json
import shutil

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
import torch

from traindyn import evidence
from traindyn.errors import InputError
from traindyn.report import plots, provenance
from traindyn.report.chapter import Chapter

PARAMETERS = {"seed": 7, "n_seeds": 2, "rate": 0.5, "law": "torch", "device": "cpu"}
FRAME = pd.DataFrame({"step": [0, 1, 2] * 2, "w": [1.0, 0.5, 0.25, 1.0, 0.4, 0.2], "law": ["a"] * 3 + ["b"] * 3})


@pytest.fixture
def shown(monkeypatch):
    """Collects what the chapter displays."""
    seen = []
    for module in ("chapter", "figures"):
        monkeypatch.setattr(f"traindyn.report.{module}.display", lambda value, **_: seen.append(value))
    return seen


def executed(tmp_path, preset="smoke", **changes):
    run = {
        "preset": preset,
        "sizes": {"descent": {"steps": 3, "scale": 1.0}},
        "is_preset": True,
        "out": str(tmp_path / "out"),
    }
    return Chapter("toy", {**PARAMETERS, "_run": run, **changes})


def ratios(seeds=(7, 8, 9)) -> pd.DataFrame:
    return evidence.table(pd.DataFrame({"seed": list(seeds), "ratio": 0.5}))


def ends(corrected=True) -> pd.DataFrame:
    return evidence.table(pd.DataFrame({"rate": [1.5, 2.5], "final": [1e-9, 1e9 if corrected else 1.0]}), "rate")


SLOPE = evidence.table(pd.DataFrame({"seed": [], "slope": []}, dtype=float))


def check_all(ch: Chapter) -> None:
    ch.size("descent")
    ch.check("contraction", ratios(), {"kept": 0.5})
    ch.check("toy.slip", ends(), note="A note.")
    ch.check("trend", SLOPE)


def test_the_setting_of_a_claim_follows_from_the_sizes_that_were_asked_for(toy_book, tmp_path, shown):
    ch = executed(tmp_path)
    ch.size("descent", steps=50)
    ch.check("trend", SLOPE)
    ch.check("contraction", ratios(), {"kept": 0.5})
    found = ch.records["toy.trend"]["setting"]
    assert found["word"] == "smaller" and found["said"] == "steps 50; source: steps 100" and found["open"] == ["scale"]
    assert ch.records["toy.contraction"]["setting"]["said"] == "no setting printed"


def test_a_claim_whose_experiment_was_never_asked_for_is_refused(toy_book, tmp_path, shown):
    ch = executed(tmp_path)
    ch.check("contraction", ratios(), {"kept": 0.5})
    ch.check("toy.slip", ends())
    ch.check("trend", SLOPE)
    with pytest.raises(InputError, match="never asks ch.size\\('descent'\\)"):
        ch.verdicts()


def test_a_run_under_the_executor(toy_book, tmp_path, shown):
    ch = executed(tmp_path)
    assert ch.seeds == [7, 8] and ch.preset == "smoke" and ch.size("descent").steps == 3 and not ch.interactive
    assert ch.device.type == "cpu" and ch.dtype == torch.float32
    assert torch.equal(torch.rand(2, generator=ch.generator("x")), torch.rand(2, generator=ch.generator("x")))
    assert not torch.equal(torch.rand(2, generator=ch.generator("x")), torch.rand(2, generator=ch.generator("y")))
    check_all(ch)
    ch.verdicts()
    written = json.loads((tmp_path / "out" / "claims.json").read_text())
    assert written["schema"] == 2 and written["chapter"] == "toy" and written["parameters_are_preset"] is True
    verdicts = {claim["id"]: claim["verdict"] for claim in written["claims"]}
    assert verdicts == {
        "toy.contraction": "holds",
        "toy.slip": "holds with correction",
        "toy.trend": "undecided",
    }
    first = written["claims"][0]
    assert first["evidence"]["ratio"]["rows"] == [[7, 0.5], [8, 0.5], [9, 0.5]] and first["seeds"] == 3
    assert first["parts"]["ratio"]["outcome"] is True and first["parts"]["ratio"]["threshold"] == 1e-12
    about = json.loads((tmp_path / "out" / "circumstances.json").read_text())
    assert about["parameters"] == PARAMETERS and about["seeds"] == [7, 8] and "torch" in about["versions"]
    assert "toy.slip: holds with correction\n    printed = 1e-09" in ch.verdict_text()
    assert ch.verdict("slip") == "holds with correction"


def test_by_hand_it_writes_beside_no_run(toy_book, shown):
    ch = Chapter("toy", {**PARAMETERS, "n_seeds": 3, "seed": 100, "device": "auto"})
    assert ch.interactive and ch.preset == "laptop" and ch.is_preset and ch.size("descent").steps == 10
    assert ch.out == toy_book / "_build" / "interactive" / "toy"
    assert not Chapter("toy", PARAMETERS).is_preset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": "fast"}, "'rate': expected float"),
        ({"law": "hee"}, "did you mean 'he'"),
        ({"n_seeds": 0}, "out of range"),
        ({"device": "cuda:7"}, "CUDA devices"),
    ],
)
def test_wrong_parameters_are_told_in_one_line(toy_book, tmp_path, change, message):
    with pytest.raises(InputError, match=message) as caught:
        executed(tmp_path, **change)
    assert "\n" not in str(caught.value)


def test_checks_follow_the_ledger(toy_book, tmp_path, shown):
    ch = executed(tmp_path)
    with pytest.raises(InputError, match="did you mean 'toy.slip'"):
        ch.check("toy.slop")
    with pytest.raises(InputError, match="unknown experiment 'ascent'"):
        ch.size("ascent")
    with pytest.raises(InputError, match="'toy.slip', part 'printed'.*no evidence is called 'final'"):
        ch.check("slip", {"finale": 1.0})
    ch.check("slip", ends(corrected=False))
    assert ch.verdict("slip") == "fails"
    with pytest.raises(InputError, match="checked twice"):
        ch.check("slip", ends())
    with pytest.raises(InputError, match="no cell checks: toy.contraction, toy.trend"):
        ch.verdicts()
    assert not (tmp_path / "out" / "claims.json").exists()


def test_too_few_seeds_leave_a_claim_undecided(toy_book, tmp_path, shown):
    ch = executed(tmp_path)
    ch.check("contraction", ratios([7, 8]), {"kept": 0.5})
    assert ch.verdict("contraction") == "undecided" and "asks for 3" in ch.records["toy.contraction"]["why"]


def test_a_figure_comes_with_number_caption_and_table(toy_book, tmp_path, shown):
    ch = executed(tmp_path)
    fig, (ax,) = plots.panels()
    plots.curves(ax, FRAME, "step", "w", hue="law")
    ch.figure("descent", fig, caption="Two\n curves.", alt="Falling.", data=FRAME)
    text = shown[-1]["text/markdown"]
    assert "```{figure} figures/descent.svg\n:name: fig-toy-descent\n:alt: Falling.\n\nTwo curves.\n```" in text
    assert "{download}`descent.csv <tables/descent.csv>`" in text and "6 rows" in text
    assert (tmp_path / "out" / "figures" / "descent.svg").read_text().count("<svg") == 1
    assert pd.read_csv(tmp_path / "out" / "tables" / "descent.csv").equals(FRAME)
    assert not plt.fignum_exists(fig.number)


def test_an_archived_run_is_read_beside_a_live_one(toy_book, tmp_path, shown):
    ch = executed(tmp_path, preset="laptop")
    assert ch.archived("descent") is None
    folder = toy_book / "data" / "results" / "toy" / "paper"
    (folder / "tables").mkdir(parents=True)
    try:
        FRAME.to_csv(folder / "tables" / "descent.csv", index=False)
        (folder / "provenance.json").write_text(json.dumps({"sizes": {"descent": {"steps": 9}}}))
        assert ch.archived("descent").equals(FRAME) and ch.archived_size("descent").steps == 9
        assert ch.archived("other") is None
        assert (
            executed(tmp_path).archived("descent") is None and executed(tmp_path, "paper").archived("descent") is None
        )
    finally:  # other tests share the toy book
        shutil.rmtree(toy_book / "data" / "results")


def test_curves_are_told_apart_without_colour():
    fig, (ax,) = plots.panels()
    plots.curves(ax, FRAME, "step", "w", hue="law", band="range", log="y")
    first, second = ax.get_lines()
    assert first.get_linestyle() != second.get_linestyle()
    assert ax.get_legend() is not None and ax.get_yscale() == "log" and ax.get_xlabel() == "step"
    plt.close(fig)


def test_facets_draw_one_panel_for_every_value():
    fig = plots.facets(FRAME.assign(run="r"), "step", "w", cols="law", rows="run", hue="law")
    assert [ax.get_title() for ax in fig.axes] == ["r, a", "r, b"]
    plt.close(fig)
    fig = plots.facets(FRAME.assign(m=FRAME["step"]), "step", "w", cols="m", kind="points", wrap=2)
    assert fig.axes[0].get_title() == f"$m$ = {FRAME['step'].iloc[0]:g}"
    plt.close(fig)
    fig = plots.facets(FRAME, "step", "w", cols="step", kind="points", wrap=2)
    assert fig.axes[0].get_title() == f"step {FRAME['step'].iloc[0]:g}"
    assert [ax.axison for ax in fig.axes] == [True, True, True, False]
    plt.close(fig)


def test_circumstances_outside_a_checkout(tmp_path):
    assert provenance.revision(tmp_path) == {"commit": None, "changed": None}
    about = provenance.collect(tmp_path, torch.device("cpu"), torch.float64)
    assert about["dtype"] == "float64" and about["device"]["type"] == "cpu" and about["peak_memory_mb"] > 10


@pytest.fixture
def outputs(monkeypatch):
    """Collects what the chapter displays, with its metadata."""
    seen = []
    monkeypatch.setattr("traindyn.report.chapter.display", lambda value, **more: seen.append((value, more["metadata"])))
    return seen


def test_what_hangs_on_verdicts_is_shown_with_a_marker(toy_book, tmp_path, outputs):
    ch = executed(tmp_path)
    with pytest.raises(InputError, match="has no verdict yet"):
        ch.sentence("slip", holds="It holds.", fails="It fails.")
    check_all(ch)
    ch.sentence("slip", holds="It holds.", fails="It fails.", otherwise="It holds at rate 2.")
    bundle, metadata = outputs[-1]
    assert "It holds at rate 2." in bundle["text/html"] and "toy.slip" in bundle["text/plain"]
    said = {"holds": "It holds.", "fails": "It fails.", "otherwise": "It holds at rate 2."}
    assert metadata == {"traindyn": {"show": "sentence", "id": "toy.slip", **said}}
    assert outputs[0][1] == {"traindyn": {"show": "claim", "id": "toy.contraction"}}
    for show in ("slips", "differing", "summary", "verdicts", "card"):
        getattr(ch, show)()
        assert outputs[-1][1]["traindyn"]["show"] == show and "<" in outputs[-1][0]["text/html"]
    json.dumps([metadata for _, metadata in outputs])


def test_a_glued_number_is_what_myst_nb_reads(toy_book, tmp_path, outputs):
    extract = pytest.importorskip("myst_nb.ext.glue").extract_glue_data_cell
    ch = executed(tmp_path)
    ch.glue("peak", torch.tensor(1.25, dtype=torch.float64))
    bundle, metadata = outputs[-1]
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", bundle, metadata=metadata)])
    ((name, found),) = extract(cell)
    assert name == "peak" and found["data"] == {"text/plain": "1.25"} and cell.outputs == []
    with pytest.raises(InputError, match="'peak' is used twice"):
        ch.glue("peak", 1)
    with pytest.raises(InputError, match="expected one number, got list"):
        ch.glue("other", [1.0])


def test_an_archived_figure_is_drawn_by_the_same_function(toy_book, tmp_path, shown):
    def draw(table):
        fig, (ax,) = plots.panels()
        plots.curves(ax, table, "step", "w", hue="law")
        return fig

    folder = toy_book / "data" / "results" / "toy" / "paper" / "tables"
    folder.mkdir(parents=True)
    try:
        FRAME.to_csv(folder / "descent.csv", index=False)
        executed(tmp_path).archived_figure("descent", draw, caption="c", alt="a")  # smoke: nothing
        ch = executed(tmp_path, preset="laptop")
        ch.archived_figure("other", draw, caption="c", alt="a")  # no such table
        assert shown == []
        ch.archived_figure("descent", draw, caption=lambda table: f"{len(table)} rows.", alt="a")
        assert "fig-toy-descent-archived" in shown[-1]["text/markdown"] and "6 rows." in shown[-1]["text/markdown"]
    finally:  # other tests share the toy book
        shutil.rmtree(toy_book / "data" / "results")


def test_what_outlives_a_process_has_a_folder_of_its_content(toy_book, tmp_path, shown):
    assert executed(tmp_path).keep is None
    run = {"preset": "smoke", "sizes": {}, "is_preset": True, "out": str(tmp_path / "out"), "key": "abc"}
    assert Chapter("toy", {**PARAMETERS, "_run": {**run, "key": ""}}).keep is None  # of no content: nothing is kept
    assert Chapter("toy", {**PARAMETERS, "_run": run}).keep == toy_book / "_build" / "kept" / "abc"


def test_an_archived_claim_is_read_and_a_sentence_said(toy_book, tmp_path, shown):
    folder = toy_book / "data" / "results" / "toy" / "paper"
    folder.mkdir(parents=True)
    try:
        ch = executed(tmp_path, preset="laptop")
        assert ch.archived_claim("contraction") is None
        ch.check("contraction", ratios(), {"kept": 0.5})
        kept = {**ch.records["toy.contraction"], "verdict": "fails"}  # a word of its day: the numbers say otherwise
        old, bare = {"id": "toy.slip", "verdict": "holds"}, {**kept, "id": "toy.trend"}
        (folder / "claims.json").write_text(json.dumps({"claims": [kept, old, bare]}))
        assert ch.archived_claim("contraction")["verdict"] == "holds"
        assert ch.archived_claim("slip") is None  # no evidence
        assert ch.archived_claim("toy.trend") is None  # without a number that its test asks for
        with pytest.raises(InputError, match="is not in claims.yaml"):
            ch.archived_claim("trent")
        assert executed(tmp_path).archived_claim("contraction") is None  # smoke
        ch.say("In *all* of them.")
        assert shown[-1]["text/markdown"] == "In *all* of them."
    finally:
        shutil.rmtree(toy_book / "data" / "results")


def test_a_chapter_changes_no_setting_of_the_process(toy_book, tmp_path, shown):
    before = torch.get_num_threads(), torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        torch.set_num_threads(2)
        torch.backends.cudnn.allow_tf32 = True
        executed(tmp_path)
        assert torch.get_num_threads() == 2 and torch.backends.cudnn.allow_tf32
    finally:
        torch.set_num_threads(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_definitions_are_kept_with_the_verdict(toy_book, tmp_path, shown):
    ch = executed(tmp_path)
    claim = ch.claims["toy.slip"]
    ch.claims["toy.slip"] = dataclasses.replace(claim, definitions=("descent.steps",))
    ch.check("slip", ends())
    assert ch.records["toy.slip"]["definitions"] == {"descent.steps": 3}
    ch.claims["toy.trend"] = dataclasses.replace(ch.claims["toy.trend"], definitions=("descent.step",))
    with pytest.raises(InputError, match="'descent.step' is not a size"):
        ch.check("trend", SLOPE)
