"""What rows say first, for the labels of points in a plot."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from curate.report.finished_run import Finished, Rows, shards
from curate.report.texts import cells_by_id, content_columns, texts_of
from curate.types import IntArray


def first_words(finished: Finished, rows: Rows, positions: IntArray) -> list[str]:
    """The beginning of the first text of the rows at these positions (m,); "" where it is not in the output."""
    columns = content_columns(finished)
    if not columns:
        return [""] * len(positions)
    identities = rows.ids.take(pa.array(positions)).to_pylist()
    first = next((name for name, role in columns.items() if role != "system"), next(iter(columns)))
    cells = cells_by_id(shards(finished.directory), identities, [first])
    return [_words(columns[first], cells.get(identity, {}).get(first)) for identity in identities]


def _words(role: str, value: Any) -> str:
    """The text of a cell; of a conversation, that of its first turn of a user."""
    texts = [] if value is None else list(texts_of(role, value))
    asked = next((cell.text for label, cell in texts if label == "user"), None)
    return asked if asked is not None else texts[0][1].text if texts else ""
