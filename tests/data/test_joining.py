"""Files of several types are joined where no value changes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.data.joining import common_type
from curate.data.sources import read_files
from curate.errors import InputError


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (pa.int8(), pa.int64(), pa.int64()),
        (pa.float32(), pa.float64(), pa.float64()),
        (pa.string(), pa.string_view(), pa.large_string()),
        (pa.null(), pa.list_(pa.int8()), pa.list_(pa.int8())),
        (pa.list_(pa.null()), pa.list_(pa.int8()), pa.large_list(pa.int8())),
        (pa.dictionary(pa.int8(), pa.string()), pa.string(), pa.string()),
        (pa.timestamp("ms", "UTC"), pa.timestamp("ms", "+05:30"), pa.timestamp("ms", "UTC")),
        (pa.int64(), pa.float64(), None),
        (pa.uint64(), pa.int64(), None),
        (pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())]), None),
        (pa.string(), pa.int8(), None),
        (pa.list_(pa.struct([("a", pa.int8())])), pa.list_(pa.json_()), pa.large_list(pa.json_())),
        (pa.struct([("a", pa.timestamp("ms"))]), pa.json_(), None),
        (pa.string(), pa.json_(), None),
    ],
)
def test_types_join_only_where_no_value_changes(
    one: pa.DataType, other: pa.DataType, expected: pa.DataType | None
) -> None:
    assert common_type(one, other) == expected
    assert common_type(other, one) == expected


def test_files_join_value_by_value(tmp_path: Path) -> None:
    first = pa.table({"x": pa.array([[1]], pa.list_(pa.int8())), "d": pa.array(["a"]).dictionary_encode()})
    second = pa.table({"x": pa.array([[2**40, None]]), "d": pa.array(["b"]), "more": [1.5]})
    for number, table in enumerate((first, second)):
        pq.write_table(table, tmp_path / f"{number}.parquet")
    joined, _ = read_files(sorted(tmp_path.glob("*.parquet")), [])
    assert joined.to_pylist() == [{"x": [1], "d": "a", "more": None}, {"x": [2**40, None], "d": "b", "more": 1.5}]


def test_no_key_is_added_to_objects_of_another_file(tmp_path: Path) -> None:
    for number, cell in enumerate(({"a": 1}, {"b": 1})):
        pq.write_table(pa.table({"x": [cell]}), tmp_path / f"{number}.parquet")
    with pytest.raises(InputError, match="column 'x' holds struct<b: int64>, but struct<a: int64> in the files before"):
        read_files(sorted(tmp_path.glob("*.parquet")), [])
