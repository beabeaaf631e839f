"""Arrow columns of every type: carried to the output as they are, converted without loss, or refused when read."""

from __future__ import annotations

import random
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.data.column_types import conformed
from curate.data.readers import read
from curate.data.row_store import row_store
from curate.data.wording import type_name
from curate.data.writers import write_parquet_shards
from curate.errors import InputError

WORDS = pa.array(["a", None, "c"])
REE = pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"])
OFFSETS = pa.array([0, 1, 2, 3], pa.int32())
KEPT: dict[str, pa.Array] = {
    "string_view": WORDS.cast(pa.string_view()),
    "binary_view": pa.array([b"\xff", None, b""], pa.binary_view()),
    "views in a list": pa.array([["a"], None, []], pa.list_(pa.string_view())),
    "views in a struct": pa.array([{"x": "a"}, None, {"x": None}], pa.struct([("x", pa.string_view())])),
    "dictionary": WORDS.dictionary_encode(),
    "dictionary of numbers": pa.array([1, None, 3]).dictionary_encode(),
    "dictionary in a list": pa.ListArray.from_arrays(OFFSETS, WORDS.dictionary_encode()),
    "large list": pa.array([["a"], None, []], pa.large_list(pa.string())),
    "fixed-size list": pa.array([[1, 2], None, [3, None]], pa.list_(pa.int32(), 2)),
    "list of nulls": pa.array([[None], None, [None, None]], pa.list_(pa.null())),
    "decimal128": pa.array([Decimal("1.10"), None, None], pa.decimal128(10, 2)),
    "decimal256": pa.array([Decimal("1.10"), None, None], pa.decimal256(50, 2)),
    "fixed-size binary": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    "float16": pa.array([np.float16(1.5), None, np.float16(2)], pa.float16()),
    "null": pa.nulls(3),
    "zone": pa.array([0, 1, None], pa.timestamp("us", "Europe/Paris")),
    "offset": pa.array([0, 1, None], pa.timestamp("us", "+01:30")),
    "seconds": pa.array([0, 1, None], pa.timestamp("s")),
    "duration": pa.array([0, 2**40, None], pa.duration("ns")),
    "date64": pa.array([86_400_000, 0, None], pa.date64()),
    "uint64": pa.array([2**64 - 1, 0, None], pa.uint64()),
    "struct of nulls": pa.array([{"a": None}, None, {"a": None}], pa.struct([("a", pa.null())])),
}
ID = uuid.UUID(int=7)
CONVERTED: dict[str, tuple[pa.Array, pa.DataType, list[Any]]] = {
    "run ends": (REE, pa.string(), ["a", "a", "b"]),
    "run ends in a list": (pa.ListArray.from_arrays(OFFSETS, REE), pa.list_(pa.string()), [["a"], ["a"], ["b"]]),
    "list_view": (pa.array([[1], None, [2, 3]], pa.list_view(pa.int8())), pa.list_(pa.int8()), [[1], None, [2, 3]]),
    "map": (
        pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
        pa.list_(pa.struct([("key", pa.string()), ("value", pa.int64())])),
        [[{"key": "a", "value": 1}], None, []],
    ),
    "decimal32": (
        pa.array([Decimal("1.10"), None, None], pa.decimal32(5, 2)),
        pa.decimal128(5, 2),
        [Decimal("1.10"), None, None],
    ),
    "decimal of hundreds": (
        pa.array([Decimal("1E2"), None, None], pa.decimal128(5, -2)),
        pa.decimal128(7, 0),
        [Decimal(100), None, None],
    ),
    "empty objects": (pa.array([{}, None, {}], pa.struct([])), pa.json_(), ["{}", None, "{}"]),
    "lists of empty objects": (
        pa.array([[{}], None, []], pa.list_(pa.struct([]))),
        pa.list_(pa.json_()),
        [["{}"], None, []],
    ),
    "uuid": (pa.array([ID.bytes, None, ID.bytes], pa.uuid()), pa.binary(16), [ID.bytes, None, ID.bytes]),
    "bool8": (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None, 0], pa.int8())), pa.int8(), [1, None, 0]),
    "tensor": (
        pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.int8(), [2]), pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int8(), 2))
        ),
        pa.list_(pa.int8(), 2),
        [[1, 2], [3, 4], [5, 6]],
    ),
    "unknown extension": (
        pa.ExtensionArray.from_storage(pa.opaque(pa.string(), "t", "v"), WORDS),
        pa.string(),
        ["a", None, "c"],
    ),
    "large json": (pa.array(["1", None, "{}"], pa.json_(pa.large_string())), pa.json_(), ["1", None, "{}"]),
    "empty fixed-size list": (pa.array([[], None, []], pa.list_(pa.int8(), 0)), pa.list_(pa.int8()), [[], None, []]),
    "dictionary of lists": (
        pa.DictionaryArray.from_arrays(pa.array([0, None, 1]), pa.array([[1], [2]])),
        pa.list_(pa.int64()),
        [[1], None, [2]],
    ),
}
REFUSED: dict[str, tuple[pa.Array, str]] = {
    "interval": (pa.array([pa.MonthDayNano([1, 2, 3])] * 3), "convert it to text, or remove the column"),
    "interval in a list": (pa.array([[pa.MonthDayNano([1, 2, 3])], [], None]), "convert it to text"),
    "union": (
        pa.UnionArray.from_sparse(pa.array([0, 1, 0], pa.int8()), [pa.array([1, 2, 3]), WORDS]),
        "convert it to text, or remove the column",
    ),
    "unknown zone": (pa.array([0] * 3, pa.timestamp("us", "Mars/Olympus")), "not known here; write it in UTC"),
    "far seconds": (pa.array([2**60, 1, None], pa.timestamp("s")), "convert it to integers"),
    "far seconds in a list": (pa.array([[2**60], [], None], pa.list_(pa.timestamp("s"))), "convert it to integers"),
    "twin fields": (pa.StructArray.from_arrays([WORDS, WORDS], names=["a", "a"]), "two fields of one name"),
}


