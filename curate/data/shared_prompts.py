"""Build conversations from messages and texts, and split off the common prompt of two answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.columns import is_messages
from curate.data.json_columns import opened
from curate.data.json_values import holds_json
from curate.types import IntArray

# Marks the beginning of an answer in a dialogue that is one text.
_ANSWER = re.compile(r"\n\n(?:Assistant|assistant|ASSISTANT|AI):|\nAssistant:")


def as_messages(texts: pa.ChunkedArray, role: str) -> pa.ChunkedArray:
    """(n,) conversations of one message each."""
    chunks = []
    for chunk in texts.chunks:
        contents = chunk.cast(pa.large_string())
        roles = pa.repeat(pa.scalar(role, pa.large_string()), len(chunk))
        messages = pa.StructArray.from_arrays([roles, contents], ["role", "content"])
        chunks.append(_lists(messages, np.arange(len(chunk) + 1), chunk.is_null()))
    kind = pa.large_list(pa.struct({"role": pa.large_string(), "content": pa.large_string()}))
    return pa.chunked_array(chunks, chunks[0].type if chunks else kind)


def as_conversations(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column as conversations; a single message becomes a conversation of one message."""
    if holds_json(column.type):
        column, _ = opened(column)
    if is_messages(column.type):
        return column
    chunks = [_lists(chunk, np.arange(len(chunk) + 1), chunk.is_null()) for chunk in column.chunks]
    return pa.chunked_array(chunks, pa.large_list(column.type))


def _lists(items: pa.Array, offsets: IntArray, null: pa.Array) -> pa.Array:
    kind = pa.large_list(items.type)
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), items, kind, mask=null)


def divided_texts(chosen: str | None, rejected: str | None) -> tuple[str | None, str | None, str | None]:
    """(prompt, rest of chosen, rest of rejected): the common prefix, cut at the last answer mark or a word boundary."""
    if chosen is None or rejected is None:
        return None, chosen, rejected
    equal = (first == second for first, second in zip(chosen, rejected, strict=False))
    shared = chosen[: sum(1 for _ in takewhile(bool, equal))]
    marks = [match.end() for match in _ANSWER.finditer(shared)]
    if marks:
        length = marks[-1]
    else:
        whole = len(shared) in (len(chosen), len(rejected))
        length = len(shared.rstrip()) if whole else len(shared)
        while length and not shared[length - 1].isspace():  # back to a word boundary
            length -= 1
        length = len(shared[:length].rstrip())
    return chosen[:length], chosen[length:], rejected[length:]


def shared_messages(first: pa.Array, second: pa.Array) -> IntArray:
    """(n,) number of common first messages of two conversations, leaving at least one message of each."""
    codes, lengths, starts = [], [], []
    flat = [pc.list_flatten(array) for array in (first, second)]
    both = list(_codes([*flat]))
    for array, own_codes in zip((first, second), both, strict=True):
        sizes = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        codes.append(own_codes)
        lengths.append(sizes)
        starts.append(np.cumsum(sizes) - sizes)
    most = np.maximum(np.minimum(*lengths) - 1, 0)  # (n,) upper bound
    shared = np.zeros(len(first), np.int64)  # (n,)
    rows = np.flatnonzero(most > 0)  # (at most n,) rows that agree up to `depth`
    depth = 0
    while len(rows):
        same = codes[0][starts[0][rows] + depth] == codes[1][starts[1][rows] + depth]
        rows = rows[same]
        depth += 1
        shared[rows] = depth
        rows = rows[most[rows] > depth]
    return shared


def _codes(arrays: list[pa.Array]) -> Iterator[IntArray]:
    """For each array, (m,) integers that are equal for equal items, also across the arrays."""
    code_of: dict[str, int] = {}
    for array in arrays:
        texts = map(_canonical, array.to_pylist())
        yield np.array([code_of.setdefault(text, len(code_of)) for text in texts], np.int64)


def _canonical(item: Any) -> str:
    return item if isinstance(item, str) else json.dumps(item, default=str)


def part_of_messages(array: pa.Array, shared: IntArray, *, begin: bool) -> pa.Array:
    """The first `shared` (n,) messages of each conversation if `begin`, else the others."""
    sizes = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    starts = np.cumsum(sizes) - sizes + (0 if begin else shared)
    counts = shared if begin else sizes - shared
    offsets = np.concatenate([[0], np.cumsum(counts)])
    index = np.repeat(starts - offsets[:-1], counts) + np.arange(offsets[-1])
    return _lists(pc.list_flatten(array).take(pa.array(index)), offsets, array.is_null())
