"""Arrow types that a curated dataset can hold, and conversion of other types when they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.json_values import JSON, is_json
from curate.data.wording import type_name
from curate.errors import InputError
from curate.storage.arrow_types import is_any_list, storable, with_children

_MOST_LEVELS = 98  # of a Parquet schema between root and leaf; readers open no more


# --- buffers ---------------------------------------------------------------------------------------------------


def check_buffers(table: pa.Table, description: str) -> None:
    """Raise InputError for a column with inconsistent buffers, which could crash the process when read.

    Strings that are not UTF-8 are accepted here; they make a row unusable.
    """
    try:
        _check_names(table.schema)
    except UnicodeDecodeError as error:
        raise InputError(f"{description}: the name of a column is not valid UTF-8; rename it") from error
    for name, column in zip(table.column_names, table.columns, strict=True):
        for chunk in column.chunks:
            try:
                _validate(chunk)
            except (pa.ArrowException, NotImplementedError) as error:
                reason = str(error).split("\n")[0][:120]
                raise InputError(
                    f"{description}: column {name!r} is damaged ({reason}); fetch or write it again"
                ) from error


def _check_names(fields: Iterable[pa.Field]) -> None:
    """Raise UnicodeDecodeError where a name, at any depth, is not UTF-8."""
    for field in fields:
        _ = field.name
        _check_names(field.type.field(k) for k in range(field.type.num_fields))


def _validate(array: pa.Array) -> None:
    """Raise Arrow's error for inconsistent buffers, but not for strings that are not UTF-8."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
        array.view(_as_bytes(array.type)).validate(full=True)


def _as_bytes(kind: pa.DataType) -> pa.DataType:
    """The type with bytes in place of strings, in the same buffers."""
    if isinstance(kind, pa.BaseExtensionType):
        return _as_bytes(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _as_bytes(kind.value_type), kind.ordered)
    same = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
    return same.get(kind) or with_children(kind, lambda field: field.with_type(_as_bytes(field.type)))


# --- types -----------------------------------------------------------------------------------------------------


def conformed(table: pa.Table, description: str) -> tuple[pa.Table, list[tuple[str, str]]]:
    """The table in types that Parquet and `datasets` support, and (column, note) for each converted column.

    Values do not change. Raises InputError for a column without such a type.
    """
    notes = []
    for k, field in enumerate(table.schema):
        try:
            kind = _conform(field.type)
            if _levels(kind) > _MOST_LEVELS:
                raise _NoTypeError("nests too deep for Parquet; flatten it")
            if kind != field.type and str(kind) != str(field.type):
                notes.append(
                    (field.name, f"column {field.name!r} of {type_name(field.type)} is kept as {type_name(kind)}")
                )
            chunks = [converted(chunk, kind) for chunk in table.column(k).chunks]
            for chunk in chunks:
                _check_seconds(chunk)
        except _NoTypeError as error:
            raise InputError(
                f"{description}: column {field.name!r} holds {type_name(field.type)}, which {error}"
            ) from error
        if any(chunk is not before for chunk, before in zip(chunks, table.column(k).chunks, strict=True)):
            table = table.set_column(k, field.with_type(kind), pa.chunked_array(chunks, kind))
    return table, notes


class _NoTypeError(Exception):
    """A type that cannot be stored; the message says why, and the remedy."""


