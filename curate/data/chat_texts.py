"""Read dialogues that are one text, with the name of the speaker before each turn, as messages.

Two forms are known: that of Glaive's function calling data (`USER: ...`, `ASSISTANT: ... <|endoftext|>`,
`FUNCTION RESPONSE: ...`) and that of Anthropic's data (`Human: ...`, `Assistant: ...`).
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pyarrow as pa

from curate.data.turns import CALL

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


def holds_dialogues(column: pa.ChunkedArray) -> bool:
    """Whether the first cells of a column of text are dialogues, each with an answer."""
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
        role, said = _SPEAKERS[mark[1]], text[mark.end() : end]
        if role == "assistant":
            said = _END.sub("", said)
            role, said = _as_call(said) or (role, said)
        messages.append({"role": role, "content": said.rstrip("\n")})
    return messages


def _is_dialogue(text: str) -> bool:
    marks = [_SPEAKERS[mark[1]] for mark in _TURN.finditer(text)]
    begins = _TURN.match(text) is not None
    return begins and "assistant" in marks


def _as_call(said: str) -> tuple[str, str] | None:
    """Role and content of a turn that is a call; None if it is not, or has arguments that are not object."""
    found = _CALL.fullmatch(said)
    if found is None:
        return None
    name, quoted, plain = found.groups()
    try:
        arguments = json.loads((quoted or plain or "{}").replace("\\'", "'"))
    except ValueError:
        return None
    return (
        (CALL, json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False))
        if isinstance(arguments, dict)
        else None
    )
