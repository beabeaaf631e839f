"""Convert bare texts to messages: lists of alternating texts, dialogues, and text completions of conversations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.chat_texts import as_messages, holds_dialogues
from curate.data.column_names import CONVERSATIONS, REQUIRED
from curate.data.columns import is_list, is_messages, is_text

# Column names under which a list of texts is a conversation; lists named "turns" may be of one speaker.
_IN_TURN = (*REQUIRED["messages"]["messages"], *(n for n in CONVERSATIONS if n.startswith(("chat", "dialog", "utter"))))
_MESSAGE = pa.struct([("role", pa.large_string()), ("content", pa.large_string())])


def with_turns_made(
    table: pa.Table, roles: Mapping[str, str]
) -> tuple[pa.Table, dict[str, pa.ChunkedArray], list[str]]:
    """The table with bare texts converted to messages, {name: original column}, and notes.

    roles: {role: column} as assigned by the user.
    """
    originals: dict[str, pa.ChunkedArray] = {}
    lines = []
    explicit = roles.get("messages")
    if name := next(
        (candidate for candidate in ([explicit] if explicit else _IN_TURN) if _texts_in_turn(table, candidate)), None
    ):
        originals[name] = table[name]
        table = _with(table, name, [_in_turn(chunk) for chunk in table[name].chunks])
        lines.append(f"column {name!r} holds texts in turn: read as user, assistant, user, assistant, ...")
    elif name := next((other for other in ([explicit] if explicit else _IN_TURN) if _dialogues(table, other)), None):
        originals[name] = table[name]
        table = _with(table, name, [as_messages(chunk, _MESSAGE) for chunk in table[name].chunks])
        lines.append(f"column {name!r} holds dialogues as text: read as turns of the speakers that they name")
    elif name := _answer(table, roles):
        originals[name] = table[name]
        table = _with(table, name, [_answers(chunk) for chunk in table[name].chunks])
    return table, originals, lines


def _texts_in_turn(table: pa.Table, name: str) -> bool:
    if name not in table.column_names:
        return False
    kind = table.schema.field(name).type
    return is_list(kind) and is_text(kind.value_type) and not pa.types.is_null(kind.value_type)


def _dialogues(table: pa.Table, name: str) -> bool:
    kind = table.schema.field(name).type if name in table.column_names else pa.null()
    return is_text(kind) and not pa.types.is_null(kind) and holds_dialogues(table[name])


def _answer(table: pa.Table, roles: Mapping[str, str]) -> str | None:
    """The text column that answers a prompt of messages; None if there is none."""
    names, schema = table.column_names, table.schema
    prompt = roles.get("prompt", "prompt")
    if prompt not in names or not is_messages(schema.field(prompt).type):
        return None
    answers = [roles["completion"]] if "completion" in roles else REQUIRED["prompt_completion"]["completion"]
    answer = next((name for name in answers if name in names), None)
    is_answer = answer is not None and is_text(schema.field(answer).type)
    return answer if is_answer and not pa.types.is_null(schema.field(answer).type) else None


def _with(table: pa.Table, name: str, chunks: list[pa.Array]) -> pa.Table:
    kind = pa.large_list(_MESSAGE)
    column = pa.chunked_array([chunk.cast(kind) for chunk in chunks], kind)
    return table.set_column(table.column_names.index(name), pa.field(name, kind), column)


def _in_turn(array: pa.Array) -> pa.Array:
    """Lists of texts as lists of messages of user and assistant, alternating."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    turn = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)  # (t,) number of each text in its list
    speakers = pa.array(["user", "assistant"], pa.large_string()).take(pa.array(turn % 2))
    return _lists(array, offsets, speakers, pc.list_flatten(array))


def _answers(array: pa.Array) -> pa.Array:
    """Texts as lists of one assistant message; null stays null."""
    present = array.is_valid().to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(present, dtype=np.int64)])
    return _lists(array, offsets, pa.repeat(pa.scalar("assistant", pa.large_string()), offsets[-1]), array.drop_null())


def _lists(array: pa.Array, offsets: np.ndarray, speakers: pa.Array, said: pa.Array) -> pa.Array:
    messages = pa.StructArray.from_arrays([speakers, said.cast(pa.large_string())], fields=list(_MESSAGE))
    return pa.LargeListArray.from_arrays(pa.array(offsets), messages, mask=array.is_null())
