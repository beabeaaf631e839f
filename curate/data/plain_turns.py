"""Convert bare texts to messages: lists of alternating texts, dialogues in one text, and text completions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.column_names import CONVERSATIONS, PAIRS, REQUIRED
from curate.data.columns import is_list, is_messages, is_text
from curate.data.turns import CALL

# Column names under which a list of texts is a conversation; lists named "turns" may be of one speaker.
_IN_TURN = (*REQUIRED["messages"]["messages"], *(n for n in CONVERSATIONS if n.startswith(("chat", "dialog", "utter"))))
# Names of prompts that may be messages, with those of their answers.
_PROMPTS_AND_ANSWERS = (
    (REQUIRED["prompt_completion"]["prompt"], REQUIRED["prompt_completion"]["completion"]),
    *PAIRS,
)
_MESSAGE = pa.struct([("role", pa.large_string()), ("content", pa.large_string())])
_SPEAKERS = {
    "SYSTEM": "system",
    "USER": "user",
    "ASSISTANT": "assistant",
    "FUNCTION RESPONSE": "tool",
    "Human": "user",
    "Assistant": "assistant",
}
_TURN = re.compile(rf"(?:\A\s*|\n\n+)({'|'.join(_SPEAKERS)}):[ \n]?")
_END = re.compile(r"\s*<\|endoftext\|>\s*\Z")
_CALL = re.compile(
    r'\s*<functioncall>\s*\{\s*"name":\s*"([^"]+)"\s*(?:,\s*"arguments":\s*(?:\'(.*)\'|(\{.*\}))\s*)?\}\s*', re.DOTALL
)
_LOOKED_AT = 64  # cells that tell whether a column is one of dialogues


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
    elif name := next((column for column in ([explicit] if explicit else _IN_TURN) if _dialogues(table, column)), None):
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
    for asks, answers in _PROMPTS_AND_ANSWERS:
        asks, answers = (
            (roles[role],) if role in roles else usual for role, usual in (("prompt", asks), ("completion", answers))
        )
        prompt = next((name for name in asks if name in names), None)
        answer = next((name for name in answers if name in names and name != prompt), None)
        if prompt is None or answer is None or not is_text(schema.field(answer).type):
            continue
        is_answer = is_messages(schema.field(prompt).type) and not pa.types.is_null(schema.field(answer).type)
        return answer if is_answer else None
    return None


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


def _lists(array: pa.Array, offsets: np.ndarray, speakers: pa.Array, texts: pa.Array) -> pa.Array:
    messages = pa.StructArray.from_arrays([speakers, texts.cast(pa.large_string())], fields=list(_MESSAGE))
    return pa.LargeListArray.from_arrays(pa.array(offsets), messages, mask=array.is_null())


def holds_dialogues(column: pa.ChunkedArray) -> bool:
    """Whether the first cells of a column of text are dialogues, each with an answer.

    Two forms of dialogues in one text are read: that of Glaive's function calling data (`USER: ...`, `ASSISTANT: ...
    <|endoftext|>`, `FUNCTION RESPONSE: ...`) and that of Anthropic's data (`Human: ...`, `Assistant: ...`).
    """
    cells = [cell for cell in column.slice(0, _LOOKED_AT).cast(pa.large_string()).to_pylist() if cell]
    return bool(cells) and all(_is_dialogue(cell) for cell in cells)


def as_messages(texts: pa.Array, message: pa.StructType) -> pa.Array:
    """(n,) lists of messages with the fields of `message`, role and content; null stays null."""
    rows = [None if text is None else messages_of(text) for text in texts.cast(pa.large_string()).to_pylist()]
    flat = [turn for row in rows for turn in row or ()]
    offsets = np.concatenate([[0], np.cumsum([len(row or ()) for row in rows], dtype=np.int64)])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat, message), mask=texts.is_null())


def messages_of(text: str) -> list[dict[str, Any]]:
    """The messages of a dialogue; text before its first speaker is the system's."""
    marks = list(_TURN.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    before = text[: marks[0].start()].strip() if marks else text
    messages = [{"role": "system", "content": before}] if before else []
    for mark, end in zip(marks, ends[: len(marks)], strict=True):
        role, content = _SPEAKERS[mark[1]], text[mark.end() : end]
        if role == "assistant":
            content = _END.sub("", content)
            role, content = _as_call(content) or (role, content)
        messages.append({"role": role, "content": content.rstrip("\n")})
    return messages


def _is_dialogue(text: str) -> bool:
    marks = [_SPEAKERS[mark[1]] for mark in _TURN.finditer(text)]
    begins = _TURN.match(text) is not None
    return begins and "assistant" in marks


def _as_call(content: str) -> tuple[str, str] | None:
    """Role and content of a turn that is a call; None if it is not, or has arguments that are not object."""
    match = _CALL.fullmatch(content)
    if match is None:
        return None
    name, quoted, plain = match.groups()
    try:
        arguments = json.loads((quoted or plain or "{}").replace("\\'", "'"))
    except ValueError:
        return None
    return (
        (CALL, json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False))
        if isinstance(arguments, dict)
        else None
    )
