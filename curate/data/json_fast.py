"""pyarrow's JSON parser, which is fast: its tables, where they can hold nothing but the values of the text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.json_scan import long_integers

__all__ = ["parsed"]

_PIECE = 16 << 20  # bytes parsed at a time


def parsed(files: Sequence[pa.Buffer], rows: int) -> tuple[pa.Table, list[str]] | None:
    """The rows of texts for which `plain_rows` is not None, and the columns in which dates stay text.

    None where the table might hold something else than the texts: where a key may be missing or a number rounded, and
    where values are of several kinds. rows: how many there are.
    """
    pieces = [piece for data in files for piece in _pieces(data)]
    tables = _tables(pieces, None)
    if None in tables:
        return None
    read = [table.schema for table in tables if table is not None]
    schema = _union(read)
    if schema is None:
        return None
    others = [k for k, each in enumerate(read) if not each.equals(schema)]
    for k, table in zip(others, _tables([pieces[k] for k in others], schema), strict=True):
        tables[k] = table
    if None in tables:
        return None
    whole = pa.concat_tables([table.select(schema.names) for table in tables if table is not None])
    if len(whole) != rows or not all(_is_certain(chunk) for column in whole.columns for chunk in column.chunks):
        return None
    if any(_holds_doubles(field.type) for field in schema):
        held = sum(_long_integers(chunk) for column in whole.columns for chunk in column.chunks)
        found = [long_integers(np.frombuffer(data, np.uint8)) for data in files]
        if None in found or sum(count or 0 for count in found) != held:
            return None
    dated = {name for each in read for name in each.names if _undated(each.field(name).type) != each.field(name).type}
    return whole, [name for name in schema.names if name in dated]


def _pieces(data: pa.Buffer) -> Iterator[pa.Buffer]:
    """The text in pieces of whole lines: pyarrow dies on some texts whose types differ between its own blocks."""
    content = np.frombuffer(data, np.uint8)
    low = 0
    while low < len(content):
        high = low + _PIECE
        while high < len(content):
            ends = np.flatnonzero(content[high - 1 : high + _PIECE] == ord("\n"))
            high += int(ends[0]) if len(ends) else _PIECE
            if len(ends):
                break
        yield data.slice(low, min(high, len(content)) - low)
        low = high


def _tables(pieces: Iterable[pa.Buffer], schema: pa.Schema | None) -> list[pa.Table | None]:
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        return list(pool.map(lambda piece: _table(piece, schema), pieces))


def _table(piece: pa.Buffer, schema: pa.Schema | None) -> pa.Table | None:
    import pyarrow.json as pj

    read = pj.ReadOptions(use_threads=False, block_size=piece.size + 1)
    try:
        table = pj.read_json(pa.BufferReader(piece), read, pj.ParseOptions(explicit_schema=schema))
        table.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return table


# --- types -----------------------------------------------------------------------------------------------------


def _union(schemas: Sequence[pa.Schema]) -> pa.Schema | None:
    """Types that hold the values of all pieces; None where there are none."""
    kinds: dict[str, pa.DataType | None] = {}
    for schema in schemas:
        for field in schema:
            kind = _undated(field.type)
            kinds[field.name] = _common(kinds[field.name], kind) if field.name in kinds else kind
    return None if None in kinds.values() else pa.schema(list(kinds.items()))


def _common(one: pa.DataType | None, other: pa.DataType) -> pa.DataType | None:
    if one is None or one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one) or {one, other} == {pa.int64(), pa.float64()}:
        return other if pa.types.is_null(one) else pa.float64()
    if pa.types.is_list(one) and pa.types.is_list(other):
        items = _common(one.value_type, other.value_type)
        return None if items is None else pa.list_(items)
    if pa.types.is_struct(one) and pa.types.is_struct(other) and sorted(one.names) == sorted(other.names):
        kinds = {name: _common(one.field(name).type, other.field(name).type) for name in one.names}
        return None if None in kinds.values() else pa.struct(list(kinds.items()))
    return None


def _undated(kind: pa.DataType) -> pa.DataType:
    """The type with strings where a parser took text for a point in time: the text is the data."""
    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_undated(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([child.with_type(_undated(child.type)) for child in kind])
    return kind


def _holds_doubles(kind: pa.DataType) -> bool:
    return pa.types.is_float64(kind) or any(_holds_doubles(kind.field(k).type) for k in range(kind.num_fields))


def _is_certain(array: pa.Array) -> bool:
    """Whether the values can be no other than those of the file: no key was added, no number was cut."""
    if pa.types.is_struct(array.type):
        parts = array.flatten()
        return bool(parts) and all(part.null_count == array.null_count and _is_certain(part) for part in parts)
    if pa.types.is_list(array.type):
        return _is_certain(pc.list_flatten(array))
    if pa.types.is_float64(array.type):  # the parser knows more names of infinity than JSON
        return bool(np.isfinite(array.drop_null().to_numpy(zero_copy_only=False)).all())
    return True


def _long_integers(array: pa.Array) -> int:
    """How many integers of the array lie beyond 2^53."""
    if pa.types.is_int64(array.type):
        numbers = array.drop_null().to_numpy()
        return int(((numbers > 2**53) | (numbers < -(2**53))).sum())
    if pa.types.is_struct(array.type):
        return sum(map(_long_integers, array.flatten()))
    return _long_integers(pc.list_flatten(array)) if pa.types.is_list(array.type) else 0
