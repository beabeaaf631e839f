"""Formats, compression and encodings of local files."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pytest

from curate.data.sources import TextOptions, format_of, read_files, suffix_of
from curate.errors import InputError
from tests.fixtures.tables import ROWS, fails

LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).replace("quoted", "quötéd €")
ARRAY = json.dumps(ROWS)


def _compress(text: str, codec: str) -> bytes:
    if codec in ("zstd", "lz4"):
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(text.encode())
        return bytes(sink.getvalue())
    return {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[codec](text.encode())


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".gz", "gzip"), (".bz2", "bz2"), (".zst", "zstd"), (".xz", "xz"), (".lz4", "lz4")]
)
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_compressed_arrays_and_lines(suffix: str, codec: str, name: str, tmp_path: Path) -> None:
    for text in (ARRAY, "\n".join(map(json.dumps, ROWS))):
        path = tmp_path / (name + suffix)
        path.write_bytes(_compress(text, codec))
        assert read_files([path], [])[0].to_pylist() == ROWS
    if codec != "bz2":  # a file that lost its suffix
        path = path.rename(tmp_path / name)
        assert read_files([path], [])[0].to_pylist() == ROWS


def test_several_compressed_streams_in_one_file(tmp_path: Path) -> None:
    half = len(ROWS) // 2
    parts = ["".join(json.dumps(row) + "\n" for row in rows) for rows in (ROWS[:half], ROWS[half:])]
    for suffix, codec in ((".gz", "gzip"), (".bz2", "bz2"), (".zst", "zstd"), (".xz", "xz")):
        path = tmp_path / f"rows.jsonl{suffix}"
        path.write_bytes(b"".join(_compress(part, codec) for part in parts))
        assert read_files([path], [])[0].to_pylist() == ROWS


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst", ".xz", ".lz4"])
def test_compressed_files_that_are_cut_off(suffix: str, tmp_path: Path) -> None:
    codec = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz", ".lz4": "lz4"}[suffix]
    path = tmp_path / f"rows.jsonl{suffix}"
    whole = _compress(LINES * 50, codec)
    path.write_bytes(whole[: len(whole) // 2])
    fails(r"rows\.jsonl\.", path)


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-16-le-marked", "utf-16-be-marked"],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.txt"])
def test_unicode_is_found_without_being_named(encoding: str, name: str, tmp_path: Path) -> None:
    text = "prompt,completion\nq,é €\n" if name.endswith("csv") else LINES
    mark = {"utf-16-le-marked": codecs.BOM_UTF16_LE, "utf-16-be-marked": codecs.BOM_UTF16_BE}.get(encoding, b"")
    (tmp_path / name).write_bytes(mark + text.encode(encoding.removesuffix("-marked")))
    (tmp_path / f"plain_{name}").write_text(text, encoding="utf-8")
    found, wanted = (read_files([tmp_path / each], [])[0] for each in (name, f"plain_{name}"))
    assert found.to_pylist() == wanted.to_pylist()


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16", "utf8", "UTF-8", "mac_roman"])
def test_named_encodings(encoding: str, tmp_path: Path) -> None:
    text = "text,n\nquötéd,1\n"
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    found, _ = read_files([tmp_path / "a.csv"], [], TextOptions(encoding))
    assert found.to_pylist() == [{"text": "quötéd", "n": 1}]


def test_the_remedy_for_another_encoding_works(tmp_path: Path) -> None:
    for text, encoding in (("Grüße €", "cp1252"), ("日本語のテキスト、です。", "shift_jis")):
        path = tmp_path / "a.csv"
        path.write_bytes(f"prompt,completion\nq,{text}\n".encode(encoding))
        with pytest.raises(InputError, match=rf"line 2: not valid UTF-8; .*--encoding {encoding}") as caught:
            read_files([path], [])
        remedy = str(caught.value).split("--encoding ")[1].split()[0]
        assert read_files([path], [], TextOptions(remedy))[0]["completion"].to_pylist() == [text]


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("text\né\n".encode("cp1252"))
    (tmp_path / "a.jsonl").write_text(LINES)
    fails("there is no such encoding; give one like", tmp_path / "a.csv", encoding="cp9999")
    fails("there is no such encoding", tmp_path / "a.csv", encoding="base64")
    fails(
        "line 2: not valid UTF-8; name another with --encoding, or save it as UTF-8",
        tmp_path / "a.csv",
        encoding="utf-8",
    )
    fails("line 1: not valid utf-16; name another with --encoding", tmp_path / "a.csv", encoding="utf-16")
    fails("not one ASCII character", tmp_path / "a.csv", delimiter="::")
    fails("--delimiter ; is for CSV files; leave it out", tmp_path / "a.jsonl", delimiter=";")


def test_archives_by_another_name_say_how_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"PK\x03\x04rest")
    fails(r"rows.jsonl is a zip archive; unpack it \(unzip .*rows.jsonl\)", tmp_path / "rows.jsonl")


def test_formats_by_name() -> None:
    assert [
        known and known.name
        for known in (
            format_of(Path(name)) for name in ("a.pq", "a.JSON", "a.tsv.gz", "a.feather", "a.txt.zst", "a.xlsx", "a")
        )
    ] == [
        "Parquet",
        "JSON",
        "CSV",
        "Arrow",
        "text",
        None,
        None,
    ]
    assert suffix_of(Path("b.JSONL.GZ")) == ".jsonl"
