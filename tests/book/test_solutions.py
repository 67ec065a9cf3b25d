"""Solutions of assignments, hidden inputs and rubrics are in no file of the built site."""

from __future__ import annotations

from traindyn.run.course import assignment, check


def test_no_page_source_or_download_of_the_site_holds_a_solution(site):
    secrets = {}
    for chapter in assignment.available():
        made = assignment.load(chapter)
        lines = [line for name in [*made.spec.questions, *made.spec.rubrics] for line in check.secret_lines(made, name)]
        chapter_text = (made.folder / f"{chapter}.md").read_text(encoding="utf-8")
        secrets[chapter] = [line for line in lines if len(line) > 40 and line not in chapter_text]
        secrets[chapter] += [line for rubric in made.spec.rubrics.values() for line in rubric.lines]
        assert secrets[chapter]
    for path in site.rglob("*"):
        if path.is_file() and path.suffix in (".html", ".ipynb", ".md", ".txt", ".py", ".js", ".json"):
            assert not path.name.startswith("assignment"), path
            text = path.read_text(encoding="utf-8", errors="replace")
            for chapter, lines in secrets.items():
                assert not [line for line in lines if line in text], (path, chapter)
