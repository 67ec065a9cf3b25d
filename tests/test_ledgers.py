"""The chapters' ledgers: they load, their words fit their tests, and the sources' sizes are said."""

from __future__ import annotations

import pytest

from traindyn import parameters
from traindyn.report.claims import load_ledger, misdirected

CHAPTERS = parameters.chapters()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_words_of_a_criterion_point_the_way_of_its_comparison(chapter):
    assert misdirected(load_ledger(chapter)) == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_claims_name_experiments_and_definitions_that_there_are(chapter):
    models = parameters.models(chapter)
    for claim in load_ledger(chapter):
        assert set(claim.runs) <= set(models), claim.id
        for name in claim.definitions:
            experiment, _, key = name.partition(".")
            assert key in models[experiment].model_fields, (claim.id, name)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_claim_that_is_judged_anywhere_has_an_expectation_there(chapter):
    for claim in load_ledger(chapter):
        assert claim.not_testable or set(claim.expect) >= {"smoke", "laptop"}, claim.id
