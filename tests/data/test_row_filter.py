"""Rows chosen by conditions, and the warning where several splits are read together."""

from __future__ import annotations

import warnings

import pyarrow as pa
import pytest

from curate.data.readers import read
from curate.errors import DataWarning
from tests.fixtures.tables import ROWS, TABLE, fails


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("source=a", [0, 2, 4, 6, 8, 10]),
        ("source!=a", [1, 3, 5, 7, 9, 11]),
        ("source=a, level!=0", [2, 4, 8, 10]),
        ("level=1", [1, 4, 7, 10]),
    ],
)
def test_where(where: str, expected: list[int]) -> None:
    loaded = read(TABLE, where=where)
    assert loaded.rows.tolist() == expected
    assert loaded.examples.table.to_pylist() == [ROWS[k] for k in expected]
    assert loaded.rows_read == 12


def test_where_and_null() -> None:
    table = TABLE.append_column("kind", pa.array([None, "x", "y"] * 4))
    assert read(table, where="kind=x").rows.tolist() == [1, 4, 7, 10]
    assert read(table, where="kind!=x").rows.tolist() == [0, 2, 3, 5, 6, 8, 9, 11]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("sorce=a", "no column 'sorce'.*did you mean 'source'"),
        ("source=z", "no row has source=z; column 'source' holds 'a', 'b'"),
        ("source=a,level!=0,level!=1,level!=2", "fulfills all conditions"),
        ("source", "'source' is not COLUMN=VALUE"),
    ],
)
def test_where_errors(where: str, message: str) -> None:
    fails(message, TABLE, where=where)


def test_several_splits_in_one_column_are_a_warning_unless_filtered() -> None:
    table = TABLE.append_column("split", pa.array(["train"] * 5 + ["test"] * 7))
    with pytest.warns(DataWarning, match="train 5, test 7.*--where split=train"):
        read(table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(table, where="split=test")
        read(table, where="source=a,split!=test")
        read(table.slice(0, 5))
