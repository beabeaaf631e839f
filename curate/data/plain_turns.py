"""Conversations whose turns are bare texts: lists of texts in turn, and the answer to a list of messages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.column_names import CONVERSATIONS, REQUIRED
from curate.data.columns import is_list, is_messages, is_text

# Of the names of conversations those under which a list of texts is one; "turns" and the like may be all of one side.
_IN_TURN = (*REQUIRED["messages"]["messages"], *(n for n in CONVERSATIONS if n.startswith(("chat", "dialog", "utter"))))
_MESSAGE = pa.struct([("role", pa.large_string()), ("content", pa.large_string())])


def with_turns_made(
    table: pa.Table, roles: Mapping[str, str]
) -> tuple[pa.Table, dict[str, pa.ChunkedArray], list[str]]:
    """The table with messages in place of bare texts, those columns as they were, and lines that say so.

    roles: columns by role, as the user names them.
    """
    came: dict[str, pa.ChunkedArray] = {}
    lines = []
    given = roles.get("messages")
    if name := next((each for each in ([given] if given else _IN_TURN) if _texts_in_turn(table, each)), None):
        came[name] = table[name]
        table = _with(table, name, [_in_turn(chunk) for chunk in table[name].chunks])
        lines.append(f"column {name!r} holds texts in turn: read as user, assistant, user, assistant, ...")
    elif name := _answer(table, roles):
        came[name] = table[name]
        table = _with(table, name, [_answers(chunk) for chunk in table[name].chunks])
    return table, came, lines


def _texts_in_turn(table: pa.Table, name: str) -> bool:
    if name not in table.column_names:
        return False
    kind = table.schema.field(name).type
    return is_list(kind) and is_text(kind.value_type) and not pa.types.is_null(kind.value_type)


def _answer(table: pa.Table, roles: Mapping[str, str]) -> str | None:
    """The column of text that answers a column of lists of messages; None where there is none."""
    names, schema = table.column_names, table.schema
    prompt = roles.get("prompt", "prompt")
    if prompt not in names or not is_messages(schema.field(prompt).type):
        return None
    answers = [roles["completion"]] if "completion" in roles else REQUIRED["prompt_completion"]["completion"]
    found = next((name for name in answers if name in names), None)
    is_answer = found is not None and is_text(schema.field(found).type)
    return found if is_answer and not pa.types.is_null(schema.field(found).type) else None


def _with(table: pa.Table, name: str, chunks: list[pa.Array]) -> pa.Table:
    kind = pa.large_list(_MESSAGE)
    column = pa.chunked_array([chunk.cast(kind) for chunk in chunks], kind)
    return table.set_column(table.column_names.index(name), pa.field(name, kind), column)


def _in_turn(array: pa.Array) -> pa.Array:
    """Lists of texts as lists of messages, the user's first."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    turn = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    speakers = pa.array(["user", "assistant"], pa.large_string()).take(pa.array(turn % 2))
    return _lists(array, offsets, speakers, pc.list_flatten(array))


def _answers(array: pa.Array) -> pa.Array:
    """Texts as lists of one message of the assistant."""
    present = array.is_valid().to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(present, dtype=np.int64)])
    return _lists(array, offsets, pa.repeat(pa.scalar("assistant", pa.large_string()), offsets[-1]), array.drop_null())


def _lists(array: pa.Array, offsets: np.ndarray, speakers: pa.Array, said: pa.Array) -> pa.Array:
    messages = pa.StructArray.from_arrays([speakers, said.cast(pa.large_string())], fields=list(_MESSAGE))
    return pa.LargeListArray.from_arrays(pa.array(offsets), messages, mask=array.is_null())
