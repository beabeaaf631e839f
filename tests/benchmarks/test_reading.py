"""The rows that reading is timed with."""

from pathlib import Path

from benchmarks.reading import _make
from curate.data.readers import read


def test_every_file_holds_the_same_rows_of_286_characters(tmp_path: Path) -> None:
    found = {kind: read(path).examples for kind, path in _make(tmp_path, 50).items()}
    assert found.keys() == {"parquet", "jsonl", "nested jsonl"}
    assert len({examples.fingerprint() for examples in found.values()}) == 1
    lengths = {len(each["prompt"]) + len(each["completion"]) for each in found["jsonl"].table.to_pylist()}
    assert lengths == {286}
    assert "arrow.json" in str(found["nested jsonl"].table.schema.field("meta").type)
