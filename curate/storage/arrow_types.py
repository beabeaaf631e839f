"""Arrow types whose values Arrow and Ray can copy, and conversion of tables to them and back."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

_LISTS = (
    (pa.types.is_list, pa.list_),
    (pa.types.is_large_list, pa.large_list),
    (pa.types.is_list_view, pa.list_view),
    (pa.types.is_large_list_view, pa.large_list_view),
)


def is_any_list(kind: pa.DataType) -> bool:
    """Whether a type is any kind of list; maps are not."""
    return any(is_kind(kind) for is_kind, _ in _LISTS) or bool(pa.types.is_fixed_size_list(kind))


def with_children(kind: pa.DataType, changed: Callable[[pa.Field], pa.Field]) -> pa.DataType:
    """A nested type whose fields are replaced by `changed(field)`; other types are returned unchanged."""
    if pa.types.is_struct(kind):
        return pa.struct([changed(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(changed(kind.key_field), changed(kind.item_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(changed(kind.value_field), kind.list_size)
    for is_kind, make in _LISTS:
        if is_kind(kind):
            return make(changed(kind.value_field))
    return kind


def storable(kind: pa.DataType) -> pa.DataType:
    """`kind` with every view type replaced by the large type of the same values: Arrow cannot take from views."""
    if kind == pa.string_view():
        return pa.large_string()
    if kind == pa.binary_view():
        return pa.large_binary()
    return with_children(kind, lambda field: field.with_type(storable(field.type)))


def in_types(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table in the types of `schema`; only columns of other types are cast.

    Arrow breaks some arrays when casting to the same type: a slice of lists of nulls gets offsets beyond its items.
    """
    columns = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(table.columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=schema)
