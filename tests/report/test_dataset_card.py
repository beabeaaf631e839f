"""What `load_dataset` returns of the folders we write, with one cache for all of them as a user has it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from augmenters import Duplicate
from curate.clusterers import KMeans
from curate.pipeline import Pipeline
from scorers import Length

ROWS = {
    "id": [f"r{k}" for k in range(12)],
    "prompt": [f"first {k}?" for k in range(12)],
    "completion": ["x" * (k + 1) for k in range(12)],
}


def changed(**columns: Any) -> pa.Table:
    return pa.table({**ROWS, **columns})


# Each next to the first: what a card without a version, or one that tells of counts alone, does not tell apart.
CONTENTS: dict[str, pa.Table] = {
    "as it was": changed(),
    "one character": changed(prompt=["First 0?", *ROWS["prompt"][1:]]),
    "the order": changed().take(list(range(11, -1, -1))),
    "a column's name": changed().rename_columns(["id", "question", "answer"]),
    "a column more": changed(note=[0] * 12),
    "a type": changed(note=pa.array([0] * 12, pa.int32())),
    "a null": changed(note=pa.array([None, *[0] * 11], pa.int32())),
    "a row less": changed().slice(1),
    "another dataset of equal counts": changed(prompt=[f"other {k}?" for k in range(12)]),
}


def _run(table: pa.Table, out: Path) -> None:
    Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[Duplicate()], order="keep").run(table, out=out)


def _weigh(table: pa.Table, out: Path) -> None:
    n = table.num_rows
    weights = {"example_id": table["id"], "weight": pa.array([1.0] * n, pa.float32()), "times": [1] * n}
    pq.write_table(pa.table(weights), out.parent / "weights.parquet")
    curate.add_weights(table, out.parent / "weights.parquet").write(out)


WRITERS = {"run": _run, "weigh": _weigh}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_loaded_is_what_was_written_last(writer: str, tmp_path: Path) -> None:
    import datasets

    def load(*where: str, **options: Any) -> Any:
        return datasets.load_dataset(*where, split="train", cache_dir=str(tmp_path / "cache"), **options)

    places = {"one/curated": list(CONTENTS), "two/curated": ["a null", "as it was"]}
    for place, names in places.items():  # the second finds a full cache
        out = tmp_path / place
        for name in names:
            shutil.rmtree(out, ignore_errors=True)
            out.parent.mkdir(exist_ok=True)
            WRITERS[writer](CONTENTS[name], out)
            written = pq.read_table(out / "data").to_pylist()
            assert load(str(out)).to_list() == written, name
            assert load(str(out), "default").to_list() == written, name
            assert list(load(str(out), streaming=True)) == written, name
            assert load("parquet", data_files=str(out / "data" / "*.parquet")).to_list() == written, name


def _version(out: Path) -> str:
    found = re.search(r"^  version: (0\.0\.\d+)$", (out / "README.md").read_text(), re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.parametrize("writer", WRITERS)
def test_the_card_changes_with_the_content_and_with_nothing_else(writer: str, tmp_path: Path) -> None:
    versions = set()
    for number, table in enumerate(CONTENTS.values()):
        for name in ("a", "b"):
            (tmp_path / name).mkdir(exist_ok=True)
            WRITERS[writer](table, tmp_path / name / str(number))
        card = (tmp_path / "a" / str(number) / "README.md").read_bytes()
        again = (tmp_path / "b" / str(number) / "README.md").read_bytes()
        where = str(tmp_path / "a").encode(), str(tmp_path / "b").encode()  # the weights that a card names
        assert card.replace(where[0], b"") == again.replace(where[1], b"")
        versions.add(_version(tmp_path / "a" / str(number)))
    assert len(versions) == len(CONTENTS)


def test_an_unfinished_folder_has_no_card_of_the_rows_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    out, cache = tmp_path / "curated", str(tmp_path / "cache")
    _run(CONTENTS["as it was"], out)
    datasets.load_dataset(str(out), cache_dir=cache)

    def interrupt(*_: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("curate.curated.dataset_card", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _run(CONTENTS["another dataset of equal counts"], out)
    assert datasets.load_dataset(str(out), split="train", cache_dir=cache)[0]["prompt"].startswith("other")
