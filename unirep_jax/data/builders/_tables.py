"""The tables and lists that come with features, read strictly; what is wrong is named at once."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unirep_jax.data.builders._manual import DataFolderError, text, undecodable
from unirep_jax.data.builders._manual import lines as lines  # belongs here, but captions need it


def rows(path: Path, *, delimiter: str = ",") -> list[list[str]]:
    """The rows of a table that have a field.

    They end at CR, LF or CR LF outside quotes and nowhere else, as in any spreadsheet.

    Raises:
      DataFolderError: it is no table in UTF-8.
    """
    try:
        return [
            row
            for row in csv.reader(io.StringIO(text(path), newline=""), delimiter=delimiter)
            if row
        ]
    except csv.Error as error:
        raise undecodable(path, "a table", error) from error


def table(path: Path, *columns: str, delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a table with a header that has these columns, and perhaps others.

    Raises:
      DataFolderError: it has no such header, a row of another length, an empty field, or no row.
    """
    content = rows(path, delimiter=delimiter)
    header = [name.strip() for name in content[0]] if content else []
    absent = [f"column {name!r}: not among {header}" for name in columns if name not in header]
    if absent:
        raise DataFolderError(path, absent)
    problems = [
        f"row {number}: expected {len(header)} fields, found {len(row)}"
        for number, row in enumerate(content[1:], 2)
        if len(row) != len(header)
    ]
    found = [dict(zip(header, row, strict=False)) for row in content[1:]]
    problems += [
        f"row {number}: {name!r} is empty"
        for number, row in enumerate(found, 2)
        for name in columns
        if not row.get(name, "?").strip()
    ]
    if problems:
        raise DataFolderError(path, problems)
    if not found:
        raise DataFolderError(path, ["expected rows after the header, found none"])
    return found


def records(path: Path, *keys: str, within: str = "") -> list[dict[str, Any]]:
    """The objects of a JSON list (the one under `within`, where given), with these keys."""
    content = text(path)
    try:
        content = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise undecodable(path, "JSON", error) from error
    if within:
        content = content.get(within) if isinstance(content, dict) else None
    if not isinstance(content, list) or not content:
        place = f" under {within!r}" if within else ""
        raise DataFolderError(path, [f"expected a list of objects{place}, found none"])
    wrong = [
        f"entry {number}: expected {', '.join(keys)}"
        for number, entry in enumerate(content)
        if not isinstance(entry, dict) or not {*keys} <= entry.keys()
    ]
    if wrong:
        raise DataFolderError(path, wrong)
    return content


def check_count(path: Path, found: int, expected: int, *, partial: bool) -> None:
    """A table has as many rows as the published one, unless the copy is a partial one."""
    if found != expected and not partial:
        raise DataFolderError(path, [f"expected {expected} rows, found {found}"])


def check_ids(path: Path, ids: Iterable[str]) -> None:
    """Every id is the name of a file: none leads out of its folder, none has a line break in it."""
    wrong = [
        f"id {name!r}: not the name of a file"
        for name in dict.fromkeys(ids)
        if name in ("", ".", "..") or not {"/", "\\"}.isdisjoint(name) or not name.isprintable()
    ]
    if wrong:
        raise DataFolderError(path, wrong)


def check_classes(path: Path, found: Iterable[str], classes: Iterable[str]) -> None:
    """Every class of a table is one of the known ones."""
    known = set(classes)
    wrong = [
        f"class {name!r}: not a known one" for name in dict.fromkeys(found) if name not in known
    ]
    if wrong:
        raise DataFolderError(path, wrong)
