"""Files that are not data, or in formats that are not read: what they are, and what to do, in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curate.data.readers import read
from tests.fixtures.tables import fails

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"
PAGE = "\n<!DOCTYPE html>\n<html><title>404</title></html>"


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.txt", "rows.parquet", "rows.arrow"])
def test_pointers_and_pages_are_called_what_they_are(name: str, tmp_path: Path) -> None:
    """Both would be read as rows of text or as a CSV header, or end in an error about their syntax."""
    (tmp_path / name).write_text(POINTER)
    fails(rf"{name} is a pointer of Git LFS, not the file itself; run git lfs pull", tmp_path / name)
    (tmp_path / name).write_text(PAGE)
    if name == "rows.txt":
        assert len(read(tmp_path / name).examples) == 2
    else:
        fails(rf"{name} is a web page, not the file itself; fetch the raw file", tmp_path / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rows.tar", r"an archive; unpack it \(tar -xf .*rows.tar\)"),
        ("rows.tar.gz", r"an archive; unpack it \(tar -xf .*rows.tar.gz\)"),
        ("rows.tgz", r"an archive; unpack it \(tar -xf"),
        ("rows.7z", r"an archive; unpack it \(7z x"),
        ("rows.xlsx", "a spreadsheet; save the sheet as CSV"),
        ("rows.pkl", "a pickle, which may run any program"),
        ("rows.yaml", "YAML; write the rows as JSON Lines"),
        ("rows.sqlite", "a database; export its table"),
        ("rows.npy", "unknown format '.npy'; data files end in"),
    ],
)
def test_other_formats_have_a_remedy(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    fails(message, tmp_path / name)


def test_a_folder_of_an_archive_names_it(tmp_path: Path) -> None:
    (tmp_path / "rows.zip").write_bytes(b"PK\x03\x04")
    fails(r"holds no data files; name the archive .*rows.zip; they end in", tmp_path)


def test_rows_that_begin_like_a_page_are_rows(tmp_path: Path) -> None:
    rows = [{"prompt": "<html>", "completion": PAGE}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read(tmp_path / "rows.jsonl").examples.table.to_pylist() == rows
