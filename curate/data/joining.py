"""Which type holds the values of two columns of different types, so that their rows can be joined."""

from __future__ import annotations

import pyarrow as pa

from curate.data.column_types import is_any_list
from curate.data.json_values import is_json

__all__ = ["common_type"]


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """A type that holds the values of both as they are, so that joining changes none and adds no keys; else None."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    kinds = (one, other)
    if any(map(pa.types.is_dictionary, kinds)):
        return common_type(*(kind.value_type if pa.types.is_dictionary(kind) else kind for kind in kinds))
    if any(map(is_json, kinds)):
        return None
    if any(isinstance(kind, pa.BaseExtensionType) for kind in kinds):
        return common_type(*(getattr(kind, "storage_type", kind) for kind in kinds))
    if all(map(pa.types.is_map, kinds)):
        return common_type(*(pa.list_(pa.struct({"key": kind.key_type, "value": kind.item_type})) for kind in kinds))
    if all(map(is_any_list, kinds)):
        items = common_type(one.value_type, other.value_type)
        return None if items is None else pa.large_list(items)
    if all(map(pa.types.is_struct, kinds)) and one.names == other.names:
        fields = [common_type(one.field(k).type, other.field(k).type) for k in range(one.num_fields)]
        return None if None in fields else pa.struct(list(zip(one.names, fields, strict=True)))
    if all(pa.types.is_timestamp(kind) and kind.tz for kind in kinds) and one.unit == other.unit:
        return pa.timestamp(one.unit, "UTC")
    if all(map(pa.types.is_decimal, kinds)):
        return _common_decimal(one, other)
    for is_kind, wide in _WIDE:
        if all(map(is_kind, kinds)):
            return wide
    return None


def _common_decimal(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The narrowest decimal with the digits of both before and behind the point; None where there is none."""
    scale = max(one.scale, other.scale)
    precision = scale + max(one.precision - one.scale, other.precision - other.scale)
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
