"""The rows that reading is timed with."""

from pathlib import Path

import numpy as np

from benchmarks.reading import _make
from curate.data.readers import read


def test_every_file_holds_the_same_rows_of_286_characters(tmp_path: Path) -> None:
    files = _make(tmp_path, 50)
    found = {kind: read(path).examples for kind, (path, _) in files.items()}
    assert {kind: len(examples) for kind, examples in found.items()} == {"parquet": 50, "jsonl": 50, "nested jsonl": 5}
    assert [rows for _, rows in files.values()] == [50, 50, 5]
    first = {examples.take(np.arange(5)).fingerprint() for examples in found.values()}
    assert len(first) == 1
    lengths = {len(each["prompt"]) + len(each["completion"]) for each in found["jsonl"].table.to_pylist()}
    assert lengths == {286}
    assert "arrow.json" in str(found["nested jsonl"].table.schema.field("meta").type)
