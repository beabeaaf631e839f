"""Concatenate tables whose column types can be widened without changing a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from curate.data.column_types import converted, is_any_list
from curate.data.json_as_text import as_json, may_be_json
from curate.data.json_values import JSON, holds_json, is_json
from curate.data.wording import first_line, type_name
from curate.errors import InputError


def joined(tables: Sequence[pa.Table], paths: Sequence[Path]) -> pa.Table:
    """Concatenate the tables of several files; types may differ if a common type holds all values exactly.

    Raises InputError with the column whose types cannot be joined.
    """
    if len(tables) == 1:
        return tables[0]
    types: dict[str, pa.DataType] = {}
    for table, path in zip(tables, paths, strict=True):
        for field in table.schema:
            earlier = types.setdefault(field.name, field.type)
            kind = common_type(earlier, field.type)
            if kind is None:
                type_here, type_before = type_name(field.type), type_name(earlier)
                raise InputError(
                    f"{path}: column {field.name!r} holds {type_here}, but {type_before} in the files before; "
                    "write both with one type"
                )
            types[field.name] = kind
    try:
        return pa.concat_tables([_widened(table, types) for table in tables], promote_options="default")
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise InputError(f"{paths[0].parent}: the files cannot be joined ({first_line(error)})") from error


def _widened(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    for k, field in enumerate(table.schema):
        kind = types[field.name]
        if field.type != kind:
            convert = as_json if holds_json(kind) and not holds_json(field.type) else converted
            chunks = [convert(chunk, kind) for chunk in table.column(k).chunks]
            table = table.set_column(k, field.with_type(kind), pa.chunked_array(chunks, kind))
    return table


def common_type(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """A type that holds the values of both exactly, without adding keys to objects; None if there is none."""
    if first == second or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    kinds = (first, second)
    if any(map(pa.types.is_dictionary, kinds)):
        return common_type(*(kind.value_type if pa.types.is_dictionary(kind) else kind for kind in kinds))
    if any(map(is_json, kinds)):
        return next((JSON for kind in kinds if may_be_json(kind)), None)
    if any(isinstance(kind, pa.BaseExtensionType) for kind in kinds):
        return common_type(*(getattr(kind, "storage_type", kind) for kind in kinds))
    if all(map(pa.types.is_map, kinds)):
        return common_type(*(pa.list_(pa.struct({"key": kind.key_type, "value": kind.item_type})) for kind in kinds))
    if all(map(is_any_list, kinds)):
        items = common_type(first.value_type, second.value_type)
        return None if items is None else pa.large_list(items)
    if all(map(pa.types.is_struct, kinds)) and first.names == second.names:
        fields = [common_type(first.field(k).type, second.field(k).type) for k in range(first.num_fields)]
        return None if None in fields else pa.struct(list(zip(first.names, fields, strict=True)))
    if all(pa.types.is_timestamp(kind) and kind.tz for kind in kinds) and first.unit == second.unit:
        return pa.timestamp(first.unit, "UTC")
    if all(map(pa.types.is_decimal, kinds)):
        return _common_decimal(first, second)
    for is_kind, wide in _WIDE:
        if all(map(is_kind, kinds)):
            return wide
    return None


def _common_decimal(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """The narrowest decimal type that holds all digits of both; None if there is none."""
    scale = max(first.scale, second.scale)
    precision = scale + max(first.precision - first.scale, second.precision - second.scale)
    if precision > 76:
        return None
    return pa.decimal256(precision, scale) if precision > 38 else pa.decimal128(precision, scale)


_WIDE = (
    (
        lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view(),
        pa.large_string(),
    ),
    (
        lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or kind == pa.binary_view(),
        pa.large_binary(),
    ),
    (lambda kind: pa.types.is_integer(kind) and kind != pa.uint64(), pa.int64()),
    (pa.types.is_floating, pa.float64()),
)
