"""The folder of a course: what lies where in it, its dates, its roster, its secret."""

from __future__ import annotations

import csv
import io
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

from traindyn import files
from traindyn.errors import InputError, nearest

SETTINGS = """# Dates and late submissions. A date without a time is the end of that day in UTC; else give an offset.
due: {}            # ntk: 2027-01-15, or 2027-01-15 18:00 +01:00
late:
  grace_minutes: 15
  per_day: 0.1     # share of the points earned, for every day begun
  most: 0.5        # never more than this share
"""
NAME = re.compile(r"[^\x00-\x1f/\\]{1,100}")


def is_name(text: str) -> bool:
    """Return whether a text can be a student's id: a folder's name that can be written down."""
    return bool(NAME.fullmatch(text)) and text not in (".", "..") and text.encode("utf-8", "replace").decode() == text


@dataclass(frozen=True)
class Student:
    """A line of the roster."""

    id: str
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    variant: str = "0"


@dataclass(frozen=True)
class Late:
    """What a late submission costs."""

    grace_minutes: float = 15
    per_day: float = 0.1
    most: float = 0.5

    def share(self, due: datetime | None, handed_in: datetime | None) -> float:
        """Return the share of the points that is taken off."""
        if due is None or handed_in is None:
            return 0.0
        over = (handed_in - due).total_seconds() - 60 * self.grace_minutes
        return 0.0 if over <= 0 else min(self.most, self.per_day * (int(over // 86400) + 1))


@dataclass(frozen=True)
class Course:
    """A course.

    Attributes:
        folder: its folder.
        secret: what hidden inputs are drawn from.
        due: assignment -> when it is due.
        late: what being late costs.
        roster: id -> student.
    """

    folder: Path
    secret: str
    due: Mapping[str, datetime] = field(default_factory=dict)
    late: Late = Late()
    roster: Mapping[str, Student] = field(default_factory=dict)

    @property
    def database(self) -> str:
        """The address of the gradebook."""
        return f"sqlite:///{(self.folder / 'gradebook.db').absolute()}"

    @property
    def assignments(self) -> list[str]:
        """The chapters that it was built with."""
        return sorted(path.name for path in (self.folder / "source").iterdir() if path.is_dir())

    def student(self, name: str) -> Student:
        """Return a student, also one who is not in the roster."""
        return self.roster.get(name, Student(name))


def load(folder: str | Path) -> Course:
    """Read a course's folder.

    Raises:
        InputError: it is none, or its settings or roster are wrong.
    """
    folder = Path(folder)
    if not (folder / "source").is_dir() or not (folder / "secret.txt").is_file():
        raise InputError(f"{folder} is no course; make one with: traindyn course build {folder}")
    due, late = _settings(folder / "course.yaml")
    roster = read_roster(folder / "roster.csv") if (folder / "roster.csv").is_file() else {}
    return Course(folder, files.read_text(folder / "secret.txt", "the secret").strip(), due, late, roster)


def new_secret(path: Path) -> None:
    """Write a secret that nobody else may read."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(secrets.token_hex(16) + "\n")


def _settings(path: Path) -> tuple[dict[str, datetime], Late]:
    found = files.read_yaml(path, "the course's settings") if path.is_file() else {}
    if not isinstance(found, Mapping) or set(found) - {"due", "late"}:
        raise InputError(f"{path}: expected 'due' and 'late'")
    dates, given = found.get("due") or {}, found.get("late") or {}
    if not isinstance(dates, Mapping) or not isinstance(given, Mapping):
        raise InputError(f"{path}: expected 'due: {{ntk: 2027-01-15}}' and 'late: {{per_day: 0.1}}'")
    due = {str(name): _moment(value, path) for name, value in dates.items()}
    known = ("grace_minutes", "per_day", "most")
    if odd := next((name for name in given if name not in known), None):
        raise InputError(f"{path}: unknown '{odd}' of late{nearest(str(odd), known)}; known: {', '.join(known)}")
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
            raise InputError(f"{path}: late.{name} is {value!r}; expected a number, at least 0")
    return due, Late(**given)


def _moment(value: Any, path: Path) -> datetime:
    """Return a date or time of the settings as a moment."""
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time(23, 59, 59))
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(re.sub(r"\s+([+-]\d)", r"\1", value.strip()))
        except ValueError:
            raise InputError(f"{path}: '{value}' is no date; expected 2027-01-15 or 2027-01-15 18:00 +01:00") from None
    if not isinstance(value, datetime):
        raise InputError(f"{path}: {value!r} is no date; expected 2027-01-15 or 2027-01-15 18:00 +01:00")
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def read_roster(path: Path) -> dict[str, Student]:
    """Read a roster, a CSV file with the column `id` and any of first_name, last_name, email, variant.

    Raises:
        InputError: it has no ids, one twice, or unknown columns.
    """
    text = files.read_text(path, "the roster").lstrip("\ufeff")
    reader = csv.DictReader(io.StringIO(text))
    columns = [(name or "").strip() for name in reader.fieldnames or []]
    known = ("id", "first_name", "last_name", "email", "variant")
    if "id" not in columns:
        raise InputError(f"{path}: no column 'id'; expected the columns {', '.join(known)}")
    if odd := next((name for name in columns if name not in known), None):
        raise InputError(f"{path}: unknown column '{odd}'{nearest(odd, known)}; known: {', '.join(known)}")
    found: dict[str, Student] = {}
    for number, row in enumerate(reader, 2):
        values = {
            (key or "").strip(): (value or "").strip() for key, value in row.items() if isinstance(value, str | None)
        }
        student = (
            Student(**{name: value for name, value in values.items() if name in known and value})
            if values.get("id")
            else None
        )
        if student is None or not is_name(student.id):
            raise InputError(f"{path}, line {number}: '{values.get('id', '')}' is no id that can be a folder's name")
        if student.id in found:
            raise InputError(f"{path}, line {number}: the id '{student.id}' stands there twice")
        found[student.id] = student
    return found


def handed_in(folder: Path) -> datetime | None:
    """Return when a submission was handed in, as `timestamp.txt` beside it says; None if it does not."""
    path = folder / "timestamp.txt"
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")[:100].strip()
        from nbgrader.utils import parse_utc

        found = parse_utc(text)
    except Exception:
        return None
    return found.replace(tzinfo=UTC) if isinstance(found, datetime) and found.tzinfo is None else found
