"""Mapped files: the content, whatever becomes of the file, and memory that is given back."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate.data.formats.json_files
from curate.data.examples import Examples
from curate.data.formats import parquet_files
from curate.data.readers import read
from curate.errors import ExternalError, InputError
from curate.storage import mapped as module
from curate.storage.mapped import mapped, release, spilled, write_stream
from curate.storage.temporary import temporary_place
from tests.data.test_row_store import rows_of_every_kind


def test_content_outlives_the_file_and_its_release(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content" * 1_000)
    with path.open("rb") as file:
        content = mapped(file)
    path.unlink()
    release()
    assert content.to_pybytes() == b"content" * 1_000


def test_an_empty_file_has_no_content(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with (tmp_path / "empty").open("rb") as file:
        assert mapped(file).size == 0


def test_tables_of_several_pieces_come_back(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", None, "c"], "kind": pa.array(["x", "y", "x"]).dictionary_encode()})
    other = pa.table({"text": ["d"], "kind": pa.array(["z"]).dictionary_encode()})
    back = write_stream([table, other], table.schema, tmp_path / "rows.arrow")
    assert back.to_pylist() == [*table.to_pylist(), *other.to_pylist()]
    assert back.schema.equals(table.schema)
    assert write_stream([], table.schema, tmp_path / "none.arrow").num_rows == 0


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux does")
def test_what_was_read_is_not_kept(tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    rows = write_stream([pa.table({"x": np.arange(8_000_000)})], pa.schema([("x", pa.int64())]), tmp_path / "x")
    before = resident()
    assert rows["x"].to_numpy().sum() == 8_000_000 * 7_999_999 // 2
    held = resident() - before
    release()
    assert held > 32e6
    assert resident() - before < held / 2


@pytest.fixture
def nothing_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, to which every row goes."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    for name, value in (("_PIECE", 2_000), ("_PIECE_ROWS", 30)):
        monkeypatch.setattr(parquet_files, name, value)
    monkeypatch.setattr(curate.data.formats.json_files, "_PIECE", 2_000)
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    return tmp_path / "temporary"


def test_tables_come_back_as_they_were(nothing_in_memory: Path) -> None:
    whole = rows_of_every_kind(300)
    tables = [whole.slice(0, 100), whole.slice(100, 0), whole.slice(100).select(["text", "json"])]
    back = spilled(iter(tables))
    assert [table.schema for table in back] == [table.schema for table in tables]
    assert [table.to_pylist() for table in back] == [table.to_pylist() for table in tables]
    assert list(nothing_in_memory.iterdir()) == []
    assert spilled([]) == []


def test_few_rows_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "mapped", None)  # which would fail
    table = rows_of_every_kind(10)
    assert spilled([table])[0] is table


def as_read(path: Path) -> tuple[Examples, list[str]]:
    loaded = read(path)
    return loaded.examples, loaded.notes


@pytest.mark.parametrize("kind", ["parquet", "nested", "jsonl", "mixed", "csv", "arrow"])
def test_a_file_is_read_alike(
    tmp_path: Path, nothing_in_memory: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    rows = [
        {"prompt": f"ask {k}" * (k % 5 + 1), "completion": f"say {k // 2}", "level": k, "turns": [k]}
        for k in range(400)
    ]
    folder = tmp_path / "data"
    folder.mkdir()
    if kind in ("jsonl", "mixed"):
        if kind == "mixed":  # a number that becomes one of another type late in the file
            rows[333]["level"] = 0.5
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "csv":
        lines = [f"{row['prompt']},{row['completion']},{row['level']}\n" for row in rows]
        (folder / "rows.csv").write_text("prompt,completion,level\n" + "".join(lines))
    elif kind == "arrow":
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_file(folder / "rows.arrow", table.schema) as writer:
            writer.write_table(table, 50)
    else:
        table = pa.Table.from_pylist(rows)
        if kind == "nested":
            table = table.append_column("meta", pa.array([f'{{"a": {k}}}' for k in range(400)], pa.json_()))
        for part in range(2):
            pq.write_table(table.slice(part * 200, 200), folder / f"rows-{part}.parquet", row_group_size=150)
    mapped, notes = as_read(folder)
    monkeypatch.undo()
    held, notes_of_held = as_read(folder)
    assert mapped.table.schema.equals(held.table.schema, check_metadata=True)
    assert mapped.table.to_pylist() == held.table.to_pylist()
    assert (mapped.ids.to_pylist(), notes) == (held.ids.to_pylist(), notes_of_held)
    assert mapped.table_fingerprint() == held.table_fingerprint()
    assert mapped.table["prompt"].num_chunks > 1 or kind in ("csv", "arrow")


def test_a_damaged_file_is_named(tmp_path: Path, nothing_in_memory: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(rows_of_every_kind(500).select(["text"]), path, row_group_size=100)
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"rows\.parquet is not a readable Parquet file"):
        read(path)


def test_a_full_disk_is_an_error_that_names_the_place(nothing_in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(ExternalError, match=f"cannot write {nothing_in_memory}: No space left"):
        spilled([rows_of_every_kind(3)])


def test_large_files_go_to_the_disk_unless_a_place_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    assert temporary_place() == Path("/var/tmp")
    monkeypatch.setenv("TMPDIR", "/tmp")
    monkeypatch.setattr("tempfile.tempdir", None)
    assert temporary_place() == Path("/tmp")
