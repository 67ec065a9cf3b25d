"""Sphinx extension: the pages need no network. MathJax is copied beside them, and thebe's remote script is dropped."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.fileutil import copy_asset

KEEP = ("tex-chtml.js", "output/chtml/fonts", "input/tex/extensions")  # the extensions are loaded on demand


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Copy the parts of MathJax that the pages load (2 MB of 24) to `_static/mathjax/`."""
    if error is not None or app.builder.format != "html":
        return
    found = metadata.distribution("sphinx-mathjax-offline").locate_file("sphinx-mathjax-offline/static/mathjax")
    for name in KEEP:
        source, target = Path(str(found), name), Path(app.outdir, "_static", "mathjax", name)
        copy_asset(str(source), str(target.parent if source.is_file() else target))


def drop_thebe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Take the scripts of thebe (live code from a remote server) off a page."""

    def wanted(script: Any) -> bool:
        return "thebe" not in f"{getattr(script, 'filename', '')}{getattr(script, 'attributes', {}).get('body', '')}"

    context["script_files"][:] = [script for script in context.get("script_files", []) if wanted(script)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.set_html_assets_policy("always")  # verdict cards carry TeX in raw HTML, which Sphinx does not see
    app.connect("build-finished", copy_mathjax)
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
