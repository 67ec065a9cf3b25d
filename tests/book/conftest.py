"""The built site under test: the smoke book, or the folder that TRAINDYN_SITE names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from traindyn.run import book

SITE = Path(os.environ.get("TRAINDYN_SITE") or book.site("smoke"))
GENERATED = {"index.html", "genindex.html", "search.html", "py-modindex.html"}


def site_pages() -> list[str]:
    """Return the book's own pages, relative to the site."""
    found = (path.relative_to(SITE) for path in SITE.rglob("*.html") if "_static" not in path.parts)
    return sorted(str(path) for path in found if str(path) not in GENERATED and not path.name.startswith("prf-"))


def _missing(what: str) -> None:
    """Skip with one visible line, or fail where the browser tests are required."""
    if os.environ.get("TRAINDYN_REQUIRE_BROWSER"):
        pytest.fail(f"{what}, and TRAINDYN_REQUIRE_BROWSER is set")
    pytest.skip(what)


@pytest.fixture(scope="session")
def missing() -> Callable[[str], None]:
    """What to call where something that a test needs is not there."""
    return _missing


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `name` once for every page."""
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", site_pages() or [None])


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built pages."""
    if not site_pages():
        _missing(f"no pages in {SITE}: build them with `traindyn book --preset smoke`")
    return SITE
