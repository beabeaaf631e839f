"""Files of plain text, one row per line."""

from pathlib import Path

import datasets
import pyarrow as pa
import pytest

from curate.data.formats.text_files import read_text
from curate.data.readers import read
from curate.errors import InputError


def test_lines_are_those_of_datasets(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("one\r\ntwo  \rthree\u2028still\n four\tü\x0cx".encode())
    loaded = read(tmp_path / "a.txt")
    theirs = datasets.load_dataset("text", data_files=str(tmp_path / "a.txt"), cache_dir=tmp_path / "cache")["train"]
    assert loaded.examples.table["text"].to_pylist() == theirs["text"][:]
    assert loaded.examples.shape == "text"
    assert any("one row per line" in note for note in loaded.notes)


def test_empty_lines_are_left_out_and_counted() -> None:
    table, notes = read_text([(Path("a"), pa.py_buffer(b"\na\n\n \nb\n")), (Path("b"), pa.py_buffer(b"c"))])
    assert table["text"].to_pylist() == ["a", " ", "b", "c"]
    assert "2 empty lines are left out" in notes[0][1]


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_a_file_without_text_is_named(content: bytes) -> None:
    with pytest.raises(InputError, match=r"a\.txt is empty"):
        read_text([(Path("a.txt"), pa.py_buffer(content))])
