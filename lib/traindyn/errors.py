"""One kind of error for everything a user can get wrong: what was wrong, what was expected, how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
