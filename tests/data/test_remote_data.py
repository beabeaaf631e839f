"""Datasets behind URLs are read as the same files are on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from augmenters import Replay
from curate import Pipeline
from curate.clusterers import KMeans
from curate.data.readers import read
from curate.errors import InputError
from curate.storage.remote import Remote, remote
from scorers import Length
from tests.fixtures.s3 import BUCKET, s3_server
from tests.fixtures.web import served

CARD = "---\nlicense: mit\nconfigs:\n- config_name: a\n  data_files: [{split: train, path: a/*.parquet}]\n"


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with s3_server():
        yield


def _rows(name: str, count: int = 3) -> pa.Table:
    return pa.table({"prompt": [f"{name} {k}?" for k in range(count)], "completion": [str(k) for k in range(count)]})


def _uploaded(folder: Path, name: str) -> Remote:
    place = remote(f"s3://{BUCKET}/{name}")
    for path in folder.rglob("*"):
        if path.is_file():
            place.join(path.relative_to(folder).as_posix()).write(path)
    return place


def _folder(tmp_path: Path, kind: str) -> Path:
    folder = tmp_path / kind
    folder.mkdir()
    if kind == "saved":
        datasets.DatasetDict({"train": datasets.Dataset(_rows("saved"))}).save_to_disk(str(folder))
        return folder
    if kind == "card":
        (folder / "README.md").write_text(CARD + "---\n")
        (folder / "a").mkdir()
        pq.write_table(_rows("card"), folder / "a" / "x.parquet")
        pq.write_table(_rows("other"), folder / "y.parquet")
        return folder
    for split in ("train", "test"):
        rows = _rows(split).to_pylist()
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.mark.parametrize("kind", ["splits", "card", "saved"])
def test_a_folder_is_read_as_it_is_here(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(tmp_path, kind)
    place = _uploaded(folder, kind)
    fetches = []
    real = Remote.fetch
    monkeypatch.setattr(Remote, "fetch", lambda self, path: (fetches.append(self.name), real(self, path))[1])
    here, there = read(folder), read(str(place))
    assert there.examples.table.equals(here.examples.table)
    assert there.examples.ids.equals(here.examples.ids)
    assert (there.split, there.notes, dict(there.card)) == (here.split, here.notes, dict(here.card))
    assert there.description == str(place)
    if kind == "splits":
        assert fetches == ["train.jsonl"], "other splits are left where they are"
        assert read(str(place), split="test").examples.table.column("prompt")[0].as_py() == "test 0?"


def test_a_file_and_a_pattern(tmp_path: Path) -> None:
    folder = _folder(tmp_path, "splits")
    place = _uploaded(folder, "patterns")
    assert len(read(str(place.join("train.jsonl"))).examples) == 3
    found = read(f"{place}/*.jsonl")
    assert len(found.examples) == 6
    assert found.notes[0] == "2 files: test.jsonl, train.jsonl"


def test_what_is_wrong_with_a_file_is_said_of_its_url(tmp_path: Path) -> None:
    place = remote(f"s3://{BUCKET}/bad")
    place.join("rows.parquet").write(b"no Parquet")
    place.join("rows.xyz").write(b"?")
    with pytest.raises(InputError, match=rf"^{place}/rows.parquet is not a readable Parquet file"):
        read(str(place.join("rows.parquet")))
    with pytest.raises(InputError, match=rf"^{place}/rows.xyz: unknown format"):
        read(str(place.join("rows.xyz")))
    for url, words in {
        f"{place}/*.csv": "matches no data file",
        f"s3://{BUCKET}/nowhere": "does not exist",
        f"{place}/rows.parquet": "split=test is for folders",
    }.items():
        with pytest.raises(InputError, match=words):
            read(url, split="test" if "folders" in words else None)


def test_what_a_signed_web_address_holds_is_recorded_without_its_signature(tmp_path: Path) -> None:
    pq.write_table(_rows("web"), tmp_path / "rows.parquet")
    pipeline = Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[])
    with served(tmp_path) as address:
        url = f"{address}/rows.parquet?X-Amz-Signature=secret&token=other"
        curated = pipeline.run(url, out=tmp_path / "out")
        again = Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[Replay(data=url, share=0.1)])
        with pytest.raises(InputError, match="its query gives access, and a recipe is recorded whole"):
            again.run(url)
    assert curated.loaded.description == f"{address}/rows.parquet"
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or (b"secret" not in path.read_bytes() and b"token=other" not in path.read_bytes())
