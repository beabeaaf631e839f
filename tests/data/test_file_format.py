"""A format of one's own is data and one function."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from curate.data import sources
from curate.data.file_format import Format, Notes, TextFile
from curate.data.known_formats import FORMATS
from curate.data.sources import TextOptions, read_files
from curate.errors import InputError


def read_words(files: Iterable[TextFile], text_columns: Sequence[str], delimiter: str | None) -> tuple[pa.Table, Notes]:
    words = [word for _, content in files for word in content.to_pybytes().decode().split()]
    return pa.table({"text": words}), [("text", "one row per word")]


WORDS = Format("words", (".words",), "one row per word", parse=read_words)


def test_a_format_is_given_decoded_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "FORMATS", (*FORMATS, WORDS))
    (tmp_path / "a.words").write_bytes("eins zwei".encode("utf-16"))
    (tmp_path / "b.words").write_bytes("fünf".encode("cp1252"))
    table, notes = read_files([tmp_path / "a.words"], [])
    assert table["text"].to_pylist() == ["eins", "zwei"]
    assert notes == [("text", "one row per word")]
    assert read_files([tmp_path / "b.words"], [], TextOptions(encoding="cp1252"))[0]["text"].to_pylist() == ["fünf"]
    with pytest.raises(InputError, match="--delimiter ; is for CSV files; leave it out"):
        read_files([tmp_path / "a.words"], [], TextOptions(delimiter=";"))
