"""Generated datasets of Parquet and Arrow files: columns of every type, built in ways that readers stumble over."""

from __future__ import annotations

import decimal
import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.fuzz.data_strategies import Case, content, texts

__all__ = ["arrow_cases", "arrow_columns", "cells_of"]


def _whole(bits: int, signed: bool) -> SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.integers(low, high) | st.sampled_from([low, high, 0, 1])


def _decimals(precision: int, scale: int) -> SearchStrategy[decimal.Decimal]:
    most = 10**precision - 1
    with_digits = decimal.Context(prec=100)
    return st.integers(-most, most).map(lambda value: decimal.Decimal(value).scaleb(-scale, with_digits))


_INT64 = _whole(64, True)
_REALS = st.floats() | st.sampled_from([0.0, -0.0, 5e-324, 1.7976931348623157e308, 2.0**53])
_BYTES = st.binary(max_size=5)
_INTERVALS = st.tuples(st.integers(-99, 99), st.integers(-99, 99), st.integers(-(10**12), 10**12))
# Whole types and what they hold, as integers where Python's own types would lose something.
_PLAIN: tuple[tuple[pa.DataType, SearchStrategy[Any]], ...] = (
    (pa.null(), st.none()),
    (pa.bool_(), st.booleans()),
    *((pa.type_for_alias(f"int{bits}"), _whole(bits, True)) for bits in (8, 16, 32, 64)),
    *((pa.type_for_alias(f"uint{bits}"), _whole(bits, False)) for bits in (8, 16, 32, 64)),
    (pa.float16(), st.floats(width=16).map(np.float16)),
    (pa.float32(), st.floats(width=32)),
    (pa.float64(), _REALS),
    (pa.string(), texts()),
    (pa.large_string(), texts()),
    (pa.string_view(), texts()),
    (pa.binary(), _BYTES),
    (pa.large_binary(), _BYTES),
    (pa.binary_view(), _BYTES),
    (pa.binary(3), st.binary(min_size=3, max_size=3)),
    (pa.decimal32(7, 2), _decimals(7, 2)),
    (pa.decimal64(18, 0), _decimals(18, 0)),
    (pa.decimal128(38, 10), _decimals(38, 10)),
    (pa.decimal128(5, 5), _decimals(5, 5)),
    (pa.decimal256(76, 38), _decimals(76, 38)),
    (pa.date32(), st.dates()),
    (pa.date64(), st.dates()),
    (pa.time32("s"), st.integers(0, 86_399)),
    (pa.time32("ms"), st.integers(0, 86_399_999)),
    (pa.time64("us"), st.integers(0, 86_399_999_999)),
    (pa.time64("ns"), st.integers(0, 86_399_999_999_999)),
    *((pa.timestamp(unit), st.integers(-(2**33), 2**33)) for unit in ("s", "ms", "us", "ns")),
    (pa.timestamp("us", "UTC"), st.integers(-(2**40), 2**50)),
    (pa.timestamp("ns", "Europe/Berlin"), st.integers(-(2**62), 2**62)),
    (pa.timestamp("ms", "+05:30"), st.integers(-(2**33), 2**40)),
    *((pa.duration(unit), st.integers(-(2**40), 2**40)) for unit in ("s", "ms", "us", "ns")),
)
_IPC_ONLY: tuple[tuple[pa.DataType, SearchStrategy[Any]], ...] = (
    (pa.month_day_nano_interval(), _INTERVALS.map(pa.MonthDayNano)),
)
_JSON_TEXTS = ('{"a": 1}', "[1, 2.50]", "null", '"x"', "12345678901234567890", "{}", "1" * 30, '{"a": ')
_EXTENSIONS = (
    (pa.uuid(), pa.binary(16), st.uuids().map(lambda value: value.bytes)),
    (pa.json_(), pa.string(), st.sampled_from(_JSON_TEXTS)),
    (pa.bool8(), pa.int8(), st.integers(0, 1)),
    (pa.opaque(pa.int32(), "kind", "vendor"), pa.int32(), _whole(32, True)),
    (
        pa.fixed_shape_tensor(pa.int32(), (2, 2)),
        pa.list_(pa.int32(), 4),
        st.lists(_whole(32, True), min_size=4, max_size=4),
    ),
)


def _leaf(kind: pa.DataType, values: list[Any]) -> pa.Array:
    if pa.types.is_time(kind) or pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return pa.array(values, pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)
    return pa.array(values, kind)


