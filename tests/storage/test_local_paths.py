"""What others see of a result names no folder of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curate import Pipeline
from curate.clusterers import KMeans
from curate.gate.gate import Gate
from curate.storage.local_paths import shared_copy
from curate.storage.records import check_files, read_finished, read_record
from scorers import Length


def everything(folder: Path) -> str:
    """All text of the files, and every cell and note of the tables."""
    parts: list[Any] = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            parts += [table.to_pylist(), table.schema.metadata, pq.read_metadata(path).metadata]
        else:
            parts.append(path.read_text(encoding="utf-8"))
    return "\n".join(map(str, parts))


def test_a_shared_copy_has_the_same_rows_and_no_path(tmp_path: Path) -> None:
    """The input, an evaluation set with a note about its column, and a path with marks that HTML and JSON escape."""
    home = tmp_path / 'some "one" & others'
    home.mkdir()
    rows = [{"prompt": f"What is {k}?", "completion": "x" * (k % 5 + 1)} for k in range(20)]
    (home / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (home / "test.jsonl").write_text(json.dumps(rows[3]), encoding="utf-8")
    gate = Gate(evaluation=[str(home / "test.jsonl")])
    pipeline = Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[], gate=gate)
    pipeline.run(home / "rows.jsonl", out=tmp_path / "result")
    before = everything(tmp_path / "result")
    assert str(tmp_path) in before
    with shared_copy(tmp_path / "result") as copy:
        text = everything(copy)
        assert str(tmp_path) not in text
        assert "others/" not in text
        assert "rows.jsonl" in text
        assert pq.read_table(copy / "data").equals(pq.read_table(tmp_path / "result" / "data"))
        check_files(copy, read_finished(copy), "")
        own, shared = (read_record(folder / "run.json", "") for folder in (tmp_path / "result", copy))
        assert shared["data"] == {**own["data"], "source": "rows.jsonl", "read": {"data": "rows.jsonl"}}
        assert {key: shared[key] for key in ("inputs", "stages", "counts")} == {
            key: own[key] for key in ("inputs", "stages", "counts")
        }
    assert everything(tmp_path / "result") == before
