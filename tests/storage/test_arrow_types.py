"""Types that Arrow and Ray can copy, and tables that are cast to them and back."""

import pyarrow as pa
import pytest

from curate.storage.arrow_types import in_types, is_any_list, storable

VIEW, LARGE = pa.string_view(), pa.large_string()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (VIEW, LARGE),
        (pa.binary_view(), pa.large_binary()),
        (pa.list_(pa.field("turn", pa.struct([pa.field("role", VIEW, nullable=False)]))), None),
        (pa.list_(VIEW, 2), pa.list_(LARGE, 2)),
        (pa.map_(VIEW, pa.int8()), pa.map_(LARGE, pa.int8())),
        (pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int32(), pa.string())),
        (pa.json_(), pa.json_()),
    ],
)
def test_views_at_any_depth_have_a_large_type(kind: pa.DataType, expected: pa.DataType | None) -> None:
    turn = pa.field("turn", pa.struct([pa.field("role", LARGE, nullable=False)]))
    assert storable(kind) == (pa.list_(turn) if expected is None else expected)
    assert storable(storable(kind)) == storable(kind)


def test_values_are_the_same_there_and_back() -> None:
    kind = pa.list_(pa.struct([("role", VIEW), ("content", pa.binary_view())]))
    turns = [[{"role": "user", "content": b"\xff" * 20}], None, []]
    table = pa.table({"turns": pa.array(turns, kind), "nulls": pa.array([[None], None, []], pa.list_(pa.null()))})
    large = in_types(table, pa.schema([field.with_type(storable(field.type)) for field in table.schema]))
    assert large["turns"].type == storable(kind)
    assert large.to_pylist() == table.to_pylist()
    assert in_types(large, table.schema).equals(table)


def test_lists_are_lists_whatever_their_layout() -> None:
    lists = [pa.list_, pa.large_list, pa.list_view, pa.large_list_view, lambda item: pa.list_(item, 3)]
    assert all(is_any_list(make(pa.int8())) for make in lists)
    assert not is_any_list(pa.map_(pa.string(), pa.int8()))
    assert not is_any_list(pa.struct([("a", pa.int8())]))
