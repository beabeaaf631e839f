"""System, history, context and tools: columns besides prompt and completion that a model sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from curate.data.columns import is_text, message_keys
from curate.data.message_parts import Parts
from curate.data.messages import conversations, values_of
from curate.data.tool_calls import BadTurn, tools_of
from curate.data.turns import MessageKeys, Turn, history_of
from curate.errors import InputError

PREAMBLE = ("system", "developer")


class Surroundings(NamedTuple):
    """What a model sees of a row besides prompt and completion.

    system, context: texts, "" if there is none. history: earlier turns. tools: as a chat template takes them.
    """

    system: str
    history: list[Turn]
    context: str
    tools: list[dict[str, Any]] | None


NOTHING = Surroundings("", [], "", None)


def surroundings_of(columns: Mapping[str, pa.ChunkedArray], keys: MessageKeys) -> list[Surroundings]:
    """(n,) surroundings of n rows. columns: {role: (n,) cells}, at least one. Raises InputError for an invalid cell."""
    values = {role: [cell for chunk in column.chunks for cell in values_of(chunk)] for role, column in columns.items()}
    n = len(next(iter(values.values())))
    parsed: dict[str, list[Any]] = {}
    for role, cells in values.items():
        try:
            parsed[role] = [_value(role, cell, keys) for cell in cells]
        except BadTurn as error:
            raise InputError(f"a cell of the {role} {error}; fix the data") from error
    columns_of = [parsed.get(role, [getattr(NOTHING, role)] * n) for role in Surroundings._fields]
    return [Surroundings(*row) for row in zip(*columns_of, strict=True)]


def are_texts(kinds: Mapping[str, pa.DataType]) -> bool:
    """Whether a model is shown the cells of columns of these types, {role: type}, as they are."""
    return all(role in ("system", "context") and is_text(kind) for role, kind in kinds.items())


def _value(role: str, cell: Any, keys: MessageKeys) -> Any:
    if role == "tools":
        return tools_of(cell)
    if role == "history":
        return history_of(cell, keys)
    return joined_context(cell) if role == "context" else _said(cell)


def _said(cell: Any) -> str:
    """What a system cell says: a text, or the texts of content parts or messages, joined by blank lines."""
    parts = Parts()
    for item in cell if isinstance(cell, list) else [cell]:
        parts.add(item["content"] if isinstance(item, dict) and "content" in item else item)
    return "\n\n".join(text for text in parts.texts if text)


def joined_context(cell: Any) -> str:
    """A text, or the texts of a list joined by blank lines."""
    texts = cell if isinstance(cell, list) else [cell]
    return "\n\n".join(text for text in texts if isinstance(text, str) and text)


def faults_of(role: str, column: pa.ChunkedArray, keys: MessageKeys) -> dict[int, str]:
    """{row: reason} of cells that cannot be read; reasons continue "column 'x'"."""
    faults = {}
    for row, cell in enumerate(cell for chunk in column.chunks for cell in values_of(chunk)):
        try:
            _value(role, cell, keys)
        except BadTurn as error:
            faults[row] = str(error)
    return faults


def checked_surroundings(
    table: pa.Table, columns: dict[str, str], explicit: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, dict[int, str]], list[str]]:
    """Check columns of history and tools: returns the remaining roles, {column: {row: fault}}, and notes.

    A recognized column is dropped, with a note, if most of its cells are at fault; an explicit one is kept.
    """
    roles, odd, lines = dict(columns), dict[str, dict[int, str]](), list[str]()
    for role in ("history", "tools"):
        name = columns.get(role)
        faults = {} if name is None else faults_of(role, table[name], message_keys(columns))
        if not faults or name is None:
            continue
        if role in explicit or 2 * len(faults) <= len(table) - table[name].null_count:
            odd[name] = faults
            continue
        row, why = next(iter(faults.items()))
        del roles[role]
        lines.append(f"column {name!r} is not read as {role}, so no model sees it: its cell in row {row} {why}")
    return roles, odd, lines


def overruled(table: pa.Table, name: str, system: str, keys: MessageKeys) -> list[str]:
    """A note if conversations in column `name` have a system message, which takes precedence over column `system`."""
    from_turns = [
        turns is not None and bool(turns) and turns[0]["role"] in PREAMBLE
        for chunk in table[name].chunks
        for turns in conversations(chunk, keys)
    ]
    from_column = [bool(cell) for chunk in table[system].chunks for cell in values_of(chunk)]
    rows = sum(first and second for first, second in zip(from_turns, from_column, strict=True))
    if not rows:
        return []
    return [f"{rows:,} rows have their own system message, which is shown in place of column {system!r}"]


def question_with(context: str, question: str) -> str:
    """A question preceded by its context."""
    return f"{context}\n\n{question}" if context and question is not None else question


def surrounded(turns: Sequence[Turn], around: Surroundings) -> list[Turn]:
    """Turns preceded by system and history, with the context before the first user message.

    A conversation's own system message takes precedence.
    """
    result = list(turns)
    if around.context:
        first = next((k for k, turn in enumerate(result) if turn["role"] == "user"), None)
        if first is None:
            result.insert(0, {"role": "user", "content": around.context})
        else:
            result[first] = {**result[first], "content": question_with(around.context, result[first]["content"])}
    begin = next((k for k, turn in enumerate(result) if turn["role"] not in PREAMBLE), len(result))
    result[begin:begin] = around.history
    if around.system and not (result and result[0]["role"] in PREAMBLE):
        result.insert(0, {"role": "system", "content": around.system})
    return result
