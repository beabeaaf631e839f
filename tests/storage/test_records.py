"""Records and the files they describe: whatever changed since they were written is found, and is one line."""

import json
import os
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.cli.main import main
from curate.errors import InputError
from curate.finetuning.metrics import read_metrics
from curate.storage import records as module
from curate.storage.records import (
    check_files,
    file_checksums,
    made_by,
    own_version,
    peek,
    read_record,
    record_text,
    versions,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
RECORDS = st.dictionaries(st.text(max_size=8).filter(lambda key: key != "checksum"), JSON, max_size=5)


@settings(max_examples=100, deadline=None)
@given(record=RECORDS)
def test_a_record_comes_back_as_it_was(record: dict, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("record") / "run.json"
    path.write_text(record_text(record), encoding="utf-8")
    assert read_record(path, "rerun") == json.loads(json.dumps(record))
    assert record_text(read_record(path, "rerun")) == path.read_text(encoding="utf-8")


@settings(max_examples=100, deadline=None)
@given(record=RECORDS, other=RECORDS)
def test_any_other_content_is_refused(record: dict, other: dict, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("record") / "run.json"
    changed = json.loads(record_text(record)) | other
    path.write_text(json.dumps(changed))
    if changed == json.loads(record_text(record)):
        read_record(path, "rerun")
    else:
        with pytest.raises(InputError, match="changed after it was written; rerun"):
            read_record(path, "rerun")


BROKEN: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "empty": lambda path: path.write_bytes(b""),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()),
    "deep": lambda path: path.write_text("[" * 100_000),
    "a list": lambda path: path.write_text("[1]"),
    "an empty object": lambda path: path.write_text("{}"),
    "a huge number": lambda path: path.write_text("1" * 10_000),
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a loop of links": lambda path: (path.unlink(), path.symlink_to(path)),
    "a key removed": lambda path: path.write_text(json.dumps(dict(list(json.loads(path.read_text()).items())[1:]))),
    "a key changed": lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | {"counts": None})),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_record_is_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(record_text({"kind": "x", "counts": {"rows": 3}}))
    BROKEN[kind](path)
    with pytest.raises(InputError, match=r"rerun$") as caught:
        read_record(path, "rerun")
    assert "\n" not in str(caught.value)
    assert isinstance(peek(path), dict)


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "a pipe", "a folder"])
def test_a_changed_file_is_named(damage: str, tmp_path: Path) -> None:
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(bytes(range(256)))
    record = {"files": file_checksums(tmp_path, ["*.bin"])}
    check_files(tmp_path, record, "rerun")
    path = tmp_path / "b.bin"
    content = path.read_bytes()
    path.unlink()
    if damage == "flip":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "a pipe":
        os.mkfifo(path)
    elif damage == "a folder":
        path.mkdir()
    with pytest.raises(InputError, match=r"b\.bin .*; rerun$"):
        check_files(tmp_path, record, "rerun")
    check_files(tmp_path, record, "rerun", prefix="a")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished curation, with the recipe and rows it was made from beside it."""
    place = tmp_path_factory.mktemp("result")
    rows = [{"prompt": f"p{k}", "completion": "x" * (k + 1)} for k in range(12)]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "recipe.yaml").write_text("scorer: {use: Length}\nclusterer: {use: KMeans}\n")
    assert main(_run(place, place / "out")) == 0
    return place


def _run(place: Path, out: Path) -> list[str]:
    return ["run", str(place / "rows.jsonl"), "--recipe", str(place / "recipe.yaml"), "--out", str(out)]


@pytest.mark.parametrize("file", ["run.json", "tables/split.parquet", "data/train-00000-of-00001.parquet"])
@pytest.mark.parametrize("kind", ["cut", "empty", "not UTF-8", "missing", "a folder", "a pipe", "a loop of links"])
def test_commands_on_a_damaged_result_end_with_one_line_and_its_remedy_works(
    file: str, kind: str, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(result / "out", out)
    BROKEN[kind](out / file)
    capsys.readouterr()
    for command in (["inspect", str(out)], ["report", str(out)], _run(result, out)):
        status = main(command)
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("curate:")]
        assert status == 2, error
        assert len(error) == 1
        assert str(out) in error[0]
        if file == "run.json" and kind in ("cut", "empty", "not UTF-8"):
            assert "remove" in error[0]
            assert "--fresh" not in error[0]
    if file == "run.json":  # nothing tells any more that the folder is ours
        shutil.rmtree(out)
    assert main([*_run(result, out), "--fresh"]) == 0
    assert main(["inspect", str(out)]) == 0


LINE = {"step": 1, "epoch": 0.5, "loss": 1.0, "tokens": 10, "seconds": 0.1}


@pytest.mark.parametrize(
    "line",
    [
        b"\xff",
        b"{",
        b"[1]",
        b"{}",
        b'{"step": "1"}',
        json.dumps(LINE | {"loss": None}).encode(),
        json.dumps(LINE | {"gradient_norm": "x"}).encode(),
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_of_metrics_is_named(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    good = json.dumps(LINE).encode()
    path.write_bytes(good + b"\n" + line + b"\n" + good + b"\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2 .*remove the line"):
        read_metrics(path)
    path.write_bytes(good + b"\n" + line)  # what a killed run leaves
    assert read_metrics(path) == [LINE]
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="is not a file"):
        read_metrics(path)


def test_only_installed_packages_are_named() -> None:
    assert versions(["numpy", "no-such-distribution"]) == {"numpy": metadata.version("numpy")}


def test_a_source_tree_has_no_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "versions", lambda packages: {})
    assert own_version() == "source tree"


def test_a_record_of_what_is_made_now_is_json() -> None:
    record = made_by()
    assert json.loads(json.dumps(record)) == record
    assert record["created"].endswith("+00:00")