@st.composite
def arrow_columns(draw: Any, n: int, depth: int = 2, ipc: bool = False) -> pa.Array:
    """An array of n cells."""
    form = draw(st.sampled_from(["leaf", "leaf", *_FORMS] if depth else ["leaf"]))
    if form in ("run ends", "view") and not ipc:
        form = "leaf"
    if form == "leaf":
        kind, values = draw(st.sampled_from(_IPC_ONLY if ipc and draw(st.integers(0, 80)) == 17 else _PLAIN))
        cells = st.none() | values if draw(st.booleans()) else values
        return _leaf(kind, draw(st.lists(cells, min_size=n, max_size=n)))
    return _FORMS[form](draw, n, depth - 1, ipc)


def _mask(draw: Any, n: int) -> pa.Array | None:
    marks = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    return pa.array(marks, pa.bool_()) if draw(st.booleans()) else None


def _offsets(draw: Any, n: int) -> list[int]:
    found = [0]
    for size in draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)):
        found.append(found[-1] + size)
    return found


def _list(draw: Any, n: int, depth: int, ipc: bool, large: bool = False) -> pa.Array:
    offsets = _offsets(draw, n)
    values = draw(arrow_columns(offsets[-1], depth, ipc))
    kind, whole = (pa.LargeListArray, pa.int64()) if large else (pa.ListArray, pa.int32())
    return kind.from_arrays(pa.array(offsets, whole), values, mask=_mask(draw, n))  # null lists may hold values


def _fixed(draw: Any, n: int, depth: int, ipc: bool) -> pa.Array:
    size = draw(st.integers(1, 3))
    return pa.FixedSizeListArray.from_arrays(draw(arrow_columns(n * size, depth, ipc)), size, mask=_mask(draw, n))


def _struct(draw: Any, n: int, depth: int, ipc: bool) -> pa.Array:
    names = draw(st.lists(st.sampled_from(["a", "b", "", "é", "a.b", "list"]), min_size=1, max_size=3, unique=True))
    children = [draw(arrow_columns(n, depth, ipc)) for _ in names]
    fields = [pa.field(name, child.type) for name, child in zip(names, children, strict=True)]
    return pa.StructArray.from_arrays(children, fields=fields, mask=_mask(draw, n))  # null parents, valued children


def _map(draw: Any, n: int, depth: int, ipc: bool) -> pa.Array:
    offsets = _offsets(draw, n)
    keys = [f"k{k}" for k in range(offsets[-1])]
    return pa.MapArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(keys, pa.string()), draw(arrow_columns(len(keys), 0, ipc))
    )


def _dictionary(draw: Any, n: int, depth: int, ipc: bool) -> pa.Array:
    words = draw(st.lists(texts(), min_size=1, max_size=3, unique=True))
    words = [None, *words] if draw(st.booleans()) and ipc else words  # a null behind an index that is none
    indices = draw(st.lists(st.none() | st.integers(0, len(words) - 1), min_size=n, max_size=n))
    kind = draw(st.sampled_from([pa.int8(), pa.int32(), pa.uint16()]))
    return pa.DictionaryArray.from_arrays(pa.array(indices, kind), pa.array(words, pa.string()))


def _run_ends(draw: Any, n: int, depth: int, ipc: bool) -> pa.Array:
    ends = sorted(draw(st.sets(st.integers(1, n), max_size=3)) | {n}) if n else []
    return pa.RunEndEncodedArray.from_arrays(pa.array(ends, pa.int32()), draw(arrow_columns(len(ends), 0, ipc)))


def _view(draw: Any, n: int, depth: int, ipc: bool) -> pa.Array:
    values = draw(arrow_columns(4, 0, ipc))
    starts = [draw(st.integers(0, 2)) for _ in range(n)]
    sizes = [draw(st.integers(0, 2)) for _ in range(n)]
    return pa.ListViewArray.from_arrays(pa.array(starts, pa.int32()), pa.array(sizes, pa.int32()), values)


def _extension(draw: Any, n: int, depth: int, ipc: bool) -> pa.Array:
    kind, storage, values = draw(st.sampled_from(_EXTENSIONS))
    cells = st.none() | values if not pa.types.is_fixed_size_list(storage) else values
    return pa.ExtensionArray.from_storage(kind, pa.array(draw(st.lists(cells, min_size=n, max_size=n)), storage))


