"""CSV in: a type only where every cell is spelled as it would be written again, else the characters of the file."""

from __future__ import annotations

import csv
import io
import random
import re
from pathlib import Path

import datasets
import pyarrow as pa
import pytest

from curate.data.sources import read_files
from curate.errors import InputError

INT, FLOAT, TEXT, BOOL = pa.int64(), pa.float64(), pa.string(), pa.bool_()


def column(folder: Path, cells: list[str]) -> tuple[pa.ChunkedArray, list[str]]:
    """Column x of a file with these cells as they stand between commas, and its notes."""
    path = folder / "d.csv"
    path.write_text("x,y\n" + "".join(f"{cell},-\n" for cell in cells), encoding="utf-8", newline="")
    table, notes = read_files([path], [])
    return table["x"], [line for _, line in notes]


TYPED = [
    (["1", "-5", "0"], INT, [1, -5, 0]),
    (["1", "", "-7"], INT, [1, None, -7]),
    (['"1"', '"2"', '""'], INT, [1, 2, None]),
    (["0.5", "1", "-2.25", ""], FLOAT, [0.5, 1.0, -2.25, None]),
    (["1e-7", "1E5", "1.50", ".5", "5.", "inf", "0.0"], FLOAT, [1e-7, 1e5, 1.5, 0.5, 5.0, float("inf"), 0.0]),
    (["true", "false", ""], BOOL, [True, False, None]),
    (["True", "False"], BOOL, [True, False]),
    (["TRUE", "FALSE"], BOOL, [True, False]),
]


# Older releases of pandas leave the file open that `load_dataset` reads.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("cells", "kind", "values"), TYPED)
def test_cells_of_one_kind_have_its_type_as_in_load_dataset(
    cells: list[str], kind: pa.DataType, values: list[object], tmp_path: Path
) -> None:
    found, notes = column(tmp_path, cells)
    assert (found.type, found.to_pylist(), notes) == (kind, values, [])
    loaded = datasets.load_dataset(
        "csv", data_files=str(tmp_path / "d.csv"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded["x"][:] == values


@pytest.mark.parametrize(
    ("cells", "named"),
    [
        (["00501", "10001"], "'00501'"),
        (["+5", "6"], r"'\+5'"),
        (["1", " 2"], "' 2'"),
        (["1", "2 "], "'2 '"),
        (["007.5", "1.5"], "'007.5'"),
        (["18446744073709551601", "1"], "64 bits"),
        (["9223372036854775808"], "64 bits"),
        (["9007199254740993", "0.5"], "'9007199254740993'"),
        (["1e400", "1"], "'1e400'"),
        (["1e-400", "1"], "'1e-400'"),
        (["1", "NA", ""], "'NA'"),
        (["nan", "0.5"], "'nan'"),
        (["1", "null"], "'null'"),
        (["Infinity", "1"], "'Infinity'"),
    ],
)
def test_numbers_that_would_change_are_text_and_named(cells: list[str], named: str, tmp_path: Path) -> None:
    found, notes = column(tmp_path, cells)
    assert found.type == TEXT
    assert found.to_pylist() == cells
    assert len(notes) == 1
    assert re.search(f"^column 'x' is kept as text: .*{named}", notes[0])


@pytest.mark.parametrize(
    "cells",
    [
        ["a", "NA", "", "null", "1"],
        ["2020-01-01", "2020-01-02"],
        ["1_000", "2"],
        ["0x10", "1"],
        ["true", "True"],
        ["T", "F"],
        ["1", "2", "three"],
        ["١", "٢"],
        ["-", "."],
    ],
)
def test_other_cells_are_text_without_a_word(cells: list[str], tmp_path: Path) -> None:
    found, notes = column(tmp_path, cells)
    assert (found.type, found.to_pylist(), notes) == (TEXT, cells, [])


def test_text_columns_are_never_typed_and_empty_ones_are_null(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("id,answer,q,empty\n007,1,2,\n008,,3,\n", encoding="utf-8")
    table, notes = read_files([path], ["q"])
    assert notes == []
    assert table.to_pylist() == [
        {"id": "007", "answer": "1", "q": "2", "empty": None},
        {"id": "008", "answer": "", "q": "3", "empty": None},
    ]


def test_types_are_those_that_fit_all_files_and_all_rows(tmp_path: Path) -> None:
    for second, kind in (("3", INT), ("0.5", FLOAT), ("x", TEXT), ("03", TEXT)):
        (tmp_path / "a.csv").write_text("x,y\n1,a\n2,b\n", encoding="utf-8")
        (tmp_path / "b.csv").write_text(f"y,x\nc,{second}\n", encoding="utf-8")
        table, _ = read_files([tmp_path / "a.csv", tmp_path / "b.csv"], [])
        assert table["x"].type == kind
        assert table["y"].to_pylist() == ["a", "b", "c"]


@pytest.mark.slow
def test_a_type_is_not_decided_by_the_first_block(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    line = f"1,{'x' * 1000}\n"
    path.write_text("n,t\n" + line * 20_000 + "001,y\n", encoding="utf-8")
    table, _ = read_files([path], [])
    assert table["n"].type == TEXT
    assert table["n"][-1].as_py() == "001"


def test_cells_are_those_of_the_standard_library(tmp_path: Path) -> None:
    draw = random.Random(0)
    words = [
        "",
        "a",
        '"',
        'a"b',
        ",",
        "\n",
        "\r\n",
        "\r",
        " a ",
        "\ufeff",
        "\x00",
        "é",
        "'",
        "\\",
        "NA",
        "\u2028",
        "a\n\nb",
    ]
    for _ in range(40):
        rows = [[draw.choice(words), draw.choice(words), "-"] for _ in range(draw.randrange(1, 6))]
        text = io.StringIO()
        csv.writer(text, quoting=draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])).writerows([["a", "b", "c"], *rows])
        path = tmp_path / "d.csv"
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
        found, _ = read_files([path], ["a", "b"])
        assert [list(row.values()) for row in found.to_pylist()] == rows


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    for text, message in (("", "is empty"), ("a,b\n1\n", "Row #2: Expected 2 columns, got 1")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            read_files([path], [])


def test_text_behind_a_closing_quote_is_an_error_and_a_quote_inside_a_cell_is_none(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    for cell in (r'"says \"hi\""', '"says "hi" twice"', '"" x'):
        path.write_text(f'x,y\n1,"a ""b"""\n"c\nd",{cell}\n')
        with pytest.raises(InputError, match=r"d.csv, line 4: text follows the quote that closes a cell"):
            read_files([path], [])
    path.write_text('x,y\n5" pipe,"a ""b"""\n"""",it\'s 3"\n')
    table, _ = read_files([path], [])
    assert table.to_pylist() == [{"x": '5" pipe', "y": 'a "b"'}, {"x": '"', "y": "it's 3\""}]
