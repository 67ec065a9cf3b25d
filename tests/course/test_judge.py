"""Submissions of every kind, judged: right, wrong, partial, empty, broken, hostile; points, reasons, nothing hidden."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from traindyn.run.course import assignment, check, submission
from traindyn.run.course.judge import Judge

SECRET = "a secret of the tests"


@pytest.fixture
def grade(toy, lane, tmp_path, write):
    """A function that writes a notebook with these answers and grades it: points per question, and the result."""
    judge = Judge(toy, SECRET)

    def graded(answers=None, change=None, path=None, variant=None, **more):
        path = path or write(toy, tmp_path / "bare.ipynb", answers, change, **more)
        result = judge.grade(submission.read(path, toy), lane, variant)
        return [question.earned for question in result.questions], result

    return graded


def reasons(result, place: int) -> str:
    return " | ".join(part.reason for part in result.questions[place].parts)


def test_right_wrong_partial_and_empty(grade, right):
    assert grade(right)[0] == [3, 2, 4]
    assert grade({})[0] == [0, 0, 0]
    some = {"scale": "def scale(x):\n    return FACTOR * np.abs(x) * np.sign(x) if np.ndim(x) == 1 else 0 * x"}
    points, result = grade(some)
    assert points == [2, 0, 0]
    assert "largest difference 1 of the largest entry" in reasons(result, 0)
    assert result.questions[1].notes == ["not filled in"]
    assert result.as_json()["earned"] == 2 and json.dumps(result.as_json())


def test_a_wrong_factor_is_named(grade, right):
    _, result = grade({**right, "scale": right["scale"].replace("FACTOR", "3 * FACTOR")})
    assert "about 3 times what it should be" in reasons(result, 0)


def test_the_roster_s_variant_decides_the_inputs_and_the_answer(grade, right):
    assert grade(right, variant="1")[0] == [3, 2, 4]
    constant = {**right, "scale": "def scale(x):\n    return 2 * np.asarray(x)"}
    assert grade(constant)[0][0] == 3 and grade(constant, variant="1")[0][0] == 0


def test_a_failed_part_of_a_claim_has_number_threshold_and_margin(grade, right):
    points, result = grade({**right, "study": right["study"].replace("900", "9")})
    assert points[2] == 2
    narrow = next(part for part in result.questions[2].parts if part.name == "narrow")
    assert narrow.says == "it spreads by at most 0.03"
    assert narrow.reason.startswith("measured ") and "asked ≤ 0.03" in narrow.reason and "margin −" in narrow.reason


@pytest.mark.parametrize(
    ("study", "said"),
    [
        ("[{'seed': s, 'n': 900, 'average': 0.5} for s in seeds]", "'average' is not what the study gives"),
        ("[{'seed': s, 'n': 5000, 'average': 0.5} for s in seeds]", "no whole number from 1 to 1000"),
        ("[{'seed': s, 'n': float('nan'), 'average': 0.5} for s in seeds]", "cannot be computed again"),
        ("[{'seed': s, 'n': float('inf'), 'average': 0.5} for s in seeds]", "cannot be computed again"),
        ("[{'seed': s, 'n': 900} for s in seeds]", "lack the column 'average'"),
        ("[{'seed': s, 'average': 0.5} for s in seeds[:-1]]", "not those of the seeds"),
        ("[{'seed': 1, 'average': 0.5} for s in seeds]", "not those of the seeds"),
        ("[{'seed': seeds[0], 'n': 1, 'average': 0.5}] * 2", "not those of the seeds"),
        ("[{'seed': s, 'n': 9, 'average': 0.5} for s in seeds] * 2", "two rows have the same seed"),
        ("[{'seed': s, 'n': 9, 'average': 'half'} for s in seeds]", "something that is no number"),
        ("[{'seed': s, 'n': 9, 'average': [1, 2]} for s in seeds]", "something that is no number"),
        ("[{'n': 9, 'average': 0.5} for s in seeds]", "lack the column 'seed'"),
        ("{'seed': [1, 2], 'average': [1]}", "expected a list of rows"),
        ("[]", "expected a list of rows"),
        ("[1, 2]", "expected a list of rows"),
        ("0.5", "expected a list of rows"),
        ("None", "expected a list of rows"),
        ("[{'seed': s, 'average': 0.5} for s in range(9000)]", "too many rows"),
        ("[{'seed': float('inf'), 'n': 1, 'average': 0.5} for s in seeds]", "not those of the seeds"),
        ("[{'seed': s + 0.5, 'n': 1, 'average': 0.5} for s in seeds]", "not those of the seeds"),
    ],
)
def test_evidence_that_is_none_earns_nothing(grade, right, study, said):
    points, result = grade({**right, "study": f"def study(seeds):\n    return {study}"})
    assert points == [3, 2, 0] and said in reasons(result, 2), reasons(result, 2)


def test_a_table_by_columns_is_evidence_too(grade, right):
    code = "def study(seeds):\n    means = [np.random.default_rng(s).random(900).mean() for s in seeds]\n"
    code += "    return {'seed': seeds, 'n': [900] * len(seeds), 'average': np.array(means)}"
    assert grade({**right, "study": code})[0] == [3, 2, 4]


@pytest.mark.parametrize(
    "result",
    ["float('nan')", "float('inf')", "[[1, 2], [3]]", "'2'", "{}", "[]", "None", "True", "np.ones(0)",
     "np.ones((9, 9))", "10**18", "[10**18, 'a']", "np.float32(1)", "[[[[[1]]]]]", "{'a': {'b': [1]}}",
     "np.array(['a'])", "object"],
)  # fmt: skip
def test_results_of_any_form_are_wrong_and_nothing_else(grade, right, result):
    points, graded = grade({**right, "total": f"def total(x):\n    return {result}"})
    assert points == [3, 0, 4] and reasons(graded, 1)


# ---- notebooks that are not as they should be


def cell(book, name):
    return next(one for one in book["cells"] if one["metadata"].get("nbgrader", {}).get("grade_id") == name)


def test_a_deleted_cell_costs_its_question_alone(grade, right):
    def without(book):
        book["cells"].remove(cell(book, "scale"))

    points, result = grade(right, without)
    assert points == [0, 2, 4] and result.questions[0].notes == ["its cell is missing"]


def test_an_answer_in_a_cell_of_its_own_is_found(grade, right):
    def moved(book):
        cell(book, "scale")["metadata"] = {}

    points, result = grade(right, moved)
    assert points == [3, 2, 4] and "another cell" in result.questions[0].notes[0]


def test_of_a_duplicated_cell_the_last_that_defines_the_function_counts(grade, right):
    def twice(book):
        copy = json.loads(json.dumps(cell(book, "scale")))
        book["cells"] += [{**copy, "source": "x = 1"}]
        book["cells"].insert(0, {**copy, "source": "def scale(x): return 0"})

    points, result = grade(right, twice)
    assert points == [3, 2, 4] and "there 3 times" in result.questions[0].notes[0]


def test_changed_tests_and_given_code_play_no_part(grade, right):
    def changed(book):
        cell(book, "test-scale")["source"] = "assert True"
        cell(book, "given")["source"] = "raise SystemExit"

    points, result = grade({**right, "total": "def total(x): return 0"}, changed)
    assert points == [3, 0, 4] and "tests were changed" in result.questions[0].notes[0]


HOOKS = """from IPython import get_ipython
get_ipython().input_transformers_cleanup.append(lambda lines: ['pass'])
get_ipython().events.register('post_run_cell', lambda *a: None)
"""


def test_hooks_and_other_cells_are_never_run(grade, right, tmp_path):
    mark = tmp_path / "ran"

    def hooked(book):
        code = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
        book["cells"].insert(0, {**code, "source": f"{HOOKS}\nopen({str(mark)!r}, 'w')"})

    assert grade({**right, "total": "def total(x): return 0"}, hooked)[0] == [3, 0, 4]
    assert not mark.exists()


def test_hooks_in_an_answer_earn_nothing(grade, right):
    points, _ = grade({**right, "total": f"{HOOKS}\ndef total(x): return 0"})
    assert points == [3, 0, 4]


def test_a_patched_function_helps_neither_its_own_question_nor_the_next(grade, right):
    patch = "np.allclose = np.array_equal = lambda *a, **k: True\nnp.sum = lambda x: 0.0\n"
    points, _ = grade({**right, "scale": patch + "def scale(x): return 0 * x"})
    assert points == [0, 2, 4]


BOMBS = ["-" * 90_000 + "1", "(" * 90_000, "x" + ".a" * 40_000, "a=" * 30_000 + "1", "[" * 200 + "]" * 200]


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb[:2])
def test_code_that_breaks_a_parser_breaks_the_worker_s(grade, right, bomb):
    points, _ = grade({**right, "total": f"{bomb}\ndef total(x): return 0"})
    assert points == [3, 0, 4]


def test_magics_are_left_out_and_syntax_errors_named(grade, right):
    points, result = grade(
        {**right, "scale": "%matplotlib inline\n" + right["scale"] + "\n!ls", "total": "def total(x:"}
    )
    assert points == [3, 0, 4]
    assert "Jupyter" in result.questions[0].notes[0]
    assert "SyntaxError in line 1" in reasons(result, 1)


def test_another_kernel_is_named(grade, right):
    def kernel(book):
        book["metadata"]["kernelspec"] = {"name": "ir", "language": "R", "display_name": "R"}

    points, result = grade(right, kernel)
    assert points == [3, 2, 4] and "another kernel" in result.notes[0]


def test_bytes_that_are_not_utf_8_are_replaced(grade, right):
    answers = {**right, "total": "# Größe\n" + right["total"]}
    points, result = grade(answers, encoding="latin-1")
    assert points == [3, 2, 4] and "not UTF-8" in result.notes[0]


def test_a_byte_order_mark_does_no_harm(grade, right, tmp_path):
    path = grade(right) and tmp_path / "bare.ipynb"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert grade(path=path)[0] == [3, 2, 4]


BROKEN = {
    "empty": b"",
    "spaces": b" \n",
    "no json": b"{",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "nested": b"[" * 200_000,
    "no cells": b"{}",
    "cells are none": b'{"cells": null}',
    "cells are a word": b'{"cells": "abc"}',
    "no cell": b'{"cells": []}',
    "cells of other kinds": b'{"cells": [1, null, "a", [], {}]}',
    "sources of other kinds": b'{"cells": [{"cell_type": "code", "source": {"a": 1}}, {"source": [1, null]}]}',
    "metadata of other kinds": b'{"cells": [{"metadata": []}, {"metadata": {"nbgrader": 1}},'
    b' {"metadata": {"nbgrader": {"grade_id": ["scale"]}}}], "metadata": {"kernelspec": []}}',
    "a zip": b"PK\x03\x04" + bytes(range(256)),
    "a long number": b'{"cells": ' + b"9" * 10_000 + b"}",
    "surrogates": b'{"cells": [{"cell_type": "code", "source": "def scale(x): return \'\\ud800\'",'
    b' "metadata": {"nbgrader": {"grade_id": "scale"}}}]}',
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_and_earns_nothing(grade, tmp_path, name):
    path = tmp_path / "bare.ipynb"
    path.write_bytes(BROKEN[name])
    points, result = grade(path=path)
    assert points == [0, 0, 0]
    assert result.notes or any(question.notes for question in result.questions)


def test_a_notebook_of_format_3_is_read(grade, right, toy):
    def old(book):
        cells = [{**one, "input": one.pop("source")} if one["cell_type"] == "code" else one for one in book["cells"]]
        return {"worksheets": [{"cells": cells}], "metadata": {}, "nbformat": 3}

    assert grade(right, old)[0] == [3, 2, 4]


def test_a_huge_file_and_a_huge_cell_are_not_read(grade, right, tmp_path, monkeypatch):
    points, result = grade({**right, "scale": right["scale"] + "\n#" + "x" * 200_000})
    assert points == [0, 2, 4] and "too long" in result.questions[0].notes[0]
    monkeypatch.setattr(submission, "LARGEST", 1000)
    points, result = grade(right)
    assert points == [0, 0, 0] and "larger than" in result.notes[0]


def test_files_are_found_by_name_then_by_kind(toy, right, tmp_path, write):
    folder = tmp_path / "handed-in"
    folder.mkdir()
    assert submission.find(folder, "bare") == (None, ["no notebook was handed in (expected bare.ipynb)"])
    other = write(toy, folder / "sub" / "Bare (2).ipynb", right)
    found, notes = submission.find(folder, "bare")
    assert found == other and "is called 'Bare (2).ipynb'" in notes[0]
    write(toy, folder / ".ipynb_checkpoints" / "bare-checkpoint.ipynb", right)
    os.symlink(other, folder / "bare.ipynb")
    assert submission.find(folder, "bare")[0] == other, "a link may lead to another's file"


# ---- nothing hidden comes out


LEAK = "def total(x):\n    print(x, file=__import__('sys').stderr)\n    raise {}(' '.join(map(repr, x.tolist())))"


@pytest.mark.parametrize("kind", ["ValueError", "type('E' + repr(x[0]), (Exception,), {})", "KeyError", "SystemExit"])
def test_an_exception_that_holds_an_input_is_not_told(grade, right, toy, kind):
    _, result = grade({**right, "total": LEAK.format(kind)})
    hidden = [
        abs(x) for arguments, _ in Judge(toy, SECRET)._draw("total", "sum", None) for x in arguments["x"].tolist()
    ]
    text = json.dumps(result.as_json())
    assert hidden and not any(repr(x)[:8] in text for x in hidden)
    assert "was raised in line" in reasons(result, 1)


def test_another_secret_gives_other_inputs_and_the_same_secret_the_same(toy):
    one, again, other = (Judge(toy, secret)._draw("scale", "any", None)[0][0]["x"] for secret in ("a", "a", "b"))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_the_judge_itself_imports_no_kernel_and_runs_no_cell():
    for path in Path(assignment.__file__).parent.glob("*.py"):
        text = path.read_text()
        assert "pickle" not in text or "unpickled" in text, path
        assert "exec(" not in text or path.name == "worker.py", path
        assert "nbclient" not in text and "ExecutePreprocessor" not in text, path


# ---- the assignments themselves


def test_the_toy_assignment_grades_as_it_should(toy, lane):
    assert check.check("bare", lane) == []


def test_the_check_finds_what_is_wrong(toy, lane, monkeypatch):
    wrong = check.wrong_answers("bare")
    lacking = {"scale": wrong["scale"][:1], "total": [check.Wrong("right", {"sum"}, change=("of all", "of  all"))] * 2}
    monkeypatch.setattr(check, "wrong_answers", lambda chapter: lacking)
    found = "\n".join(check.check("bare", lane))
    assert "'scale' has 1 wrong answers" in found and "'study' has 0" in found
    assert "wrong answer 'right': loses nothing; expected sum" in found


def test_the_check_finds_solutions_in_a_release(toy, monkeypatch):
    monkeypatch.setattr(check.release, "notebook", lambda made, variant: made.book)
    found = "\n".join(check._release(toy))
    assert "mark of a solution" in found and "# the factor decides" in found
