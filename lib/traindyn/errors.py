"""One kind of error for everything a user can get wrong: what was wrong, what was expected, how to mend it."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

# the modules that come with an extra of the distribution, by the first word of their name
EXTRAS = {
    **dict.fromkeys(
        (
            "IPython",
            "bs4",
            "ipykernel",
            "jupyter_client",
            "jupytext",
            "markdown_it",
            "myst_nb",
            "nbclient",
            "nbformat",
            "papermill",
            "rich",
        ),
        "book",
    ),
    **dict.fromkeys(("dask", "distributed"), "cluster"),
    "nbgrader": "course",
    **dict.fromkeys(("PIL", "datasets", "mlxtend", "pyarrow", "sklearn"), "data"),
    **dict.fromkeys(("nbval", "pytest", "hypothesis", "playwright"), "dev"),
}


class InputError(ValueError):
    """A mistake in what the caller gave. Its message is one line that a person can act on.

    The command line prints the message alone and leaves with status 2; nothing has been created by then.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"` for the known name closest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def choose(what: str, name: str, known: Iterable[str]) -> str:
    """Return `name` if it is one of `known`.

    Args:
        what: the thing that is named, in the singular, for the message ("chapter", "preset", ...).
        name: the name that was given.
        known: the names that exist.

    Raises:
        InputError: `name` is unknown; the message gives the nearest name and the whole list.
    """
    known = list(known)
    if name not in known:
        raise InputError(f"unknown {what} '{name}'{nearest(str(name), known)}; known: {', '.join(known) or 'none'}")
    return name


class NotFiniteError(InputError):
    """A number overflowed or is not one: where a run has diverged that is an outcome, elsewhere a mistake."""


def lacking(module: str, what: str = "this") -> InputError:
    """Return the error for a module that is not installed: which extra of the distribution brings it."""
    extra = EXTRAS.get(module.split(".")[0])
    if extra is None:
        return InputError(f"{what} needs the package '{module}', which is not installed")
    return InputError(f"{what} needs the extra [{extra}] ({module} is missing): pip install -e '.[{extra}]'")


def import_extra(module: str, what: str = "this") -> ModuleType:
    """Import a module that comes with an extra, and return it.

    Args:
        module: its full name.
        what: what needs it, for the message ("data set 'digits'").

    Raises:
        InputError: it is not installed; the message says how to get it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise lacking(error.name or module, what) from None
