"""Conversations in Arrow: lists of structs or of JSON objects, either role/content or from/value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.json_text import encodable, loads
from curate.data.json_values import is_json
from curate.types import IntArray

__all__ = ["KEYS", "Turns", "concatenated_turns", "decoded", "is_messages", "is_text", "message_dicts", "turns"]

KEYS = (("role", "content"), ("from", "value"))  # who speaks, and what is said
_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}

# (n + 1,) int64 offsets of the rows, then role and content of every turn as large_string arrays.
Turns = tuple[IntArray, pa.Array, pa.Array]


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings (an all-null column does: its rows are the fault)."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind in (pa.string_view(), pa.null())


def is_messages(kind: pa.DataType) -> bool:
    """Whether a column of this type holds conversations of text; the rows of a list of JSON may be at fault."""
    return _is_list(kind) and (is_json(kind.value_type) or _keys(kind.value_type) is not None)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _keys(kind: pa.DataType) -> tuple[str, str] | None:
    """Names of the role and the content in a struct of this type."""
    fields = {field.name: field.type for field in kind} if pa.types.is_struct(kind) else {}
    return next((keys for keys in KEYS if all(key in fields and is_text(fields[key]) for key in keys)), None)


def turns(array: pa.Array) -> Turns:
    """Turns of n conversations (no chunks); a null conversation has none. Role names are OpenAI's."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    flat = pc.list_flatten(array)
    roles, contents = _spoken_json(flat) if is_json(flat.type) else _spoken(flat)
    encoded = roles.dictionary_encode()
    names = [_ROLES.get(name, name) for name in decoded(encoded.dictionary)]
    roles = pa.array(names, pa.large_string()).take(encoded.indices)
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), roles, contents


def _spoken(flat: pa.Array) -> tuple[pa.Array, pa.Array]:
    keys = _keys(flat.type)
    assert keys is not None, flat.type
    roles, contents = (pc.struct_field(flat, key).cast(pa.large_string()) for key in keys)
    return roles, contents


def _spoken_json(flat: pa.Array) -> tuple[pa.Array, pa.Array]:
    spoken = [_turn(text) for text in flat.cast(pa.large_string()).to_pylist()]
    valid = ([part if isinstance(part, str) and encodable([part]) else None for part in pair] for pair in spoken)
    roles, contents = zip(*valid, strict=True) if spoken else ((), ())
    return pa.array(roles, pa.large_string()), pa.array(contents, pa.large_string())


def _turn(text: str | None) -> tuple[Any, Any]:
    """Role and content of the JSON text of a message, None for what it lacks."""
    try:
        turn = loads(text or "null")
    except (ValueError, RecursionError):  # a row at fault, which is found for that elsewhere
        turn = None
    keys = next((keys for keys in KEYS if isinstance(turn, dict) and keys[1] in turn), None)
    return (None, None) if keys is None else (turn.get(keys[0]), turn[keys[1]])


def decoded(names: pa.Array) -> list[str]:
    """Strings as Python has them; bytes that are not UTF-8 become U+FFFD, since the row check reports them."""
    return [raw.decode(errors="replace") for raw in names.cast(pa.large_binary()).to_pylist()]


def concatenated_turns(first: Turns, second: Turns) -> Turns:
    """Row by row, the turns of `first` followed by those of `second`."""
    offsets = first[0] + second[0]
    starts = np.concatenate([first[0][:-1], second[0][:-1] + first[0][-1]])
    lengths = np.concatenate([np.diff(first[0]), np.diff(second[0])])
    n = len(offsets) - 1
    pairs = np.arange(2 * n).reshape(2, n).T.reshape(-1)  # row 0 of first, row 0 of second, row 1 of first, ...
    begins = np.concatenate([[0], np.cumsum(lengths[pairs])])
    index = pa.array(np.repeat(starts[pairs] - begins[:-1], lengths[pairs]) + np.arange(begins[-1]))
    roles, contents = (pa.concat_arrays([first[k], second[k]]).take(index) for k in (1, 2))
    return offsets, roles, contents


def message_dicts(conversation: list[Any]) -> list[dict[str, str]]:
    """One conversation as `{"role": ..., "content": ...}` turns; other fields of a turn are left out.

    conversation: of dicts, or of their JSON texts where the column is a list of JSON.
    """
    found = []
    for turn in conversation:
        if isinstance(turn, str):
            role, content = _turn(turn)
        else:
            role, content = (turn["role"], turn["content"]) if "content" in turn else (turn["from"], turn["value"])
        found.append({"role": _ROLES.get(role, role), "content": content})
    return found
