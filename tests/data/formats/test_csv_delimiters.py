"""Which character divides the cells of a CSV file: found, named in its first line, or given."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.data.readers import read
from curate.data.sources import TextOptions, read_files
from curate.errors import InputError

ROW = {"prompt": "q, 1; 2 | 3", "completion": "a"}


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("a.csv", 'prompt,completion\n"q, 1; 2 | 3",a\n', None),
        ("a.csv", 'prompt;completion\n"q, 1; 2 | 3";a\n', "columns are divided by semicolons"),
        ("a.csv", "prompt;completion\nq, 1; 2 | 3;a\n", None),  # rows differ: left to the reader to refuse
        ("a.csv", "prompt\tcompletion\r\nq, 1; 2 | 3\ta\r\n", "columns are divided by tabs"),
        ("a.csv", 'prompt|completion\n"q, 1; 2 | 3"|a', "columns are divided by bars"),
        ("a.tsv", "prompt\tcompletion\nq, 1; 2 | 3\ta\n", None),
        ("a.tsv", 'prompt,completion\n"q, 1; 2 | 3",a\n', "columns are divided by commas"),
        ("a.csv", 'sep=;\nprompt;completion\n"q, 1; 2 | 3";a\n', "columns are divided by semicolons"),
        ("a.csv", '"sep=^"\r\nprompt^completion\r\nq, 1; 2 | 3^a\r\n', "columns are divided by ^"),
        ("a.csv", "\n".join(["prompt;completion", *['"q, 1; 2 | 3";a'] * 300, "x;y;z"]), None),
    ],
)
def test_delimiters_are_found(name: str, content: str, note: str | None, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    if note is None and ";" in content.split("\n")[0]:
        with pytest.raises(InputError, match="Expected 2 columns"):
            read(path)
        return
    table, notes = read_files([path], [])
    assert table.to_pylist() == [ROW]
    assert notes == ([] if note is None else [("", note)])
    assert read(path).notes == [
        "shape prompt_completion: prompt=prompt, completion=completion",
        *[line for _, line in notes],
    ]


def test_the_usual_delimiter_stays_where_it_divides_the_rows(tmp_path: Path) -> None:
    """Semicolons in a header of one column, or beside commas, are text."""
    (tmp_path / "a.csv").write_text("a;b,text\n1;2,x\n3;4,y\n")
    assert read_files([tmp_path / "a.csv"], [])[0].column_names == ["a;b", "text"]
    (tmp_path / "a.csv").write_text("text\na;b\nc|d\te\n")
    assert read_files([tmp_path / "a.csv"], [])[0]["text"].to_pylist() == ["a;b", "c|d\te"]


@pytest.mark.parametrize(("delimiter", "character"), [("^", "^"), ("\\t", "\t"), ("\t", "\t"), (" ", " ")])
def test_a_delimiter_that_is_given_is_taken(delimiter: str, character: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"prompt{character}completion;n\nq{character}a\n")
    table, notes = read_files([tmp_path / "a.csv"], [], TextOptions(delimiter=delimiter))
    assert table.to_pylist() == [{"prompt": "q", "completion;n": "a"}]
    assert notes == []


def test_every_file_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,n\nx,1\n")
    (tmp_path / "b.csv").write_text("text;n\ny;2\n")
    loaded = read(str(tmp_path / "[ab].csv"))
    assert loaded.examples.table.to_pylist() == [{"text": "x", "n": 1}, {"text": "y", "n": 2}]
    assert loaded.notes[0] == "2 files: a.csv, b.csv"
    assert loaded.notes[-1] == "columns are divided by semicolons"


def test_a_quote_that_nothing_closes_is_found_with_any_delimiter(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text;n\nx;1\ny;"2\n')
    with pytest.raises(InputError, match="begins with a quote that nothing closes"):
        read(tmp_path / "a.csv")
