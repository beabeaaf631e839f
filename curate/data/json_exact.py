"""Read JSON Lines and JSON files value by value in Python: slower than pyarrow, but exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.data.json_text import RepeatedKey, encodable, items_of, loads, loads_from, members_of
from curate.data.json_values import MOST_LEVELS, column_of
from curate.errors import InputError

_BLANKS = " \t\r\n"


@dataclass(frozen=True)
class _Rows:
    """The rows of a file. records: its objects. texts: returns the JSON text of each."""

    records: list[dict[str, Any]]
    texts: Callable[[], list[str]]


def exact(files: Sequence[tuple[Path, pa.Buffer]]) -> tuple[pa.Table, list[tuple[str, str]]]:
    """Like `curate.data.formats.json_files.read_json`, in Python: slower, and correct for every text."""
    parts = [_rows(path, data.to_pybytes().decode()) for path, data in files]
    records = [record for part in parts for record in part.records]
    names = list(dict.fromkeys(name for record in records for name in record))
    if not encodable(names):
        raise InputError(f"{files[0][0]}: the name of a column is not valid UTF-8; rename it")

    @cache
    def members() -> list[dict[str, str]]:
        return [members_of(text) for part in parts for text in part.texts()]

    def texts(name: str) -> list[str | None]:
        member_texts = (row.get(name) for row in members())
        return [None if text == "null" else text for text in member_texts]

    columns, notes = [], []
    for name in names:
        column, lines = column_of(name, [record.get(name) for record in records], partial(texts, name))
        columns.append(column)
        notes += [(name, line) for line in lines]
    return pa.table(columns, names=names), notes


def _rows(path: Path, text: str) -> _Rows:
    try:
        return _list(path, text) if text.lstrip().startswith("[") else _lines(path, text)
    except RecursionError:
        raise InputError(f"{path} nests more than {MOST_LEVELS} levels deep; flatten it") from None


def _list(path: Path, text: str) -> _Rows:
    """The rows of a JSON list of objects."""
    try:
        records = loads(text.strip(_BLANKS))
    except RepeatedKey as error:
        raise InputError(f"{path}: {error} in one object; remove one of them") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); write a list of objects, or one object per line") from error
    for row, record in enumerate(records):
        _check_object(record, f"{path}, item {row}")
    return _Rows(records, lambda: items_of(text))


def _check_object(record: Any, place: str) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{place}: holds {type(record).__name__}, not an object; write {{...}}")


def _lines(path: Path, text: str) -> _Rows:
    """The rows of JSON Lines, or of objects that span several lines."""
    records: list[dict[str, Any]] = []
    lines: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip(_BLANKS):
            continue
        try:
            record = loads(line)
        except RepeatedKey as error:
            raise InputError(f"{path}, line {number}: {error}; remove one of them") from error
        except ValueError as error:
            spread = None if records else _spread(path, text)
            if spread is not None:
                return spread
            raise InputError(f"{path}, line {number}: not JSON ({error}); write one object per line") from error
        _check_object(record, f"{path}, line {number}")
        records.append(record)
        lines.append(line)
    return _Rows(records, lambda: lines)


def _spread(path: Path, text: str) -> _Rows | None:
    """The rows of a text whose objects span several lines; None if it is not such a text."""
    records: list[dict[str, Any]] = []
    places = [0]
    try:
        while places[-1] < len(text):
            record, place = loads_from(text, places[-1])
            _check_object(record, f"{path}, item {len(records)}")
            records.append(record)
            places.append(place)
    except RepeatedKey as error:
        raise InputError(f"{path}, item {len(records)}: {error}; remove one of them") from error
    except ValueError:
        return None
    return _Rows(records, lambda: [text[low:high] for low, high in pairwise(places)])
