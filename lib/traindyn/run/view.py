"""`traindyn run --html`: an executed notebook as one page that needs nothing beside it, figures inside.

A plain view for sending around; the book's pages are made by Sphinx. Prose is Markdown as far as the common standard
goes, TeX stays as it is typed, figures and cards are shown as they are.
"""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path
from typing import Any

import nbformat

from traindyn import files
from traindyn.errors import import_extra
from traindyn.report import templating

_FIGURE = re.compile(r"^`{3,}\{figure\} (\S+)\n((?::.*\n)*)\n?(.*?)\n`{3,}$", re.MULTILINE | re.DOTALL)
_DROPDOWN = re.compile(r"^````\{dropdown\}.*?^````$", re.MULTILINE | re.DOTALL)
_TARGET = re.compile(r"^\([\w-]+\)=$", re.MULTILINE)
STYLE = """body { font: 16px/1.5 sans-serif; max-width: 54rem; margin: 2rem auto; padding: 0 1rem; }
pre { background: #f4f4f4; padding: .6rem; overflow-x: auto; }
pre.output { background: none; border-left: 3px solid #ccc; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; } figcaption { color: #444; }
table { border-collapse: collapse; }
td, th { border: 1px solid #ccc; padding: .2rem .5rem; text-align: left; vertical-align: top; }"""


def write(run: Path, chapter: str) -> Path:
    """Write the executed notebook of a finished run as `<chapter>.html` into its folder; return the path."""
    book = nbformat.read(run / f"{chapter}.ipynb", as_version=4)
    return files.write_text(run / f"{chapter}.html", page(book, run, chapter))


def page(book: nbformat.NotebookNode, run: Path, title: str) -> str:
    """Return a notebook as the text of a page.

    Args:
        book: the executed notebook.
        run: where its figures lie.
        title: of the page.
    """
    body = [_cell(cell, run) for cell in book.cells]
    head = f"<meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}\n{templating.style()}</style>"
    text = "\n".join(filter(None, body))
    return f"<!doctype html>\n<html lang=en><head>{head}</head><body>\n{text}\n</body></html>\n"


def _cell(cell: Any, run: Path) -> str:
    if cell.cell_type == "markdown":
        return _markdown(_TARGET.sub("", cell.source), run)
    if cell.cell_type != "code":
        return ""
    hidden = cell.metadata.get("jupyter", {}).get("source_hidden")
    source = "" if hidden else f"<pre><code>{html.escape(cell.source)}</code></pre>"
    return source + "\n".join(_output(output, run) for output in cell.outputs)


def _output(output: Any, run: Path) -> str:
    if output.output_type == "stream":
        return f'<pre class="output">{html.escape(output.text)}</pre>'
    data = output.get("data", {})
    if "text/html" in data:
        return data["text/html"]
    if "text/markdown" in data:
        return _markdown(data["text/markdown"], run)
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            return f'<img alt="" src="data:{kind};base64,{data[kind].strip()}">'
    return f'<pre class="output">{html.escape(data["text/plain"])}</pre>' if "text/plain" in data else ""


def _markdown(text: str, run: Path) -> str:
    """Return Markdown as HTML; figure directives become figures with the image inside, foldable tables are left out."""
    reader = import_extra("markdown_it", "an HTML view").MarkdownIt("commonmark", {"html": True}).enable("table")
    text = _DROPDOWN.sub("", text)
    pieces, end = [], 0
    for match in _FIGURE.finditer(text):
        pieces += [reader.render(text[end : match.start()]), _figure(*match.groups(), run)]
        end = match.end()
    return "".join([*pieces, reader.render(text[end:])])


def _figure(name: str, options: str, caption: str, run: Path) -> str:
    alt = re.search(r"^:alt: (.*)$", options, re.MULTILINE)
    path = run / name
    if not path.resolve().is_relative_to(run.resolve()) or not path.is_file():
        return f"<p>{html.escape(name)} is not here.</p>"
    kind = {".svg": "svg+xml", ".png": "png"}.get(path.suffix, "png")
    image = base64.b64encode(path.read_bytes()).decode()
    words = html.escape(alt.group(1) if alt else "", quote=True)
    source = f"data:image/{kind};base64,{image}"
    return f'<figure><img alt="{words}" src="{source}"><figcaption>{html.escape(caption)}</figcaption></figure>\n'
