"""The book's own assignments: they grade as they should, a batch of them in time, and each asks what it says."""

from __future__ import annotations

import json
import re
import time

import pytest

from traindyn.run.course import assignment, build, check, grade, release

CHAPTERS = assignment.available()
LOOP = "\n\ndef {entry}(*a, **k):\n    while True: pass\n"


def test_every_chapter_but_those_being_written_has_an_assignment():
    assert {"ntk", "linearity", "quadratic", "catapults", "elasticity", "student_teacher", "hardness"} <= set(CHAPTERS)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_solutions_pass_wrong_answers_lose_and_nothing_hidden_is_released(chapter, lane):
    assert check.check(chapter, lane, variants=["0"], studies=False) == []


@pytest.mark.long
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_same_in_every_variant_and_of_every_wrong_study(chapter, lane):
    assert check.check(chapter, lane) == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_an_assignment_has_its_parts(chapter):
    """Three questions and more, one of them a claim; a text with a rubric; points and minutes as promised."""
    made = assignment.load(chapter)
    questions = made.spec.questions
    assert 3 <= len(questions) <= 6 and sum(q.study is not None for q in questions.values()) == 1 and made.spec.rubrics
    assert len(made.spec.variants) >= 3 and len({json.dumps(one) for one in made.spec.variants.values()}) >= 3
    for name, one in {**questions, **made.spec.rubrics}.items():
        points, text = one.points, made.cells[f"about-{name}"].source
        said = re.search(r"\*(\d+) points, about (\d+) minutes\.\*", text)
        assert said and int(said[1]) == points and 5 <= int(said[2]) <= 60, name
        assert name in made.titles
    for name, question in questions.items():
        assert f"limit: {question.seconds:g} s" in "".join(c.source for c in release.notebook(made, "0").cells)
        assert f"{question.entry}(" in made.cells[f"about-{name}"].source, "the statement names the function"
        assert question.study is not None or len(question.parts) >= 2, "partial credit"
    for rubric in made.spec.rubrics.values():
        assert sum(int(line.split(":")[0]) for line in rubric.lines) == rubric.points


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_variants_stand_in_the_release(chapter):
    made = assignment.load(chapter)
    texts = {name: "\n".join(c.source for c in release.notebook(made, name).cells) for name in made.spec.variants}
    assert len(set(texts.values())) == len(texts)
    assert not any(assignment._PLACE.search(text) for text in texts.values())


@pytest.mark.long
def test_thirty_submissions_are_graded_in_ten_minutes(tmp_path, write):
    """Of one assignment, on two cores; a third of them right, a third wrong, a third hostile."""
    made = assignment.load("ntk")
    wrong = check.wrong_answers("ntk")
    folder = build.build(tmp_path / "c1", ["ntk"])
    (folder / "secret.txt").write_text(check.SECRET)  # whose seeds say what a wrong study loses
    expected = {}
    for number in range(30):
        answers = {name: made.solution(name) for name in made.spec.questions}
        lost = 0.0
        if number % 3 == 1:
            for name, question in made.spec.questions.items():
                one = wrong[name][number % len(wrong[name])]
                answers[name] = one.answer(answers[name])
                points = {part.name: part.points for part in question.parts}
                if question.study is not None:
                    points = {"recomputed": question.study.recomputed, **question.study.points}
                lost += sum(points[part] for part in one.loses)
        if number % 3 == 2:
            name = list(made.spec.questions)[number % len(made.spec.questions)]
            answers[name] += LOOP.format(entry=made.spec.questions[name].entry)
            lost += made.spec.questions[name].points
        student = f"student-{number:02d}"
        expected[student] = sum(question.points for question in made.spec.questions.values()) - lost
        write(made, folder / "submitted" / student / "ntk" / "ntk.ipynb", answers)
    start = time.monotonic()
    found = {one.student.id: one.graded.earned for one in grade.grade(folder, jobs=2)}
    spent = time.monotonic() - start
    print(f"30 submissions in {spent:.0f} s")
    assert found == expected
    assert spent < 600
