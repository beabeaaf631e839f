"""First words of rows, for tooltips in plots."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from curate.report.finished_run import Finished, Rows, shards
from curate.report.texts import cells_by_id, content_columns, texts_of
from curate.types import IntArray


def first_words(finished: Finished, rows: Rows, positions: IntArray) -> list[str]:
    """The beginning of the first text of the rows at positions (m,); "" for rows that are not in the output."""
    columns = content_columns(finished)
    if not columns:
        return [""] * len(positions)
    identities = rows.ids.take(pa.array(positions)).to_pylist()
    first = next((name for name, role in columns.items() if role != "system"), next(iter(columns)))
    cells = cells_by_id(shards(finished.directory), identities, [first])
    return [_words(columns[first], cells.get(identity, {}).get(first)) for identity in identities]


def _words(role: str, value: Any) -> str:
    """The text of a cell; of a conversation, that of its first user turn."""
    texts = [] if value is None else list(texts_of(role, value))
    first_user_text = next((cell.text for label, cell in texts if label == "user"), None)
    return first_user_text if first_user_text is not None else texts[0][1].text if texts else ""