def table_of(column: pa.Array) -> pa.Table:
    return pa.table({"text": ["p", "q", "r"], "x": column})


def curated(table: pa.Table, folder: Path) -> pa.Table:
    """What `load_dataset` opens of the rows, last first, as curation writes them."""
    loaded = read(table)
    write_parquet_shards([loaded.examples.table], np.array([2, 1, 0]), pa.table({"copy": [0, 0, 0]}), folder)
    dataset = datasets.load_dataset(str(folder), split="train", cache_dir=str(folder / "cache"))
    return dataset.with_format("arrow")[:]


def sliced(column: pa.Array) -> pa.Array:
    """The same values behind others, in buffers that begin elsewhere."""
    return pa.concat_arrays([column, column]).slice(3, 3)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("name", KEPT)
def test_types_that_datasets_has_are_carried(name: str, cut: bool, tmp_path: Path) -> None:
    column = sliced(KEPT[name]) if cut else KEPT[name]
    loaded = read(table_of(column))
    assert loaded.examples.table["x"].type == column.type
    assert loaded.notes == ["shape text: text=text"]
    assert loaded.examples.table_fingerprint() == read(table_of(KEPT[name])).examples.table_fingerprint()
    out = curated(table_of(column), tmp_path)
    assert out["x"].to_pylist() == column.to_pylist()[::-1]
    whole = tmp_path / "whole.parquet"
    pq.write_table(table_of(KEPT[name]), whole)
    assert out["x"].type == datasets.Features.from_arrow_schema(pq.read_schema(whole)).arrow_schema.field("x").type


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("name", CONVERTED)
def test_other_types_are_converted_without_loss_and_named(name: str, cut: bool, tmp_path: Path) -> None:
    column, kind, values = CONVERTED[name]
    loaded = read(table_of(sliced(column) if cut else column))
    assert loaded.examples.table["x"].type == kind
    assert loaded.examples.table["x"].to_pylist() == values
    if name != "large json":
        assert loaded.notes[1:] == [f"column 'x' of {column.type} is kept as {type_name(kind)}"]
    assert curated(table_of(column), tmp_path)["x"].to_pylist() == values[::-1]


@pytest.mark.parametrize("name", REFUSED)
def test_the_rest_is_refused_when_it_is_read(name: str) -> None:
    column, remedy = REFUSED[name]
    with pytest.raises(InputError, match=f"column 'x' holds .*{remedy}") as caught:
        read(table_of(column))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["list", "struct"])
def test_depth_is_what_readers_of_parquet_open(kind: str, tmp_path: Path) -> None:
    def nested(levels: int) -> pa.Table:
        value: Any = 1
        for _ in range(levels):
            value = [value] if kind == "list" else {"a": value}
        return table_of(pa.array([value] * 3))

    most = 49 if kind == "list" else 98
    assert conformed(nested(most), "d")[0].num_rows == 3
    pq.write_table(nested(most), tmp_path / "d.parquet")
    pq.read_table(tmp_path / "d.parquet")
    with pytest.raises(InputError, match=r"column 'x' holds .* nests too deep for Parquet; flatten it"):
        conformed(nested(most + 1), "d")


