"""`curate weigh`: what it leaves, when it has nothing to do, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import curate
import curate.models.scratch
from curate.cli.main import main
from tests.fixtures.weights import Call, N, drawn, json_call, table, weights_file


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    return json_call(capsys)


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    """(data, weights) as files."""
    pq.write_table(table(), tmp_path / "data.parquet")
    return tmp_path / "data.parquet", weights_file(tmp_path / "w.parquet", drawn(0) | {"r7": None})


def test_what_it_leaves(inputs: tuple[Path, Path], tmp_path: Path, call: Call) -> None:
    import datasets

    data, weights = inputs
    out = tmp_path / "out"
    status, found = call("weigh", data, "--weights", weights, "--out", out)
    assert status == 0
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["data", "tables"]
    assert {path.name for path in out.iterdir() if path.is_file()} == {"README.md", "dataset_info.json", "run.json"}
    record = json.loads((out / "run.json").read_text())
    assert record["kind"] == "weighed"
    assert {name: record[name] for name in ("counts", "weights", "runs", "warnings")} == {
        name: found[name] for name in ("counts", "weights", "runs", "warnings")
    }
    assert found["counts"]["not_drawn"] == 1
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded["weight"] == curate.add_weights(data, weights).weights.tolist()
    kept = pq.read_table(out / "tables" / "weights.parquet")
    assert kept["times"].to_pylist() == [0 if i == 7 else 1 for i in range(N)]
    card = (out / "README.md").read_text()
    assert "--reweighter GivenWeights" in card
    assert "Rows drawn in no run: 1; in some runs only: 0" in card
    assert "from trl import SFTConfig, SFTTrainer" in card
    assert "field_instruction: " in card
    assert "undoes the copies" not in card
    info = json.loads((out / "dataset_info.json").read_text())["curated"]
    assert set(info["columns"].values()) <= set(loaded.column_names)


def test_the_same_again_is_done_and_others_need_fresh(inputs: tuple[Path, Path], tmp_path: Path, call: Call) -> None:
    data, weights = inputs
    out = tmp_path / "out"
    usual = ("weigh", data, "--weights", weights, "--out", out)
    assert call(*usual)[1]["done_before"] is False
    before = {path: path.read_bytes() for path in out.rglob("*.parquet")}
    assert call(*usual)[1]["done_before"] is True
    status, refused = call(*usual, "--normalize")
    assert (status, "--fresh" in refused["error"]) == (2, True)
    assert {path: path.read_bytes() for path in out.rglob("*.parquet")} == before
    assert call(*usual, "--normalise", "--fresh")[1]["weights"]["mean"] == pytest.approx(1)
    assert call(*usual, "--fresh")[1]["done_before"] is False
    assert {path: path.read_bytes() for path in out.rglob("*.parquet")} == before


def test_a_row_that_cannot_be_used_is_recorded(tmp_path: Path, call: Call) -> None:
    answers = [None if i == 3 else cell for i, cell in enumerate(table()["completion"].to_pylist())]
    pq.write_table(table(completion=answers), tmp_path / "data.parquet")
    weights = drawn(0)
    del weights["r3"]
    usual = ("weigh", tmp_path / "data.parquet", "--weights", weights_file(tmp_path / "w.parquet", weights))
    assert call(*usual, "--out", tmp_path / "out")[0] == 2
    assert call(*usual, "--out", tmp_path / "out", "--on-bad-row", "drop")[1]["counts"]["rejected"] == 1
    (left_out,) = pq.read_table(tmp_path / "out" / "tables" / "rejected.parquet").to_pylist()
    assert (left_out["row"], left_out["stage"]) == (3, "read")
    assert pq.read_table(tmp_path / "out" / "data")["id"].to_pylist() == [f"r{i}" for i in range(N) if i != 3]


def test_places_and_arguments_that_cannot_serve(inputs: tuple[Path, Path], tmp_path: Path, call: Call) -> None:
    data, weights = inputs
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    status, refused = call("weigh", data, "--weights", weights, "--out", tmp_path / "mine", "--fresh")
    assert (status, "notes.txt" in refused["error"]) == (2, True)
    assert call("weigh", data, "--weights", weights, "--out", tmp_path / "out")[0] == 0
    status, refused = call("weigh", tmp_path / "out", "--weights", weights, "--out", tmp_path / "out", "--fresh")
    assert (status, "holds the data itself" in refused["error"]) == (2, True)
    status, refused = call(
        "weigh", tmp_path / "out" / "data", "--weights", weights, "--out", tmp_path / "out", "--fresh"
    )
    assert (status, "holds the data itself" in refused["error"]) == (2, True)
    for command in ("inspect", "report"):  # about a split, which this folder has none of
        status, refused = call(command, tmp_path / "out")
        assert (status, "not that of a run" in refused["error"]) == (2, True)
    status, refused = call("weigh", data, "--out", tmp_path / "other")
    assert (status, "--weights" in refused["error"]) == (2, True)


@pytest.fixture(scope="module", autouse=True)
def _tiny_scratch() -> Any:
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curate.models.scratch, "_SCRATCH_SHAPE", shape)
        patch.setattr(curate.models.scratch, "_SCRATCH_VOCABULARY", 300)
        yield


def test_the_command_has_another_name(inputs: tuple[Path, Path], tmp_path: Path, call: Call) -> None:
    data, weights = inputs
    status, found = call("weight", data, "--weights", weights, "--out", tmp_path / "one")
    assert status == 0
    again, same = call("weigh", data, "--weights", weights, "--out", tmp_path / "two")
    assert again == 0
    assert found["weights"] == same["weights"]


@pytest.mark.parametrize("name", ["weigh", "weight"])
def test_help_shows_the_name_that_was_typed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"usage: curate {name} [-h]" in capsys.readouterr().out


def test_the_earlier_spelling_warns_once(
    inputs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, weights = inputs
    words = ["weigh", data, "--weights", weights, "--out", tmp_path / "out", "--normalise"]
    assert main([*map(str, words)]) == 0
    assert capsys.readouterr().err.count("--normalise is called --normalize now; rename it") == 1
    main(["weigh", "--help"])
    assert "--normalise" not in capsys.readouterr().out
