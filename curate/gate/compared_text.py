"""Extract the text of each row that the gate compares: its prompt, or its whole text."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from curate.data.column_names import OPTIONAL_CONTENT
from curate.data.columns import is_messages, message_keys, parse_columns, parse_roles, recognize, spoken_roles
from curate.data.examples import whole
from curate.data.messages import conversations
from curate.data.preferences import as_learned
from curate.data.readers import Loaded, read, with_conversations
from curate.data.sources import TextOptions, open_data
from curate.data.surroundings import joined_context
from curate.data.turns import MessageKeys, Turn
from curate.dataset_reference import READING, role_pieces
from curate.errors import InputError

Part = Literal["prompt", "all"]
_COLUMN = "text compared by the gate"
_READING = (*READING, "seed")


@dataclass(frozen=True)
class Texts:
    """name: of the dataset, for hits; texts, ids: (n,) Arrow strings; table: its rows (n,) with all columns.

    missing: number of rows left out because they have no text to compare.
    """

    name: str
    texts: pa.Array
    ids: pa.Array
    table: pa.Table
    missing: int
    loaded: Loaded


def compared_texts(table: pa.Table, shape: str, columns: Mapping[str, str], part: Part = "prompt") -> pa.Array:
    """(n,) large strings, null if a cell is null: the compared text of each row.

    "prompt": the prompt with its context; instruction and input; the user's turns of a conversation before the first
    answer; the text of a dataset of texts. "all": the prompt and the completion, and every turn of a conversation.
    """
    roles = (*(role for role in ("context",) if role in columns), *spoken_roles(shape, columns))
    if part == "prompt":
        roles = tuple(role for role in roles if role not in ("completion", "output"))
    keys = message_keys(columns)
    parts = [_cells(table[columns[role]], part, keys) for role in roles]
    needed = [k for k, role in enumerate(roles) if role not in {*OPTIONAL_CONTENT, "completion", "output"}]
    rows = zip(*parts, strict=True)
    joined = [
        "\n".join(cell for cell in row if cell) if all(row[k] is not None for k in needed) else None for row in rows
    ]
    return pa.array(joined, pa.large_string())


def _cells(column: pa.ChunkedArray, part: Part, keys: MessageKeys) -> list[str | None]:
    if is_messages(column.type, keys):
        chats = (turns for chunk in column.chunks for turns in conversations(chunk, keys))
        return [None if turns is None else _conversation(turns, part) for turns in chats]
    cells: list[Any] = whole(column).to_pylist()
    return [joined_context(cell) if isinstance(cell, list) else cell for cell in cells]


def _conversation(turns: list[Turn], part: Part) -> str | None:
    if part == "prompt":
        roles = [turn["role"] for turn in turns]
        end = roles.index("assistant") if "assistant" in roles else len(turns)
        turns = [turn for turn in turns[:end] if turn["role"] == "user"]
    contents = [turn["content"] for turn in turns if turn["content"]]
    return "\n".join(contents) if contents else None


def read_texts(data: Any, *, part: Part = "prompt", name: str | None = None, **reading: Any) -> Texts:
    """The texts of any input of `curate.read`; answers may be missing, and rows without a text are left out.

    name: label in hits; None = the name of the file or dataset. reading: `curate.dataset_reference.READING` and seed,
    as for `curate.read`. Raises InputError if nothing can be compared.
    """
    for key in reading:
        if key not in _READING:
            raise InputError(f"reading option {key!r} is not one of {', '.join(_READING)}; remove or rename it")
    columns = reading.pop("columns", None)
    roles = parse_columns(columns) if isinstance(columns, str) else dict(columns or {})
    roles |= parse_roles(role_pieces(reading.pop("role", ())) or ())
    text = TextOptions(reading.pop("encoding", None), reading.pop("delimiter", None))
    opened = open_data(data, roles, reading.pop("split", None), reading.pop("config", None), text)
    table, asked_shape = opened.table, reading.pop("shape", None)
    if _COLUMN in table.column_names:
        raise InputError(f"{opened.description}: column {_COLUMN!r} has a name that is needed here; rename it")
    if not table.num_rows:
        raise InputError(f"{opened.description} has no rows; give a dataset with at least one row")
    try:
        learned, learned_roles, asked_shape = as_learned(with_conversations(table), roles, asked_shape)
        shape, columns_by_role = recognize(learned.schema, learned_roles, asked_shape)
    except InputError as error:
        raise InputError(
            f"{opened.description}: {error}; to compare one column only, name it: columns text=COLUMN"
        ) from error
    table = table.append_column(_COLUMN, compared_texts(learned, shape, columns_by_role, part))
    if table[_COLUMN].null_count == len(table):
        raise InputError(f"{opened.description}: no row has a text to compare; name the column: columns text=COLUMN")
    names = {"text": _COLUMN, **{role: columns_by_role[role] for role in ("id",) if role in roles}}
    # A column that curation added is treated like any other here: nothing is added to this table.
    loaded = read(table, columns=names, shape="text", on_bad_row="drop", allow_curated=True, **reading)
    examples = loaded.examples
    texts = whole(examples.table[_COLUMN])
    label = name or (Path(data).name if isinstance(data, str | Path) and os.path.exists(data) else opened.description)
    return Texts(label, texts, examples.ids, examples.table.drop_columns([_COLUMN]), len(loaded.rejected), loaded)
