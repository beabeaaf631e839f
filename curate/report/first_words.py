"""What rows are known by: their first words in plots and lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from curate.report.finished_run import Finished, Rows, shards
from curate.report.texts import Field, cells_by_id, content_columns, texts_of
from curate.types import IntArray

SYSTEM_ROLES = ("system", "developer")  # of turns that many rows may share, and so name none of them


def title(fields: Iterable[Field]) -> str:
    """The first text of an example that is not a system prompt; "" if there is none."""
    return next((field.text for field in fields if field.label not in SYSTEM_ROLES), "")


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
