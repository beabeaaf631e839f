"""Conversations in Arrow: lists of structs, either role/content or from/value."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Turns", "concatenated_turns", "is_messages", "is_text", "message_dicts", "turns"]

_KEYS = (("role", "content"), ("from", "value"))
_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}

# (n + 1,) int64 offsets of the rows, then role and content of every turn as large_string arrays.
Turns = tuple[npt.NDArray[np.int64], pa.Array, pa.Array]


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings (an all-null column does: its rows are the fault)."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind in (pa.string_view(), pa.null())


def is_messages(kind: pa.DataType) -> bool:
    """Whether a column of this type holds conversations of text."""
    return _keys(kind) is not None


def _keys(kind: pa.DataType) -> tuple[str, str] | None:
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        return None
    fields = {field.name: field.type for field in kind.value_type}
    for keys in _KEYS:
        if all(key in fields and is_text(fields[key]) for key in keys):
            return keys
    return None


def turns(array: pa.Array) -> Turns:
    """Turns of n conversations (no chunks); a null conversation has none. Role names are OpenAI's."""
    keys = _keys(array.type)
    assert keys is not None, array.type
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    flat = pc.list_flatten(array)
    roles, contents = (pc.struct_field(flat, key).cast(pa.large_string()) for key in keys)
    encoded = roles.dictionary_encode()
    names = [_ROLES.get(name, name) for name in _decoded(encoded.dictionary)]
    roles = pa.array(names, pa.large_string()).take(encoded.indices)
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), roles, contents


def _decoded(names: pa.Array) -> list[str]:
    # A role that is not UTF-8 is reported by the row check; here it only must not stop the reading of others.
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


def message_dicts(conversation: list[dict[str, Any]]) -> list[dict[str, str]]:
    """One conversation as `{"role": ..., "content": ...}` turns; other fields of a turn are left out."""
    found = []
    for turn in conversation:
        role, content = (turn["role"], turn["content"]) if "content" in turn else (turn["from"], turn["value"])
        found.append({"role": _ROLES.get(role, role), "content": content})
    return found
