"""JSON in: the values of the file by `json.loads`, in the types that load_dataset gives where it keeps them."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest

import curate.data.formats.json_files
from curate.data.formats.json_files import TooDeep, _pieces, _plain_rows_of_pieces, long_integers, plain_rows
from curate.data.json_text import fault_of
from curate.data.json_values import JSON, MOST_LEVELS
from curate.data.sources import read_files
from curate.errors import InputError

TEXT = pa.string()


def written(folder: Path, *lines: str, name: str = "d.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def column(folder: Path, *cells: str) -> tuple[pa.ChunkedArray, list[str]]:
    """Column x of a file with these JSON texts as cells, and its notes."""
    table, notes = read_files([written(folder, *(f'{{"x": {cell}}}' for cell in cells))], [])
    return table["x"], [line for _, line in notes]


# --- types -------------------------------------------------------------------------------------------------------

KEPT = [
    (["1", "null", "-5"], pa.int64()),
    (["9223372036854775807", "-9223372036854775808"], pa.int64()),
    (["9007199254740992", "0.5"], pa.float64()),
    (["0.1", "1.50", "1E5", "-0", "0.0"], pa.float64()),
    (["0.30000000000000004", "1e22", "5e-324", "123456789012345678901234567890.5"], pa.float64()),
    (["true", "null"], pa.bool_()),
    (['"a"', '""', '"\\u00e9\\ud83d\\ude00"'], TEXT),
    (["null", "null"], pa.null()),
    (["[]", "null"], pa.list_(pa.null())),
    (["[1, null]", "[]", "[null]"], pa.list_(pa.int64())),
    (["[null, null]", '["1a", "1b"]', '["2a", "2b"]'], pa.list_(TEXT)),
    (["[[null], [1]]", "[[], [2, null]]"], pa.list_(pa.list_(pa.int64()))),
    (['[null, {"a": [null, 1]}]', '[{"a": [2]}]'], pa.list_(pa.struct([("a", pa.list_(pa.int64()))]))),
    (['{"a": 1, "b": null}', '{"b": "x", "a": 2}', "null"], pa.struct([("a", pa.int64()), ("b", TEXT)])),
]


@pytest.mark.parametrize(("cells", "kind"), KEPT)
def test_plain_values_have_the_type_and_value_that_load_dataset_gives(
    cells: list[str], kind: pa.DataType, tmp_path: Path
) -> None:
    found, notes = column(tmp_path, *cells)
    assert (found.type, notes) == (kind, [])
    assert found.to_pylist() == [json.loads(cell) for cell in cells]
    found.validate(full=True)
    loaded = datasets.load_dataset(
        "json", data_files=str(tmp_path / "d.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    expected = loaded.with_format("arrow")[:]["x"]
    assert expected.type == kind
    assert expected.to_pylist() == found.to_pylist()


@pytest.mark.parametrize(
    "cells",
    [
        ["18446744073709551601", "1"],
        ["9223372036854775808"],
        ["9007199254740993", "0.5", "null"],
        ["-9007199254740993", "1e3"],
        ["1e400", "1"],
        ["-1e-400", "1.50"],
        ["1" + "0" * 5000, "7"],
        ["NaN", "1" + "0" * 30],
    ],
)
def test_numbers_that_no_type_holds_are_text_with_their_characters(cells: list[str], tmp_path: Path) -> None:
    found, notes = column(tmp_path, *cells)
    assert found.type == TEXT
    assert found.to_pylist() == [None if cell == "null" else cell for cell in cells]
    assert len(notes) == 1
    assert "column 'x' is kept as text: " in notes[0]
    assert len(notes[0]) < 120


def test_long_integers_beside_floats_of_another_column_stay_integers(tmp_path: Path) -> None:
    path = written(
        tmp_path, '{"id": 9007199254740993, "s": "12345678901234567", "x": 0.5}', '{"id": 1, "s": "", "x": 2}'
    )
    table, _ = read_files([path], [])
    assert table.to_pylist() == [json.loads(line) for line in path.read_text().splitlines()]
    assert table["id"].type == pa.int64()


def test_infinity_and_nan_are_numbers_only_as_python_spells_them(tmp_path: Path) -> None:
    found, _ = column(tmp_path, "NaN", "-Infinity", "1")
    assert np.array_equal(found.to_numpy(), [np.nan, -np.inf, 1], equal_nan=True)
    with pytest.raises(InputError, match="line 1: not JSON"):
        column(tmp_path, "Inf")


def test_text_that_looks_like_dates_stays_text_and_is_named(tmp_path: Path) -> None:
    for cells in (['"2020-01-01"', '"2021-02-03"'], ['"2020-01-01 10:00:00"', "null"]):
        for extra in ("1", "[null, 1]"):  # by the fast parser, and by the other
            path = written(tmp_path, *(f'{{"x": {cell}, "y": {extra}}}' for cell in cells))
            table, notes = read_files([path], [])
            assert table["x"].type == TEXT
            assert table["x"].to_pylist() == [json.loads(cell) for cell in cells]
            assert [line for name, line in notes] == ["column 'x' is kept as text, though it looks like dates"]


# --- objects -----------------------------------------------------------------------------------------------------

AS_JSON = [
    (['{"a": 1}', '{"b": 2}'], JSON),
    (['{"a": 1}', '{"a": 1, "b": null}'], JSON),
    (["{}", "null"], JSON),
    (['"a"', "1"], JSON),
    (["true", "1"], JSON),
    (["[1]", "1", '{"a": 1.50}'], JSON),
    (['[1, "a", null]', "null", "[]"], pa.list_(JSON)),
    (['{"a": {"b": 1}, "c": 1}', '{"a": {}, "c": 2}'], pa.struct([("a", JSON), ("c", pa.int64())])),
    (['[{"r": "u", "t": [{"x": 1}]}, {"r": "a"}]'], pa.list_(JSON)),
    (['{"t": [{"f": {"x": 1}}, {"f": {"y": 1}}]}'], pa.struct([("t", pa.list_(pa.struct([("f", JSON)])))])),
]


@pytest.mark.parametrize(("cells", "kind"), AS_JSON)
def test_no_key_is_added_and_json_stands_where_datasets_puts_it(
    cells: list[str], kind: pa.DataType, tmp_path: Path
) -> None:
    found, notes = column(tmp_path, *cells)
    assert found.type == kind
    assert len(notes) == 1
    assert "is kept as JSON: " in notes[0]
    opened = datasets.Dataset(pa.table({"x": found}))["x"][:]
    assert opened == [json.loads(cell) for cell in cells]
    expected = datasets.Dataset.from_list([{"x": json.loads(cell)} for cell in cells], on_mixed_types="use_json")
    assert expected.features["x"] == datasets.Features.from_arrow_schema(pa.schema([("x", kind)]))["x"]


def test_json_is_the_text_of_the_file(tmp_path: Path) -> None:
    cells = ['{"b" :1.50,"a":[ 1E2 ]}', '{"a": "\\u00e9"}', '"2\\/3"']
    found, _ = column(tmp_path, *cells)
    assert found.to_pylist() == cells


@pytest.mark.parametrize("bad", ["18446744073709551616", "NaN", "0.12345678901234567", '"\\ud800"', "1e999"])
def test_all_of_a_column_is_json_where_datasets_would_misread_a_part(bad: str, tmp_path: Path) -> None:
    cells = [f'[{{"a": {bad}}}, {{"b": 1}}]', '[{"a": 1}]']
    found, _ = column(tmp_path, *cells)
    assert found.type == JSON
    assert found.to_pylist() == cells
    assert fault_of(cells[0]) is not None
    assert fault_of(cells[1]) is None


# --- files -------------------------------------------------------------------------------------------------------


def test_types_are_those_that_fit_all_files(tmp_path: Path) -> None:
    pairs = [
        ('{"x": 1}', '{"x": 0.5}', pa.float64()),
        ('{"x": 9007199254740993}', '{"x": 0.5}', TEXT),
        ('{"x": {"a": 1}}', '{"x": {"b": 1}}', JSON),
        ('{"x": null}', '{"x": [1]}', pa.list_(pa.int64())),
        ('{"x": []}', '{"x": ["a"]}', pa.list_(TEXT)),
        ('{"y": 1, "x": "a"}', '{"x": "b"}', TEXT),
    ]
    for first, second, kind in pairs:
        paths = [written(tmp_path, first, name="a.jsonl"), written(tmp_path, second, name="b.jsonl")]
        table, _ = read_files(paths, [])
        assert table["x"].type == kind
        assert len(table) == 2
        table.validate(full=True)


@pytest.mark.parametrize(
    "text",
    [
        '[{"x": 1.0}, {"x": 2}]',
        '\ufeff{"x": 1.0}\r\n\r\n{"x": 2}\r\n',
        ' {"x": 1.0} \n\t{"x": 2}',
        '{\n "x": 1.0\n}\n{\n "x":\n2}\n',
        '{"x": 1.0}\n{"x": 2}',
        '{"x": 1.0} {"x": 2}',
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_ways_to_write_rows(text: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert read_files([tmp_path / name], [])[0].to_pylist() == [{"x": 1.0}, {"x": 2.0}]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["null", '{"x": 1}'], "line 1: holds NoneType, not an object"),
        (['{"x": 1}', "null"], "line 2: holds NoneType, not an object"),
        (['{"x": 1} null'], "item 1: holds NoneType"),
        (['{"x": {"a": 1, "a": 2}}'], "line 1: key 'a' appears twice"),
        (['{"x": [null, {"a": 1, "\\u0061": 2}]}'], "line 1: key 'a' appears twice"),
        (['{"x": 1, "\\ud800": 2}'], "name of a column is not valid UTF-8"),
        (['{"x": 01}'], "line 1: not JSON"),
        (['{"y": 1}', '{"x": ' + "[" * 48 + "]" * 48 + "}"], "line 2, column 54: .* nest more than 48 levels deep"),
        (['{"x": "é", "y": ' + '{"a":' * 700 + "1" + "}" * 701], "line 1, column 252: .* nest more than 48"),
        (['{"x": ' + "[" * 100_000 + "]" * 100_000 + "}"], "line 1, column 54: .* nest more than 48"),
        (["[" * 100_000 + "]" * 100_000], "line 1, column 50: .* nest more than 48"),
        (["[" * 100_000], "line 1, column 50: .* nest more than 48"),
    ],
)
def test_what_is_no_table_is_one_line(lines: list[str], message: str, tmp_path: Path) -> None:
    path = written(tmp_path, *lines)
    with pytest.raises(InputError, match=message) as caught:
        read_files([path], [])
    assert "\n" not in str(caught.value)


def test_brackets_in_strings_do_not_nest(tmp_path: Path) -> None:
    text = "[" * 200 + '\\"' + "{" * 200
    found, _ = column(tmp_path, f'"{text}"', '"b"')
    assert found[0].as_py() == json.loads(f'"{text}"')


# --- what the fast parser may be trusted with --------------------------------------------------------------------


def rows_of(text: str) -> int | None:
    """As a whole, which is also what pieces of whole lines give."""
    data = pa.py_buffer(text.encode())
    try:
        return plain_rows(np.frombuffer(data, np.uint8), MOST_LEVELS)
    finally:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(curate.data.formats.json_files, "_PIECE", 8)
            in_pieces = _plain_rows_of_pieces(list(_pieces(data)), MOST_LEVELS)
        with suppress(TooDeep):
            assert in_pieces == plain_rows(np.frombuffer(data, np.uint8), MOST_LEVELS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a":1}\n{"a":2}\n', 2),
        ('{"a":1}\r\n\r\n{"a":2}', 2),
        ("null\n", None),
        ('{"a":1}\nnull\n', None),
        ('{"a":1} null\n', None),
        ('{"a":1} null {"a":1}\n', None),
        ('{"a":1}{"a":2}\n', None),
        ('{"a":1}\rnull\n', None),
        ('{"a":\n1}\n', None),
        ('{"a":1\n{"a":1}}\n', None),
        ('{"a":"x}\n', None),
        ('{"a":[null]}\n', None),
        ('{"a":[ \t null]}\n', None),
        ('{"a":[[1],[null]]}\n', None),
        ('{"a":"[null"}\n', 1),
        ('{"a":"\\"[null"}\n', 1),
        ('{"a":"\\\\","b":[null]}\n', None),
        ('{"a":"' + "\\" * 1000 + '","b":[null]}\n', None),
        ('{"a":"' + "\\" * 1001 + '","b":[null]"}\n', 1),
        ('{"a":[1,null]}\n', 1),
    ],
)
def test_plain_rows(text: str, expected: int | None) -> None:
    assert rows_of(text) == expected


@pytest.mark.parametrize("block", [5, 7, 64, 1 << 20])
def test_plain_rows_of_random_values(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curate.data.formats.json_files, "_BLOCK", block)
    draw = random.Random(block)

    def value(depth: int) -> Any:
        kind = draw.randrange(8) if depth < 4 else draw.randrange(4)
        if kind < 2:
            return draw.choice([None, 1, -2.5, True])
        if kind < 5:
            return "".join(draw.choice('ab"\\[]{}\n,:é ') for _ in range(draw.randrange(8)))
        if kind == 5:
            return {draw.choice('abc"\\'): value(depth + 1) for _ in range(draw.randrange(3))}
        return [value(depth + 1) for _ in range(draw.randrange(4))]

    def begins_with_null(each: Any) -> bool:
        if isinstance(each, dict):
            return any(map(begins_with_null, each.values()))
        return isinstance(each, list) and bool(each) and (each[0] is None or any(map(begins_with_null, each)))

    for _ in range(300):
        rows = [{"a": value(0), "b": value(0)} for _ in range(draw.randrange(1, 4))]
        text = "\n".join(json.dumps(row, ensure_ascii=draw.random() < 0.5) for row in rows)
        assert rows_of(text) == (None if any(map(begins_with_null, rows)) else len(rows))


def test_depth_is_counted_across_lines_and_not_in_strings() -> None:
    nested = "\n".join(['{"a":['] * 30)
    with pytest.raises(TooDeep) as caught:
        rows_of(nested)
    assert nested.encode()[: caught.value.place + 1].count(b"\n") == 24
    assert rows_of('{"a":"' + "[" * 99 + '"}\n') == 1


@pytest.mark.parametrize("block", [20, 64, 1 << 20])
def test_long_integers_are_counted_once(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curate.data.formats.json_files, "_BLOCK", block)
    draw = random.Random(block)
    for _ in range(100):
        numbers = [draw.choice([1, 2**53, 2**53 + 1, -(2**60), 10**25, 0.1234567890123456, 12]) for _ in range(9)]
        rows = "\n".join(json.dumps({"a": number, "s": "x" * draw.randrange(9)}) for number in numbers)
        expected = sum(isinstance(number, int) and abs(number) > 2**53 for number in numbers)
        assert long_integers(np.frombuffer(rows.encode(), np.uint8)) == expected
    for text in ('{"a": 1e-400}', '{"a": 0.' + "0" * 400 + "1}"):
        assert long_integers(np.frombuffer(text.encode(), np.uint8)) is None


def test_values_of_random_files_are_those_of_the_standard_library(tmp_path: Path) -> None:
    draw = random.Random(1)
    kinds = [
        lambda: draw.choice([None, 1, 2**40]),
        lambda: draw.choice([None, 0.5, 1e-9, 3]),
        lambda: [None] * draw.randrange(2) + [draw.choice("ab") for _ in range(draw.randrange(3))],
        lambda: [[None] * draw.randrange(2) + [draw.randrange(9)] for _ in range(draw.randrange(3))],
        lambda: {"k": draw.choice([None, "v"]), "l": [None] * draw.randrange(2)},
        lambda: [{"m": [None] * draw.randrange(2) + [1.5]} for _ in range(draw.randrange(3))],
    ]
    for _ in range(60):
        makers = [draw.choice(kinds) for _ in range(3)]
        rows = [{f"c{k}": make() for k, make in enumerate(makers)} for _ in range(draw.randrange(1, 8))]
        table, _ = read_files([written(tmp_path, *map(json.dumps, rows))], [])
        table.validate(full=True)
        assert table.to_pylist() == rows
