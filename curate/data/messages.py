"""Read columns of conversations: their turns as arrays, and their faults."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.columns import is_list, is_text, plain_keys
from curate.data.json_text import encodable
from curate.data.json_values import is_json
from curate.data.tool_calls import BadTurn
from curate.data.turns import (
    CALL,
    USUAL,
    MessageKeys,
    Turn,
    TurnReader,
    read_turns,
    unread_keys,
)
from curate.data.wording import listed, short
from curate.errors import InputError
from curate.types import IntArray

# (n + 1,) int64 offsets of the rows, then role and content of every turn (t,) as large_string arrays.
Turns = tuple[IntArray, pa.Array, pa.Array]

_EXPLAINED = 1000  # rows without an answer whose faults list the speakers
_PLAIN = {"human": "user", "gpt": "assistant", "model": "assistant"}

# --- arrays ------------------------------------------------------------------------------------------------------


def turns(array: pa.Array, keys: MessageKeys = USUAL) -> Turns:
    """Turns of n conversations; a null conversation has none. Role names are OpenAI's.

    The content of a turn with tool calls, reasoning and the like is JSON text of all of it. Content is null if there is
    none; a conversation that cannot be read has one turn with null role and content.
    """
    plain = plain_keys(array.type.value_type, keys)
    if plain is None:
        return _turns_one_by_one(array, keys)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)  # (n,) turns per row
    flat = pc.list_flatten(array)  # (t,) messages of all rows
    roles, contents = (pc.struct_field(flat, key).cast(pa.large_string()) for key in plain)
    encoded = roles.dictionary_encode()  # few distinct names: each is mapped once
    names = [keys.canonical(name) for name in decoded(encoded.dictionary)]
    names = ["assistant" if name == CALL else name for name in names]
    roles = pa.array(names, pa.large_string()).take(encoded.indices)
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), roles, contents


def _turns_one_by_one(array: pa.Array, keys: MessageKeys) -> Turns:
    """`turns` of conversations of any form."""
    lengths: list[int] = []
    roles: list[str | None] = []
    contents: list[str | None] = []
    for messages in values_of(array):
        try:
            conversation = read_turns(messages or [], keys)
        except BadTurn:
            conversation = [{"role": None, "content": None}]
        lengths.append(len(conversation))
        for turn in conversation:
            roles.append(turn["role"])
            contents.append(_content_or_json(turn))
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return offsets, pa.array(roles, pa.large_string()), pa.array(contents, pa.large_string())


def _content_or_json(turn: Turn) -> str | None:
    """The content of a turn; JSON text of all of it, without the role, if it has more than content."""
    members = {key: value for key, value in turn.items() if key != "role"}
    return turn["content"] if len(members) == 1 else json.dumps(members)


def values_of(array: pa.Array) -> list[Any]:
    """(n,) Python values with JSON parsed at any depth; null members of objects are omitted."""
    kind = array.type
    if is_json(kind):
        return [None if text is None else _loaded(text) for text in _strings(array)]
    if pa.types.is_struct(kind):
        columns = [(member.name, values_of(part)) for member, part in zip(kind, array.flatten(), strict=True)]
        valid = array.is_valid().to_pylist()
        return [
            {name: column[k] for name, column in columns if column[k] is not None} if valid[k] else None
            for k in range(len(array))
        ]
    if is_list(kind):
        lengths = pc.list_value_length(array).to_pylist()
        items = iter(values_of(pc.list_flatten(array)))
        return [None if length is None else [next(items) for _ in range(length)] for length in lengths]
    if is_text(kind) and not pa.types.is_null(kind):
        return _strings(array)
    values: list[Any] = array.to_pylist()
    return [dict(value) if value is not None else None for value in values] if pa.types.is_map(kind) else values


def _strings(array: pa.Array) -> list[str | None]:
    """Python strings; bytes that are not UTF-8 become lone surrogates, which are reported as a fault."""
    try:
        texts: list[str | None] = array.cast(pa.large_string()).to_pylist()
        return texts
    except UnicodeDecodeError:
        raw = array.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
        return [None if text is None else text.decode(errors="surrogateescape") for text in raw]


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # the row check reports it
        return None


def decoded(names: pa.Array) -> list[str]:
    """Python strings; bytes that are not UTF-8 become U+FFFD, since the row check reports them."""
    return [raw.decode(errors="replace") for raw in names.cast(pa.large_binary()).to_pylist()]


def conversations(array: pa.Array, keys: MessageKeys = USUAL) -> list[list[Turn] | None]:
    """(n,) conversations as turns. Raises InputError for one that cannot be read."""
    try:
        return [None if messages is None else read_turns(messages, keys) for messages in values_of(array)]
    except BadTurn as error:
        raise InputError(f"a conversation {error}; fix the data") from error


def concatenated_turns(first: Turns, second: Turns) -> Turns:
    """Row by row, the turns of `first` followed by those of `second`."""
    offsets = first[0] + second[0]
    starts = np.concatenate([first[0][:-1], second[0][:-1] + first[0][-1]])  # (2 n,) places in first, then second
    lengths = np.concatenate([np.diff(first[0]), np.diff(second[0])])  # (2 n,)
    n = len(offsets) - 1
    # (2 n,) row 0 of first, row 0 of second, row 1 of first, ...
    pairs = np.arange(2 * n).reshape(2, n).T.reshape(-1)
    begins = np.concatenate([[0], np.cumsum(lengths[pairs])])  # (2 n + 1,) places in the result
    # (t,) for every turn of the result its place in first and second end to end
    index = pa.array(np.repeat(starts[pairs] - begins[:-1], lengths[pairs]) + np.arange(begins[-1]))
    roles, contents = (pa.concat_arrays([first[k], second[k]]).take(index) for k in (1, 2))
    return offsets, roles, contents


def is_plain(column: pa.ChunkedArray, keys: MessageKeys) -> bool:
    """Whether conversations are turns of a user, an assistant and a system under their usual names, texts only."""
    plain = plain_keys(column.type.value_type, keys)
    if plain is None or plain not in (("role", "content"), ("from", "value")):
        return False
    names = {name for chunk in column.chunks for name in decoded(pc.unique(_roles(chunk, plain[0]).drop_null()))}
    return all(keys.canonical(name) == _PLAIN.get(name, name) not in ("tool", CALL) for name in names)


def _roles(array: pa.Array, key: str) -> pa.Array:
    return pc.struct_field(pc.list_flatten(array), key).cast(pa.large_string())


# --- faults of conversations, and notes about them -----------------------------------------------------------------


@dataclass
class Survey:
    """Result of checking the conversations of a column.

    faults: {row: reason}; reasons continue "column 'x'". unseen: {kind of part: rows} of message parts that are not
    text. unknown: {role: turns} of roles that chat templates do not have. unread: keys of messages that are not read.
    """

    faults: dict[int, str] = field(default_factory=dict)
    unseen: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    unread: set[str] = field(default_factory=set)

    def notes(self, name: str) -> Iterator[str]:
        """Lines for the user about column `name`."""
        if self.unseen:
            parts = ", ".join(f"{kind} in {rows:,} rows" for kind, rows in sorted(self.unseen.items()))
            yield f"column {name!r} has parts other than text and calls ({parts}): it is kept, but no model sees it"
        if self.unread:
            keys = listed([repr(short(key)) for key in sorted(self.unread)])
            yield f"column {name!r} has messages with the keys {keys}, which are kept but not read"
        if self.unknown:
            roles = ", ".join(f"{short(role)!r} {count:,}" for role, count in self.unknown.most_common(5))
            first = self.unknown.most_common(1)[0][0]
            yield (
                f"column {name!r} has roles that chat templates do not know ({roles}): they are context; "
                f"--role {short(first)}=assistant (or user, system, tool) says what one is"
            )


NO_MESSAGES = "has no messages"  # a fault of a conversation
UNANSWERED = "has no assistant turn"  # a fault of a conversation


def survey(column: pa.ChunkedArray, keys: MessageKeys, answered: bool) -> Survey:
    """Check every conversation of a column; null is valid here. answered: whether an assistant turn is required."""
    result = Survey()
    start = 0
    for chunk in column.chunks:
        if plain_keys(chunk.type.value_type, keys) is None:
            _survey_one_by_one(chunk, keys, answered, start, result)
        else:
            _survey_plain(chunk, keys, answered, start, result)
        start += len(chunk)
    return result


def _survey_plain(array: pa.Array, keys: MessageKeys, answered: bool, start: int, result: Survey) -> None:
    """Check conversations of role and content only, as arrays; updates `result`. start: number of the first row."""
    offsets, roles, contents = turns(array, keys)
    members = zip(array.type.value_type, pc.list_flatten(array).flatten(), strict=True)
    result.unread |= unread_keys([member.name for member, part in members if part.null_count < len(part)], keys)
    n = len(array)
    lengths = np.diff(offsets)  # (n,) turns per row
    rows = np.repeat(np.arange(n), lengths)  # (t,) row of every turn
    present = array.is_valid().to_numpy(zero_copy_only=False)  # (n,)

    def mark(mask: Any, reason: str) -> None:
        """Record a fault of the rows in `mask` (n,) that have none yet."""
        for row in np.flatnonzero(mask & present).tolist():
            result.faults.setdefault(start + row, reason)

    def any_turn(mask: Any) -> Any:
        """(n,) whether `mask` (t,) holds for any turn of a row."""
        return np.bincount(rows[mask], minlength=n) > 0

    mark(lengths == 0, NO_MESSAGES)
    mark(any_turn(pc.is_null(roles).to_numpy(zero_copy_only=False)), "has a message without a role")
    mark(any_turn(pc.is_null(contents).to_numpy(zero_copy_only=False)), "has a message without content")
    counts = pc.value_counts(roles.drop_null())
    names = dict(zip(decoded(counts.field("values")), counts.field("counts").to_pylist(), strict=True))
    result.unknown.update({name: count for name, count in names.items() if not keys.is_known(name)})
    if answered:
        assistant = pc.fill_null(pc.equal(roles, "assistant"), False).to_numpy(zero_copy_only=False)  # (t,)
        unanswered = np.flatnonzero(~any_turn(assistant) & present).tolist()
        for row in unanswered[:_EXPLAINED] if result.unknown else ():
            speakers = decoded(pc.unique(roles.slice(int(offsets[row]), int(lengths[row])).drop_null()))
            mark(np.arange(n) == row, _unanswered(speakers, keys))
        mark(~any_turn(assistant), UNANSWERED)


def _survey_one_by_one(array: pa.Array, keys: MessageKeys, answered: bool, start: int, result: Survey) -> None:
    """Check conversations of any form, one by one; updates `result`. start: number of the first row."""
    for row, messages in enumerate(values_of(array), start):
        if messages is None:
            continue
        reader = TurnReader(keys)
        try:
            conversation = reader.read(messages)
        except BadTurn as error:
            result.faults[row] = str(error)
            continue
        result.unseen.update(reader.unseen)
        result.unread |= reader.unread
        roles = [turn["role"] for turn in conversation]
        result.unknown.update(role for role in roles if not keys.is_known(role))
        if not conversation:
            result.faults[row] = NO_MESSAGES
        elif answered and "assistant" not in roles:
            result.faults[row] = _unanswered(roles, keys)
        elif not encodable(strings_in(conversation)):
            result.faults[row] = "is not valid UTF-8"


def strings_in(value: Any) -> list[str]:
    """All strings inside a value, keys too."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in strings_in(item)]
    return [text for item in value for text in strings_in(item)] if isinstance(value, list) else []


def _unanswered(roles: Iterable[str], keys: MessageKeys) -> str:
    unknown = [role for role in dict.fromkeys(roles) if not keys.is_known(role)]
    if not unknown:
        return UNANSWERED
    speakers = ", ".join(repr(short(role)) for role in unknown[:4])
    return f"has no assistant turn, but turns of {speakers} (--role {short(unknown[-1])}=assistant says that it is one)"
