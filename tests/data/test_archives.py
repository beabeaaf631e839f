"""Zip archives: read like the folder they were packed from, and refused in one line where they cannot be."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.data import archives
from curate.data.readers import read
from curate.errors import ExternalError, InputError
from tests.fixtures.tables import fails

ROWS = [{"prompt": f"What is {k}?", "completion": f"It is {k}.", "code": f"0{k}"} for k in range(6)]


def lines(rows: list[dict[str, str]]) -> str:
    return "\n".join(json.dumps(row) for row in rows)


def parquet(rows: list[dict[str, str]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def csv(rows: list[dict[str, str]]) -> str:
    return "\n".join([",".join(ROWS[0]), *(",".join(row.values()) for row in rows)])


def packed(path: Path, *members: tuple[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "members",
    [
        [("rows.jsonl", lines(ROWS))],
        [("data/rows.json", json.dumps(ROWS)), ("__MACOSX/data/._rows.json", b"\0\5"), ("data/notes.pdf", b"%PDF")],
        [("a/b/1.csv", csv(ROWS[:2])), ("a/b/2.csv", csv(ROWS[2:]))],
        [("train.parquet", parquet(ROWS)), ("test.parquet", parquet(ROWS[:1]))],
    ],
    ids=["one", "in a folder", "several", "splits"],
)
def test_an_archive_is_read_like_its_files(members: list[tuple[str, str | bytes]], tmp_path: Path) -> None:
    loaded = read(packed(tmp_path / "rows.zip", *members))
    assert loaded.examples.table.to_pylist() == ROWS
    assert loaded.examples.ids.equals(read(ROWS).examples.ids)
    assert loaded.description == str(tmp_path / "rows.zip")
    assert not any("curate-zip" in note for note in loaded.notes)
    if members[0][0] == "train.parquet":
        assert any("split train of train, test; --split takes another" in note for note in loaded.notes)
        assert len(read(tmp_path / "rows.zip", split="test").examples) == 1


def test_what_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str, message: str, *members: tuple[str, str | bytes]) -> None:
        fails(message, packed(tmp_path / name, *members))

    remedy = r"unpack it \(unzip .*\) and name one file"
    refused(
        "mixed.zip", f"mixed.zip mixes CSV and JSON files; {remedy}", ("a.csv", csv(ROWS)), ("a.jsonl", lines(ROWS))
    )
    refused("none.zip", r"holds no data files, only \.pdf", ("notes.pdf", b"%PDF"))
    refused("empty.zip", "holds no data files, nothing")
    refused("up.zip", "which would lie outside of its folder", ("../rows.jsonl", lines(ROWS)))
    refused("bad.zip", r"bad.zip/rows.jsonl.*line 1", ("rows.jsonl", "{"))
    refused("zip.zip", r"holds no data files, only \.zip", ("rows.zip", b"PK"))
    (tmp_path / "torn.zip").write_bytes((tmp_path / "mixed.zip").read_bytes()[:-40])
    fails(r"torn.zip cannot be unpacked \(File is not a zip file\)", tmp_path / "torn.zip")
    content = bytearray(packed(tmp_path / "locked.zip", ("rows.jsonl", lines(ROWS))).read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # of the member, and in the directory at the end
        content[content.index(mark) + flags] |= 1
    (tmp_path / "locked.zip").write_bytes(content)
    fails(r"locked.zip is protected by a password; unpack it \(unzip ", tmp_path / "locked.zip")
    damaged = bytearray(packed(tmp_path / "damaged.zip", ("rows.jsonl", lines(ROWS))).read_bytes())
    damaged[50] ^= 255
    (tmp_path / "damaged.zip").write_bytes(damaged)
    fails("damaged.zip cannot be unpacked", tmp_path / "damaged.zip")
    monkeypatch.setattr(archives, "_LARGE", 1 << 20)
    bomb = packed(tmp_path / "bomb.zip", ("rows.jsonl", b" " * (3 << 20)))
    fails(r"bomb.zip would be 0.0 GB unpacked, [\d,]+ times its size", bomb)
    monkeypatch.setattr(archives, "_LARGE", 1 << 50)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(ExternalError, match=re.escape("needs 0.0 GB in ")):
        read(bomb)
    with pytest.raises(InputError, match=r"rows.zip does not exist"):
        read(str(tmp_path / "rows.zip"))
