"""The tables of a sweep: a small file per point, and one that is made from these, whole or not at all.

Rows are of three kinds (column `row`): *run* says how a point ended; *part* what a part of a claim came to (verdict,
outcome, value, threshold, margin); *evidence* is one number by seed and case. Swept values stand in columns `p.NAME`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from traindyn import files
from traindyn.errors import import_extra
from traindyn.report.words import real, setting_word

COLUMNS = {
    "point": "int32",
    "name": "string",
    "row": "string",
    "status": "string",
    "key": "string",
    "seconds": "float64",
    "memory_mb": "float64",
    "message": "string",
    "claim": "string",
    "verdict": "string",
    "setting": "string",
    "part": "string",
    "outcome": "bool_",
    "value": "float64",
    "operator": "string",
    "threshold": "float64",
    "margin": "float64",
    "quantity": "string",
    "case": "string",
    "seed": "int64",
    "number": "float64",
}


def write_point(
    path: Path, about: Mapping[str, Any], values: Mapping[str, Any], claims: Mapping[str, Any] | None
) -> None:
    """Write what a point came to.

    Args:
        path: the small file.
        about: point, name, status, key, seconds, memory_mb, message.
        values: what is swept.
        claims: the run's `claims.json`; None if it did not finish.
    """
    arrow, parquet = import_extra("pyarrow", "a sweep"), import_extra("pyarrow.parquet", "a sweep")
    head = {"point": about["point"], "name": about["name"]} | {f"p.{name}": plain(v) for name, v in values.items()}
    rows: list[dict[str, Any]] = [{**head, **about, "row": "run"}]
    for record in (claims or {}).get("claims", []):
        rows += [{**head, **row} for row in _rows(record)]
    table = arrow.Table.from_pylist(rows, schema=schema(values))
    with files.atomic_path(path) as part:
        parquet.write_table(table, part)


def read_point(path: Path) -> dict[str, Any] | None:
    """Return the row *run* of a point's file, or None if there is none that can be read."""
    arrow, parquet = import_extra("pyarrow", "a sweep"), import_extra("pyarrow.parquet", "a sweep")
    try:
        return parquet.read_table(path).slice(0, 1).to_pylist()[0]
    except (OSError, arrow.ArrowException, IndexError):
        return None


def gather(paths: Iterable[Path], target: Path, values: Mapping[str, Any]) -> int:
    """Make one table from the points' files, one after the other, and put it in its place at the end.

    Args:
        paths: the small files, in the order of the points; one that is not there is left out.
        target: the table; an older one is replaced.
        values: what is swept, with one value each.

    Returns:
        The number of rows.
    """
    parquet = import_extra("pyarrow.parquet", "a sweep")
    wanted, count = schema(values), 0
    with files.atomic_path(target) as part, parquet.ParquetWriter(part, wanted) as writer:
        for path in paths:
            if path.is_file():
                table = parquet.read_table(path)
                writer.write_table(table.select(wanted.names).cast(wanted))
                count += table.num_rows
    return count


def schema(values: Mapping[str, Any]) -> Any:
    """Return the columns of a sweep's tables."""
    arrow = import_extra("pyarrow", "a sweep")
    swept = [(f"p.{name}", _kind(value)) for name, value in values.items()]
    return arrow.schema([(name, getattr(arrow, kind)()) for name, kind in [*swept, *COLUMNS.items()]])


def plain(value: Any) -> Any:
    """Return a swept value as a table holds it: lists and None as text."""
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)


def _kind(value: Any) -> str:
    kinds = {bool: "bool_", int: "int64", float: "float64"}
    return kinds.get(type(value), "string")


def _rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    claim = {"claim": record["id"], "verdict": record["verdict"]}
    if record.get("setting"):
        claim["setting"] = setting_word(record)
    rows: list[dict[str, Any]] = []
    for name, part in record["parts"].items():
        numbers = {key: real(part[key]) for key in ("value", "threshold", "margin")}
        same = {"outcome": part["outcome"], "operator": part["operator"], "seed": part["seed"]}
        rows.append({"row": "part", **claim, "part": name, **same, **numbers})
    if not rows:
        rows.append({"row": "part", **claim})
    for name, column in record["evidence"].items():
        for seed, *case, number in column["rows"]:
            said = ", ".join(f"{level}={_short(value)}" for level, value in zip(column["cases"], case, strict=True))
            row = {"row": "evidence", **claim, "quantity": name, "case": said}
            rows.append({**row, "seed": seed, "number": real(number)})
    return rows


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
