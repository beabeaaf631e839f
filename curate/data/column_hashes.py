"""Hashes of Arrow columns, by their values only (not chunks, string width, dictionaries or views)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.json_values import type_name
from curate.errors import InputError
from curate.types import IntArray

__all__ = ["framed", "hash_columns", "row_digests", "whole"]

_SLICE_ROWS = 65_536


def whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as one array. Strings and bytes get 64-bit offsets, so that 2 GiB are no limit."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or kind == pa.string_view():
        kind = pa.large_string()
    elif pa.types.is_binary(kind) or kind == pa.binary_view():
        kind = pa.large_binary()
    column = column if kind == column.type else column.cast(kind)
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], kind)])
    return column


def _large_binary(offsets: IntArray, data: Any) -> pa.Array:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets, np.int64)), pa.py_buffer(data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def _lengths(array: pa.Array) -> IntArray:
    """(n,) int64 bytes of each value, -1 where null."""
    return pc.fill_null(pc.binary_length(array), -1).to_numpy(zero_copy_only=False).astype("<i8")


def framed(array: pa.Array) -> pa.Array:
    """(n,) large_binary: 8 bytes of length (-1 for null), then the value; frames in a row stay unambiguous."""
    values = array.cast(pa.large_binary())
    heads = _large_binary(np.arange(len(values) + 1) * 8, _lengths(values).tobytes())
    empty = pa.scalar(b"", pa.large_binary())
    return pc.binary_join_element_wise(heads, values, empty, null_handling="replace", null_replacement=b"")


def row_digests(columns: Sequence[pa.Array], row_offsets: IntArray | None = None) -> pa.Array:
    """String array (n,) of 32 hex digits: BLAKE2b over each row's framed large_binary values, in order.

    row_offsets: (n + 1,) where a row covers several consecutive values of the columns (turns of a conversation).
    """
    empty = pa.scalar(b"", pa.large_binary())
    joined = columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, empty)
    buffer = joined.buffers()
    offsets = np.frombuffer(buffer[1], np.int64)[joined.offset : joined.offset + len(joined) + 1]
    if row_offsets is not None:
        offsets = offsets[row_offsets]
    bounds = offsets.tolist()
    data = memoryview(buffer[2]) if buffer[2] is not None else memoryview(b"")
    blake = hashlib.blake2b
    digests = b"".join([blake(data[low:high], digest_size=16).digest() for low, high in pairwise(bounds)])
    n = len(bounds) - 1
    ends = pa.py_buffer(np.arange(n + 1, dtype=np.int32) * 32)
    return pa.StringArray.from_buffers(n, ends, pa.py_buffer(digests.hex().encode()))


def hash_columns(columns: Sequence[tuple[str, pa.ChunkedArray | pa.Array]]) -> str:
    """32 hex digits over named columns, in the order given. Raises InputError for a type that cannot be hashed."""
    total = hashlib.blake2b(digest_size=16)
    for name, column in columns:
        total.update(f"{len(name)}:{name}:".encode())
        streams: dict[str, Any] = {}
        for part in _slices(column):
            _feed(part, streams, "", name)
        for path in sorted(streams):
            total.update(f"{path}:".encode() + streams[path].digest())
    return total.hexdigest()


def _slices(column: pa.ChunkedArray | pa.Array) -> Iterator[pa.Array]:
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        for low in range(0, len(chunk), _SLICE_ROWS):
            yield chunk.slice(low, _SLICE_ROWS)


def _feed(array: pa.Array, streams: dict[str, Any], path: str, column: str) -> None:
    """Append the values to one hash per kind of number, so that where an array was cut leaves no trace."""

    def put(kind: str, data: Any) -> None:
        if kind not in streams:
            streams[kind] = hashlib.blake2b(digest_size=16)
        streams[kind].update(data)

    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    array = whole(array)
    kind = array.type
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        put(f"{path}/lengths", _lengths(array.cast(pa.large_binary())).tobytes())
        array = array.drop_null()
        if len(array):
            _, ends, data = array.buffers()
            bounds = np.frombuffer(ends, np.int64)[array.offset : array.offset + len(array) + 1]
            put(f"{path}/bytes", memoryview(data)[bounds[0] : bounds[-1]] if data is not None else b"")
    elif pa.types.is_nested(kind) and not pa.types.is_struct(kind) and not pa.types.is_union(kind):
        if pa.types.is_map(kind):
            array = array.cast(pa.list_(pa.struct([kind.key_field, kind.item_field])))
        lengths = pc.fill_null(pc.list_value_length(array), -1).to_numpy(zero_copy_only=False)
        put(f"{path}/lengths", lengths.astype("<i8").tobytes())
        _feed(pc.list_flatten(array), streams, f"{path}/items", column)
    else:
        put(f"{path}/valid", array.is_valid().cast(pa.uint8()).to_numpy(zero_copy_only=False).tobytes())
        if pa.types.is_struct(kind):
            for field, child in zip(kind, array.flatten(), strict=True):
                _feed(child, streams, f"{path}/{field.name}", column)
        elif not pa.types.is_null(kind):
            put(f"{path}/{kind}", _numbers(array.drop_null(), column))


def _numbers(array: pa.Array, column: str) -> Any:
    """Bytes of an array of fixed width and without nulls."""
    kind = array.type
    if pa.types.is_boolean(kind):
        return array.cast(pa.uint8()).to_numpy().tobytes()
    if not (pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind)):
        raise InputError(
            f"column {column!r} holds {type_name(kind)}, which is not supported; convert or remove the column"
        )
    width = kind.bit_width // 8
    data = array.buffers()[1]
    if data is None:
        return b""
    return memoryview(data)[array.offset * width : (array.offset + len(array)) * width]
