"""Write conversations with the keys, roles and types of an existing column of messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from curate.data.columns import is_list
from curate.data.json_columns import with_json_as
from curate.data.json_text import dumps
from curate.data.json_values import is_json
from curate.data.messages import values_of
from curate.data.turns import ANSWERS, ASKS, CONTENT_KEYS, ROLE_KEYS, USUAL, MessageKeys, Turn

_LOOKED_AT = 64  # conversations


class AsGiven(NamedTuple):
    """A message that has the keys and the form of the column already."""

    message: dict[str, Any]


def written_like(
    conversations: Sequence[Sequence[Turn | AsGiven]], column: pa.ChunkedArray, keys: MessageKeys = USUAL
) -> pa.Array:
    """(n,) conversations in the type of the column `column`, with its keys and speaker names.

    conversations: turns of role and content only, or messages in the form of the column. If `column` holds exchanges
    (objects of a question and its answer), turns must be pairs of user and assistant, optionally after a system
    message.
    """
    sample = values_of(column.slice(0, _LOOKED_AT).combine_chunks())
    messages = [message for conversation in sample for message in conversation or () if isinstance(message, dict)]
    first: dict[str, Any] = messages[0] if messages else {}
    role = keys.role or next((key for key in ROLE_KEYS if key in first), "")
    content = keys.content or next((key for key in CONTENT_KEYS if key in first), CONTENT_KEYS[0])
    question_key = next((key for key in ASKS if key in first), None)
    values: list[Any]
    if not role and question_key is not None:
        answer = next(key for key in ANSWERS if key in first)
        values = [
            list(_exchanges([turn for turn in turns if not isinstance(turn, AsGiven)], question_key, answer))
            for turns in conversations
        ]
    else:
        role = role or ROLE_KEYS[0]
        roles_used: list[str] = [message[role] for message in messages if isinstance(message.get(role), str)]
        names: dict[str, str] = {keys.canonical(name): name for name in reversed(roles_used)}
        names = {"user": "human", "assistant": "gpt", **names} if role == "from" else names
        in_parts = all(isinstance(message.get(content), list) for message in messages) and bool(messages)
        values = [
            [
                turn.message
                if isinstance(turn, AsGiven)
                else {role: names.get(turn["role"], turn["role"]), content: _said(turn, in_parts)}
                for turn in turns
            ]
            for turns in conversations
        ]
    kind = column.type
    plain = with_json_as(kind, pa.string())
    array = pa.array([_encoded(value, kind) for value in values], plain)
    return array if plain == kind else array.cast(kind)


def _said(turn: Turn, in_parts: bool) -> Any:
    return [{"type": "text", "text": turn["content"]}] if in_parts else turn["content"]


def _exchanges(turns: Sequence[Turn], question_key: str, answer: str) -> Iterator[dict[str, str]]:
    exchange: dict[str, str] = {}
    for turn in turns:
        exchange[{"user": question_key, "assistant": answer}.get(turn["role"], "system")] = turn["content"]
        if turn["role"] == "assistant":
            yield exchange
            exchange = {}


def _encoded(value: Any, kind: pa.DataType) -> Any:
    """The value with JSON text where the type has JSON."""
    if value is None:
        return None
    if is_json(kind):
        return dumps(value)
    if is_list(kind):
        return [_encoded(item, kind.value_type) for item in value]
    if pa.types.is_map(kind):
        return list(value.items())
    if pa.types.is_struct(kind):
        return {member.name: _encoded(value[member.name], member.type) for member in kind if member.name in value}
    return value
