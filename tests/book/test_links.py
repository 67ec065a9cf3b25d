"""What can be seen in the HTML itself: links lead somewhere, nothing comes from elsewhere, no claim is left out."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from traindyn import parameters
from traindyn.report.claims import load_ledger


@cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def broken_links(path: Path) -> list[str]:
    """Return the links of a page into the site whose file or anchor does not exist."""
    broken = []
    for link in soup(path).find_all("a", href=True):
        parts = urlsplit(link["href"])
        if parts.scheme or parts.netloc or link["href"] == "#":
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not target.exists() or (
            parts.fragment and target.suffix == ".html" and not soup(target).find(id=unquote(parts.fragment))
        ):
            broken.append(link["href"])
    return broken


def test_links_inside_the_book_lead_to_a_page_and_an_anchor_that_exist(site, name):
    assert broken_links(site / name) == []


def test_a_page_loads_nothing_from_elsewhere(site, name):
    text = (site / name).read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=[\"'](?:https?:)?//[^\"']*", text)
    assert not re.findall(r"cdn\.|unpkg|fonts\.googleapis", text)


def test_no_cell_shows_an_error_and_no_placeholder_is_left(site, name):
    page = soup(site / name)
    assert "Traceback (most recent call last)" not in page.get_text()
    assert "stands here in the built book" not in page.get_text()
    assert "stand here in the built book" not in page.get_text()


@pytest.fixture
def chapters(site):
    return [name for name in parameters.chapters() if (site / "chapters" / name / f"{name}.html").is_file()]


def test_the_scorecard_shows_every_claim_and_links_to_its_cell(site, chapters):
    page = soup(site / "book" / "scorecard.html")
    linked = {link["href"] for link in page.select(".scorecard td > a[href]")}
    for name in chapters:
        claims = load_ledger(name)
        assert {f"../chapters/{name}/{name}.html#{claim.anchor}" for claim in claims} <= linked
    assert len(page.select(".scorecard tr[data-verdict]")) == len(linked)


def test_every_erratum_is_on_its_page(site, chapters):
    page = soup(site / "book" / "errata.html")
    expected = sum(len(claim.errata) for name in chapters for claim in load_ledger(name))
    assert len(page.select(".errata-table tbody tr")) >= expected