def test_a_null_among_the_words_of_a_dictionary(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int8()), pa.array(["a", None]))
    for each in (column, pa.FixedSizeListArray.from_arrays(column, 1)):
        folder = tmp_path / str(each.type.num_fields)
        folder.mkdir()
        out = curated(table_of(each), folder)
        assert out["x"].to_pylist() == each.to_pylist()[::-1]


def test_rows_of_lists_of_nulls_can_be_taken_beside_views() -> None:
    """Arrow breaks such lists where it casts a slice of them to their own type."""
    table = table_of(pa.array([[None], [None, None], []], pa.large_list(pa.null())))
    table = table.set_column(0, "text", table["text"].cast(pa.string_view()))
    for part in (table, table.slice(1), pa.concat_tables([table.slice(2), table])):
        order = np.arange(len(part))[::-1]
        taken = row_store([part]).take(order)
        taken.validate(full=True)
        assert taken.to_pylist() == part.to_pylist()[::-1]


# --- damage ------------------------------------------------------------------------------------------------------


def arrow_file(path: Path, table: pa.Table) -> bytes:
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path.read_bytes()


def test_offsets_that_point_outside_of_the_data_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "d.arrow"
    for column, offsets in ((pa.array(["aa", "bb"]), [0, 2, 4]), (pa.array([[1, 2], [3, 4]]), [0, 2, 4])):
        raw = arrow_file(path, pa.table({"text": ["p", "q"], "x": column}))
        place = raw.index(b"".join(offset.to_bytes(4, "little") for offset in offsets))
        path.write_bytes(raw[: place + 4] + (2_000_000_000).to_bytes(4, "little") + raw[place + 8 :])
        with pytest.raises(InputError, match=r"column 'x' is damaged .*; fetch or write it again") as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_damaged_file_is_read_or_refused(tmp_path: Path) -> None:
    """In one process: a file that could end it would end the test."""
    draw = random.Random(0)
    table = pa.table(
        {
            "text": [f"p{k}é" for k in range(6)],
            "l": pa.array([[k] * k for k in range(6)]),
            "s": pa.array([{"a": "b" * k, "c": [None, k]} for k in range(6)]),
            "d": pa.array(["u", "v"] * 3).dictionary_encode(),
            "v": pa.array([f"long enough to be out of line {k}" for k in range(6)], pa.string_view()),
            "j": pa.array(['{"a":1}'] * 6, pa.json_()),
            "r": pa.RunEndEncodedArray.from_arrays([2, 6], ["a", "b"]),
        }
    )
    path = tmp_path / "d.arrow"
    raw = arrow_file(path, table)
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(raw)
        for place in draw.sample(range(len(raw)), draw.choice([1, 1, 3])):
            damaged[place] = draw.choice([0, 1, 127, 255, draw.randrange(256)])
        path.write_bytes(damaged)
        try:
            loaded = read(path, on_bad_row="drop")
            loaded.examples.table_fingerprint()
            loaded.examples.take(np.arange(len(loaded.examples))[::-1])
            outcomes.add("read")
        except InputError as error:
            outcomes.add("refused" if "\n" not in str(error) else str(error))
    assert outcomes == {"read", "refused"}


def test_text_that_is_not_utf8_makes_a_row_unusable_wherever_it_is() -> None:
    def broken(texts: list[bytes]) -> pa.Array:
        raw = pa.array(texts, pa.binary())
        return pa.StringArray.from_buffers(len(raw), *raw.buffers()[1:])

    words = broken([b"a", b"\xff", b"c"])
    columns = [words, pa.StructArray.from_arrays([words], names=["a"]), pa.ListArray.from_arrays(OFFSETS, words)]
    columns.append(pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), words))
    for column in columns:
        with pytest.raises(InputError, match=r"row 1 .*column 'x' is not valid UTF-8; .*--on-bad-row drop"):
            read(table_of(column))
        loaded = read(table_of(column), on_bad_row="drop")
        assert loaded.rows.tolist() == [0, 2]
        loaded.examples.table.validate(full=True)


def test_words_stored_as_views_become_words_that_can_be_looked_up() -> None:
    """So polars hands out categories."""
    words = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.uint32()), pa.array(["a", "b"], pa.string_view()))
    for column in (words, words.slice(1)):
        table, notes = conformed(pa.table({"x": column}), "x")
        assert table["x"].to_pylist() == column.to_pylist()
        assert table["x"].type == pa.dictionary(pa.uint32(), pa.large_string())
        assert [name for name, _ in notes] == ["x"]
