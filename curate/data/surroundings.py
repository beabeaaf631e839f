"""What stands beside the prompt and completion of a row and is shown to a model: system, history, context and tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from curate.data.columns import message_keys
from curate.data.messages import conversations, values_of
from curate.data.tool_calls import BadTurn, tools_of
from curate.data.turns import MessageKeys, Turn, history_of
from curate.errors import InputError

PREAMBLE = ("system", "developer")


class Surroundings(NamedTuple):
    """system, context: texts, "" where there is none. history: earlier turns. tools: as a chat template takes them."""

    system: str
    history: list[Turn]
    context: str
    tools: list[dict[str, Any]] | None


NOTHING = Surroundings("", [], "", None)


def surroundings_of(columns: Mapping[str, pa.ChunkedArray], keys: MessageKeys) -> list[Surroundings]:
    """Of n rows. columns: {role: its cells}, at least one. Raises InputError for a cell that cannot be read."""
    read = {role: [cell for chunk in column.chunks for cell in values_of(chunk)] for role, column in columns.items()}
    n = len(next(iter(read.values())))
    found: dict[str, list[Any]] = {}
    for role, cells in read.items():
        try:
            found[role] = [_value(role, cell, keys) for cell in cells]
        except BadTurn as error:
            raise InputError(f"a cell of the {role} {error}; fix the data") from error
    columns_of = [found.get(role, [getattr(NOTHING, role)] * n) for role in Surroundings._fields]
    return [Surroundings(*row) for row in zip(*columns_of, strict=True)]


def _value(role: str, cell: Any, keys: MessageKeys) -> Any:
    if role == "tools":
        return tools_of(cell)
    if role == "history":
        return history_of(cell, keys)
    return joined_context(cell)


def joined_context(cell: Any) -> str:
    """Text, or the texts of a list with a blank line between."""
    texts = cell if isinstance(cell, list) else [cell]
    return "\n\n".join(text for text in texts if isinstance(text, str) and text)


def faults_of(role: str, column: pa.ChunkedArray, keys: MessageKeys) -> dict[int, str]:
    """{row: why it cannot be read}, read on from "column 'x'"."""
    faults = {}
    for row, cell in enumerate(cell for chunk in column.chunks for cell in values_of(chunk)):
        try:
            _value(role, cell, keys)
        except BadTurn as error:
            faults[row] = str(error)
    return faults


def checked_surroundings(
    table: pa.Table, found: dict[str, str], given: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, dict[int, str]], list[str]]:
    """The roles, {column: {row: fault}} of tools and histories, and lines about columns that are none after all."""
    roles, odd, lines = dict(found), dict[str, dict[int, str]](), list[str]()
    for role in ("history", "tools"):
        name = found.get(role)
        faults = {} if name is None else faults_of(role, table[name], message_keys(found))
        if not faults or name is None:
            continue
        if role in given or 2 * len(faults) <= len(table) - table[name].null_count:
            odd[name] = faults
            continue
        row, why = next(iter(faults.items()))
        del roles[role]
        lines.append(f"column {name!r} is not read as {role}, so no model sees it: its cell in row {row} {why}")
    return roles, odd, lines


def overruled(table: pa.Table, name: str, system: str, keys: MessageKeys) -> list[str]:
    """A line where conversations of column `name` begin with a message of the system, and so do without the column."""
    own = [
        turns is not None and bool(turns) and turns[0]["role"] in PREAMBLE
        for chunk in table[name].chunks
        for turns in conversations(chunk, keys)
    ]
    said = [bool(cell) for chunk in table[system].chunks for cell in values_of(chunk)]
    rows = sum(first and second for first, second in zip(own, said, strict=True))
    if not rows:
        return []
    return [f"{rows:,} rows have a message of the system of their own, which is shown in place of column {system!r}"]


def question_with(context: str, question: str) -> str:
    """A question behind what it is about."""
    return f"{context}\n\n{question}" if context and question is not None else question


def surrounded(turns: Sequence[Turn], around: Surroundings) -> list[Turn]:
    """The turns behind system and history, and the context before the first thing that a user says.

    A conversation that begins with a message of the system has its own.
    """
    found = list(turns)
    if around.context:
        first = next((k for k, turn in enumerate(found) if turn["role"] == "user"), None)
        if first is None:
            found.insert(0, {"role": "user", "content": around.context})
        else:
            found[first] = {**found[first], "content": question_with(around.context, found[first]["content"])}
    begin = next((k for k, turn in enumerate(found) if turn["role"] not in PREAMBLE), len(found))
    found[begin:begin] = around.history
    if around.system and not (found and found[0]["role"] in PREAMBLE):
        found.insert(0, {"role": "system", "content": around.system})
    return found
