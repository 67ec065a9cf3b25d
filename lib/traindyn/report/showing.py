"""What IPython shows, asked for only when something is shown: importing the library needs no notebook."""

from __future__ import annotations

from typing import Any

from traindyn.errors import import_extra


def display(*objects: Any, **options: Any) -> None:
    """Show objects in a notebook, as `IPython.display.display` does.

    Raises:
        InputError: IPython is not installed.
    """
    import_extra("IPython.display", "showing results").display(*objects, **options)


def HTML(text: str, **options: Any) -> Any:
    """Return a piece of HTML for `display`."""
    return import_extra("IPython.display", "showing results").HTML(text, **options)


def Markdown(text: str, **options: Any) -> Any:
    """Return a piece of Markdown for `display`."""
    return import_extra("IPython.display", "showing results").Markdown(text, **options)
