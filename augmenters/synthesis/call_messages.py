"""Messages with tool calls in the form that the data has: new rows take over those of their parents."""

from __future__ import annotations

from typing import Any

from curate.data.columns import message_keys
from curate.data.examples import Examples
from curate.data.messages import values_of
from curate.data.tool_calls import BadTurn, parsed
from curate.data.turns import CONTENT_KEYS, REASONING_KEYS, MessageKeys, Turn, read_turns


def call_messages(examples: Examples) -> list[dict[str, Any] | None]:
    """(n,) message with the tool calls in which a row of messages ends, without its words and reasoning.

    None if the last message has no calls, or holds more than one turn. Only for shape messages.
    """
    keys = message_keys(examples.columns)
    column = examples.column("messages" if "messages" in examples.columns else "completion")
    cells = (parsed(cell) for chunk in column.chunks for cell in values_of(chunk))
    return [_without_words(parsed(cell[-1]), keys) if isinstance(cell, list) and cell else None for cell in cells]


def _without_words(message: Any, keys: MessageKeys) -> dict[str, Any] | None:
    """The message with its calls alone; None if it has none."""
    turn = _turn(message, keys)
    if turn is None or not turn.get("tool_calls"):
        return None
    stripped = {key: value for key, value in message.items() if key not in REASONING_KEYS}
    content = keys.content or next((key for key in CONTENT_KEYS if key in stripped), None)
    text = stripped.get(content) if content is not None else None
    wordless = "" if isinstance(text, str) else [part for part in text if _is_call(part)] if text else text
    without = {**stripped, content: wordless} if content is not None else stripped
    alone = _turn(without, keys)
    # Content may be the calls themselves, as text: then it stays.
    return without if alone is not None and alone.get("tool_calls") == turn["tool_calls"] else stripped


def _turn(message: Any, keys: MessageKeys) -> Turn | None:
    """The one turn of a message; None if it has none or several."""
    try:
        turns = read_turns([message], keys)
    except BadTurn:
        return None
    return turns[0] if len(turns) == 1 else None


def _is_call(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in ("tool_use", "tool_call")