def _conform(kind: pa.DataType) -> pa.DataType:
    """The type in which values of `kind` are stored. Raises _NoTypeError if there is none."""
    if isinstance(kind, pa.BaseExtensionType):
        from_datasets = type(kind).__module__.partition(".")[0] == "datasets"
        return kind if from_datasets else JSON if is_json(kind) else _conform(kind.storage_type)
    if pa.types.is_run_end_encoded(kind):
        return _conform(kind.value_type)
    if pa.types.is_dictionary(kind):
        inner = _conform(kind.value_type)
        if inner in (pa.string_view(), pa.binary_view()):  # Arrow cannot decode dictionaries of views
            return pa.dictionary(kind.index_type, storable(inner), kind.ordered)
        return kind if inner == kind.value_type and not pa.types.is_nested(inner) else inner
    if pa.types.is_decimal(kind):
        return _conform_decimal(kind)
    if pa.types.is_timestamp(kind):
        _check_zone(kind)
    if pa.types.is_union(kind) or pa.types.is_interval(kind):
        raise _NoTypeError("neither Parquet nor datasets has; convert it to text, or remove the column")
    if pa.types.is_struct(kind):
        if len(set(kind.names)) < len(kind.names):
            raise _NoTypeError("has two fields of one name; rename or remove one of them")
        if not kind.names:
            return JSON
    if pa.types.is_map(kind):
        return pa.list_(_item(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
    if pa.types.is_list_view(kind) or (pa.types.is_fixed_size_list(kind) and not kind.list_size):
        return pa.list_(_item(kind.value_type))
    if pa.types.is_large_list_view(kind):
        return pa.large_list(_item(kind.value_type))
    inner = _item if is_any_list(kind) else _conform
    return with_children(kind, lambda field: field.with_type(inner(field.type)))


def _item(kind: pa.DataType) -> pa.DataType:
    """Like `_conform`, for the items of lists: Parquet's writer slices structs in lists, but cannot slice views."""
    conformed = _conform(kind)
    return storable(conformed) if pa.types.is_struct(conformed) else conformed


def _conform_decimal(kind: pa.DataType) -> pa.DataType:
    precision, scale = kind.precision - min(kind.scale, 0), max(kind.scale, 0)
    if precision > 76:
        raise _NoTypeError("has more digits than Parquet; convert it to text")
    if kind.scale >= 0 and kind.bit_width >= 128:
        return kind
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def _check_zone(kind: pa.DataType) -> None:
    if kind.tz is None:
        return
    try:
        pa.array([0], kind).cast(pa.string())
        pa.scalar(0, kind).as_py()
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:
        raise _NoTypeError("is a time zone that is not known here; write it in UTC") from error


def _levels(kind: pa.DataType) -> int:
    """Levels that a type adds to a Parquet schema."""
    own = 0 if not kind.num_fields else 1 if pa.types.is_struct(kind) else 2
    return own + max((_levels(kind.field(k).type) for k in range(kind.num_fields)), default=0)


def _check_seconds(array: pa.Array) -> None:
    """Raise _NoTypeError for timestamps in seconds that milliseconds, Parquet's coarsest unit, cannot hold."""
    if pa.types.is_timestamp(array.type) and array.type.unit == "s":
        try:
            array.cast(pa.timestamp("ms", array.type.tz))
        except pa.ArrowInvalid as error:
            raise _NoTypeError("reaches further than Parquet can; convert it to integers") from error
    for part in _parts(array):
        _check_seconds(part)


def _parts(array: pa.Array) -> Iterator[pa.Array]:
    """The fields of a struct array, or the items of a list array."""
    if pa.types.is_struct(array.type):
        yield from array.flatten()
    elif is_any_list(array.type):
        yield pc.list_flatten(array)


def _has_null_words(array: pa.Array) -> bool:
    """Whether a dictionary at any depth has a null value, which Parquet cannot write."""
    if pa.types.is_dictionary(array.type):
        return bool(array.dictionary.null_count)
    if pa.types.is_struct(array.type):
        return any(_has_null_words(array.field(k)) for k in range(array.type.num_fields))
    return is_any_list(array.type) and _has_null_words(array.values)


def _has_json_views(kind: pa.DataType) -> bool:
    """Whether JSON at any depth is stored as string views: Arrow treats its type as equal to JSON, and misreads it."""
    if is_json(kind):
        return bool(kind.storage_type == pa.string_view())
    return any(_has_json_views(kind.field(k).type) for k in range(kind.num_fields))


def _decoded(array: pa.Array) -> pa.Array:
    """Expand a run-end-encoded array; Arrow's own function supports few types."""
    rows = np.arange(array.offset, array.offset + len(array))  # (n,)
    runs = np.searchsorted(array.run_ends.to_numpy(), rows, side="right")  # (n,) run of each row
    values = array.values
    return converted(values, storable(values.type)).take(pa.array(runs, pa.int64()))


def converted(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Convert an array to a type that `_conform` or `common_type` returned for its own type."""
    if array.type == kind and not _has_null_words(array) and not _has_json_views(array.type):
        return array
    if isinstance(array, pa.ExtensionArray):
        if kind == JSON:
            return pa.ExtensionArray.from_storage(JSON, array.storage.cast(pa.string()))
        return converted(array.storage, kind)
    if pa.types.is_run_end_encoded(array.type):
        return converted(_decoded(array), kind)
    if pa.types.is_dictionary(array.type):
        if pa.types.is_dictionary(kind) and array.type.value_type in (pa.string_view(), pa.binary_view()):
            array = pa.DictionaryArray.from_arrays(array.indices, array.dictionary.cast(kind.value_type))
        plain = converted(array.dictionary_decode(), kind.value_type if pa.types.is_dictionary(kind) else kind)
        return plain.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else plain
    missing = array.is_null()
    if pa.types.is_struct(array.type):
        if kind == JSON:
            texts = pc.if_else(missing, pa.scalar(None, pa.string()), "{}")
            return pa.ExtensionArray.from_storage(JSON, texts)
        children = [converted(array.field(k), kind.field(k).type) for k in range(kind.num_fields)]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=missing)
    if pa.types.is_map(array.type):
        pair = pa.struct([array.type.key_field, array.type.item_field])
        return converted(array.cast(pa.list_(pair)), kind)
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        items = array.values.slice(array.offset * size, len(array) * size)
        return pa.FixedSizeListArray.from_arrays(converted(items, kind.value_type), type=kind, mask=missing)
    if not pa.types.is_nested(kind):
        return array.cast(kind)
    make, width = (pa.LargeListArray, pa.int64()) if pa.types.is_large_list(kind) else (pa.ListArray, pa.int32())
    if _has_json_views(array.type):  # list_flatten would lose their text buffers
        ends = pa.array(array.offsets.to_numpy(), width)
        return make.from_arrays(ends, converted(array.values, kind.value_type), kind, mask=missing)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), width)
    return make.from_arrays(offsets, converted(pc.list_flatten(array), kind.value_type), kind, mask=missing)
