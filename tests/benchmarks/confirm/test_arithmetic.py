"""The arithmetic study with tiny settings: a block has all arms, and the controls have as many rows as `hard`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.confirm import arithmetic
from benchmarks.reproduction.settings import Settings

TINY = Settings(
    pretrain_rows=64,
    pretrain_epochs=1,
    train_rows=96,
    epochs=1,
    batch_size=16,
    hidden_size=16,
    layers=1,
    proxy_hidden_size=16,
    proxy_layers=1,
    proxy_steps=4,
    proxy_min_steps=1,
    checkpoints=2,
    test_rows=16,
)


@pytest.mark.slow
def test_a_block_has_all_arms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = TINY.model_copy(update={"per_source": True})
    arms = {name: (of, new if settings.per_source else TINY) for name, (of, settings) in arithmetic.ARMS.items()}
    monkeypatch.setattr(arithmetic, "ARMS", arms)
    rows, _ = arithmetic.Arithmetic().run("40", tmp_path)
    assert set(rows["arm"].to_pylist()) == {"original", "hard", "random", "source-balanced", "hard x2"}
    assert set(rows["set"].to_pylist()) == {"mixture", "balanced"}
    assert set(rows["group"].to_pylist()) == {"1", "2", "3", "4"}
    assert rows["right"].null_count == 0
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("runs/*/run.json")]
    sizes = {run["arm"]: run["data"]["rows"] for run in runs}
    assert sizes["hard"] == sizes["random"] == sizes["source-balanced"] > sizes["original"]
    assert {run["training"]["steps"] for run in runs} == {6}
