"""The rows that a run trains on."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
import curate.training.step
from curate.errors import InputError
from curate.finetuning.finetune import finetune
from curate.storage.records import record_text
from tests.fixtures.finetuning import ROWS, settings, table

# -- data -----------------------------------------------------------------------------------------------------------


def test_a_curated_folder_is_read_as_it_was_curated(model: str, tmp_path: Path) -> None:
    data = table()
    loaded = curate.read(data)
    folder = tmp_path / "hard"
    (folder / "data").mkdir(parents=True)
    copies = data.slice(0, 4)
    ids = loaded.examples.ids.to_pylist()
    whole = pa.concat_tables([data, copies]).rename_columns(["in", "out"])
    whole = whole.append_column("example_id", pa.array([*ids, *(f"{each}#1" for each in ids[:4])]))
    whole = whole.append_column("origin", pa.array(["original"] * ROWS + ["duplicate"] * 4))
    pq.write_table(whole, folder / "data" / "train-00000-of-00001.parquet")
    stages = [{"name": "train the proxy", "seconds": 2.0, "tokens": 700, "cached": False}]
    record = {
        "data": {"shape": "prompt_completion", "columns": {"prompt": "in", "completion": "out", "id": "gone"}},
        "proxy": {"parameters": 123, "tokens_trained": 700},
        "cost": {"seconds": 3.5, "stages": stages},
        "synthesis": [{"requests": {"made": 2, "from the store": 1}, "tokens": {"generated": 40}}],
    }
    (folder / "run.json").write_text(record_text(record))
    found = finetune(str(folder), settings(model, steps=1), tmp_path / "run")
    assert found["arm"] == "hard"
    assert found["data"]["origins"] == {"duplicate": 4, "original": ROWS}
    assert found["curation"] == {
        "seconds": 3.5,
        "tokens": 700,
        "proxy_parameters": 123,
        "requests": 3,
        "generated_tokens": 40,
    }
    with pytest.raises(InputError, match="is a fine-tuning run, not data"):
        finetune(str(tmp_path / "run"), settings(model), tmp_path / "other")


def test_the_limit_draws_the_same_rows_for_every_seed(model: str, tmp_path: Path) -> None:
    keys = set()
    for seed in (0, 1):
        run = tmp_path / str(seed)
        record = finetune(table(), settings(model, steps=1, seed=seed), run, limit=20)
        assert record["data"]["rows"] == 20
        keys.add(record["data"]["fingerprint"])
    assert len(keys) == 1
