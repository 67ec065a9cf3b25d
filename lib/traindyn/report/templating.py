"""The templates of `templates/`, with everything they are given escaped."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from traindyn.report import rows, words

FOLDER = Path(__file__).with_name("templates")
_SPECIAL = re.compile(r"`([^`]+)`|\$([^$]+)\$")


def rich(text: Any) -> Markup:
    """Return text as HTML: escaped, code between backticks, TeX between dollars where MathJax finds it."""

    def mark(match: re.Match[str]) -> str:
        code, tex = match.groups()
        if code is not None:
            return f"<code>{code}</code>"
        return f'<span class="math notranslate nohighlight">\\({tex}\\)</span>'

    return Markup(_SPECIAL.sub(mark, str(escape(str(text)))))  # escaped first; only our own tags are added


def style() -> str:
    """Return the style sheet of cards and tables, for where the book's own is not there."""
    return (FOLDER / "cards.css").read_text(encoding="utf-8")


def render(name: str, **values: Any) -> str:
    """Return a template filled with values.

    Args:
        name: file in `templates/`.
        values: its variables; text is escaped.
    """
    return _environment().get_template(name).render(**values).strip()


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "rich": rich,
        "short": words.short,
        "number": words.number,
        "reported": words.reported,
        "name": lambda claim: claim.id.split(".", 1)[1],
        "range": _range,
        "stability": words.stability,
    }
    made.globals |= {
        "standing": words.standing,
        "deciding": words.deciding,
        "setting_words": words.setting_words,
        "criterion_rows": rows.criterion_rows,
        "measured_items": rows.measured_items,
        "remarks": rows.remarks,
        "first_part": rows.first_part,
    }
    return made


def _range(seeds: list[int]) -> str:
    return f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
