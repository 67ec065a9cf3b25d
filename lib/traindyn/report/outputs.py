"""What a chapter writes into its notebook for MyST to read: a figure's directive, a number for the prose."""

from __future__ import annotations

from typing import Any

import pandas as pd

from traindyn.errors import InputError

_GLUE = "application/papermill.record/"  # the form in which MyST-NB looks for values kept out of sight


def figure_directive(chapter: str, name: str, caption: str, alt: str, data: pd.DataFrame | None) -> str:
    """Return the MyST text of a figure: its image, number and caption, and the head of the table behind it.

    Args:
        chapter, name: make the anchor `fig-<chapter>-<name>`.
        caption, alt: what is drawn, and the same for one who cannot see it.
        data: the table, of which the first rows are shown.
    """
    lines = [f"```{{figure}} figures/{name}.svg", f":name: fig-{chapter}-{name}", f":alt: {_line(alt)}", ""]
    lines += [_line(caption), "```", ""]
    if data is not None:
        head = data.head(12).to_html(index=False, border=0, float_format=lambda v: f"{v:.4g}", na_rep="–")
        lines += [f"````{{dropdown}} The table behind this figure: {len(data)} rows", "```{div} table-box"]
        lines += ["~~~{raw} html", head, "~~~", "```"]
        lines += [f"The first rows; all of them: {{download}}`{name}.csv <tables/{name}.csv>`.", "````", ""]
    return "\n".join(lines)


def glued(name: str, value: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the output, and its metadata, that keeps a number for {glue:text}`name:.2f` in the prose of the page.

    Raises:
        InputError: the value is not one number.
    """
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"glue '{name}': expected one number, got {type(value).__name__}") from error
    return {f"{_GLUE}text/plain": repr(number)}, {"scrapbook": {"name": name, "mime_prefix": _GLUE}}


def _line(text: str) -> str:
    return " ".join(text.split())
