"""The study of a pretrained model on a tiny one: rows kept apart, a forecast, and a block with all its arms."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.confirm.pretrained import CANDIDATES, FORECASTS, Candidate, Pretrained, Recipe
from tests.fixtures.models import saved


def _rows(name: str, sources: tuple[str, ...], count: int) -> list[dict[str, str]]:
    return [
        {
            "id": f"{source}{i}",
            "question": f"{source} has {i}.",
            "answer": f"{i} + 1",
            "source": source,
            "split": "train",
        }
        for source in sources
        for i in range(count)
    ]


@pytest.fixture
def study(tmp_path: Path) -> Pretrained:
    data = tmp_path / "data"
    data.mkdir()
    for name, sources in {"word_problems": ("asdiv", "mawps"), "simuleq": ("alg514",), "gsm8k": ("gsm8k",)}.items():
        pq.write_table(pa.Table.from_pylist(_rows(name, sources, 120)), data / f"{name}.parquet")
    saved(tmp_path / "model")
    recipe = Recipe(batch_size=8, learning_rate=1e-3, proxy_steps=4, questions=30, max_length=64)
    return Pretrained(tmp_path / "model", data, tmp_path / "records", recipe)


SMALL = Candidate("rare-systems", CANDIDATES[0].shares, rows=64)


@pytest.mark.slow
def test_a_forecast_and_a_block(study: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.confirm.pretrained.CANDIDATES", (SMALL,))
    forecast = study.forecast(SMALL, tmp_path / "pilot")
    assert len(forecast["steps"]) == len(forecast["hard"]) == len(forecast["easy"])
    assert forecast["yes"] is (forecast["foretold"] <= -0.03)
    study.records.mkdir()
    made = {"settings": ["rare-systems"], "forecasts": {"rare-systems": forecast}}
    (study.records / FORECASTS).write_text(json.dumps(made))
    assert study.blocks == ["rare-systems-0", "rare-systems-1", "rare-systems-2"]
    rows, facts = study.run("rare-systems-1", tmp_path / "out")
    assert set(rows["arm"].to_pylist()) == {"original", "hard", "random", "source-balanced"}
    assert set(rows["seed"].to_pylist()) == {1}
    assert facts["steps"] == 8
    sets = {name: pq.read_table(tmp_path / "out" / "rows" / f"{name}.parquet") for name in ("train", "mixture")}
    assert not set(sets["train"]["question"].to_pylist()) & set(sets["mixture"]["question"].to_pylist())
    folder = tmp_path / "out" / "validation" / "arms" / "source-balanced-seed1" / "data"
    evened = pq.read_table(folder)["source"].to_pylist()
    assert evened.count("simuleq") > sets["train"]["source"].to_pylist().count("simuleq")