def _part(draw: Any, n: int, depth: int, ipc: bool) -> pa.Array:
    """A slice: its buffers begin before its first cell and end after its last."""
    before, after = draw(st.integers(0, 9)), draw(st.integers(0, 2))
    return draw(arrow_columns(before + n + after, depth, ipc)).slice(before, n)


_FORMS: dict[str, Any] = {
    "list": _list,
    "large list": lambda draw, n, depth, ipc: _list(draw, n, depth, ipc, large=True),
    "fixed list": _fixed,
    "struct": _struct,
    "map": _map,
    "dictionary": _dictionary,
    "run ends": _run_ends,
    "view": _view,
    "extension": _extension,
    "part": _part,
}


# --- files -------------------------------------------------------------------------------------------------------

_SUFFIXES = (".parquet", ".parquet", ".arrow", ".feather", ".ipc", ".stream.arrow")


@st.composite
def arrow_cases(draw: Any, parts: int = 1) -> Case:
    """Parquet or Arrow files of one schema."""
    suffix = draw(st.sampled_from(_SUFFIXES))
    sizes = draw(st.lists(st.integers(1, 4), min_size=parts, max_size=max(1, 2 * (parts - 1))))
    sizes[0] += 1
    count = sum(sizes)
    columns = {name: _content(draw, cells) for name, cells in draw(content(count, empty=suffix != ".parquet")).items()}
    key = next(iter(columns))
    for name in draw(
        st.lists(st.sampled_from(["x", "y", "a b", "é", "", "level"]), min_size=2, max_size=4, unique=True)
    ):
        columns[name] = draw(arrow_columns(count, 2, ipc=suffix != ".parquet"))
    table = pa.table(list(columns.values()), names=list(columns))
    files, start = {}, 0
    for number, size in enumerate(sizes):
        try:
            files[f"part-{number}{suffix}"] = _written(draw, table.slice(start, size), suffix)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            reject()  # what pyarrow cannot write is not an input
        start += size
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*map(cells_of, columns.values()), strict=True)]
    return Case("arrow", files, rows, key, tables=table)


def _content(draw: Any, cells: list[Any]) -> pa.Array:
    if isinstance(cells[0], str):
        kind = draw(st.sampled_from([pa.string(), pa.string(), pa.large_string(), pa.string_view()]))
        array = pa.array(cells, kind)
        return array.dictionary_encode() if kind == pa.string() and draw(st.integers(0, 4)) == 0 else array
    return pa.array(cells)


def _written(draw: Any, table: pa.Table, suffix: str) -> bytes:
    sink = io.BytesIO()
    group = draw(st.integers(1, 5))
    if suffix == ".parquet":
        pq.write_table(
            table,
            sink,
            row_group_size=group,
            use_dictionary=draw(st.booleans()),
            compression=draw(st.sampled_from(["snappy", "zstd", "none"])),
            store_schema="duration" in str(table.schema) or draw(st.integers(0, 4)) > 0,
            data_page_version=draw(st.sampled_from(["1.0", "2.0"])),
        )
        return sink.getvalue()
    options = pa.ipc.IpcWriteOptions(
        compression=draw(st.sampled_from([None, "lz4", "zstd"])),
        unify_dictionaries="stream" not in suffix,
    )
    new = pa.ipc.new_stream if "stream" in suffix else pa.ipc.new_file
    with new(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=group)
    return sink.getvalue()


def cells_of(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Python values that differ where the cells do: floats by their digits, points in time in whole nanoseconds.

    They do not depend on how wide the type of a cell is, or on how it is stored.
    """
    return [_cell(value) for value in array]


_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def _cell(value: Any) -> Any:
    kind = value.type
    if isinstance(value, pa.ExtensionScalar | pa.DictionaryScalar | pa.RunEndEncodedScalar):
        return None if value.value is None else _cell(value.value)
    if not value.is_valid:
        return None
    if pa.types.is_map(kind):
        return [{"key": _cell(pair["key"]), "value": _cell(pair["value"])} for pair in value.values]
    if pa.types.is_struct(kind):
        # Parquet has no objects without fields: they become JSON.
        return {name: _cell(value[name]) for name in kind.names} if kind.num_fields else "{}"
    if pa.types.is_nested(kind):
        return [_cell(each) for each in value.values]
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind) or pa.types.is_time(kind):
        return value.value * _NANOSECONDS[kind.unit]
    found = value.as_py()
    return repr(float(found)) if isinstance(found, float | np.floating) else found
